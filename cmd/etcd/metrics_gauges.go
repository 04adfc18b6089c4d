package main

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/server"
)

// A reading is all that one scrape asks the member, asked once.
type reading struct {
	status *pb.StatusResponse
	stats  server.Stats
	watch  watchers
}

type watchers struct{ streams, watchers, slow, pending int }

// A gauge is one number of a reading.
type gauge struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(reading) float64
}

// gauges reads the member when somebody scrapes, so that nothing is counted twice.
type gauges struct {
	member                        *server.Member
	version, known, active, alarm *prometheus.Desc
	all                           []gauge
}

func newGauges(m *server.Member) *gauges {
	labelled := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	g := &gauges{
		member:  m,
		version: labelled("etcd_cluster_version", "The version that the cluster speaks, as a label; always 1.", "cluster_version"),
		known:   labelled("etcd_network_known_peers", "The members of the cluster, this one included; always 1.", "Local", "Remote"),
		active:  labelled("etcd_network_active_peers", "1 while another member is reached.", "Local", "Remote"),
		alarm:   labelled("etcd_debugging_server_alarms", "The alarms that are raised, of all members; always 1.", "server_id", "alarm_type"),
	}
	add := func(kind prometheus.ValueType, name, help string, read func(reading) float64) {
		g.all = append(g.all, gauge{prometheus.NewDesc(name, help, nil, nil), kind, read})
	}
	now, total := prometheus.GaugeValue, prometheus.CounterValue
	add(now, "etcd_server_has_leader", "1 while a leader is known.", func(r reading) float64 { return one(r.status.Leader != 0) })
	add(now, "etcd_server_is_leader", "1 while this member leads.", func(r reading) float64 { return one(r.status.Leader == m.ID()) })
	add(now, "etcd_server_is_learner", "1 while this member does not vote.", func(r reading) float64 { return one(r.status.IsLearner) })
	add(total, "etcd_server_learner_promote_successes", "Learners that became voters because this member was asked.", func(reading) float64 { return float64(m.Promotions()) })
	add(total, "etcd_server_leader_changes_seen_total", "Changes of leader that this member saw.", func(r reading) float64 { return float64(r.stats.LeaderChanges) })
	add(now, "etcd_server_proposals_committed_total", "The newest entry that is committed.", func(r reading) float64 { return float64(r.status.RaftIndex) })
	add(now, "etcd_server_proposals_applied_total", "The newest entry that is applied.", func(r reading) float64 { return float64(r.status.RaftAppliedIndex) })
	add(now, "etcd_server_proposals_pending", "Proposals that wait for their result.", func(r reading) float64 { return float64(r.stats.ProposalsPending) })
	add(total, "etcd_server_proposals_failed_total", "Proposals that came to nothing.", func(r reading) float64 { return float64(r.stats.ProposalsFailed) })
	add(total, "etcd_server_slow_apply_total", "Applies that took longer than --warning-apply-duration.", func(r reading) float64 { return float64(r.stats.SlowApplies) })
	add(now, "etcd_server_quota_backend_bytes", "Bytes that the store may take.", func(r reading) float64 { return float64(r.status.DbSizeQuota) })
	add(now, "etcd_mvcc_db_total_size_in_bytes", "Bytes of the store's file.", func(r reading) float64 { return float64(r.status.DbSize) })
	add(now, "etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the store's file that hold data.", func(r reading) float64 { return float64(r.status.DbSizeInUse) })
	add(now, "etcd_debugging_mvcc_current_revision", "The store's revision.", func(reading) float64 { return float64(m.Header().Revision) })
	add(now, "etcd_debugging_auth_revision", "The auth revision: how often users, roles and permissions changed.", func(reading) float64 { return float64(m.AuthRevision()) })
	add(now, "etcd_debugging_mvcc_watch_stream_total", "Watch streams that are open.", func(r reading) float64 { return float64(r.watch.streams) })
	add(now, "etcd_debugging_mvcc_watcher_total", "Watchers.", func(r reading) float64 { return float64(r.watch.watchers) })
	add(now, "etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind.", func(r reading) float64 { return float64(r.watch.slow) })
	add(now, "etcd_debugging_mvcc_keys_total", "Keys.", func(r reading) float64 { return float64(r.stats.Keys) })
	add(now, "etcd_debugging_mvcc_compact_revision", "The revision of the last compaction.", func(r reading) float64 { return float64(r.stats.CompactRev) })
	add(now, "etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of the keys and values that were put.", func(r reading) float64 { return float64(r.stats.Counts.PutBytes.Load()) })
	add(total, "etcd_mvcc_range_total", "Ranges.", func(r reading) float64 { return float64(r.stats.Counts.Ranges.Load()) })
	add(total, "etcd_mvcc_put_total", "Puts.", func(r reading) float64 { return float64(r.stats.Counts.Puts.Load()) })
	add(total, "etcd_mvcc_delete_total", "Deletes, of one key or of many.", func(r reading) float64 { return float64(r.stats.Counts.Deletes.Load()) })
	add(total, "etcd_mvcc_txn_total", "Transactions that did more than one thing.", func(r reading) float64 { return float64(r.stats.Counts.Txns.Load()) })
	add(now, "etcd_disk_defrag_inflight", "1 while the state file is being defragmented.", func(reading) float64 { return one(m.Defragmenting()) })
	add(now, "etcd_mvcc_db_open_read_transactions", "Read transactions that are open in the store.", func(r reading) float64 { return float64(r.stats.ReadTxns) })
	add(total, "etcd_server_slow_read_indexes_total", "Questions for a read index that had no answer in time.", func(r reading) float64 { return float64(r.stats.SlowReads) })
	add(total, "etcd_server_read_indexes_failed_total", "Questions for a read index that failed.", func(r reading) float64 { return float64(r.stats.FailedReads) })
	add(total, "etcd_server_heartbeat_send_failures_total", "Heartbeats that this member, leading, sent too late.", func(r reading) float64 { return float64(r.stats.LateHeartbeats) })
	add(now, "etcd_server_snapshot_apply_in_progress_total", "1 while a snapshot from the leader replaces the state.", func(r reading) float64 { return one(r.stats.Installing) })
	add(now, "etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent.", func(r reading) float64 { return float64(r.watch.pending) })
	return g
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.version, g.known, g.active, g.alarm} {
		to <- d
	}
	for _, x := range g.all {
		to <- x.desc
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	status, err := g.member.Status(context.Background(), &pb.StatusRequest{})
	if err != nil {
		to <- prometheus.NewInvalidMetric(g.all[0].desc, err)
		return
	}
	r := reading{status: status, stats: g.member.Stats()}
	r.watch.streams, r.watch.watchers, r.watch.slow, r.watch.pending = g.member.Watch().Stats()
	for _, x := range g.all {
		to <- prometheus.MustNewConstMetric(x.desc, x.kind, x.read(r))
	}
	g.collectPeers(to, r.stats.Reached)
	for _, a := range g.member.Alarms() {
		to <- prometheus.MustNewConstMetric(g.alarm, prometheus.GaugeValue, 1, hexID(a.MemberID), a.Alarm.String())
	}
	if cluster, _ := g.member.Versions(); len(cluster) > 2 {
		to <- prometheus.MustNewConstMetric(g.version, prometheus.GaugeValue, 1, cluster[:len(cluster)-len(".0")])
	}
}

func (g *gauges) collectPeers(to chan<- prometheus.Metric, reached map[uint64]bool) {
	local := hexID(g.member.ID())
	for id, up := range reached {
		to <- prometheus.MustNewConstMetric(g.known, prometheus.GaugeValue, 1, local, hexID(id))
		if id != g.member.ID() {
			to <- prometheus.MustNewConstMetric(g.active, prometheus.GaugeValue, one(up), local, hexID(id))
		}
	}
}

func hexID(id uint64) string { return strconv.FormatUint(id, 16) }
