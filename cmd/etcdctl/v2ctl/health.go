package v2ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"time"

	client "go.etcd.io/etcd/client/v2"
)

const (
	// healthInterval is between two rounds of cluster-health --forever.
	healthInterval = 10 * time.Second
	// healthBytesMax bounds an answer of /health, which is a line.
	healthBytesMax = 1 << 20
)

func clusterHealthVerb() verb {
	var forever bool
	return verb{
		name: "cluster-health", short: "asks each member whether it is healthy",
		flags: func(f *flags) { f.boolean(&forever, "forever, f", "ask every 10 seconds until Ctrl-C") },
		run:   func(c *call) error { return c.clusterHealth(forever) },
	}
}

func (c *call) clusterHealth(forever bool) error {
	ctx, stop := context.Background(), func() {}
	if forever {
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt)
	}
	defer stop()
	t, err := c.transport()
	if err != nil {
		return failed(statusServerError, err)
	}
	cl, err := c.connect()
	if err != nil {
		return err
	}
	if c.debug {
		c.debugf("Cluster-Endpoints: %s\n", cl.Endpoints()[0])
		client.EnablecURLDebug()
	}
	all, err := client.NewMembersAPI(cl).List(ctx)
	if ctx.Err() != nil {
		return nil // Ctrl-C ends it well here too
	}
	if err != nil {
		fmt.Fprintln(c.Out, "cluster may be unhealthy: failed to list members")
		return failed(statusServerError, err)
	}
	probe := healthProbe{call: c, http: http.Client{Transport: t, Timeout: c.total}}
	for {
		healthy := probe.round(ctx, all)
		switch {
		case ctx.Err() != nil:
			return nil
		case !forever && healthy:
			return nil
		case !forever:
			return &failure{status: statusNotHealthy}
		}
		fmt.Fprint(c.Out, "\nnext check after 10 second...\n\n")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(healthInterval):
		}
	}
}

// healthProbe asks members for their health.
type healthProbe struct {
	*call
	http http.Client
}

// round asks all members, tells of each and then of all. It gives whether all are healthy.
func (p *healthProbe) round(ctx context.Context, all []client.Member) bool {
	healthy := 0
	for _, m := range all {
		if len(m.ClientURLs) == 0 {
			fmt.Fprintf(p.Out, "member %s is unreachable: no available published client urls\n", m.ID)
			continue
		}
		if p.member(ctx, m) {
			healthy++
		}
	}
	switch healthy {
	case len(all):
		fmt.Fprintln(p.Out, "cluster is healthy")
	case 0:
		fmt.Fprintln(p.Out, "cluster is unavailable")
	default:
		fmt.Fprintln(p.Out, "cluster is degraded")
	}
	return healthy == len(all)
}

// member asks one, by the first of its URLs that answers.
func (p *healthProbe) member(ctx context.Context, m client.Member) bool {
	for _, u := range m.ClientURLs {
		healthy, err := p.get(ctx, u+"/health")
		if err != nil {
			fmt.Fprintf(p.Out, "failed to check the health of member %s on %s: %v\n", m.ID, u, err)
			continue
		}
		if healthy {
			fmt.Fprintf(p.Out, "member %s is healthy: got healthy result from %s\n", m.ID, u)
		} else {
			fmt.Fprintf(p.Out, "member %s is unhealthy: got unhealthy result from %s\n", m.ID, u)
		}
		return healthy
	}
	fmt.Fprintf(p.Out, "member %s is unreachable: %v are all unreachable\n", m.ID, m.ClientURLs)
	return false
}

// get reads {"health":"true"}, or {"health":true} as members before 3.0 have it.
func (p *healthProbe) get(ctx context.Context, url string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, healthBytesMax))
	if err != nil {
		return false, err
	}
	var word struct{ Health string }
	if json.Unmarshal(b, &word) == nil {
		return word.Health == "true", nil
	}
	var old struct{ Health bool }
	err = json.Unmarshal(b, &old)
	return old.Health, err
}
