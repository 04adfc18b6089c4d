package mvcc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

// The model test drives a store and its twin by the same random steps: transactions, compactions in pieces, evictions,
// retained and expired views, restarts that find a compaction half done. Every answer must be the twin's.
type model struct {
	t     *testing.T
	r     *rand.Rand
	s     *Store
	f     *file
	w     twin
	views []*View
	cut   int64 // newest revision that Prune began to cut for
	done  int64 // the file's finished mark
	names []string
	now   time.Time
}

func TestModel(t *testing.T) {
	for seed := range uint64(48) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runModel(t, seed, 400) })
	}
}

func runModel(t *testing.T, seed uint64, steps int) {
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 7)), f: newFile(), cut: -1}
	m.names = modelNames([]int{3, 12, 60, 300}[seed%4], seed%8 < 4)
	m.w = twin{rev: 1, compact: -1}
	m.s = New(m.f, Options{RetainViews: 3})
	for range steps {
		m.step()
	}
	m.drain()
	m.readMany(m.s.View(), 5)
}

func (m *model) step() {
	switch n := m.r.IntN(100); {
	case n < 45:
		m.txn()
	case n < 75:
		m.readMany(m.s.View(), 2)
	case n < 80:
		m.readHeld()
	case n < 84:
		m.views = append(m.views, m.s.View())
		m.s.RetainView(m.s.View(), m.now.Add(time.Duration(m.r.IntN(5))))
	case n < 86:
		m.now = m.now.Add(2)
		m.s.Expire(m.now)
	case n < 91:
		m.s.Evict(m.w.rev-m.r.Int64N(4), m.w.rev+1-m.r.Int64N(20))
	case n < 94:
		m.compact()
	case n < 98:
		m.prune(m.r.IntN(8) + 1)
	case n < 99:
		m.restart()
	default:
		m.bump()
	}
}

func (m *model) key() []byte { return []byte(m.names[m.r.IntN(len(m.names))]) }

// modelNames gives n sorted keys: alike, or of many lengths and prefixes, zero bytes among them.
func modelNames(n int, alike bool) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("k%03d", i)
		if !alike {
			names[i] = strings.Repeat("ab", i%7) + strings.Repeat("\x00", i%3) + names[i][:1+i%4] + string(rune('a'+i%29))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// bounds gives a random key and end: one key, a range that may be empty, or from the key on.
func (m *model) bounds() (key, end []byte) {
	key = m.key()
	switch m.r.IntN(6) {
	case 0:
		return key, nil
	case 1:
		return key, []byte{0}
	case 2:
		return []byte{0}, []byte{0}
	}
	return key, m.key()
}

func (m *model) txn() {
	t := m.s.Begin()
	at := schema.Revision{Main: m.w.rev + 1}
	for range m.r.IntN(4) {
		switch m.r.IntN(5) {
		case 0:
			at.Sub += m.delete(t, at)
		case 1:
			o := m.options(t.Rev())
			got, err := t.Range(o)
			m.same("txn", o, t.Rev(), m.w.compact, got, err)
		default:
			key, value, lease := m.key(), []byte{'v', byte('a' + m.r.IntN(3))}[:m.r.IntN(3)], m.r.Int64N(3)
			want := m.w.put(at, key, value, lease)
			rev, prev := t.Put(key, value, lease)
			if rev != at.Main || !bytes.Equal(prev, want) || t.Rev() != rev {
				m.t.Fatalf("put %q: revision %d, previous %q; want %d, %q", key, rev, prev, at.Main, want)
			}
			at.Sub++
		}
	}
	changes := t.End()
	m.checkChanges(changes, at.Sub)
	m.f.add(changes)
	if at.Sub > 0 {
		m.w.rev++
	}
	if m.s.Rev() != m.w.rev {
		m.t.Fatalf("revision %d, want %d", m.s.Rev(), m.w.rev)
	}
	if m.r.IntN(3) > 0 {
		m.s.Publish()
	}
}

func (m *model) delete(t *Txn, at schema.Revision) (n int64) {
	key, end := m.bounds()
	live := m.w.at(at.Main)
	var prevs [][]byte
	for _, k := range m.names {
		if p, ok := live[k]; ok && m.w.in(k, RangeOptions{Key: key, End: end}) {
			rev := schema.Revision{Main: at.Main, Sub: at.Sub + n}
			m.w.all = append(m.w.all, past{rev, true, wire.KeyValue{Key: []byte(k)}})
			prevs = append(prevs, wire.AppendKeyValue(nil, p.kv))
			n++
		}
	}
	got, gotPrevs := t.DeleteRange(key, end)
	if got != n || !slices.EqualFunc(gotPrevs, prevs, bytes.Equal) {
		m.t.Fatalf("delete [%q,%q): %d %q, want %d %q", key, end, got, gotPrevs, n, prevs)
	}
	return n
}

func (m *model) checkChanges(changes []Change, n int64) {
	if int64(len(changes)) != n {
		m.t.Fatalf("%d changes, want %d", len(changes), n)
	}
	for i, p := range m.w.all[len(m.w.all)-int(n):] {
		c := &changes[i]
		event, kept := p.kv, p.kv
		if p.tombstone {
			event.Mod = p.rev.Main
		}
		if c.Rev != p.rev || c.Delete != p.tombstone || !bytes.Equal(c.Key, p.kv.Key) || c.Lease != p.kv.Lease ||
			!bytes.Equal(c.KV, wire.AppendKeyValue(nil, event)) || !bytes.Equal(c.Stored(), wire.AppendKeyValue(nil, kept)) {
			m.t.Fatalf("change %d is %+v, want %+v", i, c, p)
		}
		if prev, err := wire.ParseKeyValue(c.Prev); err != nil || prev.Lease != c.PrevLease {
			m.t.Fatalf("change %+v: previous lease", c)
		}
	}
}

func (m *model) options(rev int64) RangeOptions {
	key, end := m.bounds()
	o := RangeOptions{Key: key, End: end, KeysOnly: m.r.IntN(3) == 0, CountOnly: m.r.IntN(5) == 0}
	if m.r.IntN(2) == 0 {
		o.Rev = rev + 2 - m.r.Int64N(25)
	}
	if list := *m.s.held.list.Load(); len(list) > 0 && m.r.IntN(3) == 0 {
		o.Rev = list[m.r.IntN(len(list))].view.rev
	}
	if m.r.IntN(2) == 0 {
		o.Limit = m.r.Int64N(6)
	}
	if m.r.IntN(3) == 0 {
		o.Order, o.Target = SortOrder(m.r.IntN(3)), SortTarget(m.r.IntN(5))
	}
	if m.r.IntN(4) == 0 {
		for _, p := range []*int64{&o.MinMod, &o.MaxMod, &o.MinCreate, &o.MaxCreate} {
			if m.r.IntN(2) == 0 {
				*p = m.r.Int64N(rev + 1)
			}
		}
	}
	return o
}

func (m *model) readMany(v *View, n int) {
	for range n {
		o := m.options(v.Rev())
		got, err := v.Range(context.Background(), o)
		if m.overtaken(v, o, err) {
			continue
		}
		m.same("view", o, v.Rev(), v.CompactRev(), got, err)
		m.walk(v, o)
	}
	if got, want := v.Keys(), int64(len(m.w.at(v.Rev()))); got != want {
		m.t.Fatalf("%d keys, want %d", got, want)
	}
}

// overtaken tells whether err is the answer of a view that a compaction overtook, which only such a view may give.
func (m *model) overtaken(v *View, o RangeOptions, err error) bool {
	rev := o.Rev
	if rev <= 0 {
		rev = v.Rev()
	}
	return errors.Is(err, ErrCompacted) && rev < m.cut
}

func (m *model) walk(v *View, o RangeOptions) {
	o.Order, o.Target, o.MinMod, o.MaxMod, o.MinCreate, o.MaxCreate = 0, 0, 0, 0, 0, 0
	var all [][]byte
	keys, size := m.r.IntN(4)+1, m.r.IntN(60)+1
	got, err := v.Walk(context.Background(), o, keys, size, func(kvs [][]byte) error {
		if len(kvs) == 0 || len(kvs) > keys {
			m.t.Fatalf("a piece of %d rows, want 1 to %d", len(kvs), keys)
		}
		all = append(all, kvs...)
		return nil
	})
	got.KVs = all
	m.same("walk", o, v.Rev(), v.CompactRev(), got, err)
}

func (m *model) readHeld() {
	if len(m.views) == 0 {
		return
	}
	i := m.r.IntN(len(m.views))
	m.readMany(m.views[i], 3)
	if m.r.IntN(4) == 0 {
		m.views = slices.Delete(m.views, i, i+1)
	}
}

func (m *model) same(how string, o RangeOptions, now, compact int64, got RangeResult, err error) {
	m.t.Helper()
	want, wantErr := m.w.answer(o, now, compact)
	if !errors.Is(err, wantErr) || got.Count != want.Count || got.More != want.More || got.Rev != want.Rev ||
		!slices.EqualFunc(got.KVs, want.KVs, bytes.Equal) {
		m.t.Fatalf("%s at %d (compacted %d) %+v:\ngot  %+v %v\nwant %+v %v", how, now, compact, o, got, err, want, wantErr)
	}
}

func (m *model) compact() {
	rev := max(1, m.w.rev+1-m.r.Int64N(15))
	err := m.s.Compact(rev)
	switch {
	case rev <= m.w.compact:
		if !errors.Is(err, ErrCompacted) {
			m.t.Fatalf("compact %d after %d: %v", rev, m.w.compact, err)
		}
	case rev > m.w.rev:
		if !errors.Is(err, ErrFutureRev) {
			m.t.Fatalf("compact %d at %d: %v", rev, m.w.rev, err)
		}
	default:
		if err != nil {
			m.t.Fatalf("compact %d: %v", rev, err)
		}
		m.w.compact = rev
	}
	if m.r.IntN(2) == 0 {
		m.s.Publish()
	}
}

func (m *model) prune(max int) (more bool) {
	dead, more := m.s.Prune(m.w.compact, max)
	if len(dead) > max {
		m.t.Fatalf("%d dead, want at most %d", len(dead), max)
	}
	m.f.drop(dead)
	m.cut = m.w.compact
	if !more {
		m.done = m.w.compact
		var have []schema.Revision
		for _, r := range m.f.sorted() {
			have = append(have, r.rev)
		}
		if want := m.w.kept(); !slices.Equal(have, want) {
			m.t.Fatalf("after compaction %d the file has %v, want %v", m.w.compact, have, want)
		}
	}
	return more
}

func (m *model) drain() {
	for m.prune(5) {
	}
	m.s.Publish()
}

// restart loads another store from the file. Views of before go on working on the old one.
func (m *model) restart() {
	if m.r.IntN(2) == 0 {
		m.s = New(m.f, Options{RetainViews: 3})
	} else {
		old := m.s.View()
		defer func() {
			if _, err := old.Range(context.Background(), RangeOptions{Key: []byte("k")}); !errors.Is(err, ErrCompacted) {
				m.t.Fatalf("a view of before the load: %v", err)
			}
		}()
	}
	m.views = nil
	if err := m.f.load(m.s, m.w.compact, m.done); err != nil {
		m.t.Fatal(err)
	}
	// What a compaction left behind may have been the last revision: the mark holds it up.
	m.w.rev = max(m.w.rev, m.w.compact)
	if m.s.Rev() != m.w.rev || max(0, m.s.CompactRev()) != max(0, m.w.compact) {
		m.t.Fatalf("loaded at %d, compacted %d; want %d, %d", m.s.Rev(), m.s.CompactRev(), m.w.rev, m.w.compact)
	}
}

// bump does what a restore with --bump-revision does: a record without a value, marked compacted.
func (m *model) bump() {
	rev := schema.Revision{Main: m.w.rev + 10}
	m.f.records[rev] = stored{rev: rev}
	m.w.all = append(m.w.all, past{rev: rev})
	m.w.rev, m.w.compact = rev.Main, rev.Main
	m.restart()
}

// TestPruneEach prunes several compactions one after the other: each gets what it made dead, and nothing of the next.
func TestPruneEach(t *testing.T) {
	s := New(newFile(), Options{})
	write := func(f func(*Txn)) {
		txn := s.Begin()
		f(txn)
		txn.End()
	}
	for range 3 { // revisions 2 to 7
		write(func(txn *Txn) { txn.Put([]byte("a"), []byte("v"), 0) })
		write(func(txn *Txn) { txn.Put([]byte("b"), []byte("v"), 0) })
	}
	write(func(txn *Txn) { txn.DeleteRange([]byte("a"), nil) }) // 8
	write(func(txn *Txn) { txn.Put([]byte("b"), []byte("v"), 0) })
	for _, rev := range []int64{5, 8, 9} {
		if err := s.Compact(rev); err != nil {
			t.Fatal(err)
		}
	}
	s.Publish()
	for _, c := range []struct {
		rev  int64
		dead []int64
	}{{5, []int64{2, 3}}, {8, []int64{4, 5, 6}}, {9, []int64{7, 8}}, {9, nil}} {
		dead, more := s.Prune(c.rev, 100)
		var got []int64
		for _, d := range dead {
			got = append(got, d.Main)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.dead) || more {
			t.Errorf("of the compaction at %d, %d are dead, not %d (more: %t)", c.rev, got, c.dead, more)
		}
	}
}
