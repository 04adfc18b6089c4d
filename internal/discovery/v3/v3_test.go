package v3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/rendezvous"
)

// fake is a cluster in memory, as far as founders use one. Calls that it has no method for panic.
type fake struct {
	clientv3.KV
	mu      sync.Mutex
	rev     int64
	kvs     []*mvccpb.KeyValue
	changed chan struct{}
	// failing is how many calls fail first, and with what.
	failing int
	err     error
}

func newFake(size string) *fake {
	f := &fake{rev: 7, changed: make(chan struct{}), err: context.DeadlineExceeded}
	if size != "" {
		f.put("/_etcd/registry/tok/_config/size", size)
	}
	return f
}

func (f *fake) put(key, value string) {
	f.rev++
	f.kvs = append(f.kvs, &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: f.rev})
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) fails() error {
	if f.failing > 0 {
		f.failing--
		return f.err
	}
	return nil
}

func (f *fake) Get(_ context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	prefix := len(clientv3.OpGet(key, opts...).RangeBytes()) > 0
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: f.rev}}
	for _, kv := range f.kvs {
		if k := string(kv.Key); k == key || prefix && strings.HasPrefix(k, key) {
			resp.Kvs = append(resp.Kvs, kv)
		}
	}
	return (*clientv3.GetResponse)(resp), f.fails()
}

// creation is a transaction that creates a key.
type creation struct {
	clientv3.Txn
	f *fake
	p clientv3.Op
}

func (f *fake) Txn(context.Context) clientv3.Txn         { return &creation{f: f} }
func (c *creation) If(...clientv3.Cmp) clientv3.Txn      { return c }
func (c *creation) Then(ops ...clientv3.Op) clientv3.Txn { c.p = ops[0]; return c }
func (c *creation) Commit() (*clientv3.TxnResponse, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if err := c.f.fails(); err != nil {
		return nil, err
	}
	key := string(c.p.KeyBytes())
	if !slices.ContainsFunc(c.f.kvs, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == key }) {
		c.f.put(key, string(c.p.ValueBytes()))
	}
	return &clientv3.TxnResponse{}, nil
}

func (f *fake) Watch(ctx context.Context, _ string, opts ...clientv3.OpOption) clientv3.WatchChan {
	f.mu.Lock()
	changed, now := f.changed, clientv3.OpGet("", opts...).Rev() <= f.rev
	f.mu.Unlock()
	ch := make(chan clientv3.WatchResponse, 1)
	go func() {
		defer close(ch)
		if !now {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
		ch <- clientv3.WatchResponse{}
	}()
	return ch
}

func (f *fake) Close() error { return nil }

func find(ctx context.Context, f *fake, i int) (types.URLsMap, error) {
	urls, err := types.NewURLs([]string{fmt.Sprintf("http://10.0.0.%d:2380", i)})
	if err != nil {
		return nil, err
	}
	o := Options{Token: "tok", RequestTime: 5 * time.Second, Clock: clock.System, Logger: zap.NewNop(), Dial: func() (Store, error) { return f, nil }}
	return Find(ctx, o, uint64(i), fmt.Sprint("m", i), urls)
}

// Founders come minutes apart, to a cluster that fails in between; a stranger's nonsense counts for nobody, and one more is
// told that the cluster is full.
func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("3")
		f.put("/_etcd/registry/tok/members/ff", "nonsense")
		f.failing = 3
		var found sync.WaitGroup
		for _, i := range []int{3, 1, 2} {
			found.Go(func() {
				m, err := find(t.Context(), f, i)
				if err != nil || m.String() != "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380" {
					t.Errorf("%d: %v, %v", i, m, err)
				}
			})
			synctest.Wait()
			time.Sleep(10 * time.Minute) // in the bubble's time
		}
		found.Wait()
		if last := f.kvs[len(f.kvs)-1]; string(last.Key) != "/_etcd/registry/tok/members/2" || string(last.Value) != "m2=http://10.0.0.2:2380" {
			t.Errorf("the last to register wrote %s = %s", last.Key, last.Value)
		}
		if _, err := find(t.Context(), f, 4); !errors.Is(err, rendezvous.ErrFull) {
			t.Errorf("a fourth: %v", err)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, err := find(t.Context(), newFake(""), 1); !errors.Is(err, rendezvous.ErrSizeNotFound) || !strings.Contains(err.Error(), "/_etcd/registry/tok/_config/size") {
			t.Error(err)
		}
		if _, err := find(t.Context(), newFake("-1"), 1); !errors.Is(err, rendezvous.ErrBadSize) {
			t.Error(err)
		}
		f := newFake("1")
		f.failing, f.err = 1, rpctypes.ErrPermissionDenied
		if _, err := find(t.Context(), f, 1); !errors.Is(err, rendezvous.ErrRefused) || !strings.Contains(err.Error(), "--discovery-user") {
			t.Error(err)
		}
	})
}

// A cluster that can't be connected to yet is connected to later.
func TestDialAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls, err := types.NewURLs([]string{"http://10.0.0.1:2380"})
		if err != nil {
			t.Fatal(err)
		}
		tries := 0
		o := Options{Token: "tok", RequestTime: time.Second, Clock: clock.System, Logger: zap.NewNop(), Dial: func() (Store, error) {
			if tries++; tries < 4 {
				return nil, context.DeadlineExceeded
			}
			return newFake("1"), nil
		}}
		if m, err := Find(t.Context(), o, 1, "a", urls); err != nil || len(m) != 1 {
			t.Errorf("%v, %v", m, err)
		}
	})
}

func FuzzRegistrations(f *testing.F) {
	f.Add([]byte("/p/1"), []byte("a=http://a:1"))
	f.Add([]byte("/q"), []byte(" = "))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		for _, r := range registrations([]*mvccpb.KeyValue{{Key: key, Value: value}, nil}, "/p/") {
			if !strings.Contains(r.Text, "=") {
				t.Errorf("%q", r)
			}
		}
	})
}
