package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/vfs"
)

const testDir = "/data/wal"

func ptr[T any](v T) *T { return &v }

func entry(i, term uint64, data string) *raftpb.Entry {
	return &raftpb.Entry{Index: &i, Term: &term, Type: ptr(raftpb.EntryNormal), Data: []byte(data)}
}

func state(term, vote, commit uint64) *raftpb.HardState { return hardState{term, vote, commit}.proto() }

func voters(ids ...uint64) *raftpb.ConfState { return &raftpb.ConfState{Voters: ids} }

func newMem(t testing.TB) *vfs.Mem {
	m := vfs.NewMem(1)
	if err := errors.Join(m.MkdirAll(filepath.Dir(testDir), dirPerm), m.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return m
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, fsys vfs.FS, o Options) *Writer {
	t.Helper()
	return must[*Writer](t)(Create(fsys, testDir, Metadata{NodeID: 7, ClusterID: 9}, o))
}

// describe gives contents as text, to compare.
func describe(c *Contents) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d/%d state %d %d %d mark %d %d %v\n", c.NodeID, c.ClusterID,
		c.State.GetTerm(), c.State.GetVote(), c.State.GetCommit(), c.Mark.Index, c.Mark.Term, c.Mark.ConfState.GetVoters())
	for _, e := range c.Entries {
		fmt.Fprintf(&b, "%d %d %d %.20q", e.GetIndex(), e.GetTerm(), e.GetType(), e.Data)
		if len(e.Data) > 20 {
			fmt.Fprintf(&b, " and so on: %d bytes, sum %08x", len(e.Data), crc32.ChecksumIEEE(e.Data))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// reopen opens, closes and describes the log.
func reopen(t testing.TB, fsys vfs.FS, o Options) (*Contents, string) {
	t.Helper()
	c, w, err := Open(fsys, testDir, o)
	if err != nil {
		t.Fatal(err)
	}
	ok(t, w.Close())
	return c, describe(c)
}

// fromEtcd puts the segment that a real etcd wrote into a log directory.
func fromEtcd(t testing.TB, fsys vfs.FS, dir string) []byte {
	t.Helper()
	const base = "0000000000000000-0000000000000000.wal"
	b := must[[]byte](t)(os.ReadFile(filepath.Join("testdata", "etcd-3.7.3", base)))
	writeSegment(t, fsys, dir, base, b)
	return b
}

func writeSegment(t testing.TB, fsys vfs.FS, dir, base string, b []byte) {
	t.Helper()
	ok(t, fsys.MkdirAll(dir, dirPerm))
	f := must[vfs.File](t)(fsys.Create(filepath.Join(dir, base), filePerm))
	_, err := f.WriteAt(b, 0)
	ok(t, errors.Join(err, f.Sync(), f.Close(), fsys.SyncDir(dir), fsys.SyncDir(filepath.Dir(dir))))
}

func TestOpenEtcd(t *testing.T) {
	m := newMem(t)
	fromEtcd(t, m, testDir)
	o := Options{SegmentBytes: 1 << 20}
	c, w, err := Open(m, testDir, o)
	ok(t, err)
	if c.NodeID != 7027600675245444026 || c.ClusterID != 16396602587735997415 || c.Repaired {
		t.Fatalf("metadata %+v, repaired %v", c.Metadata, c.Repaired)
	}
	if c.Mark.Index != 301 || c.Mark.Term != 2 || len(c.Mark.ConfState.GetVoters()) != 1 {
		t.Fatalf("mark %+v", c.Mark)
	}
	last := c.Entries[len(c.Entries)-1]
	if c.Entries[0].GetIndex() != 302 || last.GetIndex() != 504 || c.State.GetTerm() != 2 || c.State.GetCommit() < 503 {
		t.Fatalf("entries %d to %d, state %v", c.Entries[0].GetIndex(), last.GetIndex(), c.State)
	}
	if !bytes.Contains(last.Data, []byte("key-499")) || !bytes.Contains(last.Data, []byte("value-499")) {
		t.Fatalf("last entry %q", last.Data)
	}
	all := must[[]*raftpb.Entry](t)(w.ReadEntries(1, 505, 1<<30))
	if len(all) != 504 || !proto.Equal(all[503], last) || all[0].GetType() != raftpb.EntryConfChange {
		t.Fatalf("read back %d entries, the first %v", len(all), all[0])
	}
	ok(t, w.Append(Batch{Entries: []*raftpb.Entry{entry(505, 3, "ours")}, State: state(3, 1, 505)}))
	ok(t, w.Sync())
	ok(t, w.Close())
	c, _ = reopen(t, m, o)
	if len(c.Entries) != 204 || c.Repaired {
		t.Fatalf("after one more append: %d entries, repaired %v", len(c.Entries), c.Repaired)
	}
}

// TestEncodeAsEtcd writes every record that etcd wrote again: the bytes must be the same.
func TestEncodeAsEtcd(t *testing.T) {
	m := newMem(t)
	want := fromEtcd(t, m, testDir)
	f := must[vfs.File](t)(m.Open(filepath.Join(testDir, name{}.String())))
	r := frameReader{file: f, limit: int64(len(want))}
	var enc encoder
	var kinds [6]int
	for {
		fr, err := r.next()
		if errors.Is(err, errEnd) {
			break
		}
		ok(t, err)
		kinds[fr.typ]++
		switch fr.typ {
		case typeMetadata:
			enc.metadata(must[Metadata](t)(parseMetadata(fr.data)))
		case typeEntry:
			enc.entry(must[*raftpb.Entry](t)(parseEntry(fr.data)))
		case typeState:
			enc.state(must[hardState](t)(parseState(fr.data)))
		case typeCRC:
			enc.chain()
		case typeMark:
			ok(t, enc.mark(must[Mark](t)(parseMark(fr.data))))
		}
		if !bytes.Equal(enc.buf[fr.off:], want[fr.off:r.off]) {
			t.Fatalf("record at %d, type %d:\n%x, etcd wrote\n%x", fr.off, fr.typ, enc.buf[fr.off:], want[fr.off:r.off])
		}
	}
	if kinds[typeEntry] != 504 || kinds[typeMark] != 2 || kinds[typeState] == 0 {
		t.Fatalf("kinds of records %v", kinds)
	}
}

func TestEntryAsProtobuf(t *testing.T) {
	for _, e := range []*raftpb.Entry{
		{Index: ptr(uint64(1))},
		{Index: ptr(uint64(1)), Data: []byte{}},
		{Index: ptr(uint64(300)), Term: ptr(uint64(1 << 60)), Type: ptr(raftpb.EntryConfChange), Data: []byte("x")},
		entry(1<<63, 5, string(make([]byte, 1000))),
	} {
		var enc encoder
		enc.entry(e)
		want := must[[]byte](t)(proto.Marshal(e))
		if got := append(enc.head, e.Data...); !bytes.Equal(got, want) {
			t.Fatalf("%v: %x, protobuf gives %x", e, got, want)
		}
		if back := must[*raftpb.Entry](t)(parseEntry(want)); !proto.Equal(back, e) {
			t.Fatalf("%v read as %v", e, back)
		}
	}
}

// TestLockIsEtcds: a second process is kept out, on the real disk too, and no lock survives Close.
func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wal")
	o := Options{SegmentBytes: 1 << 16}
	w := must[*Writer](t)(Create(vfs.OS, dir, Metadata{1, 2}, o))
	if _, _, err := Open(vfs.OS, dir, o); !errors.Is(err, ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
	if _, err := Create(vfs.OS, dir, Metadata{1, 2}, o); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second create: %v", err)
	}
	ok(t, w.Close())
	_, w, err := Open(vfs.OS, dir, o)
	ok(t, err)
	ok(t, w.Close())
	list := must[[]fs.DirEntry](t)(vfs.OS.ReadDir(dir))
	if len(list) != 1 {
		t.Fatalf("left behind: %v", list)
	}
}

// TestTemps: what a killed process left half made is cleared away.
func TestTemps(t *testing.T) {
	m := newMem(t)
	ok(t, m.MkdirAll(testDir+".tmp", dirPerm))
	ok(t, m.MkdirAll(testDir, dirPerm))
	for _, p := range []string{testDir + ".tmp/0000000000000000-0000000000000000.wal", testDir + "/0.tmp"} {
		ok(t, must[vfs.File](t)(m.Create(p, filePerm)).Close())
	}
	if Exists(m, testDir) {
		t.Fatal("a log exists before Create")
	}
	w := create(t, m, Options{SegmentBytes: 4096})
	m = m.CrashProcess()
	if !Exists(m, testDir) {
		t.Fatal("no log after Create")
	}
	reopen(t, m, Options{SegmentBytes: 4096})
	if list := must[[]fs.DirEntry](t)(m.ReadDir(testDir)); len(list) != 1 {
		t.Fatalf("left behind: %v", list)
	}
	ok(t, w.Close())
	if _, _, err := Open(m, "/data/none", Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open of nothing: %v", err)
	}
}

// TestFailuresStick: after a failed write or sync nothing is tried again.
func TestFailuresStick(t *testing.T) {
	for _, kind := range []vfs.Kind{vfs.KindWrite, vfs.KindDatasync} {
		bad := errors.New("bad disk")
		broken, tried := false, 0
		fsys := vfs.Inject(newMem(t), func(op vfs.Op) error {
			if op.Kind == kind && broken {
				tried++
				return bad
			}
			return nil
		}, nil)
		w := create(t, fsys, Options{SegmentBytes: 4096})
		broken = true
		err := w.Append(Batch{Entries: []*raftpb.Entry{entry(1, 1, "x")}})
		for range 3 {
			err = errors.Join(err, w.Sync())
		}
		if !errors.Is(err, bad) || !errors.Is(w.Append(Batch{State: state(1, 1, 1)}), bad) || !errors.Is(w.Close(), bad) || tried != 1 {
			t.Fatalf("%s: error %v after %d tries", kind, err, tried)
		}
	}
}

// TestNoSpace: appends go on in a full segment while the next one can't be allocated; the owner is told.
func TestNoSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("no space")
		space := make(chan bool, 1)
		space <- true
		told := make(chan error, 100)
		fsys := vfs.Inject(newMem(t), func(op vfs.Op) error {
			have := <-space
			space <- have
			if op.Kind == vfs.KindPreallocate && !have {
				return full
			}
			return nil
		}, nil)
		o := Options{SegmentBytes: 4096, OnPrepare: func(err error) { told <- err }}
		w := create(t, fsys, o)
		synctest.Wait()
		<-space
		space <- false
		for i := range uint64(100) {
			ok(t, w.Append(Batch{Entries: []*raftpb.Entry{entry(i+1, 1, "0123456789012345678901234567890123456789012345678901234567890123456789")}}))
			ok(t, w.Sync())
		}
		if err := <-told; !errors.Is(err, full) {
			t.Fatalf("told %v", err)
		}
		if n := len(w.index.segments); n != 2 {
			t.Fatalf("%d segments, want the first and the one prepared before", n)
		}
		<-space
		space <- true
		for err := <-told; err != nil; err = <-told {
		}
		ok(t, w.Append(Batch{Entries: []*raftpb.Entry{entry(101, 1, "last")}}))
		ok(t, w.Sync())
		if n := len(w.index.segments); n != 3 {
			t.Fatalf("%d segments once there is space again", n)
		}
		ok(t, w.Close())
		if c, _ := reopen(t, fsys, Options{SegmentBytes: 4096}); len(c.Entries) != 101 {
			t.Fatalf("%d entries", len(c.Entries))
		}
	})
}

func TestRefusedBatches(t *testing.T) {
	for what, b := range map[string]Batch{
		"hole":                 {Entries: []*raftpb.Entry{entry(3, 1, "x")}},
		"index 0":              {Entries: []*raftpb.Entry{entry(0, 1, "x")}},
		"not ascending":        {Entries: []*raftpb.Entry{entry(1, 1, "x"), entry(1, 1, "x")}},
		"mark without members": {Mark: &Mark{Index: 5, Term: 1}},
		"empty change":         {Entries: []*raftpb.Entry{{Index: ptr(uint64(1)), Type: ptr(raftpb.EntryConfChange)}}},
	} {
		w := create(t, newMem(t), Options{SegmentBytes: 4096})
		if w.Append(b) == nil || w.Sync() == nil {
			t.Errorf("%s was accepted", what)
		}
		w.Close()
	}
}
