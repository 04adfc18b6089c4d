package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/server"
)

type network struct{}

func newNetwork(cfg *config.Config, log *zap.Logger) *network  { return &network{} }
func (n *network) connect(server.NetworkParams) server.Network { return n }
func (n *network) handler() http.Handler                       { return http.NotFoundHandler() }
func (n *network) Send(msgs []*raftpb.Message)                 {}
func (n *network) AddPeer(id uint64, peerURLs []string)        {}
func (n *network) UpdatePeer(id uint64, peerURLs []string)     {}
func (n *network) RemovePeer(id uint64)                        {}
func (n *network) ActiveSince(id uint64) time.Time             { return time.Time{} }
func (n *network) Stop()                                       {}
func (n *network) LeaseRenew(ctx context.Context, peerURLs []string, id int64) (ttl int64, err error) {
	return 0, errors.New("no")
}
func (n *network) LeaseTimeToLive(ctx context.Context, peerURLs []string, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return nil, errors.New("no")
}
func (n *network) Version(ctx context.Context, peerURLs []string) (server, cluster string, err error) {
	return "", "", errors.New("no")
}
func (n *network) Members(ctx context.Context, peerURLs []string) (members []server.PeerMember, clusterID uint64, err error) {
	return nil, 0, errors.New("no")
}
