package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const checkHelp = `Writes to a cluster for a while and says whether it did well. It loads the cluster: not for one that is in use.`

// checkTidyTime bounds each step of tidying up after a check: a physical compaction and a defragmentation of what it wrote
// take seconds.
const checkTidyTime = 30 * time.Second

func checkCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "check <subcommand>",
		Short:   "Checks how fast the cluster is and what memory it takes",
		Long:    checkHelp,
		GroupID: groupOther,
	}
	cmd.AddCommand(checkPerfCommand(a), checkDatascaleCommand(a))
	return cmd
}

// check is what both checks have in common.
type check struct {
	*app
	load, prefix    string
	compact, defrag bool

	clients []*clientv3.Client
}

func (k *check) bind(cmd *cobra.Command, prefix string) {
	fs := cmd.Flags()
	fs.StringVar(&k.load, "load", "s", "how much is asked of the cluster: s (small), m (medium), l (large) or xl (xLarge)")
	fs.StringVar(&k.prefix, "prefix", prefix, "where the check writes its keys")
	fs.BoolVar(&k.compact, "auto-compact", false, "compact what the check wrote when it is over")
	fs.BoolVar(&k.defrag, "auto-defrag", false, "defragment the endpoints when the check is over")
	complete(cmd, "load", "small", "medium", "large", "xLarge")
}

// loadOf gives the row of a --load, which may be abbreviated.
func loadOf[T any](name string, small, medium, large, xLarge T) (T, error) {
	switch name {
	case "s", "small":
		return small, nil
	case "m", "medium":
		return medium, nil
	case "l", "large":
		return large, nil
	case "xl", "xLarge":
		return xLarge, nil
	}
	return small, fail(statusBadFeature, "unknown load option %s", name)
}

// open makes the clients and sees that the prefix is empty. hint is how a command that empties it is put into quotes.
func (k *check) open(cmd *cobra.Command, clients int, hint string) error {
	if _, err := k.prepare(cmd, nil); err != nil {
		return err
	}
	for range clients {
		c, err := k.client(k.set.endpoints)
		if err != nil {
			k.close()
			return err
		}
		k.clients = append(k.clients, c)
	}
	ctx, cancel := k.timed()
	defer cancel()
	r, err := k.clients[0].Get(ctx, k.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
	if err == nil && len(r.Kvs) > 0 {
		err = fail(statusInvalidInput, "prefix %q has keys. Delete with "+hint+" first", k.prefix, "etcdctl del --prefix "+k.prefix)
	}
	if err == nil {
		return nil
	}
	k.close()
	var told *exitError
	if errors.As(err, &told) {
		return err
	}
	return k.explain(statusError, err)
}

func (k *check) close() {
	for _, c := range k.clients {
		closeQuietly(c)
	}
}

// writes runs the operations of ops, one at a time on each client, until there are no more. each is told of every one that
// is done.
func (k *check) writes(ops <-chan clientv3.Op, each func()) *report {
	r := &report{errs: map[string]int{}}
	began := time.Now()
	var wg sync.WaitGroup
	for _, c := range k.clients {
		wg.Go(func() {
			for op := range ops {
				start := time.Now()
				_, err := c.Do(context.Background(), op)
				r.add(time.Since(start), err)
				each()
			}
		})
	}
	wg.Wait()
	r.total = time.Since(began)
	return r
}

// putter gives puts of values under random keys of keyBytes bytes, most of them zero, as etcdctl's.
func (k *check) putter(keyBytes, valueBytes int) func() clientv3.Op {
	key, value := make([]byte, keyBytes), string(make([]byte, valueBytes))
	return func() clientv3.Op {
		binary.PutVarint(key, rand.Int64N(math.MaxInt64)) //nolint:gosec // a key, not a secret
		return clientv3.OpPut(k.prefix+string(key), value)
	}
}

// remove deletes what was written and gives the revision of that.
func (k *check) remove(ctx context.Context) (int64, error) {
	r, err := k.clients[0].Delete(ctx, k.prefix, clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	return r.Header.Revision, nil
}

// reclaim compacts and defragments as the flags ask.
func (k *check) reclaim(rev int64) error {
	if k.compact {
		fmt.Fprintf(k.out, "Compacting with revision %d\n", rev)
		err := k.tidy(func(ctx context.Context) error {
			_, err := k.clients[0].Compact(ctx, rev, clientv3.WithCompactPhysical())
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(k.out, "Compacted with revision %d\n", rev)
	}
	if !k.defrag {
		return nil
	}
	for _, ep := range k.clients[0].Endpoints() {
		fmt.Fprintf(k.out, "Defragmenting %q\n", ep)
		err := k.tidy(func(ctx context.Context) error {
			_, err := k.clients[0].Defragment(ctx, ep)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(k.out, "Defragmented %q\n", ep)
	}
	return nil
}

func (k *check) tidy(step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), checkTidyTime)
	defer cancel()
	if err := step(ctx); err != nil {
		return k.explain(statusError, err)
	}
	return nil
}

// report is how a check's writes went.
type report struct {
	total time.Duration

	mu   sync.Mutex // guards the rest
	took []float64  // of those that went well, in seconds
	errs map[string]int
}

func (r *report) add(took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.errs[err.Error()]++
		return
	}
	r.took = append(r.took, took.Seconds())
}

// rate gives writes a second, and the slowest and the standard deviation in seconds; all 0 where none went well.
func (r *report) rate() (perSecond, slowest, deviation float64) {
	if len(r.took) == 0 {
		return 0, 0, 0
	}
	sum, squares, n := 0.0, 0.0, float64(len(r.took))
	for _, t := range r.took {
		sum += t
		slowest = max(slowest, t)
	}
	for _, t := range r.took {
		squares += (t - sum/n) * (t - sum/n)
	}
	return n / r.total.Seconds(), slowest, math.Sqrt(squares / n)
}

// failed prints the errors and tells whether there were any.
func (k *check) failed(r *report) bool {
	if len(r.errs) == 0 {
		return false
	}
	fmt.Fprintln(k.out, "FAIL: too many errors")
	for text, n := range r.errs {
		fmt.Fprintf(k.out, "FAIL: ERROR(%s) -> %d\n", text, n)
	}
	return true
}
