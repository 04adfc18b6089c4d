package offline

import (
	"context"
	"errors"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/crypto/bcrypt"

	"keelson/internal/apply"
	"keelson/internal/kit/vfs"
	"keelson/internal/state/alarm"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/v2store"
	"keelson/internal/state/watch"
	"keelson/internal/storage/store"
)

// leaseTTLMin is the shortest TTL that members with etcd's default election time-out grant, in seconds.
const leaseTTLMin = 2

// runEntries is how many entries are executed before they go to the store.
const runEntries = 512

// catchUp executes the v3 requests that the log holds and the state file lacks: a member that was killed leaves some, and
// 3.4 does not count every one of them in its file.
func (d *v2dir) catchUp() (err error) {
	var todo []*raftpb.Entry
	for _, e := range d.log.Entries {
		if i := e.GetIndex(); i > d.file.Index && i <= d.end.Index && d.executes(e) {
			todo = append(todo, e)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	var failed error
	st, err := store.Open(vfs.OS, d.db, store.Options{Logger: d.Logger, Clock: d.Clock, OnFail: func(err error) { failed = err }})
	if err != nil {
		return explainDir(d.DataDir, err)
	}
	defer func() { err = errors.Join(err, st.Close(), failed) }()
	state := apply.State{
		KV: mvcc.New(st, mvcc.Options{}), Auth: auth.New(), Leases: lease.New(leaseTTLMin, lease.Observer{}),
		Cluster: cluster.New(cluster.State{}), Alarms: alarm.New(),
		Watch: watch.New(watch.Options{Clock: d.Clock, Logger: d.Logger}, st),
	}
	defer state.Watch.Close()
	if _, err := apply.Load(st, state); err != nil {
		return err
	}
	return execute(st, apply.New(state, apply.Options{MaxLearners: maxLearners, Hash: hashPassword}), todo)
}

// executes tells whether an entry changes what is in the state file. A file that does not name its version gets its members
// from the log as a whole.
func (d *v2dir) executes(e *raftpb.Entry) bool {
	switch {
	case e.GetType() == raftpb.EntryConfChange:
		return !d.unnamed
	case len(e.Data) == 0:
		return false
	case apply.IsV2(e):
		r, err := v2store.Parse(e.Data)
		return !d.unnamed && err == nil && r.Own()
	}
	return true
}

// execute runs entries and waits until the store has them.
func execute(st *store.Store, a *apply.Applier, ents []*raftpb.Entry) error {
	conf := func(cc *raftpb.ConfChange) *raftpb.ConfState { return apply.NextConf(a.Cluster.State().Conf, cc) }
	for i, e := range ents {
		var err error
		if e.GetType() == raftpb.EntryConfChange {
			_, _, err = a.ApplyConf(e, conf)
		} else {
			_, _, err = a.Apply(e, func(uint64) bool { return false })
		}
		if err != nil {
			return err
		}
		if i%runEntries == 0 || i == len(ents)-1 {
			st.Append(a.Flush())
		}
	}
	return st.Sync(context.Background(), ents[len(ents)-1].GetIndex())
}

// hashPassword is for entries of etcd before 3.5, which hold passwords as they are.
func hashPassword(password string) ([]byte, error) {
	return bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
}
