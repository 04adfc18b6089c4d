package wal

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/kit/vfs"
)

// A log is read as Open would read it, by its side, and stays as it is: also a torn tail.
func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wal")
	if _, err := ReadOnly(vfs.OS, dir, zap.NewNop()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	ok(t, os.Mkdir(dir, dirPerm))
	if _, err := ReadOnly(vfs.OS, dir, zap.NewNop()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
	o := Options{SegmentBytes: 4 << 10}
	w := must[*Writer](t)(Create(vfs.OS, dir, Metadata{NodeID: 7, ClusterID: 9}, o))
	for i := range uint64(100) {
		ok(t, w.Append(Batch{Entries: []*raftpb.Entry{entry(i+1, 1, "some data of an entry")}, State: state(1, 7, i+1)}))
		ok(t, w.Sync())
	}
	ok(t, w.Append(Batch{Mark: &Mark{Index: 60, Term: 1, ConfState: voters(7)}}))
	ok(t, w.Sync())
	locked := describe(must[*Contents](t)(ReadOnly(vfs.OS, dir, zap.NewNop())))
	ok(t, w.Close())

	names := must[[]name](t)(listSegments(vfs.OS, dir, zap.NewNop()))
	last := filepath.Join(dir, names[len(names)-1].String())
	whole := must[[]byte](t)(os.ReadFile(last))
	torn := bytes.TrimRight(whole, "\x00")
	ok(t, os.WriteFile(last, torn[:len(torn)-3], filePerm))
	cut := describe(must[*Contents](t)(ReadOnly(vfs.OS, dir, zap.NewNop())))
	if after := must[[]byte](t)(os.ReadFile(last)); !bytes.Equal(after, torn[:len(torn)-3]) {
		t.Error("reading has changed the file")
	}
	if cut == locked {
		t.Error("a mark that was torn off counts")
	}
	ok(t, os.WriteFile(last, whole, filePerm))
	c, opened, err := Open(vfs.OS, dir, o)
	ok(t, err)
	ok(t, opened.Close())
	if got := describe(c); got != locked || c.Mark.Index != 60 {
		t.Errorf("open reads\n%s\nand the reader\n%s", got, locked)
	}
	flipped := bytes.Clone(whole)
	flipped[100] ^= 1
	ok(t, os.WriteFile(last, flipped, filePerm))
	var corrupt *CorruptError
	if _, err := ReadOnly(vfs.OS, dir, zap.NewNop()); !errors.As(err, &corrupt) || corrupt.File != last {
		t.Errorf("a flipped byte: %v", err)
	}
}
