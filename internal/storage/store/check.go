package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A bolt file is pages of one size. Each has a header of 16 bytes: id u64, flags u16, count u16, overflow
// u32 (how many further pages belong to it), in the machine's byte order. Pages 0 and 1 are meta pages: magic u32,
// version u32, page size u32, flags u32, root bucket {page u64, sequence u64}, free list page u64, pages in
// all u64, transaction u64, FNV-1a of the 56 bytes before u64. A leaf holds count × {flags u32, position
// u32, key length u32, value length u32}, a branch count × {position u32, key length u32, page u64};
// positions count from the element itself. A leaf value with flag 1 is a bucket {page u64, sequence u64}:
// page 0 means that a leaf page follows within the value.
const (
	pageHeader  = 16
	elementSize = 16
	metaSize    = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	flagBranch  = 0x01
	flagLeaf    = 0x02
	flagFree    = 0x10
	flagBucket  = 0x01
	noFreelist  = ^uint64(0)

	// depthMax bounds the walk: a tree of a billion pages with two entries each is less deep.
	depthMax = 64
	// pageSizeMax is the largest page that bolt looks for.
	pageSizeMax = 1 << 24
)

// checker walks all pages that a bolt file's newest meta page leads to and looks for whatever would make bolt
// panic, loop, or write over live pages. Values are not looked at: bolt keeps no checksum of them. It
// reads through the file's handle, so that an unreadable page is an error with a place.
type checker struct {
	r        io.ReaderAt
	path     string
	pageSize uint64
	pages    uint64
	// seen has a bit for each page that something refers to.
	seen []uint64
	// window holds the pages from windowID on that were read last: neighbours in the tree mostly lie in a
	// row. It is never written again, since keys of pages further up may be in it.
	window   []byte
	windowID uint64
}

// windowPages is how many pages are read together once two in a row were asked for (128 KiB of 4 KiB pages).
const windowPages = 32

// CheckFile checks the structure of the bolt file at path while holding its lock, for which it waits at most wait (0:
// for ever): ErrInUse, or *CorruptError. What has passed it makes bolt neither panic nor fault. It costs a few µs a page.
func CheckFile(path string, wait time.Duration) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if info.Size() < 2*int64(os.Getpagesize()) {
		return &CorruptError{File: path, Offset: info.Size(), Reason: "the file ends before its second page"}
	}
	db, err := openBolt(path, &bolt.Options{ReadOnly: true, Timeout: wait})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return checkPages(f, path, uint64(db.Info().PageSize))
}

// checkPages checks a file whose pages have the given size.
func checkPages(r io.ReaderAt, path string, pageSize uint64) error {
	c := &checker{r: r, path: path, pageSize: pageSize}
	if pageSize < 1024 || pageSize > pageSizeMax {
		return c.damage(0, "page size %d", pageSize)
	}
	m, err := c.newestMeta()
	if err != nil {
		return err
	}
	c.pages = m.pages
	if m.pages > (1<<62)/pageSize {
		return c.damage(0, "the meta page claims %d pages", m.pages)
	}
	var last [1]byte
	if _, err := r.ReadAt(last[:], int64(m.pages*pageSize)-1); err != nil {
		return c.damage(m.pages*pageSize, "the file ends before its last page: %v", err)
	}
	c.seen = make([]uint64, m.pages/64+1)
	if err := c.tree(m.root, nil, nil, 0); err != nil {
		return err
	}
	if m.freelist == noFreelist {
		return nil
	}
	return c.freelist(m.freelist)
}

type meta struct{ root, freelist, pages, txid uint64 }

// newestMeta reads both meta pages and takes the valid one with the higher transaction, as bolt does: the
// other may have been torn by a power failure.
func (c *checker) newestMeta() (best meta, err error) {
	found := false
	for page := range uint64(2) {
		b := make([]byte, pageHeader+metaSize)
		if _, err := c.r.ReadAt(b, int64(page*c.pageSize)); err != nil {
			return meta{}, c.damage(page*c.pageSize, "cannot read meta page %d: %v", page, err)
		}
		b = b[pageHeader:]
		sum := fnv.New64a()
		sum.Write(b[:56])
		if binary.NativeEndian.Uint32(b) != metaMagic || binary.NativeEndian.Uint32(b[4:]) != metaVersion ||
			binary.NativeEndian.Uint64(b[56:]) != sum.Sum64() {
			continue
		}
		m := meta{
			root:     binary.NativeEndian.Uint64(b[16:]),
			freelist: binary.NativeEndian.Uint64(b[32:]),
			pages:    binary.NativeEndian.Uint64(b[40:]),
			txid:     binary.NativeEndian.Uint64(b[48:]),
		}
		if !found || m.txid > best.txid {
			best, found = m, true
		}
	}
	if !found {
		return meta{}, c.damage(0, "no valid meta page")
	}
	return best, nil
}

// tree checks the page id and all below it: keys in [low, high), nil meaning no bound.
func (c *checker) tree(id uint64, low, high []byte, depth int) error {
	if depth > depthMax {
		return c.damage(id*c.pageSize, "page %d lies too deep", id)
	}
	page, err := c.page(id)
	if err != nil {
		return err
	}
	return c.elements(id*c.pageSize, page, low, high, depth)
}

// page claims and reads a page with those that belong to it.
func (c *checker) page(id uint64) ([]byte, error) {
	at := id * c.pageSize
	if id < 2 || id >= c.pages {
		return nil, c.damage(0, "a reference to page %d of %d", id, c.pages)
	}
	buf, err := c.read(id)
	if err != nil {
		return nil, err
	}
	if got := binary.NativeEndian.Uint64(buf); got != id {
		return nil, c.damage(at, "page %d calls itself %d", id, got)
	}
	overflow := uint64(binary.NativeEndian.Uint32(buf[12:]))
	if overflow >= c.pages-id {
		return nil, c.damage(at+12, "page %d goes on for %d more of %d pages", id, overflow, c.pages)
	}
	for p := id; p <= id+overflow; p++ {
		if !c.claim(p) {
			return nil, c.damage(at, "page %d is referred to twice", p)
		}
	}
	if overflow == 0 {
		return buf, nil
	}
	buf = make([]byte, (overflow+1)*c.pageSize)
	if _, err := c.r.ReadAt(buf, int64(at)); err != nil {
		return nil, c.damage(at, "cannot read page %d: %v", id, err)
	}
	return buf, nil
}

// read gives one page, from the window if it is there.
func (c *checker) read(id uint64) ([]byte, error) {
	in := uint64(len(c.window)) / c.pageSize
	if id < c.windowID || id >= c.windowID+in {
		n := uint64(1)
		if id == c.windowID+in {
			n = min(windowPages, c.pages-id)
		}
		c.window, c.windowID = make([]byte, n*c.pageSize), id
		if _, err := c.r.ReadAt(c.window, int64(id*c.pageSize)); err != nil {
			return nil, c.damage(id*c.pageSize, "cannot read page %d or one of the %d behind it: %v", id, n-1, err)
		}
	}
	from := (id - c.windowID) * c.pageSize
	return c.window[from : from+c.pageSize], nil
}

// claim notes that page p is in use; false where it was already.
func (c *checker) claim(p uint64) bool {
	was := c.seen[p/64]&(1<<(p%64)) != 0
	c.seen[p/64] |= 1 << (p % 64)
	return !was
}

// element is one entry of a branch or leaf page.
type element struct {
	key, value []byte
	// page is the child of a branch's entry.
	page uint64
	// bucket: the value of a leaf's entry is a bucket.
	bucket bool
}

// elements checks the entries of a page that starts at byte at, and what they lead to.
func (c *checker) elements(at uint64, page, low, high []byte, depth int) error {
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return c.damage(at+8, "neither a branch nor a leaf page (flags %#x)", flags)
	}
	if pageHeader+count*elementSize > len(page) || flags == flagBranch && count == 0 {
		return c.damage(at+10, "a page of %d entries", count)
	}
	var last []byte
	for i := range count {
		e, err := c.element(at, page, i, flags)
		if err != nil {
			return err
		}
		if i == 0 && bytes.Compare(e.key, low) < 0 || i > 0 && bytes.Compare(e.key, last) <= 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			return c.damage(at+pageHeader+uint64(i)*elementSize, "key %x is out of order", e.key)
		}
		last = e.key
		switch {
		case flags == flagBranch:
			next := high
			if i+1 < count {
				following, err := c.element(at, page, i+1, flags)
				if err != nil {
					return err
				}
				next = following.key
			}
			err = c.tree(e.page, e.key, next, depth+1)
		case e.bucket:
			err = c.bucket(at, e.value, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// element reads entry i and checks that its key and value lie within the page.
func (c *checker) element(at uint64, page []byte, i int, flags uint16) (element, error) {
	var (
		from            = pageHeader + i*elementSize
		raw             = page[from : from+elementSize]
		u32             = binary.NativeEndian.Uint32
		e               element
		pos, klen, vlen uint64
	)
	if flags == flagBranch {
		pos, klen, e.page = uint64(u32(raw)), uint64(u32(raw[4:])), binary.NativeEndian.Uint64(raw[8:])
	} else {
		e.bucket = u32(raw)&flagBucket != 0
		pos, klen, vlen = uint64(u32(raw[4:])), uint64(u32(raw[8:])), uint64(u32(raw[12:]))
	}
	start := uint64(from) + pos
	if start+klen+vlen > uint64(len(page)) || pos < elementSize && klen+vlen > 0 {
		return e, c.damage(at+uint64(from), "entry %d lies outside its page", i)
	}
	e.key, e.value = page[start:start+klen], page[start+klen:start+klen+vlen]
	return e, nil
}

// bucket checks the bucket in a leaf's value.
func (c *checker) bucket(at uint64, value []byte, depth int) error {
	if len(value) < 16 {
		return c.damage(at, "a bucket of %d bytes", len(value))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return c.tree(root, nil, nil, depth)
	}
	if len(value) < 16+pageHeader {
		return c.damage(at, "an inline bucket of %d bytes", len(value))
	}
	if depth > depthMax {
		return c.damage(at, "buckets too deep in each other")
	}
	return c.elements(at, value[16:], nil, nil, depth)
}

// freelist checks the written list of free pages: none of them may be in use.
func (c *checker) freelist(id uint64) error {
	page, err := c.page(id)
	if err != nil {
		return err
	}
	at := id * c.pageSize
	if flags := binary.NativeEndian.Uint16(page[8:]); flags != flagFree {
		return c.damage(at+8, "not a free list page (flags %#x)", flags)
	}
	// A count that does not fit 16 bits is in the first entry.
	count, entries := uint64(binary.NativeEndian.Uint16(page[10:])), page[pageHeader:]
	if count == 0xFFFF {
		count, entries = binary.NativeEndian.Uint64(entries), entries[8:]
	}
	if count > uint64(len(entries)/8) {
		return c.damage(at+10, "a free list of %d entries", count)
	}
	for i := range count {
		p := binary.NativeEndian.Uint64(entries[i*8:])
		if p < 2 || p >= c.pages || !c.claim(p) {
			return c.damage(at+pageHeader+i*8, "page %d is free and in use, or free twice", p)
		}
	}
	return nil
}

func (c *checker) damage(at uint64, format string, args ...any) error {
	return &CorruptError{File: c.path, Offset: int64(at), Reason: fmt.Sprintf(format, args...)}
}
