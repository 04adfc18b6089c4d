package auth

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
)

// allowed is what a user may do by all of their roles.
type allowed struct {
	root        bool
	read, write spans
}

// span is the keys from begin on, up to end; nil: all of them.
type span struct{ begin, end []byte }

// spans are in order and do not touch each other.
type spans []span

func (v *View) merge(u *user) *allowed {
	m := &allowed{root: u.hasRole(RootRole)}
	for _, name := range u.Roles {
		i, ok := v.findRole(name)
		if !ok {
			continue
		}
		for _, p := range v.roles[i].KeyPermission {
			s := spanOf(p)
			if t := p.PermType; t == authpb.Permission_READ || t == authpb.Permission_READWRITE {
				m.read = append(m.read, s)
			}
			if t := p.PermType; t == authpb.Permission_WRITE || t == authpb.Permission_READWRITE {
				m.write = append(m.write, s)
			}
		}
	}
	m.read, m.write = m.read.joined(), m.write.joined()
	return m
}

func spanOf(p *authpb.Permission) span {
	switch {
	case len(p.RangeEnd) == 0:
		return span{p.Key, append(bytes.Clone(p.Key), 0)} // the one key
	case isOpen(p.RangeEnd):
		return span{begin: p.Key}
	}
	return span{p.Key, p.RangeEnd}
}

// isOpen tells whether a range's end stands for none.
func isOpen(end []byte) bool { return len(end) == 1 && end[0] == 0 }

// joined puts spans in order and makes one of those that overlap or touch.
func (s spans) joined() spans {
	slices.SortFunc(s, func(a, b span) int { return bytes.Compare(a.begin, b.begin) })
	var out spans
	for _, next := range s {
		if len(out) == 0 {
			out = append(out, next)
			continue
		}
		last := &out[len(out)-1]
		switch {
		case last.end == nil:
		case bytes.Compare(last.end, next.begin) < 0:
			out = append(out, next)
		case next.end == nil || bytes.Compare(last.end, next.end) < 0:
			last.end = next.end
		}
	}
	return out
}

// covers tells whether every key of a range is in one of the spans. A range that ends before it begins, which holds no key,
// counts as its first one.
func (s spans) covers(key, end []byte) bool {
	lo, hi := 0, len(s)
	for lo < hi {
		mid := (lo + hi) / 2
		if bytes.Compare(s[mid].begin, key) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return false
	}
	in := s[lo-1]
	switch {
	case in.end == nil:
		return true
	case bytes.Compare(key, in.end) >= 0 || isOpen(end):
		return false
	}
	return len(end) == 0 || bytes.Compare(end, in.end) <= 0
}
