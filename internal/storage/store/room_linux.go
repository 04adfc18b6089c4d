package store

import "golang.org/x/sys/unix"

// freeBytes is how much this process may still write to the disk of dir; ok is false where that cannot be told.
func freeBytes(dir string) (free int64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * st.Bsize, true
}
