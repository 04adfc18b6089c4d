package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/mirror"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const makeMirrorHelp = `Copies all keys, or those under --prefix, to the destination and then each change as it comes, until it is stopped or can't
go on. Every 30 s it prints how many changes were copied. Keys keep their names but for --dest-prefix, which takes the
place of --prefix, or --no-dest-prefix, which cuts it off. Leases are not copied.

With --rev nothing is copied but the changes from that revision on: so a mirror that was stopped goes on.`

const (
	// mirrorTold is how often the number of copied changes is printed.
	mirrorTold = 30 * time.Second
	// mirrorPutsMax is how many keys of the first copy are on their way at a time: each waits for the destination's disk.
	mirrorPutsMax = 16
	// mirrorPatience is how long the destination may be away, and mirrorRetry the pause between two tries.
	mirrorPatience = time.Minute
	mirrorRetry    = 250 * time.Millisecond
	txnOpsDefault  = 128
)

// makeMirror is the verb's flags.
type makeMirror struct {
	*app
	prefix, destPrefix string
	cutPrefix          bool
	rev                int64
	txnOps             uint
	dest               access // how the destination is reached
}

func makeMirrorCommand(a *app) *cobra.Command {
	m := &makeMirror{app: a}
	cmd := &cobra.Command{
		Use:     "make-mirror [options] <destination>",
		Short:   "Copies keys and their changes to another cluster",
		Long:    makeMirrorHelp,
		GroupID: groupOther,
		RunE:    m.run,
	}
	fs := cmd.Flags()
	fs.StringVar(&m.prefix, "prefix", "", "copy the keys that begin with this")
	fs.StringVar(&m.destPrefix, "dest-prefix", "", "what takes the place of --prefix at the destination")
	fs.BoolVar(&m.cutPrefix, "no-dest-prefix", false, "cut --prefix off at the destination")
	fs.Int64Var(&m.rev, "rev", 0, "copy only changes, from this revision on")
	fs.UintVar(&m.txnOps, "max-txn-ops", txnOpsDefault, "most operations in one transaction at the destination")
	m.dest.bindNamed(fs, "dest-", "the destination")
	return cmd
}

func (m *makeMirror) run(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fail(statusBadArgs, "make-mirror takes one destination argument")
	}
	if m.cutPrefix && m.destPrefix != "" {
		return fail(statusBadArgs, "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
	}
	if err := m.dest.login(prompter{m.in, m.out}, "Destination Password: "); err != nil {
		return err
	}
	if _, err := m.dest.config(&clientv3.ConfigSpec{}); err != nil {
		return err // before more is asked for
	}
	src, err := m.dial(cmd, nil)
	if err != nil {
		return err
	}
	defer closeQuietly(src)
	dst, err := m.dest.client(m.app, args)
	if err != nil {
		return err
	}
	defer closeQuietly(dst)
	if err := m.reach(dst, args); err != nil {
		return err
	}
	if m.destPrefix == "" && !m.cutPrefix {
		m.destPrefix = m.prefix
	}
	c := &copier{makeMirror: m, src: src.Client, dst: dst}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go c.count(ctx)
	return m.explain(statusError, c.run(ctx))
}

// reach sees that the destination answers: later it may be away for a while, but a wrong one is told at once.
func (m *makeMirror) reach(dst *clientv3.Client, endpoints []string) error {
	ctx, cancel := m.timed()
	defer cancel()
	if _, err := dst.Get(ctx, m.prefix+"\x00", clientv3.WithCountOnly()); err != nil {
		return &exitError{status: statusError, err: fmt.Errorf("destination %s: %w", endpoints[0], err), hint: m.dest.hint(m.app, err, endpoints)}
	}
	return nil
}

// copier is a mirror at work.
type copier struct {
	*makeMirror
	src, dst *clientv3.Client
	copied   atomic.Int64
	away     atomic.Bool // the destination was away at least once, which was told
}

// count prints how many changes were copied, now and then.
func (c *copier) count(ctx context.Context) {
	tick := time.NewTicker(mirrorTold)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fmt.Fprintln(c.out, c.copied.Load())
		}
	}
}

// run copies until it can't go on.
func (c *copier) run(ctx context.Context) error {
	from := max(c.rev-1, 0)
	s := mirror.NewSyncer(c.src, c.prefix, from)
	if from == 0 {
		if err := c.base(ctx, s); err != nil {
			return err
		}
	}
	for r := range s.SyncUpdates(ctx) {
		if r.CompactRevision != 0 {
			return rpctypes.ErrCompacted
		}
		if err := r.Err(); err != nil {
			return err
		}
		if err := c.changes(ctx, r.Events); err != nil {
			return err
		}
	}
	return errors.New("the source ended the watch")
}

// base copies what is there now.
func (c *copier) base(ctx context.Context, s mirror.Syncer) error {
	pages, failed := s.SyncBase(ctx)
	for page := range pages {
		var puts errgroup.Group
		puts.SetLimit(mirrorPutsMax)
		for _, kv := range page.Kvs {
			puts.Go(func() error {
				defer c.copied.Add(1)
				return c.insist(ctx, func(ctx context.Context) error {
					_, err := c.dst.Put(ctx, c.rename(kv.Key), string(kv.Value))
					return err
				})
			})
		}
		if err := puts.Wait(); err != nil {
			return err
		}
	}
	return <-failed
}

// changes copies events in order: each revision in a transaction of its own, so that readers of the mirror see none half;
// one of more than --max-txn-ops changes in several.
func (c *copier) changes(ctx context.Context, events []*clientv3.Event) error {
	var ops []clientv3.Op
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		err := c.insist(ctx, func(ctx context.Context) error {
			_, err := c.dst.Txn(ctx).Then(ops...).Commit()
			return err
		})
		c.copied.Add(int64(len(ops)))
		ops = nil
		return err
	}
	last := int64(0)
	for _, e := range events {
		if full := c.txnOps > 0 && uint(len(ops)) >= c.txnOps; full || e.Kv.ModRevision != last {
			if err := flush(); err != nil {
				return err
			}
		}
		last = e.Kv.ModRevision
		if e.Type == mvccpb.Event_DELETE {
			ops = append(ops, clientv3.OpDelete(c.rename(e.Kv.Key)))
		} else {
			ops = append(ops, clientv3.OpPut(c.rename(e.Kv.Key), string(e.Kv.Value)))
		}
	}
	return flush()
}

// rename gives the name of a key at the destination.
func (c *copier) rename(key []byte) string {
	return c.destPrefix + strings.TrimPrefix(string(key), c.prefix)
}

// insist tries a write again while the destination is away: it may restart or elect a leader. A write that was done and
// whose answer was lost may be done twice, which changes nothing, as only one mirror at a time writes and in order.
func (c *copier) insist(ctx context.Context, write func(context.Context) error) error {
	deadline := time.Now().Add(mirrorPatience)
	for {
		err := write(ctx)
		if err == nil || status.Code(err) != codes.Unavailable && !unavailable(err) || time.Now().After(deadline) {
			return err
		}
		if !c.away.Swap(true) {
			fmt.Fprintf(c.diag, "The destination is away, trying again for %v: %v\n", mirrorPatience, err)
		}
		t := time.NewTimer(mirrorRetry)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// unavailable tells whether the client's error stands for grpc's Unavailable.
func unavailable(err error) bool {
	var e rpctypes.EtcdError
	return errors.As(err, &e) && e.Code() == codes.Unavailable
}
