package server

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
)

// told is a caller to whom every member says the same.
type told struct {
	elsewhere
	members   []PeerMember
	clusterID uint64
}

func (c told) Members(context.Context, []string) ([]PeerMember, uint64, error) {
	return c.members, c.clusterID, nil
}

func TestVet(t *testing.T) {
	ran := func(id uint64) PeerMember { return PeerMember{ID: id, ClientURLs: []string{"http://c:1"}} }
	silent := answer{err: errors.New("nobody there")}
	of := func(clusterID uint64, all ...PeerMember) answer { return answer{members: all, clusterID: clusterID} }
	for what, x := range map[string]struct {
		answers []answer
		heard   bool
		want    error
	}{
		"nobody answers":                    {answers: []answer{silent, silent}},
		"one has nothing to tell yet":       {answers: []answer{of(9)}},
		"another founder that is as new":    {answers: []answer{of(9, PeerMember{ID: 1}, PeerMember{ID: 2})}, heard: true},
		"others run, this one never did":    {answers: []answer{of(9, PeerMember{ID: 1}, ran(2))}, heard: true},
		"it has lived before":               {answers: []answer{of(9, ran(1), ran(2))}, heard: true, want: ErrBootstrapped},
		"only the second that answers does": {answers: []answer{silent, of(9, PeerMember{ID: 1}, ran(2)), of(9, ran(1), ran(2))}, heard: true, want: ErrBootstrapped},
		"it was removed":                    {answers: []answer{of(9, ran(2))}, heard: true, want: ErrWasRemoved},
		"another cluster":                   {answers: []answer{of(8, ran(2))}, heard: true, want: ErrOtherCluster},
	} {
		heard, err := vet(1, 9, x.answers)
		if heard != x.heard || !errors.Is(err, x.want) {
			t.Errorf("%s: %v, %v", what, heard, err)
		}
	}
}

// catching lags until it has answered a linearizable read, which fails while it is cut off.
type catching struct {
	elsewhere
	cutOff bool
	caught atomic.Bool
}

func (c *catching) DowngradeEnabled(context.Context, []string) (bool, error) {
	if c.cutOff {
		return false, ErrTimeout
	}
	c.caught.Store(true)
	return false, nil
}

func (c *catching) Members(context.Context, []string) ([]PeerMember, uint64, error) {
	me := PeerMember{ID: 1}
	if c.caught.Load() {
		me.ClientURLs = []string{"http://c:1"}
	}
	return []PeerMember{me, {ID: 2, ClientURLs: []string{"http://c:2"}}}, 9, nil
}

// The list of a member that lags proves nothing: simulation seed 4244063231 voted twice in a term by it.
func TestInquireOfLagging(t *testing.T) {
	others := [][]string{{"http://127.0.0.1:40901"}}
	heard, err := inquire(t.Context(), &catching{cutOff: true}, 1, 9, others)
	if heard != doubt || err != nil {
		t.Errorf("of one that is cut off: heard=%v, %v", heard, err)
	}
	heard, err = inquire(t.Context(), &catching{}, 1, 9, others)
	if heard != proof || !errors.Is(err, ErrBootstrapped) {
		t.Errorf("of one that catches up: heard=%v, %v", heard, err)
	}
}

// Who withholds its vote says so, and what to do: its cluster may be waiting for nothing else.
func TestVettingTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		v := &vetting{
			id: 1, clusterID: 9, cluster: cluster.New(cluster.State{Members: []schema.Member{{ID: 1}, {ID: 2, PeerURLs: []string{"http://127.0.0.1:40901"}}}}),
			caller: &catching{cutOff: true}, clock: clock.System, logger: zap.New(core), fail: func(err error) { t.Error(err) }, over: make(chan struct{}),
		}
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { v.run(ctx) })
		time.Sleep(doubtInterval - time.Second)
		if logs.Len() != 0 {
			t.Error("told too early:", logs.All())
		}
		time.Sleep(2 * doubtInterval)
		if n := logs.FilterMessageSnippet("--initial-cluster-state existing").Len(); n != 2 {
			t.Errorf("told %d times", n)
		}
		end()
		running.Wait()
	})
}

// A member that joins is refused, before anything is on disk, where it is not expected or has lived before.
func TestJoinRefusals(t *testing.T) {
	urls := []string{"http://127.0.0.1:40900"}
	mine, other := PeerMember{ID: 1, PeerURLs: urls}, PeerMember{ID: 2, PeerURLs: []string{"http://127.0.0.1:40901"}}
	wiped := mine
	wiped.ClientURLs = []string{"http://127.0.0.1:40902"}
	learner := other
	learner.IsLearner = true
	for want, c := range map[string]told{
		"member count is unequal":                 {members: []PeerMember{other}},
		"no member of the cluster has":            {members: []PeerMember{other, {ID: 3, PeerURLs: []string{"http://a:1"}}}},
		"has already been bootstrapped":           {members: []PeerMember{wiped, other}},
		"too many learner members":                {members: []PeerMember{mine, learner}},
		"incompatible with current running":       {elsewhere: elsewhere{cluster: "3.8.0"}, members: []PeerMember{mine, other}},
		"no other member tells a cluster version": {members: []PeerMember{mine, other}},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		cfg := testConfig(t, dir, "--name", "a", "--initial-cluster", "a=http://127.0.0.1:40900,b=http://127.0.0.1:40901",
			"--initial-advertise-peer-urls", urls[0], "--listen-peer-urls", urls[0], "--initial-cluster-state", "existing", "--max-learners", "0")
		c.clusterID = 9
		_, err := New(cfg, Deps{FS: vfs.OS, Clock: clock.System, Logger: testLogger(t), Caller: c, Network: func(NetworkParams) Network { return alone{} }})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if found, _ := filepath.Glob(dir); len(found) > 0 {
			t.Errorf("%s: it left %v", want, found)
		}
	}
}

// A directory of another cluster's member is refused where the cluster that the flags name expects this one.
func TestForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	stop(t, start(t, testConfig(t, dir)))
	cfg := testConfig(t, dir, "--initial-cluster", "default=http://localhost:2380,b=http://127.0.0.1:40901", "--initial-cluster-state", "existing")
	try := func(clusterID uint64, urls ...string) error {
		c := told{members: []PeerMember{{ID: 5, PeerURLs: urls}}, clusterID: clusterID}
		m, err := New(cfg, Deps{FS: vfs.OS, Clock: clock.System, Logger: testLogger(t), Caller: c, Network: func(NetworkParams) Network { return alone{} }})
		if err == nil {
			stop(t, m)
		}
		return err
	}
	if err := try(9, "http://localhost:2380"); !errors.Is(err, ErrForeignDirectory) {
		t.Error(err)
	}
	if err := try(9, "http://elsewhere:1"); err != nil {
		t.Error("a cluster that has nothing to do with this member:", err)
	}
}
