package offline

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"

	"keelson/internal/apply"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// The minor versions of 3 whose state files can be told apart: the file of 3.5 is the last that does not name its version.
const (
	minorUnnamed = 5
	minorNewest  = 7
)

// Migrate moves the state file of a data directory to the layout of another minor version.
type Migrate struct {
	DataDir string
	// Target is from ParseTarget.
	Target *semver.Version
	// Force writes the version although the checks say no.
	Force bool
	// Wait bounds how long another process is waited for; 0: for ever.
	Wait   time.Duration
	Logger *zap.Logger
}

// ParseTarget reads the version of etcd, such as "3.6", to migrate to.
func ParseTarget(text string) (*semver.Version, error) {
	if strings.Count(text, ".") != 1 {
		return nil, fmt.Errorf("wrong target version format, expected \"X.Y\", got %q", text)
	}
	v, err := semver.NewVersion(text + ".0")
	if err != nil {
		return nil, fmt.Errorf("failed to parse target version: %w", err)
	}
	if v.LessThan(version.V3_5) {
		return nil, fmt.Errorf("target version %q not supported. Minimal \"3.5\"", text)
	}
	return v, nil
}

// Run migrates, in one transaction. A log whose entries since its last snapshot record the target could not read keeps the
// file from moving down.
func (m Migrate) Run() error {
	path := statePath(m.DataDir)
	if _, err := os.Stat(path); err != nil {
		return err
	}
	err := patiently(m.Wait, m.Logger, path, func(wait time.Duration) error {
		return store.EditFile(path, wait, 0, m.edit)
	})
	return explainDir(m.DataDir, err)
}

func (m Migrate) edit(e *store.Edit) error {
	current, err := storageVersion(e)
	if err != nil {
		return err
	}
	if current.Equal(*m.Target) {
		m.Logger.Info("storage version up-to-date", zap.String("storage-version", shortVersion(current)))
		return nil
	}
	// The log is read even where nothing depends on it: a directory without one is not whole.
	contents, err := wal.ReadOnly(vfs.OS, filepath.Join(m.DataDir, "member", "wal"), m.Logger)
	if err != nil {
		return fmt.Errorf("failed to read the log, which must be in member/wal of the data directory: %w", err)
	}
	steps, err := plan(current, m.Target)
	if err == nil && m.Target.LessThan(*current) {
		err = m.readable(contents)
	}
	if err == nil {
		for _, v := range steps {
			if err := setVersion(e, v); err != nil {
				return err
			}
			m.Logger.Info("updated storage version", zap.Stringer("new-storage-version", v))
		}
		return nil
	}
	if !m.Force {
		return err
	}
	m.Logger.Warn("normal migrate failed, trying with force", zap.Error(err))
	if err := setVersion(e, m.Target); err != nil {
		return err
	}
	m.Logger.Warn("forcefully set storage version", zap.String("storage-version", shortVersion(m.Target)))
	return nil
}

// readable refuses a log that the target could not read.
func (m Migrate) readable(c *wal.Contents) error {
	needed, err := apply.NeededVersion(c.Entries)
	if err != nil {
		return err
	}
	if m.Target.LessThan(needed) {
		return fmt.Errorf("cannot downgrade storage, WAL contains newer entries, as the target version (%s) is lower than the version (%s) "+
			"detected from WAL logs; start the member once more with the version that wrote them and stop it cleanly, or use etcdctl downgrade",
			m.Target, &needed)
	}
	return nil
}

// plan gives the versions to go through, one minor version at a time.
func plan(from, to *semver.Version) (steps []*semver.Version, err error) {
	if from.Major != to.Major {
		return nil, errors.New("cannot create migration plan: changing major storage version is not supported")
	}
	for at := from.Minor; at != to.Minor; {
		if at < to.Minor {
			at++
		} else {
			at--
		}
		v := &semver.Version{Major: to.Major, Minor: at}
		if at > minorNewest || at < minorUnnamed {
			return nil, fmt.Errorf("cannot create migration plan: version %q is not supported", v)
		}
		steps = append(steps, v)
	}
	return steps, nil
}

// storageVersion tells which version's layout a state file has.
func storageVersion(e *store.Edit) (*semver.Version, error) {
	text, err := e.Get(schema.Meta, schema.StorageVersionKey)
	if err != nil {
		return nil, err
	}
	if v, err := semver.NewVersion(string(text)); err == nil {
		return v, nil
	}
	// 3.5 writes terms, from its first snapshot on.
	switch term, err := e.Get(schema.Meta, schema.TermKey); {
	case err != nil:
		return nil, err
	case len(term) == 0:
		return nil, errors.New("cannot detect storage version: missing term information; the directory is of etcd 3.4 or older, " +
			"or of a 3.5 that has not made a snapshot since it started on one: run it with 3.5 until it has")
	}
	return &semver.Version{Major: 3, Minor: minorUnnamed}, nil
}

func setVersion(e *store.Edit, v *semver.Version) error {
	if v.Major == 3 && v.Minor <= minorUnnamed {
		return e.Delete(schema.Meta, schema.StorageVersionKey)
	}
	return e.Put(schema.Meta, schema.StorageVersionKey, []byte(v.String()))
}

func shortVersion(v *semver.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }
