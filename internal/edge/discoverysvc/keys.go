package discoverysvc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"keelson/internal/state/v2tree"
)

const (
	// valueBytesMax bounds what a member registers: its name and some peer URLs.
	valueBytesMax = 2 << 10
	// bodyBytesMax is room for such a value with every byte escaped, and the other fields.
	bodyBytesMax = 3*valueBytesMax + 1<<10
	// takeTime is how long a client may take to read an answer that came late.
	takeTime = time.Minute
)

// question is a request for a node as its form says it.
type question struct {
	place
	recursive, wait bool
	// since is the first index that a waiting client wants to know of; 0 for the next.
	since uint64
}

// keys serves what is below a token.
func (s *Service) keys(w http.ResponseWriter, r *http.Request, from netip.Addr) {
	at, ok := parsePath(r.URL)
	if !ok {
		// Nothing is there, whatever state that is; the index of v2's answers is never 0.
		s.refuse(w, v2tree.Refuse(v2tree.KeyNotFound, v2tree.Clean(r.URL.Path), 1))
		return
	}
	methods := []string{http.MethodGet, http.MethodHead}
	if at.member {
		methods = append(methods, http.MethodPut)
	}
	if !allow(w, r, methods...) {
		return
	}
	if r.Method == http.MethodPut {
		s.put(w, r, at)
		return
	}
	q, err := parseQuestion(at, r.URL.Query())
	switch {
	case err != nil:
		s.refuse(w, err)
	case q.wait && r.Method == http.MethodGet:
		s.wait(w, r, q, from)
	default:
		s.get(w, r, q)
	}
}

// parseQuestion reads the fields that v2 has for reading. Answers are always sorted, and always of the newest state.
func parseQuestion(at place, v url.Values) (*question, error) {
	q := &question{place: at}
	var stream, ignored bool
	for _, f := range []struct {
		name string
		to   *bool
	}{{"recursive", &q.recursive}, {"wait", &q.wait}, {"stream", &stream}, {"sorted", &ignored}, {"quorum", &ignored}} {
		if !v.Has(f.name) {
			continue
		}
		var err error
		if *f.to, err = strconv.ParseBool(v.Get(f.name)); err != nil {
			return nil, v2tree.Refuse(v2tree.InvalidField, `invalid value for "`+f.name+`"`, 0)
		}
	}
	if stream {
		return nil, v2tree.Refuse(v2tree.InvalidField, `"stream" is not served here: ask again with "waitIndex"`, 0)
	}
	if v.Has("waitIndex") {
		var err error
		if q.since, err = strconv.ParseUint(v.Get("waitIndex"), 10, 64); err != nil {
			return nil, v2tree.Refuse(v2tree.IndexNaN, `invalid value for "waitIndex"`, 0)
		}
	}
	return q, nil
}

// get answers with a node.
func (s *Service) get(w http.ResponseWriter, r *http.Request, q *question) {
	var (
		d  *directory
		ev *v2tree.Event
	)
	err := s.tokens.within(r.Context(), func(ctx context.Context) (err error) {
		if d, err = s.tokens.look(ctx, q.token); err != nil {
			return err
		}
		ev, err = d.tree.Get(q.clean, q.recursive, s.o.Clock.Now())
		return err
	})
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, d.header.GetClusterId(), ev)
}

// put registers a member. Other than at etcd a member that is there can't be changed: whoever knows the token could put
// another one in its place.
func (s *Service) put(w http.ResponseWriter, r *http.Request, at place) {
	value, err := parseValue(r)
	if err != nil {
		s.refuse(w, err)
		return
	}
	var ev *v2tree.Event
	err = s.tokens.within(r.Context(), func(ctx context.Context) (err error) {
		ev, err = s.tokens.register(ctx, at, value)
		return err
	})
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.metrics.registered.Inc()
	s.answer(w, 0, ev)
}

// parseValue reads what a member registers, and refuses a form that asks for anything but a new node.
func parseValue(r *http.Request) (string, error) {
	if err := r.ParseForm(); err != nil {
		return "", v2tree.Refuse(v2tree.InvalidForm, err.Error(), 0)
	}
	for _, name := range []string{"prevValue", "prevIndex", "ttl", "refresh", "dir"} {
		if v := r.Form.Get(name); v != "" && v != "false" {
			return "", v2tree.Refuse(v2tree.InvalidField, `"`+name+`" is not served here: members are registered once, with "prevExist=false"`, 0)
		}
	}
	if r.Form.Has("prevExist") {
		if exist, err := strconv.ParseBool(r.Form.Get("prevExist")); err != nil || exist {
			return "", v2tree.Refuse(v2tree.InvalidField, `invalid value for "prevExist": members are registered once, with "prevExist=false"`, 0)
		}
	}
	value := r.Form.Get("value")
	if value == "" || len(value) > valueBytesMax {
		return "", v2tree.Refuse(v2tree.InvalidField, `invalid value for "value": give NAME=PEER_URL, of at most `+strconv.Itoa(valueBytesMax)+" bytes", 0)
	}
	return value, nil
}

// wait answers with the first node that was made at an index or after it, now or as soon as it is.
func (s *Service) wait(w http.ResponseWriter, r *http.Request, q *question, from netip.Addr) {
	x, leave, err := s.waits.join(q.token, from)
	if err != nil {
		s.refuse(w, err)
		return
	}
	defer leave()
	end := s.o.Clock.NewTimer(s.waits.longest)
	defer end.Stop()
	control := http.NewResponseController(w)
	for told := false; ; told = true {
		var d *directory
		err := s.tokens.within(r.Context(), func(ctx context.Context) (err error) {
			d, err = s.tokens.look(ctx, q.token)
			return err
		})
		if err != nil && !told {
			s.refuse(w, err)
			return
		}
		if err != nil {
			return // the empty answer has the client ask again, and be told
		}
		if !told {
			if q.since == 0 {
				q.since = uint64(d.Rev()) + 1
			}
			s.place(w, d.header.GetClusterId(), uint64(d.Rev()))
			w.WriteHeader(http.StatusOK)
		}
		if ev := d.since(q, s.o.Clock.Now()); ev != nil {
			// What can't be bounded, such as a test's recorder, is served all the same.
			_ = control.SetWriteDeadline(s.o.Clock.Now().Add(takeTime))
			body, _ := encode(ev)
			_, _ = w.Write(body) // a client that has gone needs no answer
			return
		}
		if !told {
			_ = control.Flush() // proxies between want to hear something
		}
		select {
		case <-x.news:
		case <-end.C:
			return
		case <-r.Context().Done():
			return
		case <-s.waits.stopped:
			return
		}
	}
}

// since gives the event of the first node that a waiting client asks for, nil if there is none yet. Hidden nodes are left out,
// but where one is asked for itself; directories that came with what is in them have no event, as in v2.
func (d *directory) since(q *question, now time.Time) *v2tree.Event {
	for _, n := range d.nodes() {
		below := q.recursive && len(n.path) > len(q.clean) && n.path[:len(q.clean)+1] == q.clean+"/" && !d.hidden(n)
		if n.Created < q.since || n.Implicit || n.path != q.clean && !below {
			continue
		}
		ev, err := d.tree.Get(n.path, false, now)
		if err != nil {
			continue // what is above it is gone
		}
		ev.Action = v2tree.Create.String()
		return ev
	}
	return nil
}

// place tells in an answer which state it is of.
func (s *Service) place(w http.ResponseWriter, cluster, index uint64) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Etcd-Index", strconv.FormatUint(index, 10))
	if cluster != 0 {
		h.Set("X-Etcd-Cluster-Id", strconv.FormatUint(cluster, 16))
	}
}

// answer writes what a read found or what a change did.
func (s *Service) answer(w http.ResponseWriter, cluster uint64, ev *v2tree.Event) {
	body, err := encode(ev)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.place(w, cluster, ev.Index)
	if ev.Created() {
		w.WriteHeader(http.StatusCreated)
	}
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// encode gives an event or an error as a line of JSON.
func encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	return append(body, '\n'), err
}

// statuses are those of the codes that have one of their own; all others are bad requests.
var statuses = map[v2tree.Code]int{
	v2tree.KeyNotFound: http.StatusNotFound, v2tree.NotFile: http.StatusForbidden, v2tree.NodeExist: http.StatusPreconditionFailed,
	noMorePeer: http.StatusForbidden, v2tree.RaftInternal: http.StatusServiceUnavailable,
}

// refuse answers a member with an error. What may pass is a 503: members that ask whether they have found each other try again
// then, and would give up at a 429.
func (s *Service) refuse(w http.ResponseWriter, err error) {
	var v2 *v2tree.Error
	if !errors.As(err, &v2) {
		v2 = v2tree.Refuse(v2tree.RaftInternal, s.excuse(err), 0)
		w.Header().Set("Retry-After", retryAfter)
	}
	body, err := encode(v2)
	if err != nil {
		plain(w, http.StatusInternalServerError, err.Error())
		return
	}
	status, ok := statuses[v2.Code]
	if !ok {
		status = http.StatusBadRequest
	}
	s.place(w, 0, v2.Index)
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// retryAfter is the seconds after which one who was sent away may come again.
const retryAfter = "5"

// excuse is what strangers are told of an error that they can do nothing about, and counts it. The log has the rest.
func (s *Service) excuse(err error) string {
	refused := func(reason string) { s.metrics.refused.WithLabelValues(reason).Inc() }
	switch {
	case errors.Is(err, errOften):
		refused(refusedRate)
		return "too many requests from your address: try again later"
	case errors.Is(err, errFull):
		refused(refusedFull)
		if s.tokens.seldom.Due("full") {
			s.o.Logger.Warn("no more tokens are taken: --max-tokens bounds them, and they end after a week")
		}
		return "this service keeps as many tokens as it may: try again later"
	case errors.Is(err, errBusy):
		refused(refusedBusy)
		return "too many requests are waiting: try again later"
	}
	refused(refusedUnavailable)
	s.tokens.failed(err)
	return "the cluster that keeps the tokens does not answer: try again later"
}
