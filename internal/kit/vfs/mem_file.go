package vfs

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
)

const (
	pageBytes   = 4096
	sectorBytes = 512 // what a disk writes whole or not at all

	// sectorVersionsMax bounds the older contents remembered of a sector that is written again and again
	// without a sync: the safe one and three between are enough to mix generations after a crash.
	sectorVersionsMax = 4
)

// content is a file's bytes: sparse pages, and for each sector changed since the last sync what it held
// before, the safe contents first. lost are sectors that a failed sync left clean in memory and old on the disk: what the
// disk holds of each.
type content struct {
	pages    map[int64]*[pageBytes]byte
	size     int64
	diskSize int64
	dirty    map[int64][][]byte
	lost     map[int64][]byte
}

func (c *content) sector(s int64) []byte {
	page := c.pages[s*sectorBytes/pageBytes]
	if page == nil {
		return nil
	}
	at := s * sectorBytes % pageBytes
	return page[at : at+sectorBytes]
}

// remember keeps what sector s holds, before it is changed.
func (c *content) remember(s int64) {
	c.redirty(s * sectorBytes / pageBytes)
	if len(c.dirty[s]) >= sectorVersionsMax {
		return
	}
	if c.dirty == nil {
		c.dirty = map[int64][][]byte{}
	}
	old := make([]byte, sectorBytes)
	copy(old, c.sector(s))
	c.dirty[s] = append(c.dirty[s], old)
}

// loseDirty is a sync that failed: what was written counts as clean from now on, and the disk doesn't have it.
func (c *content) loseDirty() {
	if c.lost == nil {
		c.lost = map[int64][]byte{}
	}
	for s, old := range c.dirty {
		if c.lost[s] == nil {
			c.lost[s] = old[0]
		}
	}
	c.dirty = nil
}

// redirty makes a page that is written to dirty as a whole: the next sync takes all of it to the disk.
func (c *content) redirty(page int64) {
	if len(c.lost) == 0 {
		return
	}
	for s := page * pageBytes / sectorBytes; s < (page+1)*pageBytes/sectorBytes; s++ {
		if old, ok := c.lost[s]; ok {
			if c.dirty == nil {
				c.dirty = map[int64][][]byte{}
			}
			c.dirty[s] = append(c.dirty[s], old)
			delete(c.lost, s)
		}
	}
}

func (c *content) writeAt(p []byte, off int64) {
	for s := off / sectorBytes; s*sectorBytes < off+int64(len(p)); s++ {
		c.remember(s)
	}
	c.size = max(c.size, off+int64(len(p)))
	c.put(p, off)
}

func (c *content) put(p []byte, off int64) {
	if c.pages == nil {
		c.pages = map[int64]*[pageBytes]byte{}
	}
	for len(p) > 0 {
		page := c.pages[off/pageBytes]
		if page == nil {
			page = new([pageBytes]byte)
			c.pages[off/pageBytes] = page
		}
		n := copy(page[off%pageBytes:], p)
		p, off = p[n:], off+int64(n)
	}
}

func (c *content) readAt(p []byte, off int64) (int, error) {
	if off >= c.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), c.size-off)]
	for done := 0; done < len(want); {
		at := off + int64(done)
		part := want[done:min(len(want), done+int(pageBytes-at%pageBytes))]
		if page := c.pages[at/pageBytes]; page != nil {
			copy(part, page[at%pageBytes:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	if len(want) < len(p) {
		return len(want), io.EOF
	}
	return len(want), nil
}

// truncate sets the size; bytes beyond a smaller one are gone and read as zeros if it grows again.
func (c *content) truncate(size int64) {
	for _, nr := range slices.Sorted(maps.Keys(c.pages)) {
		for off := nr * pageBytes; off < (nr+1)*pageBytes; off += sectorBytes {
			if off+sectorBytes > size {
				c.remember(off / sectorBytes)
				clear(c.sector(off / sectorBytes)[max(0, size-off):])
			}
		}
	}
	c.size = size
}

func (c *content) sync() { c.dirty, c.diskSize = nil, c.size }

func (c *content) clone() content {
	d := content{pages: make(map[int64]*[pageBytes]byte, len(c.pages)), size: c.size, diskSize: c.diskSize}
	for nr, page := range c.pages {
		cp := *page
		d.pages[nr] = &cp
	}
	if c.dirty != nil {
		d.dirty = make(map[int64][][]byte, len(c.dirty))
	}
	for s, old := range c.dirty {
		d.dirty[s] = slices.Clone(old)
	}
	d.lost = maps.Clone(c.lost)
	return d
}

// crashed gives the bytes that a power loss leaves: of each changed sector one of its contents since the
// last sync, and any size between the safe and the present one.
func (c *content) crashed(r *rand.Rand) content {
	d := c.clone()
	mode := draw(r)
	for _, s := range slices.Sorted(maps.Keys(d.dirty)) {
		old := d.dirty[s]
		switch {
		case mode == keepAll:
		case mode == loseAll:
			d.put(old[0], s*sectorBytes)
		default:
			if pick := r.IntN(len(old) + 1); pick < len(old) {
				d.put(old[pick], s*sectorBytes)
			}
		}
	}
	for s, old := range d.lost {
		d.put(old, s*sectorBytes)
	}
	d.lost = nil
	size := d.size
	switch {
	case mode == loseAll || mode == mixed && r.IntN(3) == 0:
		size = d.diskSize
	case mode == mixed && r.IntN(3) == 0:
		lo := min(d.size, d.diskSize)
		size = lo + r.Int64N(max(d.size, d.diskSize)-lo+1)
	}
	d.truncate(size)
	d.sync()
	return d
}

// memFile is a handle. It stays good after its file was renamed or removed.
type memFile struct {
	m      *Mem
	n      *node
	name   string
	write  bool
	closed bool // guarded by m.mu
}

// use runs f under the disk's lock, on an open handle.
func (f *memFile) use(op string, write bool, do func() error) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	switch {
	case f.closed:
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	case write && !f.write:
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrPermission}
	}
	return do()
}

func (f *memFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.use("read", false, func() (err error) {
		n, err = f.n.data.readAt(p, off)
		return err
	})
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.use("write", true, func() error {
		f.n.data.writeAt(p, off)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *memFile) Size() (size int64, err error) {
	err = f.use("stat", false, func() error {
		size = f.n.data.size
		return nil
	})
	return size, err
}

func (f *memFile) Truncate(size int64) error {
	return f.use("truncate", true, func() error {
		f.n.data.truncate(size)
		return nil
	})
}

func (f *memFile) Preallocate(size int64) error {
	return f.use("preallocate", true, func() error {
		f.n.data.size = max(f.n.data.size, size)
		return nil
	})
}

func (f *memFile) Sync() error {
	return f.use("sync", false, func() error {
		f.n.data.sync()
		return nil
	})
}

func (f *memFile) Datasync() error { return f.Sync() }

func (f *memFile) TryLock() error {
	return f.use("lock", false, func() error {
		if f.n.lock != nil && f.n.lock != f {
			return &fs.PathError{Op: "lock", Path: f.name, Err: ErrLocked}
		}
		f.n.lock = f
		return nil
	})
}

func (f *memFile) Close() error {
	return f.use("close", false, func() error {
		if f.closed = true; f.n.lock == f {
			f.n.lock = nil
		}
		return nil
	})
}

func (f *memFile) Name() string { return f.name }
