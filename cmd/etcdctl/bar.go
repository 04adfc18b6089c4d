package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	barColumns  = 100                    // of a whole line, as etcdctl draws it
	barInterval = 200 * time.Millisecond // between two drawings
)

// bar shows how far a long command is: again and again on a terminal, once at the end elsewhere, so that a log is not
// filled with it. Its goroutine is joined by end.
type bar struct {
	out      io.Writer
	terminal bool
	total    int64
	done     atomic.Int64
	began    time.Time
	stop     chan struct{}
	drawing  sync.WaitGroup
}

func startBar(out io.Writer, total int64) *bar {
	b := &bar{out: out, terminal: isTerminal(out), total: total, began: time.Now(), stop: make(chan struct{})}
	if b.terminal {
		b.drawing.Go(b.redraw)
	}
	return b
}

func (b *bar) redraw() {
	tick := time.NewTicker(barInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case now := <-tick.C:
			fmt.Fprint(b.out, "\r"+b.line(now))
		}
	}
}

// add moves the bar on.
func (b *bar) add(n int64) { b.done.Add(n) }

// end draws the bar a last time.
func (b *bar) end() {
	close(b.stop)
	b.drawing.Wait()
	if b.terminal {
		fmt.Fprint(b.out, "\r")
	}
	fmt.Fprintln(b.out, b.line(time.Now()))
}

// line is "done / total [--->___] 33.33% 12 p/s".
func (b *bar) line(now time.Time) string {
	done, speed := b.done.Load(), "?"
	if s := now.Sub(b.began).Seconds(); s >= 1 {
		speed = fmt.Sprint(int64(float64(done) / s))
	}
	head := fmt.Sprintf("%d / %d [", done, b.total)
	tail := fmt.Sprintf("] %.2f%% %s p/s", 100*float64(done)/float64(b.total), speed)
	width := max(barColumns-len(head)-len(tail), 10)
	full := min(int(int64(width)*done/b.total), width)
	body := strings.Repeat("-", full)
	if full < width {
		if full > 0 {
			body = body[:full-1] + ">"
		}
		body += strings.Repeat("_", width-full)
	}
	return head + body + tail
}

// isTerminal tells whether somebody looks at what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
