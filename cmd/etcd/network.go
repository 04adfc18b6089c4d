package main

import (
	"net/http"
	"time"

	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/kit/clock"
	"keelson/internal/replica/peer"
	"keelson/internal/server"
)

// dialGrace is what opening a connection to a member may take beside an election time-out, as etcd counts.
const dialGrace = time.Second

// network is this member's way to the others: questions at once, raft's messages once the member knows who it is.
type network struct {
	*peer.Caller
	options   peer.Options
	transport *peer.Transport
}

func newNetwork(cfg *config.Config, log *zap.Logger) *network {
	o := peer.Options{
		PeerURLs: cfg.Cluster.AdvertisePeer.StringSlice(), DialTimeout: dialGrace + cfg.Raft.Election,
		ReadTimeout: cfg.Listen.PeerRead, WriteTimeout: cfg.Listen.PeerWrite, Clock: clock.System, Logger: log,
	}
	return &network{Caller: peer.NewCaller(o), options: o}
}

// connect makes the transport of a member that has its identity.
func (n *network) connect(p server.NetworkParams) server.Network {
	n.transport = peer.New(p, n.options)
	return n.transport
}

// handler serves the peer port, but for /version, once connect was called.
func (n *network) handler(m *server.Member) http.Handler { return n.transport.Handler(m) }
