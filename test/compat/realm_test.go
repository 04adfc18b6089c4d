package compat

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"keelson/test/authority"
	"keelson/test/process"
)

// identity is who makes a call: with which certificate, and with which token.
type identity struct {
	name string
	// cert names a certificate; empty: a port without TLS.
	cert string
	// user gets a token by password; empty: none.
	user string
	// token makes one instead.
	token func(*realm) string
	// self is the user whom calls name as the caller.
	self string
	// stranger is refused by TLS: whatever the text of the broken connection is.
	stranger bool
}

func identities() []identity {
	return []identity{
		{name: "nobody", self: "reader"},
		{name: "a certificate without a name", cert: "blank", self: "reader"},
		{name: "a certificate of no user", cert: "stranger", self: "stranger"},
		{name: "a user without a role", user: "idle", self: "idle"},
		{name: "a reader", user: "reader", self: "reader"},
		{name: "a writer of another range", user: "writer", self: "writer"},
		{name: "root", user: "root", self: "root"},
		{name: "an expired token", token: func(r *realm) string { return r.expired }, self: "root"},
		{name: "a forged token", token: (*realm).forged, self: "root"},
		{name: "an unsigned token", token: (*realm).unsigned, self: "root"},
		{name: "a token of an older revision", token: (*realm).old, self: "root"},
		{name: "an empty token", token: func(*realm) string { return "" }, self: "root"},
		{name: "a certificate of another CA", cert: "alien", self: "root", stranger: true},
		{name: "a revoked certificate", cert: "revoked", self: "root", stranger: true},
		{name: "a certificate of a reader", cert: "reader", self: "reader"},
		{name: "a certificate of a user without password", cert: "keyless", self: "keyless"},
		{name: "a certificate of root", cert: "root", self: "root"},
		{name: "a certificate of root and a reader's token", cert: "root", user: "reader", self: "reader"},
		{name: "a certificate of root and a forged token", cert: "root", token: (*realm).forged, self: "root"},
	}
}

// mode is a kind of tokens.
type mode string

const (
	simpleTokens mode = "simple"
	jwtTokens    mode = "jwt"
)

const (
	// simpleTTL is how long an unused simple token lives, in seconds; servers look once a second.
	simpleTTL = 3
	// freshTime is how long a token is used before another is asked for.
	freshTime = time.Second
	// passwordOf is what stands before a user's name in its password.
	passwordOf = "password of "
)

// realm is one server with TLS and users, and the ways to call it.
type realm struct {
	t     *testing.T
	m     *process.Member
	mode  mode
	key   []byte // of JWTs
	tls   string // the address of the TLS port
	certs map[string]*tls.Config
	conns map[string]*grpc.ClientConn
	// way makes the calls of identities; nil: by gRPC. clients are by certificate.
	way     func(cert, token, full string, req proto.Message) answer
	clients map[string]*http.Client
	// only, if set, tells which rows are called.
	only func(row) bool
	// tokens are good since some time; none outlives a change of users.
	tokens  map[string]string
	taken   map[string]time.Time
	expired string
	id      uint64
	now     holdings // what the server holds, after the newest call
	// as has others authenticate for identities: see TestIdentityTable.
	as map[string]string
}

// newRealm starts a server of a program with tokens of a kind, and fills it.
func newRealm(t *testing.T, p process.Program, kind mode) *realm {
	t.Helper()
	r := &realm{
		t: t, m: single(t, p), mode: kind, key: make([]byte, 64), tls: process.FreeAddrs(t, 1)[0], certs: map[string]*tls.Config{},
		conns: map[string]*grpc.ClientConn{}, tokens: map[string]string{}, taken: map[string]time.Time{},
	}
	_, _ = rand.Read(r.key) // it never fails
	r.m.Flags = append(r.m.Flags, r.flags()...)
	r.m.Serve()
	s, ok := r.asRoot(&pb.StatusRequest{}).(*pb.StatusResponse)
	if !ok {
		t.Fatal("no status")
	}
	r.id = s.Header.MemberId
	r.restore()
	if r.mode == simpleTokens {
		r.expire()
	} else {
		r.expired = r.sign("HS256", r.key, "root", r.now.authRev, -time.Hour)
	}
	return r
}

// flags makes certificates and gives the flags of a server that trusts them.
func (r *realm) flags() []string {
	dir := r.t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca, alien := authority.New(r.t, "clients"), authority.New(r.t, "others")
	server := ca.Local(dir, "server")
	for name, cn := range map[string]string{
		"blank": "", "stranger": "stranger", "reader": "reader", "keyless": "keyless", "root": "root", "alien": "root", "revoked": "root",
	} {
		from := ca
		if name == "alien" {
			from = alien
		}
		pair := from.Local(dir, name, func(c *x509.Certificate) { c.Subject.CommonName = cn })
		if name == "revoked" {
			ca.Revoke(file("ca.crl"), pair)
		}
		r.certs[name] = authority.Client(&pair, ca)
	}
	authority.Bundle(r.t, file("ca.pem"), ca)
	plain, secure := "http://"+r.m.ClientAddr, "https://"+r.tls
	token := "--auth-token=simple"
	if r.mode == jwtTokens {
		authority.Replace(r.t, file("jwt.key"), r.key)
		token = "--auth-token=jwt,sign-method=HS256,ttl=10m,priv-key=" + file("jwt.key")
	}
	return []string{
		"--listen-client-urls=" + plain + "," + secure, "--advertise-client-urls=" + plain + "," + secure,
		"--cert-file=" + server.CertFile, "--key-file=" + server.KeyFile, "--client-cert-auth=true",
		"--trusted-ca-file=" + file("ca.pem"), "--client-crl-file=" + file("ca.crl"),
		token, fmt.Sprintf("--auth-token-ttl=%d", simpleTTL), "--bcrypt-cost=4", "--unsafe-no-fsync=true",
	}
}

// conn connects with a certificate, once.
func (r *realm) conn(cert string) *grpc.ClientConn {
	if c := r.conns[cert]; c != nil {
		return c
	}
	address, creds := r.m.ClientAddr, insecure.NewCredentials()
	if cert != "" {
		address, creds = r.tls, credentials.NewTLS(r.certs[cert].Clone())
	}
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	r.conns[cert] = c
	return c
}

// alert is what a connection with a certificate ends with when it waits for the server's first word.
func (r *realm) alert(cert string) string {
	d := tls.Dialer{Config: r.certs[cert].Clone()}
	ctx, cancel := context.WithTimeout(r.t.Context(), process.Patience)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", r.tls)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = c.SetReadDeadline(end) // a connection that is closed tells at the read
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return fmt.Sprint(err)
}

// descriptor describes the method with a full name.
func descriptor(t testing.TB, full string) protoreflect.MethodDescriptor {
	t.Helper()
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		t.Fatalf("%s: %v", full, err)
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		t.Fatalf("%s is no method", full)
	}
	return m
}

// callTime is far above what a call takes that does not wait for somebody else.
const callTime = process.Patience

// send makes one call of any kind and gives the first answer.
func (r *realm) send(cert, token, full string, req proto.Message) answer {
	d := descriptor(r.t, full)
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.Output().FullName())
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), callTime)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
	}
	stream, err := r.conn(cert).NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, full)
	if err != nil {
		return answer{err: err}
	}
	if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) { // the end's reason comes out of RecvMsg
		return answer{err: err}
	}
	if full != pb.Watch_Watch_FullMethodName {
		_ = stream.CloseSend() // it fails after the stream's end alone
	}
	resp := kind.New().Interface()
	err = stream.RecvMsg(resp)
	for err == nil && full == pb.KV_RangeStream_FullMethodName { // how it is cut is nobody's business
		part := kind.New().Interface()
		if err := stream.RecvMsg(part); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return answer{err: err}
		}
		proto.Merge(resp, part)
	}
	if errors.Is(err, io.EOF) {
		err = status.Error(codes.Unknown, endedSilently)
	}
	return answer{msg: resp, err: err}
}

// endedSilently stands for the end of a stream that brought nothing.
const endedSilently = "the stream ended without an answer, and without an error"

// guarded are the services that the table walks through.
func guarded(t testing.TB) []protoreflect.ServiceDescriptor {
	t.Helper()
	var all []protoreflect.ServiceDescriptor
	for _, name := range []protoreflect.FullName{
		"etcdserverpb.KV", "etcdserverpb.Watch", "etcdserverpb.Lease", "etcdserverpb.Cluster", "etcdserverpb.Maintenance", "etcdserverpb.Auth",
		"v3lockpb.Lock", "v3electionpb.Election",
	} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d.(protoreflect.ServiceDescriptor))
	}
	return all
}

// methods gives the full names of all that these services have.
func methods(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, s := range guarded(t) {
		for i := range s.Methods().Len() {
			all = append(all, fmt.Sprintf("/%s/%s", s.FullName(), s.Methods().Get(i).Name()))
		}
	}
	return all
}

// raw makes the unary call that a request belongs to.
func (r *realm) raw(cert, token string, req proto.Message) answer {
	r.t.Helper()
	for _, full := range methods(r.t) {
		d := descriptor(r.t, full)
		if d.Input().FullName() == req.ProtoReflect().Descriptor().FullName() && !d.IsStreamingServer() {
			return r.send(cert, token, full, req)
		}
	}
	r.t.Fatalf("no method takes %T", req)
	return answer{}
}

// token authenticates a user, unless that was done a moment ago. Empty while there are no users.
func (r *realm) token(user string) string {
	r.t.Helper()
	if other := r.as[user]; other != "" {
		user = other
	}
	if time.Since(r.taken[user]) < freshTime {
		return r.tokens[user]
	}
	asked := time.Now() // its life began no earlier
	a := r.raw("", "", &pb.AuthenticateRequest{Name: user, Password: passwordOf + user})
	switch status.Code(a.err) {
	case codes.OK:
		r.tokens[user] = a.msg.(*pb.AuthenticateResponse).Token
	case codes.FailedPrecondition: // auth is not enabled
		return ""
	default:
		r.t.Fatalf("%s can't get a token: %v", user, a.err)
	}
	r.taken[user] = asked
	return r.tokens[user]
}

// changed forgets tokens: users were changed, maybe.
func (r *realm) changed() { clear(r.taken) }

// outlived tells whether a call was refused because the machine stood still for as long as its token lives, and forgets that.
func (r *realm) outlived(user string, a answer) bool {
	if other := r.as[user]; other != "" {
		user = other
	}
	taken, ok := r.taken[user]
	late := ok && r.mode == simpleTokens && status.Code(a.err) == codes.Unauthenticated && time.Since(taken) > simpleTTL*time.Second
	if late {
		r.changed()
	}
	return late
}

// rootToken is root's token, once there are users.
func (r *realm) rootToken() string {
	r.t.Helper()
	if !r.now.enabled {
		return ""
	}
	return r.token("root")
}

// asRoot makes a call that nobody refuses.
func (r *realm) asRoot(req proto.Message) proto.Message {
	r.t.Helper()
	a := r.raw("", r.rootToken(), req)
	for r.outlived("root", a) {
		a = r.raw("", r.rootToken(), req)
	}
	if a.err != nil {
		r.t.Fatalf("%s: root's own %T %v: %v", r.m.Program.Name, req, req, a.err)
	}
	if name := string(req.ProtoReflect().Descriptor().Name()); strings.HasPrefix(name, "Auth") && !strings.Contains(name, "Get") && !strings.Contains(name, "List") {
		r.changed()
	}
	return a.msg
}

// expire takes a token and leaves it alone for longer than it lives.
func (r *realm) expire() {
	r.expired = r.token("root")
	r.changed()
	<-time.After((simpleTTL + 3) * time.Second)
}

// sign makes a JWT.
func (r *realm) sign(alg string, key []byte, user string, revision uint64, ttl time.Duration) string {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			r.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]string{"alg": alg, "typ": "JWT"}) + "." +
		part(map[string]any{"username": user, "revision": revision, "exp": time.Now().Add(ttl).Unix()})
	if alg == "none" {
		return text + "."
	}
	h := hmac.New(sha256.New, key)
	_, _ = io.WriteString(h, text) // a hash takes all
	return text + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// forged is root's token by somebody else's hand.
func (r *realm) forged() string {
	if r.mode == simpleTokens {
		return "ABCDEFGHIJKLMNOP.12"
	}
	return r.sign("HS256", []byte("another key, as long as such keys are, or longer than they are"), "root", r.now.authRev, time.Hour)
}

func (r *realm) unsigned() string {
	if r.mode == simpleTokens {
		return "no-token-at-all"
	}
	return r.sign("none", nil, "root", r.now.authRev, time.Hour)
}

// old is root's token from before the newest change of users. Simple tokens know no revision: this one tells a place in the
// log that it was not made at.
func (r *realm) old() string {
	if r.mode == simpleTokens {
		head, _, _ := strings.Cut(r.token("root"), ".")
		return head + ".1"
	}
	return r.sign("HS256", r.key, "root", 1, time.Hour)
}
