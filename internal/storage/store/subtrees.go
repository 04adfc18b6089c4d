package store

import (
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

const (
	// sharesEach is how many shares of the work there are for each processor: with more of them nobody waits long for the last.
	sharesEach = 8
	// laterDepth is where a tree is wide enough to be shared out: a bucket's pages begin at 1, and one at 3 is among some ten
	// thousand at most.
	laterDepth = 3
)

// subtree is a part of a file's tree that is yet to be checked: page id, with keys in [low, high).
type subtree struct {
	id        uint64
	low, high []byte
	inBucket  bool
}

// walk checks subtrees on all processors. Neighbours stay together: their pages mostly are neighbours too.
func (c *checker) walk(all []subtree) error {
	workers := runtime.GOMAXPROCS(0)
	checkers := make([]checker, workers)
	for i := range checkers {
		checkers[i] = checker{r: c.r, path: c.path, pageSize: c.pageSize, pages: c.pages, seen: c.seen}
	}
	shares := min(len(all), sharesEach*workers)
	return spread(workers, shares, func(worker, i int) error {
		own := &checkers[worker]
		for _, t := range all[i*len(all)/shares : (i+1)*len(all)/shares] {
			own.inBucket = t.inBucket
			if err := own.tree(t.id, t.low, t.high, laterDepth); err != nil {
				return err
			}
		}
		return nil
	})
}

// spread calls f for every i below n, by the given number of goroutines.
func spread(workers, n int, f func(worker, i int) error) error {
	var next atomic.Int64
	var all errgroup.Group
	for worker := range min(workers, n) {
		all.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := f(worker, i); err != nil {
					return err
				}
			}
		})
	}
	return all.Wait()
}
