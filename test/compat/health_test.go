package compat

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// healthAsks are asked in every state, all at once: a read that finds no leader takes seconds.
var healthAsks = []string{
	"GET /health", "GET /health?serializable=true", "GET /health?exclude=NOSPACE", "GET /health?exclude=CORRUPT", "GET /health?exclude=NOSPACE&exclude=CORRUPT", "GET /health?exclude=",
	"GET /livez", "GET /livez?verbose", "GET /livez/serializable_read", "GET /livez?exclude=serializable_read", "GET /livez?allowlist=serializable_read",
	"GET /readyz", "GET /readyz?verbose", "GET /readyz?exclude=linearizable_read", "GET /readyz?exclude=data_corruption&verbose", "GET /readyz?exclude=linearizable_read&exclude=data_corruption&exclude=nope&verbose",
	"GET /readyz/linearizable_read", "GET /readyz/serializable_read?verbose", "GET /readyz/data_corruption", "GET /readyz/non_learner", "GET /readyz/nope", "GET /livez/data_corruption",
	"POST /health", "POST /livez", "PUT /readyz/non_learner", "OPTIONS /readyz", "GET /readyz?allowlist=non_learner&verbose",
}

// healthOf asks all of healthAsks and gives code, headers and body of each. Etcd's checks come in no certain order.
func healthOf(t *testing.T, addr string) []string {
	t.Helper()
	answers := make([]string, len(healthAsks))
	var wg sync.WaitGroup
	for i, ask := range healthAsks {
		wg.Go(func() {
			method, path, _ := strings.Cut(ask, " ")
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			a, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer a.Body.Close()
			body, err := io.ReadAll(a.Body)
			if err != nil {
				t.Error(err)
			}
			lines := strings.SplitAfter(string(body), "\n")
			slices.Sort(lines)
			head := ""
			for _, name := range []string{"Content-Type", "Content-Length", "X-Content-Type-Options", "Allow", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods"} {
				head += fmt.Sprintf(" %s=%q", name, a.Header.Values(name))
			}
			answers[i] = fmt.Sprintf("%s\n%d%s\n%s", ask, a.StatusCode, head, strings.Join(lines, ""))
		})
	}
	wg.Wait()
	return answers
}

// sick runs f with each program, at the same time, and compares what /health, /livez and /readyz say in the state that f
// brings about: f gives the address to ask.
func sick(t *testing.T, f func(t *testing.T, p process.Program) (addr string)) {
	t.Helper()
	var got, want []string
	programs := []process.Program{ours(t), stock(t, "etcd37")}
	t.Run("ask", func(t *testing.T) {
		for i, p := range programs {
			t.Run(p.Name, func(t *testing.T) {
				t.Parallel()
				answers := healthOf(t, f(t, p))
				if i == 0 {
					got = answers
				} else {
					want = answers
				}
			})
		}
	})
	agree(t, got, want)
}

// What probes see of an ill member is what they see of an ill etcd 3.7.3: codes, headers and bodies.
func TestIllHealth(t *testing.T) {
	alarmed := func(kind pb.AlarmType) func(t *testing.T, p process.Program) string {
		return func(t *testing.T, p process.Program) string {
			m := single(t, p).Serve()
			c := m.Client()
			r := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: kind, MemberID: memberID(t, c)}
			if _, err := pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			return m.ClientAddr
		}
	}
	t.Run("NOSPACE", func(t *testing.T) { sick(t, alarmed(pb.AlarmType_NOSPACE)) })
	t.Run("CORRUPT", func(t *testing.T) { sick(t, alarmed(pb.AlarmType_CORRUPT)) })
	t.Run("no leader", func(t *testing.T) { sick(t, leaderless) })
	t.Run("learner", func(t *testing.T) { sick(t, learner) })
}

func memberID(t *testing.T, c *clientv3.Client) uint64 {
	t.Helper()
	r, err := c.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r.Members[0].ID
}

// leaderless gives the one member of three that is left.
func leaderless(t *testing.T, p process.Program) string {
	all := process.Cluster(t, []process.Program{p, p, p})
	for _, m := range all {
		m.Start()
	}
	for _, m := range all {
		m.WaitHealthy()
	}
	all[0].Kill()
	all[1].Kill()
	process.Until(t, "the last member knows no leader", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := all[2].Client().Status(ctx, all[2].ClientAddr)
		if err == nil && r.Leader != 0 {
			err = fmt.Errorf("leader %x", r.Leader)
		}
		return err
	})
	return all[2].ClientAddr
}

// learner gives a member that was added without a vote.
func learner(t *testing.T, p process.Program) string {
	first := single(t, p).Serve()
	m := process.Single(t, p, "", "--initial-cluster-state=existing")
	if _, err := first.Client().MemberAddAsLearner(t.Context(), []string{"http://" + m.PeerAddr}); err != nil {
		t.Fatal(err)
	}
	m.Name = "second"
	m.Flags = append(m.Flags, "--initial-cluster="+first.Name+"=http://"+first.PeerAddr+",second=http://"+m.PeerAddr)
	m.Start()
	process.Until(t, "the learner knows its leader", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := m.Client().Status(ctx, m.ClientAddr)
		if err == nil && (r.Leader == 0 || !r.IsLearner) {
			err = fmt.Errorf("leader %x, learner %t", r.Leader, r.IsLearner)
		}
		return err
	})
	return m.ClientAddr
}
