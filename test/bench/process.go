package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The servers that are measured.
const (
	keelson    = "keelson"
	peer       = "etcd"
	floorStock = "floor"
	floorOurs  = "floor, our edge"
)

// A process is one running server with a fresh data directory.
type process struct {
	name, addr, dir string
	program         string
	args            []string
	tls             *tls.Config // of clients; nil: plain text
	rooted          bool        // whether root was made
	auth            bool        // whether there are users: every connection has a token then
	tokens          []bearer    // of root's, taken so far
	cmd             *exec.Cmd
	ended           chan struct{} // closed once Wait has returned
}

const (
	// readyTime is how long a server may take to answer its first request, stopTime to end after SIGTERM.
	readyTime = time.Minute
	stopTime  = 20 * time.Second
	// readyStep lies between two attempts, which are cheap: a server that is not there refuses the connection.
	readyStep = 5 * time.Millisecond
)

// start runs a server and waits until it answers.
func (b *bench) start(name string) (*process, error) {
	dir, err := os.MkdirTemp(b.dir, "bench-")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, addr: ports[0], dir: dir}
	var secure []string
	if b.secure.tls {
		secure = p.secure()
	}
	client, peers := p.url(""), "http://"+ports[1]
	p.args = append([]string{
		"--name=bench", "--data-dir=" + filepath.Join(dir, "data"), "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers, "--initial-cluster=bench=" + peers,
	}, append(secure, b.serverFlags...)...)
	switch name {
	case keelson:
		p.program = filepath.Join(b.bin, "etcd")
	case peer:
		p.program = filepath.Join(b.peer, "etcd")
	default:
		if p.program, err = os.Executable(); err != nil {
			return nil, err
		}
		p.args = []string{"-floor-kind", name, "-floor-listen", p.addr}
	}
	if err := p.launch(); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// launch runs the server on its directory and waits until it answers.
func (p *process) launch() error {
	out, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd, ended := exec.Command(p.program, p.args...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("bench: start %s: %w", p.name, err)
	}
	go func() {
		_ = cmd.Wait() // ready and stop tell what its end means
		close(ended)
	}()
	p.cmd, p.ended = cmd, ended
	return p.ready()
}

func freePorts(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// ready waits for the first answer to a linearizable read.
func (p *process) ready() error {
	l, err := p.connect(1)
	if err != nil {
		return err
	}
	defer l.close()
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	for {
		err := l.call(ctx, pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte("x")}, &pb.RangeResponse{})
		if err == nil || p.auth && status.Code(err) == codes.InvalidArgument { // it wants a token: it is there
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("bench: %s ended at its start: %s", p.name, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("bench: %s does not answer: %w: %s", p.name, err, p.lastWords())
		case <-time.After(readyStep):
		}
	}
}

func (p *process) lastWords() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// stop ends the server and removes its data.
func (p *process) stop() {
	if p.cmd != nil {
		p.end()
	}
	if err := os.RemoveAll(p.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// end ends the server.
func (p *process) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// A gauge is what a server has used up to a moment.
type gauge struct {
	at         time.Time
	cpu        time.Duration // user and system time
	syncs      float64       // fdatasyncs: one for each of the log's, two for each commit of the store
	anon, file float64       // resident MiB
	loadCPU    time.Duration // of the generator itself
}

// clockTicks is USER_HZ, in which /proc counts CPU time on every Linux platform that Go knows.
const clockTicks = 100

func (p *process) gauge() (gauge, error) {
	g := gauge{at: time.Now()}
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	var err error
	if g.cpu, err = cpuTime(proc + "stat"); err != nil {
		return g, fmt.Errorf("bench: %s is gone: %w: %s", p.name, err, p.lastWords())
	}
	if g.loadCPU, err = cpuTime("/proc/self/stat"); err != nil {
		return g, err
	}
	if err := g.memory(proc + "smaps_rollup"); err != nil {
		return g, err
	}
	if p.name == keelson || p.name == peer {
		err = g.metrics(p.http(), p.url("/metrics"))
	}
	return g, err
}

// cpuTime reads the user and system time of a process from its stat file.
func cpuTime(path string) (time.Duration, error) {
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may hold spaces; utime and stime are the 12th and 13th field behind it.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var sum time.Duration
	for _, s := range f[11:13] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * time.Second / clockTicks
	}
	return sum, nil
}

// memory reads resident memory: anonymous, and mapped from files.
func (g *gauge) memory(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 {
			values[f[0]], _ = strconv.ParseFloat(f[1], 64)
		}
	}
	const kibPerMiB = 1024
	g.anon = values["Anonymous:"] / kibPerMiB
	g.file = (values["Rss:"] - values["Anonymous:"]) / kibPerMiB
	return nil
}

// metrics asks the server how often it synced. To trace its system calls would slow it down.
func (g *gauge) metrics(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	weights := map[string]float64{"etcd_disk_wal_fsync_duration_seconds_count": 1, "etcd_disk_backend_commit_duration_seconds_count": 2}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if w, ok := weights[name]; ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return err
			}
			g.syncs += w * v
		}
	}
	return lines.Err()
}

// profile saves where the server spends its CPU time in the next seconds.
func (p *process) profile(path string, d time.Duration) error {
	resp, err := p.http().Get(p.url(fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(d.Seconds())))))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("bench: profile: %s: start with -flags --enable-pprof", resp.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
