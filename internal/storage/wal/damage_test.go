package wal

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/kit/vfs"
)

// smallLog writes a log of two segments with every kind of record, and gives their bytes, used part alone.
func smallLog(t testing.TB) (names []string, files [][]byte, want string) {
	m := newMem(t)
	o := Options{SegmentBytes: 900}
	w := create(t, m, o)
	i := uint64(0)
	put := func(term uint64, data string) *raftpb.Entry {
		i++
		return entry(i, term, data)
	}
	step := func(b Batch) {
		ok(t, w.Append(b))
		ok(t, w.Sync())
	}
	step(Batch{Entries: []*raftpb.Entry{put(1, "first")}, State: state(1, 77, 0)})
	step(Batch{Entries: []*raftpb.Entry{{Index: ptr(uint64(2)), Term: ptr(uint64(2))}}, State: state(2, 77, 1)})
	i++
	step(Batch{Entries: []*raftpb.Entry{put(2, strings.Repeat("long", 150)), put(2, "ab")}, State: state(2, 77, 2)})
	step(Batch{Mark: &Mark{Index: 2, Term: 2, ConfState: voters(7, 8)}})
	step(Batch{Entries: []*raftpb.Entry{put(2, ""), put(2, "sixth")}, State: state(3, 1<<40, 4)})
	step(Batch{Entries: []*raftpb.Entry{put(3, strings.Repeat("z", 100))}, State: state(3, 1<<40, 5)})
	ok(t, w.Close())
	_, want = reopen(t, m, o)
	for _, s := range w.index.segments {
		f := must[vfs.File](t)(m.Open(s.path))
		b := make([]byte, must[int64](t)(f.Size()))
		if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if s == w.index.tail() {
			b = b[:w.off]
		}
		names, files = append(names, filepath.Base(s.path)), append(files, b)
	}
	if len(files) != 2 {
		t.Fatalf("%d segments", len(files))
	}
	return names, files, want
}

// openBytes opens a log of the given segments; a log that opens must open again, to the same contents.
func openBytes(t testing.TB, names []string, files [][]byte) (*Contents, error) {
	t.Helper()
	m := newMem(t)
	for n := range files {
		writeSegment(t, m, testDir, names[n], files[n])
	}
	o := Options{SegmentBytes: 900}
	whole, wholeErr := ReadOnly(m, testDir, zap.NewNop())
	c, w, err := Open(m, testDir, o)
	if err != nil {
		return nil, err
	}
	ok(t, w.Close())
	if wholeErr == nil && describe(whole) != describe(c) {
		t.Fatalf("all of the log reads as\n%s, its end as\n%s", describe(whole), describe(c))
	}
	if again, text := reopen(t, m, o); text != describe(c) || again.Repaired {
		t.Fatalf("opened as\n%s, then (repaired %v) as\n%s", describe(c), again.Repaired, text)
	}
	return c, nil
}

// entriesOf cuts a description to its entries.
func entriesOf(text string) string { return text[strings.Index(text, "\n")+1:] }

// TestFlips changes every byte in several ways. Damage is refused; where it can't be told from a torn
// write, the entries are a beginning of what was written.
func TestFlips(t *testing.T) {
	names, files, want := smallLog(t)
	mended, refused := 0, 0
	for n, file := range files {
		for i := range file {
			for _, flip := range []byte{0x01, 0x80, 0xff, file[i]} {
				if flip == 0 {
					continue
				}
				bad := append([]byte(nil), file...)
				bad[i] ^= flip
				tail := [][]byte{files[0], bad}
				if n == 0 {
					tail = [][]byte{bad, files[1]}
				}
				c, err := openBytes(t, names, tail)
				var corrupt *CorruptError
				switch {
				case errors.As(err, &corrupt):
					refused++
				case err != nil:
					t.Fatalf("%s byte %d ^ %#x: %v", names[n], i, flip, err)
				case !c.Repaired || n == 0 || !strings.HasPrefix(entriesOf(want), entriesOf(describe(c))):
					t.Fatalf("%s byte %d ^ %#x opened (repaired %v) as\n%s", names[n], i, flip, c.Repaired, describe(c))
				default:
					mended++
				}
			}
		}
	}
	// What is mended lies in the last record's length: too long for the file, as if it were cut.
	if mended > 40 || refused == 0 {
		t.Fatalf("%d flips mended, %d refused", mended, refused)
	}
}

// TestCuts cuts the log at every byte: a beginning of it is left, and an append goes on from there.
func TestCuts(t *testing.T) {
	names, files, want := smallLog(t)
	for cut := range files[1] {
		c, err := openBytes(t, names, [][]byte{files[0], files[1][:cut]})
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if !strings.HasPrefix(entriesOf(want), entriesOf(describe(c))) {
			t.Fatalf("cut at %d gives\n%s", cut, describe(c))
		}
	}
	for cut := range files[0] {
		c, err := openBytes(t, names[:1], [][]byte{files[0][:cut]})
		var corrupt *CorruptError
		if errors.As(err, &corrupt) && cut < 80 {
			continue // within the head, without which there is no log
		}
		if err != nil {
			t.Fatalf("single segment cut at %d: %v", cut, err)
		}
		// The mark at 2 may be among what was cut: then the first two entries are there still.
		whole := "1 1 0 \"first\"\n2 2 0 \"\"\n" + entriesOf(want)
		if got := entriesOf(describe(c)); !strings.HasPrefix(whole, got) && !strings.HasPrefix(entriesOf(want), got) {
			t.Fatalf("single segment cut at %d gives\n%s", cut, describe(c))
		}
	}
}

// TestLostSectors zeroes each sector of the tail: as after a crash, a beginning is left.
func TestLostSectors(t *testing.T) {
	names, files, want := smallLog(t)
	for off := 0; off < len(files[1]); off += sectorBytes {
		bad := append([]byte(nil), files[1]...)
		clear(bad[off:min(off+sectorBytes, len(bad))])
		c, err := openBytes(t, names, [][]byte{files[0], bad})
		if err != nil {
			t.Fatalf("sector at %d: %v", off, err)
		}
		if !strings.HasPrefix(entriesOf(want), entriesOf(describe(c))) || !c.Repaired {
			t.Fatalf("sector at %d gives (repaired %v)\n%s", off, c.Repaired, describe(c))
		}
	}
}

// TestMissingSegment: a log without its middle is refused, and the error says what to do.
func TestMissingSegment(t *testing.T) {
	names, files, _ := smallLog(t)
	_, err := openBytes(t, names[1:], files[1:])
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "restore") || !strings.Contains(err.Error(), names[1]) {
		t.Fatalf("without the first segment: %v", err)
	}
}

// TestBrokenCopy: the segment as it was before mending stays beside the log.
func TestBrokenCopy(t *testing.T) {
	names, files, _ := smallLog(t)
	m := newMem(t)
	cut := files[0][:len(files[0])-5]
	writeSegment(t, m, testDir, names[0], cut)
	if c, _ := reopen(t, m, Options{SegmentBytes: 900}); !c.Repaired {
		t.Fatal("not repaired")
	}
	f := must[vfs.File](t)(m.Open(filepath.Join(testDir, names[0]+".broken")))
	b := make([]byte, len(cut))
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != string(cut) {
		t.Fatalf("the copy differs: %v", err)
	}
}

// FuzzOpen reads any bytes as a segment. Whatever opens must be a log without holes that opens again.
func FuzzOpen(f *testing.F) {
	names, files, _ := smallLog(f)
	f.Add(files[0])
	f.Add(files[1])
	f.Add(append(append([]byte(nil), files[0]...), make([]byte, 700)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := openBytes(t, names[:1], [][]byte{b})
		var corrupt *CorruptError
		if err != nil && !errors.As(err, &corrupt) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		for n, e := range c.Entries {
			if e.GetIndex() != c.Mark.Index+1+uint64(n) {
				t.Fatalf("entry %d after mark %d at place %d", e.GetIndex(), c.Mark.Index, n)
			}
		}
	})
}

// FuzzRecords feeds the parsers of single records.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{0x08, 0x01, 0x10, 0x02, 0x18, 0x03, 0x22, 0x01, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, ok := parseHeader(b, int64(len(b))); ok && h.size+h.data != len(b) {
			t.Fatalf("header %+v of %d bytes", h, len(b))
		}
		if e, err := parseEntry(b); err == nil {
			var enc encoder
			enc.entry(e)
			if back, err := parseEntry(append(enc.head, e.Data...)); err != nil || back.String() != e.String() {
				t.Fatalf("%v became %v, %v", e, back, err)
			}
		}
		parseMetadata(b)
		parseState(b)
		parseMark(b)
	})
}
