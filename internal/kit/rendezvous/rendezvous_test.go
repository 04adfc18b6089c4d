package rendezvous

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/kit/clock"
)

// board is a registry in memory. Every call fails as long as broken says so.
type board struct {
	mu      sync.Mutex
	size    string
	all     []Registration
	changed chan struct{}
	// broken is how many calls fail before one works; hasty makes Changed come back at once.
	broken int
	hasty  bool
	calls  int
	// late hides what was registered from that many lists.
	late int
}

var errBroken = errors.New("connection refused")

func newBoard(size string, all ...Registration) *board {
	return &board{size: size, all: all, changed: make(chan struct{})}
}

func (b *board) call() error {
	b.calls++
	if b.broken > 0 {
		b.broken--
		return errBroken
	}
	return nil
}

func (b *board) Size(context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size, b.call()
}

func (b *board) List(context.Context) ([]Registration, int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := slices.Clone(b.all)
	if b.late > 0 {
		b.late--
		all = nil
	}
	return all, int64(len(all)), b.call()
}

func (b *board) Register(_ context.Context, r Registration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.call(); err != nil {
		return err
	}
	if !slices.ContainsFunc(b.all, func(x Registration) bool { return x.ID == r.ID }) {
		b.all = append(b.all, r)
		close(b.changed)
		b.changed = make(chan struct{})
	}
	return nil
}

func (b *board) Changed(ctx context.Context, mark int64) error {
	b.mu.Lock()
	changed, now, hasty := b.changed, int64(len(b.all)) != mark, b.hasty
	err := b.call()
	b.mu.Unlock()
	if now || hasty || err != nil {
		return err
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func founder(name string) Registration { return Registration{name, name + "=http://" + name + ":2380"} }

func meet(ctx context.Context, b *board, r Registration) (types.URLsMap, error) {
	return Meet(ctx, b, r, clock.System, zap.NewNop())
}

// Three founders come one by one, while the registry fails now and then; all find the same.
func TestMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard("3")
		b.broken, b.late = 5, 2
		var met sync.WaitGroup
		for _, name := range []string{"c", "a", "b"} {
			met.Go(func() {
				found, err := meet(t.Context(), b, founder(name))
				if want := "a=http://a:2380,b=http://b:2380,c=http://c:2380"; err != nil || found.String() != want {
					t.Errorf("%s found %v, %v", name, found, err)
				}
			})
			synctest.Wait()
			time.Sleep(5 * time.Minute) // in the bubble's time
		}
		met.Wait()
		if b.all[0].ID != "c" || len(b.all) != 3 {
			t.Errorf("%v", b.all)
		}
	})
}

// A member that was killed before it had anything of its own starts again: it has its place already.
func TestMeetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard("2", founder("a"), founder("b"), founder("late"))
		if found, err := meet(t.Context(), b, founder("b")); err != nil || len(found) != 2 || len(b.all) != 3 {
			t.Errorf("%v, %v, %v", found, err, b.all)
		}
	})
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		board *board
		self  Registration
		want  error
	}{
		"full":              {newBoard("2", founder("a"), founder("b")), founder("c"), ErrFull},
		"beyond the size":   {newBoard("2", founder("a"), founder("b"), founder("c")), founder("c"), ErrFull},
		"same name":         {newBoard("3", founder("a")), Registration{"x", "a=http://x:2380"}, ErrDuplicateName},
		"same ID":           {newBoard("3", founder("a")), Registration{"a", "b=http://a:2380"}, ErrDuplicateID},
		"same URL":          {newBoard("3", founder("a")), Registration{"x", "b=http://b:1,b=http://a:2380"}, ErrDuplicateURL},
		"nonsense there":    {newBoard("3", Registration{"x", "\x00"}), founder("a"), ErrInvalidURL},
		"two in one":        {newBoard("3", Registration{"x", "x=http://x:1,y=http://y:1"}), founder("a"), ErrInvalidURL},
		"no size":           {newBoard(""), founder("a"), ErrBadSize},
		"size zero":         {newBoard("0"), founder("a"), ErrBadSize},
		"size of a million": {newBoard("1000000"), founder("a"), ErrBadSize},
		"nonsense here":     {newBoard("1"), Registration{"a", "a"}, ErrInvalidURL},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := slices.Clone(c.board.all)
				if found, err := meet(t.Context(), c.board, c.self); !errors.Is(err, c.want) {
					t.Errorf("%v, %v", found, err)
				}
				if !slices.Equal(c.board.all, before) {
					t.Errorf("who is refused left %v", c.board.all)
				}
			})
		})
	}
}

// A registry that says at once that something has changed, and nothing has, is not asked in a circle. The log says who is there.
func TestHastyRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard("2", founder("a"))
		b.hasty = true
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		core, logs := observer.New(zapcore.InfoLevel)
		if _, err := Meet(ctx, b, founder("b"), clock.System, zap.New(core)); err != nil {
			t.Fatal(err)
		}
		b.size = "3"
		if _, err := Meet(ctx, b, founder("b"), clock.System, zap.New(core)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if b.calls > 100 {
			t.Errorf("asked %d times in ten minutes", b.calls)
		}
		lines := logs.FilterMessageSnippet("waiting for members").All()
		if len(lines) == 0 {
			t.Fatal("no line in the log")
		}
		fields := lines[len(lines)-1].ContextMap()
		if fields["missing"] != "1 of 3" || len(fields["here"].([]any)) != 2 {
			t.Errorf("%v", fields)
		}
	})
}

// A registry that stays away is asked with pauses that grow to half a minute, and each failure is told.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard("1")
		b.broken = 1 << 30
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		core, logs := observer.New(zapcore.WarnLevel)
		if _, err := Meet(ctx, b, founder("a"), clock.System, zap.New(core)); !errors.Is(err, errBroken) {
			t.Error(err)
		}
		if b.calls < 100 || b.calls > 125 || logs.Len() != b.calls {
			t.Errorf("%d calls, %d lines", b.calls, logs.Len())
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("a=http://a:1")
	f.Add("a=http://a:1,a=http://b:1")
	f.Add("=,a")
	f.Fuzz(func(t *testing.T, text string) {
		name, urls, err := parse(text)
		if err == nil && (len(urls) == 0 || !strings.Contains(text, name)) {
			t.Errorf("%q: %q %v", text, name, urls)
		}
		if err != nil && !errors.Is(err, ErrInvalidURL) {
			t.Error(err)
		}
		if n, err := parseSize(text); err == nil && (n < 1 || n > SizeMax) {
			t.Errorf("%q: %d", text, n)
		}
	})
}
