package wire

import "errors"

// ErrMalformed is returned when bytes are not the protobuf message they should be.
var ErrMalformed = errors.New("wire: malformed message")

// The fields of mvccpb.KeyValue, in the order they are written.
const (
	kvKey = iota + 1
	kvCreate
	kvMod
	kvVersion
	kvValue
	kvLease
)

// SizeKeyValue is the number of bytes that AppendKeyValue appends.
func SizeKeyValue(kv KeyValue) int {
	return sizeBytes(len(kv.Key)) + sizeInt(uint64(kv.Create)) + sizeInt(uint64(kv.Mod)) +
		sizeInt(uint64(kv.Version)) + sizeBytes(len(kv.Value)) + sizeInt(uint64(kv.Lease))
}

// AppendKeyValue appends kv as an encoded mvccpb.KeyValue: the bytes that are stored, answered and sent to watchers.
func AppendKeyValue(dst []byte, kv KeyValue) []byte {
	dst = appendBytes(dst, kvKey, kv.Key)
	dst = appendInt(dst, kvCreate, uint64(kv.Create))
	dst = appendInt(dst, kvMod, uint64(kv.Mod))
	dst = appendInt(dst, kvVersion, uint64(kv.Version))
	dst = appendBytes(dst, kvValue, kv.Value)
	return appendInt(dst, kvLease, uint64(kv.Lease))
}

// ParseKeyValue decodes an mvccpb.KeyValue. Key and Value alias b, and are nil where they are empty. Unknown fields
// are passed over. The error is ErrMalformed.
func ParseKeyValue(b []byte) (KeyValue, error) {
	var kv KeyValue
	f := fields{b: b, ok: true}
	for {
		tag, more := f.next()
		if !more {
			break
		}
		switch tag {
		case kvKey<<3 | bytesType:
			kv.Key = f.bytes()
		case kvCreate<<3 | varintType:
			kv.Create = int64(f.varint())
		case kvMod<<3 | varintType:
			kv.Mod = int64(f.varint())
		case kvVersion<<3 | varintType:
			kv.Version = int64(f.varint())
		case kvValue<<3 | bytesType:
			kv.Value = f.bytes()
		case kvLease<<3 | varintType:
			kv.Lease = int64(f.varint())
		default:
			f.skip(tag)
		}
	}
	if !f.ok {
		return KeyValue{}, ErrMalformed
	}
	return kv, nil
}
