package v2store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

var (
	// ErrMalformed is returned when bytes are no v2 request.
	ErrMalformed = errors.New("v2store: malformed request")
	// ErrUnknownMethod is returned for a request that no version of etcd has made: the tree behind it is anybody's guess.
	ErrUnknownMethod = errors.New("v2store: unknown method")
)

// Methods of requests in a log.
const (
	MethodPost   = "POST"   // create in order
	MethodPut    = "PUT"    // set, create, update, compare and swap
	MethodDelete = "DELETE" // delete, compare and delete
	MethodSync   = "SYNC"   // expire what the time says
	MethodQGet   = "QGET"   // read
)

// Request is a v2 request as logs hold it: message etcdserverpb.Request, without what only matters while it is answered.
type Request struct {
	Method, Path, Value string
	Dir, Recursive      bool
	PrevValue           string
	PrevIndex           uint64
	// PrevExist is nil where nothing was asked for.
	PrevExist *bool
	// Expiration and Time are Unix times in nanoseconds; Expiration is 0 for never. Time is a SYNC's.
	Expiration, Time int64
	// Refresh keeps the value and renews the TTL.
	Refresh bool
}

// Field numbers of etcdserverpb.Request, and of the message around it.
const (
	aroundField     protowire.Number = 2 // in InternalRaftRequest
	idField         protowire.Number = 1
	methodField     protowire.Number = 2
	pathField       protowire.Number = 3
	valueField      protowire.Number = 4
	dirField        protowire.Number = 5
	prevValueField  protowire.Number = 6
	prevIndexField  protowire.Number = 7
	prevExistField  protowire.Number = 8
	expirationField protowire.Number = 9
	recursiveField  protowire.Number = 12
	timeField       protowire.Number = 15
	refreshField    protowire.Number = 17
)

// Parse reads a request, bare or inside an InternalRaftRequest. ErrMalformed where b is none.
func Parse(b []byte) (Request, error) {
	if inner, ok := inside(b); ok {
		b = inner
	}
	var r Request
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return r, fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
		}
		b = b[n:]
		switch typ {
		case protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n >= 0 {
				r.text(num, string(v))
			}
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				r.number(num, v)
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return r, fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return r, nil
}

func (r *Request) text(num protowire.Number, v string) {
	switch num {
	case methodField:
		r.Method = v
	case pathField:
		r.Path = v
	case valueField:
		r.Value = v
	case prevValueField:
		r.PrevValue = v
	}
}

func (r *Request) number(num protowire.Number, v uint64) {
	switch num {
	case dirField:
		r.Dir = v != 0
	case prevIndexField:
		r.PrevIndex = v
	case prevExistField:
		r.PrevExist = new(v != 0)
	case expirationField:
		r.Expiration = int64(v)
	case recursiveField:
		r.Recursive = v != 0
	case timeField:
		r.Time = int64(v)
	case refreshField:
		r.Refresh = v != 0
	}
}

// inside finds field 2 of an InternalRaftRequest: a message, where a bare Request has the method's short word.
func inside(b []byte) ([]byte, bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		if num == aroundField && typ == protowire.BytesType {
			v, m := protowire.ConsumeBytes(b[n:])
			// A request starts with its ID, field 1; no method starts with that tag's byte.
			if m < 0 || len(v) == 0 || v[0] != byte(protowire.EncodeTag(idField, protowire.VarintType)) {
				return nil, false
			}
			return v, true
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return nil, false
		}
		b = b[n+m:]
	}
	return nil, false
}

// Known tells whether the method is one that etcd logs.
func (r *Request) Known() bool {
	switch r.Method {
	case MethodPost, MethodPut, MethodDelete, MethodSync, MethodQGet:
		return true
	}
	return false
}

// Own tells whether the request is the cluster's own doing: it publishes a member or the version, or changes nothing of a
// user's.
func (r *Request) Own() bool {
	return r.Method == MethodSync || r.Method == MethodQGet || strings.HasPrefix(clean(r.Path)+"/", Cluster+"/")
}

// Apply executes a request. ErrRefused where it changes nothing, ErrUnknownMethod.
func (s *Store) Apply(r *Request) error {
	c := content{value: r.Value, dir: r.Dir, refresh: r.Refresh}
	if r.Expiration != 0 {
		c.expires = time.Unix(0, r.Expiration)
	}
	switch r.Method {
	case MethodPost:
		return s.create(r.Path, c, true, false)
	case MethodPut:
		return s.put(r, c)
	case MethodDelete:
		if r.PrevIndex > 0 || r.PrevValue != "" {
			n, err := s.compare(r.Path, r.PrevValue, r.PrevIndex)
			if err != nil {
				return err
			}
			s.index++
			s.drop(n)
			return nil
		}
		return s.remove(r.Path, r.Dir, r.Recursive)
	case MethodSync:
		s.sync(time.Unix(0, r.Time))
		return nil
	case MethodQGet:
		return nil
	}
	return fmt.Errorf("%w: %q", ErrUnknownMethod, r.Method)
}

func (s *Store) put(r *Request, c content) error {
	compared := r.PrevIndex > 0 || r.PrevValue != ""
	switch {
	case r.PrevExist != nil && !*r.PrevExist:
		return s.create(r.Path, c, false, false)
	case compared:
		n, err := s.compare(r.Path, r.PrevValue, r.PrevIndex)
		if err != nil {
			return err
		}
		s.write(n, c)
		return nil
	case r.PrevExist != nil:
		return s.update(r.Path, c)
	}
	return s.set(r.Path, c)
}
