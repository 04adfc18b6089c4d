package compat

import (
	"testing"

	"keelson/test/process"
)

const (
	rollingRate = 500 // puts a second
	// between is how many puts are acknowledged before and between the restarts: a second's.
	between = rollingRate
	// calmTries is how often a run may be disturbed.
	calmTries = 5
)

// A rolling restart by SIGTERM of all three members, under load of a client that knows all of them: users of Keelson see
// no more errors than those of etcd in the same run. The aim is none. A machine that starves members makes elections of its
// own, which cost clients errors whoever they ask: only a run that had none but for the restarts counts.
func TestRollingRestart(t *testing.T) {
	errors := map[string]int{}
	for _, p := range []process.Program{stock(t, "etcd37"), ours(t)} {
		failed, calm := rollingRestart(t, p)
		for tries := 1; !calm && len(failed) > 0 && tries < calmTries; tries++ {
			t.Logf("%s: there were other elections than the restarts', and %d errors: once more", p.Name, len(failed))
			failed, calm = rollingRestart(t, p)
		}
		for _, f := range failed[:min(len(failed), 10)] {
			t.Logf("%s: %v", p.Name, f)
		}
		errors[p.Name] = len(failed)
	}
	t.Logf("errors that clients saw: %v", errors)
	if errors["keelson"] > errors["etcd37"] {
		t.Errorf("clients of Keelson saw %d errors, those of etcd %d", errors["keelson"], errors["etcd37"])
	}
}

// rollingRestart gives what clients saw, and whether nobody was elected but for the restarts of who led.
func rollingRestart(t *testing.T, p process.Program) (failed []process.Failure, calm bool) {
	t.Helper()
	all := process.Cluster(t, []process.Program{p, p, p})
	for _, m := range all {
		m.Start()
	}
	for _, m := range all {
		m.WaitHealthy()
	}
	c := &cluster{t: t, all: all}
	first, handed := c.term(), uint64(0)
	client := process.Dial(t, all...)
	load := process.StartLoad(t, client, p.Name, rollingRate)
	for _, m := range all {
		load.Await(t, between)
		if c.leader() == m {
			handed++
		}
		m.Stop()
		m.Serve()
	}
	load.Await(t, between)
	load.Stop()
	last := c.term()
	n := load.Check(t, client)
	t.Logf("%s: %d acknowledged, %d failed, the slowest took %v", p.Name, n, len(load.Failed), load.Slowest)
	for _, m := range all {
		m.Stop()
	}
	return load.Failed, last-first == handed
}

// term gives the term of whoever leads.
func (c *cluster) term() (term uint64) {
	c.t.Helper()
	process.Until(c.t, "the leader tells its term", func() error {
		s, err := c.status(c.leader())
		if err == nil {
			term = s.RaftTerm
		}
		return err
	})
	return term
}
