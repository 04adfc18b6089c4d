package jsonapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/internal/kit/wire"
)

// GET /v3/keys/KEY answers a key's value as it is, for shells. What follows the slash is the key, percent-decoded: a key that
// begins with a slash makes two. The ETag is the mod revision; X-Etcd-Revision is the store's, and, of
// a wait, that of the change: nothing lies between it and the next wait from the revision behind.
//
//	?rev=N            the value at revision N
//	?wait=true&rev=N  waits for the first change at revision N or later; a deletion is answered with 404
//	?wait=true        waits for the next change from now on
//	?serializable=true, without wait: what this member has, without asking others
//
// With If-None-Match a value that is the client's already is answered with 304; with wait it waits until it is not. A wait that
// nothing ends answers 304 after waitTime.

const keysPrefix = Prefix + "keys/"

// waitTime is below what any answer may take.
const waitTime = 5 * time.Minute

// IsKey tells whether a request names a key. Its path is not to be cleaned: "//" is part of it.
func IsKey(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, keysPrefix) || strings.HasPrefix(r.URL.Path, BetaPrefix+"keys/")
}

// question is what a request asks about a key.
type question struct {
	key          []byte
	rev          int64
	wait         bool
	serializable bool
	known        []string // of If-None-Match; nil without one
}

func (e *Edge) key(w http.ResponseWriter, r *http.Request) {
	ctx, err := e.annotated(r, pb.KV_Range_FullMethodName)
	var q *question
	if err == nil {
		q, err = asked(r)
	}
	if err == nil && q.wait {
		err = e.awaitKey(ctx, w, q)
	} else if err == nil {
		err = e.readKey(ctx, w, q)
	}
	if err != nil {
		_, out := runtime.MarshalerForRequest(e.mux, r)
		runtime.HTTPError(ctx, e.mux, out, w, r, err)
	}
}

// asked reads the question.
func asked(r *http.Request) (*question, error) {
	key, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), keysPrefix))
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the key in the path: %v", err)
	}
	q := &question{key: []byte(key)}
	if known := r.Header.Get("If-None-Match"); known != "" {
		q.known = strings.Split(known, ",")
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the query: %v", err)
	}
	for name, v := range values {
		last := v[len(v)-1]
		switch name {
		case "rev":
			q.rev, err = strconv.ParseInt(last, 10, 64)
			if err == nil && q.rev < 0 {
				err = strconv.ErrRange
			}
		case "wait":
			q.wait, err = strconv.ParseBool(last)
		case "serializable":
			q.serializable, err = strconv.ParseBool(last)
		default:
			err = errors.New("there is wait, rev and serializable")
		}
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "%s=%s in the query: %v", name, last, err)
		}
	}
	return q, nil
}

// knows tells whether the client has a mod revision's value already.
func (q *question) knows(rev int64) bool {
	for _, tag := range q.known {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == "*" || tag == etag(rev) {
			return true
		}
	}
	return false
}

func etag(rev int64) string { return `"` + strconv.FormatInt(rev, 10) + `"` }

// readKey answers what there is.
func (e *Edge) readKey(ctx context.Context, w http.ResponseWriter, q *question) error {
	kv, ok, at, err := e.get(ctx, &pb.RangeRequest{Key: q.key, Revision: q.rev, Serializable: q.serializable})
	if err != nil {
		return err
	}
	return q.answer(w, kv, ok, at)
}

// get reads one key; at is the store's revision.
func (e *Edge) get(ctx context.Context, r *pb.RangeRequest) (kv wire.KeyValue, ok bool, at int64, err error) {
	var got any
	if err := e.conn.Invoke(ctx, pb.KV_Range_FullMethodName, r, &got); err != nil {
		return kv, false, 0, err
	}
	a, fits := got.(*wire.RangeResponse)
	if !fits {
		return kv, false, 0, fmt.Errorf("%w: %T", errAnswer, got)
	}
	if len(a.KVs) == 0 {
		return kv, false, a.Header.Revision, nil
	}
	kv, err = wire.ParseKeyValue(a.KVs[0])
	return kv, err == nil, a.Header.Revision, err
}

// answer writes a value, or that there is none.
func (q *question) answer(w http.ResponseWriter, kv wire.KeyValue, ok bool, at int64) error {
	h := w.Header()
	h.Set("Access-Control-Expose-Headers", "ETag, X-Etcd-Revision")
	h.Set("X-Etcd-Revision", strconv.FormatInt(at, 10))
	if !ok {
		return status.Error(codes.NotFound, "etcdserver: key not found")
	}
	h.Set("ETag", etag(kv.Mod))
	if q.knows(kv.Mod) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(kv.Value)))
	_, _ = w.Write(kv.Value) // a client that has gone needs no answer
	return nil
}

// awaitKey answers the first change that the client does not know. What may not be read is refused by the read before.
func (e *Edge) awaitKey(ctx context.Context, w http.ResponseWriter, q *question) error {
	kv, ok, at, err := e.get(ctx, &pb.RangeRequest{Key: q.key})
	if err != nil {
		return err
	}
	from := q.rev
	switch {
	case q.known != nil && at >= from && !(ok && q.knows(kv.Mod)):
		return q.answer(w, kv, ok, at)
	case q.known != nil, from == 0:
		from = max(from, at+1)
	}
	ctx, cancel := context.WithTimeout(ctx, e.waitMax)
	defer cancel()
	kv, ok, err = e.change(ctx, q.key, from)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if err != nil {
		return err
	}
	q.known = nil
	return q.answer(w, kv, ok, kv.Mod)
}

// change waits for the first change of a key at a revision or later; ok is false for a deletion.
func (e *Edge) change(ctx context.Context, key []byte, from int64) (kv wire.KeyValue, ok bool, err error) {
	stream, err := pb.NewWatchClient(e.conn).Watch(ctx)
	if err != nil {
		return kv, false, err
	}
	create := &pb.WatchCreateRequest{Key: key, StartRevision: from}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		return kv, false, err
	}
	for {
		a, err := stream.Recv()
		switch {
		case err != nil:
			return kv, false, err
		case a.CompactRevision > 0:
			return kv, false, rpctypes.ErrGRPCCompacted
		case a.Canceled:
			return kv, false, status.Error(codes.PermissionDenied, a.CancelReason)
		case len(a.Events) > 0:
			k := a.Events[0].Kv
			return wire.KeyValue{Key: k.Key, Value: k.Value, Mod: k.ModRevision}, k.CreateRevision > 0, nil
		}
	}
}
