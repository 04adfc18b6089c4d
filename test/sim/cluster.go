package sim

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keelson/internal/config"
	"keelson/internal/kit/vfs"
	"keelson/internal/server"
)

// node is a member's place: its disk, its clock and the life that runs there now.
type node struct {
	cluster *cluster
	name    string
	id      uint64 // set by the first life
	peerURL string
	clock   offsetClock
	lives   int
	// mem is the disk as the next life finds it. The bolt file lies in a real directory.
	mem  *vfs.Mem
	life atomic.Pointer[life]
}

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
	nodes   []*node
	watches sync.WaitGroup

	mu     sync.Mutex // guards failed
	failed []string
}

func newCluster(p Plan, s seed, dir string, j *journal) *cluster {
	c := &cluster{plan: p, seed: s, dir: dir, journal: j, net: newNetwork(j, s, p.Weather)}
	r := s.rand("clocks")
	for i := range p.Members {
		n := &node{
			cluster: c, name: fmt.Sprintf("m%d", i+1), peerURL: fmt.Sprintf("http://127.0.0.1:%d", 10001+i),
			clock: offsetClock{between(r, -time.Hour, time.Hour), j.start, p.Faults.FastClock}, mem: vfs.NewMem(uint64(s) + uint64(i)),
		}
		n.mem.SetOSRoot(filepath.Join(dir, n.name))
		c.nodes = append(c.nodes, n)
	}
	if p.Faults.RepeatProposals > 0 {
		l := s.lots("repeat")
		c.net.again = func(m raftMessage) bool { return isProposal(m) && l.chance("", p.Faults.RepeatProposals) }
	}
	return c
}

// fail notes a reason why the run failed.
func (c *cluster) fail(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	c.journal.add("FAIL", "%s", why)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = append(c.failed, why)
}

func (c *cluster) failures() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.failed...)
}

func (n *node) config() (*config.Config, error) {
	p := n.cluster.plan
	var all []string
	for _, o := range n.cluster.nodes {
		all = append(all, o.name+"="+o.peerURL)
	}
	client := strings.Replace(n.peerURL, ":100", ":200", 1)
	cfg, _, err := config.Parse([]string{
		"--name", n.name, "--data-dir", "/data", "--initial-cluster", strings.Join(all, ","),
		"--initial-advertise-peer-urls", n.peerURL, "--listen-peer-urls", n.peerURL,
		"--advertise-client-urls", client, "--listen-client-urls", client,
		"--snapshot-count", fmt.Sprint(p.SnapshotCount), "--snapshot-catchup-entries", fmt.Sprint(p.CatchUp),
		"--max-wals", "2", "--max-snapshots", "2",
	}, nil, nil)
	return cfg, err
}

// start begins a life on the node's disk, as cmd/etcd does.
func (n *node) start() error {
	c := n.cluster
	cfg, err := n.config()
	if err != nil {
		return err
	}
	n.lives++
	l := &life{node: n, over: make(chan struct{})}
	l.disk = newDisk(n.mem, c.seed.lots("disk", n.name, n.lives))
	l.disk.liar = c.plan.Faults.LostSyncs
	deps := server.Deps{
		FS: l.disk.fs(), Clock: n.clock, Logger: c.journal.logger(n.name, c.fail),
		Network:      func(p server.NetworkParams) server.Network { l.end = c.net.plug(p); return l.end },
		Caller:       caller{c, n},
		SegmentBytes: c.plan.SegmentBytes,
		Machine:      c.plan.Faults.machine(n.name, c.seed),
	}
	if l.member, err = server.New(cfg, deps); err != nil {
		return fmt.Errorf("%s does not start: %w", n.name, err)
	}
	n.id = l.member.ID()
	l.end.open()
	l.member.Start()
	c.watches.Go(l.watch)
	n.life.Store(l)
	c.journal.add(n.name, "started, life %d", n.lives)
	return nil
}

// watch notices a member that gives up by itself.
func (l *life) watch() {
	select {
	case <-l.member.Failed():
		if !l.dead.Load() {
			l.node.cluster.fail("%s failed: %v", l.node.name, l.member.Err())
		}
	case <-l.over:
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
}

// stop ends the life in order.
func (n *node) stop() error {
	l := n.life.Swap(nil)
	if l == nil {
		return nil
	}
	n.cluster.journal.add(n.name, "stop")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := l.member.Stop(ctx)
	close(l.over)
	n.mem = n.mem.CrashProcess()
	n.cluster.journal.add(n.name, "stopped: %v", err)
	return err
}

// alive gives the lives that run.
func (c *cluster) alive() []*life {
	var all []*life
	for _, n := range c.nodes {
		if l := n.life.Load(); l != nil {
			all = append(all, l)
		}
	}
	return all
}
