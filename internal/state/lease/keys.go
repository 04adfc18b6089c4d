package lease

import (
	"bytes"
	"slices"
)

// keySet is the set of keys attached to one lease: a plain list while there are few, which is the common
// case, else a map.
type keySet struct {
	few  [][]byte
	many map[string]struct{}
}

// fewKeys is up to how many keys a list is searched through: 8 short comparisons cost less than hashing.
const fewKeys = 8

func (k *keySet) add(key []byte) {
	if k.many != nil {
		k.many[string(key)] = struct{}{}
		return
	}
	if k.index(key) >= 0 {
		return
	}
	if len(k.few) < fewKeys {
		k.few = append(k.few, bytes.Clone(key))
		return
	}
	k.many = make(map[string]struct{}, 2*fewKeys)
	for _, old := range k.few {
		k.many[string(old)] = struct{}{}
	}
	k.many[string(key)] = struct{}{}
	k.few = nil
}

// remove tells how many keys are left.
func (k *keySet) remove(key []byte) int {
	if k.many != nil {
		delete(k.many, string(key))
		return len(k.many)
	}
	if i := k.index(key); i >= 0 {
		k.few = slices.Delete(k.few, i, i+1)
	}
	return len(k.few)
}

func (k *keySet) index(key []byte) int {
	return slices.IndexFunc(k.few, func(old []byte) bool { return bytes.Equal(old, key) })
}

func (k *keySet) each(f func(key []byte) error) error {
	for _, key := range k.few {
		if err := f(key); err != nil {
			return err
		}
	}
	for key := range k.many {
		if err := f([]byte(key)); err != nil {
			return err
		}
	}
	return nil
}

func (k *keySet) clone() *keySet {
	if k.many == nil {
		return &keySet{few: slices.Clone(k.few)}
	}
	c := &keySet{few: make([][]byte, 0, len(k.many))}
	for key := range k.many {
		c.few = append(c.few, []byte(key))
	}
	return c
}

func (k *keySet) sorted() [][]byte {
	if k == nil {
		return nil
	}
	keys := k.few
	for key := range k.many {
		keys = append(keys, []byte(key))
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}
