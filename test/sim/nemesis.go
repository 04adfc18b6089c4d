package sim

import (
	"context"
	"math/rand/v2"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// nemesis does harm. Its actions follow from the seed alone.
type nemesis struct {
	cluster *cluster
	r       *rand.Rand
	audit   *watcher
	back    map[*node]time.Time // when a node that is down comes back
	ops     *operator           // nil: nobody changes the membership
	record  *record
	alarms  []*alarmSpan
}

// run does harm for a while.
func (n *nemesis) run(length time.Duration) {
	end := time.Now().Add(length)
	for time.Now().Before(end) {
		time.Sleep(between(n.r, 50*time.Millisecond, n.cluster.plan.Calm))
		n.revive(false)
		if n.r.IntN(3) == 0 {
			n.disarm()
		}
		if n.ops != nil && n.ops.work() {
			continue
		}
		all := n.cluster.places()
		n.act(all[n.r.IntN(len(all))])
	}
}

// act does one thing. A node that is down is left alone.
func (n *nemesis) act(at *node) {
	l := at.life.Load()
	what := n.r.IntN(18)
	spare := between(n.r, 20*time.Millisecond, 1500*time.Millisecond)
	if n.r.IntN(4) == 0 {
		spare *= 3
	}
	if l == nil {
		return
	}
	switch what {
	case 0, 1, 2, 3:
		n.ambush(l)
		at.crash(what > 0)
		n.back[at] = time.Now().Add(spare)
	case 4, 5:
		n.partition()
	case 6:
		slow := 1 + 60*n.r.Float64()
		n.cluster.journal.add(at.name, "disk %.0f times slower", slow)
		l.disk.slower(slow)
	case 7:
		hang := between(n.r, 200*time.Millisecond, 4*time.Second)
		n.cluster.journal.add(at.name, "disk hangs for %v", hang)
		l.disk.hang(hang)
	case 8:
		n.transfer()
	case 9:
		if err := at.stop(); err != nil {
			n.cluster.journal.add(at.name, "the stop: %v", err)
		}
		n.back[at] = time.Now().Add(spare)
	case 10:
		full := between(n.r, 200*time.Millisecond, 4*time.Second)
		n.cluster.journal.add(at.name, "disk is full for %v", full)
		l.disk.fill(full)
	case 11:
		n.cluster.journal.add(at.name, "disk is about to fail")
		l.disk.fault(1 + n.r.IntN(40))
	case 12:
		n.alarm(l)
	case 13, 14:
		n.defragment(l)
	default:
		n.compact(l)
	}
}

// ambushMax is how long a crash waits for its victim to use the disk.
const ambushMax = 300 * time.Millisecond

// ambush returns in the middle of an operation on the disk, mostly of a write or a sync of the log, at a moment when
// nothing but the caller runs: a crash is then the same for all that it concerns.
func (n *nemesis) ambush(l *life) {
	late := time.NewTimer(ambushMax)
	defer late.Stop()
	select {
	case <-l.disk.set(1 + n.r.IntN(12)):
	case <-late.C:
	}
	synctest.Wait()
}

// revive starts the nodes that are due, or all that are down.
func (n *nemesis) revive(all bool) {
	for _, at := range n.cluster.places() {
		if at.broken.Swap(false) {
			n.back[at] = time.Now().Add(between(n.r, 20*time.Millisecond, time.Second))
		}
		if at.life.Load() != nil {
			delete(n.back, at) // its operator was faster: the next harm sets its own time
			continue
		}
		if t, down := n.back[at]; !down || !at.free() || !all && !time.Now().After(t) {
			continue
		}
		delete(n.back, at)
		err := at.start()
		switch {
		case err == nil:
		case n.cluster.confs.removed(at.id), n.ops != nil && n.ops.joining(at):
			n.cluster.journal.add(at.name, "%v", err) // its operator sees to it
		default:
			n.cluster.fail("%w", err)
		}
	}
}

// partition cuts one member off, or one half from the other, in both directions or one; sometimes it heals all.
func (n *nemesis) partition() {
	all := n.cluster.places()
	side, oneWay, heal := n.r.IntN(1<<len(all)), n.r.IntN(4) == 0, n.r.IntN(3) == 0
	if heal {
		n.cluster.journal.add("net", "healed")
		n.cluster.net.partition(nil, nil)
		return
	}
	in := map[string]bool{}
	var names []string
	for i, at := range all {
		in[at.name] = side>>i&1 == 1
		names = append(names, at.name)
	}
	n.cluster.journal.add("net", "partition %b, one way: %v", side, oneWay)
	n.cluster.net.partition(names, func(from, to string) bool { return in[from] && !in[to] || !oneWay && !in[from] && in[to] })
}

// transfer asks the leader to hand over.
func (n *nemesis) transfer() {
	all := n.cluster.alive()
	if len(all) == 0 {
		return
	}
	to := all[n.r.IntN(len(all))].member.ID()
	for _, l := range all {
		st, err := l.member.Status(context.Background(), &pb.StatusRequest{})
		if err != nil || st.Leader != l.member.ID() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		_, err = l.member.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: to})
		cancel()
		n.cluster.journal.add(l.node.name, "leadership to %x: %v", to, err)
	}
}

// defragment asks a member to give space back and doesn't wait: harm comes while it copies.
func (n *nemesis) defragment(l *life) {
	n.cluster.journal.add(l.node.name, "defragments")
	n.cluster.watches.Go(func() {
		_, err := l.member.Defragment(context.Background(), &pb.DefragmentRequest{})
		n.cluster.journal.add(l.node.name, "defragmented: %v", err)
	})
}

// compact forgets what the audit has seen already, so that the whole history stays known.
func (n *nemesis) compact(l *life) {
	seen := n.audit.next.Load() - 1
	if seen < 2 {
		return
	}
	rev := max(1, seen-n.r.Int64N(20))
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := l.member.Compact(ctx, &pb.CompactionRequest{Revision: rev, Physical: n.r.IntN(2) == 0})
	n.cluster.journal.add(l.node.name, "compaction to %d: %v", rev, err)
	if err := refusedForSpace(err); err != nil {
		n.cluster.fail("%w", err)
	}
}
