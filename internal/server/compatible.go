package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"

	"keelson/internal/apply"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
)

// refuseNewer refuses a directory of a newer cluster or layout.
func refuseNewer(b apply.Buckets, st *cluster.State) error {
	const advice = "use the version that wrote the directory, and there `etcdctl downgrade enable` first"
	if cv, err := semver.NewVersion(st.Version); err == nil && own().LessThan(*minor(cv)) {
		return fmt.Errorf("%w: this is %s, the cluster version is %s: %s", apply.ErrNewerCluster, version.Version, cv, advice)
	}
	sv, err := storageVersion(b)
	if err != nil {
		return err
	}
	if sv != nil && own().LessThan(*minor(sv)) {
		return fmt.Errorf("the state file's layout is of version %s, which this program (%s) does not support: %s", sv, version.Version, advice)
	}
	return nil
}

// refuseIncompatible refuses to join a cluster whose version this member can't follow: with none of the others at a
// cluster version that fits, or one that does not. While a downgrade is under way only the older version may join.
func refuseIncompatible(caller Caller, others []schema.Member, logger *zap.Logger) error {
	least, most := semver.New(version.MinClusterVersion), own()
	if downgrading(caller, others, logger) {
		most.Minor++
		least = most
	}
	fits := false
	for _, m := range others {
		ctx, cancel := context.WithTimeout(context.Background(), versionInterval)
		_, text, err := caller.Version(ctx, m.PeerURLs)
		cancel()
		if err != nil {
			logger.Warn("failed to get version", zap.String("remote-member-id", hexID(m.ID)), zap.Error(err))
			continue
		}
		cv, err := semver.NewVersion(text)
		if err != nil {
			logger.Warn("failed to parse cluster version of remote member", zap.String("remote-member-id", hexID(m.ID)), zap.Error(err))
			continue
		}
		if cv.LessThan(*least) || most.LessThan(*cv) {
			return fmt.Errorf("incompatible with current running cluster: member %x is at cluster version %s, and this one (%s) can join at %s to %s "+
				"(while a downgrade is enabled, only the version that it leads to can join)", m.ID, cv, version.Version, least, most)
		}
		fits = true
	}
	if !fits {
		return errors.New("incompatible with current running cluster: no other member tells a cluster version")
	}
	return nil
}

// downgrading asks the others, until one answers, whether the cluster is on its way to an older version.
func downgrading(caller Caller, others []schema.Member, logger *zap.Logger) bool {
	for _, m := range others {
		ctx, cancel := context.WithTimeout(context.Background(), versionInterval)
		enabled, err := caller.DowngradeEnabled(ctx, m.PeerURLs)
		cancel()
		if err == nil {
			return enabled
		}
		logger.Warn("failed to get downgrade enabled status", zap.String("remote-member-id", hexID(m.ID)), zap.Error(err))
	}
	return false
}
