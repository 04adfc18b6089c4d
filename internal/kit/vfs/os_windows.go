package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

func datasync(f *os.File, _ uintptr) error { return f.Sync() }

func preallocate(uintptr, int64) error { return errors.ErrUnsupported }

// tryLock locks the first byte, as etcd does there.
func tryLock(fd uintptr) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(fd), flags, 0, 1, 0, &windows.Overlapped{})
	if err == windows.ERROR_LOCK_VIOLATION || err == windows.ERROR_IO_PENDING {
		return ErrLocked
	}
	return err
}

// syncDir does nothing: Windows has no handle on a directory that could be flushed.
func syncDir(string) error { return nil }
