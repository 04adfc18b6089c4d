package apply

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/wire"
	"keelson/internal/state/cluster"
)

// Members gives the membership and cluster version that follow from a log alone: from, as it was at the log's start,
// changed by what ents say of members and version, and by nothing else in them. Raft's configuration stays from's.
func Members(from cluster.State, ents []*raftpb.Entry, maxLearners int) (cluster.State, error) {
	a := New(State{Cluster: cluster.New(from)}, Options{MaxLearners: maxLearners})
	same := func(*raftpb.ConfChange) *raftpb.ConfState { return from.Conf }
	for _, e := range ents {
		var err error
		switch {
		case e.GetType() == raftpb.EntryConfChange:
			_, _, err = a.ApplyConf(e, same)
		case ofMembers(e):
			_, _, err = a.Apply(e, func(uint64) bool { return false })
		}
		if err != nil {
			return from, fmt.Errorf("apply: follow the members through the log: %w", err)
		}
	}
	return *a.Cluster.State(), nil
}

// ofMembers tells whether an entry publishes a member's attributes or the cluster's version.
func ofMembers(e *raftpb.Entry) bool {
	if len(e.Data) == 0 {
		return false
	}
	var req pb.InternalRaftRequest
	if err := wire.DecodeInternalRequest(e.Data, &req); err != nil || legacy(&req) {
		return true
	}
	return req.ClusterVersionSet != nil || req.ClusterMemberAttrSet != nil
}
