// Package v2store is the state machine behind etcd's v2 API as it was up to 3.5: a tree of directories and files that
// the log's v2 requests change. Keelson keeps no such tree; package offline rebuilds one from what a stock member left, to
// find the keys in it.
//
// It does to the tree, and to its index, what 3.4.23 does: an index that is off by one would make another key of a
// create in order, and another outcome of a compare. Like every state package it knows no clock, no disk and no network.
package v2store

import (
	"container/heap"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrRefused is returned when a request does not fit the tree: it was answered with an error when it was made, and changes
// nothing.
var ErrRefused = errors.New("v2store: refused")

// The parts of the tree.
const (
	// Cluster is where members and the cluster's version were kept.
	Cluster = "/0"
	// Keys holds the users' keys: /foo of the API is /1/foo here.
	Keys = "/1"
	// Auth holds the v2 API's users and roles.
	Auth = "/2"
)

// expiryMin is the earliest time that counts as an expiry where a node is made; a TTL before it means none.
var expiryMin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// orderedDigits is the width of the names that creates in order give.
const orderedDigits = 20

// node is a file or a directory.
type node struct {
	name     string
	parent   *node            // nil for the root
	children map[string]*node // nil for a file
	value    string

	created, modified uint64
	expires           time.Time // zero: never
	place             int       // in the heap, where expires is set
}

func (n *node) dir() bool { return n.children != nil }

// path gives where a node is.
func (n *node) path() string {
	if n.parent == nil {
		return "/"
	}
	return path.Join(n.parent.path(), n.name)
}

// Store is the tree. One goroutine uses it.
type Store struct {
	root    *node
	index   uint64
	expires expiries
}

// New gives the tree of a member that has never run.
func New() *Store {
	return &Store{root: &node{children: map[string]*node{}}}
}

// Index counts the changes so far.
func (s *Store) Index() uint64 { return s.index }

// clean brings a path into the one form that nodes have.
func clean(p string) string { return path.Clean("/" + p) }

// fixed tells whether a path is of the nodes that no request may change.
func fixed(p string) bool { return p == "/" || p == Cluster || p == Keys }

// find gives the node at p, which is clean.
func (s *Store) find(p string) (*node, error) {
	n := s.root
	for name := range strings.SplitSeq(p[1:], "/") {
		if name == "" {
			break // the root
		}
		if !n.dir() {
			return nil, fmt.Errorf("%w: %s is no directory", ErrRefused, n.path())
		}
		child := n.children[name]
		if child == nil {
			return nil, fmt.Errorf("%w: %s is not there", ErrRefused, p)
		}
		n = child
	}
	return n, nil
}

// directory gives the directory p, made with those above it where they are missing.
func (s *Store) directory(p string) (*node, error) {
	n := s.root
	for name := range strings.SplitSeq(p[1:], "/") {
		if name == "" {
			break
		}
		child := n.children[name]
		if child == nil {
			child = &node{children: map[string]*node{}, created: s.index + 1, modified: s.index + 1}
			s.add(n, name, child)
		}
		if !child.dir() {
			return nil, fmt.Errorf("%w: %s is no directory", ErrRefused, child.path())
		}
		n = child
	}
	return n, nil
}

func (s *Store) add(parent *node, name string, n *node) {
	n.name, n.parent = name, parent
	parent.children[name] = n
	if !n.expires.IsZero() {
		heap.Push(&s.expires, n)
	}
}

// content is what a request makes of a node.
type content struct {
	value   string
	dir     bool
	expires time.Time
	// refresh keeps the value.
	refresh bool
}

// create makes a node: in order of creation below p, or at p itself, where replace allows for a file in its place.
func (s *Store) create(p string, c content, inOrder, replace bool) error {
	if inOrder {
		p += "/" + fmt.Sprintf("%0*s", orderedDigits, strconv.FormatUint(s.index+1, 10))
	}
	p = clean(p)
	if fixed(p) {
		return fmt.Errorf("%w: %s is fixed", ErrRefused, p)
	}
	if c.expires.Before(expiryMin) {
		c.expires = time.Time{}
	}
	above, name := path.Split(p)
	parent, err := s.directory(clean(above))
	if err != nil {
		return err
	}
	if old := parent.children[name]; old != nil {
		if !replace || old.dir() {
			return fmt.Errorf("%w: %s is there", ErrRefused, p)
		}
		s.drop(old)
	}
	s.index++
	n := &node{value: c.value, created: s.index, modified: s.index, expires: c.expires}
	if c.dir {
		n.value, n.children = "", map[string]*node{}
	}
	s.add(parent, name, n)
	return nil
}

// set writes a file or makes a directory, whatever is there, but for a directory.
func (s *Store) set(p string, c content) error {
	if c.refresh {
		old, err := s.find(clean(p))
		if err != nil {
			return err
		}
		c.value = old.value
	}
	return s.create(p, c, false, true)
}

// update writes a file, or renews a directory's expiry.
func (s *Store) update(p string, c content) error {
	p = clean(p)
	n, err := s.find(p)
	switch {
	case err != nil:
		return err
	case fixed(p) || n.dir() && c.value != "":
		return fmt.Errorf("%w: %s is a directory", ErrRefused, p)
	}
	s.write(n, c)
	return nil
}

// write is how a node that stays gets its value.
func (s *Store) write(n *node, c content) {
	s.index++
	if !n.dir() { // a directory's index stays, as in 3.4
		n.modified = s.index
		if !c.refresh {
			n.value = c.value
		}
	}
	s.expire(n, c.expires)
}

// expire sets a node's expiry.
func (s *Store) expire(n *node, at time.Time) {
	was := !n.expires.IsZero()
	n.expires = at
	switch {
	case was && at.IsZero():
		heap.Remove(&s.expires, n.place)
	case was:
		heap.Fix(&s.expires, n.place)
	case !at.IsZero():
		heap.Push(&s.expires, n)
	}
}

// compare gives the file at p where it has the value and the index that are asked for; "" and 0 ask for none.
func (s *Store) compare(p, value string, index uint64) (*node, error) {
	p = clean(p)
	n, err := s.find(p)
	switch {
	case err != nil:
		return nil, err
	case n.dir():
		return nil, fmt.Errorf("%w: %s is a directory", ErrRefused, p)
	case value != "" && n.value != value, index != 0 && n.modified != index:
		return nil, fmt.Errorf("%w: %s is another", ErrRefused, p)
	}
	return n, nil
}

// remove removes a file; a directory only where dir is set, and one that is not empty only where recursive is.
func (s *Store) remove(p string, dir, recursive bool) error {
	p = clean(p)
	if fixed(p) {
		return fmt.Errorf("%w: %s is fixed", ErrRefused, p)
	}
	n, err := s.find(p)
	switch {
	case err != nil:
		return err
	case n.dir() && !dir && !recursive:
		return fmt.Errorf("%w: %s is a directory", ErrRefused, p)
	case len(n.children) > 0 && !recursive:
		return fmt.Errorf("%w: %s is not empty", ErrRefused, p)
	}
	s.index++
	s.drop(n)
	return nil
}

// drop takes a node out of the tree, with all below it.
func (s *Store) drop(n *node) {
	for _, c := range n.children {
		s.drop(c)
	}
	if !n.expires.IsZero() {
		heap.Remove(&s.expires, n.place)
	}
	delete(n.parent.children, n.name)
}

// sync removes what has expired at a time that the log names.
func (s *Store) sync(now time.Time) {
	for len(s.expires) > 0 && !s.expires[0].expires.After(now) {
		s.index++
		s.drop(s.expires[0])
	}
}

// Node is a node as Walk shows it.
type Node struct {
	// Path is the node's, as the API shows it where the walk began at Keys.
	Path              string
	Dir               bool
	Value             string
	Created, Modified uint64
	// Expires is zero for never.
	Expires time.Time
}

// Get gives the node at p; ok is false where there is none.
func (s *Store) Get(p string) (_ Node, ok bool) {
	n, err := s.find(clean(p))
	if err != nil {
		return Node{}, false
	}
	return n.show(clean(p)), true
}

func (n *node) show(at string) Node {
	return Node{Path: at, Dir: n.dir(), Value: n.value, Created: n.created, Modified: n.modified, Expires: n.expires}
}

// Walk shows the nodes below the directory at p, parents first, siblings by name. Paths are given as if p were the root. It
// stops at the first error of f.
func (s *Store) Walk(p string, f func(Node) error) error {
	if n, err := s.find(clean(p)); err == nil {
		return n.walk("", f)
	}
	return nil // nothing is there
}

func (n *node) walk(at string, f func(Node) error) error {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c := n.children[name]
		p := at + "/" + name
		if err := f(c.show(p)); err != nil {
			return err
		}
		if err := c.walk(p, f); err != nil {
			return err
		}
	}
	return nil
}

// expiries are the nodes that expire, as a heap.
type expiries []*node

func (h expiries) Len() int           { return len(h) }
func (h expiries) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }
func (h expiries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push is heap's.
func (h *expiries) Push(x any) {
	n := x.(*node)
	n.place = len(*h)
	*h = append(*h, n)
}

// Pop is heap's.
func (h *expiries) Pop() any {
	old := *h
	n := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return n
}
