// Package v3 finds the other founders of a cluster by a token that is kept in another cluster, etcd's newer protocol. cmd/etcd
// calls it before a member's first start. The keys are etcd 3.7.3's:
//
//	/_etcd/registry/TOKEN/_config/size   how many founders there are to be, written by whoever made the token
//	/_etcd/registry/TOKEN/members/ID     one founder: its ID in hexadecimal, and as value NAME=URL,…
//
// Founders are ordered by the revision at which their key was created.
package v3

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/rendezvous"
)

const (
	root = "/_etcd/registry"
	// waitTime is how long one wait for a change lasts: a connection that died unseen costs no more.
	waitTime = time.Minute
	// answerBytesMax bounds an answer: a thousand founders of a kilobyte each, and some room.
	answerBytesMax = 2 << 20
)

// Options say where founders meet.
type Options struct {
	Token string
	// RequestTime bounds a request that is answered at once.
	RequestTime time.Duration
	Clock       clock.Clock
	Logger      *zap.Logger
	// Dial connects to the cluster that keeps the token. See Dialer.
	Dial func() (Store, error)
}

// Store is the cluster that keeps the token. *clientv3.Client is one.
type Store interface {
	clientv3.KV
	Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan
	Close() error
}

// Dialer connects to a cluster by a client's settings, with answers bounded where those do not bound them.
func Dialer(spec clientv3.ConfigSpec, log *zap.Logger) func() (Store, error) {
	return func() (Store, error) {
		if spec.MaxCallRecvMsgSize <= 0 {
			spec.MaxCallRecvMsgSize = max(answerBytesMax, spec.MaxCallSendMsgSize) // the client refuses less than it sends
		}
		cfg, err := clientv3.NewClientConfig(&spec, log)
		if err != nil {
			return nil, fmt.Errorf("%w: --discovery-cacert, --discovery-cert or --discovery-key: %w", rendezvous.ErrRefused, err)
		}
		cfg.Logger = log.Named("discovery-client")
		return clientv3.New(*cfg)
	}
}

// Find registers a member by its ID, name and peer URLs, and waits for the others.
func Find(ctx context.Context, o Options, id uint64, name string, urls types.URLs) (types.URLsMap, error) {
	r := &registry{Options: o, base: path.Join(root, o.Token)}
	defer r.close()
	self := rendezvous.Registration{ID: strconv.FormatUint(id, 16), Text: types.URLsMap{name: urls}.String()}
	return rendezvous.Meet(ctx, r, self, o.Clock, o.Logger.With(zap.String("discovery-token", o.Token)))
}

// registry is a token in a cluster. It connects when it is first used.
type registry struct {
	Options
	base  string
	store Store
}

var _ rendezvous.Registry = (*registry)(nil)

func (r *registry) members() string { return r.base + "/members/" }

func (r *registry) Size(ctx context.Context) (string, error) {
	key := r.base + "/_config/size"
	resp, err := r.get(ctx, key)
	switch {
	case err != nil:
		return "", err
	case len(resp.Kvs) == 0:
		return "", fmt.Errorf("%w: put the number of members at %s, by `etcdctl put`, before the members start", rendezvous.ErrSizeNotFound, key)
	}
	return string(resp.Kvs[0].Value), nil
}

func (r *registry) List(ctx context.Context) ([]rendezvous.Registration, int64, error) {
	resp, err := r.get(ctx, r.members(), clientv3.WithPrefix(), clientv3.WithLimit(rendezvous.SizeMax),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		return nil, 0, err
	}
	return registrations(resp.Kvs, r.members()), resp.Header.GetRevision(), nil
}

func (r *registry) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.RequestTime)
	defer cancel()
	resp, err := r.store.Get(ctx, key, opts...)
	return resp, judge(err)
}

func (r *registry) Register(ctx context.Context, reg rendezvous.Registration) error {
	if err := r.open(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.RequestTime)
	defer cancel()
	key := r.members() + reg.ID
	_, err := r.store.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, reg.Text)).Commit()
	return judge(err)
}

func (r *registry) Changed(ctx context.Context, mark int64) error {
	if err := r.open(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), waitTime)
	defer cancel()
	// A channel that closes without a word is one whose time is over.
	resp := <-r.store.Watch(ctx, r.members(), clientv3.WithPrefix(), clientv3.WithRev(mark+1))
	if err := resp.Err(); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return judge(err)
	}
	return nil
}

func (r *registry) open() (err error) {
	if r.store == nil {
		r.store, err = r.Dial()
	}
	if err != nil {
		r.store = nil
	}
	return judge(err)
}

func (r *registry) close() {
	if r.store != nil {
		_ = r.store.Close() // all that was asked for is answered
	}
}

// judge marks the errors that will be the same next time.
func judge(err error) error {
	for _, e := range []error{rpctypes.ErrAuthFailed, rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w: see --discovery-user and --discovery-password, and that user's rights on %s", rendezvous.ErrRefused, err, root)
		}
	}
	return err
}

// registrations reads the founders' keys, which come in order. What has no "=" in it counts for nobody, as with etcd.
func registrations(kvs []*mvccpb.KeyValue, prefix string) []rendezvous.Registration {
	all := make([]rendezvous.Registration, 0, len(kvs))
	for _, kv := range kvs {
		id, text := strings.TrimSpace(strings.TrimPrefix(string(kv.GetKey()), prefix)), strings.TrimSpace(string(kv.GetValue()))
		if strings.Contains(text, "=") {
			all = append(all, rendezvous.Registration{ID: id, Text: text})
		}
	}
	return all
}
