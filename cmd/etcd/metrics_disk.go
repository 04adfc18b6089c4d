package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keelson/internal/server"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
)

// diskMetrics is what the disk costs: the log, the state file, snapshots.
type diskMetrics struct {
	logSync, logWrite               prometheus.Histogram
	logBytes                        prometheus.Gauge
	commit, rebalance, spill, write prometheus.Histogram
	backup, hash, hashRevisions     prometheus.Histogram
	paused                          prometheus.Histogram
	snapshots                       snapshotMetrics
}

// snapshotMetrics is what the files of snapshots cost that a member makes or gets from its leader.
type snapshotMetrics struct{ save, encode, sync, receive, receiveSync prometheus.Histogram }

func newSnapshotMetrics(r prometheus.Registerer, fast []float64) snapshotMetrics {
	return snapshotMetrics{
		save:        newHistogram(r, "etcd_debugging_snap_save_total_duration_seconds", "How long it took to save a .snap file.", fast),
		encode:      newHistogram(r, "etcd_debugging_snap_save_marshalling_duration_seconds", "How long it took to encode a .snap file.", fast),
		sync:        newHistogram(r, "etcd_snap_fsync_duration_seconds", "How long a sync of a .snap file took.", fast),
		receive:     newHistogram(r, "etcd_snap_db_save_total_duration_seconds", "How long it took to receive a state file from the leader.", prometheus.ExponentialBuckets(0.1, 2, 10)),
		receiveSync: newHistogram(r, "etcd_snap_db_fsync_duration_seconds", "How long a sync of a received state file took.", fast),
	}
}

func newDiskMetrics(r prometheus.Registerer) diskMetrics {
	// fast is from 1 ms to 8.192 s, doubling.
	fast := prometheus.ExponentialBuckets(0.001, 2, 14)
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return newHistogram(r, name, help, buckets)
	}
	m := diskMetrics{
		logSync:   histogram("etcd_disk_wal_fsync_duration_seconds", "How long a sync of the log took.", fast),
		logWrite:  histogram("etcd_disk_wal_write_duration_seconds", "How long a write of the log took, without its sync.", fast),
		logBytes:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "etcd_disk_wal_write_bytes_total", Help: "Bytes written to the log."}),
		commit:    histogram("etcd_disk_backend_commit_duration_seconds", "How long a commit of the store took.", fast),
		rebalance: histogram("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "How long a commit of the store took to join small pages.", fast),
		spill:     histogram("etcd_debugging_disk_backend_commit_spill_duration_seconds", "How long a commit of the store took to divide large pages.", fast),
		write:     histogram("etcd_debugging_disk_backend_commit_write_duration_seconds", "How long a commit of the store took to write.", fast),
		backup:    histogram("etcd_disk_backend_snapshot_duration_seconds", "How long a snapshot for a client took.", prometheus.ExponentialBuckets(.01, 2, 17)),
		hash:      histogram("etcd_mvcc_hash_duration_seconds", "How long a hash of the whole state file took.", prometheus.ExponentialBuckets(.01, 2, 15)),
		hashRevisions: histogram("etcd_mvcc_hash_rev_duration_seconds", "How long a hash of the revisions up to one took.",
			prometheus.ExponentialBuckets(.01, 2, 15)),
		snapshots: newSnapshotMetrics(r, fast),
		paused: histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "How long a step of compaction held up what is applied.",
			prometheus.ExponentialBuckets(0.5, 2, 14)),
	}
	r.MustRegister(m.logBytes)
	return m
}

func (m *diskMetrics) observe(o *server.Observer) {
	o.LogSync = seconds(m.logSync)
	o.LogWrite = func(took time.Duration, bytes int) {
		m.logWrite.Observe(took.Seconds())
		m.logBytes.Add(float64(bytes))
	}
	o.StoreCommit = func(t store.CommitTimes) {
		m.commit.Observe(t.Took.Seconds())
		m.rebalance.Observe(t.Rebalance.Seconds())
		m.spill.Observe(t.Spill.Seconds())
		m.write.Observe(t.Write.Seconds())
	}
	o.Backup = seconds(m.backup)
	o.Hash = func(revisions bool, took time.Duration) {
		if revisions {
			m.hashRevisions.Observe(took.Seconds())
		} else {
			m.hash.Observe(took.Seconds())
		}
	}
	o.SnapshotSaved = func(t snap.Times) {
		m.snapshots.save.Observe(t.Took.Seconds())
		m.snapshots.encode.Observe(t.Encode.Seconds())
		m.snapshots.sync.Observe(t.Sync.Seconds())
	}
	o.SnapshotReceived = func(t snap.Times) {
		m.snapshots.receive.Observe(t.Took.Seconds())
		m.snapshots.receiveSync.Observe(t.Sync.Seconds())
	}
	o.IndexPause = func(d time.Duration) { m.paused.Observe(float64(d) / float64(time.Millisecond)) }
}
