package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"sync/atomic"
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
	// bucketHeader is the part of a bucket's value that says where its pages are.
	bucketHeader = 16
	metaMagic    = 0xED0CDAED
	metaVersion  = 2
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFree     = 0x10
	flagBucket   = 0x01
	noFreelist   = ^uint64(0)

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
	// seen has a bit for each page that something refers to; checkers of one file share it.
	seen []uint64
	// claimed is how many of them this checker has noted.
	claimed uint64
	// window holds the pages from windowID on that were read last: neighbours in the tree mostly lie in a
	// row. large holds the last page that is longer than one. Both are written again and again: of pages that
	// the walk comes back to, tree keeps copies.
	window, large []byte
	windowID      uint64
	// inBucket: the walk is inside a bucket. etcd has none within another.
	inBucket bool
	// visitor, if set, gets all that is in the tree.
	visitor visitor
	// later, if set, takes what lies at laterDepth, to be walked by several goroutines.
	later *[]subtree
}

// A visitor is handed the content of a file in the order of its keys. The bytes are its only during the call.
type visitor interface {
	// begin is called with a bucket's name and its sequence number before what is in it, and end after it.
	begin(name []byte, sequence uint64) error
	end() error
	entry(key, value []byte) error
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
	return (&checker{r: r, path: path, pageSize: pageSize}).run()
}

// run checks the whole file.
func (c *checker) run() error {
	m, err := c.begin()
	if err != nil {
		return err
	}
	var later []subtree
	c.later = &later
	if err := c.tree(m.root, nil, nil, 0); err != nil {
		return err
	}
	if err := c.walk(later); err != nil {
		return err
	}
	if m.freelist == noFreelist {
		return nil
	}
	return c.freelist(m.freelist)
}

// begin finds the newest meta page and makes the walk ready.
func (c *checker) begin() (meta, error) {
	if c.pageSize < 1024 || c.pageSize > pageSizeMax {
		return meta{}, c.damage(0, "page size %d", c.pageSize)
	}
	m, err := c.newestMeta()
	if err != nil {
		return meta{}, err
	}
	c.pages = m.pages
	if m.pages > (1<<62)/c.pageSize {
		return meta{}, c.damage(0, "the meta page claims %d pages", m.pages)
	}
	var last [1]byte
	if _, err := c.r.ReadAt(last[:], int64(m.pages*c.pageSize)-1); err != nil {
		return meta{}, c.damage(m.pages*c.pageSize, "the file ends before its last page: %v", err)
	}
	c.seen = make([]uint64, m.pages/64+1)
	return m, nil
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
	if c.later != nil && depth == laterDepth {
		*c.later = append(*c.later, subtree{id, low, high, c.inBucket})
		return nil
	}
	page, err := c.page(id)
	if err != nil {
		return err
	}
	// A leaf of a bucket leads to no other page: nothing is read while its bytes are in use.
	if !c.inBucket || binary.NativeEndian.Uint16(page[8:]) != flagLeaf {
		page = bytes.Clone(page)
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
	c.large = slices.Grow(c.large[:0], int((overflow+1)*c.pageSize))[:(overflow+1)*c.pageSize]
	if _, err := c.r.ReadAt(c.large, int64(at)); err != nil {
		return nil, c.damage(at, "cannot read page %d: %v", id, err)
	}
	return c.large, nil
}

// read gives one page, from the window if it is there.
func (c *checker) read(id uint64) ([]byte, error) {
	in := uint64(len(c.window)) / c.pageSize
	if id < c.windowID || id >= c.windowID+in {
		n := uint64(1)
		if id == c.windowID+in {
			n = min(windowPages, c.pages-id)
		}
		if c.window == nil {
			c.window = make([]byte, windowPages*c.pageSize)
		}
		c.window, c.windowID = c.window[:n*c.pageSize], id
		if _, err := c.r.ReadAt(c.window, int64(id*c.pageSize)); err != nil {
			return nil, c.damage(id*c.pageSize, "cannot read page %d or one of the %d behind it: %v", id, n-1, err)
		}
	}
	from := (id - c.windowID) * c.pageSize
	return c.window[from : from+c.pageSize], nil
}

// claim notes that page p is in use; false where it was already.
func (c *checker) claim(p uint64) bool {
	bit := uint64(1) << (p % 64)
	c.claimed++
	return atomic.OrUint64(&c.seen[p/64], bit)&bit == 0
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
	flags, count, err := c.header(at, page)
	if err != nil {
		return err
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
			err = c.bucket(at, e, depth+1)
		case c.visitor != nil:
			err = c.visitor.entry(e.key, e.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// header gives a page's kind and number of entries, for which it has room.
func (c *checker) header(at uint64, page []byte) (flags uint16, count int, err error) {
	flags, count = binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return 0, 0, c.damage(at+8, "neither a branch nor a leaf page (flags %#x)", flags)
	}
	if pageHeader+count*elementSize > len(page) || flags == flagBranch && count == 0 {
		return 0, 0, c.damage(at+10, "a page of %d entries", count)
	}
	return flags, count, nil
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

// bucket checks the bucket that a leaf's entry is.
func (c *checker) bucket(at uint64, e element, depth int) error {
	if len(e.value) < bucketHeader {
		return c.damage(at, "a bucket of %d bytes", len(e.value))
	}
	if c.inBucket {
		return c.damage(at, "a bucket within a bucket")
	}
	c.inBucket = true
	defer func() { c.inBucket = false }()
	if c.visitor == nil {
		return c.content(at, e.value, depth)
	}
	if err := c.visitor.begin(e.key, binary.NativeEndian.Uint64(e.value[8:])); err != nil {
		return err
	}
	if err := c.content(at, e.value, depth); err != nil {
		return err
	}
	return c.visitor.end()
}

// content checks what is in the bucket that value stands for.
func (c *checker) content(at uint64, value []byte, depth int) error {
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return c.tree(root, nil, nil, depth)
	}
	if len(value) < bucketHeader+pageHeader {
		return c.damage(at, "an inline bucket of %d bytes", len(value))
	}
	return c.elements(at, value[bucketHeader:], nil, nil, depth)
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
