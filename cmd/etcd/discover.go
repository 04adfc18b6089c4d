package main

import (
	"context"
	"errors"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"keelson/internal/config"
	discoveryv2 "keelson/internal/discovery/v2"
	"keelson/internal/kit/clock"
)

// errJoining is returned for a member that is to join a running cluster and to found one.
var errJoining = errors.New("discovery URL should not be set when joining existing initial cluster: a token is for the founders; " +
	"give --initial-cluster with all members, this one too, in place of it")

// discover is how a member finds the founders of its cluster; nil where the configuration names them.
func discover(cfg *config.Config, log *zap.Logger) func(ctx context.Context, id uint64) (types.URLsMap, error) {
	d := &cfg.Cluster.Discovery
	name, urls := cfg.Member.Name, cfg.Cluster.AdvertisePeer
	switch {
	case d.URL != nil && cfg.Cluster.Existing:
		return func(context.Context, uint64) (types.URLsMap, error) { return nil, errJoining }
	case d.URL != nil:
		return func(ctx context.Context, id uint64) (types.URLsMap, error) {
			return discoveryv2.Find(ctx, discoveryv2.Options{URL: d.URL, Proxy: d.Proxy, Clock: clock.System, Logger: log}, id, name, urls)
		}
	default:
		return nil
	}
}
