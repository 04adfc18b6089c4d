package store

import (
	"errors"
	"fmt"
)

var (
	// ErrInUse is returned by Open when another process holds the file's lock.
	ErrInUse = errors.New("store: the file is locked by another process")
	// ErrClosed is returned when the store was closed, or abandoned, before what was asked was done.
	ErrClosed = errors.New("store: closed")
)

// CorruptError says that the state file is damaged, where, and what to do about it.
type CorruptError struct {
	// File is the path of the damaged file.
	File string
	// Offset is the place of the damage in bytes, or -1 where it is not known.
	Offset int64
	// Reason is what was found there.
	Reason string
	// Err is the error that showed the damage, or nil.
	Err error
}

// Error gives file, place, finding and remedy in one line.
func (e *CorruptError) Error() string {
	at := ""
	if e.Offset >= 0 {
		at = fmt.Sprintf(" at byte %d", e.Offset)
	}
	return fmt.Sprintf("store: %s is damaged%s: %s; keep a copy of the data directory, then remove this member from its cluster and add it "+
		"again with an empty directory, or restore a saved snapshot with 'etcdutl snapshot restore'", e.File, at, e.Reason)
}

// Unwrap gives the error that showed the damage.
func (e *CorruptError) Unwrap() error { return e.Err }
