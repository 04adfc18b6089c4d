// Package progress shows how far a long piece of work is, on one line of a terminal that is written over and over. Where
// the output is no terminal nothing is shown. The command-line tools use it.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"

	"keelson/internal/kit/clock"
)

// every is the least time between two pictures: more often nobody can read.
const every = 200 * time.Millisecond

// eraseLine brings the cursor to the line's beginning and clears it.
const eraseLine = "\r\x1b[K"

// Line is one line of progress. A nil Line shows nothing.
type Line struct {
	w           io.Writer
	clock       clock.Clock
	start, last time.Time
}

// OnTerminal gives a Line on w, nil where w is no terminal.
func OnTerminal(w io.Writer) *Line {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return New(w, clock.System)
}

// New gives a Line on w, whatever that is. The time counts from now.
func New(w io.Writer, c clock.Clock) *Line {
	return &Line{w: w, clock: c, start: c.Now()}
}

// At shows that done bytes of total are done (0: nobody knows of how many).
func (l *Line) At(done, total int64) {
	if l == nil {
		return
	}
	now := l.clock.Now()
	if now.Sub(l.last) < every {
		return
	}
	l.last = now
	text := humanize.Bytes(uint64(done))
	if total > 0 {
		text += fmt.Sprintf(" of %s (%d%%)", humanize.Bytes(uint64(total)), min(done*100/total, 100))
	}
	if took := now.Sub(l.start); took >= every {
		text += fmt.Sprintf(", %s/s", humanize.Bytes(uint64(float64(done)/took.Seconds())))
	}
	fmt.Fprint(l.w, eraseLine, text)
}

// End clears the line.
func (l *Line) End() {
	if l != nil && !l.last.IsZero() {
		fmt.Fprint(l.w, eraseLine)
	}
}
