package compat

import (
	"testing"

	"keelson/test/process"
)

const (
	rollingRate = 500 // puts a second
	// between is how many puts are acknowledged before and between the restarts: a second's.
	between = rollingRate
)

// A rolling restart by SIGTERM of all three members, under load of a client that knows all of them: users of Keelson see
// no more errors than those of etcd in the same run. The aim is none.
func TestRollingRestart(t *testing.T) {
	errors := map[string]int{}
	for _, p := range []process.Program{stock(t, "etcd37"), ours(t)} {
		failed := rollingRestart(t, p)
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

func rollingRestart(t *testing.T, p process.Program) []process.Failure {
	t.Helper()
	all := process.Cluster(t, []process.Program{p, p, p})
	for _, m := range all {
		m.Start()
	}
	for _, m := range all {
		m.WaitHealthy()
	}
	client := process.Dial(t, all...)
	load := process.StartLoad(t, client, p.Name, rollingRate)
	for _, m := range all {
		load.Await(t, between)
		m.Stop()
		m.Serve()
	}
	load.Await(t, between)
	load.Stop()
	n := load.Check(t, client)
	t.Logf("%s: %d acknowledged, %d failed, the slowest took %v", p.Name, n, len(load.Failed), load.Slowest)
	for _, m := range all {
		m.Stop()
	}
	return load.Failed
}
