package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/clock"
)

const testQuota = 400_000

// fill puts large values until one is refused, and gives how many were not.
func fill(t *testing.T, m *Member) int {
	t.Helper()
	for i := range 1000 {
		_, err := m.Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "fill/%d", i), Value: make([]byte, 10_000)})
		if errors.Is(err, ErrNoSpace) {
			return i
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("10 MB fit in 400 kB")
	return 0
}

// TestQuota fills a member and sees what is refused while the alarm is raised, also over a restart, what passes, and that
// writes are taken again after it was cleared.
func TestQuota(t *testing.T) {
	dir := t.TempDir()
	cfg := func() *Member {
		return start(t, testConfig(t, dir, "--quota-backend-bytes", fmt.Sprint(testQuota)))
	}
	m := cfg()
	granted, err := m.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 7, TTL: 600})
	if err != nil {
		t.Fatal(err)
	}
	if n := fill(t, m); n < 10 {
		t.Errorf("%d values of 10 kB filled %d bytes", n, testQuota)
	}
	for range 2 {
		raised := m.Alarms()
		if len(raised) != 1 || raised[0].MemberID != m.ID() || raised[0].Alarm != pb.AlarmType_NOSPACE {
			t.Fatalf("alarms: %v", raised)
		}
		st, err := m.Status(t.Context(), &pb.StatusRequest{})
		if err != nil || len(st.Errors) != 1 || st.DbSizeQuota != testQuota {
			t.Errorf("status: %v, %v", st, err)
		}
		refused(t, m)
		stop(t, m)
		m = cfg() // the alarm is still there
	}
	defer func() { stop(t, m) }()
	del := &pb.DeleteRangeRequest{Key: []byte("fill/"), RangeEnd: []byte("fill0")}
	resp, err := m.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}}}})
	if err != nil {
		t.Fatal("a transaction that deletes: ", err)
	}
	if _, err := m.DeleteRange(t.Context(), del); err != nil {
		t.Error("a delete: ", err)
	}
	if _, err := m.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: granted.ID}); err != nil {
		t.Error("a revocation: ", err)
	}
	if _, err := m.Compact(t.Context(), &pb.CompactionRequest{Revision: resp.Header.Revision, Physical: true}); err != nil {
		t.Error("a compaction: ", err)
	}
	if r, err := m.Alarm(t.Context(), &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: m.ID(), Alarm: pb.AlarmType_NOSPACE}); err != nil || len(r.Alarms) != 1 {
		t.Fatal(r, err)
	}
	stop(t, m)
	m = start(t, testConfig(t, dir, "--quota-backend-bytes", fmt.Sprint(2*testQuota))) // stands for a file that was defragmented
	put(t, m, "again", "1")
}

// refused checks that everything that would grow the store is refused.
func refused(t *testing.T, m *Member) {
	t.Helper()
	ctx := t.Context()
	small := &pb.PutRequest{Key: []byte("a")}
	if _, err := m.Put(ctx, small); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a put: %v", err)
	}
	txn := &pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: small}}}}
	if _, err := m.Txn(ctx, txn); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a transaction that may put: %v", err)
	}
	if _, err := m.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 10}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a lease: %v", err)
	}
}

// TestQuotaOnce lets many find the member full at once: one entry raises the alarm.
func TestQuotaOnce(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir(), "--quota-backend-bytes", "1"))
	defer stop(t, m)
	before := m.machine.applied()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := m.Put(t.Context(), &pb.PutRequest{Key: []byte("a")}); !errors.Is(err, ErrNoSpace) {
				t.Errorf("a put: %v", err)
			}
		})
	}
	all.Wait()
	// One is the alarm; the cluster's version may come in between.
	if after := m.machine.applied(); after > before+2 {
		t.Errorf("%d entries for one alarm", after-before)
	}
}

// TestNoQuota has no bound, which status tells as it was given.
func TestNoQuota(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir(), "--quota-backend-bytes", "-1"))
	defer stop(t, m)
	put(t, m, "a", "1")
	if st, err := m.Status(t.Context(), &pb.StatusRequest{}); err != nil || st.DbSizeQuota != -1 {
		t.Errorf("status: %v, %v", st, err)
	}
}

// TestSpaceWatch raises the alarm for what was applied without this member's own look at its quota, and leaves one alone that
// was cleared as long as nothing grows.
func TestSpaceWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var grown, raised atomic.Uint64
		w := &spaceWatch{clock: clock.System, grown: grown.Load, full: func() bool { return true }, alarm: func(context.Context) { raised.Add(1) }}
		go w.run(t.Context())
		for i, want := range []uint64{0, 1, 1, 1, 2} {
			if i == 1 || i == 4 {
				grown.Add(1)
			}
			time.Sleep(spaceInterval)
			synctest.Wait()
			if n := raised.Load(); n != want {
				t.Errorf("step %d: raised %d times, want %d", i, n, want)
			}
		}
	})
}
