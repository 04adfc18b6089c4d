package v2store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNotStore is returned when bytes are not the JSON of a v2 store.
var ErrNotStore = errors.New("v2store: not the JSON of a v2 store")

// stored is a node in the JSON that etcd up to 3.6 keeps in .snap files. A file's Children are null.
type stored struct {
	CreatedIndex  uint64
	ModifiedIndex uint64
	ExpireTime    time.Time
	Value         string
	Children      map[string]*stored
}

// Load reads the JSON in a .snap file. ErrNotStore where it is none.
func Load(b []byte) (*Store, error) {
	var from struct {
		Root         *stored
		CurrentIndex uint64
	}
	if err := json.Unmarshal(b, &from); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotStore, err)
	}
	if from.Root == nil {
		return nil, fmt.Errorf("%w: it has no root", ErrNotStore)
	}
	s := New()
	s.index = from.CurrentIndex
	for name, n := range from.Root.Children {
		if err := s.take(s.root, name, n); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// take hangs what was stored below parent.
func (s *Store) take(parent *node, name string, from *stored) error {
	if from == nil || name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return fmt.Errorf("%w: a node named %q below %s", ErrNotStore, name, parent.path())
	}
	n := &node{value: from.Value, created: from.CreatedIndex, modified: from.ModifiedIndex, expires: from.ExpireTime}
	if from.Children != nil {
		n.value, n.children = "", map[string]*node{}
	}
	s.add(parent, name, n)
	for name, c := range from.Children {
		if err := s.take(n, name, c); err != nil {
			return err
		}
	}
	return nil
}
