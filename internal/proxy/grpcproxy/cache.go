package grpcproxy

import (
	"bytes"
	"container/list"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
)

const (
	// cacheTime bounds how far behind its member an answer may be: changes that don't come through this proxy are seen
	// that late. It is enough for a client in a tight loop to cost the members one range a second.
	cacheTime = time.Second
	// cacheEntriesMax and cacheBytesMax bound the cache: 2,048 answers (as many as etcd's) of 32 KiB are 64 MiB.
	cacheEntriesMax = 2048
	cacheBytesMax   = 64 << 20
	// cacheAnswerMax is the largest answer kept: more would push out a thousand small ones.
	cacheAnswerMax = 1 << 20
)

// cache keeps answers to serializable ranges for a moment. Any goroutine may call it.
//
// A change through the proxy takes out every answer that it may have changed, those that are still on their way too, so
// that a client reads what it wrote as far as its member has it.
type cache struct {
	clock        clock.Clock
	hits, misses prometheus.Gauge // gauges, as etcd's are

	mu      sync.Mutex               // guards the rest
	entries map[string]*list.Element // of *cached
	recent  *list.List               // the least recently kept last
	bytes   int
	fills   map[*fill]struct{}
}

// span is a range of keys as requests have it: one key where end is empty, all from key on where end is {0}.
type span struct{ key, end []byte }

// cached is one answer.
type cached struct {
	id   string
	span span
	resp any // as whoever kept it serves it: an encoded message or one that is not
	size int
	till time.Time
}

// fill is a range on its way to the members.
type fill struct {
	id    string
	span  span
	stale bool // a change came between
}

func newCache(c clock.Clock) *cache {
	return &cache{
		clock: c, entries: map[string]*list.Element{}, recent: list.New(), fills: map[*fill]struct{}{},
		hits:   gauge("cache_hits_total", "Total number of cache hits"),
		misses: gauge("cache_misses_total", "Total number of cache misses"),
	}
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "etcd", Subsystem: "grpc_proxy", Name: name, Help: help})
}

func (c *cache) collectors() []prometheus.Collector {
	keys := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "etcd", Subsystem: "grpc_proxy", Name: "cache_keys_total", Help: "Total number of keys/ranges cached",
	}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(len(c.entries))
	})
	return []prometheus.Collector{c.hits, c.misses, keys}
}

// cacheID is the same for requests that must be answered alike, and empty for one that can't be kept.
func cacheID(r *pb.RangeRequest) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		return ""
	}
	return string(b)
}

// get gives the answer kept for id, or nil. It belongs to the cache: nobody may change it.
func (c *cache) get(id string) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[id]; e != nil {
		if a := e.Value.(*cached); c.clock.Now().Before(a.till) {
			c.hits.Inc()
			return a.resp
		}
		c.remove(e)
	}
	c.misses.Inc()
	return nil
}

// begin tells that a range goes to the members; end must follow.
func (c *cache) begin(id string, key, end []byte) *fill {
	f := &fill{id: id, span: span{key, end}, stale: id == ""}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fills[f] = struct{}{}
	return f
}

// end keeps resp, the answer to f of so many bytes, unless it is nil or may be older than a change.
func (c *cache) end(f *fill, resp any, size int) {
	size += len(f.id)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fills, f)
	if resp == nil || f.stale || size > cacheAnswerMax {
		return
	}
	if e := c.entries[f.id]; e != nil {
		c.remove(e)
	}
	a := &cached{id: f.id, span: f.span, resp: resp, size: size, till: c.clock.Now().Add(cacheTime)}
	c.entries[f.id] = c.recent.PushFront(a)
	c.bytes += size
	for len(c.entries) > cacheEntriesMax || c.bytes > cacheBytesMax {
		c.remove(c.recent.Back())
	}
}

// changed takes out what r, a request, may have changed.
func (c *cache) changed(r any) {
	switch r := r.(type) {
	case *pb.PutRequest:
		c.drop(r.Key, nil)
	case *pb.DeleteRangeRequest:
		c.drop(r.Key, r.RangeEnd)
	case *pb.CompactionRequest:
		c.clear() // ranges at revisions that are gone must fail
	case *pb.TxnRequest:
		for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
			for _, op := range branch {
				c.changedBy(op)
			}
		}
	}
}

func (c *cache) changedBy(op *pb.RequestOp) {
	switch o := op.Request.(type) {
	case *pb.RequestOp_RequestPut:
		c.drop(o.RequestPut.GetKey(), nil)
	case *pb.RequestOp_RequestDeleteRange:
		c.drop(o.RequestDeleteRange.GetKey(), o.RequestDeleteRange.GetRangeEnd())
	case *pb.RequestOp_RequestTxn:
		if o.RequestTxn != nil {
			c.changed(o.RequestTxn)
		}
	}
}

// drop takes out what a change of [key, end) may have changed. It also clears away what is too old, so that a scan is short
// where reads are few.
func (c *cache) drop(key, end []byte) {
	changed := span{key, end}
	c.mu.Lock()
	defer c.mu.Unlock()
	for f := range c.fills {
		if f.span.overlaps(changed) {
			f.stale = true
		}
	}
	now := c.clock.Now()
	for e := c.recent.Back(); e != nil; {
		prev := e.Prev()
		if a := e.Value.(*cached); !now.Before(a.till) || a.span.overlaps(changed) {
			c.remove(e)
		}
		e = prev
	}
}

// clear takes everything out.
func (c *cache) clear() { c.drop([]byte{0}, []byte{0}) }

// remove takes e out. c.mu is held.
func (c *cache) remove(e *list.Element) {
	a := c.recent.Remove(e).(*cached)
	delete(c.entries, a.id)
	c.bytes -= a.size
}

// overlaps tells whether some key is in both.
func (s span) overlaps(t span) bool { return s.startsBeforeEnd(t) && t.startsBeforeEnd(s) }

// startsBeforeEnd tells whether s's first key is before the end of t.
func (s span) startsBeforeEnd(t span) bool {
	switch {
	case len(t.end) == 0:
		return bytes.Compare(s.key, t.key) <= 0
	case len(t.end) == 1 && t.end[0] == 0:
		return true
	}
	return bytes.Compare(s.key, t.end) < 0
}
