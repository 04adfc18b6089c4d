package wal

import (
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"keelson/internal/kit/vfs"
)

const (
	filePerm = 0o600
	dirPerm  = 0o700

	// prepareRetry is how long to wait before allocating a segment is tried again.
	prepareRetry = time.Second

	// removeQueueMax is how many released segments may wait for removal before Release waits: 4 GB of log.
	removeQueueMax = 64
)

// preparer allocates the next segment ahead of need and removes released ones, in one goroutine.
type preparer struct {
	fsys    vfs.FS
	dir     string
	options Options
	ready   chan vfs.File // nil: it could not be allocated
	trash   chan *segment
	quit    chan struct{}
	done    sync.WaitGroup
}

func startPreparer(fsys vfs.FS, dir string, o Options) *preparer {
	p := &preparer{
		fsys: fsys, dir: dir, options: o,
		ready: make(chan vfs.File), trash: make(chan *segment, removeQueueMax), quit: make(chan struct{}),
	}
	p.done.Go(p.run)
	return p
}

// take gives the next segment's file, locked and full of zeros, waiting for an allocation under way; or
// nil if there is no space for it now.
func (p *preparer) take() vfs.File { return <-p.ready }

func (p *preparer) remove(s *segment) { p.trash <- s }

func (p *preparer) close() {
	close(p.quit)
	p.done.Wait()
}

func (p *preparer) run() {
	failed := false
	for count := 0; ; {
		// Two names in turn, as in etcd: the last one handed out may not have its own name yet.
		f, err := p.allocate(fmt.Sprintf("%d.tmp", count%2))
		if err != nil || failed {
			p.options.OnPrepare(err)
		}
		if failed = err != nil; failed {
			p.options.Logger.Warn("failed to allocate the next WAL segment", zap.String("dir", p.dir), zap.Error(err))
		}
		if !p.offer(f) {
			return
		}
		if f != nil {
			count++
		}
	}
}

// offer hands f out; without one it says so to whoever asks until it is time to try again. Meanwhile it
// removes what was released. It is false once the Writer is closed.
func (p *preparer) offer(f vfs.File) bool {
	var retry <-chan time.Time
	if f == nil {
		t := p.options.Clock.NewTimer(prepareRetry)
		defer t.Stop()
		retry = t.C
	}
	for {
		select {
		case p.ready <- f:
			if f != nil {
				return true
			}
		case <-retry:
			return true
		case s := <-p.trash:
			p.discard(s)
		case <-p.quit:
			p.finish(f)
			return false
		}
	}
}

func (p *preparer) finish(f vfs.File) {
	for len(p.trash) > 0 {
		p.discard(<-p.trash)
	}
	if f == nil {
		return
	}
	f.Close()
	if err := p.fsys.Remove(f.Name()); err != nil {
		p.options.Logger.Warn("failed to remove a prepared WAL segment", zap.Error(err))
	}
}

func (p *preparer) allocate(base string) (vfs.File, error) {
	path := filepath.Join(p.dir, base)
	f, err := p.fsys.Create(path, filePerm)
	if err != nil {
		return nil, fmt.Errorf("wal: prepare a segment: %w", err)
	}
	err = f.TryLock()
	if err == nil {
		err = f.Preallocate(p.options.SegmentBytes)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		_, _ = f.Close(), p.fsys.Remove(path) // err is what is wrong; the next try begins anew
		return nil, fmt.Errorf("wal: prepare a segment: %w", err)
	}
	return f, nil
}

// discard removes a released segment. The directory is synced each time: a crash must not bring back an
// older one without its successor, which etcd takes for damage. Nothing depends on it to succeed.
func (p *preparer) discard(s *segment) {
	_ = s.letGo()
	err := p.fsys.Remove(s.path)
	if err == nil {
		err = p.fsys.SyncDir(p.dir)
	}
	if err != nil {
		p.options.Logger.Warn("failed to remove a released WAL segment", zap.String("path", s.path), zap.Error(err))
		return
	}
	p.options.Logger.Info("removed a released WAL segment", zap.String("path", s.path))
}
