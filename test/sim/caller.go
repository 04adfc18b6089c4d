package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"

	"keelson/internal/server"
	"keelson/internal/state/auth"
)

// errRefused is returned for a call to a member that is down or cut off.
var errRefused = errors.New("sim: connection refused")

// caller asks other members over the same network that carries raft's messages.
type caller struct {
	cluster *cluster
	from    *node
}

var _ server.Caller = caller{}

// reach finds the member behind the URLs and takes the way there.
func (c caller) reach(ctx context.Context, urls []string) (*server.Member, func() error, error) {
	for _, l := range c.cluster.alive() {
		if !slices.Contains(urls, l.end.url) {
			continue
		}
		if !c.travel(ctx, c.from, l.node) || l.dead.Load() {
			break
		}
		return l.member, func() error {
			if l.dead.Load() || !c.travel(ctx, l.node, c.from) {
				return errRefused
			}
			return nil
		}, nil
	}
	return nil, nil, errRefused
}

// travel takes the time of one way. It is false where there is none.
func (c caller) travel(ctx context.Context, from, to *node) bool {
	net, l := c.cluster.net, link{from.name, to.name}
	if net.isCut(l) {
		return false
	}
	t := time.NewTimer(between(net.draw(l, "call"), time.Millisecond/2, 5*time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return !net.isCut(l)
	case <-ctx.Done():
		return false
	}
}

func (n *network) isCut(l link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[l]
}

// LeaseRenew implements server.Caller.
func (c caller) LeaseRenew(ctx context.Context, urls []string, id int64) (int64, error) {
	m, back, err := c.reach(ctx, urls)
	if err != nil {
		return 0, err
	}
	ttl, err := m.RenewHere(ctx, id)
	return ttl, errors.Join(err, back())
}

// LeaseTimeToLive implements server.Caller.
func (c caller) LeaseTimeToLive(ctx context.Context, urls []string, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	m, back, err := c.reach(ctx, urls)
	if err != nil {
		return nil, err
	}
	resp, err := m.TimeToLiveHere(ctx, r)
	return resp, errors.Join(err, back())
}

// Version implements server.Caller.
func (c caller) Version(ctx context.Context, urls []string) (string, string, error) {
	m, back, err := c.reach(ctx, urls)
	if err != nil {
		return "", "", err
	}
	clusterVersion, _ := m.Versions()
	return version.Version, clusterVersion, back()
}

// DowngradeEnabled implements server.Caller.
func (c caller) DowngradeEnabled(ctx context.Context, urls []string) (bool, error) {
	m, back, err := c.reach(ctx, urls)
	if err != nil {
		return false, err
	}
	enabled, err := m.DowngradeEnabled(ctx)
	return enabled, errors.Join(err, back())
}

// Members implements server.Caller.
func (c caller) Members(ctx context.Context, urls []string) ([]server.PeerMember, uint64, error) {
	m, back, err := c.reach(ctx, urls)
	if err != nil {
		return nil, 0, err
	}
	resp, err := m.MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		return nil, 0, err
	}
	all := peerMembers(resp.Members)
	for i := range all {
		if c.cluster.plan.Faults.HideStarted {
			all[i].Name, all[i].ClientURLs = "", nil
		}
	}
	return all, m.ClusterID(), back()
}

// HashKV implements server.Caller.
func (c caller) HashKV(ctx context.Context, urls []string, _ uint64, rev int64) (*pb.HashKVResponse, error) {
	m, back, err := c.reach(ctx, urls)
	if err != nil {
		return nil, err
	}
	resp, err := m.HashKV(ctx, &pb.HashKVRequest{Revision: rev})
	return resp, errors.Join(err, back())
}

// Promote implements server.Caller.
func (c caller) Promote(ctx context.Context, urls []string, id uint64, token string) ([]server.PeerMember, error) {
	m, back, err := c.reach(ctx, urls)
	if err != nil {
		return nil, err
	}
	if token != "" {
		ctx = auth.With(ctx, &auth.Credentials{Token: token, HasToken: true})
	}
	list, err := m.PromoteHere(ctx, id)
	return peerMembers(list), errors.Join(err, back())
}

func peerMembers(all []*pb.Member) []server.PeerMember {
	var list []server.PeerMember
	for _, p := range all {
		list = append(list, server.PeerMember{ID: p.ID, Name: p.Name, PeerURLs: p.PeerURLs, ClientURLs: p.ClientURLs, IsLearner: p.IsLearner})
	}
	return list
}
