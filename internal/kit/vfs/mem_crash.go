package vfs

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
)

// edit sets (or, with a nil child, clears) one name in a directory.
type edit struct {
	dir   *node
	name  string
	child *node
}

// dirOp is one change of names, atomic on the disk: a rename has two edits.
type dirOp []edit

type place struct {
	dir  *node
	name string
}

// edit makes a change visible and notes it as not yet safe.
func (m *Mem) edit(edits ...edit) {
	for _, e := range edits {
		set(e.dir.kids, e)
	}
	m.log = append(m.log, edits)
}

func set(names map[string]*node, e edit) {
	if e.child == nil {
		delete(names, e.name)
	} else {
		names[e.name] = e.child
	}
}

// SyncDir implements FS. It makes safe every change that touches dir, and those that came before on the
// same names; changes in other directories stay as they are.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.find(dir)
	if d == nil || !d.isDir() {
		if _, ok := m.real(dir); ok {
			return nil
		}
		return &fs.PathError{Op: "syncdir", Path: dir, Err: fs.ErrNotExist}
	}
	need, take := map[place]bool{}, make([]bool, len(m.log))
	for i, op := range slices.Backward(m.log) {
		take[i] = slices.ContainsFunc(op, func(e edit) bool { return e.dir == d || need[place{e.dir, e.name}] })
		for _, e := range op {
			if take[i] {
				need[place{e.dir, e.name}] = true
			}
		}
	}
	var rest []dirOp
	for i, op := range m.log {
		if !take[i] {
			rest = append(rest, op)
			continue
		}
		for _, e := range op {
			set(e.dir.disk, e)
		}
	}
	m.log = rest
	return nil
}

// How a crash treats what is not safe: mostly a mixture, sometimes all or nothing.
const (
	mixed = iota
	keepAll
	loseAll
)

func draw(r *rand.Rand) int {
	switch r.IntN(4) {
	case 0:
		return keepAll
	case 1:
		return loseAll
	default:
		return mixed
	}
}

// Crash gives the disk as a power loss at this moment may leave it: every change of names that was not
// synced is kept or lost (one that builds on a lost one is lost too), every sector written since its
// file's last sync holds one of its contents since then, and no locks are held. This disk stays as it
// is, for a process that has not noticed. A nil r uses the seed given to NewMem.
func (m *Mem) Crash(r *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r == nil {
		r = m.rand
	}
	names := map[*node]map[string]*node{}
	namesOf := func(dir *node) map[string]*node {
		if names[dir] == nil {
			names[dir] = maps.Clone(dir.disk)
		}
		return names[dir]
	}
	lost, mode := map[place]bool{}, draw(r)
	for _, op := range m.log {
		drop := mode == loseAll || mode == mixed && r.IntN(2) == 0 ||
			slices.ContainsFunc(op, func(e edit) bool { return lost[place{e.dir, e.name}] })
		for _, e := range op {
			if drop {
				lost[place{e.dir, e.name}] = true
			} else {
				set(namesOf(e.dir), e)
			}
		}
	}
	var build func(n *node) *node
	build = func(n *node) *node {
		if !n.isDir() {
			return &node{perm: n.perm, data: n.data.crashed(r)}
		}
		d := newDir(n.perm)
		kids := namesOf(n)
		for _, name := range slices.Sorted(maps.Keys(kids)) {
			d.kids[name] = build(kids[name])
		}
		d.disk = maps.Clone(d.kids)
		return d
	}
	return &Mem{root: build(m.root), osRoot: m.osRoot, rand: rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))}
}

// LoseWrites is what a failed sync of the file does on a disk: what was written since the last one can still
// be read, counts as clean, and is not on the disk. A later sync leaves it out, and a later Crash forgets it, unless its
// page is written again before. The caller answers that sync with the error.
func (m *Mem) LoseWrites(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.find(name); n != nil && !n.isDir() {
		n.data.loseDirty()
	}
}

// CrashProcess gives the disk as a new process finds it after this one was killed: every write is there,
// what was not synced can still be lost to a later Crash, and no locks are held.
func (m *Mem) CrashProcess() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	made := map[*node]*node{}
	var build func(n *node) *node
	names := func(from map[string]*node) map[string]*node {
		to := make(map[string]*node, len(from))
		for name, kid := range from {
			to[name] = build(kid)
		}
		return to
	}
	build = func(n *node) *node {
		if n == nil || made[n] != nil {
			return made[n]
		}
		d := &node{perm: n.perm, data: n.data.clone()}
		made[n] = d
		if n.isDir() {
			d.kids, d.disk = names(n.kids), names(n.disk)
		}
		return d
	}
	next := &Mem{root: build(m.root), osRoot: m.osRoot, rand: rand.New(rand.NewPCG(m.rand.Uint64(), 0))}
	for _, op := range m.log {
		var edits dirOp
		for _, e := range op {
			edits = append(edits, edit{build(e.dir), e.name, build(e.child)})
		}
		next.log = append(next.log, edits)
	}
	return next
}
