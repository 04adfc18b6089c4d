package progress

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"keelson/internal/kit/clock"
)

func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := New(&b, clock.System)
		l.At(0, 4_000_000)
		l.At(1, 4_000_000) // too soon
		time.Sleep(time.Second)
		l.At(1_000_000, 4_000_000)
		time.Sleep(time.Second)
		l.At(5_000_000, 4_000_000) // more than was thought
		time.Sleep(time.Second)
		l.At(5_000_000, 0)
		l.End()
		const want = "\r\x1b[K0 B of 4.0 MB (0%)" + "\r\x1b[K1.0 MB of 4.0 MB (25%), 1.0 MB/s" +
			"\r\x1b[K5.0 MB of 4.0 MB (100%), 2.5 MB/s" + "\r\x1b[K5.0 MB, 1.7 MB/s" + "\r\x1b[K"
		if b.String() != want {
			t.Errorf("got  %q\nwant %q", b.String(), want)
		}
	})
}

func TestNoTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if OnTerminal(f) != nil || OnTerminal(&bytes.Buffer{}) != nil {
		t.Error("a file and a buffer count as terminals")
	}
	var none *Line
	none.At(1, 2)
	none.End()
}
