package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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

func newNetwork(cfg *config.Config, log *zap.Logger, r prometheus.Registerer) *network {
	o := peer.Options{
		PeerURLs: cfg.Cluster.AdvertisePeer.StringSlice(), DialTimeout: dialGrace + cfg.Raft.Election,
		ReadTimeout: cfg.Listen.PeerRead, WriteTimeout: cfg.Listen.PeerWrite, Clock: clock.System, Logger: log,
		Observe: observePeers(r),
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

// observePeers makes the metrics of the traffic with each member, by etcd's names.
func observePeers(r prometheus.Registerer) peer.Observer {
	count := func(name, label, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_network_peer_" + name, Help: help}, []string{label})
		r.MustRegister(c)
		return c
	}
	sent := count("sent_bytes_total", "To", "Bytes sent to a member.")
	received := count("received_bytes_total", "From", "Bytes received from a member.")
	sendFailed := count("sent_failures_total", "To", "Messages to a member that were lost on this side.")
	receiveFailed := count("received_failures_total", "From", "Streams and messages from a member that broke off.")
	// From 0.1 ms to 3.2768 s, doubling.
	roundTrip := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "etcd_network_peer_round_trip_time_seconds", Help: "How far away a member is.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
	}, []string{"To"})
	r.MustRegister(roundTrip)
	name := func(id uint64) string { return strconv.FormatUint(id, 16) }
	return peer.Observer{
		Sent:          func(id uint64, n int) { sent.WithLabelValues(name(id)).Add(float64(n)) },
		Received:      func(id uint64, n int) { received.WithLabelValues(name(id)).Add(float64(n)) },
		SendFailed:    func(id uint64) { sendFailed.WithLabelValues(name(id)).Inc() },
		ReceiveFailed: func(id uint64) { receiveFailed.WithLabelValues(name(id)).Inc() },
		RoundTrip:     func(id uint64, d time.Duration) { roundTrip.WithLabelValues(name(id)).Observe(d.Seconds()) },
	}
}
