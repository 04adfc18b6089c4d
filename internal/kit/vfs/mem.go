package vfs

import (
	"io/fs"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mem is a disk in memory that can lose power. A file's bytes are safe once Sync or Datasync answered, a
// name once SyncDir of its directory did; until then Crash may keep or forget them. All methods may be
// called from any goroutine. Relative and absolute names mean the same: there is one root, always there.
type Mem struct {
	mu     sync.Mutex // guards all fields, and every node below root
	root   *node
	log    []dirOp // changes of names that no SyncDir covered, oldest first
	osRoot string
	rand   *rand.Rand
}

var _ FS = (*Mem)(nil)

// NewMem gives an empty disk. The seed drives Crash where it is given no source of its own.
func NewMem(seed uint64) *Mem {
	return &Mem{root: newDir(fs.ModeDir | 0o755), rand: rand.New(rand.NewPCG(seed, seed))}
}

// node is a file or a directory.
type node struct {
	perm fs.FileMode
	kids map[string]*node // directories: the names as seen now
	disk map[string]*node // directories: the names that survive a power loss for sure
	data content
	lock *memFile // the handle that holds the lock, or nil
}

func newDir(perm fs.FileMode) *node {
	return &node{perm: perm, kids: map[string]*node{}, disk: map[string]*node{}}
}

func (n *node) isDir() bool { return n.kids != nil }

func split(name string) []string {
	clean := path.Clean("/" + filepath.ToSlash(name))
	if clean == "/" {
		return nil
	}
	return strings.Split(clean[1:], "/")
}

// find gives the node at name, or nil.
func (m *Mem) find(name string) *node {
	n := m.root
	for _, part := range split(name) {
		if n = n.kids[part]; n == nil {
			return nil
		}
	}
	return n
}

// parent gives the directory that holds (or would hold) name, and name's last element.
func (m *Mem) parent(op, name string) (*node, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	last := len(parts) - 1
	dir := m.find(path.Join(parts[:last]...))
	if dir == nil || !dir.isDir() {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return dir, parts[last], nil
}

// Create implements FS.
func (m *Mem) Create(name string, perm fs.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent("create", name)
	if err != nil {
		return nil, err
	}
	n := dir.kids[base]
	switch {
	case n == nil:
		m.dropReal(name)
		n = &node{perm: perm}
		m.edit(edit{dir, base, n})
	case n.isDir():
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	default:
		n.data.truncate(0)
	}
	return &memFile{m: m, n: n, name: name, write: true}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenWrite implements FS.
func (m *Mem) OpenWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, write bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	if n == nil || n.isDir() {
		if p, ok := m.real(name); ok && write {
			return OS.OpenWrite(p)
		} else if ok {
			return OS.Open(p)
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{m: m, n: n, name: name, write: write}, nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for _, part := range split(dir) {
		next := n.kids[part]
		if next == nil {
			next = newDir(fs.ModeDir | perm)
			m.edit(edit{n, part, next})
		}
		if n = next; !n.isDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
		}
	}
	return nil
}

// Remove implements FS: a file or an empty directory.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent("remove", name)
	if err != nil {
		return err
	}
	n := dir.kids[base]
	if n == nil && m.dropReal(name) {
		return nil
	}
	if n == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if len(n.kids) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrExist}
	}
	m.edit(edit{dir, base, nil})
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropReal(name)
	dir, base, err := m.parent("remove", name)
	if err != nil || dir.kids[base] == nil {
		return nil
	}
	m.edit(edit{dir, base, nil})
	return nil
}

// Rename implements FS. A directory may replace only an empty one.
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, fromBase, err := m.parent("rename", oldname)
	if err != nil {
		return err
	}
	to, toBase, err := m.parent("rename", newname)
	if err != nil {
		return err
	}
	n := from.kids[fromBase]
	if n == nil {
		return m.renameReal(oldname, newname, to, toBase)
	}
	if have := to.kids[toBase]; have != nil && (have.isDir() != n.isDir() || len(have.kids) > 0) {
		return &fs.PathError{Op: "rename", Path: newname, Err: fs.ErrExist}
	}
	m.dropReal(newname)
	if from != to || fromBase != toBase {
		m.edit(edit{from, fromBase, nil}, edit{to, toBase, n})
	}
	return nil
}

// ReadDir implements FS; entries are sorted by name.
func (m *Mem) ReadDir(dir string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.realEntries(dir)
	n := m.find(dir)
	if n == nil && list == nil || n != nil && !n.isDir() {
		return nil, &fs.PathError{Op: "readdir", Path: dir, Err: fs.ErrNotExist}
	}
	if n != nil {
		list = slices.DeleteFunc(list, func(e fs.DirEntry) bool { return n.kids[e.Name()] != nil })
		for name, kid := range n.kids {
			list = append(list, fs.FileInfoToDirEntry(info{name, kid.data.size, kid.perm}))
		}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// Stat implements FS. The time of change is always zero.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	if n != nil {
		return info{path.Base(filepath.ToSlash(name)), n.data.size, n.perm}, nil
	}
	if p, ok := m.real(name); ok {
		return OS.Stat(p)
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

type info struct {
	name string
	size int64
	perm fs.FileMode
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.perm }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.perm.IsDir() }
func (i info) Sys() any           { return nil }
