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
	db := filepath.Join(m.Dir, "member", "snap", "db")
	copied := db + ".tmp.defrag"
	for round := range 3 {
		load := process.StartLoad(t, m.Client(), fmt.Sprint("load", round), 200)
		load.Await(t, 20)
		c, addr := m.Client(), m.ClientAddr
		ended := make(chan error, 1)
		go func() {
			_, err := c.Defragment(t.Context(), addr)
			ended <- err
		}()
		process.Until(t, "the copy has begun", func() error {
			info, err := os.Stat(copied)
			if err == nil && info.Size() < int64(round)<<22 {
				return errors.New("it is small")
			}
			return err
		})
		m.Kill()
		load.Stop()
		if err := <-ended; err == nil {
			t.Error("the member was killed, and the defragmentation answered")
		}
		m.Serve()
		if _, err := os.Stat(copied); !errors.Is(err, os.ErrNotExist) {
			t.Error("a copy is left:", err)
		}
		load.Check(t, m.Client())
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

// A kill -9 in the middle of a compaction leaves the rest of it to the next start.
func TestKillWhileCompacting(t *testing.T) {
	t.Parallel()
	const keys = 1000
	m := process.Single(t, keelson, "", "--compaction-batch-limit=20", "--compaction-sleep-interval=50ms")
	m.Serve()
	fill(t, m, keys)
	first := fill(t, m, keys)
	last := fill(t, m, keys)
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
