package jsonapi

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"keelson/internal/kit/wire"
)

// Sizes that hold what is appended below: a JSON object's names and numbers, at their longest.
const (
	headerBytesMax   = 192
	keyValueBytesMax = 224 // beside key and value
)

func sizePut(a *wire.PutResponse) int {
	return headerBytesMax + keyValueBytesMax + base64.StdEncoding.EncodedLen(len(a.PrevKV))
}

func sizeRange(a *wire.RangeResponse) int {
	n := headerBytesMax + keyValueBytesMax
	for _, kv := range a.KVs {
		n += keyValueBytesMax + base64.StdEncoding.EncodedLen(len(kv))
	}
	return n
}

// appendPut appends what the gateway writes for a put.
func appendPut(dst []byte, a *wire.PutResponse) ([]byte, error) {
	dst = appendHeader(append(dst, '{'), a.Header)
	if a.PrevKV != nil {
		var err error
		if dst, err = appendKeyValue(append(name(dst, "prev_kv"), '{'), a.PrevKV); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// appendRange appends what the gateway writes for a range.
func appendRange(dst []byte, a *wire.RangeResponse) ([]byte, error) {
	dst = appendHeader(append(dst, '{'), a.Header)
	for i, kv := range a.KVs {
		if i == 0 {
			dst = append(name(dst, "kvs"), '[', '{')
		} else {
			dst = append(dst, ',', '{')
		}
		var err error
		if dst, err = appendKeyValue(dst, kv); err != nil {
			return nil, err
		}
	}
	if len(a.KVs) > 0 {
		dst = append(dst, ']')
	}
	if a.More {
		dst = append(name(dst, "more"), "true"...)
	}
	return append(number(dst, "count", a.Count), '}'), nil
}

func appendHeader(dst []byte, h *wire.Header) []byte {
	if h == nil {
		return dst
	}
	dst = append(name(dst, "header"), '{')
	dst = unsigned(dst, "cluster_id", h.ClusterID)
	dst = unsigned(dst, "member_id", h.MemberID)
	dst = number(dst, "revision", h.Revision)
	return append(unsigned(dst, "raft_term", h.Term), '}')
}

// appendKeyValue appends a stored key-value, whose brace is open, and closes it.
func appendKeyValue(dst, encoded []byte) ([]byte, error) {
	kv, err := wire.ParseKeyValue(encoded)
	if err != nil {
		return nil, fmt.Errorf("jsonapi: encode a key-value: %w", err)
	}
	if len(kv.Key) > 0 {
		dst = appendBase64(name(dst, "key"), kv.Key)
	}
	dst = number(dst, "create_revision", kv.Create)
	dst = number(dst, "mod_revision", kv.Mod)
	dst = number(dst, "version", kv.Version)
	if len(kv.Value) > 0 {
		dst = appendBase64(name(dst, "value"), kv.Value)
	}
	return append(number(dst, "lease", kv.Lease), '}'), nil
}

// name begins a member: behind a comma, unless it is the first one.
func name(dst []byte, n string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(append(append(dst, '"'), n...), '"', ':')
}

// number appends a member with a 64-bit number, which JSON of protobuf has in quotes; zero is left out.
func number(dst []byte, n string, v int64) []byte {
	if v == 0 {
		return dst
	}
	return append(strconv.AppendInt(append(name(dst, n), '"'), v, 10), '"')
}

func unsigned(dst []byte, n string, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return append(strconv.AppendUint(append(name(dst, n), '"'), v, 10), '"')
}
