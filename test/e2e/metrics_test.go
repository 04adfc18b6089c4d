package e2e

import (
	"context"
	_ "embed"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// metricsTable is what a member of etcd 3.7.3 shows with --metrics=extensive: names, types and, parted by commas, labels.
//
//go:embed testdata/metrics.tsv
var metricsTable string

// metricsToCome are those of the table that wait for what they count.
var metricsToCome = map[string]string{
	"etcd_debugging_store_expires_total":        "the v2 API",
	"etcd_debugging_store_watch_requests_total": "the v2 API",
	"etcd_debugging_store_watchers":             "the v2 API",
	"etcd_grpc_proxy_cache_hits_total":          "the gRPC proxy",
	"etcd_grpc_proxy_cache_keys_total":          "the gRPC proxy",
	"etcd_grpc_proxy_cache_misses_total":        "the gRPC proxy",
	"etcd_grpc_proxy_events_coalescing_total":   "the gRPC proxy",
	"etcd_grpc_proxy_watchers_coalescing_total": "the gRPC proxy",
}

// use asks a member for a little of everything.
func use(t *testing.T, m *process.Member) {
	t.Helper()
	ctx, c := context.Background(), m.Client()
	ch := c.Watch(ctx, "a", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-ch
	lease, err := c.Grant(ctx, 60)
	must(t, err)
	for range 3 {
		_, err = c.Put(ctx, "a", "value", clientv3.WithLease(lease.ID))
		must(t, err)
	}
	<-ch
	_, err = c.Get(ctx, "a")
	must(t, err)
	_, err = c.Txn(ctx).Then(clientv3.OpPut("a1", "1"), clientv3.OpPut("a2", "2")).Commit()
	must(t, err)
	_, err = c.Delete(ctx, "a1")
	must(t, err)
	_, err = c.KeepAliveOnce(ctx, lease.ID)
	must(t, err)
	_, err = c.Revoke(ctx, lease.ID)
	must(t, err)
	_, err = c.Compact(ctx, 4, clientv3.WithCompactPhysical())
	must(t, err)
	backup, err := c.Snapshot(ctx)
	must(t, err)
	_, err = io.Copy(io.Discard, backup)
	must(t, err)
	_, err = c.Defragment(ctx, m.ClientAddr)
	must(t, err)
	_, err = c.HashKV(ctx, m.ClientAddr, 0)
	must(t, err)
	for _, path := range []string{"/health", "/livez", "/readyz", "/metrics"} {
		_, err = m.HTTP(path)
		must(t, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	seriesPattern = regexp.MustCompile(`(?m)^([a-z_0-9]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? [^ \n]+$`)
	labelPattern  = regexp.MustCompile(`([a-zA-Z_]+)="(?:[^"\\]|\\.)*"`)
	typePattern   = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
)

// scrape gives the type of each metric and the labels that its series have.
func scrape(text string) (types map[string]string, labels map[string]map[string]bool) {
	types, labels = map[string]string{}, map[string]map[string]bool{}
	for _, found := range typePattern.FindAllStringSubmatch(text, -1) {
		types[found[1]] = found[2]
	}
	for _, found := range seriesPattern.FindAllStringSubmatch(text, -1) {
		var names []string
		for _, l := range labelPattern.FindAllStringSubmatch(found[2], -1) {
			if l[1] != "le" {
				names = append(names, l[1])
			}
		}
		slices.Sort(names)
		if labels[found[1]] == nil {
			labels[found[1]] = map[string]bool{}
		}
		labels[found[1]][strings.Join(names, ",")] = true
	}
	return types, labels
}

// A member that was used a little shows every metric of etcd 3.7.3, but for those to come, by its name, type and labels.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "", "--metrics=extensive").Serve()
	use(t, m)
	var types map[string]string
	var labels map[string]map[string]bool
	process.Until(t, "the cluster's version is known", func() error { // it is told behind the member's start
		text, err := m.HTTP("/metrics")
		if types, labels = scrape(text); err == nil && types["etcd_cluster_version"] == "" {
			err = errors.New("no etcd_cluster_version")
		}
		return err
	})
	for i, line := range strings.Split(strings.TrimSuffix(metricsTable, "\n"), "\n") {
		row := strings.Split(line, "\t")
		if i == 0 {
			continue
		}
		name := row[0]
		if what, ok := metricsToCome[name]; ok {
			if types[name] != "" {
				t.Errorf("%s is there and still said to wait for %s", name, what)
			}
			continue
		}
		if types[name] != row[1] {
			t.Errorf("%s is %q, not %q", name, types[name], row[1])
		}
		if !labels[name][row[2]] || len(labels[name]) != 1 {
			t.Errorf("%s has the labels %v, not %q", name, labels[name], row[2])
		}
	}
	for name, want := range map[string]float64{
		"etcd_mvcc_put_total": 5, "etcd_mvcc_delete_total": 2, "etcd_debugging_mvcc_keys_total": 1, "etcd_debugging_mvcc_total_put_size_in_bytes": 24,
		"etcd_debugging_mvcc_compact_revision": 4, "etcd_server_health_failures": 0, "etcd_disk_backend_defrag_duration_seconds_count": 1,
		"etcd_disk_backend_snapshot_duration_seconds_count": 1, "etcd_mvcc_hash_rev_duration_seconds_count": 1, "etcd_disk_defrag_inflight": 0,
		`etcd_server_request_duration_seconds_count{success="true",type="Put"}`: 3, `etcd_server_apply_duration_seconds_count{op="Txn",success="true",version="v3"}`: 1,
	} {
		if got := m.Metric(name); got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
}
