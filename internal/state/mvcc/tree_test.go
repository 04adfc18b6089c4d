package mvcc

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"keelson/internal/storage/schema"
)

// TestTree inserts, deletes and removes enough keys for three levels, and checks the tree's order and counts against a
// map, and that a published root stays as it was.
func TestTree(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 3))
		tr, want := newTree(), map[string]bool{}
		if seed%2 == 1 {
			var items []item
			for i := range 3000 {
				items = append(items, liveItem(fmt.Sprintf("/a/%07d", i*2)))
				want[items[i].key] = true
			}
			tr.build(items)
		}
		for i := range 12_000 {
			treeStep(&tr, want, r, i)
			if i%3000 == 0 {
				old, n, sum := tr.root, len(want), tr.live
				tr.epoch++
				treeStep(&tr, want, r, i)
				if keys := treeKeys(old); len(keys) != n || old.total(1) != sum && old.kids != nil {
					t.Fatalf("seed %d: a published tree of %d keys, %d live, has %d, %d", seed, n, sum, len(keys), old.total(1))
				}
			}
			tr.epoch += uint64(i % 2)
		}
		checkTree(t, seed, &tr, want)
		for _, key := range slices.Collect(maps.Keys(want)) {
			if want[key] {
				setLive(&tr, key, want, false)
			}
			tr.remove(key)
			delete(want, key)
			if len(want)%2000 == 0 {
				checkTree(t, seed, &tr, want)
			}
		}
	}
}

func liveItem(key string) item {
	it := item{key, &entry{}}
	setHead(it.e, true)
	return it
}

func setHead(e *entry, live bool) {
	v := &version{}
	if live {
		v.set(schema.Revision{Main: 1}, []byte{0})
	} else {
		v.setTombstone(schema.Revision{Main: 1})
	}
	e.head.Store(v)
}

func setLive(tr *tree, key string, want map[string]bool, live bool) {
	setHead(tr.root.get(key), live)
	delta := int32(-1)
	if live {
		delta = 1
	}
	tr.adjust(key, delta)
	want[key] = live
}

func treeStep(tr *tree, want map[string]bool, r *rand.Rand, i int) {
	key := fmt.Sprintf("/a/%07d", r.IntN(9000))
	if r.IntN(10) == 0 {
		key = fmt.Sprintf("/a/%05d", i)[:1+r.IntN(7)]
	}
	live, there := want[key]
	switch {
	case !there:
		it := liveItem(key)
		tr.insert(it.key, it.e)
		want[key] = true
	case live:
		setLive(tr, key, want, false)
	case r.IntN(2) == 0:
		setLive(tr, key, want, true)
	default:
		tr.remove(key)
		delete(want, key)
	}
}

func treeKeys(root *node) (keys []string) {
	w := walk{f: func(items []item) bool {
		for _, it := range items {
			keys = append(keys, it.key)
		}
		return true
	}}
	w.over(root)
	return keys
}

func checkTree(t *testing.T, seed uint64, tr *tree, want map[string]bool) {
	t.Helper()
	sorted := slices.Sorted(maps.Keys(want))
	if !slices.Equal(treeKeys(tr.root), sorted) {
		t.Fatalf("seed %d: keys differ", seed)
	}
	var live int64
	for _, key := range sorted {
		if tr.root.get(key) == nil || tr.root.rank(key, 1) != live {
			t.Fatalf("seed %d: %q is missing or %d live keys before it, want %d", seed, key, tr.root.rank(key, 1), live)
		}
		if want[key] {
			live++
		}
	}
	if tr.live != live || tr.root.total(1) != live {
		t.Fatalf("seed %d: %d and %d live keys, want %d", seed, tr.live, tr.root.total(1), live)
	}
}
