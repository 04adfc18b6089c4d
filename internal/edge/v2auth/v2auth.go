// Package v2auth is the HTTP edge for the users and roles of etcd's v2 API: /v2/auth, with the bodies and codes of etcd
// 3.4.23, and the gate in front of /v2/keys and /v2/members while they are enabled. What requests mean is said by the state
// package of the same name; this one reads the records in the member's newest view, and changes each by a transaction that
// depends on what it was.
//
// These users are no gate before the v3 API, which reaches the same keys: only v3's own auth is. While that is enabled a
// caller must be one of its users, who may do what the request does with the records; what v2's users may is asked besides.
//
// Passwords are checked by the member, with v3's: all checks together take a bounded part of the machine.
package v2auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/kit/password"
	"keelson/internal/kit/wire"
	"keelson/internal/state/auth"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/v2auth"
	"keelson/internal/state/v2tree"
)

// Member is what this edge asks of the member.
type Member interface {
	ClusterID() uint64
	View() *mvcc.View
	LinearizableRead(ctx context.Context) error
	// Passwords checks those of v3's users too: all checks of a member take one bounded part of the machine.
	Passwords() *password.Checker
	Txn(ctx context.Context, r *pb.TxnRequest) (*wire.TxnResponse, error)
	// MayKeys tells whether the caller may read or write keys, by v3's rules.
	MayKeys(ctx context.Context, v *mvcc.View, kind auth.Kind, key, end []byte) error
}

// Options say how the edge serves. Prefix, Timeout and Caller are required.
type Options struct {
	Prefix v2tree.Prefix
	// Timeout bounds a request.
	Timeout time.Duration
	// Caller gives the context of a request with its v3 caller in it.
	Caller func(ctx context.Context, r *http.Request) (context.Context, error)
	// ClientCertAuth: who brings a certificate and no password is the user whom it names.
	ClientCertAuth bool
	Logger         *zap.Logger // nil: none
}

// checked is the name by which the checker knows a user, apart from v3's of the same name.
func checked(user string) string { return "v2/" + user }

// Edge serves /v2/auth of one member and guards the rest of /v2.
type Edge struct {
	member    Member
	options   Options
	passwords *password.Checker
}

// New makes the edge.
func New(m Member, o Options) *Edge {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return &Edge{member: m, options: o, passwords: m.Passwords()}
}

const (
	authPath   = "/v2/auth"
	rolesPath  = authPath + "/roles"
	usersPath  = authPath + "/users"
	enablePath = authPath + "/enable"
)

// Handler serves everything below /v2/auth/.
func (e *Edge) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", http.NotFound)
	mux.HandleFunc(rolesPath, e.with(call.listRoles, http.MethodGet))
	mux.HandleFunc(rolesPath+"/", e.named(call.listRoles, call.role))
	mux.HandleFunc(usersPath, e.with(call.listUsers, http.MethodGet))
	mux.HandleFunc(usersPath+"/", e.named(call.listUsers, call.user))
	mux.HandleFunc(enablePath, e.with(call.enable, http.MethodGet, http.MethodPut, http.MethodDelete))
	return mux
}

// call is one request for which the caller has the credentials.
type call struct {
	*Edge
	ctx context.Context
	w   http.ResponseWriter
	r   *http.Request
}

// with lets a request with one of some methods pass whose sender may look after users: a user with role root. Whether auth is
// enabled may be asked by anybody.
func (e *Edge) with(serve func(call) error, methods ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !allow(w, r, methods) {
			return
		}
		anybody := r.URL.Path == enablePath && r.Method == http.MethodGet
		if !anybody && !e.mayRoot(r) {
			message(w, http.StatusUnauthorized, insufficient)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), e.options.Timeout)
		defer cancel()
		w.Header().Set("X-Etcd-Cluster-ID", strconv.FormatUint(e.member.ClusterID(), 16))
		w.Header().Set("Content-Type", "application/json")
		ctx, err := e.options.Caller(ctx, r)
		if err == nil {
			err = serve(call{e, ctx, w, r})
		}
		if err != nil {
			e.refuse(w, err)
		}
	}
}

// named serves what is below the list of users or roles.
func (e *Edge) named(list func(call) error, one func(call, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch pieces := strings.Split(path.Clean(strings.TrimPrefix(r.URL.Path, authPath)), "/"); len(pieces) {
		case 2:
			e.with(list, http.MethodGet)(w, r)
		case 3:
			serve := func(c call) error { return one(c, pieces[2]) }
			e.with(serve, http.MethodGet, http.MethodPut, http.MethodDelete)(w, r)
		default:
			message(w, http.StatusBadRequest, "Invalid path")
		}
	}
}

func allow(w http.ResponseWriter, r *http.Request, methods []string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ","))
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// insufficient is what all are told who may not do what they ask, as in 3.4: it doesn't say whether the user exists.
const insufficient = "Insufficient credentials"

// badRequest is a request that says nothing that can be meant.
type badRequest string

// Error gives the text as v2 answers it.
func (b badRequest) Error() string { return string(b) }

var statuses = map[v2auth.Kind]int{
	v2auth.Invalid: http.StatusBadRequest, v2auth.NotFound: http.StatusNotFound, v2auth.Conflict: http.StatusConflict, v2auth.Forbidden: http.StatusForbidden,
}

// refuse answers with an error.
func (e *Edge) refuse(w http.ResponseWriter, err error) {
	var (
		refused *v2auth.Error
		bad     badRequest
	)
	switch {
	case errors.As(err, &refused):
		message(w, statuses[refused.Kind], refused.Error())
		return
	case errors.As(err, &bad):
		message(w, http.StatusBadRequest, bad.Error())
		return
	}
	for _, is := range []error{auth.ErrUserEmpty, auth.ErrDenied, auth.ErrFailed, auth.ErrUserNotFound, auth.ErrNoPasswordUser, auth.ErrInvalidToken} {
		if errors.Is(err, is) {
			message(w, http.StatusUnauthorized, insufficient)
			return
		}
	}
	e.options.Logger.Warn("v2 auth response error", zap.Error(err))
	message(w, http.StatusInternalServerError, "Internal Server Error")
}

func message(w http.ResponseWriter, status int, text string) {
	body, err := json.Marshal(struct {
		Message string `json:"message"`
	}{text})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// reply answers with a line of JSON.
func (c call) reply(status int, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(text, '\n')) // a client that has gone needs no answer
	return nil
}

// bodyBytesMax bounds the body of a request: some thousand roles or patterns.
const bodyBytesMax = 1 << 20

// read reads the JSON in a request's body: its first value, as 3.4 does.
func (c call) read(to any) error {
	if err := json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, bodyBytesMax)).Decode(to); err != nil {
		return badRequest("Invalid JSON in request body.")
	}
	return nil
}

// hash is how passwords are kept.
func (e *Edge) hash(p string) (string, error) {
	h, err := e.passwords.Hash(p)
	if err != nil {
		return "", fmt.Errorf("v2auth: %w", err)
	}
	return string(h), nil
}
