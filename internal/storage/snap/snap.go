// Package snap keeps the small files of the snapshot directory (member/snap) around the state file:
//
//	%016x-%016x.snap   term and index: a raft snapshot whose data is the members as a v2 store in JSON.
//	                   etcd 3.6 and older start from it; we and 3.7 only write it.
//	%016x.snap.db      a state file that the leader sent, by index, before it is adopted
//	tmp*, db.tmp*      files that were not finished
//
// A .snap file is snappb.Snapshot{uint32 crc=1; bytes data=2}: data is an encoded raftpb.Snapshot, crc its
// CRC-32C. The .snap.db files live in the real file system, at vfs.FS.OSPath of their name, like the state
// file that they become.
package snap

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
)

var (
	// ErrNone is returned when the directory has no .snap file that is whole and wanted.
	ErrNone = errors.New("snap: no snapshot file")
	// ErrCorrupt is returned when a .snap file's bytes are not what its checksum says, or are no snapshot.
	ErrCorrupt = errors.New("snap: damaged snapshot file")
)

const (
	suffix   = ".snap"
	fileMode = 0o600
	// fileBytesMax bounds a .snap file: the v2 JSON of a thousand members takes less than 2 MiB.
	fileBytesMax = 64 << 20

	crcField  = 1
	dataField = 2
)

// Snapshot is what a .snap file says: the members (Data, see EncodeV2) and the configuration at one
// applied entry.
type Snapshot struct {
	Index, Term uint64
	ConfState   *raftpb.ConfState
	Data        []byte
}

// Times is how long a file took to become durable: in all, and for its parts.
type Times struct{ Took, Encode, Sync time.Duration }

// Save writes s into dir, durable when it returns.
func Save(fsys vfs.FS, dir string, s Snapshot) error {
	_, err := SaveTimed(fsys, dir, s, clock.System)
	return err
}

// SaveTimed is Save that tells how long it took.
func SaveTimed(fsys vfs.FS, dir string, s Snapshot, c clock.Clock) (t Times, err error) {
	start := c.Now()
	b, err := Encode(s)
	if err != nil {
		return t, err
	}
	t.Encode = c.Now().Sub(start)
	name := filepath.Join(dir, fmt.Sprintf("%016x-%016x%s", s.Term, s.Index, suffix))
	temp := filepath.Join(dir, fmt.Sprintf("tmp-%016x-%016x", s.Term, s.Index))
	if t.Sync, err = write(fsys, temp, b, c); err != nil {
		return t, fmt.Errorf("snap: write %s: %w", name, err)
	}
	if err := fsys.Rename(temp, name); err != nil {
		return t, fmt.Errorf("snap: %w", err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return t, fmt.Errorf("snap: sync %s: %w", dir, err)
	}
	t.Took = c.Now().Sub(start)
	return t, nil
}

// write makes a file durable and tells how long its sync took.
func write(fsys vfs.FS, name string, b []byte, c clock.Clock) (sync time.Duration, err error) {
	f, err := fsys.Create(name, fileMode)
	if err != nil {
		return 0, err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		start := c.Now()
		err = f.Sync()
		sync = c.Now().Sub(start)
	}
	return sync, errors.Join(err, f.Close())
}

// Load reads the newest .snap file in dir for whose index and term matching says yes. Damaged ones are
// passed over, and named in the error if no other is left: ErrNone, perhaps with ErrCorrupt.
func Load(fsys vfs.FS, dir string, matching func(index, term uint64) bool) (Snapshot, error) {
	return LoadLarge(fsys, dir, fileBytesMax, matching)
}

// LoadLarge is Load of files of up to maxBytes: members up to 3.5 kept users' keys in them.
func LoadLarge(fsys vfs.FS, dir string, maxBytes int64, matching func(index, term uint64) bool) (Snapshot, error) {
	names, err := list(fsys, dir)
	if err != nil {
		return Snapshot{}, err
	}
	none := ErrNone
	for _, name := range slices.Backward(names) {
		s, err := read(fsys, filepath.Join(dir, name), maxBytes)
		if err != nil {
			none = errors.Join(none, err)
			continue
		}
		if matching(s.Index, s.Term) {
			return s, nil
		}
	}
	return Snapshot{}, none
}

// Purge removes the oldest .snap files until keep are left; 0 keeps all.
func Purge(fsys vfs.FS, dir string, keep int) error {
	if keep == 0 {
		return nil
	}
	names, err := list(fsys, dir)
	if err != nil {
		return err
	}
	for _, name := range names[:max(0, len(names)-keep)] {
		if err := fsys.Remove(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("snap: %w", err)
		}
	}
	return nil
}

// list gives the names of the .snap files in dir, oldest first.
func list(fsys vfs.FS, dir string) ([]string, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("snap: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, _, ok := parseName(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// parseName takes the name of a .snap file apart.
func parseName(name string) (term, index uint64, ok bool) {
	stem, found := strings.CutSuffix(name, suffix)
	a, b, dash := strings.Cut(stem, "-")
	if !found || !dash || len(a) != 16 || len(b) != 16 {
		return 0, 0, false
	}
	term, err1 := strconv.ParseUint(a, 16, 64)
	index, err2 := strconv.ParseUint(b, 16, 64)
	return term, index, err1 == nil && err2 == nil
}

func read(fsys vfs.FS, name string, maxBytes int64) (Snapshot, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return Snapshot{}, fmt.Errorf("snap: %w", err)
	}
	size, err := f.Size()
	if err == nil && size > maxBytes {
		err = fmt.Errorf("%w: %d bytes", ErrCorrupt, size)
	}
	var b []byte
	if err == nil && size > 0 {
		b = make([]byte, size)
		var n int
		if n, err = f.ReadAt(b, 0); n == len(b) {
			err = nil
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return Snapshot{}, fmt.Errorf("snap: read %s: %w", name, err)
	}
	s, err := Decode(b)
	if err != nil {
		return Snapshot{}, fmt.Errorf("snap: read %s: %w", name, err)
	}
	return s, nil
}

// Encode gives the bytes of a .snap file, as etcd writes them.
func Encode(s Snapshot) ([]byte, error) {
	cs := s.ConfState
	if cs == nil {
		cs = new(raftpb.ConfState)
	}
	data, err := proto.Marshal(&raftpb.Snapshot{
		Data:     s.Data,
		Metadata: &raftpb.SnapshotMetadata{ConfState: cs, Index: &s.Index, Term: &s.Term},
	})
	if err != nil {
		return nil, fmt.Errorf("snap: encode: %w", err)
	}
	b := protowire.AppendTag(nil, crcField, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))))
	b = protowire.AppendTag(b, dataField, protowire.BytesType)
	return protowire.AppendBytes(b, data), nil
}

// Decode reads the bytes of a .snap file. ErrCorrupt where they are none.
func Decode(b []byte) (Snapshot, error) {
	var (
		crc  uint64
		data []byte
	)
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return Snapshot{}, fmt.Errorf("%w: %w", ErrCorrupt, protowire.ParseError(n))
		}
		b = b[n:]
		switch {
		case num == crcField && typ == protowire.VarintType:
			crc, n = protowire.ConsumeVarint(b)
		case num == dataField && typ == protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return Snapshot{}, fmt.Errorf("%w: %w", ErrCorrupt, protowire.ParseError(n))
		}
		b = b[n:]
	}
	if sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)); len(data) == 0 || sum != uint32(crc) {
		return Snapshot{}, fmt.Errorf("%w: checksum %08x of %d bytes, %08x is written", ErrCorrupt, sum, len(data), uint32(crc))
	}
	var s raftpb.Snapshot
	if err := proto.Unmarshal(data, &s); err != nil {
		return Snapshot{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	m := s.GetMetadata()
	return Snapshot{Index: m.GetIndex(), Term: m.GetTerm(), ConfState: m.GetConfState(), Data: s.GetData()}, nil
}
