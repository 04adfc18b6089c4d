package v2http

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"keelson/internal/state/v2tree"
)

// question is a request to /v2/keys as its method and form say it.
type question struct {
	v2tree.Request
	quorum, wait, stream, noValue bool
	// since is the first index that a waiting client wants to know of; 0 for the next.
	since uint64
	// expires is set where a TTL was given.
	ttl    uint64
	hasTTL bool
}

// parse reads the form of a request. Its checks and their order are 3.4's: of several mistakes the same one is told.
func parse(r *http.Request, now time.Time) (*question, error) {
	if err := r.ParseForm(); err != nil {
		return nil, v2tree.Refuse(v2tree.InvalidForm, err.Error(), 0)
	}
	q := &question{}
	q.Path = v2tree.Clean(strings.TrimPrefix(r.URL.Path, keysPath))
	q.InOrder, q.Remove = r.Method == http.MethodPost, r.Method == http.MethodDelete
	f := form{values: r.Form}
	q.PrevIndex = f.number(v2tree.IndexNaN, "prevIndex")
	q.since = f.number(v2tree.IndexNaN, "waitIndex")
	q.Recursive = f.flag("recursive", quoted("recursive"))
	f.flag("sorted", quoted("sorted")) // answers are always sorted
	q.wait = f.flag("wait", quoted("wait"))
	q.Dir = f.flag("dir", quoted("dir"))
	q.quorum = f.flag("quorum", quoted("quorum"))
	q.stream = f.flag("stream", quoted("stream"))
	if q.wait && r.Method != http.MethodGet {
		f.fail(v2tree.InvalidField, `"wait" can only be used with GET requests`)
	}
	if q.PrevValue = r.Form.Get("prevValue"); q.PrevValue == "" && r.Form.Has("prevValue") {
		f.fail(v2tree.PrevValueRequired, `"prevValue" cannot be empty`)
	}
	q.noValue = f.flag("noValueOnSuccess", quoted("noValueOnSuccess"))
	if q.hasTTL = r.Form.Get("ttl") != ""; q.hasTTL {
		q.ttl = f.number(v2tree.TTLNaN, "ttl")
		// The product overflows as in 3.4: what comes of that is no time, or one long past.
		q.Expiry = now.Add(time.Duration(q.ttl) * time.Second).UnixNano()
	}
	if r.Form.Has("prevExist") {
		exist := f.flag("prevExist", "invalid value for prevExist")
		q.PrevExist = &exist
	}
	q.Refresh = f.flag("refresh", "invalid value for refresh")
	if q.Value = r.Form.Get("value"); q.Refresh && q.Value != "" {
		f.fail(v2tree.RefreshValue, "A value was provided on a refresh")
	}
	if q.Refresh && !q.hasTTL {
		f.fail(v2tree.RefreshTTLRequired, "No TTL value set")
	}
	if f.first != nil {
		return nil, f.first
	}
	return q, nil
}

// form reads fields and keeps the first mistake.
type form struct {
	values url.Values
	first  error
}

func (f *form) fail(c v2tree.Code, cause string) {
	if f.first == nil {
		f.first = v2tree.Refuse(c, cause, 0)
	}
}

func (f *form) number(c v2tree.Code, key string) uint64 {
	if !f.values.Has(key) {
		return 0
	}
	n, err := strconv.ParseUint(f.values.Get(key), 10, 64)
	if err != nil {
		f.fail(c, quoted(key))
	}
	return n
}

func (f *form) flag(key, cause string) bool {
	if !f.values.Has(key) {
		return false
	}
	b, err := strconv.ParseBool(f.values.Get(key))
	if err != nil {
		f.fail(v2tree.InvalidField, cause)
	}
	return b
}

// quoted is the cause of most mistakes.
func quoted(key string) string { return `invalid value for "` + key + `"` }
