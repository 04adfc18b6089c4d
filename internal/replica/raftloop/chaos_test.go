package raftloop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/storage/wal"
)

// chaos holds what a run under faults has to keep: one order, nothing twice, no stale read.
type chaos struct {
	c    *cluster
	rng  *rand.Rand
	sent int
	work sync.WaitGroup
}

// newest is the highest index that any member has applied, and so may have acknowledged.
func (x *chaos) newest() (index uint64) {
	for _, nd := range x.c.nodes {
		nd.machine.mu.Lock()
		index = max(index, nd.machine.index)
		nd.machine.mu.Unlock()
	}
	return index
}

// traffic proposes and reads at any member, for two seconds at most.
func (x *chaos) traffic() {
	nd := x.c.nodes[1+x.rng.Uint64N(3)]
	loop := nd.loop
	x.sent++
	data := fmt.Appendf(nil, "p%d", x.sent)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	x.work.Go(func() {
		defer cancel()
		_ = loop.Propose(ctx, data) // refused by a member that stops
		least := x.newest()
		index, err := loop.ReadIndex(ctx)
		if err == nil && index < least {
			x.c.t.Errorf("member %d read at %d, after %d was acknowledged", nd.id, index, least)
		}
		<-ctx.Done()
	})
}

// fault does one bad thing, or mends the network.
func (x *chaos) fault() {
	id := 1 + x.rng.Uint64N(3)
	nd := x.c.nodes[id]
	switch x.rng.IntN(7) {
	case 0:
		x.c.isolate(id)
	case 1:
		odds := 1 + x.rng.IntN(20)
		r := rand.New(rand.NewPCG(x.rng.Uint64(), 0))
		x.c.filter(func(_, _ uint64, _ *raftpb.Message) bool { return r.IntN(20) < odds/4 })
	case 2:
		nd.restart()
	case 3:
		nd.loop.Campaign()
	case 4:
		nd.loop.SuspectLeader(nd.loop.Status().Lead, x.rng.IntN(2))
	case 5:
		nd.machine.mu.Lock()
		m := wal.Mark{Index: nd.machine.index, Term: nd.machine.term, ConfState: nd.machine.conf}
		nd.machine.mu.Unlock()
		if err := nd.loop.MarkSnapshot(m); err != nil {
			x.c.t.Errorf("mark: %v", err)
		}
	default:
		x.c.filter(nil)
	}
}

func TestChaos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		c := newCluster(t, 3, func(o *Options) { o.CatchUpEntries, o.WindowBytesMax = 3, 100 })
		defer c.stop()
		x := &chaos{c: c, rng: rand.New(rand.NewPCG(seed, 3))}
		for range 300 {
			if x.rng.IntN(3) == 0 {
				x.fault()
			} else {
				x.traffic()
			}
			time.Sleep(time.Duration(x.rng.IntN(200)) * time.Millisecond)
		}
		c.filter(nil)
		x.work.Wait()
		c.propose(1, "end")
		c.until("all have the end", func() bool {
			for _, nd := range c.nodes {
				if data := nd.machine.applied(); len(data) == 0 || data[len(data)-1] != "end" {
					return false
				}
			}
			return true
		})
		want := c.nodes[1].machine.applied()
		for id, nd := range c.nodes {
			if got := nd.machine.applied(); !slices.Equal(got, want) {
				t.Errorf("member %d applied %q, member 1 %q", id, got, want)
			}
		}
		slices.Sort(want)
		if got := slices.Compact(slices.Clone(want)); len(got) != len(want) {
			t.Errorf("applied twice: %q", want)
		}
		t.Logf("%d of %d applied", len(want), x.sent+1)
	})
}
