package tcpgateway

import (
	"slices"
	"sync"
	"time"

	"keelson/internal/kit/clock"
)

// Endpoint is an address that connections may go to.
type Endpoint struct {
	// Address is host:port. The host is resolved for each connection.
	Address string
	// Priority and Weight are as those of an SRV record: while one of the lowest priority lives no other is used, and those of
	// one priority get connections in proportion to their weights. Where all weights are zero they take turns.
	Priority, Weight uint16
}

// pool decides where connections go. Any goroutine may call it.
type pool struct {
	clock clock.Clock
	delay time.Duration

	mu        sync.Mutex // guards the rest
	endpoints []*backend
}

// backend is an endpoint and how it has done.
type backend struct {
	Endpoint
	// credit grows by the weight with each choice and falls by all weights for who is chosen, so that even few connections
	// are spread as the weights say.
	credit int
	// down is set where the last connection failed, since the moment at.
	down bool
	at   time.Time
}

// replace sets what endpoints there are. Those that stay keep what is known of them.
func (p *pool) replace(endpoints []Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.endpoints
	p.endpoints = make([]*backend, 0, len(endpoints))
	for _, e := range endpoints {
		b := &backend{Endpoint: e}
		if i := slices.IndexFunc(old, func(o *backend) bool { return o.Address == e.Address }); i >= 0 {
			b.down, b.at = old[i].down, old[i].at
		}
		p.endpoints = append(p.endpoints, b)
	}
}

// next gives the endpoint to try for a connection that has tried some already; nil when it has tried all. One that is down is
// asked last, so that a connection fails only if every endpoint does.
func (p *pool) next(tried []*backend) *backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	untried := func(down bool) (same []*backend) {
		for _, b := range p.endpoints {
			switch {
			case b.down != down, slices.ContainsFunc(tried, func(t *backend) bool { return t.Address == b.Address }):
			case len(same) == 0 || b.Priority == same[0].Priority:
				same = append(same, b)
			case b.Priority < same[0].Priority:
				same = append(same[:0], b)
			}
		}
		return same
	}
	if live := untried(false); len(live) > 0 {
		return choose(live)
	}
	if dead := untried(true); len(dead) > 0 {
		return choose(dead)
	}
	return nil
}

// choose takes turns by weight. Weights of zero count as one where all are; beside others they are for when nobody else is
// left.
func choose(among []*backend) *backend {
	weighted := slices.ContainsFunc(among, func(b *backend) bool { return b.Weight > 0 })
	total := 0
	for _, b := range among {
		w := int(b.Weight)
		if !weighted {
			w = 1
		}
		b.credit += w
		total += w
	}
	best := slices.MaxFunc(among, func(a, b *backend) int { return a.credit - b.credit })
	best.credit -= total
	return best
}

// mark notes how a connection to b went, and tells whether that is news.
func (p *pool) mark(b *backend, down bool) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = b.down != down
	b.down, b.at = down, p.clock.Now()
	return changed
}

// stale gives what has been down for as long as an endpoint is left alone.
func (p *pool) stale() (due []*backend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.endpoints {
		if b.down && p.clock.Now().Sub(b.at) >= p.delay {
			due = append(due, b)
		}
	}
	return due
}
