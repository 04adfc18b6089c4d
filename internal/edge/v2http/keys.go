package v2http

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"keelson/internal/kit/wire"
	"keelson/internal/state/auth"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/v2tree"
)

const keysPath = "/v2/keys"

// keys serves /v2/keys.
func (e *Edge) keys(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, "HEAD", "GET", "PUT", "POST", "DELETE") {
		return
	}
	e.identify(w)
	r.Body = http.MaxBytesReader(w, r.Body, e.options.formBytes())
	q, err := parse(r, e.options.Clock.Now())
	if err != nil {
		e.refuse(w, err)
		return
	}
	writes := r.Method != http.MethodGet && r.Method != http.MethodHead
	if g := e.options.Guard; g != nil && !g.MayKeys(r, q.Path, writes, q.Recursive) {
		e.refuse(w, unauthorized())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), e.options.Timeout)
	defer cancel()
	caller, err := e.caller(ctx, r)
	if err != nil {
		e.refuse(w, err)
		return
	}
	// As in 3.4, who asks for a quorum does not wait.
	if q.wait && !q.quorum {
		waiting := r.Context()
		if c := auth.From(caller); c != nil {
			waiting = auth.With(waiting, c)
		}
		e.wait(w, r, waiting, q)
		return
	}
	var ev *v2tree.Event
	if writes {
		ev, err = e.write(caller, q)
	} else {
		ev, err = e.get(caller, q, r.Method == http.MethodGet && q.quorum)
	}
	e.stats.count(q, writes, err)
	if err != nil {
		e.refuse(w, err)
		return
	}
	e.answer(w, ev, q.noValue)
}

// identify names the cluster in an answer.
func (e *Edge) identify(w http.ResponseWriter) {
	w.Header().Set("X-Etcd-Cluster-ID", strconv.FormatUint(e.member.ClusterID(), 16))
}

// place tells in an answer which state it is of.
func (e *Edge) place(w http.ResponseWriter, index uint64) {
	raft, term := e.member.Progress()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Etcd-Index", strconv.FormatUint(index, 10))
	h.Set("X-Raft-Index", strconv.FormatUint(raft, 10))
	h.Set("X-Raft-Term", strconv.FormatUint(term, 10))
}

// answer writes what a read found or what a change did.
func (e *Edge) answer(w http.ResponseWriter, ev *v2tree.Event, noValue bool) {
	shown, created := *ev, ev.Created()
	if noValue && ev.Action != v2tree.Get.String() && ev.Action != v2tree.Delete.String() && ev.Action != v2tree.CompareAndDelete.String() {
		shown.Node, shown.PrevNode = nil, nil
	}
	body, err := encode(&shown)
	if err != nil {
		e.refuse(w, err)
		return
	}
	e.place(w, ev.Index)
	if created {
		w.WriteHeader(http.StatusCreated)
	}
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// encode gives an event as a line of JSON.
func encode(ev *v2tree.Event) ([]byte, error) {
	body, err := json.Marshal(ev)
	return append(body, '\n'), err
}

// get reads a node from the newest view.
func (e *Edge) get(ctx context.Context, q *question, linearizable bool) (*v2tree.Event, error) {
	if linearizable {
		if err := e.member.LinearizableRead(ctx); err != nil {
			return nil, err
		}
	}
	return look(ctx, e, func(t v2tree.Tree, v *mvcc.View) (*v2tree.Event, error) {
		if err := e.may(ctx, v, auth.Read, q.Path, false); err != nil {
			return nil, err
		}
		ev, err := t.Get(q.Path, q.Recursive, e.options.Clock.Now())
		if err == nil && ev.Node.Dir {
			err = e.may(ctx, v, auth.Read, q.Path, true)
		}
		return ev, err
	})
}

// look runs f on the newest view, and again where a compaction overtook it.
func look[T any](ctx context.Context, e *Edge, f func(t v2tree.Tree, v *mvcc.View) (T, error)) (T, error) {
	for {
		v := e.member.View()
		got, err := f(v2tree.Tree{Prefix: e.options.Prefix, View: view{ctx, v}}, v)
		if !errors.Is(err, mvcc.ErrCompacted) || e.member.View() == v {
			return got, err
		}
	}
}

// may tells whether the caller may read or write a node's key, or all keys below it.
func (e *Edge) may(ctx context.Context, v *mvcc.View, kind auth.Kind, path string, below bool) error {
	if below {
		r := e.options.Prefix.Below(path)
		return e.member.MayKeys(ctx, v, kind, []byte(r.Key), []byte(r.End))
	}
	if path == "/" {
		return nil // it has no key
	}
	return e.member.MayKeys(ctx, v, kind, []byte(e.options.Prefix.Node(path)), nil)
}

// view is what a plan looks at.
type view struct {
	ctx  context.Context
	keys *mvcc.View
}

func (v view) Rev() int64 { return v.keys.Rev() }

func (v view) Get(key string) (v2tree.Entry, bool, error) {
	kv, ok, err := v.keys.Get([]byte(key))
	if err != nil || !ok {
		return v2tree.Entry{}, false, err
	}
	e, err := entry(kv)
	return e, err == nil, err
}

func (v view) Scan(r v2tree.Range, limit int64) ([]v2tree.Entry, error) {
	res, err := v.keys.Range(v.ctx, mvcc.RangeOptions{Key: []byte(r.Key), End: []byte(r.End), Limit: limit})
	if err != nil {
		return nil, err
	}
	all := make([]v2tree.Entry, len(res.KVs))
	for i, kv := range res.KVs {
		if all[i], err = entry(kv); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func entry(encoded []byte) (v2tree.Entry, error) {
	kv, err := wire.ParseKeyValue(encoded)
	return v2tree.Entry{Key: string(kv.Key), Value: kv.Value, Mod: kv.Mod, Lease: kv.Lease}, err
}

// leaseSeconds is the TTL of the lease that ends a node by itself, should this member not: not before its expiry.
func leaseSeconds(expiry int64, now time.Time) int64 {
	left := time.Unix(0, expiry).Sub(now)
	return max(1, int64((left+time.Second-1)/time.Second))
}
