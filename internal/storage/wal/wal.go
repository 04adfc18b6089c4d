// Package wal is the raft log on disk: entries, hard states and snapshot marks, appended in order and made
// durable together. The replica's append thread writes it; a member reads it once, at its start. Files,
// bytes and reading rules are etcd's, so either program can go on where the other stopped.
//
// A log is a directory of segments named %016x-%016x.wal: a sequence number without holes, and the index
// that the first entry appended to it was to have. Each is allocated in full (zeros) and cut to its used
// size when the next one is begun. The Writer holds a lock on every segment.
//
// A segment is a run of frames, each aligned to 8 bytes:
//
//	8 bytes  little endian: low 56 bits the record's size; top byte 0, or 0x80 + count of padding bytes
//	record   08 type, 10 crc, 1a size data (protobuf; a crc record has no data)
//	padding  zeros up to the next multiple of 8
//
// A zero length ends the segment. crc is the CRC-32C of the data of all records so far, across segments.
// Every segment starts with crc (the running value), metadata, and — the first one — the snapshot mark
// {0,0}, later ones the latest hard state with its commit index.
//
// Invariants: what Sync covered survives a crash; of the rest a prefix does, in order. Within one append
// the mark comes first, then entries, then the state, so no prefix names a commit index that the log has
// not reached. Nothing is written after a failed write or sync.
package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
)

const (
	// segmentBytes is etcd's size of a segment: an append that passes it is the segment's last.
	segmentBytes = 64 * 1000 * 1000

	// syncSlow is how long one sync may take before it is worth a warning, as in etcd.
	syncSlow = time.Second

	// copyBytes is the piece in which segments are read, copied and rewritten: large enough for a disk's
	// full speed, small beside a segment.
	copyBytes = 1 << 20
)

var (
	// ErrLocked is returned when another process has the log open.
	ErrLocked = errors.New("wal: the log is in use by another process")
	// ErrReleased is returned when ReadEntries is asked for entries whose segments may be gone, or that
	// an incoming snapshot replaced.
	ErrReleased = errors.New("wal: the entries are released")
	// ErrUnwritten is returned when ReadEntries is asked for entries after the last one.
	ErrUnwritten = errors.New("wal: the entries are not written yet")
	// ErrClosed is returned by a Writer after Close.
	ErrClosed = errors.New("wal: the log is closed")
)

// CorruptError says that the log can't be read past a place and can't be mended without losing entries
// that may have been acknowledged.
type CorruptError struct {
	File   string
	Offset int64  // of the frame that does not check, in bytes
	Reason string // what was expected and what was found
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("wal: %s is damaged at offset %d: %s; acknowledged writes may lie behind it, so it is not mended: "+
		"if this member has healthy peers, remove it from the cluster and add it again with an empty data directory, "+
		"else restore the cluster from a snapshot", e.File, e.Offset, e.Reason)
}

// Metadata names whose log it is.
type Metadata struct{ NodeID, ClusterID uint64 }

// Mark is a snapshot record: the state up to Index is safe elsewhere, a replay may begin after it.
// ConfState is required where Index is not 0.
type Mark struct {
	Index, Term uint64
	ConfState   *raftpb.ConfState
}

// Batch is what one append writes, in this order: Mark, Entries, State. Any may be missing. Entries are
// ascending by one and at most one past the last; a lower index supersedes what was written there and
// after. A Mark that the log has no matching entry for is an incoming snapshot: the log begins anew
// after it.
type Batch struct {
	State   *raftpb.HardState
	Entries []*raftpb.Entry
	Mark    *Mark
}

// Contents is what a log held when it was opened. State is never nil. Mark is the last snapshot mark that
// State's commit index covers; Entries follow it without a hole. Repaired tells that a torn tail, which
// nobody was told about, was cut off.
type Contents struct {
	Metadata
	State    *raftpb.HardState
	Mark     Mark
	Entries  []*raftpb.Entry
	Repaired bool
}

// Options tune a log; the zero value is etcd's behaviour.
type Options struct {
	SegmentBytes int64 // 0: 64,000,000
	MaxFiles     uint  // Release keeps this many segments; 0: all
	NoSync       bool  // Sync does nothing; cuts are still synced
	Logger       *zap.Logger
	Clock        clock.Clock
	OnFsync      func(time.Duration)      // after each sync, with the time it took
	OnWrite      func(time.Duration, int) // after each write, with its time and bytes
	// OnPrepare is called from a goroutine of the Writer with the error (no space, mostly) each time the
	// next segment could not be allocated, and with nil once it could again. Appends go on in the
	// present segment, but proposals should stop: its disk space may not last.
	OnPrepare func(error)
}

func (o Options) filled() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = segmentBytes
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Clock == nil {
		o.Clock = clock.System
	}
	if o.OnFsync == nil {
		o.OnFsync = func(time.Duration) {}
	}
	if o.OnWrite == nil {
		o.OnWrite = func(time.Duration, int) {}
	}
	if o.OnPrepare == nil {
		o.OnPrepare = func(error) {}
	}
	return o
}

// Exists tells whether dir holds a log.
func Exists(fsys vfs.FS, dir string) bool {
	list, err := fsys.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".wal") {
			return true
		}
	}
	return false
}

// name is a segment's file name, taken apart.
type name struct{ seq, first uint64 }

func (n name) String() string { return fmt.Sprintf("%016x-%016x.wal", n.seq, n.first) }

func parseName(s string) (n name, ok bool) {
	if len(s) != 16+1+16+4 || s[16] != '-' || s[33:] != ".wal" {
		return name{}, false
	}
	var err1, err2 error
	n.seq, err1 = strconv.ParseUint(s[:16], 16, 64)
	n.first, err2 = strconv.ParseUint(s[17:33], 16, 64)
	return n, err1 == nil && err2 == nil
}

// listSegments gives the segments to read: the last run of sequence numbers without a hole. Older ones
// before a hole were left by an interrupted removal; nothing needs them.
func listSegments(fsys vfs.FS, dir string, lg *zap.Logger) ([]name, error) {
	list, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("wal: list %s: %w", dir, err)
	}
	var names []name
	for _, e := range list {
		if n, ok := parseName(e.Name()); ok {
			names = append(names, n)
		} else if ext := filepath.Ext(e.Name()); ext != ".tmp" && ext != ".broken" {
			lg.Warn("ignored a foreign file in the log directory", zap.String("path", filepath.Join(dir, e.Name())))
		}
	}
	slices.SortFunc(names, func(a, b name) int { return strings.Compare(a.String(), b.String()) })
	for i := len(names) - 1; i > 0; i-- {
		if names[i].seq != names[i-1].seq+1 {
			lg.Warn("ignored log segments before a hole in their numbers", zap.String("dir", dir), zap.Stringer("first-used", names[i]))
			return names[i:], nil
		}
	}
	return names, nil
}
