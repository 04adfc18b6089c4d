package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// publisher tells the cluster this member's name and client URLs, once at each start, until it is acknowledged.
type publisher struct {
	id         uint64
	name       string
	clientURLs []string
	proposer   *proposer
	logger     *zap.Logger
	// published is closed when the cluster knows: from then on the member is ready.
	published chan struct{}
}

func (p *publisher) run(ctx context.Context) {
	req := &pb.InternalRaftRequest{ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{
		Member_ID:        p.id,
		MemberAttributes: &membershippb.Attributes{Name: p.name, ClientUrls: p.clientURLs},
	}}
	for ctx.Err() == nil {
		_, err := p.proposer.propose(ctx, req)
		if err == nil {
			p.logger.Info("published local member to cluster through raft",
				zap.String("local-member-name", p.name), zap.Strings("advertise-client-urls", p.clientURLs))
			close(p.published)
			return
		}
		if errors.Is(err, ErrStopped) {
			return
		}
		if ctx.Err() == nil {
			p.logger.Warn("failed to publish local member to cluster through raft", zap.Error(err))
		}
	}
}

// versionInterval is how often versions are looked at, by etcd's habit.
const versionInterval = 4 * time.Second

// versions keeps the cluster version at the lowest of all members' and this member's storage version at the
// cluster's. Only the leader decides the first. Its one goroutine is started by run.
type versions struct {
	id       uint64
	cluster  *cluster.Cluster
	loop     *raftloop.Loop
	proposer *proposer
	caller   Caller
	store    *store.Store
	clock    clock.Clock
	logger   *zap.Logger
	// wake is signalled when this member applied the first entry of a term that it leads.
	wake chan struct{}
}

func (v *versions) run(ctx context.Context) {
	tick := v.clock.NewTicker(versionInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		case <-tick.C:
		}
		if st := v.loop.Status(); st.Lead == st.ID {
			v.decide(ctx)
		}
		if err := v.followStorage(); err != nil {
			v.logger.Warn("failed to update the storage version", zap.Error(err))
		}
	}
}

// decide proposes a cluster version where the present one does not fit.
func (v *versions) decide(ctx context.Context) {
	st := v.cluster.State()
	lowest := v.lowest(ctx, st)
	next := nextVersion(st, lowest)
	if next == "" || next == st.Version {
		return
	}
	v.logger.Info("updating cluster version", zap.String("from", st.Version), zap.String("to", next))
	req := &pb.InternalRaftRequest{ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: next}}
	if _, err := v.proposer.propose(ctx, req); err != nil {
		v.logger.Warn("failed to update cluster version", zap.Error(err))
		return
	}
	if err := v.followStorage(); err != nil {
		v.logger.Warn("failed to update the storage version", zap.Error(err))
	}
}

// lowest asks every member for its version. nil: somebody did not answer.
func (v *versions) lowest(ctx context.Context, st *cluster.State) *semver.Version {
	low := semver.New(version.Version)
	for _, m := range st.Members {
		if m.ID == v.id {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, versionInterval)
		server, _, err := v.caller.Version(ctx, m.PeerURLs)
		cancel()
		if err != nil {
			v.logger.Warn("failed to get version", zap.String("remote-member-id", hexID(m.ID)), zap.Error(err))
			return nil
		}
		sv, err := semver.NewVersion(server)
		if err != nil {
			v.logger.Warn("a member answers a version that does not parse", zap.String("remote-member-id", hexID(m.ID)), zap.String("version", server))
			return nil
		}
		if sv.LessThan(*low) {
			low = sv
		}
	}
	return low
}

// nextVersion gives the cluster version that should be, as major.minor.0: the lowest of the members', upwards only but
// for a downgrade that was enabled. Empty: leave it.
func nextVersion(st *cluster.State, lowest *semver.Version) string {
	if st.Version == "" {
		if lowest == nil {
			return version.MinClusterVersion
		}
		return minor(lowest)
	}
	now, err := semver.NewVersion(st.Version)
	if err != nil || lowest == nil {
		return ""
	}
	if st.Downgrade.Enabled {
		target, err := semver.NewVersion(st.Downgrade.TargetVersion)
		if err != nil || target.Major != now.Major || target.Minor != now.Minor-1 {
			return ""
		}
		return minor(target)
	}
	if low := semver.New(minor(lowest)); now.LessThan(*low) && now.Major == low.Major {
		return low.String()
	}
	return ""
}

func minor(v *semver.Version) string {
	return (&semver.Version{Major: v.Major, Minor: v.Minor}).String()
}

// followStorage writes the cluster version into the store as the version of its layout.
func (v *versions) followStorage() error {
	cv := v.cluster.State().Version
	if cv == "" || cv == version.MinClusterVersion {
		return nil
	}
	have, err := v.store.Get(schema.Meta, schema.StorageVersionKey)
	if err != nil || string(have) == cv || !v.cluster.State().AtLeast(3, 6) {
		return err
	}
	v.logger.Info("updated storage version", zap.String("new-storage-version", cv))
	return v.store.PutLocal(store.Op{Bucket: schema.Meta, Key: schema.StorageVersionKey, Value: []byte(cv)})
}

// sameURLs tells whether two lists hold the same URLs in any order.
func sameURLs(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
