package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"keelson/internal/storage/schema"
)

// collector is a Sink that keeps all it gets.
type collector struct {
	refuse func(rev schema.Revision, kv []byte) error
	parts  int
	added  error // what Added answers

	got [][]string
	// mu protects gathered.
	mu       sync.Mutex
	gathered []int
}

func (c *collector) Begin(stretches int) { c.got = make([][]string, stretches) }

func (c *collector) Add(n int, rev schema.Revision, tombstone bool, kv []byte) error {
	if c.refuse != nil {
		if err := c.refuse(rev, kv); err != nil {
			return err
		}
	}
	c.got[n] = append(c.got[n], fmt.Sprint(rev, tombstone, kv))
	return nil
}

func (c *collector) Added() (int, error) { return c.parts, c.added }

func (c *collector) Gather(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathered = append(c.gathered, n)
}

// TestLoad compares what several stretches hold with all in one, for files of one page and of trees of several levels.
func TestLoad(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 50, 2_000, 60_000} {
		s := open(t, filepath.Join(t.TempDir(), "db"), Options{NoSync: true})
		fill(t, s, n)
		var want []string
		err := s.LoadKeys(func(rev schema.Revision, tombstone bool, kv []byte) error {
			want = append(want, fmt.Sprint(rev, tombstone, kv))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		c := &collector{parts: 40}
		if err := s.Load(c); err != nil {
			t.Fatal(err)
		}
		if got := slices.Concat(c.got...); !slices.Equal(got, want) {
			t.Errorf("%d fills: %d revisions in %d stretches, want %d", n, len(got), len(c.got), len(want))
		}
		slices.Sort(c.gathered)
		if len(c.gathered) != c.parts || c.gathered[0] != 0 || c.gathered[c.parts-1] != c.parts-1 {
			t.Errorf("%d fills: gathered %v", n, c.gathered)
		}
		for i, got := range c.got {
			if n == 60_000 && (len(c.got) < 4 || len(got) > 2*len(want)/len(c.got)) {
				t.Errorf("stretch %d of %d has %d of %d revisions", i, len(c.got), len(got), len(want))
			}
		}
	}
}

func TestLoadIsRefused(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"), Options{NoSync: true})
	fill(t, s, 50)
	mine := errors.New("out of order")
	c := &collector{added: mine, refuse: func(schema.Revision, []byte) error {
		if s.OpenReadTxns() == 0 {
			t.Error("no read transaction is counted")
		}
		return nil
	}}
	corrupt := (*CorruptError)(nil)
	if err := s.Load(c); !errors.Is(err, mine) || !errors.As(err, &corrupt) {
		t.Error(err)
	}
	if n := s.OpenReadTxns(); n != 0 {
		t.Errorf("%d read transactions are open", n)
	}
}
