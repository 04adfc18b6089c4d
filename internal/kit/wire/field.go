package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// A tag is a field number and a wire type in one varint. All but two fields here have one-byte tags.
const (
	varintType = 0
	bytesType  = 2
)

func tagOf(num int, typ uint64) uint64 { return uint64(num)<<3 | typ }

// sizeInt is the size of a varint field with a one-byte tag, 0 where v is zero and so left out.
func sizeInt(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func sizeBool(v bool) int {
	if v {
		return 2
	}
	return 0
}

// sizeBytes is the size of a bytes or string field of n bytes with a one-byte tag, 0 where it is empty.
func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return sizeMessage(n)
}

// sizeMessage is the size of a message field with a one-byte tag: present even where the message is empty.
func sizeMessage(n int) int { return 1 + protowire.SizeVarint(uint64(n)) + n }

func appendInt(dst []byte, num byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(append(dst, num<<3|varintType), v)
}

func appendBool(dst []byte, num byte, v bool) []byte {
	if !v {
		return dst
	}
	return append(dst, num<<3|varintType, 1)
}

func appendBytes(dst []byte, num byte, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	return append(appendLen(dst, num, len(v)), v...)
}

// appendLen starts a length-delimited field; the caller appends its n bytes.
func appendLen(dst []byte, num byte, n int) []byte {
	return protowire.AppendVarint(append(dst, num<<3|bytesType), uint64(n))
}

// fields walks the fields of one encoded message. ok turns false at the first thing that is not well formed;
// the walk is over then.
type fields struct {
	b  []byte
	ok bool
}

// next gives the next field's tag. It answers false at the message's end and at a malformed tag.
func (f *fields) next() (tag uint64, more bool) {
	if len(f.b) == 0 || !f.ok {
		return 0, false
	}
	if c := f.b[0]; c < 0x80 {
		f.b = f.b[1:]
		return uint64(c), true
	}
	tag = f.varint()
	return tag, f.ok
}

func (f *fields) varint() uint64 {
	v, n := protowire.ConsumeVarint(f.b)
	if n < 0 {
		f.ok = false
		return 0
	}
	f.b = f.b[n:]
	return v
}

// bytes gives the next length-delimited field's bytes, nil where there are none; they alias the message.
func (f *fields) bytes() []byte {
	v, n := protowire.ConsumeBytes(f.b)
	if n < 0 {
		f.ok = false
		return nil
	}
	f.b = f.b[n:]
	if len(v) == 0 {
		return nil
	}
	return v[:len(v):len(v)]
}

// skip passes over a field that nobody here knows.
func (f *fields) skip(tag uint64) {
	num, typ := protowire.DecodeTag(tag)
	if num < protowire.MinValidNumber || num > protowire.MaxValidNumber {
		f.ok = false
		return
	}
	n := protowire.ConsumeFieldValue(num, typ, f.b)
	if n < 0 {
		f.ok = false
		return
	}
	f.b = f.b[n:]
}
