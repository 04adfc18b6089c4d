package v2tree

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

var seedFlag = flag.Uint64("seed", 0, "replay the model test of one seed; 0 draws seeds")

// TestModel makes random changes to the tree above v3 keys and to a v2 store in memory, and wants the same answers, the
// same events for who watches, and the same trees. Plans are often made on an old view: one that fits all the same must do
// what is right now.
func TestModel(t *testing.T) {
	for n := range 25 {
		seed := *seedFlag
		if seed == 0 {
			seed = rand.Uint64()
		}
		m := &model{r: rand.New(rand.NewPCG(seed, 0)), keys: newKeyspace(), twin: newTwin(), now: time.Unix(1_700_000_000, 0)}
		for range 400 {
			if err := m.step(); err != nil {
				t.Fatalf("-seed %d: %v\nafter\n%s", seed, err, strings.Join(m.asked[max(0, len(m.asked)-10):], "\n"))
			}
		}
		if *seedFlag != 0 && n == 0 {
			return
		}
	}
}

type model struct {
	r     *rand.Rand
	keys  *keyspace
	twin  *twin
	now   time.Time
	asked []string
	lease int64
}

func (m *model) tree() Tree { return Tree{DefaultPrefix, m.keys.past[m.keys.rev]} }

func (m *model) one(of ...string) string { return of[m.r.IntN(len(of))] }

func (m *model) path() string {
	p := ""
	for range m.r.IntN(4) {
		p += "/" + m.one("a", "b", "a-", "_h")
	}
	return Clean(p)
}

func (m *model) request() Request {
	r := Request{Path: m.path(), Value: m.one("", "x", "y"), Dir: m.r.IntN(4) == 0}
	switch m.r.IntN(8) {
	case 0:
		r.InOrder = true
	case 1, 2:
		r.Remove, r.Recursive = true, m.r.IntN(3) == 0
	}
	if m.r.IntN(5) == 0 {
		exist := m.r.IntN(3) > 0
		r.PrevExist = &exist
	}
	if m.r.IntN(6) == 0 {
		r.PrevValue = m.one("x", "y")
	}
	if m.r.IntN(8) == 0 {
		r.PrevIndex = m.twin.index - uint64(m.r.IntN(int(min(m.twin.index, 6))))
	}
	if m.r.IntN(4) == 0 {
		r.Expiry = m.now.Add(time.Duration(m.r.IntN(100)) * time.Second).UnixNano()
		m.lease++
		r.Lease = m.lease
		r.Refresh = m.r.IntN(3) == 0
		if m.r.IntN(20) == 0 {
			r.Expiry = int64(m.r.IntN(1000)) // long past
		}
	}
	return r
}

func (m *model) step() error {
	m.now = m.now.Add(time.Duration(m.r.IntN(1000)) * time.Millisecond)
	if err := m.act(); err != nil {
		return err
	}
	return m.compareTrees()
}

func (m *model) act() error {
	if m.r.IntN(10) == 0 {
		return m.expire()
	}
	r := m.request()
	m.asked = append(m.asked, fmt.Sprintf("%v %+v", r.Action(), r))
	old := max(1, m.keys.rev-int64(m.r.IntN(4)))
	p, err := Tree{DefaultPrefix, m.keys.past[old]}.Plan(r)
	var changes []Change
	done := false
	if err == nil {
		changes, done, err = m.keys.run(p.Txn)
	}
	if !done {
		// As the edge does: a refusal counts only if the view is new, and so does a plan.
		if p, err = m.tree().Plan(r); err == nil {
			if changes, done, err = m.keys.run(p.Txn); err == nil && !done {
				err = errors.New("a plan on the newest view does not hold")
			}
		}
	}
	return m.compareAnswers(r, p, err, changes)
}

func (m *model) compareAnswers(r Request, p *Plan, err error, changes []Change) error {
	name := "0" // where it is refused nobody sees it
	if r.InOrder && p != nil {
		name = path.Base(p.at.path)
	}
	gone := m.goes(r)
	want, refused := m.twin.do(r, name, m.now)
	var got *Error
	switch {
	case errors.As(err, &got):
		if refused == nil || *got != *refused {
			return fmt.Errorf("refused by %s, not %s", shown(got), shown(refused))
		}
		return nil
	case err != nil:
		return err
	case refused != nil:
		return fmt.Errorf("not refused by %s", shown(refused))
	}
	if err := same(p.Event(m.keys.rev, m.now), want); err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	hs := Prefix(DefaultPrefix).Happened(changes, m.now)
	if len(hs) != 1 {
		return fmt.Errorf("%d events of one change", len(hs))
	}
	slices.Sort(hs[0].Deleted)
	if r.Remove && !slices.Equal(hs[0].Deleted, gone) {
		return fmt.Errorf("%q went, not %q", hs[0].Deleted, gone)
	}
	if hs[0].Refresh != want.Refresh {
		return fmt.Errorf("refresh: %v", hs[0].Refresh)
	}
	if err := same(hs[0].Event, want); err != nil {
		return fmt.Errorf("the event: %w", err)
	}
	return nil
}

// goes is the paths that a removal will delete.
func (m *model) goes(r Request) []string {
	if at, refused := m.twin.find(r.Path); refused == nil && r.Remove {
		return at.all()
	}
	return nil
}

// expire ends a node as its lease does, or, a directory, with all below it; sometimes what leases left is deleted.
func (m *model) expire() error {
	all := m.twin.root.ending()
	if len(all) == 0 {
		return nil
	}
	p := Prefix(DefaultPrefix)
	at := all[m.r.IntN(len(all))]
	gone := at.all()
	want := m.twin.expire(at, m.now)
	if !at.dir || m.r.IntN(2) == 0 {
		m.asked = append(m.asked, "expire "+at.path)
		hs := p.Happened(m.keys.expire(p.Node(at.path)), m.now)
		if len(hs) != 1 {
			return fmt.Errorf("%d events of one expiry", len(hs))
		}
		if m.r.IntN(2) == 0 {
			if err := m.sweep(at.path); err != nil {
				return err
			}
		}
		return same(hs[0].Event, want)
	}
	m.asked = append(m.asked, "expire whole "+at.path)
	e, _, _ := m.keys.past[m.keys.rev].Get(p.Node(at.path))
	changes, ok, err := m.keys.run(p.Expiry(at.path, e.Mod))
	if err != nil || !ok {
		return fmt.Errorf("the expiry of a directory: %v, %w", ok, err)
	}
	// What an expired directory had left before may go along: it was told of then.
	hs := p.Happened(changes, m.now)
	if len(hs) == 0 || !subset(gone, hs[0].Deleted) {
		return fmt.Errorf("%q went: %+v", gone, hs)
	}
	return same(hs[0].Event, want)
}

func subset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(p string) bool { return !slices.Contains(all, p) })
}

// sweep deletes what a directory left. Nobody is told, so the twin only counts up.
func (m *model) sweep(dir string) error {
	txn, any, err := m.tree().Leftovers(dir)
	if err != nil || !any {
		return err
	}
	_, ok, err := m.keys.run(txn)
	if err != nil || !ok {
		return fmt.Errorf("sweeping %s: %v, %w", dir, ok, err)
	}
	m.twin.index++
	return nil
}

func (m *model) compareTrees() error {
	got, err := m.tree().Get("/", true, m.now)
	if err != nil {
		return err
	}
	if err := same(got, &Event{Action: "get", Node: m.twin.root.tree(m.now)}); err != nil {
		return fmt.Errorf("the tree: %w", err)
	}
	p := m.path()
	at, refused := m.twin.find(p)
	if got, err = m.tree().Get(p, false, m.now); refused != nil {
		var e *Error
		if !errors.As(err, &e) || *e != *refused {
			return fmt.Errorf("reading %s: %w, not %s", p, err, shown(refused))
		}
		return nil
	}
	want := at.tree(m.now)
	for _, child := range want.Nodes {
		child.Nodes = nil
	}
	return same(got, &Event{Action: "get", Node: want})
}

func shown(e *Error) string {
	if e == nil {
		return "nobody"
	}
	return fmt.Sprintf("%d %s, index %d", e.Code, e.Error(), e.Index)
}

func same(got, want *Event) error {
	a, err := json.Marshal(got)
	if err != nil {
		return err
	}
	b, err := json.Marshal(want)
	if err != nil {
		return err
	}
	if string(a) != string(b) {
		return fmt.Errorf("\n%s, not\n%s", a, b)
	}
	return nil
}
