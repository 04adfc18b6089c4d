package health

import (
	"os"
	"syscall"
)

// fileDescriptors counts those that are open, and those that may be. Reading the directory takes one itself, which is not
// counted.
func fileDescriptors() (used, limit uint64, err error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, 0, err
	}
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0, 0, err
	}
	return uint64(max(len(names)-1, 0)), r.Cur, nil
}
