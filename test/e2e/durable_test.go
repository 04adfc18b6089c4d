package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// Every write that was acknowledged before a kill -9 is there after it, and so are leases and old revisions.
func TestKillKeepsWrites(t *testing.T) {
	t.Parallel()
	const writers, rounds, each = 8, 3, 150
	m := process.Single(t, keelson, "").Serve()
	acked := make([]int, writers) // how many puts of each writer were acknowledged
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		c := m.Client()
		var done sync.WaitGroup
		enough := make(chan struct{}, writers)
		for w := range writers {
			done.Go(func() {
				for n := 1; ctx.Err() == nil; {
					if _, err := c.Put(ctx, fmt.Sprintf("w%d/%06d", w, acked[w]), strconv.Itoa(round)); err != nil {
						continue // the same again, unless the round is over
					}
					if acked[w]++; n == each {
						enough <- struct{}{}
					}
					n++
				}
			})
		}
		<-enough
		m.Kill()
		cancel()
		done.Wait()
		m.Serve()
	}
	c := m.Client()
	for w, n := range acked {
		r, err := c.Get(t.Context(), fmt.Sprintf("w%d/", w), clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		// The put in flight at a kill may have been done too, and was then done again after the restart.
		if r.Count < int64(n) || r.Count > int64(n)+1 {
			t.Errorf("writer %d: %d keys for %d acknowledged puts", w, r.Count, n)
		}
	}
	m.Stop()
}

// One client's puts, one after another, can share no sync: each costs one at least.
func TestSyncEachPut(t *testing.T) {
	t.Parallel()
	const puts = 1000
	const syncs = "etcd_disk_wal_fsync_duration_seconds_count"
	m := process.Single(t, keelson, "").Serve()
	c := m.Client()
	before := m.Metric(syncs)
	for i := range puts {
		if _, err := c.Put(t.Context(), "k", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.Metric(syncs) - before; n < puts {
		t.Errorf("%d puts cost %v fdatasyncs", puts, n)
	}
	m.Stop()
}

// After SIGTERM the log is recorded up to its end: whoever opens it has next to nothing to replay.
func TestStopRecords(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	fill(t, m, 200)
	status, err := m.Client().Status(t.Context(), m.ClientAddr)
	if err != nil {
		t.Fatal(err)
	}
	m.Stop()
	snaps, err := filepath.Glob(filepath.Join(m.Dir, "member", "snap", "*.snap"))
	if err != nil || len(snaps) == 0 {
		t.Fatalf("no .snap after a stop: %v", err)
	}
	slices.Sort(snaps)
	_, index, _ := strings.Cut(strings.TrimSuffix(filepath.Base(snaps[len(snaps)-1]), ".snap"), "-")
	if n, err := strconv.ParseUint(index, 16, 64); err != nil || n < status.RaftIndex {
		t.Errorf("the newest .snap is at %d (%v), the log had %d", n, err, status.RaftIndex)
	}
}

// fill puts n keys and gives the revision after them.
func fill(t *testing.T, m *process.Member, n int) int64 {
	t.Helper()
	c := m.Client()
	var rev int64
	for i := range n {
		r, err := c.Put(t.Context(), fmt.Sprintf("key%06d", i), strings.Repeat("v", 200))
		if err != nil {
			t.Fatal(err)
		}
		rev = r.Header.Revision
	}
	return rev
}

// segment gives the path and the bytes of a member's only log segment, and where each of its frames begins; the last
// number is where they end.
func segment(t *testing.T, m *process.Member) (string, []byte, []int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.Dir, "member", "wal", "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("segments: %v %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	frames, off := []int{}, 0
	for off+8 <= len(b) {
		field := binary.LittleEndian.Uint64(b[off:])
		if field == 0 {
			break
		}
		frames = append(frames, off)
		size := int(field & (1<<56 - 1))
		if top := field >> 56; top != 0 {
			size += int(top & 7)
		}
		off += 8 + size
	}
	return files[0], b, append(frames, off)
}

// A last record that was torn by a loss of power is cut off with a warning; what was acknowledged before it is there.
func TestTornTail(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	fill(t, m, 50)
	m.Kill()
	file, b, frames := segment(t, m)
	// An entry of several sectors that was being written, of which only the first sector reached the disk.
	end := frames[len(frames)-1]
	record := append([]byte{1 << 3, 2, 2 << 3, 77, 3<<3 | 2, 0xd0, 0x0f}, bytes.Repeat([]byte{0xa5}, 2000)...)
	padding := -len(record) & 7
	binary.LittleEndian.PutUint64(b[end:], uint64(len(record))|uint64(0x80|padding)<<56)
	copy(b[end+8:], record[:512-(end+8)%512])
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	m.Serve()
	if log := m.Log(); !strings.Contains(log, `"level":"warn"`) || !strings.Contains(log, "torn") {
		t.Errorf("no warning of the torn tail: %s", log)
	}
	if broken, err := filepath.Glob(file + ".broken"); err != nil || len(broken) != 1 {
		t.Errorf("no copy of the torn file is left: %v %v", broken, err)
	}
	if r, err := m.Client().Get(t.Context(), "key", clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || r.Count != 50 {
		t.Errorf("%v %v", r, err)
	}
	m.Stop()
}

// A flipped byte in any part of the log stops the start, naming file, offset and what to do. Nothing is changed.
func TestFlippedLogByte(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	fill(t, m, 40)
	m.Kill()
	file, sound, frames := segment(t, m)
	n := len(frames)
	for what, at := range map[string]int{
		"the head's metadata":          frames[1] + 12,
		"a length field":               frames[n/2] + 1,
		"a type":                       frames[n/2] + 9,
		"a checksum":                   frames[n/2] + 12,
		"an entry's data":              frames[n/2] + 60,
		"the last record, all on disk": frames[n-2] + 10,
	} {
		b := slices.Clone(sound)
		b[at] ^= 0x10
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out := m.Refused()
		if !strings.Contains(out, filepath.Base(file)) || !strings.Contains(out, "at offset") || !strings.Contains(out, "add it again") {
			t.Errorf("%s (byte %d): the refusal lacks file, offset or what to do: %s", what, at, out)
		}
		if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, b) {
			t.Errorf("%s (byte %d): the refused start changed the log (%v)", what, at, err)
		}
	}
	if err := os.WriteFile(file, sound, 0o600); err != nil {
		t.Fatal(err)
	}
	m.Serve()
	m.Stop()
}

// A flipped byte in the structure of the state file stops the start in the same way.
func TestFlippedStoreByte(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	fill(t, m, 300)
	m.Stop()
	file := filepath.Join(m.Dir, "member", "snap", "db")
	sound, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root := newestRoot(t, sound)
	page := os.Getpagesize()
	for what, at := range map[string]int{
		"a page's own number": root * page,
		"a page's flags":      root*page + 8,
		"a page's count":      root*page + 10,
		"an element's place":  root*page + 16 + 4,
		"an element's length": root*page + 16 + 9,
	} {
		b := slices.Clone(sound)
		b[at] ^= 0x40
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out := m.Refused()
		if !strings.Contains(out, file) || !strings.Contains(out, "at byte") || !strings.Contains(out, "restore") {
			t.Errorf("%s (byte %d): the refusal lacks file, place or what to do: %s", what, at, out)
		}
	}
	if err := os.WriteFile(file, sound, 0o600); err != nil {
		t.Fatal(err)
	}
	m.Serve()
	m.Stop()
}

// newestRoot gives the page of a bolt file where its tree of buckets begins: of the meta page with the higher transaction.
func newestRoot(t *testing.T, b []byte) int {
	t.Helper()
	const magic, rootAt, txidAt = 16, 16 + 16, 16 + 48
	root, newest := 0, uint64(0)
	for i := range 2 {
		meta := b[i*os.Getpagesize():]
		if binary.LittleEndian.Uint32(meta[magic:]) != 0xED0CDAED {
			t.Fatal("the state file is not bolt's")
		}
		if id := binary.LittleEndian.Uint64(meta[txidAt:]); id >= newest {
			root, newest = int(binary.LittleEndian.Uint64(meta[rootAt:])), id
		}
	}
	return root
}
