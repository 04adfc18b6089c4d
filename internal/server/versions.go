package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"

	"keelson/internal/apply"
	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// versionInterval is how often versions are looked at, by etcd's habit.
const versionInterval = 4 * time.Second

// versions keeps the cluster version at the lowest of all members', or at a downgrade's target, and this member's storage
// version at the cluster's. Only the leader decides the first. Its one goroutine is started by run.
type versions struct {
	id       uint64
	cluster  *cluster.Cluster
	loop     *raftloop.Loop
	log      *raftloop.Log
	proposer *proposer
	caller   Caller
	store    *store.Store
	records  *records
	clock    clock.Clock
	logger   *zap.Logger
	// most is the version that the cluster's is never raised above; nil: this program's own.
	most *semver.Version
	// wake is signalled when this member applied the first entry of a term that it leads, when the cluster version
	// changed, and when a record that was owed is in the log.
	wake chan struct{}
	// noted is what note saw last; of the apply thread.
	noted *cluster.State
}

// note is told what every applied run ended with, by the apply thread.
func (v *versions) note(p point) {
	before := v.noted
	v.noted = p.state
	if before != nil && before.Version != p.state.Version {
		v.nudge()
	}
}

// nudge has run look at once.
func (v *versions) nudge() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
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
		if err := v.followStorage(); err != nil && !errors.Is(err, store.ErrClosed) {
			v.logger.Warn("failed to update the storage version", zap.Error(err))
		}
	}
}

// decide proposes a cluster version where the present one does not fit.
func (v *versions) decide(ctx context.Context) {
	st := v.cluster.State()
	next, err := nextVersion(st, lowest(v.ask(ctx, st)), v.most)
	if err != nil {
		v.logger.Error("cannot decide the cluster version", zap.Error(err))
		return
	}
	if next == "" || next == st.Version {
		return
	}
	v.logger.Info("updating cluster version", zap.String("from", st.Version), zap.String("to", next))
	req := &pb.InternalRaftRequest{ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: next}}
	if _, err := v.proposer.propose(ctx, req); err != nil {
		v.logger.Warn("failed to update cluster version", zap.Error(err))
	}
}

// ask asks every member for its version. nil: it does not answer one.
func (v *versions) ask(ctx context.Context, st *cluster.State) []*semver.Version {
	all := make([]*semver.Version, len(st.Members))
	for i, m := range st.Members {
		if m.ID == v.id {
			all[i] = semver.New(version.Version)
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, versionInterval)
		server, _, err := v.caller.Version(ctx, m.PeerURLs)
		cancel()
		if err == nil {
			all[i], err = semver.NewVersion(server)
		}
		if err != nil {
			v.logger.Warn("failed to get version", zap.String("remote-member-id", hexID(m.ID)), zap.Error(err))
		}
	}
	return all
}

// lowest gives the lowest version of all, nil if one is not known.
func lowest(all []*semver.Version) *semver.Version {
	var low *semver.Version
	for _, sv := range all {
		if sv == nil {
			return nil
		}
		if low == nil || sv.LessThan(*low) {
			low = sv
		}
	}
	return low
}

// nextVersion gives the cluster version that should be, as major.minor.0: the lowest of the members', not above most (nil:
// no bound), and upwards only but for a downgrade that was enabled. Empty: leave it. The error tells why a downgrade
// can't go on.
func nextVersion(st *cluster.State, lowest, most *semver.Version) (string, error) {
	raised := lowest
	if lowest != nil && most != nil && most.LessThan(*lowest) {
		raised = most
	}
	if st.Version == "" {
		if raised == nil {
			return version.MinClusterVersion, nil
		}
		return minor(raised).String(), nil
	}
	now, err := semver.NewVersion(st.Version)
	if err != nil {
		return "", fmt.Errorf("the cluster version %q: %w", st.Version, err)
	}
	if lowest == nil {
		return "", nil
	}
	if st.Downgrade.Enabled {
		return downgraded(st.Downgrade.TargetVersion, now, lowest)
	}
	if up := minor(raised); now.LessThan(*up) && now.Major == up.Major {
		return up.String(), nil
	}
	return "", nil
}

// downgraded gives the cluster version that a downgrade asks for: its target, one minor below the present version and
// below every member's.
func downgraded(text string, now, lowest *semver.Version) (string, error) {
	target, err := semver.NewVersion(text)
	if err != nil {
		return "", fmt.Errorf("the downgrade's target %q: %w", text, err)
	}
	switch {
	case target.Equal(*now):
		return "", nil
	case !oneBelow(now).Equal(*target):
		return "", fmt.Errorf("the downgrade's target %s is not one minor version below the cluster version %s", target, now)
	case !oneBelow(lowest).Equal(*target):
		return "", fmt.Errorf("the downgrade's target %s is not one minor version below the oldest member's, %s", target, lowest)
	}
	return target.String(), nil
}

// minor gives a version without its patch, oneBelow the minor version before it: the only one that a downgrade leads to.
func minor(v *semver.Version) *semver.Version {
	return &semver.Version{Major: v.Major, Minor: v.Minor}
}

func oneBelow(v *semver.Version) *semver.Version {
	return &semver.Version{Major: v.Major, Minor: v.Minor - 1}
}

// own is the version of this program's contract, as cluster versions are written.
func own() *semver.Version { return minor(semver.New(version.Version)) }

// followStorage writes the cluster version into the store as the version of its layout. The layouts of 3.6 and 3.7 are
// equal; 3.5's does not name its version. Downwards it goes last: once the store says it, the log holds nothing any more
// that the older version can't read, and the directory may be opened by it.
func (v *versions) followStorage() error {
	st := v.cluster.State()
	if st.Version == "" || st.Version == version.MinClusterVersion {
		return nil
	}
	target, err := semver.NewVersion(st.Version)
	if err != nil {
		return fmt.Errorf("server: the cluster version %q: %w", st.Version, err)
	}
	have, err := storageVersion(v.store)
	if err != nil || have == nil && target.Minor <= versionUnnamed || have != nil && minor(have).Equal(*target) {
		return err
	}
	op := store.Op{Bucket: schema.Meta, Key: schema.StorageVersionKey, Value: []byte(target.String())}
	if have != nil && target.LessThan(*have) {
		if ready, err := v.readable(target); !ready || err != nil {
			return err
		}
		op.Delete = target.Minor <= versionUnnamed
	}
	if err := v.store.PutLocal(op); err != nil {
		return err
	}
	v.logger.Info("updated storage version", zap.Stringer("new-storage-version", target))
	if st.Downgrade.Enabled {
		v.logger.Info("The server is ready to downgrade",
			zap.String("target-version", st.Downgrade.TargetVersion), zap.String("server-version", version.Version))
	}
	return nil
}

// versionUnnamed is the last minor version of 3 whose layout does not name its version.
const versionUnnamed = 5

// logPiece is how many bytes of the log one look takes.
const logPiece = 1 << 20

// readable tells whether the log since its newest record holds nothing that target can't read. It does not while a
// record is owed.
func (v *versions) readable(target *semver.Version) (bool, error) {
	if target.Minor < versionUnnamed {
		return false, fmt.Errorf("server: the store cannot follow the cluster version down to %s", target)
	}
	if v.records.owed.Load() > 0 {
		return false, nil
	}
	last, err := v.log.LastIndex()
	if err != nil {
		return false, err
	}
	for lo := v.records.newest.Load() + 1; lo <= last; {
		ents, err := v.log.Entries(lo, last+1, logPiece)
		if err != nil {
			return false, err
		}
		needed, err := apply.NeededVersion(ents)
		if err != nil {
			return false, err
		}
		if target.LessThan(needed) {
			return false, fmt.Errorf("server: cannot downgrade storage, WAL contains newer entries, as the target version (%s) is lower "+
				"than the version (%s) detected from WAL logs", target, &needed)
		}
		lo += uint64(len(ents))
	}
	return true, nil
}

// storageVersion gives the version that the store names, nil if none.
func storageVersion(b apply.Buckets) (*semver.Version, error) {
	text, err := b.Get(schema.Meta, schema.StorageVersionKey)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	v, err := semver.NewVersion(string(text))
	if err != nil {
		return nil, fmt.Errorf("server: the storage version %q: %w", text, err)
	}
	return v, nil
}
