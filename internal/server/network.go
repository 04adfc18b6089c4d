package server

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/replica/peer"
)

// Network reaches the other members. peer.Transport is the real one; the simulation has its own.
type Network interface {
	// Send passes messages on without blocking. It may drop them; it reports a dropped snapshot to the
	// Receiver, always.
	Send(msgs []*raftpb.Message)
	// AddPeer, UpdatePeer and RemovePeer follow the membership. Adding one that is there, or removing one
	// that isn't, changes nothing.
	AddPeer(id uint64, peerURLs []string)
	UpdatePeer(id uint64, peerURLs []string)
	RemovePeer(id uint64)
	// ActiveSince tells since when the connection to a peer is up; zero: it is down.
	ActiveSince(id uint64) time.Time
	// Stop ends all connections and waits for its goroutines.
	Stop()
}

// Caller asks another member, by its peer URLs, something that is not raft's. Every method tries the URLs in order.
type Caller interface {
	// LeaseRenew renews a lease at the leader. lease.ErrNotFound where it isn't there.
	LeaseRenew(ctx context.Context, peerURLs []string, id int64) (ttl int64, err error)
	// LeaseTimeToLive asks the leader how long a lease has.
	LeaseTimeToLive(ctx context.Context, peerURLs []string, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error)
	// Version gives the server and cluster version that a member answers at /version.
	Version(ctx context.Context, peerURLs []string) (server, cluster string, err error)
	// DowngradeEnabled asks a member whether the cluster is on its way to an older version.
	DowngradeEnabled(ctx context.Context, peerURLs []string) (bool, error)
	// Members gives what a member answers at /members, and the cluster's ID.
	Members(ctx context.Context, peerURLs []string) (members []PeerMember, clusterID uint64, err error)
	// HashKV gives a member's hash of the revisions up to rev. mvcc.ErrFutureRev where it has not got there, mvcc.ErrCompacted
	// where it has forgotten them.
	HashKV(ctx context.Context, peerURLs []string, clusterID uint64, rev int64) (*pb.HashKVResponse, error)
	// Promote has the leader make a learner a voter and gives the members as they then are. token, if not empty, says for
	// whom. Errors of packages cluster and auth are the leader's verdict.
	Promote(ctx context.Context, peerURLs []string, id uint64, token string) ([]PeerMember, error)
}

// PeerMember, Receiver and NetworkParams are what package peer declares: a Network is made from them.
type (
	PeerMember    = peer.Member
	Receiver      = peer.Receiver
	NetworkParams = peer.Params
)

var (
	_ Network = (*peer.Transport)(nil)
	_ Caller  = (*peer.Caller)(nil)
)
