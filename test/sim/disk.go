package sim

import (
	"errors"
	"path"
	"sync"
	"time"

	"keelson/internal/kit/vfs"
)

// errDead is what a disk answers to a process that is no more.
var errDead = errors.New("sim: the machine is gone")

// disk is what one life of a member writes to. Every operation takes a while on the bubble's clock, before and after it
// is made, so that a crash falls between any two of them.
type disk struct {
	mem  *vfs.Mem
	lots *lots
	dead chan struct{}
	// liar is the chance that a datasync does nothing and says it did.
	liar float64

	mu   sync.Mutex // guards all below
	slow float64    // how many times slower than usual
	hung time.Time  // until when nothing gets through
	left int        // half operations until trap is closed
	trap chan struct{}
}

// How long operations take on a disk that is well.
const (
	writeMax = 200 * time.Microsecond
	syncMin  = 300 * time.Microsecond
	syncMax  = 3 * time.Millisecond
)

func newDisk(mem *vfs.Mem, l *lots) *disk {
	return &disk{mem: mem, lots: l, dead: make(chan struct{}), slow: 1}
}

func (d *disk) fs() vfs.FS {
	var inner vfs.FS = d.mem
	if d.liar > 0 {
		inner = &lyingFS{FS: inner, d: d}
	}
	return vfs.Inject(inner, d.before, func(op vfs.Op) { d.wait(op) })
}

func (d *disk) before(op vfs.Op) error {
	d.wait(op)
	select {
	case <-d.dead:
		return errDead
	default:
		return nil
	}
}

// wait takes an operation's time. The directory of the state file is the exception: installing a snapshot syncs it
// under locks that stop the member, on purpose, and the bubble's clock stands still while anybody waits for a lock.
func (d *disk) wait(op vfs.Op) {
	if op.Kind == vfs.KindSyncDir && path.Base(op.Path) == "snap" {
		return
	}
	d.mu.Lock()
	slow, hung := d.slow, time.Until(d.hung)
	if d.left--; d.left == 0 {
		close(d.trap)
	}
	d.mu.Unlock()
	var takes time.Duration
	r := d.lots.draw(string(op.Kind) + op.Path)
	switch op.Kind {
	case vfs.KindSync, vfs.KindDatasync, vfs.KindSyncDir:
		takes = between(r, syncMin, syncMax)
	default:
		takes = between(r, 0, writeMax)
	}
	d.sleep(max(time.Duration(float64(takes)*slow/2), hung))
}

func (d *disk) sleep(t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.dead:
	}
}

func (d *disk) hang(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hung = time.Now().Add(t)
}

// set gives a channel that is closed in the middle of the n-th operation from now on, before it is made or after.
func (d *disk) set(n int) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.trap = n, make(chan struct{})
	return d.trap
}

func (d *disk) slower(times float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = times
}

// lyingFS is a disk that forgets to sync.
type lyingFS struct {
	vfs.FS
	d *disk
}

func (l *lyingFS) lie(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &lyingFile{f, l.d}, nil
}

func (l *lyingFS) OpenWrite(name string) (vfs.File, error) { return l.lie(l.FS.OpenWrite(name)) }

type lyingFile struct {
	vfs.File
	d *disk
}

func (f *lyingFile) Datasync() error {
	if f.d.lots.chance("lie"+f.Name(), f.d.liar) {
		return nil
	}
	return f.File.Datasync()
}
