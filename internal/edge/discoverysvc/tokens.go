package discoverysvc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/logging"
	"keelson/internal/state/v2tree"
)

const (
	// spareMembers is how many more than its size a token takes: those that register at the same moment learn by the order who
	// is in, and that the cluster is full. Who comes later is told so without registering.
	spareMembers = 16
	// tokenKeysMax is what one token has at most: its directory, its configuration, its members.
	tokenKeysMax = 3 + SizeMax + spareMembers
	// keysForNew × TokensMax keys are where no new tokens are made, keysForAll × TokensMax where nobody registers either: what
	// is between is for clusters that have their token. Requests under way may overstep a bound by callsMax × 3 keys.
	keysForNew = 8
	keysForAll = 10
	// sweepTime is how often tokens past their time are looked for; sweepKeys how many keys are read at a time.
	sweepTime = time.Hour
	sweepKeys = 500
)

// tokens is the tokens that a cluster keeps. All methods may be called from any goroutine.
type tokens struct {
	store   Store
	prefix  v2tree.Prefix
	max     int
	timeout time.Duration
	clock   clock.Clock
	log     *zap.Logger
	seldom  *logging.Seldom
	keys    prometheus.Gauge
	calls   chan struct{} // holds one for each call to the cluster
}

func newTokens(store Store, o Options, keys prometheus.Gauge) *tokens {
	return &tokens{
		store: store, prefix: o.Prefix, max: o.TokensMax, timeout: o.Timeout, clock: o.Clock, log: o.Logger,
		seldom: logging.NewSeldom(o.Clock), keys: keys, calls: make(chan struct{}, callsMax),
	}
}

// errBusy is returned where the bounds of this service, or of its cluster, let no more in just now.
var errBusy = errors.New("discovery: too busy")

// within makes calls to the cluster in their turn and time.
func (t *tokens) within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	select {
	case t.calls <- struct{}{}:
		defer func() { <-t.calls }()
		return f(ctx)
	case <-ctx.Done():
		return errBusy
	}
}

// failed logs why the cluster could not be asked, once a minute for each reason.
func (t *tokens) failed(err error) {
	if t.seldom.Due(err.Error()) {
		t.log.Warn("the cluster that keeps the tokens could not be asked", zap.Error(err))
	}
}

// errTaken is returned where 128 random bits were those of another token.
var errTaken = errors.New("discovery: a new token is there already")

// errFull is returned when there are as many tokens as there may be.
var errFull = errors.New("discovery: as many tokens as this service keeps")

// noMorePeer is v2's code for a cluster that takes no more members. It has its text from etcd.
const noMorePeer v2tree.Code = 103

func tooManyMembers(at place, index uint64) *v2tree.Error {
	return &v2tree.Error{Code: noMorePeer, Message: "Reached the max number of peers in the cluster", Cause: "/" + at.token, Index: index}
}

// directory is all keys of one token at one revision.
type directory struct {
	token   string
	header  *pb.ResponseHeader
	entries []v2tree.Entry // in order
	// marker is the node of the directory itself, lease what everything in it is attached to.
	marker v2tree.Node
	lease  int64
	tree   v2tree.Tree
}

// look reads a token. One that is not there, or past its time, is refused as v2 refuses a key that is not there.
func (t *tokens) look(ctx context.Context, token string) (*directory, error) {
	path := "/" + token
	key := t.prefix.Node(path)
	resp, err := t.store.KV.Range(ctx, &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(t.prefix.Below(path).End), Limit: tokenKeysMax})
	if err != nil {
		return nil, err
	}
	d := &directory{token: token, header: resp.Header}
	for _, kv := range resp.Kvs {
		d.entries = append(d.entries, v2tree.Entry{Key: string(kv.Key), Value: kv.Value, Mod: kv.ModRevision, Lease: kv.Lease})
	}
	d.tree = v2tree.Tree{Prefix: t.prefix, View: d}
	marker, ok, _ := d.Get(key)
	if ok {
		d.marker, d.lease = v2tree.Read(marker.Value, marker.Mod), marker.Lease
	}
	if !ok || !d.marker.Dir || t.past(d.marker) {
		return nil, v2tree.Refuse(v2tree.KeyNotFound, path, uint64(d.Rev()))
	}
	return d, nil
}

// past tells whether a token's time is over.
func (t *tokens) past(marker v2tree.Node) bool {
	return marker.Expiry != 0 && marker.Expiry <= t.clock.Now().UnixNano()
}

// Rev, Get and Scan make the directory what v2tree looks at.
func (d *directory) Rev() int64 { return d.header.GetRevision() }

// Get gives a key of the directory.
func (d *directory) Get(key string) (v2tree.Entry, bool, error) {
	i := d.from(key)
	if i < len(d.entries) && d.entries[i].Key == key {
		return d.entries[i], true, nil
	}
	return v2tree.Entry{}, false, nil
}

// Scan gives keys of the directory in order, at most limit where that is not 0.
func (d *directory) Scan(r v2tree.Range, limit int64) ([]v2tree.Entry, error) {
	some := d.entries[d.from(r.Key):max(d.from(r.Key), d.from(r.End))]
	if limit > 0 && int64(len(some)) > limit {
		some = some[:limit]
	}
	return some, nil
}

func (d *directory) from(key string) int {
	return sort.Search(len(d.entries), func(i int) bool { return d.entries[i].Key >= key })
}

// size is how many members found the cluster; 0 where nobody can tell.
func (d *directory) size() int {
	e, ok, _ := d.Get(d.tree.Prefix.Node("/" + d.token + sizePath))
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(v2tree.Read(e.Value, e.Mod).Value)
	if err != nil {
		return 0
	}
	return n
}

// nodes gives everything in the directory and itself, in the order in which it was made.
func (d *directory) nodes() []node {
	var all []node
	for _, e := range d.entries {
		if p, ok := d.tree.Prefix.Path(e.Key); ok {
			all = append(all, node{p, v2tree.Read(e.Value, e.Mod)})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Created < all[j].Created })
	return all
}

// node is one of them.
type node struct {
	path string
	v2tree.Node
}

// hidden tells whether a node is the service's own.
func (d *directory) hidden(n node) bool { return strings.Contains(n.path, "/_") }

// members gives the members in the order in which they registered: the first ones, up to the size, found the cluster.
func (d *directory) members() []node {
	var all []node
	for _, n := range d.nodes() {
		if n.path != "/"+d.token && !d.hidden(n) {
			all = append(all, n)
		}
	}
	return all
}

// count is how many keys all tokens have.
func (t *tokens) count(ctx context.Context) (int, error) {
	all := t.prefix.All()
	resp, err := t.store.KV.Range(ctx, &pb.RangeRequest{Key: []byte(all.Key), RangeEnd: []byte(all.End), CountOnly: true})
	if err != nil {
		return 0, err
	}
	t.keys.Set(float64(resp.Count))
	return int(resp.Count), nil
}

// found makes a token for a cluster of some size.
func (t *tokens) found(ctx context.Context, size int) (string, error) {
	n, err := t.count(ctx)
	if err != nil {
		return "", err
	}
	if n >= keysForNew*t.max {
		return "", errFull
	}
	var random [tokenDigits / 2]byte
	_, _ = rand.Read(random[:]) // it never fails
	token := hex.EncodeToString(random[:])
	granted, err := t.store.Lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: int64(Lifetime / time.Second)})
	if err != nil {
		return "", err
	}
	resp, err := t.store.KV.Txn(ctx, t.birth(token, size, granted.ID))
	if err == nil && !resp.Succeeded {
		err = errTaken
	}
	if err != nil {
		t.revoke(context.WithoutCancel(ctx), granted.ID)
		return "", err
	}
	return token, nil
}

// birth is the transaction that makes a token.
func (t *tokens) birth(token string, size int, lease int64) *pb.TxnRequest {
	path := "/" + token
	end := t.clock.Now().Add(Lifetime).UnixNano()
	made := func(clean string, n v2tree.Node) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{
			Key: []byte(t.prefix.Node(clean)), Value: n.Encode(), Lease: lease,
		}}}
	}
	return &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: []byte(t.prefix.Node(path)), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{},
		}},
		Success: []*pb.RequestOp{
			made(path, v2tree.Node{Action: v2tree.Create, Dir: true, Implicit: true, Expiry: end}),
			made(path+"/"+configName, v2tree.Node{Action: v2tree.Create, Dir: true, Implicit: true}),
			made(path+sizePath, v2tree.Node{Action: v2tree.Create, Value: strconv.Itoa(size)}),
		},
	}
}

// register makes a member's node, where there is none of that name.
func (t *tokens) register(ctx context.Context, at place, value string) (*v2tree.Event, error) {
	n, err := t.count(ctx)
	if err != nil {
		return nil, err
	}
	if n >= keysForAll*t.max {
		return nil, errFull
	}
	missing := false
	// Each time that it fails, another has registered with this token: they are few.
	for {
		d, err := t.look(ctx, at.token)
		if err != nil {
			return nil, err
		}
		p, err := d.tree.Plan(v2tree.Request{Path: at.clean, Value: value, PrevExist: &missing})
		if err != nil {
			return nil, err
		}
		if len(d.members()) >= d.size()+spareMembers {
			return nil, tooManyMembers(at, uint64(d.Rev()))
		}
		resp, err := t.store.KV.Txn(ctx, d.bind(p.Txn))
		if err != nil {
			return nil, err
		}
		if resp.Succeeded {
			return p.Event(resp.Header.Revision, t.clock.Now()), nil
		}
	}
}

// bind attaches what a transaction writes to the token's lease, and has it depend on that nobody has registered since the
// directory was read: the number of members holds, however many come at once.
func (d *directory) bind(txn *pb.TxnRequest) *pb.TxnRequest {
	for _, op := range txn.Success {
		if put := op.GetRequestPut(); put != nil {
			put.Lease = d.lease
		}
	}
	below := d.tree.Prefix.Below("/" + d.token)
	txn.Compare = append(txn.Compare, &pb.Compare{
		Key: []byte(below.Key), RangeEnd: []byte(below.End), Target: pb.Compare_MOD, Result: pb.Compare_LESS,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: d.Rev() + 1},
	})
	return txn
}

// revoke ends a lease, and with it a token. It ends by itself where this fails.
func (t *tokens) revoke(ctx context.Context, lease int64) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	if _, err := t.store.Lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: lease}); err != nil {
		t.failed(err)
	}
}

// sweepOften ends tokens past their time, at the start and from time to time, until ctx ends.
func (t *tokens) sweepOften(ctx context.Context) {
	tick := t.clock.NewTicker(sweepTime)
	defer tick.Stop()
	for {
		if n, err := t.sweep(ctx); err != nil && ctx.Err() == nil {
			t.failed(err)
		} else if n > 0 {
			t.log.Info("ended tokens past their time", zap.Int("tokens", n))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// sweep looks through all keys once.
func (t *tokens) sweep(ctx context.Context) (ended int, err error) {
	all := t.prefix.Nodes()
	for {
		var resp *pb.RangeResponse
		err := t.within(ctx, func(ctx context.Context) (err error) {
			resp, err = t.store.KV.Range(ctx, &pb.RangeRequest{Key: []byte(all.Key), RangeEnd: []byte(all.End), Limit: sweepKeys, Serializable: true})
			return err
		})
		if err != nil {
			return ended, err
		}
		for _, kv := range resp.Kvs {
			path, ok := t.prefix.Path(string(kv.Key))
			if ok && isToken(strings.TrimPrefix(path, "/")) && kv.Lease != 0 && t.past(v2tree.Read(kv.Value, kv.ModRevision)) {
				t.revoke(ctx, kv.Lease)
				ended++
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return ended, nil
		}
		all.Key = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}
