package sim

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/wire"
	"keelson/internal/server"
	"keelson/internal/state/watch"
)

// Plan says what a run is made of. Pick draws one from a seed.
type Plan struct {
	Members, Clients, Requests int
	Length                     time.Duration // of the harm
	Pause, Calm                time.Duration // at most, between a client's requests and between the nemesis' actions
	SnapshotCount, CatchUp     int
	SegmentBytes               int64
	// Reconfigure changes the membership; Reckless, with --strict-reconfig-check=false.
	Reconfigure, Reckless bool
	// Outwait waits at the end until all leases must be over.
	Outwait bool
	// Users are introduced while clients work, and auth enabled.
	Users   bool
	Weather weather
	Faults  Faults
}

// Pick draws a plan for so many members.
func Pick(n uint64, members int) Plan {
	r := seed(n).rand("plan")
	p := Plan{
		Members: members, Clients: 2 + r.IntN(3), Length: between(r, 3*time.Second, 8*time.Second),
		Pause: 120 * time.Millisecond, Calm: between(r, 300*time.Millisecond, 1500*time.Millisecond),
		SnapshotCount: 5 + r.IntN(60), CatchUp: 1 + r.IntN(15), SegmentBytes: 2048 << r.IntN(5),
		Weather: weather{delayMin: 100 * time.Microsecond, delayMax: between(r, time.Millisecond, 30*time.Millisecond)},
	}
	p.Outwait = r.IntN(4) == 0
	p.Reconfigure, p.Reckless = r.IntN(2) == 0, r.IntN(3) == 0
	p.Requests = int(p.Length/(p.Pause/2)) + 5
	if r.IntN(5) == 0 {
		p.Calm = 250 * time.Millisecond // one harm on top of the other
	}
	if r.IntN(2) == 0 {
		p.Weather.loss, p.Weather.twice = r.Float64()*0.1, r.Float64()*0.1
	}
	p.Users = r.IntN(3) == 0
	return p
}

// Outcome is what a run left behind.
type Outcome struct {
	plan     Plan
	failed   []error
	record   *record
	journal  *journal
	watchers []*watcher
	leases   []*granted
	alarms   []*alarmSpan
	audit    *watcher
	finals   []*final
}

// final is how a member ends: its whole history, as far as it has it.
type final struct {
	name        string
	rev         int64
	compact     int64
	hash        uint32
	hashCompact int64
	members     []string
	alarms      []string
	users       string
	events      []event // after compact
}

// Journal is all that happened, a line each.
func (o *Outcome) Journal() string { return o.journal.String() }

// Run runs one simulation in the bubble that it is called in. dir is an empty real directory for the bolt files.
func Run(n uint64, p Plan, dir string) *Outcome {
	s := seed(n)
	o := &Outcome{plan: p, record: &record{}, journal: &journal{start: time.Now()}}
	c := newCluster(p, s, dir, o.journal)
	ctx, cancel := context.WithCancel(context.Background())
	go c.net.run(ctx)
	defer func() { cancel(); <-c.net.done }()
	defer func() {
		o.failed = c.failures()
		for _, at := range c.places() {
			at.crash(false)
		}
		c.watches.Wait()
		c.net.deaths.Wait()
	}()
	for _, at := range c.places() {
		if err := at.start(); err != nil {
			c.fail("%w", err)
			return o
		}
	}
	o.work(c, s)
	return o
}

// work runs clients, watchers and harm, and then looks at what is left.
func (o *Outcome) work(c *cluster, s seed) {
	o.audit = newWatcher(0, c, "\x00", "\x00", 1)
	o.audit.loyal = true
	o.watchers = []*watcher{o.audit}
	r := s.rand("watchers")
	for i := range 3 {
		key, end := "k/", prefixEnd("k/")
		if i > 0 {
			key, end = fmt.Sprintf("k/%d", r.IntN(keyCount)), ""
		}
		o.watchers = append(o.watchers, newWatcher(i+1, c, key, end, r.Int64N(20)))
	}
	for _, w := range o.watchers {
		go w.run()
	}
	var busy sync.WaitGroup
	var clients []*client
	for i := range o.plan.Clients {
		cl := &client{n: i, cluster: c, record: o.record, r: s.rand("client", i), last: map[string]string{}}
		clients = append(clients, cl)
		busy.Go(func() { cl.run(o.plan.Requests) })
	}
	if o.plan.Users {
		busy.Go(func() { introduce(c, time.Now().Add(o.plan.Length)) })
	}
	n := &nemesis{cluster: c, r: s.rand("nemesis"), audit: o.audit, record: o.record, back: map[*node]time.Time{}}
	if o.plan.Reconfigure {
		n.ops = &operator{cluster: c, r: s.rand("operator"), back: n.back}
	}
	n.run(o.plan.Length)
	o.alarms = n.alarms
	o.heal(c, n)
	busy.Wait()
	for _, cl := range clients {
		o.leases = append(o.leases, cl.leases...)
	}
	o.end(c, n)
}

// heal ends all harm.
func (o *Outcome) heal(c *cluster, n *nemesis) {
	o.journal.add("sim", "healing")
	c.net.partition(nil, nil)
	c.net.setWeather(weather{delayMin: 100 * time.Microsecond, delayMax: 2 * time.Millisecond})
	for _, l := range c.alive() {
		l.disk.slower(1)
		l.disk.hang(0)
		l.disk.fill(0)
		l.disk.fault(0)
	}
	n.revive(true)
}

// calmMax is how long healthy members may take to agree: several elections and a snapshot.
const calmMax = 60 * time.Second

// leaseLife is how long the longest lease may live after the last harm: its time to live, an extension by each of two
// leaders in a row, and some looks of the leader's at what has expired.
const leaseLife = (ttlMax + 5) * time.Second

// end waits until all members agree, reads what they have and stops them.
func (o *Outcome) end(c *cluster, n *nemesis) {
	defer func() {
		for _, w := range o.watchers {
			w.goal.Store(-1)
			<-w.done
		}
	}()
	if len(c.failures()) > 0 {
		return
	}
	if !o.gather(c, n) {
		return
	}
	if o.plan.Outwait {
		if !o.settle(c, n) { // without a leader no lease ends
			return
		}
		time.Sleep(leaseLife)
	}
	if !o.settle(c, n) || !o.readAll(c, n) {
		return
	}
	o.dismiss(c)
	for _, at := range c.places() {
		if at.life.Load() == nil {
			continue
		}
		if err := at.stop(); err != nil {
			c.fail("stop %s: %w", at.name, err)
		} else if err := at.checkShelf(); err != nil {
			c.fail("%w", err)
		}
	}
}

// gather lets the operator come to an end.
func (o *Outcome) gather(c *cluster, n *nemesis) bool {
	if n.ops == nil {
		return true
	}
	for end := time.Now().Add(calmMax); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		n.revive(true)
		if n.ops.finish() {
			return true
		}
		if len(c.failures()) > 0 {
			return false
		}
	}
	c.fail("the membership is not in order %v after the last harm: %v", calmMax, n.ops.roll)
	return false
}

// settle waits until every member has applied the same and answers a linearizable read.
func (o *Outcome) settle(c *cluster, n *nemesis) bool {
	end := time.Now().Add(calmMax)
	for time.Now().Before(end) {
		n.revive(true) // one that its disk ended at last
		if n.ops != nil {
			n.ops.look() // one that was removed and started once more
		}
		if agreed(c) {
			o.journal.add("sim", "agreed")
			return true
		}
		if len(c.failures()) > 0 {
			return false
		}
		time.Sleep(200 * time.Millisecond)
	}
	for _, l := range c.alive() {
		if c.confs.removed(l.member.ID()) {
			c.fail("%w: %s runs on though %x was removed", ErrMembers, l.node.name, l.member.ID())
		}
	}
	c.fail("the members don't agree %v after the last harm", calmMax)
	return false
}

// agreed tells whether all members are up, and nobody else, have a leader and have applied the same entries.
func agreed(c *cluster) bool {
	all := c.alive()
	index := uint64(0)
	for i, l := range all {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		resp, err := l.member.MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
		cancel()
		if err != nil || len(resp.Members) != len(all) || !l.ready() {
			return false
		}
		for _, m := range resp.Members {
			if !slices.ContainsFunc(all, func(l *life) bool { return l.member.ID() == m.ID }) {
				return false
			}
		}
		st, err := l.member.Status(context.Background(), &pb.StatusRequest{})
		if err != nil || st.RaftAppliedIndex != st.RaftIndex || i > 0 && st.RaftAppliedIndex != index {
			return false
		}
		index = st.RaftAppliedIndex
	}
	return len(all) > 0
}

// readsMax bounds how often the members are read again because a lease ended in between.
const readsMax = 5

// readAll reads all members at one revision. Where that never happens it leaves what it read: they differ.
func (o *Outcome) readAll(c *cluster, n *nemesis) bool {
	for range readsMax {
		o.finals = nil
		same := true
		for _, l := range c.alive() {
			f, err := read(l)
			if err != nil {
				c.fail("read the end of %s: %w", l.node.name, err)
				return false
			}
			o.finals = append(o.finals, f)
			same = same && f.rev == o.finals[0].rev
		}
		if same {
			return true
		}
		if !o.settle(c, n) {
			return false
		}
	}
	return false
}

// read takes a member's hash and history.
func read(l *life) (*final, error) {
	ctx, cancel := context.WithTimeout(byRoot(), 10*time.Second)
	defer cancel()
	users := fmt.Sprintf("enabled %v, revision %d", l.member.AuthEnabled(), l.member.AuthRevision())
	h, err := l.member.HashKV(ctx, &pb.HashKVRequest{})
	if err != nil {
		return nil, err
	}
	f := &final{name: l.node.name, users: users, rev: h.HashRevision, hash: h.Hash, hashCompact: h.CompactRevision, compact: h.CompactRevision}
	list, err := l.member.MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		return nil, err
	}
	for _, m := range list.Members {
		f.members = append(f.members, m.String())
	}
	for _, a := range l.member.Alarms() {
		f.alarms = append(f.alarms, a.String())
	}
	slices.Sort(f.alarms)
	f.events, err = history(ctx, l.member, max(0, f.compact)+1, f.rev)
	return f, err
}

// history reads all changes from one revision to another.
func history(ctx context.Context, m *server.Member, from, to int64) ([]event, error) {
	s := m.Watch().NewStream(func() wire.Header { return m.Header() })
	defer s.Close()
	if from > to {
		return nil, nil
	}
	if _, err := s.Watch(watch.WatchRequest{Key: []byte{0}, End: []byte{0}, StartRev: from}); err != nil {
		return nil, err
	}
	var all []event
	asked := false
	for {
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		r, err := s.Next(short)
		cancel()
		switch {
		case err != nil && ctx.Err() == nil && short.Err() != nil:
			asked = true
			s.RequestProgress()
		case err != nil:
			return nil, err
		case r.Canceled:
			return nil, fmt.Errorf("the watch from %d was cancelled: %s, compacted at %d", from, r.CancelReason, r.CompactRevision)
		case len(r.Events) == 0 && asked && r.Header.Revision >= to:
			return all, nil
		}
		if r == nil {
			continue
		}
		for _, e := range r.Events {
			kv, err := wire.ParseKeyValue(e.KV)
			if err != nil {
				return nil, err
			}
			if kv.Mod <= to {
				all = append(all, event{rev: kv.Mod, key: string(kv.Key), value: string(kv.Value), del: e.Delete})
			}
		}
	}
}

// dismiss lets the watchers see all that there was and end.
func (o *Outcome) dismiss(c *cluster) {
	goal := o.finals[0].rev
	late := time.After(calmMax)
	for _, w := range o.watchers {
		w.goal.Store(goal)
	}
	for _, w := range o.watchers {
		select {
		case <-w.done:
		case <-late:
			c.fail("%v has not seen revision %d %v after the last harm; it is at %d", w, goal, calmMax, w.next.Load())
			return
		}
	}
}
