package v2tree

import "time"

// Change is one put or delete of a v3 key, as a watcher of v3 sees it.
type Change struct {
	Key     string
	Deleted bool
	Value   []byte
	// Mod is the revision of the change. Prev is the value before it and PrevMod the revision of that, 0 where there was none.
	Mod     int64
	Prev    []byte
	PrevMod int64
}

// Happening is one event of v2, and what else who watches must know of it.
type Happening struct {
	*Event
	// Deleted is the paths of the nodes that went, the event's own first: who watches one of them is told. Where a lease ended
	// a directory, the keys below it are still there, and are not in it: Tree.Has, at the revision before, tells of them.
	Deleted []string
}

// Happened gives the events of the changes of one revision, in their order. A revision that v2 made is one event, or none.
func (p Prefix) Happened(changes []Change, now time.Time) []Happening {
	var removal *Removal
	remade := false
	for _, c := range changes {
		if c.Key == p.Removed() && !c.Deleted {
			if r, err := DecodeRemoval(c.Value); err == nil {
				removal = &r
			}
		}
		if _, ok := p.Path(c.Key); ok && !c.Deleted && Read(c.Value, c.Mod).Implicit {
			remade = true
		}
	}
	if removal != nil {
		return p.deleted(*removal, changes, now)
	}
	puts, ends := p.sorted(changes)
	if len(puts) == 0 {
		return expired(ends, now)
	}
	var all []Happening
	for _, c := range puts {
		path, _ := p.Path(c.Key)
		prev := before(path, c)
		// Where a directory above was made anew, or the node was created, what was at its key did not exist any more.
		if remade || Read(c.Value, c.Mod).Action == Create {
			prev = nil
		}
		at := &place{path: path, node: Read(c.Value, c.Mod), mod: c.Mod}
		all = append(all, Happening{Event: written(at, prev, now)})
	}
	return all
}

// expired gives an event for each node that ended, but for what went with its directory.
func expired(ends []ended, now time.Time) []Happening {
	var all []Happening
	of := map[string]int{} // the event that a directory's end is part of
	for i := range ends {
		x := &ends[i]
		n, with := of[parentOf(x.path)]
		if with {
			all[n].Deleted = append(all[n].Deleted, x.path)
		} else {
			n = len(all)
			all = append(all, Happening{removed(Expire, &x.place, x.rev, now), []string{x.path}})
		}
		if x.node.Dir {
			of[x.path] = n
		}
	}
	return all
}

// ended is a node whose key was deleted without a request.
type ended struct {
	place
	rev int64
}

// sorted gives the puts of nodes that are events, and the nodes whose keys are gone.
func (p Prefix) sorted(changes []Change) (puts []Change, ends []ended) {
	for _, c := range changes {
		path, ok := p.Path(c.Key)
		switch {
		case !ok:
		case !c.Deleted:
			if !Read(c.Value, c.Mod).Implicit {
				puts = append(puts, c)
			}
		default:
			prev := before(path, c)
			if prev == nil {
				prev = &place{path: path} // history no longer knows it
			}
			ends = append(ends, ended{*prev, c.Mod})
		}
	}
	return puts, ends
}

// before is the node that a change superseded; nil where there was none.
func before(path string, c Change) *place {
	if c.PrevMod == 0 {
		return nil
	}
	return &place{path: path, node: Read(c.Prev, c.PrevMod), mod: c.PrevMod}
}

// deleted is the event of a request that deleted. What was below the node existed if all directories between them go with it;
// the rest was left by something that had expired before.
func (p Prefix) deleted(r Removal, changes []Change, now time.Time) []Happening {
	e := &Event{Action: r.Action.String(), Node: &Extern{Key: r.Path, Dir: r.Dir, CreatedIndex: r.Created}}
	h := Happening{Event: e, Deleted: []string{r.Path}}
	dirs := map[string]bool{}
	for _, c := range changes {
		path, ok := p.Path(c.Key)
		if c.Key == p.Removed() {
			e.Index, e.Node.ModifiedIndex = uint64(c.Mod), uint64(c.Mod)
		}
		if !ok || !c.Deleted {
			continue
		}
		prev := before(path, c)
		if path == r.Path {
			if prev != nil {
				e.PrevNode = prev.extern(now)
			}
			dirs[path] = true
			continue
		}
		if !dirs[parentOf(path)] {
			continue
		}
		h.Deleted = append(h.Deleted, path)
		// Without the value before it, its directories are taken for what they seem to be.
		dirs[path] = prev == nil || prev.node.Dir
	}
	return []Happening{h}
}

// parentOf is the directory of a clean path.
func parentOf(clean string) string {
	dirs := Ancestors(clean)
	if len(dirs) == 0 {
		return "/"
	}
	return dirs[len(dirs)-1]
}
