// Package apply executes the log. It is the only package that sees every state package: one committed entry goes in,
// one Result comes out, and everything the entry changed is in one store batch, in the event ring and in the next
// published view.
//
// It reads no clock, sends nothing and decides only on replicated state, so that every member that applies the same
// log reaches the same bytes. The local settings that etcd consults here all the same are in Options.
package apply

import (
	"errors"
	"fmt"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/wire"
	"keelson/internal/state/alarm"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/watch"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// The reasons why an entry is refused. Texts are etcd's.
var (
	// ErrNoSpace is returned while the NOSPACE alarm is active for what would grow the store.
	ErrNoSpace = errors.New("etcdserver: no space")
	// ErrCorrupt is returned while the CORRUPT alarm is active.
	ErrCorrupt = errors.New("etcdserver: corrupt cluster")
	// ErrKeyNotFound is returned for a put that keeps the value or lease of a key that is not there.
	ErrKeyNotFound = errors.New("etcdserver: key not found")
	// ErrNewerCluster is fatal: the cluster decided for a version above this program's.
	ErrNewerCluster = errors.New("invalid downgrade; server version is lower than determined cluster version")
	// ErrUnknownRequest is fatal: the entry asks for something that this version can't do, and a member
	// that skipped it would differ from the others for ever.
	ErrUnknownRequest = errors.New("apply: the log holds a request that this version does not know")
)

// Result is what came of one entry.
type Result struct {
	// Resp is the answer, of the request's own type: *wire.PutResponse, *wire.DeleteRangeResponse,
	// *wire.TxnResponse or a message of etcdserverpb. Of its header only the revision is filled in.
	Resp any
	// Err is why the request was refused; the others refused it too.
	Err error
	// Compacted is the revision that a compaction reached, 0 for anything else.
	Compacted int64
}

// State is all that entries change.
type State struct {
	KV      *mvcc.Store
	Leases  *lease.Table
	Cluster *cluster.Cluster
	Alarms  *alarm.Set
	Auth    *auth.Store
	Watch   *watch.Hub
}

// Options are the local settings that etcd consults while applying.
type Options struct {
	// MaxLearners is how many learners the cluster may have.
	MaxLearners int
	// PersistCheckpoints stores lease checkpoints even below cluster version 3.6.
	PersistCheckpoints bool
	// Tokens is told of tokens; nil: nobody is.
	Tokens Tokens
	// Hash hashes the passwords in entries of etcd before 3.5; nil: they are refused.
	Hash auth.Hasher
}

// Asked is what an entry asks for, and the name of that, empty where it asks for nothing that has one.
type Asked struct {
	Name    string
	Request *pb.InternalRaftRequest
}

// Applier executes entries. One goroutine at a time calls it.
type Applier struct {
	State
	// Grown counts the entries so far that may have made the store larger. Anybody may read it.
	Grown atomic.Uint64

	// Last is what the last entry asked for; its request is used again for the next one.
	Last  Asked
	o     Options
	batch *store.Batch
	index uint64                 // of the entry at hand
	guard Guard                  // asked about the entry at hand
	req   pb.InternalRaftRequest // the request of the entry at hand: half a kilobyte of pointers, used again
}

// New gives an Applier over s.
func New(s State, o Options) *Applier {
	if s.Auth == nil {
		s.Auth = auth.New()
	}
	if o.Tokens == nil {
		o.Tokens = noTokens{}
	}
	if o.Hash == nil {
		o.Hash = noHasher
	}
	return &Applier{State: s, o: o, batch: &store.Batch{}}
}

// Apply executes one committed entry that is not a conf change. It gives the request's ID (0 for an empty entry).
// wanted tells whether somebody here waits for that ID: if nobody does, answers are not made. An error is fatal.
func (a *Applier) Apply(e *raftpb.Entry, wanted func(id uint64) bool) (uint64, Result, error) {
	defer a.mark(e)
	a.Last = Asked{}
	a.index = e.GetIndex()
	if len(e.Data) == 0 {
		return 0, Result{}, nil
	}
	req := &a.req
	*req = pb.InternalRaftRequest{}
	if err := wire.DecodeInternalRequest(e.Data, req); err != nil || legacy(req) {
		return 0, Result{}, a.applyV2(e)
	}
	id := req.GetHeader().GetID()
	if id == 0 {
		id = req.ID
	}
	if err := refuseNewer(req); err != nil {
		return id, Result{}, fmt.Errorf("%w: entry %d", err, e.GetIndex())
	}
	k := kindOf(req)
	if k == nil {
		return id, Result{}, fmt.Errorf("%w: entry %d, %s", ErrUnknownRequest, e.GetIndex(), req)
	}
	a.Last = Asked{k.name, req}
	if err := a.allowed(k, req); err != nil {
		return id, Result{Err: err}, nil
	}
	return id, k.run(a, req, wanted(id)), nil
}

// mark makes the batch end at e.
func (a *Applier) mark(e *raftpb.Entry) { a.batch.Index, a.batch.Term = e.GetIndex(), e.GetTerm() }

// allowed checks what replicated state forbids, in one order: the corrupt alarm, the no-space alarm, what the caller may do.
func (a *Applier) allowed(k *kind, req *pb.InternalRaftRequest) error {
	if k.data && a.Alarms.Active(pb.AlarmType_CORRUPT) {
		return ErrCorrupt
	}
	grows := k.grows != nil && k.grows(req)
	if grows && a.Alarms.Active(pb.AlarmType_NOSPACE) {
		return ErrNoSpace
	}
	if v := a.Auth.Now(); v.Enabled() {
		h := req.GetHeader()
		a.guard = Guard{View: v, Caller: auth.Caller{User: h.GetUsername(), Revision: h.GetAuthRevision()}, Leases: a.Leases}
		if err := k.may(&a.guard, req); err != nil {
			return err
		}
	}
	if grows {
		a.Grown.Add(1)
	}
	return nil
}

// Flush ends a run of entries: it publishes what they changed to readers and watchers and hands over their batch,
// nil if there was none. Nobody may be answered before it has returned.
func (a *Applier) Flush() *store.Batch {
	if a.batch.Index == 0 {
		return nil
	}
	b := a.batch
	b.Rev = a.KV.Rev()
	a.batch = &store.Batch{}
	a.KV.SetBeside(a.Auth.Now())
	a.KV.Publish()
	a.Watch.Publish(a.KV.Rev())
	return b
}

// commit ends a transaction: its changes go to the batch, the leases and the event ring.
func (a *Applier) commit(tx *mvcc.Txn) {
	changes := tx.End()
	if len(changes) == 0 {
		return
	}
	for i := range changes {
		c := &changes[i]
		a.batch.Put(schema.Key, schema.RevisionKey(c.Rev, c.Delete), c.Stored())
		if c.PrevLease != c.Lease {
			if c.PrevLease != 0 {
				a.Leases.Detach(c.PrevLease, c.Key)
			}
			if c.Lease != 0 {
				a.Leases.Attach(c.Lease, c.Key)
			}
		}
	}
	a.Watch.Append(changes)
}
