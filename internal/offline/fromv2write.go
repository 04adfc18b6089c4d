package offline

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/vfs"
	"keelson/internal/kit/wire"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// v2edit is the transaction that writes a conversion.
type v2edit struct {
	*store.Edit
	*conversion
	dir *v2dir
	now time.Time
	rev int64 // the newest
	any bool  // the store has had keys
	// have are the live v3 keys with the names of the conversion's.
	have map[string][]byte
	made map[int64]bool
	done int64 // bytes of keys, for the picture of how far it is
	all  int64
}

// write writes the conversion, and that the file reaches to the log's end.
func (d *v2dir) write(p *conversion) error {
	w := &v2edit{conversion: p, dir: d, now: d.Clock.Now(), have: map[string][]byte{}, made: map[int64]bool{}}
	defer d.Progress.End()
	return store.EditFile(d.db, waitForSnapshot, 0, func(e *store.Edit) error {
		w.Edit = e
		for _, step := range []func() error{w.look, w.pick, w.put, w.clear, w.reach} {
			if err := step(); err != nil {
				return err
			}
		}
		w.moved.Revision = w.rev
		return nil
	})
}

// look finds the newest revision, and the live keys whose names the conversion has.
func (w *v2edit) look() (err error) {
	if w.rev, err = w.LastRev(); err != nil {
		return err
	}
	scheduled, err := w.Get(schema.Meta, schema.ScheduledCompactKey)
	if err != nil {
		return err
	}
	if scheduled != nil {
		rev, _, err := schema.ParseRevisionKey(scheduled)
		if err != nil {
			return err
		}
		w.rev = max(w.rev, rev.Main)
	}
	w.any, w.rev = w.rev > 0, max(w.rev, 1) // the revision of a store without keys is 1
	wanted := make(map[string]bool, len(w.kvs))
	for _, kv := range w.kvs {
		wanted[string(kv.Key)] = true
	}
	return w.ForEach(schema.Key, func(k, v []byte) error {
		_, tombstone, err := schema.ParseRevisionKey(k)
		if err != nil {
			return err
		}
		kv, err := wire.ParseKeyValue(v)
		if err != nil || !wanted[string(kv.Key)] {
			return err
		}
		if tombstone {
			delete(w.have, string(kv.Key))
		} else {
			w.have[string(kv.Key)] = append(make([]byte, 0, len(kv.Value)), kv.Value...) // not nil
		}
		return nil
	})
}

// pick leaves out the keys that are there, and gives the others their revisions.
func (w *v2edit) pick() error {
	w.kvs = slices.DeleteFunc(w.kvs, func(kv wire.KeyValue) bool {
		v, ok := w.have[string(kv.Key)]
		switch {
		case !ok:
			return false
		case bytes.Equal(v, kv.Value):
			w.moved.Same++
		default:
			w.moved.Kept = append(w.moved.Kept, string(kv.Key))
		}
		return true
	})
	slices.SortStableFunc(w.kvs, func(a, b wire.KeyValue) int { return cmp.Compare(a.Mod, b.Mod) })
	w.kvs = lastOfEach(w.kvs)
	if w.any || asGiven(w.kvs) != nil {
		inTurn(w.kvs, w.rev)
	}
	for _, kv := range w.kvs {
		w.all += int64(len(kv.Key) + len(kv.Value))
	}
	return nil
}

// lastOfEach leaves out what a later one with the same name would replace: a transformer may make a key twice.
func lastOfEach(kvs []wire.KeyValue) []wire.KeyValue {
	last := make(map[string]int, len(kvs))
	for i, kv := range kvs {
		last[string(kv.Key)] = i
	}
	if len(last) == len(kvs) {
		return kvs
	}
	i := -1
	return slices.DeleteFunc(kvs, func(kv wire.KeyValue) bool {
		i++
		return last[string(kv.Key)] != i
	})
}

// put writes the keys and the leases that they need.
func (w *v2edit) put() error {
	for _, kv := range w.kvs {
		if l := w.lives[string(kv.Key)]; l != nil && kv.Lease == 0 {
			kv.Lease = l.lease
			if err := w.lease(l); err != nil {
				return err
			}
		}
		if err := w.Put(schema.Key, schema.RevisionKey(schema.Revision{Main: kv.Mod}, false), wire.AppendKeyValue(nil, kv)); err != nil {
			return err
		}
		w.rev = max(w.rev, kv.Mod)
		w.moved.Keys++
		w.done += int64(len(kv.Key) + len(kv.Value))
		w.dir.Progress.At(w.done, w.all)
	}
	return nil
}

// lease makes the lease of an expiry, if it is not there.
func (w *v2edit) lease(l *life) error {
	key := schema.LeaseKey(l.lease)
	if old, err := w.Get(schema.Lease, key); err != nil || old != nil {
		return err
	}
	w.moved.Leases++
	return w.Put(schema.Lease, key, schema.AppendLease(nil, l.lease, ttl(l.at, w.now), 0))
}

// clear deletes Keelson's v2 keys, each in a revision of its own. Those whose names v3 has with other values stay, in their
// directories.
func (w *v2edit) clear() error {
	stay := map[string]bool{}
	for _, name := range w.moved.Kept {
		for p := name; p != "/" && p != "."; p = path.Dir(p) {
			stay[w.dir.Prefix.Node(p)] = true
		}
	}
	for _, key := range w.inner {
		if stay[key] {
			continue
		}
		w.rev++
		tombstone := wire.AppendKeyValue(nil, wire.KeyValue{Key: []byte(key)})
		if err := w.Put(schema.Key, schema.RevisionKey(schema.Revision{Main: w.rev}, true), tombstone); err != nil {
			return err
		}
	}
	return nil
}

// reach says that the file holds everything up to the last entry that counts: the v2 requests among them are done with. Only
// a directory whose log begins anew is told so.
func (w *v2edit) reach() error {
	d := w.dir
	if !d.held {
		return nil
	}
	if err := w.Put(schema.Meta, schema.ConsistentIndexKey, schema.PutUint64(d.end.Index)); err != nil {
		return err
	}
	// Files of 3.4 have neither of these.
	for _, m := range []struct{ key, value []byte }{
		{schema.TermKey, schema.PutUint64(d.end.Term)},
		{schema.ConfStateKey, schema.ConfStateJSON(d.members.State().Conf)},
	} {
		old, err := w.Get(schema.Meta, m.key)
		if err != nil {
			return err
		}
		if old != nil {
			if err := w.Put(schema.Meta, m.key, m.value); err != nil {
				return err
			}
		}
	}
	if !d.unnamed {
		return nil
	}
	return w.setMembers(d.members.State())
}

// setMembers writes the members that .snap and log say.
func (w *v2edit) setMembers(st *cluster.State) error {
	var gone []uint64
	err := w.ForEach(schema.Members, func(k, _ []byte) error {
		id, err := schema.ParseMemberKey(k)
		if _, ok := st.Member(id); !ok {
			gone = append(gone, id)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range gone {
		if err := w.Delete(schema.Members, schema.MemberKey(id)); err != nil {
			return err
		}
	}
	for _, m := range st.Members {
		if err := w.Put(schema.Members, schema.MemberKey(m.ID), schema.EncodeMember(m)); err != nil {
			return err
		}
	}
	for id := range st.Removed {
		if err := w.Put(schema.MembersRemoved, schema.MemberKey(id), schema.Removed); err != nil {
			return err
		}
	}
	return nil
}

// begin has the log begin behind the last entry that counts, in the order in which members rely on it: the state file
// reaches there; then the .snap file; then the commit index; then the record.
func (d *v2dir) begin() error {
	if !d.held {
		return nil
	}
	st := d.members.State()
	v2 := snap.V2Members{Members: st.Members, ClusterVersion: st.Version}
	for id := range st.Removed {
		v2.Removed = append(v2.Removed, id)
	}
	slices.Sort(v2.Removed)
	if err := d.setAside(); err != nil {
		return err
	}
	s := snap.Snapshot{Index: d.end.Index, Term: d.end.Term, ConfState: st.Conf, Data: snap.EncodeV2(v2)}
	if err := snap.Save(vfs.OS, d.snap, s); err != nil {
		return err
	}
	if d.end.Index == d.log.Mark.Index {
		return nil
	}
	state := proto.Clone(d.log.State).(*raftpb.HardState)
	state.Commit = new(max(state.GetCommit(), d.end.Index))
	state.Term = new(max(state.GetTerm(), d.end.Term))
	if err := d.wal.Append(wal.Batch{State: state}); err != nil {
		return err
	}
	if err := d.wal.Append(wal.Batch{Mark: &wal.Mark{Index: d.end.Index, Term: d.end.Term, ConfState: st.Conf}}); err != nil {
		return err
	}
	return d.wal.Sync()
}

// asideSuffix names a .snap file with v2 keys that another one takes the place of. No member looks at it.
const asideSuffix = ".v2"

// setAside keeps the .snap file in whose place another comes, where nothing was logged since it was made.
func (d *v2dir) setAside() error {
	if d.end.Index != d.log.Mark.Index {
		return nil
	}
	name := filepath.Join(d.snap, fmt.Sprintf("%016x-%016x.snap", d.end.Term, d.end.Index))
	d.Logger.Info("the newest snapshot holds v2 keys: it is kept under another name", zap.String("path", name+asideSuffix))
	if err := os.Link(name, name+asideSuffix); err != nil && !os.IsExist(err) {
		return err
	}
	return nil
}
