// Package recent remembers the answers to what was asked lately, a bounded number of them: what was not asked for again
// goes first.
package recent

import "sync"

// Map holds two generations. A get moves what it finds into the younger one; when that is full, the older one is dropped
// whole. So an answer asked for at least once in each Size/2 different ones stays, and nothing is kept for each entry but
// the entry. All methods may be called from any goroutine.
type Map[K comparable, V any] struct {
	half int

	mu         sync.Mutex // guards young, old
	young, old map[K]V
}

// New gives a map of at most size entries (>= 2).
func New[K comparable, V any](size int) *Map[K, V] {
	return &Map[K, V]{half: max(1, size/2), young: map[K]V{}}
}

// Get gives what was put under k, if it is still there.
func (m *Map[K, V]) Get(k K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.young[k]
	if ok {
		return v, true
	}
	if v, ok = m.old[k]; ok {
		m.put(k, v)
	}
	return v, ok
}

// Put remembers v under k.
func (m *Map[K, V]) Put(k K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(k, v)
}

// Delete forgets k.
func (m *Map[K, V]) Delete(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.young, k)
	delete(m.old, k)
}

func (m *Map[K, V]) put(k K, v V) {
	if _, ok := m.young[k]; !ok && len(m.young) >= m.half {
		m.young, m.old = map[K]V{}, m.young
	}
	m.young[k] = v
	delete(m.old, k) // a key is in one generation, so that Delete and the bound hold
}
