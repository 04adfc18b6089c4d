package listen

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"keelson/internal/kit/tlsconf"
	"keelson/test/authority"
)

// through lets gRPC's own transport take connections whose handshake is done.
type through struct {
	credentials.TransportCredentials
}

func (through) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s, ok := State(c)
	if !ok {
		return insecure.NewCredentials().ServerHandshake(c)
	}
	return c, credentials.TLSInfo{State: s}, nil
}
func (t through) Clone() credentials.TransportCredentials { return t }

// secureServers runs gRPC and net/http behind TLS on one port, which may take plain text too. It gives the address, what a client trusts, and the refusals.
func secureServers(t testing.TB, plain bool) (string, *tls.Config, chan Refusal) {
	t.Helper()
	dir := t.TempDir()
	ca := authority.New(t, "ca")
	authority.Bundle(t, filepath.Join(dir, "ca"), ca)
	p := ca.Local(dir, "both")
	m, err := tlsconf.Open(tlsconf.Options{CertFile: p.CertFile, KeyFile: p.KeyFile, CAFile: filepath.Join(dir, "ca")})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan Refusal, 16)
	secure := NewSecure(l, SecureOptions{Config: m.Server(true, "h2", "http/1.1"), Plain: plain, Refused: func(r Refusal) { refused <- r }, Logger: zap.NewNop()})
	split := NewSplit(secure, zap.NewNop())
	g := grpc.NewServer(grpc.Creds(through{insecure.NewCredentials()}))
	healthpb.RegisterHealthServer(g, health.NewServer())
	h := &http.Server{
		Handler: WithState(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			by := "plain text"
			if r.TLS != nil {
				by = fmt.Sprintf("%d chains", len(r.TLS.VerifiedChains))
			}
			fmt.Fprintf(w, "%s %s %s", r.Proto, r.URL.Path, by)
		})),
		Protocols:   new(http.Protocols),
		ConnContext: KeepState,
	}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetHTTP2(true)
	h.Protocols.SetUnencryptedHTTP2(true)
	serve := []func() error{secure.Serve, split.Serve, func() error { return g.Serve(split.GRPC()) }, func() error { return h.Serve(split.HTTP()) }}
	done := make(chan error, len(serve))
	for _, f := range serve {
		go func() { done <- f() }()
	}
	t.Cleanup(func() {
		g.Stop()
		h.Close()
		split.Close()
		for range serve {
			<-done
		}
	})
	return l.Addr().String(), authority.Client(&p, ca), refused
}

func TestSecureServesAll(t *testing.T) {
	for _, plain := range []bool{false, true} {
		servesAll(t, plain)
	}
}

func servesAll(t *testing.T, plain bool) {
	address, trust, refused := secureServers(t, plain)
	silent, err := net.Dial("tcp", address) // stands in nobody's way
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, creds := range []credentials.TransportCredentials{credentials.NewTLS(trust), insecure.NewCredentials()} {
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := plain || creds.Info().SecurityProtocol == "tls"
		for range 3 {
			if _, err := healthpb.NewHealthClient(c).Check(t.Context(), &healthpb.HealthCheckRequest{}); (err == nil) != want {
				t.Fatalf("grpc by %s: %v", creds.Info().SecurityProtocol, err)
			}
		}
	}
	for _, second := range []bool{false, true} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: second}}
		want := "HTTP/1.1 /health 1 chains"
		if second {
			want = "HTTP/2.0 /health 1 chains"
		}
		answersThrice(t, client, "https://"+address+"/health", want)
	}
	if r, err := http.Get("http://" + address + "/plain"); (err == nil) != plain {
		t.Errorf("plain text: %v", err)
	} else if err == nil {
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if string(body) != "HTTP/1.1 /plain plain text" {
			t.Errorf("%q", body)
		}
	}
	for plain && len(refused) > 0 {
		// The one that says nothing is, once it had its time: on a slow machine that is over by now.
		if r := <-refused; r.Remote.String() != silent.LocalAddr().String() {
			t.Errorf("refused: %+v", r)
		}
	}
}

// Whoever is refused is told of once, with what it showed.
func TestRefusals(t *testing.T) {
	address, trust, refused := secureServers(t, false)
	stranger := authority.New(t, "other").Local(t.TempDir(), "stranger")
	nothing, other := trust.Clone(), trust.Clone()
	nothing.GetClientCertificate = nil
	other.GetClientCertificate = authority.Client(&stranger).GetClientCertificate
	for _, c := range []struct {
		config     *tls.Config
		name, want string
	}{
		{nothing, "localhost", "didn't provide a certificate"},
		{other, "localhost", "unknown authority"},
		{nil, "", "does not look like a TLS handshake"},
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if c.config == nil {
			io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
		} else {
			c.config.ServerName = c.name
			_ = tls.Client(conn, c.config).Handshake()
		}
		r := <-refused
		if !strings.Contains(r.Err.Error(), c.want) || r.State.ServerName != c.name || r.Remote.String() != conn.LocalAddr().String() {
			t.Errorf("%+v, not %q", r, c.want)
		}
		conn.Close()
	}
}

// pipes is a listener of connections in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// dial connects and answers both ends.
func (p *pipes) dial() (theirs, ours net.Conn) {
	theirs, ours = net.Pipe()
	p.conns <- ours
	return theirs, ours
}

// A client that is silent is given up after a while; one that is silent while very many come is given up for them.
func TestSilentClients(t *testing.T) {
	for _, plain := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { silentClients(t, plain) })
	}
}

func silentClients(t *testing.T, plain bool) {
	l := newPipes()
	refused := make(chan error, handshakesMax+1)
	s := NewSecure(l, SecureOptions{Config: &tls.Config{Certificates: make([]tls.Certificate, 1)}, Plain: plain, Refused: func(r Refusal) { refused <- r.Err }, Logger: zap.NewNop()})
	done := make(chan error)
	go func() { done <- s.Serve() }()
	began := time.Now()
	first, _ := l.dial()
	if err := <-refused; !errors.Is(err, errSlowClient) || time.Since(began) != handshakeTime {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
	for range handshakesMax {
		l.dial()
	}
	synctest.Wait()
	if len(refused) > 0 {
		t.Errorf("refused with room: %v", <-refused)
	}
	l.dial()
	if err := <-refused; !errors.Is(err, errCrowdedOut) {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(refused) > 0 {
		t.Errorf("a stop is told as a refusal: %v", <-refused)
	}
}

// Nobody sends more than a handshake takes; past the handshake there is no bound.
func TestQuota(t *testing.T) {
	theirs, ours := net.Pipe()
	defer theirs.Close()
	go io.CopyN(theirs, zeros{}, handshakeBytesMax+1)
	q := &quota{Conn: ours, left: handshakeBytesMax}
	if n, err := io.Copy(io.Discard, q); n != handshakeBytesMax || !errors.Is(err, errChattyClient) {
		t.Errorf("%d %v", n, err)
	}
	q.lift()
	if n, err := q.Read(make([]byte, 8)); n != 1 || err != nil {
		t.Errorf("lifted: %d %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
