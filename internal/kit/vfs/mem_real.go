package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// SetOSRoot names the real directory that OSPath maps into. Files that come to lie there (bolt's) are
// seen through this FS wherever it has no file of its own at that name; they do not take part in Crash.
func (m *Mem) SetOSRoot(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.osRoot = dir
}

// OSPath implements FS. A file held in memory moves out to the real path; the real directory is made.
// Trouble with either is left for whoever opens the path to find.
func (m *Mem) OSPath(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.realPath(name)
	if m.osRoot == "" {
		return p
	}
	if os.MkdirAll(filepath.Dir(p), 0o755) != nil {
		return p
	}
	dir, base, err := m.parent("export", name)
	if err != nil || dir.kids[base] == nil || dir.kids[base].isDir() {
		return p
	}
	data := dir.kids[base].data
	buf := make([]byte, data.size)
	if _, err := data.readAt(buf, 0); err != nil && !errors.Is(err, io.EOF) {
		return p
	}
	if os.WriteFile(p, buf, 0o600) == nil {
		m.edit(edit{dir, base, nil})
	}
	return p
}

func (m *Mem) realPath(name string) string {
	return filepath.Join(m.osRoot, filepath.FromSlash(filepath.Join(split(name)...)))
}

// real gives the path behind name where a real file or directory exists there.
func (m *Mem) real(name string) (string, bool) {
	if m.osRoot == "" {
		return "", false
	}
	p := m.realPath(name)
	_, err := os.Lstat(p)
	return p, err == nil
}

// dropReal removes what really exists at name, if anything does.
func (m *Mem) dropReal(name string) bool {
	p, ok := m.real(name)
	return ok && os.RemoveAll(p) == nil
}

func (m *Mem) renameReal(oldname, newname string, to *node, toBase string) error {
	from, ok := m.real(oldname)
	if !ok {
		return &fs.PathError{Op: "rename", Path: oldname, Err: fs.ErrNotExist}
	}
	target := m.realPath(newname)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if err := os.Rename(from, target); err != nil {
		return err
	}
	if to.kids[toBase] != nil {
		m.edit(edit{to, toBase, nil})
	}
	return nil
}

func (m *Mem) realEntries(dir string) []fs.DirEntry {
	p, ok := m.real(dir)
	if !ok {
		return nil
	}
	list, err := os.ReadDir(p)
	if err != nil {
		return nil
	}
	return list
}
