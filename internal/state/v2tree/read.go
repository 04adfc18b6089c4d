package v2tree

import (
	"path"
	"strings"
	"time"
)

// Entry is a v3 key as a view shows it.
type Entry struct {
	Key   string
	Value []byte
	Mod   int64
	Lease int64
}

// View is the keys at one revision.
type View interface {
	Rev() int64
	Get(key string) (Entry, bool, error)
	// Scan gives at most limit keys of a range, in order; all of them if limit is 0.
	Scan(r Range, limit int64) ([]Entry, error)
}

// Tree is the v2 tree at one revision.
type Tree struct {
	Prefix Prefix
	View   View
}

// scanKeys is how many keys a listing reads at a time, to pass over what is below a child without reading it.
const scanKeys = 64

func (t Tree) index() uint64 { return uint64(t.View.Rev()) }

func (t Tree) refuse(c Code, cause string) *Error { return Refuse(c, cause, t.index()) }

// trail is the way to a path: the directories above it that exist, then what ends the way.
type trail struct {
	above []place
	// missing is the first directory above the path that does not exist, blocker one that is a file; at is the node
	// itself. At most one of the three is set; none means that the node alone is missing.
	missing string
	blocker *place
	at      *place
}

func (t Tree) walk(clean string) (trail, error) {
	var w trail
	if clean == "/" {
		w.at = &place{path: "/", node: Node{Dir: true}}
		return w, nil
	}
	for _, dir := range Ancestors(clean) {
		at, err := t.get(dir)
		switch {
		case err != nil:
			return w, err
		case at == nil:
			w.missing = dir
			return w, nil
		case !at.node.Dir:
			w.blocker = at
			return w, nil
		}
		w.above = append(w.above, *at)
	}
	var err error
	w.at, err = t.get(clean)
	return w, err
}

// get reads one node without looking at what is above it; nil if it has no key.
func (t Tree) get(clean string) (*place, error) {
	e, ok, err := t.View.Get(t.Prefix.Node(clean))
	if err != nil || !ok {
		return nil, err
	}
	return &place{path: clean, node: Read(e.Value, e.Mod), mod: e.Mod, lease: e.Lease}, nil
}

// found refuses where a way does not lead to a node.
func (t Tree) found(w trail, clean string) error {
	switch {
	case w.blocker != nil:
		return t.refuse(NotDir, w.blocker.path)
	case w.missing != "":
		return t.refuse(KeyNotFound, w.missing)
	case w.at == nil:
		return t.refuse(KeyNotFound, clean)
	}
	return nil
}

// Has tells whether a node exists.
func (t Tree) Has(clean string) (bool, error) {
	w, err := t.walk(clean)
	return err == nil && w.at != nil, err
}

// Get reads a node, a directory with its children, or with all that is below it. Nodes come in the order of their names,
// which is one of the orders that 3.4 gives where none was asked for. Hidden children are left out.
func (t Tree) Get(clean string, recursive bool, now time.Time) (*Event, error) {
	w, err := t.walk(clean)
	if err == nil {
		err = t.found(w, clean)
	}
	if err != nil {
		return nil, err
	}
	x := w.at.extern(now)
	if w.at.node.Dir {
		if recursive {
			err = t.fill(x, clean, now)
		} else {
			err = t.children(clean, func(at *place) bool {
				if !hidden(at.path) {
					x.Nodes = append(x.Nodes, at.extern(now))
				}
				return true
			})
		}
	}
	return &Event{Action: Get.String(), Node: x, Index: t.index()}, err
}

// fill adds all that is below a directory. Keys come in the order of their bytes, so what is below a node does not
// come right behind it ("/a-" is before "/a/"), but always after it.
func (t Tree) fill(root *Extern, clean string, now time.Time) error {
	all, err := t.View.Scan(t.Prefix.Below(clean), 0)
	if err != nil {
		return err
	}
	dirs := map[string]*Extern{clean: root}
	for _, e := range all {
		p, ok := t.Prefix.Path(e.Key)
		if !ok {
			continue
		}
		// No directory: it is hidden, or what is above has expired.
		parent := dirs[path.Dir(p)]
		if parent == nil || hidden(p) {
			continue
		}
		at := &place{path: p, node: Read(e.Value, e.Mod), mod: e.Mod}
		x := at.extern(now)
		parent.Nodes = append(parent.Nodes, x)
		if at.node.Dir {
			dirs[p] = x
		}
	}
	return nil
}

// children hands the nodes right below a directory to f in order, until f answers false. What is below them is not read, but
// for what lies within the next few keys.
func (t Tree) children(clean string, f func(*place) bool) error {
	below := t.Prefix.Below(clean)
	for {
		some, err := t.View.Scan(below, scanKeys)
		if err != nil {
			return err
		}
		for _, e := range some {
			if e.Key < below.Key {
				continue // passed over
			}
			at := len(t.Prefix.Node(withSlash(clean)))
			if deeper := strings.IndexByte(e.Key[at:], '/'); deeper >= 0 {
				below.Key = rangeOf(e.Key[:at+deeper+1]).End
				continue
			}
			below.Key = e.Key + "\x00"
			p, ok := t.Prefix.Path(e.Key)
			if ok && !f(&place{path: p, node: Read(e.Value, e.Mod), mod: e.Mod}) {
				return nil
			}
		}
		if len(some) < scanKeys {
			return nil
		}
	}
}

// hidden tells whether a node is left out where its parent is listed.
func hidden(clean string) bool { return strings.HasPrefix(path.Base(clean), "_") }
