package server

import (
	"testing"

	"github.com/coreos/go-semver/semver"

	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
)

func TestNextVersion(t *testing.T) {
	for _, c := range []struct{ now, lowest, target, want string }{
		{"", "", "", "3.0.0"},           // somebody does not answer: the oldest of all
		{"", "3.6.16", "", "3.6.0"},     // the lowest of the members'
		{"3.0.0", "3.7.3", "", "3.7.0"}, // upwards as soon as all answer
		{"3.6.0", "3.7.3", "", "3.7.0"},
		{"3.6.0", "", "", ""},
		{"3.7.0", "3.7.3", "", ""},
		{"3.7.0", "3.6.16", "", ""}, // never down by itself
		{"3.7.0", "3.7.3", "3.6.0", "3.6.0"},
		{"3.7.0", "3.7.3", "3.5.0", ""}, // one minor at a time
		{"3.6.0", "3.7.3", "3.6.0", ""}, // not up again while the downgrade lasts
		{"3.7.0", "4.0.0", "", ""},
	} {
		st := &cluster.State{Version: c.now, Downgrade: schema.Downgrade{Enabled: c.target != "", TargetVersion: c.target}}
		var lowest *semver.Version
		if c.lowest != "" {
			lowest = semver.New(c.lowest)
		}
		if got := nextVersion(st, lowest); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
