package main

import (
	"crypto/tls"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/edge/v2http"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/tlsconf"
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
	// domain, once it is set, is the name that members' certificates must carry, whatever host they are called by.
	domain *atomic.Pointer[string]
}

func newNetwork(cfg *config.Config, log *zap.Logger, r prometheus.Registerer, secrets *tlsconf.Material, traffic *v2http.Traffic) *network {
	domain := new(atomic.Pointer[string])
	o := peer.Options{
		PeerURLs: cfg.Cluster.AdvertisePeer.StringSlice(), DialTimeout: dialGrace + cfg.Raft.Election,
		ReadTimeout: cfg.Listen.PeerRead, WriteTimeout: cfg.Listen.PeerWrite, Clock: clock.System, Logger: log,
		TLS: named(secrets.Client, domain), Observe: observePeers(r),
	}
	if cfg.V2.Enable {
		o.Observe = traffic.Beside(o.Observe)
	}
	return &network{Caller: peer.NewCaller(o), options: o, domain: domain}
}

// expect calls members from now on only if their certificates carry a domain.
func (n *network) expect(domain string) { n.domain.Store(&domain) }

// named adds the expected name to configurations for calls, which then are other ones than before.
func named(client func() (*tls.Config, uint64), domain *atomic.Pointer[string]) func() (*tls.Config, uint64) {
	const apart = 1 << 63
	return func() (*tls.Config, uint64) {
		c, version := client()
		if d := domain.Load(); d != nil {
			c.ServerName = *d
			version |= apart
		}
		return c, version
	}
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
	lost := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_network_disconnected_peers_total", Help: "How often another member was lost."}, []string{"Local", "Remote"})
	r.MustRegister(lost)
	return peer.Observer{
		Lost:              func(local, id uint64) { lost.WithLabelValues(hexID(local), hexID(id)).Inc() },
		SendingSnapshot:   observeSnapshots(r, "send", "To"),
		ReceivingSnapshot: observeSnapshots(r, "receive", "From"),
		Sent:              func(id uint64, n int) { sent.WithLabelValues(hexID(id)).Add(float64(n)) },
		Received:          func(id uint64, n int) { received.WithLabelValues(hexID(id)).Add(float64(n)) },
		SendFailed:        func(id uint64) { sendFailed.WithLabelValues(hexID(id)).Inc() },
		ReceiveFailed:     func(id uint64) { receiveFailed.WithLabelValues(hexID(id)).Inc() },
		RoundTrip:         func(id uint64, d time.Duration) { roundTrip.WithLabelValues(hexID(id)).Observe(d.Seconds()) },
	}
}

// observeSnapshots makes the metrics of snapshots that go to or come from members.
func observeSnapshots(r prometheus.Registerer, verb, label string) func(id uint64) (ended func(ok bool)) {
	named := func(s string) string { return "etcd_network_snapshot_" + verb + "_" + s }
	good := prometheus.NewCounterVec(prometheus.CounterOpts{Name: named("success"), Help: "Snapshots that arrived."}, []string{label})
	bad := prometheus.NewCounterVec(prometheus.CounterOpts{Name: named("failures"), Help: "Snapshots that did not arrive."}, []string{label})
	going := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: named("inflights_total"), Help: "Snapshots on their way."}, []string{label})
	// From 0.1 s to 51.2 s, doubling.
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: named("total_duration_seconds"), Help: "How long a snapshot that arrived was on its way.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 10),
	}, []string{label})
	r.MustRegister(good, bad, going, took)
	return func(id uint64) func(bool) {
		began, other := time.Now(), hexID(id)
		going.WithLabelValues(other).Inc()
		return func(ok bool) {
			going.WithLabelValues(other).Dec()
			if !ok {
				bad.WithLabelValues(other).Inc()
				return
			}
			good.WithLabelValues(other).Inc()
			took.WithLabelValues(other).Observe(time.Since(began).Seconds())
		}
	}
}
