package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keelson/test/process"
)

// background is an etcdctl that runs beside the test; its lines come in order.
type background struct {
	cmd   *exec.Cmd
	lines chan string
	stdin io.WriteCloser
}

func behind(t *testing.T, m *process.Member, args ...string) *background {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), keelson.Path("etcdctl"), args...)
	cmd.Env = append(process.Environ(), m.CtlEnv()...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &background{cmd: cmd, lines: make(chan string, 100), stdin: in}
	go func() {
		defer close(b.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			b.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed, or ended before
	})
	return b
}

// next gives the next line that it prints.
func (b *background) next(t *testing.T) string {
	t.Helper()
	select {
	case line, ok := <-b.lines:
		if !ok {
			t.Fatal("etcdctl ended")
		}
		return line
	case <-time.After(process.Patience):
		t.Fatal("etcdctl prints nothing")
	}
	return ""
}

func (b *background) expect(t *testing.T, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if got := b.next(t); got != want {
			t.Fatalf("etcdctl printed %q, not %q", got, want)
		}
	}
}

// A watch shows what happens, from the past on if it is told to, and goes on after the member was killed and restarted.
func TestWatchThroughRestart(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	m.Ctl("put", "w/a", "1")
	w := behind(t, m, "watch", "w/", "--prefix", "--rev=2", "--prev-kv")
	w.expect(t, "PUT", "w/a", "1")
	m.Ctl("put", "w/a", "2")
	m.Ctl("put", "elsewhere", "x")
	m.Ctl("del", "w/a")
	w.expect(t, "PUT", "w/a", "1", "w/a", "2", "DELETE", "w/a", "2", "w/a", "")
	m.Kill()
	m.Serve()
	m.Ctl("put", "w/b", "3")
	w.expect(t, "PUT", "w/b", "3")
	m.Stop()
}

// A lock is held by one at a time, handed on when its holder goes, and outlives the member's crash.
func TestLock(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	first := behind(t, m, "lock", "l", "--ttl=60")
	held := first.next(t)
	if !strings.HasPrefix(held, "l/") {
		t.Fatalf("lock printed %q", held)
	}
	second := behind(t, m, "lock", "l", "--ttl=60")
	process.Until(t, "the second waits in line", func() error {
		if n := strings.Count(m.Ctl("get", "l/", "--prefix", "--keys-only"), "l/"); n != 2 {
			return fmt.Errorf("%d in line", n)
		}
		return nil
	})
	select {
	case line := <-second.lines:
		t.Fatalf("two hold the lock: %q and %q", held, line)
	default:
	}
	m.Kill()
	m.Serve()
	m.Ctl("del", held) // as an unlock does
	if next := second.next(t); !strings.HasPrefix(next, "l/") || next == held {
		t.Fatalf("the second printed %q, the first %q", next, held)
	}
	m.Stop()
}

// An election has one leader, whom an observer sees; the next follows when the first is gone.
func TestElect(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	first := behind(t, m, "elect", "e", "one")
	key := first.next(t)
	first.expect(t, "one")
	observer := behind(t, m, "elect", "e", "--listen")
	observer.expect(t, key, "one")
	second := behind(t, m, "elect", "e", "two")
	process.Until(t, "the second stands too", func() error {
		if n := strings.Count(m.Ctl("get", "e/", "--prefix", "--keys-only"), "e/"); n != 2 {
			return fmt.Errorf("%d stand", n)
		}
		return nil
	})
	m.Ctl("del", key)
	next := second.next(t)
	second.expect(t, "two")
	observer.expect(t, next, "two")
	m.Stop()
}

// A lease takes its keys with it when it runs out, and counts on after a crash.
func TestLeaseRunsOut(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	id := strings.Fields(m.Ctl("lease", "grant", "10"))[1] // more than a busy machine takes for the steps that need it
	m.Ctl("put", "leased", "v", "--lease="+id)
	m.Kill()
	m.Serve()
	if out := m.Ctl("lease", "timetolive", id, "--keys"); !strings.Contains(out, "leased") {
		t.Errorf("timetolive after a crash: %s", out)
	}
	process.Until(t, "the lease runs out", func() error {
		if out := m.Ctl("get", "leased"); out != "" {
			return fmt.Errorf("still there: %q", out)
		}
		return nil
	})
	m.Stop()
}
