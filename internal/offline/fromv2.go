package offline

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/progress"
	"keelson/internal/kit/vfs"
	"keelson/internal/state/v2tree"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

var (
	// ErrBehind is returned when a directory's files are not at one point, as after a crash amid the reception of a
	// snapshot: only a member that starts on it can bring it there.
	ErrBehind = errors.New("the data directory is not whole")
	// ErrUncommitted is returned when the log ends with v2 requests of which only the other members know whether they count.
	ErrUncommitted = errors.New("the log ends with v2 requests that may not be committed")
	// ErrInWay is returned for a v2 key whose v3 key would be one of those that v2 keys are kept in.
	ErrInWay = errors.New("a v2 key lies where v2 keys are kept")
)

// FromV2 turns the v2 keys of a data directory that no member uses into v3 keys. There are two kinds of them. Keelson keeps
// v2 keys as v3 keys under a prefix: from there they move. Stock members up to 3.5 keep them in a tree of their own, in
// .snap files and in the log: it is rebuilt up to the log's end, its files are written as v3 keys, and the directory then
// begins behind them, with members alone in the newest .snap file, so that every member can start on it.
//
// Path /a/b becomes key "/a/b". What expires is attached to a lease, that of the file or of the directory above it,
// whichever ends first; directories go. A key of v3 that has the name and another value stays, and so does, with Keelson,
// the v2 key.
//
// All keys are written in one transaction: a run that was killed has done nothing or everything, and one more does no harm.
// What is written depends on the log alone, but for the time that leases have left: members of one cluster that stopped at
// the same entry end up with the same keys.
type FromV2 struct {
	DataDir string
	// WALDir is where the log is (empty: member/wal in DataDir).
	WALDir string
	// Prefix is where Keelson keeps v2 keys.
	Prefix v2tree.Prefix
	// NoTTL leaves out keys with a TTL of their own.
	NoTTL bool
	// Transformer is the path of a program that makes keys of nodes (empty: each file becomes the key of its path).
	Transformer string
	// Stderr is what the program may write its errors to.
	Stderr   io.Writer
	Progress *progress.Line
	Clock    clock.Clock // nil: the machine's
	Logger   *zap.Logger // nil: none
}

// Moved is what FromV2 did.
type Moved struct {
	// Keys counts the keys that were written, Leases the leases that were made for them.
	Keys, Leases int
	// Same counts the keys that were there already, with the same value.
	Same int
	// Kept are the keys that v3 had with another value: that one stayed.
	Kept []string
	// Index is the entry of the log behind which the directory begins, Revision the newest one in the store.
	Index    uint64
	Revision int64
	// Auth tells that there are v2 users or roles, which are not keys.
	Auth bool
}

// Run does it.
func (m FromV2) Run() (done Moved, err error) {
	if m.Clock == nil {
		m.Clock = clock.System
	}
	if m.Logger == nil {
		m.Logger = zap.NewNop()
	}
	d, err := m.open()
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, d.wal.Close()) }()
	if err := d.replay(); err != nil {
		return done, err
	}
	if err := d.catchUp(); err != nil {
		return done, fmt.Errorf("execute what the log holds and the state file lacks: %w", err)
	}
	p, err := d.plan()
	if err != nil {
		return done, err
	}
	if err := d.write(p); err != nil {
		return done, explainDir(m.DataDir, err)
	}
	if err := d.begin(); err != nil {
		return done, fmt.Errorf("record the log's new beginning: %w", err)
	}
	p.moved.Index, p.moved.Auth = d.end.Index, p.moved.Auth || d.auth
	return p.moved, nil
}

// v2dir is a data directory at work.
type v2dir struct {
	FromV2
	db, snap string
	wal      *wal.Writer
	log      *wal.Contents
	file     store.Mark // how far the state file is
	// unnamed is set for the file of a version up to 3.5, in which members are what .snap and log say.
	unnamed bool
	past
}

// open locks the log, which no other program then uses, and reads where the files are.
func (m FromV2) open() (_ *v2dir, err error) {
	if m.WALDir == "" {
		m.WALDir = filepath.Join(m.DataDir, "member", "wal")
	}
	d := &v2dir{FromV2: m, db: statePath(m.DataDir), snap: filepath.Join(m.DataDir, "member", "snap")}
	if _, err := os.Stat(d.db); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--data-dir %q holds no member: there is no %s", m.DataDir, d.db)
	} else if err != nil {
		return nil, err
	}
	d.log, d.wal, err = wal.Open(vfs.OS, m.WALDir, wal.Options{Logger: m.Logger})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("--wal-dir %q holds no log: %w", m.WALDir, err)
	case errors.Is(err, wal.ErrLocked):
		return nil, &advice{m.DataDir + " is in use by a running member: stop it first", err}
	case err != nil:
		return nil, err
	}
	if err := d.look(); err != nil {
		return nil, errors.Join(err, d.wal.Close())
	}
	return d, nil
}

// look reads from the state file how far it is, and of which version.
func (d *v2dir) look() error {
	f, err := store.OpenReadOnly(d.db, waitForSnapshot)
	if err != nil {
		return explainDir(d.DataDir, err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	if d.file, err = f.Mark(); err != nil {
		return err
	}
	return d.begun(f)
}
