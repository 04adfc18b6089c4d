package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// errLoose is returned when a file has an entry outside all buckets: no etcd wrote it.
var errLoose = errors.New("store: an entry outside all buckets")

// packer writes a bolt file in one go, from content that comes in order: leaf pages one behind the other, as full as
// they get, and branch pages in between as they fill up. Its memory is a page a level of the tree. The pages are
// those that check.go describes; the two meta pages come last, so that what is cut off is no bolt file.
type packer struct {
	w        io.Writer // gets the pages from the third on, one behind the other
	pageSize int
	next     uint64 // the next page's ID

	// levels are the pages under way of the bucket under way, its leaf first.
	levels []*pageBuilder
	// name and sequence are the bucket's; root has the buckets that are complete.
	name     []byte
	sequence uint64
	root     *pageBuilder
	// page is the room that pages are made in.
	page []byte
}

func newPacker(w io.Writer, pageSize int) *packer {
	return &packer{w: w, pageSize: pageSize, next: 2, root: &pageBuilder{flags: flagLeaf}}
}

// pageBuilder collects the entries of a page.
type pageBuilder struct {
	flags   uint16
	entries []packed
	data    []byte // keys and values, one behind the other
}

// packed is an entry: where in the data it begins, the length of its key and, in a leaf, of its value, or, in a branch,
// the page below. bucket: the value is a bucket.
type packed struct {
	from, key, value int
	page             uint64
	bucket           bool
}

func (p *pageBuilder) size() int { return pageHeader + len(p.entries)*elementSize + len(p.data) }

func (p *pageBuilder) add(key, value []byte, page uint64, bucket bool) {
	p.entries = append(p.entries, packed{len(p.data), len(key), len(value), page, bucket})
	p.data = append(append(p.data, key...), value...)
}

func (p *pageBuilder) first() []byte { return p.data[:p.entries[0].key] }

// begin implements visitor.
func (p *packer) begin(name []byte, sequence uint64) error {
	p.name, p.sequence = bytes.Clone(name), sequence
	p.levels = append(p.levels[:0], &pageBuilder{flags: flagLeaf})
	return nil
}

// entry implements visitor.
func (p *packer) entry(key, value []byte) error {
	if p.name == nil {
		return fmt.Errorf("%w: key %q", errLoose, key)
	}
	return p.add(0, key, value, 0)
}

// add puts an entry on the page under way of a level, behind all before it.
func (p *packer) add(level int, key, value []byte, page uint64) error {
	if level == len(p.levels) {
		p.levels = append(p.levels, &pageBuilder{flags: flagBranch})
	}
	b := p.levels[level]
	if len(b.entries) > 0 && b.size()+elementSize+len(key)+len(value) > p.pageSize {
		id, err := p.write(b)
		if err != nil {
			return err
		}
		if err := p.add(level+1, b.first(), nil, id); err != nil {
			return err
		}
		b.entries, b.data = b.entries[:0], b.data[:0]
	}
	b.add(key, value, page, false)
	return nil
}

// end implements visitor: it completes the bucket's pages and notes where they begin.
func (p *packer) end() error {
	value := binary.NativeEndian.AppendUint64(nil, 0)
	value = binary.NativeEndian.AppendUint64(value, p.sequence)
	if len(p.levels[0].entries) == 0 {
		// As bolt has an empty bucket: the leaf page is in the value, without an ID.
		value = append(value, make([]byte, pageHeader)...)
		binary.NativeEndian.PutUint16(value[bucketHeader+8:], flagLeaf)
	} else {
		root, err := p.finish()
		if err != nil {
			return err
		}
		binary.NativeEndian.PutUint64(value, root)
	}
	p.root.add(p.name, value, 0, true)
	p.name = nil
	return nil
}

// finish writes the pages under way, each below the next level's, and gives the topmost one's ID.
func (p *packer) finish() (root uint64, err error) {
	for level := 0; level < len(p.levels); level++ {
		b := p.levels[level]
		if root, err = p.write(b); err != nil || level == len(p.levels)-1 {
			break
		}
		if err = p.add(level+1, b.first(), nil, root); err != nil {
			break
		}
	}
	return root, err
}

// write writes a page and gives its ID.
func (p *packer) write(b *pageBuilder) (uint64, error) {
	pages := (b.size() + p.pageSize - 1) / p.pageSize
	page := p.blank(pages, b.flags)
	u32 := binary.NativeEndian.PutUint32
	binary.NativeEndian.PutUint16(page[10:], uint16(len(b.entries)))
	for i, e := range b.entries {
		at := pageHeader + i*elementSize
		raw, pos := page[at:], uint32((len(b.entries)-i)*elementSize+e.from)
		if b.flags == flagBranch {
			u32(raw, pos)
			u32(raw[4:], uint32(e.key))
			binary.NativeEndian.PutUint64(raw[8:], e.page)
			continue
		}
		if e.bucket {
			u32(raw, flagBucket)
		}
		u32(raw[4:], pos)
		u32(raw[8:], uint32(e.key))
		u32(raw[12:], uint32(e.value))
	}
	copy(page[pageHeader+len(b.entries)*elementSize:], b.data)
	id := p.next
	p.next += uint64(pages)
	if _, err := p.w.Write(page); err != nil {
		return 0, err
	}
	return id, nil
}

// blank gives room for the next page, which spans so many, with its header and nothing else.
func (p *packer) blank(pages int, flags uint16) []byte {
	n := pages * p.pageSize
	if cap(p.page) < n {
		p.page = make([]byte, n)
	}
	page := p.page[:n]
	clear(page)
	binary.NativeEndian.PutUint64(page, p.next)
	binary.NativeEndian.PutUint16(page[8:], flags)
	binary.NativeEndian.PutUint32(page[12:], uint32(pages-1))
	return page
}

// close writes the page of all buckets and an empty list of free pages, with which bolt need not look for them, and
// gives the two meta pages that belong in front.
func (p *packer) close() (metas []byte, err error) {
	root, err := p.write(p.root)
	if err != nil {
		return nil, err
	}
	free := p.next
	if _, err := p.w.Write(p.blank(1, flagFree)); err != nil {
		return nil, err
	}
	p.next++
	metas = make([]byte, 2*p.pageSize)
	for id := range uint64(2) {
		page := metas[int(id)*p.pageSize:]
		binary.NativeEndian.PutUint64(page, id)
		binary.NativeEndian.PutUint16(page[8:], flagMeta)
		m := page[pageHeader:]
		binary.NativeEndian.PutUint32(m, metaMagic)
		binary.NativeEndian.PutUint32(m[4:], metaVersion)
		binary.NativeEndian.PutUint32(m[8:], uint32(p.pageSize))
		binary.NativeEndian.PutUint64(m[16:], root)
		binary.NativeEndian.PutUint64(m[32:], free)
		binary.NativeEndian.PutUint64(m[40:], p.next)
		binary.NativeEndian.PutUint64(m[48:], id) // the transaction: as bolt begins a file
		sum := fnv.New64a()
		sum.Write(m[:metaSize-8])
		binary.NativeEndian.PutUint64(m[metaSize-8:], sum.Sum64())
	}
	return metas, nil
}
