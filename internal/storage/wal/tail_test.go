package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/kit/vfs"
)

// TestOpenReadsTheEnd damages one segment after the other: Open needs those from the last mark's on, and what it reads of them
// is what a read of all of them gives.
func TestOpenReadsTheEnd(t *testing.T) {
	const entries = 60
	for _, mark := range []uint64{2, 20, 40, entries} {
		t.Run(fmt.Sprint("mark at ", mark), func(t *testing.T) {
			m := newMem(t)
			o := Options{SegmentBytes: 900}
			w := create(t, m, o)
			for i := uint64(1); i <= entries; i++ {
				ok(t, w.Append(Batch{Entries: []*raftpb.Entry{entry(i, 1, "some data of an entry")}, State: state(1, 7, i)}))
				ok(t, w.Sync())
				if i == mark {
					ok(t, w.Append(Batch{Mark: &Mark{Index: i, Term: 1, ConfState: voters(7)}}))
					ok(t, w.Sync())
				}
			}
			ok(t, w.Close())
			want := describe(must[*Contents](t)(ReadOnly(m, testDir, zap.NewNop())))
			names := must[[]name](t)(listSegments(m, testDir, zap.NewNop()))
			holder := 0
			for k, n := range names {
				if n.first <= mark+1 {
					holder = k
				}
			}
			opened := 0
			for k, n := range names {
				damage(t, m, n, func() {
					_, err := ReadOnly(m, testDir, zap.NewNop())
					if all := (*CorruptError)(nil); !errors.As(err, &all) {
						t.Fatalf("segment %d of %d is damaged, and a read of all says %v", k, len(names), err)
					}
					c, w, err := Open(m, testDir, o)
					refused := (*CorruptError)(nil)
					switch {
					case err == nil:
						ok(t, w.Close())
						if opened++; k >= holder || describe(c) != want {
							t.Errorf("segment %d of %d is damaged, the mark is in %d: opened as\n%s", k, len(names), holder, describe(c))
						}
					case !errors.As(err, &refused) || filepath.Base(refused.File) != n.String():
						t.Errorf("segment %d of %d is damaged: %v", k, len(names), err)
					}
				})
			}
			if _, text := reopen(t, m, o); text != want {
				t.Errorf("opened as\n%s\nall of it reads as\n%s", text, want)
			}
			if mark == entries && opened == 0 {
				t.Error("every open needed every segment")
			}
		})
	}
}

// damage flips a bit of the second record of a segment while f runs.
func damage(t *testing.T, fsys vfs.FS, n name, f func()) {
	t.Helper()
	file := must[vfs.File](t)(fsys.OpenWrite(filepath.Join(testDir, n.String())))
	defer file.Close()
	r := frameReader{file: file, limit: must[int64](t)(file.Size()), trust: true}
	var fr frame
	for range headFrames {
		fr = must[frame](t)(r.next())
	}
	flip := func() {
		b := make([]byte, 1)
		must[int](t)(file.ReadAt(b, fr.off+lengthBytes+10))
		b[0] ^= 4
		must[int](t)(file.WriteAt(b, fr.off+lengthBytes+10))
	}
	flip()
	f()
	flip()
}
