// Package jsonapi is the JSON edge: gRPC's methods under /v3/ (and /v3beta/, its older name), as grpc-gateway maps them. A call
// goes to the services in this process, through the gate that gRPC's calls pass, with the caller's token and nobody's certificate.
//
// Paths, bodies, codes and the order of things are etcd 3.7.3's: most handlers are those of etcd's published API module, and Lock
// and Election have theirs generated in the same way. Of our own are the ways of put and range, which would spend most of their time on
// JSON (hot.go), a path for KV.RangeStream, which etcd serves by gRPC alone, text instead of base64 (text.go), and
// /v3/keys/, where a value is the whole body (keys.go). A WebSocket carries one call of any method (websocket.go).
//
// cmd/etcd serves an Edge on the client ports. Every request is bounded in bytes and time: a stream that is not read for writeTime
// ends.
package jsonapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/electionpb"
	electiongw "keelson/internal/kit/electionpb/gw"
	"keelson/internal/kit/lockpb"
	lockgw "keelson/internal/kit/lockpb/gw"
)

// Prefixes are the paths that an Edge serves.
const (
	Prefix     = "/v3/"
	BetaPrefix = "/v3beta/"
)

const (
	// bodyFactor is how much larger a request may be in JSON than by gRPC: base64 takes a third more, names and blanks the rest.
	bodyFactor = 2
	// requestOverheadBytes is what a request may have beside MaxRequestBytes, by gRPC too.
	requestOverheadBytes = 512 << 10
	// writeTime is how long one piece of a stream may take to be read.
	writeTime = time.Minute
	// answerTime is how long an answer that is no stream's may take.
	answerTime = 10 * time.Minute
)

// State is what this edge asks of the member itself.
type State interface {
	AuthEnabled() bool
}

// Options configure an Edge.
type Options struct {
	// MaxRequestBytes is --max-request-bytes.
	MaxRequestBytes uint
	// ClientCertAuth says that clients have to bring a certificate, whose name is a user's elsewhere.
	ClientCertAuth bool
	Logger         *zap.Logger
}

// Edge serves JSON. Its owner ends the requests' contexts, then calls Wait.
type Edge struct {
	conn    grpc.ClientConnInterface
	state   State
	o       Options
	mux     *runtime.ServeMux
	bodyMax int64
	pool    pool
	// waitMax and writeMax are waitTime and writeTime, but in tests.
	waitMax, writeMax time.Duration
	// sockets counts the WebSockets: no server does.
	sockets sync.WaitGroup
}

// New makes an edge that calls the services at the other end of conn, which must be in this process: see hot.go.
func New(conn grpc.ClientConnInterface, s State, o Options) (*Edge, error) {
	e := &Edge{conn: conn, state: s, o: o, bodyMax: bodyFactor * (int64(o.MaxRequestBytes) + requestOverheadBytes), waitMax: waitTime, writeMax: writeTime}
	e.mux = runtime.NewServeMux(e.marshalers()...)
	ctx := context.Background() // of registration alone
	err := errors.Join(
		gw.RegisterKVHandlerClient(ctx, e.mux, pb.NewKVClient(conn)),
		gw.RegisterWatchHandlerClient(ctx, e.mux, pb.NewWatchClient(conn)),
		gw.RegisterLeaseHandlerClient(ctx, e.mux, pb.NewLeaseClient(conn)),
		gw.RegisterClusterHandlerClient(ctx, e.mux, pb.NewClusterClient(conn)),
		gw.RegisterMaintenanceHandlerClient(ctx, e.mux, pb.NewMaintenanceClient(conn)),
		gw.RegisterAuthHandlerClient(ctx, e.mux, pb.NewAuthClient(conn)),
		lockgw.RegisterLockHandlerClient(ctx, e.mux, lockpb.NewLockClient(conn)),
		electiongw.RegisterElectionHandlerClient(ctx, e.mux, electionpb.NewElectionClient(conn)),
		e.mux.HandlePath(http.MethodPost, rangeStreamPath, e.rangeStream),
	)
	return e, err
}

// Wait returns when no WebSocket is open any more.
func (e *Edge) Wait() { e.sockets.Wait() }

func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, BetaPrefix); ok {
		r.URL.Path = Prefix + rest
		if rest, ok := strings.CutPrefix(r.URL.RawPath, BetaPrefix); ok {
			r.URL.RawPath = Prefix + rest
		}
	}
	switch {
	case e.named(r):
		http.Error(w, "CommonName of client sending a request against gateway will be ignored and not used as expected", http.StatusBadRequest)
	case IsKey(r) && (r.Method == http.MethodGet || r.Method == http.MethodHead) && !websocket.IsWebSocketUpgrade(r):
		e.key(w, r)
	case websocket.IsWebSocketUpgrade(r):
		e.socket(w, r)
	case e.hot(w, r):
	default:
		e.plain(w, r)
	}
}

// named tells whether a request comes with the certificate of a user. Elsewhere that user would be the caller, here nobody: etcd
// refuses it, so that it is not taken for what it is not.
func (e *Edge) named(r *http.Request) bool {
	if r.TLS == nil || !e.o.ClientCertAuth || !e.state.AuthEnabled() {
		return false
	}
	for _, chain := range r.TLS.VerifiedChains {
		if len(chain) > 0 && chain[0].Subject.CommonName != "" {
			return true
		}
	}
	return false
}

// address is where a request came from, as the log of slow requests shows it.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// from gives a call's context what is known of who makes it.
func from(r *http.Request) context.Context {
	return peer.NewContext(r.Context(), &peer.Peer{Addr: address(r.RemoteAddr)})
}

// plain serves what needs neither speed nor a socket of its own.
func (e *Edge) plain(w http.ResponseWriter, r *http.Request) {
	e.negotiate(r)
	control := http.NewResponseController(w)
	// Some calls wait for others before they answer, and some never end: what is bounded is the time of a write. What can't be
	// bounded, such as a test's recorder, is served all the same.
	_ = control.SetWriteDeadline(time.Time{})
	out := &patient{ResponseWriter: w, control: control, limit: answerTime}
	switch r.URL.Path {
	case watchPath, keepAlivePath:
		// Requests may come as long as there are answers: each is bounded by its decoder.
		_ = control.SetReadDeadline(time.Time{})
		_ = control.EnableFullDuplex()
		out.limit = e.writeMax
	case snapshotPath, observePath, rangeStreamPath:
		out.limit = e.writeMax
		r.Body = http.MaxBytesReader(w, r.Body, e.bodyMax)
	default:
		r.Body = http.MaxBytesReader(w, r.Body, e.bodyMax)
	}
	e.mux.ServeHTTP(out, r.WithContext(from(r)))
}

// The paths with streams.
const (
	watchPath       = "/v3/watch"
	keepAlivePath   = "/v3/lease/keepalive"
	snapshotPath    = "/v3/maintenance/snapshot"
	observePath     = "/v3/election/observe"
	rangeStreamPath = "/v3/kv/rangestream"
)

// patient bounds each write, and no time between two.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

// Unwrap is for http.ResponseController.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *patient) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(p.limit))
	return p.ResponseWriter.Write(b)
}

// FlushError sends what was written. Of HTTP/2 a deadline that passes ends the stream, also where nobody writes: it is lifted.
func (p *patient) FlushError() error {
	defer func() { _ = p.control.SetWriteDeadline(time.Time{}) }()
	return p.control.Flush()
}

// rangeStream serves KV.RangeStream as other streams are served. etcd has no path for it.
func (e *Edge) rangeStream(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	in, out := runtime.MarshalerForRequest(e.mux, r)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	ctx, err := runtime.AnnotateContext(ctx, e.mux, r, pb.KV_RangeStream_FullMethodName, runtime.WithHTTPPathPattern(rangeStreamPath))
	if err != nil {
		runtime.HTTPError(r.Context(), e.mux, out, w, r, err)
		return
	}
	ask := &pb.RangeRequest{}
	if err := decodeOne(in, r.Body, ask); err != nil {
		runtime.HTTPError(ctx, e.mux, out, w, r, err)
		return
	}
	stream, err := pb.NewKVClient(e.conn).RangeStream(ctx, ask)
	if err != nil {
		runtime.HTTPError(ctx, e.mux, out, w, r, err)
		return
	}
	ctx = runtime.NewServerMetadataContext(ctx, runtime.ServerMetadata{})
	runtime.ForwardResponseStream(ctx, e.mux, out, w, r, func() (proto.Message, error) { return stream.Recv() })
}
