package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"keelson/internal/config"
	"keelson/internal/kit/vfs"
	"keelson/internal/replica/raftloop"
	"keelson/internal/server"
)

// node is a member's place: its disk, its clock, its address and the life that runs there now. All but life belongs to
// the nemesis' goroutine, which alone starts and ends lives, and to a life that ends by itself.
type node struct {
	cluster *cluster
	name    string
	id      uint64 // of the member whose place this is, 0 while it is nobody's
	peerURL string // where the next life listens
	// founding is --initial-cluster; joins, that it is a running one.
	founding string
	joins    bool
	clock    offsetClock
	lives    int
	// mem is the disk as the next life finds it. The bolt file lies in a real directory.
	mem *vfs.Mem
	// wiped tells that the disk was lost while the cluster counts on the member.
	wiped bool
	// broken is set when a life ended by its disk.
	broken atomic.Bool
	life   atomic.Pointer[life]
	// ending is set while a life that gave up by itself is still being stopped: the disk is not yet as the next one finds it.
	ending atomic.Bool
}

// free tells whether a life may begin here.
func (n *node) free() bool { return !n.ending.Load() && n.life.Load() == nil }

// life is one process: from a start to a crash or a stop.
type life struct {
	node   *node
	disk   *disk
	end    *endpoint
	member *server.Member
	// dead is set at the moment of a crash: what the life still does nobody sees.
	dead atomic.Bool
	over chan struct{} // closed when the life has ended, however
}

// cluster is the members of one simulation.
type cluster struct {
	plan    Plan
	seed    seed
	dir     string // real, for the bolt files
	journal *journal
	net     *network
	confs   *confs
	watches sync.WaitGroup

	mu     sync.Mutex // guards all below
	nodes  []*node
	failed []error
}

func newCluster(p Plan, s seed, dir string, j *journal) *cluster {
	c := &cluster{plan: p, seed: s, dir: dir, journal: j, net: newNetwork(j, s, p.Weather), confs: newConfs()}
	c.net.planted.mute = p.Faults.HideRemovals
	c.net.votes = func(e *endpoint, m raftMessage) {
		c.fail("%w: %s gave its vote to %x in term %d", ErrVote, e.place, m.GetTo(), m.GetTerm())
	}
	var founding []string
	for range p.Members {
		n := c.place()
		founding = append(founding, n.name+"="+n.peerURL)
	}
	for _, n := range c.nodes {
		n.founding = strings.Join(founding, ",")
	}
	if p.Faults.RepeatProposals > 0 {
		l := s.lots("repeat")
		c.net.planted.again = func(m raftMessage) bool { return isProposal(m) && l.chance("", p.Faults.RepeatProposals) }
	}
	return c
}

// place makes a place for a member: a machine with an empty disk.
func (c *cluster) place() *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	nr := len(c.nodes) + 1
	r := c.seed.rand("clock", nr)
	n := &node{
		cluster: c, name: fmt.Sprintf("m%d", nr), peerURL: fmt.Sprintf("http://127.0.0.1:%d", 10000+nr),
		clock: offsetClock{between(r, -time.Hour, time.Hour), c.journal.start, c.plan.Faults.FastClock},
	}
	n.wipe()
	c.nodes = append(c.nodes, n)
	return n
}

// places gives all places there are.
func (c *cluster) places() []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// fail notes a reason why the run failed. Where it wraps none of the checkers' findings, it is ErrFailed.
func (c *cluster) fail(format string, args ...any) {
	why := fmt.Errorf(format, args...)
	c.journal.add("FAIL", "%v", why)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = append(c.failed, why)
}

func (c *cluster) failures() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.failed)
}

// wipe replaces the disk by an empty one.
func (n *node) wipe() {
	root := filepath.Join(n.cluster.dir, n.name)
	_ = os.RemoveAll(root)
	n.mem = vfs.NewMem(n.cluster.seed.rand("disk", n.name, n.lives).Uint64())
	n.mem.SetOSRoot(root)
}

func (n *node) config() (*config.Config, error) {
	p := n.cluster.plan
	client := strings.Replace(n.peerURL, ":1", ":2", 1)
	state := "new"
	if n.joins {
		state = "existing"
	}
	cfg, _, err := config.Parse([]string{
		"--name", n.name, "--data-dir", dataDir, "--initial-cluster", n.founding, "--initial-cluster-state", state,
		"--initial-advertise-peer-urls", n.peerURL, "--listen-peer-urls", n.peerURL,
		"--advertise-client-urls", client, "--listen-client-urls", client,
		"--snapshot-count", fmt.Sprint(p.SnapshotCount), "--snapshot-catchup-entries", fmt.Sprint(p.CatchUp),
		"--max-wals", "2", "--max-snapshots", "2", "--strict-reconfig-check=" + fmt.Sprint(!p.Reckless),
		"--bcrypt-cost", "4", "--corrupt-check-time", "300ms", "--compact-hash-check-time", "500ms", "--feature-gates", "CompactHashCheck=true,InitialCorruptCheck=true",
	}, nil, nil)
	return cfg, err
}

// dataDir is every member's, each on its own disk.
const dataDir = "/data"

// start begins a life on the node's disk, as cmd/etcd does.
func (n *node) start() error {
	c := n.cluster
	cfg, err := n.config()
	if err != nil {
		return err
	}
	if err := n.checkSnaps(); err != nil {
		c.fail("%w", err)
	}
	n.lives++
	l := &life{node: n, over: make(chan struct{})}
	l.disk = newDisk(n.mem, c.seed.lots("disk", n.name, n.lives))
	l.disk.liar = c.plan.Faults.LostSyncs
	deps := server.Deps{
		FS: l.disk.fs(), Clock: n.clock, Logger: c.journal.logger(n.name, c.fail),
		Network: func(p server.NetworkParams) server.Network {
			l.end = c.net.plug(p, n.name, n.peerURL)
			l.end.wiped = n.wiped
			return l.end
		},
		Caller:       caller{c, n},
		SegmentBytes: c.plan.SegmentBytes,
		Machine:      c.machine(n.name),
	}
	if l.member, err = server.New(cfg, deps); err != nil {
		return fmt.Errorf("%s does not start: %w", n.name, err)
	}
	if n.id != 0 && n.id != l.member.ID() {
		c.fail("%s starts as %x and was %x", n.name, l.member.ID(), n.id)
	}
	n.id = l.member.ID()
	l.end.open()
	l.member.Start()
	n.life.Store(l)
	c.watches.Go(l.watch)
	c.journal.add(n.name, "started as %x, life %d", n.id, n.lives)
	return nil
}

// watch notices a member that gives up by itself.
func (l *life) watch() {
	select {
	case <-l.member.Failed():
	case <-l.over:
		return
	}
	why, n := l.member.Err(), l.node
	switch {
	case l.dead.Load():
		return
	case (errors.Is(why, server.ErrRemoved) || errors.Is(why, server.ErrWasRemoved)) && n.cluster.confs.removed(l.member.ID()):
	case l.byDisk(why):
		defer n.broken.Store(true)
	case n.wiped && (errors.Is(why, server.ErrBootstrapped) || errors.Is(why, server.ErrWasRemoved) || errors.Is(why, raftloop.ErrLogLost)):
	default:
		n.cluster.fail("%s failed: %w", n.name, why)
		return
	}
	n.ending.Store(true)
	defer n.ending.Store(false)
	if !n.life.CompareAndSwap(l, nil) {
		return
	}
	n.cluster.journal.add(n.name, "ends by itself: %v", why)
	if err := l.finish(); err != nil {
		n.cluster.fail("%s ends by itself: %w", n.name, err)
	}
}

// crash ends the life at this moment. The caller has made sure that nothing else in the bubble runs. With power, what
// was not synced may be lost.
func (n *node) crash(power bool) {
	l := n.life.Swap(nil)
	if l == nil {
		return
	}
	l.dead.Store(true)
	n.cluster.journal.add(n.name, "crash, power lost: %v", power)
	if power {
		n.mem = n.mem.Crash(n.cluster.seed.rand("crash", n.name, n.lives))
	} else {
		n.mem = n.mem.CrashProcess()
	}
	l.end.close()
	close(l.disk.dead)
	l.member.Kill()
	close(l.over)
	if !power {
		n.cluster.net.died(l.end)
	}
}

// stop ends the life in order.
func (n *node) stop() error {
	l := n.life.Swap(nil)
	if l == nil {
		return nil
	}
	n.cluster.journal.add(n.name, "stop")
	return l.finish()
}

// byDisk tells whether a life ended as it did because of what was done to its disk.
func (l *life) byDisk(why error) bool {
	return l.disk.hurt.Load() && (errors.Is(why, syscall.ENOSPC) || errors.Is(why, syscall.EIO))
}

// finish stops a member that the node has let go of. It may fail to write down where it stopped; the next life does without.
func (l *life) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := l.member.Stop(ctx)
	n := l.node
	n.mem = n.mem.CrashProcess()
	n.cluster.journal.add(n.name, "stopped: %v", err)
	close(l.over)
	n.cluster.net.died(l.end)
	if l.byDisk(err) {
		return nil
	}
	return err
}

// alive gives the lives that run.
func (c *cluster) alive() []*life {
	var all []*life
	for _, n := range c.places() {
		if l := n.life.Load(); l != nil {
			all = append(all, l)
		}
	}
	return all
}

// serving gives the lives that answer clients: those that the cluster knows and that are no learners.
func (c *cluster) serving() []*life {
	return slices.DeleteFunc(c.alive(), func(l *life) bool { return !l.ready() || l.member.IsLearner() })
}

// ready tells whether the cluster knows where the life serves its clients.
func (l *life) ready() bool {
	select {
	case <-l.member.Ready():
		return true
	default:
		return false
	}
}
