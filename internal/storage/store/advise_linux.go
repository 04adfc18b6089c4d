package store

import (
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// forget lets go of the pages of the file that a long read through the map has brought into this
// process's memory; they stay in the system's cache. The caller's read transaction keeps the map in place.
func forget(tx *bolt.Tx) { advise(tx, unix.MADV_DONTNEED) }

// readAhead has the system read the whole file now: bolt advises it that reads are random, which makes a
// cold start read page by page.
func readAhead(tx *bolt.Tx) { advise(tx, unix.MADV_WILLNEED) }

func advise(tx *bolt.Tx, advice uintptr) {
	// Advice changes no content and its failure costs nothing but memory or time.
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, tx.DB().Info().Data, uintptr(tx.Size()), advice)
}
