package mvcc

import (
	"bytes"
	"math"
	"sort"

	"keelson/internal/kit/wire"
)

// natural tells whether the answer's order is the tree's. etcd takes SortNone for that even where a target
// is named, and only then, after the limit, sorts by it; so do we.
func (o *RangeOptions) natural() bool {
	return o.Order == SortNone || o.Target == ByKey && o.Order == SortAscend
}

func (o *RangeOptions) filtered() bool {
	return o.MinMod != 0 || o.MaxMod != 0 || o.MinCreate != 0 || o.MaxCreate != 0
}

// plain tells whether the limit alone decides which rows are collected.
func (o *RangeOptions) plain() bool { return o.natural() && !o.filtered() }

// fetch gives how many rows to collect before filters and sorting: all where those decide which are left. Where etcd
// sorts what is left after the limit it has one row more than the limit.
func (o *RangeOptions) fetch() int64 {
	switch {
	case !o.plain() || o.Limit <= 0 || o.Limit == math.MaxInt64:
		return math.MaxInt64
	case o.Target != ByKey:
		return o.Limit + 1
	}
	return o.Limit
}

// arrange filters and sorts. etcd's sort is not stable: equal rows lie as Go's sort.Sort leaves them, from the
// same start with the same comparisons, and so here.
func (r *rows) arrange(o RangeOptions) {
	sorts := !o.natural() || o.Target != ByKey
	if !sorts && !o.filtered() {
		return
	}
	s := sorter{raw: r.kvs[:0], target: o.Target}
	for _, raw := range r.kvs {
		kv := parse(raw)
		if !o.keeps(kv) {
			continue
		}
		s.raw = append(s.raw, raw)
		if sorts {
			s.kvs = append(s.kvs, kv)
		}
	}
	r.kvs = s.raw
	switch {
	case !sorts:
	case o.Order == SortDescend:
		sort.Sort(sort.Reverse(&s))
	default:
		sort.Sort(&s)
	}
}

func (o *RangeOptions) keeps(kv wire.KeyValue) bool {
	return (o.MaxMod == 0 || kv.Mod <= o.MaxMod) && (o.MinMod == 0 || kv.Mod >= o.MinMod) &&
		(o.MaxCreate == 0 || kv.Create <= o.MaxCreate) && (o.MinCreate == 0 || kv.Create >= o.MinCreate)
}

// sorter sorts encoded rows by what they decode to.
type sorter struct {
	raw    [][]byte
	kvs    []wire.KeyValue
	target SortTarget
}

func (s *sorter) Len() int { return len(s.raw) }

func (s *sorter) Swap(i, j int) {
	s.raw[i], s.raw[j] = s.raw[j], s.raw[i]
	s.kvs[i], s.kvs[j] = s.kvs[j], s.kvs[i]
}

func (s *sorter) Less(i, j int) bool {
	a, b := &s.kvs[i], &s.kvs[j]
	switch s.target {
	case ByVersion:
		return a.Version < b.Version
	case ByCreate:
		return a.Create < b.Create
	case ByMod:
		return a.Mod < b.Mod
	case ByValue:
		return bytes.Compare(a.Value, b.Value) < 0
	}
	return bytes.Compare(a.Key, b.Key) < 0
}

// stripChunk is the size of the buffers that stripped rows share: some 200 keys of 80 bytes.
const stripChunk = 16 << 10

// strip replaces rows by their keys_only form: without the value, and, as etcd answers them from its index
// unless it sorted by value, without the lease.
func (r *rows) strip(keepLease bool) {
	var buf []byte
	for i, raw := range r.kvs {
		kv := parse(raw)
		kv.Value = nil
		if !keepLease {
			kv.Lease = 0
		}
		size := wire.SizeKeyValue(kv)
		if cap(buf)-len(buf) < size {
			buf = make([]byte, 0, max(size, min(stripChunk, (len(r.kvs)-i)*size)))
		}
		from := len(buf)
		buf = wire.AppendKeyValue(buf, kv)
		r.kvs[i] = buf[from:len(buf):len(buf)]
	}
}
