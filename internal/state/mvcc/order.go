package mvcc

import "strings"

// order finds keys in a sorted list by integers: neighbours share a prefix, and the eight bytes after it nearly always
// decide. So a search looks at one key for the prefix and one for the last word, not at each that it passes, which in a large
// index is a cache miss each.
type order struct {
	// skip is the length of a prefix that all keys of the list share.
	skip  int
	heads []uint64
}

// headOf gives the first eight bytes of s, big-endian, with zeros behind a shorter one: heads never order two keys
// wrongly, but may be equal where the keys are not.
func headOf(s string) uint64 {
	if len(s) >= 8 {
		return uint64(s[7]) | uint64(s[6])<<8 | uint64(s[5])<<16 | uint64(s[4])<<24 |
			uint64(s[3])<<32 | uint64(s[2])<<40 | uint64(s[1])<<48 | uint64(s[0])<<56
	}
	var h uint64
	for i := range len(s) {
		h |= uint64(s[i]) << (56 - 8*i)
	}
	return h
}

// shared gives the length of the prefix that a and b share.
func shared(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// find narrows key's place: all keys before lo are less, all from hi on are greater, and those between have key's
// head. first is the list's first key.
func (o *order) find(first, key string) (lo, hi int) {
	if o.skip > 0 {
		switch strings.Compare(key[:min(len(key), o.skip)], first[:o.skip]) {
		case -1:
			return 0, 0
		case 1:
			return len(o.heads), len(o.heads)
		}
	}
	h := headOf(key[o.skip:])
	lo, hi = 0, len(o.heads)
	for lo < hi {
		if m := int(uint(lo+hi) >> 1); o.heads[m] < h {
			lo = m + 1
		} else {
			hi = m
		}
	}
	for hi < len(o.heads) && o.heads[hi] == h {
		hi++
	}
	return lo, hi
}

// holds tells whether key has the list's prefix.
func (o *order) holds(first, key string) bool {
	return len(key) >= o.skip && key[:o.skip] == first[:o.skip]
}
