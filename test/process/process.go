// Package process runs members as processes of their own, for tests: Keelson's and stock etcd's alike. A test makes
// members, starts, kills, stops and restarts them, and waits for conditions. What a member prints is kept in a file; it
// is shown when the test fails, and a panic in it fails the test by itself.
package process

import (
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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const (
	// Patience is far above what any single step takes on a busy machine; a test that waits so long has failed.
	Patience = 40 * time.Second
	// pollInterval is how often a condition is looked at.
	pollInterval = 20 * time.Millisecond
	// shownBytes is the end of a member's log that a failing test shows.
	shownBytes = 16 << 10
)

// Program is one implementation: a name for messages and the folder of its binaries.
type Program struct{ Name, Bin string }

// Build builds Keelson's own binaries into dir. With tags it builds them with these build tags.
func Build(dir, tags string) (Program, error) {
	args := []string{"build", "-o", dir + string(filepath.Separator), "-tags", tags, "keelson/cmd/etcd", "keelson/cmd/etcdctl", "keelson/cmd/etcdutl"}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return Program{}, fmt.Errorf("process: go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return Program{Name: "keelson", Bin: dir}, nil
}

// Path gives the path of one of the program's binaries.
func (p Program) Path(name string) string { return filepath.Join(p.Bin, name) }

// Member is one member: where it lives, and its process while it runs. It belongs to one test and one goroutine.
type Member struct {
	Program              Program
	Name, Dir            string
	ClientAddr, PeerAddr string
	// Flags come after the usual ones, or stand alone where Bare is set; Env is added to the environment.
	Flags, Env []string
	Bare       bool
	// WorkDir is where the process runs, an empty folder of its own.
	WorkDir string
	// Place is where the process runs, nil for this machine itself.
	Place *Place
	// TLS is what clients of a member with https use; nil: http. See Secure.
	TLS *tls.Config

	t     testing.TB
	birth birth
	run   *run
	logs  []string
}

// birth is what a member is given beside its Flags.
type birth struct {
	initial string // who founds the cluster
	secure  bool   // members call each other with TLS
	certs   certs
	proxies *proxies // nil: clients talk to the members
}

// Place is somewhere to run a program: another network, another root directory.
type Place struct {
	// Enter is what comes before a command that runs there.
	Enter []string
	// Dial connects from there.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// command makes a command that runs in the place.
func (p *Place) command(args ...string) *exec.Cmd {
	if p != nil {
		args = append(slices.Clone(p.Enter), args...)
	}
	return exec.Command(args[0], args[1:]...)
}

// run is one life of a member's process.
type run struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Single makes a cluster of one member on dir; an empty dir means a new one.
func Single(t testing.TB, p Program, dir string, flags ...string) *Member {
	t.Helper()
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "data")
	}
	m := member(t, p, "solo", dir, flags)
	found(t, []*Member{m})
	return m
}

// Cluster makes one member a program, all of one new cluster. None is started.
func Cluster(t testing.TB, programs []Program, flags ...string) []*Member {
	t.Helper()
	root := t.TempDir()
	var all []*Member
	for i, p := range programs {
		name := "m" + strconv.Itoa(i)
		all = append(all, member(t, p, name, filepath.Join(root, name), flags))
	}
	found(t, all)
	return all
}

// found makes members the founders of one cluster, with the certificates and proxies that the environment asks for.
func found(t testing.TB, all []*Member) {
	t.Helper()
	c, secure := issue(t)
	p := front()
	for _, m := range all {
		m.birth.certs, m.birth.secure, m.birth.proxies = c, secure, p
	}
	introduce(all)
}

// introduce names to each founder all of them.
func introduce(all []*Member) {
	var initial []string
	for _, m := range all {
		initial = append(initial, m.Name+"="+m.PeerURL())
	}
	for _, m := range all {
		m.birth.initial = strings.Join(initial, ",")
	}
}

// Strangers makes members that know nothing of each other: flags say how they are to find each other. None is started.
func Strangers(t testing.TB, programs []Program, flags ...string) []*Member {
	t.Helper()
	all := Cluster(t, programs, flags...)
	for _, m := range all {
		m.birth.initial = ""
	}
	return all
}

// Joiner makes a member that joins a running cluster of others, to which it is to be added before it starts.
func Joiner(t testing.TB, p Program, name string, others []*Member, flags ...string) *Member {
	t.Helper()
	m := member(t, p, name, filepath.Join(t.TempDir(), name), flags)
	m.Env = []string{"ETCD_INITIAL_CLUSTER_STATE=existing"}
	m.birth = others[0].birth
	m.birth.initial = name + "=" + m.PeerURL()
	for _, o := range others {
		m.birth.initial += "," + o.Name + "=" + o.PeerURL()
	}
	return m
}

func member(t testing.TB, p Program, name, dir string, flags []string) *Member {
	t.Helper()
	addrs := FreeAddrs(t, 2)
	m := &Member{Program: p, Name: name, Dir: dir, ClientAddr: addrs[0], PeerAddr: addrs[1], Flags: flags, t: t, WorkDir: t.TempDir()}
	t.Cleanup(m.finish)
	return m
}

// Secure gives members that were not started yet https URLs: for clients, which then use config, where that is not nil, and for
// other members where peers is set. The certificates are given by flags.
func Secure(members []*Member, config *tls.Config, peers bool) {
	for _, m := range members {
		m.TLS = config
		if m.birth.certs.client != nil { // those of KEELSON_TLS make way
			m.birth.certs, m.birth.secure = certs{}, false
		}
		m.birth.secure = m.birth.secure || peers
	}
	introduce(members)
}

// config is what clients of the member use; nil: plain text.
func (m *Member) config() *tls.Config {
	if m.TLS == nil && !m.Bare {
		return m.birth.certs.client
	}
	return m.TLS
}

// ClientURL is where clients reach the member.
func (m *Member) ClientURL() string { return scheme(m.config() != nil) + m.ClientAddr }

// PeerURL is where other members reach it.
func (m *Member) PeerURL() string { return scheme(m.birth.secure && !m.Bare) + m.PeerAddr }

func scheme(secure bool) string {
	if secure {
		return "https://"
	}
	return "http://"
}

// With gives the same member run by another program.
func (m *Member) With(p Program) *Member {
	m.Program = p
	return m
}

// Start starts the process and returns at once.
func (m *Member) Start() {
	m.t.Helper()
	if m.Running() {
		m.t.Fatalf("%s runs already", m.Name)
	}
	log := filepath.Join(m.WorkDir, fmt.Sprintf("%s-%s-%d.log", m.Name, m.Program.Name, len(m.logs)))
	f, err := os.Create(log)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	m.logs = append(m.logs, log)
	cmd := m.Place.command(append([]string{m.Program.Path("etcd")}, m.args()...)...)
	cmd.Dir = m.WorkDir
	cmd.Env = append(Environ(), m.Env...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = f, f, owned()
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	r := &run{cmd: cmd, done: make(chan struct{})}
	m.run = r
	go func() {
		r.err = cmd.Wait()
		close(r.done)
	}()
}

func (m *Member) args() []string {
	if m.Bare {
		return m.Flags
	}
	client, peer := m.ClientURL(), m.PeerURL()
	usual := []string{
		"--name=" + m.Name, "--data-dir=" + m.Dir, "--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
	}
	if m.birth.initial != "" {
		usual = append(usual, "--initial-cluster="+m.birth.initial)
	}
	return slices.Concat(usual, m.birth.certs.flags, m.Flags)
}

// Environ is the environment without what would change a member or a tool behind the test's back.
func Environ() []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "ETCD") {
			kept = append(kept, v)
		}
	}
	return kept
}

// Serve starts the process and waits until it is healthy.
func (m *Member) Serve() *Member {
	m.t.Helper()
	m.Start()
	m.WaitHealthy()
	return m
}

// Running tells whether the process was started and has not ended.
func (m *Member) Running() bool {
	if m.run == nil {
		return false
	}
	select {
	case <-m.run.done:
		return false
	default:
		return true
	}
}

// PID is the number of the process that was started last.
func (m *Member) PID() int { return m.run.cmd.Process.Pid }

// WaitHealthy waits until the member answers a linearizable read. It may be out of space. Where there are to be users, the first
// call makes them.
func (m *Member) WaitHealthy() {
	m.t.Helper()
	Until(m.t, m.Name+" ("+m.Program.Name+") is healthy", func() error {
		if !m.Running() {
			m.t.Fatalf("%s (%s) ended instead of serving: %v", m.Name, m.Program.Name, m.run.err)
		}
		body, err := m.HTTP("/health?exclude=NOSPACE")
		if err == nil && !strings.Contains(body, `"true"`) {
			err = errors.New(body)
		}
		return err
	})
	m.birth.certs.users.enable(m)
}

// Kill ends the process as a crash of it would, and waits for its end.
func (m *Member) Kill() {
	m.t.Helper()
	m.signal(syscall.SIGKILL)
}

// Stop asks the process to stop and waits until it has; a status other than 0 fails the test, but for stock etcd, which
// ends itself by the signal.
func (m *Member) Stop() {
	m.t.Helper()
	m.signal(syscall.SIGTERM)
	if m.run.err != nil && m.Program.Name == "keelson" {
		m.t.Errorf("%s: after SIGTERM: %v", m.Name, m.run.err)
	}
}

func (m *Member) signal(s os.Signal) {
	m.t.Helper()
	if !m.Running() {
		m.t.Fatalf("%s has ended by itself: %v", m.Name, m.run.err)
	}
	if err := m.run.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
	m.WaitExit()
}

// WaitExit waits until the process has ended and gives its exit status, -1 if a signal ended it.
func (m *Member) WaitExit() int {
	m.t.Helper()
	select {
	case <-m.run.done:
	case <-time.After(Patience):
		m.t.Fatalf("%s does not end", m.Name)
	}
	return m.run.cmd.ProcessState.ExitCode()
}

// Refused starts the member, expects it to end by itself with a status other than 0, and gives what it printed.
func (m *Member) Refused() string {
	m.t.Helper()
	m.Start()
	if status := m.WaitExit(); status <= 0 {
		m.t.Errorf("%s (%s) ended with status %d, which is not a refusal", m.Name, m.Program.Name, status)
	}
	return m.Log()
}

// Log gives what the newest process printed.
func (m *Member) Log() string {
	m.t.Helper()
	b, err := os.ReadFile(m.logs[len(m.logs)-1])
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// AwaitLog waits until the newest process of m has printed a text: who is answered may know of something before the log does.
func AwaitLog(m *Member, text string) {
	m.t.Helper()
	Until(m.t, "the log of "+m.Name+" tells", func() error {
		if !strings.Contains(m.Log(), text) {
			return fmt.Errorf("no %s in it", text)
		}
		return nil
	})
}

// trouble is what no log may hold.
var trouble = regexp.MustCompile(`(?m)^panic: |"level":"(panic|dpanic|fatal)"|^fatal error: |WARNING: DATA RACE|^goroutine \d+ \[`)

// finish ends the process and looks through its logs.
func (m *Member) finish() {
	if m.Running() {
		_ = m.run.cmd.Process.Kill() // it may have ended meanwhile
		<-m.run.done
	}
	for _, file := range m.logs {
		b, err := os.ReadFile(file)
		if err != nil {
			m.t.Error(err)
		}
		if line := trouble.Find(b); line != nil && m.Program.Name == "keelson" {
			m.t.Errorf("%s holds %q", filepath.Base(file), line)
		}
		if keep := os.Getenv("KEELSON_LOGS"); keep != "" {
			name := strings.ReplaceAll(m.t.Name(), "/", "-") + "-" + filepath.Base(file)
			if err := os.WriteFile(filepath.Join(keep, name), b, 0o600); err != nil {
				m.t.Error(err)
			}
		}
		if m.t.Failed() {
			m.t.Logf("--- the end of %s:\n%s", filepath.Base(file), b[max(0, len(b)-shownBytes):])
		}
	}
}

// ID gives the ID of a member that runs.
func (m *Member) ID() uint64 {
	m.t.Helper()
	var id uint64
	Until(m.t, m.Name+" tells its ID", func() error {
		c := Itself(m).Client()
		defer c.Close()
		ctx, cancel := context.WithTimeout(m.t.Context(), time.Second)
		defer cancel()
		s, err := c.Status(ctx, m.ClientAddr)
		if err == nil {
			id = s.Header.MemberId
		}
		return err
	})
	return id
}

// Damage flips a bit in the last byte of text wherever that lies in the state file of a member that does not run: a copy that
// the file has no use for any more may lie there too.
func (m *Member) Damage(text string) {
	m.t.Helper()
	path := filepath.Join(m.Dir, "member", "snap", "db")
	b, err := os.ReadFile(path)
	if err != nil {
		m.t.Fatal(err)
	}
	flipped := []byte(text)
	flipped[len(flipped)-1] ^= 1
	if !bytes.Contains(b, []byte(text)) {
		m.t.Fatalf("%s does not hold %q", path, text)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(b, []byte(text), flipped), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// HTTP gets a path of the client port. A status other than 200 is an error.
func (m *Member) HTTP(path string) (string, error) {
	c := http.Client{Timeout: Patience}
	if m.Place != nil || m.config() != nil {
		t := &http.Transport{DisableKeepAlives: true, TLSClientConfig: m.config()}
		if m.Place != nil {
			t.DialContext = m.Place.Dial
		}
		c.Transport = t
	}
	r, err := c.Get(m.ClientURL() + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", r.StatusCode, b)
	}
	return string(b), err
}

// Metric reads one metric without labels; one that is not there fails the test.
func (m *Member) Metric(name string) float64 {
	m.t.Helper()
	body, err := m.HTTP("/metrics")
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				m.t.Fatal(err)
			}
			return v
		}
	}
	m.t.Fatalf("%s has no metric %s", m.Name, name)
	return 0
}

// Client connects to the member alone, from where it runs, or to a proxy that knows it alone; the connection ends with the test.
func (m *Member) Client() *clientv3.Client {
	m.t.Helper()
	return DialFrom(m.t, m.Place, m)
}

// Dial connects to several members, or to a proxy that knows just these; the connection ends with the test.
func Dial(t testing.TB, members ...*Member) *clientv3.Client {
	t.Helper()
	return DialFrom(t, nil, members...)
}

const (
	// pingTime is how soon a client looks whether a silent member is still there, and pingWait what it gets to answer.
	pingTime = 2 * time.Second
	pingWait = time.Second
)

// DialFrom is Dial from a place; nil is this machine. Such a client finds out when a member falls silent.
func DialFrom(t testing.TB, from *Place, members ...*Member) *clientv3.Client {
	t.Helper()
	cfg := clientv3.Config{Logger: zap.NewNop()}
	if from != nil {
		cfg.DialKeepAliveTime, cfg.DialKeepAliveTimeout = pingTime, pingWait
		cfg.DialOptions = []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return from.Dial(ctx, "tcp", address)
		})}
	}
	for _, m := range doors(members...) {
		cfg.Endpoints, cfg.TLS = append(cfg.Endpoints, m.ClientURL()), m.config()
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
