// Package v2http is the HTTP edge for etcd's v2 API: /v2/keys, /v2/members, /v2/stats and /v2/machines, with the bodies, codes
// and headers of etcd 3.4.23. What keys mean is package v2tree's: this one reads forms, has transactions made through the
// member, and keeps the newest events for those who wait. cmd/etcd serves Handler on the client ports where --enable-v2 is set.
//
// A write is planned on the newest view of this member and proposed as one v3 transaction that depends on what the plan looked
// at; where that changed meanwhile, it is planned anew. A refusal is an answer only if it comes of a view that was up to date
// when the request began, or later.
//
// Each caller's v3 permissions for the keys below the prefix count, as for any v3 client: the member checks them once more when
// it applies. Guard is a second gate in front, for v2's own users.
package v2http

import (
	"context"
	"net/http"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/wire"
	"keelson/internal/state/auth"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/v2tree"
	"keelson/internal/state/watch"
)

// Member is what this edge asks of the member.
type Member interface {
	Keys
	Members
	Callers
	ID() uint64
	ClusterID() uint64
	// Progress gives how far the log is committed, and the term.
	Progress() (index, term uint64)
}

// Keys reads and writes keys and leases.
type Keys interface {
	// View gives the keys at the newest published revision; LinearizableRead returns once it shows all that was
	// acknowledged before.
	View() *mvcc.View
	LinearizableRead(ctx context.Context) error
	Txn(ctx context.Context, r *pb.TxnRequest) (*wire.TxnResponse, error)
	LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error)
	LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error)
	LeaseUsed(id int64) bool
	Watch() *watch.Hub
}

// Members tells who belongs to the cluster, and changes it.
type Members interface {
	MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error)
	MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error)
	MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error)
	MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error)
	// Leader is the leader's ID, 0 for none, and LeaderSince when it was first seen.
	Leader() uint64
	LeaderSince() time.Time
}

// Callers tells what callers may do.
type Callers interface {
	AuthEnabled() bool
	WithPassword(ctx context.Context, r *pb.AuthenticateRequest) (context.Context, error)
	May(ctx context.Context, kind auth.Kind) error
	MayKeys(ctx context.Context, v *mvcc.View, kind auth.Kind, key, end []byte) error
	MayWatch(ctx context.Context, key, end []byte) (still func() error, err error)
}

// Guard is the gate of v2's own users, asked before anything else looks at a request.
type Guard interface {
	// MayKeys tells whether who sends r may read a path, or write it; recursive: and all below it.
	MayKeys(r *http.Request, path string, write, recursive bool) bool
	// MayAdmin tells whether who sends r may look after members.
	MayAdmin(r *http.Request) bool
}

// Options say how the edge serves. Prefix, Timeout and Clock are required.
type Options struct {
	Prefix v2tree.Prefix
	// Timeout bounds a request that does not wait for events.
	Timeout time.Duration
	// MaxRequestBytes bounds a change as v3 counts it; 0: 1.5 MiB, etcd's default.
	MaxRequestBytes uint
	// ClientCertAuth: clients have to bring a certificate, whose common name is a v3 user's.
	ClientCertAuth bool
	// Guard, if not nil, is asked before everything.
	Guard Guard
	// Auth, if not nil, serves /v2/auth.
	Auth   http.Handler
	Name   string
	Clock  clock.Clock
	Logger *zap.Logger
	// Traffic is told of the messages between members, for /v2/stats; nil: there are none.
	Traffic *Traffic
	// WaitsMax bounds the requests that wait for events at once; 0 for the default.
	WaitsMax int
}

// waitsMaxDefault is how many requests may wait: with its connection, goroutine and 100 events that it has not taken yet one
// holds about 40 KiB.
const waitsMaxDefault = 20_000

// formBytes is how large the body of a request may be: a form may write each byte as three, and has names beside.
func (o Options) formBytes() int64 { return 3*int64(o.MaxRequestBytes) + 512<<10 }

// Edge serves the v2 API of one member. Its goroutines begin with New and end with Close.
type Edge struct {
	member  Member
	options Options
	hub     *hub
	ends    *ends
	turns   turns
	stats   stats
	began   time.Time
}

// New makes the edge and starts to follow the member's events.
func New(m Member, o Options) *Edge {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = 3 << 19
	}
	if o.WaitsMax == 0 {
		o.WaitsMax = waitsMaxDefault
	}
	e := &Edge{member: m, options: o, turns: turns{waiting: map[string]*turn{}}, began: o.Clock.Now()}
	e.ends = newEnds(m, o)
	e.hub = newHub(m, o, &e.stats, e.ends)
	return e
}

// Close ends every waiting request and the edge's goroutines, and joins those.
func (e *Edge) Close() {
	e.hub.close()
	e.ends.close()
}

// Handler serves everything below /v2/.
func (e *Edge) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", http.NotFound)
	mux.HandleFunc(keysPath, e.keys)
	mux.HandleFunc(keysPath+"/", e.keys)
	mux.HandleFunc(membersPath, roster{e}.members)
	mux.HandleFunc(membersPath+"/", roster{e}.members)
	mux.HandleFunc("/v2/machines", roster{e}.machines)
	mux.HandleFunc("/v2/stats/store", e.statsStore)
	mux.HandleFunc("/v2/stats/self", e.statsSelf)
	mux.HandleFunc("/v2/stats/leader", e.statsLeader)
	if e.options.Auth != nil {
		mux.Handle("/v2/auth", http.NotFoundHandler()) // a mux would add the slash
		mux.Handle("/v2/auth/", e.options.Auth)
	}
	return mux
}

// caller gives the context of a request with its v3 caller in it.
func (e *Edge) caller(ctx context.Context, r *http.Request) (context.Context, error) {
	return Caller(ctx, e.member, e.options.ClientCertAuth, r)
}

// Caller gives the context of a request: who sends it, by HTTP's Basic credentials of a v3 user or, where certified is set, by a
// certificate. Where nobody has to say, nobody is asked; a member that asks later finds no caller and refuses.
func Caller(ctx context.Context, m Callers, certified bool, r *http.Request) (context.Context, error) {
	if !m.AuthEnabled() {
		return ctx, nil
	}
	if name, password, ok := r.BasicAuth(); ok {
		return m.WithPassword(ctx, &pb.AuthenticateRequest{Name: name, Password: password})
	}
	if certified && r.TLS != nil {
		for _, chain := range r.TLS.VerifiedChains {
			if len(chain) > 0 {
				return auth.With(ctx, &auth.Credentials{CommonName: chain[0].Subject.CommonName, Certified: true}), nil
			}
		}
	}
	return nil, auth.ErrUserEmpty
}

// allow answers 405 to a method that is not one of some.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	list := ""
	for _, m := range methods {
		if r.Method == m {
			return true
		}
		list += "," + m
	}
	w.Header().Set("Allow", list[1:])
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}
