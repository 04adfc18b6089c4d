package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/apply"
	"keelson/internal/config"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/alarm"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/watch"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// opened is a data directory that is open: its files, and the state that was read from them.
type opened struct {
	dirs
	id, clusterID uint64
	store         *store.Store
	wal           *wal.Writer
	log           *raftloop.Log
	state         apply.State
	// applied is the entry that the store ends with; recorded, the newest snapshot record in the log.
	applied, recorded mark
	// unreadable is the last entry in the log that a stock member of the present cluster version does not read, 0 if none.
	unreadable uint64
	// resume is a compaction that had begun and not ended, 0 if none.
	resume int64
	// others are members to talk to before the log has named them.
	others []schema.Member
	// beginning is the end of a log that holds no more than its founders; 0: it does, or has none.
	beginning uint64
	// unproven says that the log holds its beginning alone, and that no other founder has said yet that it never held more.
	unproven bool
	// diskFull is set while the log can't prepare its next segment.
	diskFull atomic.Bool
}

// open opens the data directory, or makes a new one.
func open(cfg *config.Config, d Deps, fail func(error)) (_ *opened, err error) {
	o := &opened{dirs: dirsOf(cfg.Member)}
	fresh := !wal.Exists(d.FS, o.dirs.wal)
	var g *genesis
	if fresh {
		if g, err = begin(cfg, d); err != nil {
			return nil, err
		}
		if err := makeDirs(d.FS, o.dirs); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(d.FS.OSPath(o.db)); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoDatabase
	}
	if o.store, err = store.Open(d.FS, o.db, storeOptions(cfg, d, fail)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	if err := snap.CleanTemp(d.FS, o.snap, o.store.Committed().Index); err != nil {
		return nil, err
	}
	if err := defragmentAtStart(context.Background(), cfg, o.store, d.Logger); err != nil {
		return nil, err
	}
	if fresh {
		return o, o.create(cfg, d, g)
	}
	return o, o.reopen(cfg, d)
}

// create makes the log of a member that had none.
func (o *opened) create(cfg *config.Config, d Deps, g *genesis) (err error) {
	if ci := o.store.Committed().Index; ci > 0 {
		return fmt.Errorf("the state file %s holds entries up to %d and there is no log beside it (%s): "+
			"restore the directory from a snapshot, or remove it to start anew", o.db, ci, o.dirs.wal)
	}
	o.id, o.clusterID, o.others, o.unproven = g.id, g.clusterID, g.others, g.unproven
	o.beginning = uint64(len(g.founders))
	// Every file that etcd makes has an auth revision of 1 from its first moment; it is part of the whole file's hash.
	first := store.Op{Bucket: schema.Auth, Key: schema.AuthRevisionKey, Value: schema.PutUint64(1)}
	if err := o.store.PutLocal(first); err != nil {
		return err
	}
	if o.wal, err = wal.Create(d.FS, o.dirs.wal, wal.Metadata{NodeID: g.id, ClusterID: g.clusterID}, o.walOptions(cfg, d)); err != nil {
		return err
	}
	hs, ents, err := g.found(o.wal)
	if err != nil {
		return err
	}
	if o.log, err = raftloop.NewLog(hs, &raftpb.ConfState{}, wal.Mark{}, ents, 0); err != nil {
		return err
	}
	o.state = newState(cfg, d, o.store)
	_, err = apply.Load(o.store, o.state)
	return err
}

// reopen reads the log and the state of a member that has run before.
func (o *opened) reopen(cfg *config.Config, d Deps) error {
	c, w, err := wal.Open(d.FS, o.dirs.wal, o.walOptions(cfg, d))
	if err != nil {
		return err
	}
	o.wal, o.id, o.clusterID = w, c.NodeID, c.ClusterID
	if d.Discover != nil && begun(c, o.store) {
		d.Logger.Info("discovery is ignored: this member is initialized already and has its log", zap.String("wal-dir", o.dirs.wal))
	}
	if err := o.foundAgain(cfg, d, c); err != nil {
		return err
	}
	if err := o.adopt(d, c.Mark.Index); err != nil {
		return err
	}
	o.state = newState(cfg, d, o.store)
	if o.resume, err = apply.Load(o.store, o.state); err != nil {
		return err
	}
	if err := refuseNewer(o.store, o.state.Cluster.State()); err != nil {
		return err
	}
	if err := o.correctMembers(cfg, d, c); err != nil {
		return err
	}
	if cfg.Cluster.ForceNew {
		if err := o.forceNew(cfg, d, c); err != nil {
			return err
		}
		return o.join(c)
	}
	if o.state.Cluster.State().Removed[o.id] {
		return fmt.Errorf("member %x, %s: %w", o.id, cfg.Member.DataDir, ErrStaleDirectory)
	}
	if err := refuseForeign(cfg, o, d.Caller); err != nil {
		return err
	}
	// Founders' entries alone are of term 1: the first election begins term 2.
	if n := len(c.Entries); c.Mark.Index == 0 && n > 0 && c.Entries[n-1].GetTerm() == 1 {
		o.beginning, o.unproven = uint64(n), n > 1
	}
	if !begun(c, o.store) && cfg.Cluster.Existing {
		o.others = acquaint(cfg, o, d.Caller)
	}
	o.unreadable = apply.LastUnreadable(c.Entries, o.state.Cluster.State().Version)
	return o.join(c)
}

// begun tells whether anything has come into a log since it was made.
func begun(c *wal.Contents, s *store.Store) bool {
	return c.State.GetTerm() > 0 || c.State.GetCommit() > 0 || c.Mark.Index > 0 || s.Committed().Index > 0
}

// foundAgain writes the beginning of a founder's log that ends before it: the member was killed between the making of the
// log and its first sync. Without its founders it would never elect anybody. A log that is empty because its member joined
// and has not been reached yet stays so: its ID is none that founders have.
func (o *opened) foundAgain(cfg *config.Config, d Deps, c *wal.Contents) error {
	if begun(c, o.store) || cfg.Cluster.Existing {
		return nil
	}
	g, err := begin(cfg, d)
	for _, why := range []error{ErrBootstrapped, ErrWasRemoved, ErrOtherCluster} {
		if errors.Is(err, why) {
			return err
		}
	}
	if err != nil || g.id != o.id || g.clusterID != o.clusterID {
		d.Logger.Info("the log is empty, and not that of a founder of --initial-cluster", zap.Error(err))
		return nil
	}
	d.Logger.Info("the log was made and not begun: beginning it now")
	c.State, c.Entries, err = g.found(o.wal)
	return err
}

// adopt takes the state file of a snapshot that was received and recorded just before the member stopped.
func (o *opened) adopt(d Deps, recorded uint64) error {
	ci := o.store.Committed().Index
	if recorded <= ci {
		return nil
	}
	file := snap.DBPath(o.snap, recorded)
	if !snap.HasDB(d.FS, o.snap, recorded) {
		return fmt.Errorf("the log has a snapshot record at index %d, the state file %s ends at %d and %s is not there: "+
			"remove the member, wipe its directory and add it again", recorded, o.db, ci, filepath.Base(file))
	}
	if err := checkReceived(d.FS, o.snap, recorded); err != nil {
		return fmt.Errorf("%w: remove the member, wipe its directory and add it again", err)
	}
	d.Logger.Info("adopting a received snapshot", zap.Uint64("snapshot-index", recorded), zap.Uint64("consistent-index", ci))
	return o.store.Install(file)
}

// join sets raft's beginning from the log and the state file. Either may be ahead: what is committed is at least what
// the state file holds, as far as the log reaches.
func (o *opened) join(c *wal.Contents) error {
	ci := o.store.Committed()
	last := c.Mark.Index
	if n := len(c.Entries); n > 0 {
		last = c.Entries[n-1].GetIndex()
	}
	conf := o.state.Cluster.State().Conf
	if ci.Index > last && len(conf.Voters) == 1 && len(conf.VotersOutgoing) == 0 {
		return fmt.Errorf("%w: the log ends at %d, the state file at %d", ErrLogLost, last, ci.Index)
	}
	// The membership is that of the state file, so what this member ends with is too, even past the log's end.
	o.applied, o.recorded = mark{ci.Index, ci.Term}, mark{c.Mark.Index, c.Mark.Term}
	var err error
	o.log, err = raftloop.NewLog(c.State, conf, c.Mark, c.Entries, ci.Index)
	return err
}

// newState makes the empty state packages over a store.
func newState(cfg *config.Config, d Deps, s *store.Store) apply.State {
	kv := mvcc.New(s, mvcc.Options{})
	return apply.State{
		KV: kv, Auth: auth.New(),
		Leases:  lease.New(minLeaseTTL(cfg), d.Observe.Leases),
		Cluster: cluster.New(cluster.State{}),
		Alarms:  alarm.New(),
		Watch: watch.New(watch.Options{
			Clock: d.Clock, ProgressInterval: cfg.Limits.WatchProgress, Logger: d.Logger,
			FragmentBytes: int(cfg.Limits.RequestBytes) + fragmentOverheadBytes, Prev: valueAt(kv),
			OnEvents: d.Observe.Events,
		}, s),
	}
}

// fragmentOverheadBytes is what a watch response may be larger than a request before it is cut, where its watcher asked
// for that: etcd's.
const fragmentOverheadBytes = 512 << 10

// valueAt reads a key as of an old revision, for a watcher that wants to know what an event replaced.
func valueAt(kv *mvcc.Store) func(ctx context.Context, key []byte, rev int64) ([]byte, error) {
	return func(ctx context.Context, key []byte, rev int64) ([]byte, error) {
		r, err := kv.View().Range(ctx, mvcc.RangeOptions{Key: key, Rev: rev})
		if err != nil || len(r.KVs) == 0 {
			return nil, err
		}
		return r.KVs[0], nil
	}
}

// minLeaseTTL is the shortest TTL in seconds that makes sense: a lease must outlive an election by half. It is part of
// what applying means: members of a cluster should have equal time-outs, as etcd's should.
func minLeaseTTL(cfg *config.Config) int64 {
	return int64(math.Ceil(1.5 * cfg.Raft.Election.Seconds()))
}

func storeOptions(cfg *config.Config, d Deps, fail func(error)) store.Options {
	return store.Options{
		FreelistType: cfg.Storage.FreelistType, BatchInterval: cfg.Storage.BatchInterval, BatchLimit: cfg.Storage.BatchLimit,
		NoSync: cfg.Storage.NoSync, Mlock: cfg.Storage.Mlock,
		CompactionBatch: cfg.Compaction.BatchLimit, CompactionPause: cfg.Compaction.Sleep,
		Clock: d.Clock, Logger: d.Logger, OnFail: fail, OnCommit: d.Observe.StoreCommit, Observe: d.Observe.Store,
	}
}

func (o *opened) walOptions(cfg *config.Config, d Deps) wal.Options {
	return wal.Options{
		OnPrepare: func(err error) {
			if o.diskFull.Swap(err != nil) != (err != nil) {
				d.Logger.Warn("the disk has no room for the log's next segment: what would grow the store is refused until it has", zap.Error(err))
			}
		},
		SegmentBytes: d.SegmentBytes, MaxFiles: cfg.Storage.MaxWALs, NoSync: cfg.Storage.NoSync, Logger: d.Logger, Clock: d.Clock, OnFsync: d.Observe.LogSync,
		OnWrite: d.Observe.LogWrite,
	}
}

// close gives back what is open.
func (o *opened) close() {
	if o.state.Watch != nil {
		o.state.Watch.Close()
	}
	if o.wal != nil {
		_ = o.wal.Close()
	}
	_ = o.store.Close()
}
