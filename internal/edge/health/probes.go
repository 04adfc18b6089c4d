package health

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
)

// A check is one line of /livez or /readyz, and a path of its own below it.
type check struct {
	name string
	run  func(ctx context.Context) error
}

func (e *Edge) serializableRead() check {
	return check{"serializable_read", func(ctx context.Context) error { return e.read(ctx, true) }}
}

func (e *Edge) linearizableRead() check {
	return check{"linearizable_read", func(ctx context.Context) error { return e.read(ctx, false) }}
}

func (e *Edge) noLearner() check {
	return check{"non_learner", func(context.Context) error {
		if e.member.IsLearner() {
			return errors.New("not supported for learner")
		}
		return nil
	}}
}

func (e *Edge) noCorruption() check {
	return check{"data_corruption", func(context.Context) error {
		for _, a := range e.member.Alarms() {
			if a.Alarm == pb.AlarmType_CORRUPT {
				return errors.New("alarm activated: CORRUPT")
			}
		}
		return nil
	}}
}

// probes serves checks together under /kind, where ?exclude=NAME leaves one out, and each alone under /kind/NAME.
// ?verbose shows them all.
func (e *Edge) probes(kind string, checks []check, mux *http.ServeMux) {
	mux.HandleFunc("/"+kind, func(w http.ResponseWriter, r *http.Request) {
		excluded := r.URL.Query()["exclude"]
		var wanted []check
		for _, c := range checks {
			if !contains(excluded, c.name) {
				wanted = append(wanted, c)
			}
		}
		e.probe(w, r, kind, wanted)
	})
	for _, c := range checks {
		mux.HandleFunc("/"+kind+"/"+c.name, func(w http.ResponseWriter, r *http.Request) {
			e.probe(w, r, kind, []check{c})
		})
	}
}

func (e *Edge) probe(w http.ResponseWriter, r *http.Request, kind string, checks []check) {
	if !onlyGet(w, r) {
		return
	}
	var lines strings.Builder
	failed := false
	for _, c := range checks {
		err := c.run(r.Context())
		e.metrics.record(kind, c.name, err == nil)
		if err != nil {
			failed = true
			fmt.Fprintf(&lines, "[-]%s failed: %v\n", c.name, err)
		} else {
			fmt.Fprintf(&lines, "[+]%s ok\n", c.name)
		}
	}
	if failed {
		e.options.Logger.Error("Health check error", zap.String("path", r.URL.Path), zap.String("reason", lines.String()), zap.Int("status-code", http.StatusServiceUnavailable))
		http.Error(w, lines.String(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.URL.Query().Has("verbose") {
		fmt.Fprint(w, lines.String())
	}
	fmt.Fprint(w, "ok\n")
}
