package wal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"keelson/internal/kit/vfs"
)

// sectorBytes is what a disk writes whole or not at all.
const sectorBytes = 512

// errEnd is returned where a segment's records end.
var errEnd = errors.New("wal: end of segment")

// flaw is a frame that does not check. A torn one has lost sectors in a crash, which in the last segment
// means that nobody was told about it.
type flaw struct {
	off    int64
	torn   bool
	reason string
}

func (f *flaw) Error() string { return fmt.Sprintf("frame at %d: %s", f.off, f.reason) }

// frame is one record as read. data is good until the next call of next.
type frame struct {
	off  int64
	typ  byte
	data []byte
}

// frameReader reads the frames of one segment in order, through a buffer.
type frameReader struct {
	file  vfs.File
	off   int64 // of the next frame
	limit int64 // bytes that may be read
	crc   uint32
	ahead int  // how much to read at once; 0: copyBytes
	trust bool // take the next frame's crc as the beginning of the chain, unchecked

	buf   []byte
	start int64 // offset of buf[0]
}

// view gives n bytes at off; the caller has checked them against limit.
func (r *frameReader) view(off int64, n int) ([]byte, error) {
	if at := off - r.start; at >= 0 && at+int64(n) <= int64(len(r.buf)) {
		return r.buf[at : at+int64(n)], nil
	}
	want := int(min(int64(max(n, cmp.Or(r.ahead, copyBytes))), r.limit-off))
	if cap(r.buf) < want {
		r.buf = make([]byte, want)
	}
	r.buf, r.start = r.buf[:want], off
	got, err := r.file.ReadAt(r.buf, off)
	if got < want {
		r.buf = r.buf[:0]
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("wal: read %s at %d: %w", r.file.Name(), off, err)
	}
	return r.buf[:n], nil
}

// next gives the next frame, errEnd, a *flaw, or the disk's error.
func (r *frameReader) next() (frame, error) {
	left := r.limit - r.off
	if left < lengthBytes {
		b, err := r.view(r.off, int(left))
		if err != nil || isZero(b) {
			return frame{}, cmp.Or(err, errEnd)
		}
		return frame{}, &flaw{r.off, true, "the file ends within a frame's length"}
	}
	b, err := r.view(r.off, lengthBytes)
	if err != nil {
		return frame{}, err
	}
	word := binary.LittleEndian.Uint64(b)
	if word == 0 {
		return frame{}, r.end(left)
	}
	size := int64(word & sizeMask)
	pad := padding(size)
	if word != lengthWord(size) {
		return frame{}, &flaw{r.off, false, fmt.Sprintf("the frame's length word is %#x", word)}
	}
	if size > left-lengthBytes-pad {
		return frame{}, r.pastEnd(size, left-lengthBytes)
	}
	b, err = r.view(r.off+lengthBytes, int(size+pad))
	if err != nil {
		return frame{}, err
	}
	return r.check(b[:size], b[size:])
}

// check takes one whole record; on success the reader moves on.
func (r *frameReader) check(rec, pad []byte) (frame, error) {
	h, ok := parseHeader(rec, int64(len(rec)))
	if !ok {
		return frame{}, r.classify(rec, "the record's header does not fit its length")
	}
	data := rec[h.size:]
	sum := crc32.Update(r.crc, castagnoli, data)
	if r.trust {
		sum = h.crc
	}
	if sum != h.crc {
		reason := fmt.Sprintf("the record's checksum is %08x, its data give %08x", h.crc, sum)
		return frame{}, r.classify(rec, reason)
	}
	if !isZero(pad) {
		return frame{}, &flaw{r.off, false, "the record's padding is not zero"}
	}
	f := frame{off: r.off, typ: h.typ, data: data}
	r.off += lengthBytes + int64(len(rec)+len(pad))
	r.crc, r.trust = sum, false
	return f, nil
}

// end judges a zero length. A lost sector is zero up to its end; anything else in it is damage.
func (r *frameReader) end(left int64) error {
	rest := min(sectorBytes-r.off%sectorBytes, left) - lengthBytes
	if rest <= 0 {
		return errEnd
	}
	b, err := r.view(r.off+lengthBytes, int(rest))
	if err != nil {
		return err
	}
	if !isZero(b) {
		return &flaw{r.off, false, "the frame's length is zero, but what follows in its sector is not"}
	}
	return errEnd
}

// pastEnd judges a frame that is longer than the file: torn, unless the record's header says that the
// length is wrong.
func (r *frameReader) pastEnd(size, have int64) error {
	reason := fmt.Sprintf("a record of %d bytes does not fit into the %d that follow", size, have)
	b, err := r.view(r.off+lengthBytes, int(min(have, headerMax)))
	if err != nil {
		return err
	}
	_, ok := parseHeader(b, size)
	torn := ok || have < headerMax || r.lostHeader(b)
	return &flaw{r.off, torn, reason}
}

// classify tells a record with lost sectors from a damaged one.
func (r *frameReader) classify(rec []byte, reason string) error {
	if r.lostHeader(rec) {
		return &flaw{r.off, true, reason}
	}
	if _, ok := parseHeader(rec, int64(len(rec))); !ok {
		return &flaw{r.off, false, reason}
	}
	return &flaw{r.off, r.lostSector(rec), reason}
}

// lostHeader tells whether a sector with a part of the record's header reads as zeros.
func (r *frameReader) lostHeader(rec []byte) bool {
	at := int((r.off + lengthBytes) % sectorBytes)
	first := min(sectorBytes-at, len(rec))
	if isZero(rec[:first]) {
		return true
	}
	return first < min(headerMax, len(rec)) && isZero(rec[first:min(first+sectorBytes, len(rec))])
}

// lostSector tells whether any sector's part of the record reads as zeros.
func (r *frameReader) lostSector(rec []byte) bool {
	for at := int((r.off + lengthBytes) % sectorBytes); len(rec) > 0; at = 0 {
		n := min(sectorBytes-at, len(rec))
		if isZero(rec[:n]) {
			return true
		}
		rec = rec[n:]
	}
	return false
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
