package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The record types.
const (
	typeMetadata = 1
	typeEntry    = 2
	typeState    = 3
	typeCRC      = 4
	typeMark     = 5
)

const (
	lengthBytes = 8
	frameAlign  = 8
	sizeMask    = 1<<56 - 1
	padFlag     = 0x80
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encoder appends frames to buf and carries the running crc over. Nothing is allocated once buf and head
// have grown.
type encoder struct {
	buf  []byte
	head []byte // a record's data, for an entry without its payload
	crc  uint32
}

// frame appends one record whose data is head followed by body.
func (e *encoder) frame(typ byte, head, body []byte) {
	e.crc = crc32.Update(e.crc, castagnoli, head)
	e.crc = crc32.Update(e.crc, castagnoli, body)
	n := len(head) + len(body)
	size := 3 + protowire.SizeVarint(uint64(e.crc))
	if n > 0 {
		size += 1 + protowire.SizeVarint(uint64(n)) + n
	}
	e.buf = binary.LittleEndian.AppendUint64(e.buf, lengthWord(int64(size)))
	e.buf = append(e.buf, 0x08, typ, 0x10)
	e.buf = protowire.AppendVarint(e.buf, uint64(e.crc))
	if n > 0 {
		e.buf = append(e.buf, 0x1a)
		e.buf = protowire.AppendVarint(e.buf, uint64(n))
		e.buf = append(e.buf, head...)
		e.buf = append(e.buf, body...)
	}
	var zeros [frameAlign]byte
	e.buf = append(e.buf, zeros[:padding(int64(size))]...)
}

func padding(size int64) int64 { return -size & (frameAlign - 1) }

func lengthWord(size int64) uint64 {
	word := uint64(size)
	if pad := padding(size); pad > 0 {
		word |= (padFlag | uint64(pad)) << 56
	}
	return word
}

// chain appends a crc record: the running value, which the reader's must equal here.
func (e *encoder) chain() { e.frame(typeCRC, nil, nil) }

func (e *encoder) metadata(md Metadata) {
	e.head = appendField(e.head[:0], 1, md.NodeID)
	e.head = appendField(e.head, 2, md.ClusterID)
	e.frame(typeMetadata, e.head, nil)
}

func (e *encoder) state(s hardState) {
	e.head = appendField(e.head[:0], 1, s.term)
	e.head = appendField(e.head, 2, s.vote)
	e.head = appendField(e.head, 3, s.commit)
	e.frame(typeState, e.head, nil)
}

// entry writes the bytes that protobuf would: fields that are set, in ascending order.
func (e *encoder) entry(ent *raftpb.Entry) {
	h := e.head[:0]
	if ent.Type != nil {
		h = appendField(h, 1, uint64(*ent.Type))
	}
	if ent.Term != nil {
		h = appendField(h, 2, *ent.Term)
	}
	if ent.Index != nil {
		h = appendField(h, 3, *ent.Index)
	}
	if ent.Data != nil {
		h = protowire.AppendTag(h, 4, protowire.BytesType)
		h = protowire.AppendVarint(h, uint64(len(ent.Data)))
	}
	e.head = h
	e.frame(typeEntry, h, ent.Data)
}

func (e *encoder) mark(m Mark) error {
	e.head = appendField(e.head[:0], 1, m.Index)
	e.head = appendField(e.head, 2, m.Term)
	if m.ConfState != nil {
		cs, err := proto.Marshal(m.ConfState)
		if err != nil {
			return fmt.Errorf("wal: encode the members of mark %d: %w", m.Index, err)
		}
		e.head = protowire.AppendTag(e.head, 3, protowire.BytesType)
		e.head = protowire.AppendBytes(e.head, cs)
	}
	e.frame(typeMark, e.head, nil)
	return nil
}

func appendField(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// header is a record taken apart up to its data: size bytes of header, then data bytes of data.
type header struct {
	typ  byte
	crc  uint32
	size int
	data int
}

// parseHeader reads the header of a record of which b holds the beginning (or all) and total bytes exist.
// It takes only what encoders write: the crc does not cover these bytes.
func parseHeader(b []byte, total int64) (h header, ok bool) {
	if len(b) < 4 || b[0] != 0x08 || b[1] < typeMetadata || b[1] > typeMark || b[2] != 0x10 {
		return header{}, false
	}
	crc, n := protowire.ConsumeVarint(b[3:])
	if n < 0 || crc > math.MaxUint32 || n != protowire.SizeVarint(crc) {
		return header{}, false
	}
	h = header{typ: b[1], crc: uint32(crc), size: 3 + n}
	if h.typ == typeCRC {
		return h, int64(h.size) == total
	}
	if h.size >= len(b) || b[h.size] != 0x1a {
		return header{}, false
	}
	data, n := protowire.ConsumeVarint(b[h.size+1:])
	if n < 0 || n != protowire.SizeVarint(data) || data > sizeMask {
		return header{}, false
	}
	h.size, h.data = h.size+1+n, int(data)
	return h, int64(h.size)+int64(h.data) == total
}

// headerMax is the largest header: three tags, the type, a 32-bit and a 56-bit varint.
const headerMax = 3 + 1 + 5 + 8

var errField = errors.New("a field that does not belong there")

// numbers reads a message of up to max varint fields in ascending order, then (if rest is not nil) one
// bytes field numbered max+1. set has bit i for field i. Types of records differ only in a byte that no
// crc covers, so a message must fit its type exactly.
func numbers(b []byte, max protowire.Number, rest *[]byte) (v [4]uint64, set byte, err error) {
	for last := protowire.Number(0); len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || num <= last {
			return v, 0, errField
		}
		b, last = b[n:], num
		switch {
		case num <= max && typ == protowire.VarintType:
			x, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return v, 0, errField
			}
			v[num], b = x, b[n:]
		case num == max+1 && typ == protowire.BytesType && rest != nil:
			x, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return v, 0, errField
			}
			*rest, b = x, b[n:]
		default:
			return v, 0, errField
		}
		set |= 1 << num
	}
	return v, set, nil
}

func parseMetadata(b []byte) (Metadata, error) {
	v, _, err := numbers(b, 2, nil)
	return Metadata{NodeID: v[1], ClusterID: v[2]}, err
}

// hardState is raftpb.HardState by value.
type hardState struct{ term, vote, commit uint64 }

func (s hardState) proto() *raftpb.HardState {
	return &raftpb.HardState{Term: &s.term, Vote: &s.vote, Commit: &s.commit}
}

func parseState(b []byte) (hardState, error) {
	v, _, err := numbers(b, 3, nil)
	if err == nil && v[1] == 0 && (v[2] != 0 || v[3] != 0) {
		err = errors.New("a vote or commit index without a term")
	}
	return hardState{term: v[1], vote: v[2], commit: v[3]}, err
}

// ownedEntry is an entry with room for the numbers that it points to: one allocation, not four.
type ownedEntry struct {
	raftpb.Entry
	typ         raftpb.EntryType
	term, index uint64
}

// parseEntry copies what it takes from b.
func parseEntry(b []byte) (*raftpb.Entry, error) {
	var data []byte
	v, set, err := numbers(b, 3, &data)
	if err != nil {
		return nil, err
	}
	if v[3] == 0 {
		return nil, errors.New("an entry without an index")
	}
	if v[1] > uint64(raftpb.EntryConfChangeV2) {
		return nil, fmt.Errorf("entry type %d", v[1])
	}
	if v[1] != uint64(raftpb.EntryNormal) && len(data) == 0 {
		return nil, errors.New("a configuration change without data")
	}
	o := &ownedEntry{typ: raftpb.EntryType(v[1]), term: v[2], index: v[3]}
	if set&(1<<1) != 0 {
		o.Type = &o.typ
	}
	if set&(1<<2) != 0 {
		o.Term = &o.term
	}
	o.Index = &o.index
	if set&(1<<4) != 0 {
		o.Data = append(make([]byte, 0, len(data)), data...)
	}
	return &o.Entry, nil
}

func parseMark(b []byte) (Mark, error) {
	var cs []byte
	v, set, err := numbers(b, 2, &cs)
	if err != nil {
		return Mark{}, err
	}
	m := Mark{Index: v[1], Term: v[2]}
	if set&(1<<3) != 0 {
		m.ConfState = &raftpb.ConfState{}
		err = proto.Unmarshal(cs, m.ConfState)
	}
	return m, err
}
