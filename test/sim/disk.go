package sim

import (
	"errors"
	"fmt"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"keelson/internal/kit/vfs"
)

// errDead is what a disk answers to a process that is no more.
var errDead = errors.New("sim: the machine is gone")

// What a disk answers that is full, or breaks.
var (
	errFull   = fmt.Errorf("sim: %w", syscall.ENOSPC)
	errBroken = fmt.Errorf("sim: %w", syscall.EIO)
)

// disk is what one life of a member writes to. Every operation takes a while on the bubble's clock, before and after it
// is made, so that a crash falls between any two of them.
type disk struct {
	mem  *vfs.Mem
	lots *lots
	dead chan struct{}
	// liar is the chance that a datasync does nothing and says it did.
	liar float64
	// hurt is set once an error was answered: the life may end by it.
	hurt atomic.Bool

	mu   sync.Mutex // guards all below
	full time.Time  // until when nothing can grow
	fail int        // half operations until one fails
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
	}
	err := d.trouble(op)
	if err != nil {
		d.hurt.Store(true)
	}
	return err
}

// trouble gives the error of an operation that a full or breaking disk doesn't make. What lies in a segment of the log that
// was allocated can be written on a full disk too.
func (d *disk) trouble(op vfs.Op) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	grows := op.Kind == vfs.KindCreate || op.Kind == vfs.KindPreallocate || op.Kind == vfs.KindWrite && path.Ext(op.Path) != ".wal"
	if grows && time.Now().Before(d.full) {
		return errFull
	}
	switch op.Kind {
	case vfs.KindWrite, vfs.KindSync, vfs.KindDatasync:
	default:
		return nil
	}
	if d.fail--; d.fail != 0 {
		return nil
	}
	if op.Kind != vfs.KindWrite {
		d.mem.LoseWrites(op.Path)
	}
	return errBroken
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

func (d *disk) fill(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = time.Now().Add(t)
}

// fault makes the n-th write or sync from now on fail.
func (d *disk) fault(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = n
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
