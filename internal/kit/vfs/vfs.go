// Package vfs is the only door to the disk for the write-ahead log, the snapshots and the data directory.
// OS is the real one; Mem is a disk in memory that can crash: it forgets what was not synced and tears
// sectors; Inject wraps any FS and fails, delays or records chosen operations by their label.
//
// Bolt maps its file into memory and cannot go through an FS: OSPath names the real file that stands
// behind a path, and bolt's own atomicity is trusted.
package vfs

import (
	"io"
	"io/fs"
)

// FS is a file system. Paths are slash-separated and interpreted as the OS would. Errors satisfy
// errors.Is with fs.ErrNotExist and fs.ErrExist where that is the cause.
type FS interface {
	// Create makes (or truncates) a file for reading and writing.
	Create(name string, perm fs.FileMode) (File, error)
	// Open opens an existing file for reading only.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing, contents kept.
	OpenWrite(name string) (File, error)
	MkdirAll(dir string, perm fs.FileMode) error
	Remove(name string) error
	RemoveAll(name string) error
	// Rename replaces newname atomically; it is durable only after SyncDir of the directory.
	Rename(oldname, newname string) error
	ReadDir(dir string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes creations, renames and removals in dir durable.
	SyncDir(dir string) error
	// OSPath gives the path of the real file that stands behind name, for libraries that need one.
	OSPath(name string) string
}

// File is an open file. WriteAt and ReadAt may run concurrently with each other.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size gives the file's present length in bytes.
	Size() (int64, error)
	Truncate(size int64) error
	// Preallocate reserves blocks so that the file is at least size bytes long, reading as zeros.
	Preallocate(size int64) error
	// Sync makes data and metadata durable; Datasync data and what is needed to read it back.
	// After either has failed nothing about the file's durability is known: never retry.
	Sync() error
	Datasync() error
	// TryLock takes an exclusive advisory lock that dies with the process (an open-file-description
	// lock on Linux, as etcd takes on its log segments). ErrLocked where somebody else holds it.
	TryLock() error
	Name() string
}
