package store

import (
	"bytes"
	"errors"
	"runtime"

	"keelson/internal/storage/schema"
)

// Sink takes all revisions that are stored, on several processors: Begin, then Add for each, then Added, then Gather for
// each part.
type Sink interface {
	// Begin says in how many stretches of consecutive revisions they come.
	Begin(stretches int)
	// Add takes the next revision of a stretch; one goroutine calls it for a stretch. kv, an encoded mvccpb.KeyValue (of a
	// tombstone: with the key alone), stays as it is until Load returns.
	Add(stretch int, rev schema.Revision, tombstone bool, kv []byte) error
	// Added comes when there are no more. It gives the number of parts that are to be gathered.
	Added() (parts int, err error)
	// Gather is called for each part, by several goroutines.
	Gather(part int)
}

// Load hands all stored revisions to a sink, for the load at start. Nobody may write meanwhile. What is no revision, and what
// the sink refuses, is damage: a *CorruptError.
func (r *reader) Load(to Sink) error {
	f, err := r.files.acquire()
	if err != nil {
		return err
	}
	defer func() { _ = r.files.release(f) }() // what closing a retired file answers changes nothing any more
	workers := runtime.GOMAXPROCS(0)
	txs, err := r.beginAll(f, workers)
	defer func() {
		for _, tx := range txs {
			r.files.open.Add(-1)
			_ = tx.Rollback() // of a read transaction: cannot fail
		}
	}()
	if err != nil {
		return err
	}
	readAhead(txs[0].Tx)
	defer forget(txs[0].Tx)
	var starts [][]byte
	err = guard(f, func(*bool) error {
		starts, err = txs[0].starts(sharesEach * workers)
		return err
	})
	if err != nil {
		return err
	}
	ends := append(starts[1:len(starts):len(starts)], nil) // the last one is open
	to.Begin(len(starts))
	err = spread(workers, len(starts), func(worker, i int) error {
		return guard(f, func(outside *bool) error {
			tx := txs[worker]
			tx.outside = outside
			return tx.revisions(starts[i], ends[i], func(rev schema.Revision, tombstone bool, kv []byte) error {
				return to.Add(i, rev, tombstone, kv)
			})
		})
	})
	if err != nil {
		return err
	}
	parts, err := to.Added()
	if err != nil {
		return txs[0].corrupt(nil, err)
	}
	return spread(workers, parts, func(_, i int) error {
		return guard(f, func(outside *bool) error {
			*outside = true
			to.Gather(i)
			return nil
		})
	})
}

// beginAll begins one read transaction for each worker.
func (r *reader) beginAll(f *file, workers int) (txs []*readTx, err error) {
	for range workers {
		err = errors.Join(err, guard(f, func(*bool) error {
			tx, err := f.db.Begin(false)
			if err == nil {
				r.files.open.Add(1)
				txs = append(txs, &readTx{Tx: tx, file: f})
			}
			return err
		}))
	}
	return txs, err
}

// starts divides bucket key into at most n stretches of about the same size, and gives where each begins: at the keys of the
// first level of the bucket's tree that has so many.
func (tx *readTx) starts(n int) ([][]byte, error) {
	c := &checker{r: tx.file.handle, path: tx.file.path, pageSize: uint64(tx.DB().Info().PageSize)}
	c.pages = uint64(tx.Size()) / c.pageSize
	c.seen = make([]uint64, c.pages/64+1)
	level := []element{{page: uint64(tx.bucket(schema.Key).Root())}}
	for len(level) < n {
		below, err := c.below(level)
		if err != nil {
			return nil, err
		}
		if below == nil {
			break
		}
		level = below
	}
	level[0].key = nil // what lies before it belongs to the first
	starts := make([][]byte, min(n, len(level)))
	for i := range starts {
		starts[i] = level[i*len(level)/len(starts)].key
	}
	return starts, nil
}

// below gives what the pages of a level lead to, nil where they are leaves.
func (c *checker) below(level []element) (below []element, err error) {
	for _, of := range level {
		if of.page == 0 {
			return nil, nil // a bucket so small that it lies within its parent's page
		}
		page, err := c.page(of.page)
		if err != nil {
			return nil, err
		}
		page = bytes.Clone(page)
		flags, count, err := c.header(of.page*c.pageSize, page)
		if err != nil || flags != flagBranch {
			return nil, err
		}
		for i := range count {
			e, err := c.element(of.page*c.pageSize, page, i, flags)
			if err != nil {
				return nil, err
			}
			below = append(below, e)
		}
	}
	return below, nil
}
