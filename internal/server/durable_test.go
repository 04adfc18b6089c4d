package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/vfs"
)

// syncs counts the syncs of the log: those that were begun, and the newest one that has ended. One thread makes them,
// one after another.
type syncs struct {
	mu           sync.Mutex
	begun, ended int
}

func (s *syncs) before(op vfs.Op) error {
	if op.Kind == vfs.KindDatasync && filepath.Ext(op.Path) == ".wal" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.begun++
	}
	return nil
}

func (s *syncs) after(op vfs.Op) {
	if op.Kind == vfs.KindDatasync && filepath.Ext(op.Path) == ".wal" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended = s.begun
	}
}

func (s *syncs) counts() (begun, ended int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun, s.ended
}

// early puts from several clients at once and counts the answers that came too early: before a sync had ended that
// began after the put was asked for. One that began earlier can't cover it.
func early(t *testing.T, m *Member, s *syncs) int {
	t.Helper()
	const clients, each = 16, 60
	var mu sync.Mutex
	n := 0
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := range each {
				begun, _ := s.counts()
				_, err := m.Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "%d/%d", c, i), Value: []byte("v")})
				if err != nil {
					t.Error(err)
					return
				}
				if _, ended := s.counts(); ended <= begun {
					mu.Lock()
					n++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return n
}

// TestAnswersWaitForSync checks that no answer leaves before the fdatasync that covers its entry has returned, and that
// the check would find it: without any fdatasync every answer is early.
func TestAnswersWaitForSync(t *testing.T) {
	s := &syncs{}
	m := startOn(t, vfs.Inject(vfs.OS, s.before, s.after), testConfig(t, t.TempDir()))
	if n := early(t, m, s); n > 0 {
		t.Errorf("%d puts were answered before a sync that could cover them had ended", n)
	}
	stop(t, m)
	m = startOn(t, vfs.Inject(vfs.OS, s.before, s.after), testConfig(t, t.TempDir(), "--unsafe-no-fsync"))
	if n := early(t, m, s); n == 0 {
		t.Error("the check finds nothing wrong with a member that never syncs")
	}
	stop(t, m)
}

// TestHeldSync checks the same with a disk that holds its sync back: until it ends nobody is answered, and no reader
// sees what is not durable.
func TestHeldSync(t *testing.T) {
	held, release := make(chan struct{}), make(chan struct{})
	var armed, once sync.Once
	hold := false
	var mu sync.Mutex
	fs := vfs.Inject(vfs.OS, func(op vfs.Op) error {
		mu.Lock()
		on := hold
		mu.Unlock()
		if on && op.Kind == vfs.KindDatasync && filepath.Ext(op.Path) == ".wal" {
			armed.Do(func() { close(held) })
			<-release
		}
		return nil
	}, nil)
	m := startOn(t, fs, testConfig(t, t.TempDir()))
	defer once.Do(func() { close(release) })
	put(t, m, "k", "old")
	mu.Lock()
	hold = true
	mu.Unlock()
	answered := make(chan error, 1)
	go func() {
		_, err := m.Put(context.Background(), &pb.PutRequest{Key: []byte("k"), Value: []byte("new")})
		answered <- err
	}()
	<-held
	if got := get(t, m, "k", 0); got != "old" {
		t.Errorf("read %q while it was not durable", got)
	}
	select {
	case err := <-answered:
		t.Errorf("answered (%v) before its sync had ended", err)
	default:
	}
	once.Do(func() { close(release) })
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if got := get(t, m, "k", 0); got != "new" {
		t.Errorf("read %q after the answer", got)
	}
	stop(t, m)
}

// TestDiskErrors breaks the disk under writers: the member stops with the disk's reason, answers nobody any more, and all
// that it had acknowledged is there when the disk works again.
func TestDiskErrors(t *testing.T) {
	for name, c := range map[string]struct {
		kind vfs.Kind
		err  error
	}{
		"a full disk at a write": {vfs.KindWrite, syscall.ENOSPC},
		"an error of a write":    {vfs.KindWrite, syscall.EIO},
		"an error of a sync":     {vfs.KindDatasync, syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			left := 200
			fs := vfs.Inject(vfs.OS, func(op vfs.Op) error {
				if op.Kind != c.kind || filepath.Ext(op.Path) != ".wal" {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				if left--; left < 0 {
					return c.err
				}
				return nil
			}, nil)
			dir := t.TempDir()
			m := startOn(t, fs, testConfig(t, dir))
			acked := untilFailed(t, m)
			if err := m.Err(); !errors.Is(err, c.err) || !strings.Contains(err.Error(), ".wal") {
				t.Errorf("the member stopped with %v, not with the disk's %v and the file's name", err, c.err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_ = m.Stop(ctx) // what is left to close may fail too, on such a disk
			m = start(t, testConfig(t, dir))
			for client, n := range acked {
				for i := range n {
					if key := fmt.Sprintf("%d/%d", client, i); get(t, m, key, 0) != "v" {
						t.Errorf("%s was acknowledged and is lost", key)
					}
				}
			}
			stop(t, m)
		})
	}
}

// A disk that breaks in the middle of a stop is named as what is wrong with it.
func TestDiskBreaksAtStop(t *testing.T) {
	var broken atomic.Bool
	fs := vfs.Inject(vfs.OS, func(op vfs.Op) error {
		if broken.Load() && filepath.Ext(op.Path) == ".wal" && (op.Kind == vfs.KindWrite || op.Kind == vfs.KindDatasync) {
			return syscall.EIO
		}
		return nil
	}, nil)
	m := startOn(t, fs, testConfig(t, t.TempDir()))
	if _, err := m.Put(t.Context(), &pb.PutRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	err := m.Stop(t.Context())
	if err == nil {
		err = m.Err() // the member wrote of its own accord, and had failed before the stop
	}
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), ".wal") {
		t.Error(err)
	}
}

// untilFailed puts from several clients until the member has failed, and gives how many puts of each were acknowledged.
func untilFailed(t *testing.T, m *Member) []int {
	t.Helper()
	acked := make([]int, 8)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for client := range acked {
		all.Go(func() {
			for {
				_, err := m.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "%d/%d", client, acked[client]), Value: []byte("v")})
				if err != nil {
					return
				}
				acked[client]++
			}
		})
	}
	select {
	case <-m.Failed():
	case <-time.After(patience):
		t.Error("the member goes on without its disk")
	}
	cancel()
	all.Wait()
	return acked
}
