// Package v2tree lays the tree of etcd's v2 API over ordinary v3 keys, and decides what an operation of v2 does there: which
// keys to read, which transaction to propose, what to answer. It decides on what was read alone, so that the HTTP edge, the
// tools that move v2 data and the tests share one meaning. There is no state beside the keys, so v2 data is as replicated and
// as durable as any, and a member that knows nothing of v2 can hold it.
//
// Keys, below the prefix P ("/_v2/" unless the user chose another one):
//
//	P "keys/a/b"    the node /a/b. The root has no key: it always exists.
//	P "removed"     what was deleted last by a request (Removal), written in the transaction that deletes, so that who
//	                watches knows a deletion from an expiry.
//	P "order/a"     in the directory /a the last name that a POST made (decimal digits); transactions compare it, so that
//	                names grow in the order of the commits.
//	P "auth/..."    users, roles and the switch of v2's own auth.
//
// A directory is a marker key with flagDir. A node exists if its key does and the markers of all directories above it: when
// a directory expires its marker goes, and with it all below, which the transaction that makes the path again sweeps.
//
// The v2 index is the v3 revision: each change is one transaction, so one revision. A node's modifiedIndex is the mod_revision
// of its key, but for directories whose expiry was changed.
//
// A node's value is a header and what the user wrote:
//
//	byte 0     format, 0x02
//	byte 1     flags: 1 directory, 2 has an expiry, 4 has a created index, 8 made for what is below it, 16 refreshed,
//	           32 has a modified index
//	byte 2     the action that wrote it: 1 set, 2 create, 3 update, 4 compareAndSwap
//	uvarint    with flag 4: the created index; without, the node was created by the change that wrote it
//	uvarint    with flag 2: the expiry, in nanoseconds since 1970
//	uvarint    with flag 32: the modified index; without, the node was modified by the change that wrote it
//	the rest   the value
//
// A key with an expiry is attached to a lease of its own: the lease's end deletes it.
package v2tree

import (
	"path"
	"strings"
)

// DefaultPrefix is where v2 keys live unless the user chose another place.
const DefaultPrefix = "/_v2/"

// Prefix is where v2 keys live. All members of a cluster and all tools must use the same.
type Prefix string

// At gives the prefix that a user's text means: one that does not end in a slash gets one.
func At(text string) Prefix {
	if !strings.HasSuffix(text, "/") {
		text += "/"
	}
	return Prefix(text)
}

// Range is the v3 keys from Key up to End, End left out.
type Range struct{ Key, End string }

// All is every key of v2.
func (p Prefix) All() Range { return rangeOf(string(p)) }

// Node is the key of the node at a clean path such as "/a/b". The root has none.
func (p Prefix) Node(clean string) string { return string(p) + "keys" + clean }

// Nodes is the keys of all nodes.
func (p Prefix) Nodes() Range { return p.Below("/") }

// Below is the keys of all nodes below a path.
func (p Prefix) Below(clean string) Range { return rangeOf(p.Node(withSlash(clean))) }

// Path is the inverse of Node; ok is false for a key that is no node's.
func (p Prefix) Path(key string) (clean string, ok bool) {
	clean, ok = strings.CutPrefix(key, string(p)+"keys")
	return clean, ok && clean != "/" && strings.HasPrefix(clean, "/") && Clean(clean) == clean
}

// Removed is the key of the last Removal.
func (p Prefix) Removed() string { return string(p) + "removed" }

// Order is the key of the last name that was made in a directory.
func (p Prefix) Order(dir string) string { return string(p) + "order" + dir }

// OrderBelow is the keys of the last names in all directories below a path.
func (p Prefix) OrderBelow(clean string) Range { return rangeOf(p.Order(withSlash(clean))) }

// Auth is the key of something of v2's own auth, such as "users/root".
func (p Prefix) Auth(name string) string { return string(p) + "auth/" + name }

// AuthAll is every key of v2's own auth.
func (p Prefix) AuthAll() Range { return rangeOf(p.Auth("")) }

// Clean gives the path that a request's path means: absolute, without empty elements, dots and a slash at the end.
func Clean(p string) string { return path.Clean("/" + p) }

// Ancestors lists the directories above a clean path, outermost first and without the root.
func Ancestors(clean string) []string {
	var dirs []string
	for i := 1; i < len(clean); i++ {
		if clean[i] == '/' {
			dirs = append(dirs, clean[:i])
		}
	}
	return dirs
}

func withSlash(clean string) string {
	if strings.HasSuffix(clean, "/") {
		return clean
	}
	return clean + "/"
}

// rangeOf is the keys that begin with a text that ends in a slash: '0' comes next after '/'.
func rangeOf(slashed string) Range {
	return Range{slashed, slashed[:len(slashed)-1] + "0"}
}
