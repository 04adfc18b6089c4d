package server

import (
	"context"
	"errors"
	"time"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/state/cluster"
)

// Downgrades leads the cluster to the minor version before its own: it notes a target, the leader lowers the cluster
// version to it, each member makes its directory readable, and once every member runs the target's version the leader
// takes the note away. The goroutine that does the last is started by run.
type Downgrades struct {
	identity
	cluster  *cluster.Cluster
	proposer *proposer
	reads    *reads
	versions *versions
	clock    clock.Clock
	// every is the time between two looks at a downgrade under way; 0: none.
	every  time.Duration
	logger *zap.Logger
}

// Downgrade checks whether the cluster can go down to a version, begins it, or calls it off.
func (s *Downgrades) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	var err error
	switch r.Action {
	case pb.DowngradeRequest_VALIDATE:
		_, err = s.validate(ctx, r.Version)
	case pb.DowngradeRequest_ENABLE:
		err = s.enable(ctx, r.Version)
	case pb.DowngradeRequest_CANCEL:
		// As in etcd, nothing to call off is none of the client's worries.
		if err = s.cancel(ctx); errors.Is(err, ErrNoInflightDowngrade) {
			s.logger.Warn("failed to cancel downgrade", zap.Error(err))
			err = nil
		}
	default:
		err = ErrUnknownMethod
	}
	if err != nil {
		return nil, err
	}
	return &pb.DowngradeResponse{Header: s.headerPB(), Version: version.Cluster(s.cluster.State().Version)}, nil
}

// validate gives the target if the cluster can begin to go there now.
func (s *Downgrades) validate(ctx context.Context, text string) (*semver.Version, error) {
	target, err := targetVersion(text)
	if err != nil {
		return nil, err
	}
	// What is known here may be old: another member may have begun.
	if err := s.reads.linearize(ctx); err != nil {
		return nil, err
	}
	st := s.cluster.State()
	now, err := semver.NewVersion(st.Version)
	switch {
	case err != nil:
		return nil, ErrClusterVersionUnavailable
	case !oneBelow(now).Equal(*target):
		return nil, ErrInvalidDowngradeTarget
	case st.Downgrade.Enabled:
		return nil, ErrDowngradeInProcess
	}
	return target, nil
}

// targetVersion reads "3.6" or "3.6.0"; a patch does not count.
func targetVersion(text string) (*semver.Version, error) {
	v, err := semver.NewVersion(text)
	if err != nil {
		if v, err = semver.NewVersion(text + ".0"); err != nil {
			return nil, ErrDowngradeVersionFormat
		}
	}
	return minor(v), nil
}

func (s *Downgrades) enable(ctx context.Context, text string) error {
	target, err := s.validate(ctx, text)
	if err == nil {
		err = s.note(ctx, &membershippb.DowngradeInfoSetRequest{Enabled: true, Ver: target.String()})
	}
	if err != nil {
		s.logger.Warn("reject downgrade request", zap.Error(err))
	}
	return err
}

func (s *Downgrades) cancel(ctx context.Context) error {
	if err := s.reads.linearize(ctx); err != nil {
		return err
	}
	if !s.cluster.State().Downgrade.Enabled {
		return ErrNoInflightDowngrade
	}
	return s.note(ctx, &membershippb.DowngradeInfoSetRequest{})
}

func (s *Downgrades) note(ctx context.Context, r *membershippb.DowngradeInfoSetRequest) error {
	_, err := s.proposer.propose(ctx, &pb.InternalRaftRequest{DowngradeInfoSet: r})
	return err
}

// DowngradeEnabled tells, from a linearizable read, whether the cluster is on its way to an older version: a member that
// joins asks.
func (s *Downgrades) DowngradeEnabled(ctx context.Context) (bool, error) {
	if err := s.reads.linearize(ctx); err != nil {
		return false, err
	}
	return s.cluster.State().Downgrade.Enabled, nil
}

// run ends a downgrade that is done, on the leader, until ctx is done.
func (s *Downgrades) run(ctx context.Context) {
	if s.every <= 0 {
		return
	}
	tick := s.clock.NewTicker(s.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if st := s.loop.Status(); st.Lead == st.ID {
			s.finish(ctx)
		}
	}
}

// finish calls the downgrade off once all members' versions are the target's.
func (s *Downgrades) finish(ctx context.Context) {
	st := s.cluster.State()
	if !st.Downgrade.Enabled {
		return
	}
	target, err := targetVersion(st.Downgrade.TargetVersion)
	if err != nil || !allAt(target, s.versions.ask(ctx, st)) {
		return
	}
	s.logger.Info("the cluster has been downgraded", zap.Stringer("cluster-version", target))
	if err := s.cancel(ctx); err != nil {
		s.logger.Warn("failed to cancel downgrade", zap.Error(err))
	}
}

// allAt tells whether every version is known and of the target's minor version.
func allAt(target *semver.Version, all []*semver.Version) bool {
	for _, v := range all {
		if v == nil || !minor(v).Equal(*target) {
			return false
		}
	}
	return true
}
