package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrLocked is returned when TryLock finds the file locked through another handle, be it in this
// process or in another one.
var ErrLocked = errors.New("vfs: file is locked by another process")

// OS is the machine's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Create(name string, perm fs.FileMode) (File, error) {
	return openOS(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, perm)
}
func (osFS) Open(name string) (File, error)      { return openOS(name, os.O_RDONLY, 0) }
func (osFS) OpenWrite(name string) (File, error) { return openOS(name, os.O_RDWR, 0) }

func openOS(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

func (osFS) MkdirAll(dir string, perm fs.FileMode) error { return os.MkdirAll(dir, perm) }
func (osFS) Remove(name string) error                    { return os.Remove(name) }
func (osFS) RemoveAll(name string) error                 { return os.RemoveAll(name) }
func (osFS) Rename(oldname, newname string) error        { return os.Rename(oldname, newname) }
func (osFS) ReadDir(dir string) ([]fs.DirEntry, error)   { return os.ReadDir(dir) }
func (osFS) Stat(name string) (fs.FileInfo, error)       { return os.Stat(name) }
func (osFS) SyncDir(dir string) error                    { return syncDir(dir) }
func (osFS) OSPath(name string) string                   { return name }

type osFile struct{ f *os.File }

func (o *osFile) ReadAt(p []byte, off int64) (int, error)  { return o.f.ReadAt(p, off) }
func (o *osFile) WriteAt(p []byte, off int64) (int, error) { return o.f.WriteAt(p, off) }
func (o *osFile) Close() error                             { return o.f.Close() }
func (o *osFile) Truncate(size int64) error                { return o.f.Truncate(size) }
func (o *osFile) Sync() error                              { return o.f.Sync() }
func (o *osFile) Name() string                             { return o.f.Name() }

func (o *osFile) Size() (int64, error) {
	st, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (o *osFile) Datasync() error {
	if err := o.control(datasync); err != nil {
		return &fs.PathError{Op: "fdatasync", Path: o.f.Name(), Err: err}
	}
	return nil
}

func (o *osFile) Preallocate(size int64) error {
	have, err := o.Size()
	if err != nil {
		return err
	}
	if size <= 0 {
		return nil
	}
	err = o.control(func(f *os.File, fd uintptr) error { return preallocate(fd, size) })
	if errors.Is(err, errors.ErrUnsupported) {
		// No blocks are reserved, but the file reads the same.
		if err = nil; have < size {
			err = o.f.Truncate(size)
		}
	}
	if err != nil {
		return &fs.PathError{Op: "preallocate", Path: o.f.Name(), Err: err}
	}
	return nil
}

func (o *osFile) TryLock() error {
	err := o.control(func(_ *os.File, fd uintptr) error { return tryLock(fd) })
	if err != nil {
		return fmt.Errorf("vfs: lock %s: %w", o.f.Name(), err)
	}
	return nil
}

// control runs f while the descriptor is held open against a concurrent Close.
func (o *osFile) control(f func(file *os.File, fd uintptr) error) error {
	conn, err := o.f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(o.f, fd) }); err != nil {
		return err
	}
	return inner
}
