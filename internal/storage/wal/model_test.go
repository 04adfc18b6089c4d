package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/vfs"
)

// twin is a dumb model of a log: what a replay of the records so far must give.
type twin struct {
	state *raftpb.HardState
	mark  Mark
	start uint64          // the log begins after it
	ents  []*raftpb.Entry // from start+1
	after *twin           // what an incoming snapshot makes of it, once a state confirms that
}

func newTwin() *twin { return &twin{state: state(0, 0, 0)} }

func (w *twin) last() uint64 { return w.start + uint64(len(w.ents)) }

func (w *twin) at(i uint64) *raftpb.Entry { return w.ents[i-w.start-1] }

func (w *twin) clone() *twin {
	c := *w
	c.ents = append([]*raftpb.Entry(nil), w.ents...)
	if w.after != nil {
		c.after = w.after.clone()
	}
	return &c
}

func (w *twin) String() string {
	c := &Contents{Metadata: Metadata{7, 9}, State: w.state, Mark: w.mark, Entries: w.ents[w.mark.Index-w.start:]}
	return describe(c)
}

func (w *twin) addMark(m Mark) {
	if m.Index > w.last() || m.Index > w.start && w.at(m.Index).GetTerm() != m.Term {
		w.after = &twin{state: w.state, mark: m, start: m.Index}
		return
	}
	w.mark = m
}

func (w *twin) addEntry(e *raftpb.Entry) {
	if w.after != nil {
		w.after.addEntry(e)
		return
	}
	w.ents = append(w.ents[:e.GetIndex()-w.start-1], e)
}

func (w *twin) addState(s *raftpb.HardState) {
	if w.after != nil {
		*w = *w.after
	}
	w.state = s
}

// world runs random batches on a log, its twin, and a disk that may crash at every operation.
type world struct {
	t    *testing.T
	r    *rand.Rand
	seed uint64
	disk *vfs.Mem
	w    *Writer
	term uint64

	mu      sync.Mutex // guards what follows against the preparer's operations
	history []*twin    // after each record that was given to Append
	synced  int        // history up to here must survive
	created bool
	crashes int
}

var modelOptions = Options{SegmentBytes: 2000, MaxFiles: 2}

func (x *world) now() *twin { return x.history[len(x.history)-1] }

// spied gives the disk with a crash tried before and after operations.
func (x *world) spied() vfs.FS {
	disk := x.disk
	r := rand.New(rand.NewPCG(x.seed, 99))
	spy := func(op vfs.Op) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if r.IntN(4) == 0 {
			x.crashes++
			left, what := disk.Crash(r), "power lost"
			if r.IntN(3) == 0 {
				left, what = disk.CrashProcess(), "killed"
			}
			x.recover(left, r, fmt.Sprintf("%s at %s %s", what, op.Kind, op.Path))
		}
	}
	return vfs.Inject(disk, func(op vfs.Op) error { spy(op); return nil }, spy)
}

// recover opens a crashed disk and finds what it holds in the history; x.mu is held.
func (x *world) recover(disk *vfs.Mem, r *rand.Rand, what string) int {
	if x.created {
		x.stockReads(disk, what)
	}
	again := disk
	var mu sync.Mutex // the new writer's goroutine comes through hook too
	dice := rand.New(rand.NewPCG(r.Uint64(), 7))
	hook := func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if dice.IntN(8) == 0 {
			again = disk.Crash(dice) // and another one in the middle of mending
		}
	}
	whole, wholeErr := ReadOnly(disk, testDir, modelOptions.filled().Logger)
	c, w, err := Open(vfs.Inject(disk, nil, hook), testDir, modelOptions)
	if !x.created && errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if wholeErr == nil && err == nil && describe(whole) != describe(c) {
		x.t.Fatalf("seed %d, %s: all of the log reads as\n%sthe end of it as\n%s", x.seed, what, describe(whole), describe(c))
	}
	if err != nil {
		x.t.Fatalf("seed %d, %s: %v", x.seed, what, err)
	}
	mended := disk.Crash(r) // what Open answered must be durable
	if err := w.Close(); err != nil {
		x.t.Fatal(err)
	}
	k := x.match(describe(c), x.synced, what)
	if again != disk {
		c, w, err := Open(again, testDir, modelOptions)
		switch {
		case err == nil:
			x.match(describe(c), x.synced, what+", then in open")
			w.Close()
		case x.created || !errors.Is(err, fs.ErrNotExist):
			x.t.Fatalf("seed %d, %s, then in open: %v", x.seed, what, err)
		}
	}
	if _, text := reopen(x.t, mended, modelOptions); text != describe(c) {
		x.t.Fatalf("seed %d, %s: opened as\n%sthen as\n%s", x.seed, what, describe(c), text)
	}
	return k
}

// stockReads checks what etcd needs of a crashed log before anything is mended: segments without a hole,
// each with a whole head.
func (x *world) stockReads(disk *vfs.Mem, what string) {
	list, err := disk.ReadDir(testDir)
	if err != nil {
		x.t.Fatal(err)
	}
	var before *name
	for _, e := range list {
		n, ok := parseName(e.Name())
		if !ok {
			continue
		}
		if before != nil && n.seq != before.seq+1 {
			x.t.Fatalf("seed %d, %s: segment %s after %s", x.seed, what, n, before)
		}
		before = &n
		f, err := disk.Open(testDir + "/" + e.Name())
		if err != nil {
			x.t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil {
			x.t.Fatal(err)
		}
		r := frameReader{file: f, limit: size, trust: true}
		for _, typ := range []byte{typeCRC, typeMetadata, typeState} {
			fr, err := r.next()
			if n.seq == 0 && typ == typeState {
				typ = typeMark
			}
			if err != nil || fr.typ != typ {
				x.t.Fatalf("seed %d, %s: head of segment %s: %v, record type %d", x.seed, what, n, err, fr.typ)
			}
		}
	}
}

// match finds the last state of the history, from the synced one on, that reads as text.
func (x *world) match(text string, from int, what string) int {
	for k := len(x.history) - 1; k >= from; k-- {
		if x.history[k].String() == text {
			return k
		}
	}
	x.t.Fatalf("seed %d, %s: found\n%s\nsynced was\n%s\nlatest is\n%s", x.seed, what, text, x.history[from], x.now())
	return 0
}

func (x *world) note(b Batch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	add := func(f func(*twin)) {
		next := x.now().clone()
		f(next)
		x.history = append(x.history, next)
	}
	if b.Mark != nil {
		add(func(w *twin) { w.addMark(*b.Mark) })
	}
	for _, e := range b.Entries {
		add(func(w *twin) { w.addEntry(e) })
	}
	if b.State != nil {
		add(func(w *twin) { w.addState(b.State) })
	}
}

// batch makes up the next append.
func (x *world) batch() Batch {
	now, r := x.now(), x.r
	commit, last := now.state.GetCommit(), now.last()
	var b Batch
	switch r.IntN(12) {
	case 0: // an incoming snapshot, past the end or in place of entries of another term
		x.term++
		at := commit + 1 + r.Uint64N(5)
		b.Mark = &Mark{Index: at, Term: x.term, ConfState: voters(7, at)}
		commit, last = at, at
	case 1, 2, 3: // the member's own snapshot
		if at := now.mark.Index + r.Uint64N(commit-now.mark.Index+1); at > now.start {
			b.Mark = &Mark{Index: at, Term: now.at(at).GetTerm(), ConfState: voters(7, at)}
		}
	}
	next := last + 1
	if b.Mark == nil && last > commit && r.IntN(3) == 0 {
		x.term++
		next = commit + 1 + r.Uint64N(last-commit)
	}
	for range r.IntN(6) {
		b.Entries = append(b.Entries, entry(next, max(x.term, 1), strings.Repeat("ab\x00", r.IntN(1+r.IntN(300)))))
		last = next
		next++
	}
	if next <= last {
		last = next - 1
	}
	if b.Mark != nil && b.Mark.Index == commit && b.Mark.Index > now.state.GetCommit() || r.IntN(2) == 0 || now.state.GetTerm() == 0 {
		if len(b.Entries) > 0 {
			last = b.Entries[len(b.Entries)-1].GetIndex()
		}
		b.State = state(max(x.term, 1), 5, commit+r.Uint64N(last-commit+1))
	}
	return b
}

func (x *world) step() {
	b := x.batch()
	x.note(b)
	ok(x.t, x.w.Append(b))
	if x.r.IntN(2) == 0 {
		ok(x.t, x.w.Sync())
		x.mu.Lock()
		x.synced = len(x.history) - 1
		mark := x.now().mark.Index
		x.mu.Unlock()
		ok(x.t, x.w.Release(mark))
	}
	x.read()
}

// read compares a stretch of entries with the twin's.
func (x *world) read() {
	now := x.now()
	if now.last() == now.start {
		return
	}
	lo := now.start + 1 + x.r.Uint64N(now.last()-now.start)
	hi := lo + 1 + x.r.Uint64N(now.last()-lo+1)
	ents, err := x.w.ReadEntries(lo, hi, x.r.Uint64N(2000))
	if errors.Is(err, ErrReleased) && lo <= now.mark.Index {
		return
	}
	if err != nil || len(ents) == 0 {
		x.t.Fatalf("seed %d: read %d to %d of %d: %d entries, %v", x.seed, lo, hi, now.last(), len(ents), err)
	}
	for n, e := range ents {
		if want := now.at(lo + uint64(n)); want.String() != e.String() {
			x.t.Fatalf("seed %d: entry %v, want %v", x.seed, e, want)
		}
	}
	if _, err := x.w.ReadEntries(now.last(), now.last()+2, 0); !errors.Is(err, ErrUnwritten) {
		x.t.Fatalf("seed %d: read past the end: %v", x.seed, err)
	}
}

// life runs one process on the disk, kills it or its machine, and finds what is left.
func (x *world) life(steps int) {
	for range steps {
		x.step()
	}
	x.mu.Lock()
	next := x.disk.CrashProcess()
	if x.r.IntN(2) == 0 {
		next = x.disk.Crash(x.r)
	}
	x.mu.Unlock()
	ok(x.t, x.w.Close())
	x.disk = next
	fsys := x.spied()
	// While it is opened the history stays: any of it from the synced state on may come out.
	c, w, err := Open(fsys, testDir, modelOptions)
	if err != nil {
		x.t.Fatalf("seed %d: open: %v", x.seed, err)
	}
	x.mu.Lock()
	k := x.match(describe(c), x.synced, "end of a life")
	// The writer's own idea of its end must fit, so that a twin without a pending snapshot goes on.
	now := x.history[k].clone()
	now.after = nil
	x.history, x.synced = []*twin{now}, 0
	x.mu.Unlock()
	x.w = w
}

func TestModel(t *testing.T) {
	crashes := 0
	for seed := range uint64(10) {
		x := &world{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 1)), disk: newMem(t), history: []*twin{newTwin()}}
		w, err := Create(x.spied(), testDir, Metadata{7, 9}, modelOptions)
		ok(t, err)
		x.mu.Lock()
		x.w, x.created = w, true
		x.mu.Unlock()
		for range 4 {
			x.life(25)
		}
		ok(t, x.w.Close())
		crashes += x.crashes
	}
	if crashes < 500 {
		t.Fatalf("only %d crashes were tried", crashes)
	}
	t.Logf("%d crashes", crashes)
}
