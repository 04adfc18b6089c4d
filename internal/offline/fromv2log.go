package offline

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/apply"
	"keelson/internal/kit/vfs"
	"keelson/internal/kit/wire"
	"keelson/internal/state/cluster"
	"keelson/internal/state/v2store"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
)

// maxLearners is etcd's default for how many learners may be added.
const maxLearners = 1

// past is what .snap file and log say.
type past struct {
	tree    *v2store.Store
	members *cluster.Cluster
	// since is the entry that members were taken at.
	since uint64
	// end is the last entry that counts.
	end store.Mark
	// held is set where .snap or log hold what members of 3.6 and newer do not read; auth, where v2 users or roles are in it.
	held, auth bool
}

// begun sets where the replay begins: the tree and the members of the .snap file that the log names; the members of the
// state file, where that is believed.
func (d *v2dir) begun(f *store.ReadOnly) error {
	d.tree, d.end, d.since = v2store.New(), store.Mark{Index: d.log.Mark.Index, Term: d.log.Mark.Term}, d.log.Mark.Index
	version, err := f.Get(schema.Meta, schema.StorageVersionKey)
	if err != nil {
		return err
	}
	d.unnamed = len(version) == 0
	if d.file.Index < d.log.Mark.Index {
		return fmt.Errorf("%w: the log begins behind entry %d, and the state file ends at %d: start the member once more with the version that ran it, and stop it",
			ErrBehind, d.log.Mark.Index, d.file.Index)
	}
	from, err := d.snapshot()
	if err != nil {
		return err
	}
	if !d.unnamed {
		if from, err = apply.LoadCluster(f); err != nil {
			return err
		}
		d.since = d.file.Index
	}
	d.members = cluster.New(from)
	return nil
}

// snapshotBytesMax bounds a .snap file with users' keys: a tree of a million keys takes some hundred MiB.
const snapshotBytesMax = 4 << 30

// snapshot reads the .snap file that the log names.
func (d *v2dir) snapshot() (cluster.State, error) {
	none := cluster.State{Removed: map[uint64]bool{}}
	mark := d.log.Mark
	if mark.Index == 0 {
		return none, nil
	}
	s, err := snap.LoadLarge(vfs.OS, d.snap, snapshotBytesMax, func(index, term uint64) bool { return index == mark.Index && term == mark.Term })
	if errors.Is(err, snap.ErrNone) && !d.unnamed {
		return none, nil // 3.7 and newer start without one
	}
	if err != nil {
		return none, fmt.Errorf("%w: the log begins behind entry %d, whose .snap file it needs: %w", ErrBehind, mark.Index, err)
	}
	if d.tree, err = v2store.Load(s.Data); err != nil {
		return none, fmt.Errorf("read the snapshot at entry %d: %w", mark.Index, err)
	}
	d.held = d.users()
	return membersIn(s.Data)
}

// users tells whether the tree holds anything but the cluster's own.
func (d *v2dir) users() (held bool) {
	for _, p := range []string{v2store.Keys, v2store.Auth} {
		_ = d.tree.Walk(p, func(v2store.Node) error { // the walk's own errors alone
			held = true
			return nil
		})
	}
	return held
}

// membersIn reads the members in a .snap file.
func membersIn(data []byte) (cluster.State, error) {
	st := cluster.State{Removed: map[uint64]bool{}}
	v2, err := snap.DecodeMembers(data)
	if err != nil {
		return st, err
	}
	st.Members, st.Version, st.Conf = v2.Members, v2.ClusterVersion, apply.ConfOf(v2.Members)
	for _, id := range v2.Removed {
		st.Removed[id] = true
	}
	return st, nil
}

// replay brings tree and members to the last entry that counts: what is committed, and, where this is the only voter,
// everything.
func (d *v2dir) replay() error {
	commit := max(d.log.State.GetCommit(), d.file.Index)
	for i, e := range d.log.Entries {
		if e.GetIndex() > commit && !d.alone() {
			return d.uncommitted(d.log.Entries[i:])
		}
		if err := d.entry(e); err != nil {
			return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
		}
		d.end = store.Mark{Index: e.GetIndex(), Term: e.GetTerm()}
	}
	if d.file.Index > d.end.Index {
		return fmt.Errorf("%w: the log ends at entry %d, and the state file at %d: start the member once more with the version that ran it, and stop it",
			ErrBehind, d.end.Index, d.file.Index)
	}
	_ = d.tree.Walk(v2store.Auth, func(n v2store.Node) error { // the walk's own errors alone
		d.auth = d.auth || !n.Dir
		return nil
	})
	return nil
}

// alone tells whether this member is the only voter, which commits whatever is in its log.
func (d *v2dir) alone() bool {
	voters := d.members.State().Conf.GetVoters()
	return len(voters) == 1 && voters[0] == d.log.NodeID
}

// uncommitted refuses a log whose uncommitted end holds v2 requests of users.
func (d *v2dir) uncommitted(ents []*raftpb.Entry) error {
	for _, e := range ents {
		if !apply.IsV2(e) {
			continue
		}
		if r, err := v2store.Parse(e.Data); err != nil || !r.Own() {
			return fmt.Errorf("%w: %d entries from %d on; start all members once more with the version that ran them, and stop them when nobody writes",
				ErrUncommitted, len(ents), ents[0].GetIndex())
		}
	}
	return nil
}

// entry follows one entry.
func (d *v2dir) entry(e *raftpb.Entry) error {
	switch {
	case e.GetType() == raftpb.EntryConfChange:
		return d.confChange(e)
	case len(e.Data) == 0:
		return nil
	case !apply.IsV2(e):
		return d.published(e)
	}
	r, err := v2store.Parse(e.Data)
	if err != nil {
		return err
	}
	d.held = d.held || !r.Own()
	if r.Method == v2store.MethodPut {
		if own, err := d.publish(&r, e.GetIndex()); own || err != nil {
			return err
		}
	}
	if err := d.tree.Apply(&r); err != nil && !errors.Is(err, v2store.ErrRefused) {
		return err
	}
	return nil
}

// v2Attributes is the path that a member publishes itself at; what another one is, is a key like any.
var v2Attributes = regexp.MustCompile(`^/0/members/([[:xdigit:]]{1,16})/attributes$`)

const v2Version = "/0/version"

// publish follows a request that publishes a member or the cluster's version, whatever else it asks for. Of a member that
// is gone nothing is written.
func (d *v2dir) publish(r *v2store.Request, index uint64) (own bool, err error) {
	if r.PrevExist != nil || r.PrevIndex > 0 || r.PrevValue != "" {
		return false, nil
	}
	if m := v2Attributes.FindStringSubmatch(r.Path); m != nil {
		id, err := strconv.ParseUint(m[1], 16, 64)
		if err != nil {
			return true, err
		}
		var attr attributes
		if err := json.Unmarshal([]byte(r.Value), &attr); err != nil {
			return true, fmt.Errorf("attributes in %s: %w", r.Path, err)
		}
		return true, d.attributes(index, id, attr)
	}
	if r.Path == v2Version {
		return true, d.version(index, r.Value)
	}
	return false, nil
}

// published follows the v3 requests with the same meaning, which 3.5 knows too.
func (d *v2dir) published(e *raftpb.Entry) error {
	var req pb.InternalRaftRequest
	if err := wire.DecodeInternalRequest(e.Data, &req); err != nil {
		return err
	}
	if set := req.ClusterVersionSet; set != nil {
		return d.version(e.GetIndex(), set.GetVer())
	}
	if set := req.ClusterMemberAttrSet; set != nil {
		a := set.GetMemberAttributes()
		return d.attributes(e.GetIndex(), set.Member_ID, attributes{a.GetName(), a.GetClientUrls()})
	}
	return nil
}

// attributes is what a member publishes of itself.
type attributes struct {
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

func (d *v2dir) attributes(index, id uint64, attr attributes) error {
	if _, known := d.members.State().Member(id); !known {
		return nil
	}
	if index > d.since {
		d.members.SetAttributes(id, attr.Name, attr.ClientURLs)
	}
	value, err := json.Marshal(attr)
	if err != nil {
		return err
	}
	return d.own(v2store.Request{Method: v2store.MethodPut, Path: memberDir(id) + "/attributes", Value: string(value)})
}

func (d *v2dir) version(index uint64, version string) error {
	if index > d.since {
		d.members.SetVersion(version)
	}
	return d.own(v2store.Request{Method: v2store.MethodPut, Path: v2Version, Value: version})
}

func memberDir(id uint64) string { return v2store.Cluster + "/members/" + strconv.FormatUint(id, 16) }

// own changes the cluster's part of the tree, as 3.4 does beside what it keeps of members elsewhere: each counts in the index.
func (d *v2dir) own(reqs ...v2store.Request) error {
	for i := range reqs {
		if err := d.tree.Apply(&reqs[i]); err != nil && !errors.Is(err, v2store.ErrRefused) {
			return err
		}
	}
	return nil
}

// accepts tells whether members that applied a change followed it.
func (d *v2dir) accepts(ch cluster.Change) bool {
	return d.members.State().Validate(ch, maxLearners) == nil
}

// confChange follows a change of members.
func (d *v2dir) confChange(e *raftpb.Entry) error {
	cc := &raftpb.ConfChange{}
	if err := proto.Unmarshal(e.Data, cc); err != nil {
		return err
	}
	ch, err := cluster.DecodeChange(cc)
	if err != nil {
		return err
	}
	if e.GetIndex() <= d.since {
		return nil // of a state file that is believed
	}
	if !d.accepts(ch) {
		return nil // members did nothing about it either
	}
	m := d.members.Apply(ch)
	d.members.SetConf(apply.ConfOf(d.members.State().Members))
	dir := memberDir(m.ID)
	if cc.GetType() == raftpb.ConfChangeRemoveNode {
		return d.own(
			v2store.Request{Method: v2store.MethodDelete, Path: dir, Dir: true, Recursive: true},
			v2store.Request{Method: v2store.MethodPut, Path: path.Join(v2store.Cluster, "removed_members", path.Base(dir))},
		)
	}
	raft, err := json.Marshal(struct {
		PeerURLs  []string `json:"peerURLs"`
		IsLearner bool     `json:"isLearner,omitempty"`
	}{m.PeerURLs, m.IsLearner})
	if err != nil {
		return err
	}
	return d.own(v2store.Request{Method: v2store.MethodPut, Path: dir + "/raftAttributes", Value: string(raft)})
}
