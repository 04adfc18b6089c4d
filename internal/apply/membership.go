package apply

import (
	"fmt"
	"slices"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/state/alarm"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// ConfResult is what came of a conf change.
type ConfResult struct {
	Change cluster.Change
	// Member is the changed member as it is now, or, removed, as it was.
	Member schema.Member
	// Err is why the change was refused. Raft then made none.
	Err error
}

// ApplyConf executes a committed conf change. change hands it to raft and gives raft's new configuration; a refused
// change is handed over with no member, which raft takes as none. An error is fatal.
func (a *Applier) ApplyConf(e *raftpb.Entry, change func(*raftpb.ConfChange) *raftpb.ConfState) (id uint64, res ConfResult, err error) {
	defer a.mark(e)
	cc, err := decodeConfChange(e)
	if err != nil {
		return 0, res, err
	}
	if res.Change, err = cluster.DecodeChange(cc); err != nil {
		return 0, res, fmt.Errorf("apply: entry %d: %w", e.GetIndex(), err)
	}
	if res.Err = a.Cluster.State().Validate(res.Change, a.o.MaxLearners); res.Err != nil {
		cc.NodeId = new(uint64(0))
		change(cc)
		return cc.GetId(), res, nil
	}
	cs := change(cc)
	res.Member = a.Cluster.Apply(res.Change)
	a.Cluster.SetConf(cs)
	a.batch.Put(schema.Meta, schema.ConfStateKey, schema.ConfStateJSON(cs))
	if res.Change.Type == raftpb.ConfChangeRemoveNode {
		a.batch.Delete(schema.Members, schema.MemberKey(res.Member.ID))
		a.batch.Put(schema.MembersRemoved, schema.MemberKey(res.Member.ID), schema.Removed)
		return cc.GetId(), res, nil
	}
	saveMember(a.batch, res.Member)
	return cc.GetId(), res, nil
}

func decodeConfChange(e *raftpb.Entry) (*raftpb.ConfChange, error) {
	if e.GetType() != raftpb.EntryConfChange {
		return nil, fmt.Errorf("%w: entry %d is of type %v", ErrUnknownRequest, e.GetIndex(), e.GetType())
	}
	cc := &raftpb.ConfChange{}
	if err := proto.Unmarshal(e.Data, cc); err != nil {
		return nil, fmt.Errorf("apply: read the conf change in entry %d: %w", e.GetIndex(), err)
	}
	return cc, nil
}

// NextConf gives raft's configuration after a conf change, for those who execute one without raft.
func NextConf(now *raftpb.ConfState, cc *raftpb.ConfChange) *raftpb.ConfState {
	cs := proto.Clone(now).(*raftpb.ConfState)
	id := cc.GetNodeId()
	if id == 0 || cc.GetType() == raftpb.ConfChangeUpdateNode {
		return cs
	}
	other := func(o uint64) bool { return o == id }
	cs.Voters, cs.Learners = slices.DeleteFunc(cs.Voters, other), slices.DeleteFunc(cs.Learners, other)
	switch cc.GetType() {
	case raftpb.ConfChangeAddNode:
		cs.Voters = append(cs.Voters, id)
		slices.Sort(cs.Voters)
	case raftpb.ConfChangeAddLearnerNode:
		cs.Learners = append(cs.Learners, id)
		slices.Sort(cs.Learners)
	}
	return cs
}

func saveMember(b *store.Batch, m schema.Member) {
	b.Put(schema.Members, schema.MemberKey(m.ID), schema.EncodeMember(m))
}

func (a *Applier) memberAttributes(r *pb.InternalRaftRequest, _ bool) Result {
	req := r.ClusterMemberAttrSet
	attr := req.GetMemberAttributes()
	return a.setAttributes(req.Member_ID, attr.GetName(), attr.GetClientUrls())
}

// setAttributes records what a member published of itself. One that was removed meanwhile is passed over.
func (a *Applier) setAttributes(id uint64, name string, clientURLs []string) Result {
	m, ok := a.Cluster.SetAttributes(id, name, clientURLs)
	if !ok {
		return Result{}
	}
	saveMember(a.batch, m)
	return Result{}
}

// refuseNewer refuses a cluster version that this program can't follow. It depends on the program alone, and ends it.
func refuseNewer(r *pb.InternalRaftRequest) error {
	if r.ClusterVersionSet == nil {
		return nil
	}
	own := semver.New(version.Version)
	if v, err := semver.NewVersion(r.ClusterVersionSet.GetVer()); err != nil {
		return fmt.Errorf("apply: the cluster version %q: %w", r.ClusterVersionSet.GetVer(), err)
	} else if own.LessThan(*v) {
		return fmt.Errorf("%w: this is %s, the cluster version is set to %s", ErrNewerCluster, own, v)
	}
	return nil
}

func (a *Applier) clusterVersion(r *pb.InternalRaftRequest, _ bool) Result {
	return a.setVersion(r.ClusterVersionSet.GetVer())
}

func (a *Applier) setVersion(v string) Result {
	a.Cluster.SetVersion(v)
	a.batch.Put(schema.Cluster, schema.ClusterVersionKey, []byte(v))
	return Result{}
}

func (a *Applier) downgradeInfo(r *pb.InternalRaftRequest, _ bool) Result {
	d := schema.Downgrade{Enabled: r.DowngradeInfoSet.GetEnabled()}
	if d.Enabled {
		d.TargetVersion = r.DowngradeInfoSet.GetVer()
	}
	a.Cluster.SetDowngrade(d)
	a.batch.Put(schema.Cluster, schema.DowngradeKey, schema.EncodeDowngrade(d))
	return Result{}
}

// alarm raises, clears or lists alarms. Raising one that is raised changes nothing and is answered alike; clearing one that
// isn't, and an unknown action, are answered with nothing.
func (a *Applier) alarm(r *pb.InternalRaftRequest, _ bool) Result {
	req := r.Alarm
	resp := &pb.AlarmResponse{Header: a.header()}
	one := []*pb.AlarmMember{{MemberID: req.MemberID, Alarm: req.Alarm}}
	switch req.Action {
	case pb.AlarmRequest_GET:
		resp.Alarms = a.Alarms.List(req.Alarm)
	case pb.AlarmRequest_ACTIVATE:
		if req.Alarm == pb.AlarmType_NONE {
			break
		}
		if a.Alarms.Activate(req.MemberID, req.Alarm) {
			a.batch.Put(schema.Alarm, alarm.Key(req.MemberID, req.Alarm), nil)
		}
		resp.Alarms = one
	case pb.AlarmRequest_DEACTIVATE:
		if a.Alarms.Deactivate(req.MemberID, req.Alarm) {
			a.batch.Delete(schema.Alarm, alarm.Key(req.MemberID, req.Alarm))
			resp.Alarms = one
		}
	}
	return Result{Resp: resp}
}
