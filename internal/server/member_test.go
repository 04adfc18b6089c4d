package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"keelson/internal/config"
	"keelson/internal/kit/vfs"
	"keelson/internal/kit/wire"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
)

// alone is a network without anybody.
type alone struct{}

func (alone) Send([]*raftpb.Message)       {}
func (alone) AddPeer(uint64, []string)     {}
func (alone) UpdatePeer(uint64, []string)  {}
func (alone) RemovePeer(uint64)            {}
func (alone) ActiveSince(uint64) time.Time { return time.Time{} }
func (alone) Stop()                        {}
func (alone) LeaseRenew(context.Context, []string, int64) (int64, error) {
	return 0, errors.New("nobody there")
}
func (alone) LeaseTimeToLive(context.Context, []string, *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return nil, errors.New("nobody there")
}
func (alone) Version(context.Context, []string) (string, string, error) {
	return "", "", errors.New("nobody there")
}
func (alone) HashKV(context.Context, []string, uint64, int64) (*pb.HashKVResponse, error) {
	return nil, errors.New("nobody there")
}
func (alone) Members(context.Context, []string) ([]PeerMember, uint64, error) {
	return nil, 0, errors.New("nobody there")
}
func (alone) DowngradeEnabled(context.Context, []string) (bool, error) {
	return false, errors.New("nobody there")
}
func (alone) Promote(context.Context, []string, uint64, string) ([]PeerMember, error) {
	return nil, errors.New("nobody there")
}

// patience bounds what a test waits for: far above what it takes, also where each sync takes 100 ms and a process is held up.
const patience = 2 * time.Minute

// testConfig gives the configuration of a single member in dir, with more arguments.
func testConfig(t testing.TB, dir string, more ...string) *config.Config {
	t.Helper()
	args := append([]string{"--data-dir", dir, "--heartbeat-interval", "10", "--election-timeout", "100"}, more...)
	cfg, _, err := config.Parse(args, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func testLogger(t testing.TB) *zap.Logger {
	return zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
}

// start starts a single member on dir and waits until it serves.
func start(t testing.TB, cfg *config.Config) *Member {
	t.Helper()
	return startOn(t, vfs.OS, cfg)
}

// startOn does it with the log on the disk fs.
func startOn(t testing.TB, fs vfs.FS, cfg *config.Config) *Member {
	t.Helper()
	d := testDeps(t)
	d.FS = fs
	return startWith(t, d, cfg)
}

func startWith(t testing.TB, d Deps, cfg *config.Config) *Member {
	t.Helper()
	m, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
	select {
	case <-m.Ready():
	case <-m.Failed():
		t.Fatal(m.Err())
	case <-time.After(patience):
		t.Fatal("the member does not become ready")
	}
	return m
}

func stop(t testing.TB, m *Member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, m *Member, key, value string) int64 {
	t.Helper()
	r, err := m.Put(context.Background(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func get(t testing.TB, m *Member, key string, rev int64) string {
	t.Helper()
	r, err := m.Range(context.Background(), &pb.RangeRequest{Key: []byte(key), Revision: rev})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.KVs) == 0 {
		return ""
	}
	kv, err := wire.ParseKeyValue(r.KVs[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(kv.Value)
}

// TestSingleMember puts, reads, restarts and reads again: old revisions, leases and compactions included.
func TestSingleMember(t *testing.T) {
	dir := t.TempDir()
	m := start(t, testConfig(t, dir))
	if h, err := m.Hash(context.Background(), &pb.HashRequest{}); err != nil || h.Header.Revision != 1 {
		t.Errorf("the hash of an empty store: %v, %v", h, err)
	}
	first := put(t, m, "a", "1")
	if first != 2 {
		t.Fatalf("the first put made revision %d, not 2", first)
	}
	for i := range 100 {
		put(t, m, fmt.Sprintf("k%03d", i), "v")
	}
	put(t, m, "a", "2")
	ctx := context.Background()
	l, err := m.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 100})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Put(ctx, &pb.PutRequest{Key: []byte("leased"), Value: []byte("x"), Lease: l.ID}); err != nil {
		t.Fatal(err)
	}
	hash, err := m.HashKV(ctx, &pb.HashKVRequest{})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, m)

	m = start(t, testConfig(t, dir))
	if got := get(t, m, "a", 0) + get(t, m, "a", first); got != "21" {
		t.Errorf("after a restart a is %q now and then, not 21", got)
	}
	again, err := m.HashKV(ctx, &pb.HashKVRequest{})
	if err != nil || again.Hash != hash.Hash {
		t.Errorf("hash %v (%v) after the restart, %v before", again, err, hash)
	}
	ttl, err := m.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true})
	if err != nil || len(ttl.Keys) != 1 || ttl.GrantedTTL != 100 {
		t.Errorf("lease after the restart: %v, %v", ttl, err)
	}
	if _, err := m.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: l.ID}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, m, "leased", 0); got != "" {
		t.Errorf("a revoked lease left its key: %q", got)
	}
	if _, err := m.Compact(ctx, &pb.CompactionRequest{Revision: 50, Physical: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Range(ctx, &pb.RangeRequest{Key: []byte("a"), Revision: first}); !errors.Is(err, mvcc.ErrCompacted) {
		t.Errorf("reading a compacted revision: %v", err)
	}
	if none, err := m.HashKV(ctx, &pb.HashKVRequest{Revision: -1}); err != nil || none.HashRevision != -1 || none.CompactRevision != 50 {
		t.Errorf("the hash before all revisions: %v, %v", none, err)
	}
	stop(t, m)
}

func TestLeaseExpires(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir()))
	defer stop(t, m)
	ctx := context.Background()
	begun := time.Now()
	// A lease lives for its second, and where the machine took longer than that it may be gone.
	gone := func(err error) bool { return errors.Is(err, lease.ErrNotFound) && time.Since(begun) >= time.Second }
	l, err := m.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 1, ID: 7})
	if err != nil || l.TTL != 1 {
		t.Fatal(l, err)
	}
	if _, err := m.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 7}); err != nil && !gone(err) {
		t.Fatal(err)
	}
	if ttl, err := m.LeaseRenew(ctx, 7); (err != nil || ttl != 1) && !gone(err) {
		t.Fatal(ttl, err)
	}
	select {
	case <-m.Leases.table.WaitRevoked(7):
	case <-time.After(patience):
		t.Fatal("a lease of 1 s does not end")
	}
	if _, err := m.LeaseRenew(ctx, 7); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("renewing a lease that expired: %v", err)
	}
	if got := get(t, m, "k", 0); got != "" {
		t.Errorf("a lease that expired left its key: %q", got)
	}
}

// TestGoneWithItsKeys: whoever is told that a lease is not there does not find its keys afterwards, though the lease goes first
// while entries are applied.
func TestGoneWithItsKeys(t *testing.T) {
	for what, ask := range map[string]func(m *Member) bool{
		"a renewal": func(m *Member) bool {
			_, err := m.LeaseRenew(t.Context(), 7)
			return errors.Is(err, lease.ErrNotFound)
		},
		"a question": func(m *Member) bool {
			r, err := m.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: 7})
			return err == nil && r.TTL == leaseNotFoundTTL
		},
	} {
		t.Run(what, func(t *testing.T) {
			revoked, release := make(chan struct{}), make(chan struct{})
			d := testDeps(t)
			d.Observe.Apply = func(op string, _ bool, _ time.Duration) {
				if op == "LeaseRevoke" {
					close(revoked)
					<-release
				}
			}
			m := startWith(t, d, testConfig(t, t.TempDir()))
			defer stop(t, m)
			if _, err := m.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 600, ID: 7}); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 7}); err != nil {
				t.Fatal(err)
			}
			var revoking sync.WaitGroup
			revoking.Go(func() {
				if _, err := m.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 7}); err != nil {
					t.Error(err)
				}
			})
			<-revoked
			found := make(chan string, 1)
			go func() {
				if !ask(m) {
					t.Error("the lease is there")
				}
				found <- get(t, m, "k", 0)
			}()
			var v string
			select {
			case v = <-found:
				close(release)
			case <-time.After(50 * time.Millisecond): // it waits for the keys
				close(release)
				v = <-found
			}
			if v != "" {
				t.Errorf("the key is there: %q", v)
			}
			revoking.Wait()
		})
	}
}

// TestRefusals checks what is refused before anything is proposed.
func TestRefusals(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir(), "--max-txn-ops", "2", "--quota-backend-bytes", "300000"))
	defer stop(t, m)
	ctx := context.Background()
	op := func(p *pb.PutRequest) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: p}}
	}
	key := func(k string) *pb.PutRequest { return &pb.PutRequest{Key: []byte(k)} }
	txn := func(r *pb.TxnRequest) error { _, err := m.Txn(ctx, r); return err }
	do := func(p *pb.PutRequest) error { _, err := m.Put(ctx, p); return err }
	for what, c := range map[string]struct{ got, want error }{
		"empty key":      {do(key("")), ErrEmptyKey},
		"value and keep": {do(&pb.PutRequest{Key: []byte("a"), Value: []byte("v"), IgnoreValue: true}), ErrValueProvided},
		"keep nothing":   {do(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true}), ErrKeyNotFound},
		"no such lease":  {do(&pb.PutRequest{Key: []byte("a"), Lease: 99}), lease.ErrNotFound},
		"too large":      {do(&pb.PutRequest{Key: []byte("a"), Value: make([]byte, 280000)}), ErrNoSpace},
		"too many ops":   {txn(&pb.TxnRequest{Success: []*pb.RequestOp{op(key("a")), op(key("b")), op(key("c"))}}), ErrTooManyOps},
		"twice the same": {txn(&pb.TxnRequest{Success: []*pb.RequestOp{op(key("a")), op(key("a"))}}), ErrDuplicateKey},
		"empty op":       {txn(&pb.TxnRequest{Success: []*pb.RequestOp{{}}}), ErrKeyNotFound},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
}
