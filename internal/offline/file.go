// Package offline works on the files of members that do not run, for etcdutl and for etcdctl's backup and migrate: it tells
// what a saved snapshot holds, makes data directories from one, defragments a state file, hashes its keys, moves its storage
// version, and makes v3 keys of v2 keys.
//
// Nothing here talks to a member. A file that a running member has locked is refused (ErrInUse of package store). What
// is only read is never changed, and what is written appears whole or not at all: it is made under another name,
// synced, and renamed last.
package offline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"keelson/internal/storage/store"
)

var (
	// ErrNoHash is returned when a snapshot to restore has no checksum behind it.
	ErrNoHash = errors.New("snapshot missing hash but --skip-hash-check=false")
	// ErrFutureRev is returned when a revision is asked for that the file has not reached. The text is etcd's.
	ErrFutureRev = errors.New("mvcc: required revision is a future revision")
	// ErrCompacted is returned when a revision is asked for that was compacted. The text is etcd's.
	ErrCompacted = errors.New("mvcc: required revision has been compacted")
)

// waitForSnapshot is how long a snapshot that another process has locked is waited for: nobody writes to one.
const waitForSnapshot = time.Second

// dirMode is the mode of the directories that are made, etcd's.
const dirMode = 0o700

// sectorBytes divides the size of every page: a file that is a checksum longer than a multiple of it has one.
const sectorBytes = 512

// hashed tells whether a file of size bytes ends with a checksum.
func hashed(size int64) bool { return size%sectorBytes == sha256.Size }

// source is a snapshot, or a state file, that is read.
type source struct {
	*store.ReadOnly
	path string
	// bytes is its length without the checksum.
	bytes  int64
	hashed bool
}

// openSource opens the file at path for reading. A checksum behind it must match unless skip is set.
func openSource(path string, wait time.Duration, skip bool) (*source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file: give the path of a snapshot, or of member/snap/db in a data directory", path)
	}
	s := &source{path: path, bytes: info.Size(), hashed: hashed(info.Size())}
	if s.hashed {
		s.bytes -= sha256.Size
	}
	if s.hashed && !skip {
		if err := s.checkSum(); err != nil {
			return nil, err
		}
	}
	if s.ReadOnly, err = store.OpenReadOnly(path, wait); err != nil {
		return nil, explain(path, err)
	}
	return s, nil
}

// checkSum compares the bytes with the checksum behind them.
func (s *source) checkSum() error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.CopyN(h, f, s.bytes); err != nil {
		return fmt.Errorf("read %s: %w", s.path, err)
	}
	var want [sha256.Size]byte
	if _, err := io.ReadFull(f, want[:]); err != nil {
		return fmt.Errorf("read the checksum of %s: %w", s.path, err)
	}
	if got := h.Sum(nil); string(got) != string(want[:]) {
		return fmt.Errorf("expected sha256 %x, got %x: snapshot %s was damaged after it was taken; use another copy, or take a new one", want, got, s.path)
	}
	return nil
}

// advice is an error of package store in the words of who works with files.
type advice struct {
	text string
	err  error
}

// Error says what is wrong and what to do.
func (a *advice) Error() string { return a.text }

// Unwrap gives package store's error.
func (a *advice) Unwrap() error { return a.err }

// explain says of an error of package store what to do about a file that is none of a member's directory.
func explain(path string, err error) error {
	var damage *store.CorruptError
	switch {
	case errors.As(err, &damage):
		at := ""
		if damage.Offset >= 0 {
			at = fmt.Sprintf(" at byte %d", damage.Offset)
		}
		return &advice{fmt.Sprintf("%s is damaged%s: %s; use another copy, or take a new snapshot from a member that runs", path, at, damage.Reason), err}
	case errors.Is(err, store.ErrInUse):
		return &advice{path + " is in use by a running member: stop it first, or use a snapshot (etcdctl snapshot save)", err}
	}
	return err
}

// CheckStructure checks the pages of the bolt file at path, which tools of bbolt's own would trust. Another process is
// waited for at most wait (0: for ever).
func CheckStructure(path string, wait time.Duration, lg *zap.Logger) error {
	err := patiently(wait, lg, path, func(wait time.Duration) error { return store.CheckFile(path, wait) })
	return explain(path, err)
}

// explainDir says of an error of package store what to do about the data directory of a member.
func explainDir(dir string, err error) error {
	if errors.Is(err, store.ErrInUse) {
		return &advice{dir + " is in use by a running member: stop it first", err}
	}
	return err
}

// patience is how long a locked file is waited for in silence.
const patience = 200 * time.Millisecond

// patiently runs open, which waits for another process to let go of path. It says so where that takes long.
func patiently(wait time.Duration, lg *zap.Logger, path string, open func(wait time.Duration) error) error {
	if wait > 0 && wait <= patience {
		return open(wait)
	}
	err := open(patience)
	if !errors.Is(err, store.ErrInUse) {
		return err
	}
	rest := "for ever"
	if wait > 0 {
		rest = wait.String()
	}
	lg.Warn("another process has the file open, most likely a running member; waiting for it", zap.String("path", path), zap.String("timeout", rest))
	return open(wait)
}

// Status is what a saved snapshot holds. The names are those of etcdutl's JSON.
type Status struct {
	// Hash is CRC-32C over everything in the file.
	Hash     uint32 `json:"hash"`
	Revision int64  `json:"revision"`
	// TotalKey is the number of live keys, TotalSize the length of the database in bytes.
	TotalKey  int   `json:"totalKey"`
	TotalSize int64 `json:"totalSize"`
	// Version is the storage version; empty where an etcd older than 3.6 took the snapshot.
	Version string `json:"version"`
}

// SnapshotStatus reads the snapshot at path, whole.
func SnapshotStatus(ctx context.Context, path string) (Status, error) {
	s, err := openSource(path, waitForSnapshot, false)
	if err != nil {
		return Status{}, err
	}
	defer func() { _ = s.Close() }() // nothing was written
	sum, err := s.Summary(ctx)
	if err != nil {
		return Status{}, explain(path, err)
	}
	return Status{Hash: sum.Hash, Revision: sum.Rev, TotalKey: sum.Keys, TotalSize: sum.Size, Version: sum.Version}, nil
}

// HashKV is the hash of the keys and their history in a file. The names are those of etcdutl's JSON.
type HashKV struct {
	Hash uint32 `json:"hash"`
	// HashRevision is the revision up to which was hashed, CompactRevision where history starts (-1: never compacted).
	HashRevision    int64 `json:"hashRevision"`
	CompactRevision int64 `json:"compactRevision"`
}

// HashFile hashes the file at path up to rev, as a member with this file would answer; 0 means the newest revision.
// Another process is waited for at most wait (0: for ever).
func HashFile(ctx context.Context, path string, rev int64, wait time.Duration, lg *zap.Logger) (HashKV, error) {
	var s *source
	err := patiently(wait, lg, path, func(wait time.Duration) (err error) {
		s, err = openSource(path, wait, false)
		return err
	})
	if err != nil {
		return HashKV{}, err
	}
	defer func() { _ = s.Close() }() // nothing was written
	last, compacted, err := s.Revisions()
	if err != nil {
		return HashKV{}, explain(path, err)
	}
	switch {
	case rev == 0:
		rev = last
	case rev > last:
		return HashKV{}, ErrFutureRev
	case rev > 0 && rev < compacted:
		return HashKV{}, ErrCompacted
	}
	hash, err := s.HashKV(ctx, rev, compacted)
	if err != nil {
		return HashKV{}, explain(path, err)
	}
	return HashKV{Hash: hash, HashRevision: rev, CompactRevision: compacted}, nil
}

// statePath names the state file of a data directory.
func statePath(dataDir string) string { return filepath.Join(dataDir, "member", "snap", "db") }
