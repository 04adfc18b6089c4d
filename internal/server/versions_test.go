package server

import (
	"testing"

	"github.com/coreos/go-semver/semver"

	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
)

func TestNextVersion(t *testing.T) {
	for _, c := range []struct{ now, lowest, target, most, want string }{
		{"", "", "", "", "3.0.0"},           // somebody does not answer: the oldest of all
		{"", "3.6.16", "", "", "3.6.0"},     // the lowest of the members'
		{"3.0.0", "3.7.3", "", "", "3.7.0"}, // upwards as soon as all answer
		{"3.6.0", "3.7.3", "", "", "3.7.0"},
		{"3.6.0", "", "", "", ""},
		{"3.7.0", "3.7.3", "", "", ""},
		{"3.7.0", "3.6.16", "", "", ""}, // never down by itself
		{"3.7.0", "3.7.3", "3.6.0", "", "3.6.0"},
		{"3.7.0", "3.7.3", "3.5.0", "", ""}, // one minor at a time
		{"3.6.0", "3.7.3", "3.6.0", "", ""}, // not up again while the downgrade lasts
		{"3.7.0", "4.0.0", "", "", ""},
		{"3.7.0", "3.6.16", "3.6.0", "", ""}, // somebody is there already, who should not be
		{"", "3.7.3", "", "3.6.0", "3.6.0"},  // held
		{"3.6.0", "3.7.3", "", "3.6.0", ""},
		{"3.5.0", "3.7.3", "", "3.6.0", "3.6.0"},
		{"3.7.0", "3.7.3", "", "3.6.0", ""}, // held too late
		{"3.6.0", "3.7.3", "", "3.7.0", "3.7.0"},
		{"3.7.0", "3.7.3", "3.6.0", "3.6.0", "3.6.0"},
	} {
		st := &cluster.State{Version: c.now, Downgrade: schema.Downgrade{Enabled: c.target != "", TargetVersion: c.target}}
		var lowest, most *semver.Version
		if c.lowest != "" {
			lowest = semver.New(c.lowest)
		}
		if c.most != "" {
			most = semver.New(c.most)
		}
		if got, err := nextVersion(st, lowest, most); got != c.want || err != nil && c.target == "" {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}
