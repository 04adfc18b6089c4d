package server

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/wire"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/mvcc"
)

// identity is who answers: every answer's header comes from here.
type identity struct {
	id, clusterID uint64
	loop          *raftloop.Loop
	view          func() *mvcc.View
}

// ID gives the member's ID, ClusterID the cluster's.
func (i identity) ID() uint64        { return i.id }
func (i identity) ClusterID() uint64 { return i.clusterID }

// Header gives a header at the revision that is published now.
func (i identity) Header() wire.Header { return *i.header(i.view().Rev()) }

func (i identity) header(rev int64) *wire.Header {
	return &wire.Header{ClusterID: i.clusterID, MemberID: i.id, Revision: rev, Term: i.loop.Status().Term}
}

// fill completes a header that apply made: it knows the revision alone.
func (i identity) fill(h *wire.Header) {
	h.ClusterID, h.MemberID, h.Term = i.clusterID, i.id, i.loop.Status().Term
}

func (i identity) fillPB(h *pb.ResponseHeader) {
	h.ClusterId, h.MemberId, h.RaftTerm = i.clusterID, i.id, i.loop.Status().Term
}

// headerPB gives a header at the revision that is published now, for messages that are not encoded by hand.
func (i identity) headerPB() *pb.ResponseHeader {
	h := &pb.ResponseHeader{Revision: i.view().Rev()}
	i.fillPB(h)
	return h
}
