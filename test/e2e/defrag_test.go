package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
	"keelson/test/process"
)

// A kill -9 in the middle of a defragmentation under load loses nothing and leaves nothing behind; one that is let
// finish shrinks the file and fails no put.
func TestKillWhileDefragmenting(t *testing.T) {
	t.Parallel()
	const keys = 1000
	m := process.Single(t, keelson, "").Serve()
	var rev int64
	fill(t, m, keys)
	large := strings.Repeat("v", 1<<20)
	for i := range 36 {
		r, err := m.Client().Put(t.Context(), fmt.Sprint("large", i%12), large)
		if err != nil {
			t.Fatal(err)
		}
		rev = r.Header.Revision
	}
	for round := range 3 {
		process.Until(t, "a defragmentation is interrupted", func() error { return interrupted(t, m, round) })
	}
	if _, err := m.Client().Compact(t.Context(), rev, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	const size = "etcd_mvcc_db_total_size_in_bytes"
	before := m.Metric(size)
	load := process.StartLoad(t, m.Client(), "beside", 200)
	load.Await(t, 20)
	if out := m.Ctl("defrag"); !strings.HasPrefix(out, "Finished defragmenting etcd member[") {
		t.Error(out)
	}
	load.Await(t, 20)
	load.Stop()
	load.Check(t, m.Client())
	if len(load.Failed) > 0 {
		t.Errorf("%d puts failed: %v", len(load.Failed), load.Failed[0])
	}
	if after := m.Metric(size); after > before*3/4 {
		t.Errorf("%v bytes before, %v after", before, after)
	}
	if n := m.Metric("etcd_disk_backend_defrag_duration_seconds_count"); n != 1 {
		t.Errorf("%v defragmentations are counted", n)
	}
	m.Stop()
}

// interrupted kills a member under load once its defragmentation has copied something, and checks what it holds when it is back.
// It fails where the defragmentation was done before the kill, as it may be on a fast disk.
func interrupted(t *testing.T, m *process.Member, round int) error {
	t.Helper()
	copied := filepath.Join(m.Dir, "member", "snap", "db.tmp.defrag")
	load := process.StartLoad(t, m.Client(), fmt.Sprint("load", round), 200)
	load.Await(t, 20)
	c, addr := m.Client(), m.ClientAddr
	ended := make(chan error, 1)
	begin := func() {
		_, err := c.Defragment(t.Context(), addr)
		ended <- err
	}
	go begin()
	process.Until(t, "the copy has begun", func() error {
		select {
		case <-ended: // between two looks
			go begin()
		default:
		}
		info, err := os.Stat(copied)
		if err == nil && info.Size() < int64(round)<<22 {
			return errors.New("it is small")
		}
		return err
	})
	m.Kill()
	m.Serve()
	err := <-ended // one that had not begun is done now
	load.Stop()
	if _, err := os.Stat(copied); !errors.Is(err, os.ErrNotExist) {
		t.Error("a copy is left:", err)
	}
	load.Check(t, m.Client())
	if err == nil {
		return errors.New("it was done before the member was killed")
	}
	return nil
}

// A kill -9 in the middle of a compaction leaves the rest of it to the next start.
func TestKillWhileCompacting(t *testing.T) {
	t.Parallel()
	const keys = 1000
	m := process.Single(t, keelson, "", "--compaction-batch-limit=20", "--compaction-sleep-interval=500ms") // long beside a stall
	m.Serve()
	fillAtOnce(t, m, keys)
	first := fillAtOnce(t, m, keys)
	last := fillAtOnce(t, m, keys)
	for _, rev := range []int64{first, last} {
		if _, err := m.Client().Compact(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
	}
	process.Until(t, "the compaction has begun", func() error {
		if m.Metric("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count") < 3 {
			return errors.New("no piece yet")
		}
		return nil
	})
	m.Kill()
	if left := revisions(t, m); left <= keys || left >= 3*keys {
		t.Errorf("%d revisions are left, of which %d should go: nothing was interrupted", left, 2*keys)
	}
	m.Flags = nil
	m.Serve()
	process.Until(t, "the compaction is finished", func() error {
		if n := m.Metric("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count"); n != 1 {
			return fmt.Errorf("%v are", n)
		}
		return nil
	})
	m.Stop()
	if left := revisions(t, m); left != keys {
		t.Errorf("%d revisions are left, not %d", left, keys)
	}
}

// fillAtOnce puts n keys, a multiple of a hundred, by few syncs, and gives the revision after them.
func fillAtOnce(t *testing.T, m *process.Member, n int) (rev int64) {
	t.Helper()
	c := m.Client()
	for from := 0; from < n; from += 100 {
		var ops []clientv3.Op
		for i := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("key%06d", from+i), strings.Repeat("v", 200)))
		}
		r, err := c.Txn(t.Context()).Then(ops...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		rev = r.Header.Revision
	}
	return rev
}

// revisions counts what is stored in the file of a member that does not run.
func revisions(t *testing.T, m *process.Member) int {
	t.Helper()
	r, err := store.OpenReadOnly(filepath.Join(m.Dir, "member", "snap", "db"), process.Patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	n := 0
	if err := r.ForEach(schema.Key, func([]byte, []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}
