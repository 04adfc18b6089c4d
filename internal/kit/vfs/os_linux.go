package vfs

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// preallocateTries bounds how often an interrupted fallocate is started again before the file is only
// extended: some systems interrupt it every time.
const preallocateTries = 8

func datasync(_ *os.File, fd uintptr) error {
	for {
		if err := unix.Fdatasync(int(fd)); err != unix.EINTR {
			return err
		}
	}
}

func preallocate(fd uintptr, size int64) error {
	for range preallocateTries {
		if err := unix.Fallocate(int(fd), 0, 0, size); err != unix.EINTR {
			return err
		}
	}
	return errors.ErrUnsupported
}

// tryLock takes an open-file-description lock over the whole file, the kind that etcd takes, so that
// the two exclude each other; a kernel without them gets flock, as from etcd.
func tryLock(fd uintptr) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err := unix.FcntlFlock(fd, unix.F_OFD_SETLK, &lock)
	if err == unix.EINVAL {
		err = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == unix.EAGAIN || err == unix.EACCES {
		return ErrLocked
	}
	return err
}
