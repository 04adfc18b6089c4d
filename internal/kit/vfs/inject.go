package vfs

import "io/fs"

// Kind labels an operation that Inject sees.
type Kind string

// The operations that reach Inject's hooks. Reads, locks, directory listings and MkdirAll pass by.
const (
	KindOpen        Kind = "open"
	KindCreate      Kind = "create"
	KindWrite       Kind = "write"
	KindTruncate    Kind = "truncate"
	KindPreallocate Kind = "preallocate"
	KindSync        Kind = "sync"
	KindDatasync    Kind = "datasync"
	KindSyncDir     Kind = "syncdir"
	KindRename      Kind = "rename"
	KindRemove      Kind = "remove"
)

// Op is one operation on the disk. Path is the file's (for a rename: its old name); Off and Len are
// bytes, set for write (both), truncate and preallocate (Len, the size asked for).
type Op struct {
	Kind     Kind
	Path     string
	Off, Len int64
}

// Inject wraps inner. Before each operation it calls before, which may return an error (the operation is
// then not made and fails with it) or block (a hung disk); after one that was made, it calls after,
// whatever came of it. Either may be nil. Both may be called from many goroutines.
func Inject(inner FS, before func(Op) error, after func(Op)) FS {
	if before == nil {
		before = func(Op) error { return nil }
	}
	if after == nil {
		after = func(Op) {}
	}
	return &injectFS{FS: inner, hooks: hooks{before, after}}
}

type hooks struct {
	before func(Op) error
	after  func(Op)
}

func (h hooks) run(op Op, f func() error) error {
	if err := h.before(op); err != nil {
		return err
	}
	err := f()
	h.after(op)
	return err
}

func (h hooks) open(op Op, f func() (File, error)) (File, error) {
	var file File
	err := h.run(op, func() (err error) {
		file, err = f()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &injectFile{File: file, hooks: h}, nil
}

type injectFS struct {
	FS
	hooks
}

func (i *injectFS) Create(name string, perm fs.FileMode) (File, error) {
	return i.open(Op{Kind: KindCreate, Path: name}, func() (File, error) { return i.FS.Create(name, perm) })
}

func (i *injectFS) Open(name string) (File, error) {
	return i.open(Op{Kind: KindOpen, Path: name}, func() (File, error) { return i.FS.Open(name) })
}

func (i *injectFS) OpenWrite(name string) (File, error) {
	return i.open(Op{Kind: KindOpen, Path: name}, func() (File, error) { return i.FS.OpenWrite(name) })
}

func (i *injectFS) Remove(name string) error {
	return i.run(Op{Kind: KindRemove, Path: name}, func() error { return i.FS.Remove(name) })
}

func (i *injectFS) RemoveAll(name string) error {
	return i.run(Op{Kind: KindRemove, Path: name}, func() error { return i.FS.RemoveAll(name) })
}

func (i *injectFS) Rename(oldname, newname string) error {
	return i.run(Op{Kind: KindRename, Path: oldname}, func() error { return i.FS.Rename(oldname, newname) })
}

func (i *injectFS) SyncDir(dir string) error {
	return i.run(Op{Kind: KindSyncDir, Path: dir}, func() error { return i.FS.SyncDir(dir) })
}

type injectFile struct {
	File
	hooks
}

func (i *injectFile) WriteAt(p []byte, off int64) (n int, err error) {
	op := Op{Kind: KindWrite, Path: i.Name(), Off: off, Len: int64(len(p))}
	err = i.run(op, func() (err error) {
		n, err = i.File.WriteAt(p, off)
		return err
	})
	return n, err
}

func (i *injectFile) Truncate(size int64) error {
	op := Op{Kind: KindTruncate, Path: i.Name(), Len: size}
	return i.run(op, func() error { return i.File.Truncate(size) })
}

func (i *injectFile) Preallocate(size int64) error {
	op := Op{Kind: KindPreallocate, Path: i.Name(), Len: size}
	return i.run(op, func() error { return i.File.Preallocate(size) })
}

func (i *injectFile) Sync() error {
	return i.run(Op{Kind: KindSync, Path: i.Name()}, i.File.Sync)
}

func (i *injectFile) Datasync() error {
	return i.run(Op{Kind: KindDatasync, Path: i.Name()}, i.File.Datasync)
}
