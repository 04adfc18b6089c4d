package v2http

import (
	"strconv"
	"sync"
	"time"

	"keelson/internal/replica/peer"
)

// Traffic counts the messages between this member and the others, for /v2/stats. The nil value has seen nothing.
type Traffic struct {
	mu             sync.Mutex // guards the rest
	sent, received uint64
	peers          map[uint64]*traffic
}

// traffic is that with one member.
type traffic struct {
	success, fail uint64
	trips         latencies
}

// peersMax bounds the members that are counted: more than a cluster has in its life.
const peersMax = 1000

func (t *Traffic) peer(id uint64) *traffic {
	if t.peers == nil {
		t.peers = map[uint64]*traffic{}
	}
	p := t.peers[id]
	if p == nil {
		p = &traffic{}
		if len(t.peers) < peersMax {
			t.peers[id] = p
		}
	}
	return p
}

// Beside gives an observer of peers that tells t too.
func (t *Traffic) Beside(o peer.Observer) peer.Observer {
	sent, received, failed, trip := o.Sent, o.Received, o.SendFailed, o.RoundTrip
	o.Sent = func(id uint64, n int) {
		t.count(id, func(p *traffic) { t.sent, p.success = t.sent+1, p.success+1 })
		sent(id, n)
	}
	o.Received = func(id uint64, n int) {
		t.count(id, func(*traffic) { t.received++ })
		received(id, n)
	}
	o.SendFailed = func(id uint64) {
		t.count(id, func(p *traffic) { p.fail++ })
		failed(id)
	}
	o.RoundTrip = func(id uint64, d time.Duration) {
		t.count(id, func(p *traffic) { p.trips.add(d) })
		trip(id, d)
	}
	return o
}

func (t *Traffic) count(id uint64, f func(*traffic)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(t.peer(id))
}

func (t *Traffic) messages() (sent, received uint64) {
	if t == nil {
		return 0, 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent, t.received
}

func (t *Traffic) followers() map[string]*follower {
	all := map[string]*follower{}
	if t == nil {
		return all
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, p := range t.peers {
		f := &follower{}
		f.Counts.Fail, f.Counts.Success = p.fail, p.success
		if l := &p.trips; l.count > 0 {
			f.Latency.Current, f.Latency.Average, f.Latency.StandardDeviation = l.current, l.sum/float64(l.count), l.deviation()
			f.Latency.Minimum, f.Latency.Maximum = l.min, l.max
		}
		all[strconv.FormatUint(id, 16)] = f
	}
	return all
}
