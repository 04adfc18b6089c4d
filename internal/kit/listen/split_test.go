package listen

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// servers runs a real gRPC server and a real net/http one on one port and answers its address.
func servers(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewSplit(l, zap.NewNop())
	g := grpc.NewServer()
	healthpb.RegisterHealthServer(g, health.NewServer())
	h := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", r.Proto, r.URL.Path) }),
		Protocols: new(http.Protocols),
	}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan error, 3)
	go func() { done <- g.Serve(s.GRPC()) }()
	go func() { done <- h.Serve(s.HTTP()) }()
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		g.Stop()
		h.Close()
		s.Close()
		for range 3 {
			<-done
		}
	})
	return l.Addr().String()
}

func TestSplitServesAll(t *testing.T) {
	address := servers(t)
	for range 3 {
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			r, err := healthpb.NewHealthClient(c).Check(t.Context(), &healthpb.HealthCheckRequest{})
			if err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
				t.Fatalf("grpc: %v %v", r, err)
			}
		}
		c.Close()
	}
	for _, prior := range []bool{false, true} {
		p := new(http.Protocols)
		p.SetHTTP1(!prior)
		p.SetUnencryptedHTTP2(prior)
		client := &http.Client{Transport: &http.Transport{Protocols: p}}
		want := "HTTP/1.1 /health"
		if prior {
			want = "HTTP/2.0 /health"
		}
		answersThrice(t, client, "http://"+address+"/health", want)
	}
}

// answersThrice asks three times, on one connection if it is kept, and wants the same answer.
func answersThrice(t *testing.T, client *http.Client, url, want string) {
	t.Helper()
	defer client.CloseIdleConnections()
	for range 3 {
		r, err := client.Get(url)
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || string(body) != want {
			t.Errorf("%q, not %q: %v", body, want, err)
		}
	}
}

// A client that writes byte by byte, and one that waits for SETTINGS, are told apart too.
func TestSlowClients(t *testing.T) {
	address := servers(t)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, b := range []byte("GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(answer), "HTTP/1.1 /slow") {
		t.Errorf("%q %v", answer, err)
	}

	w, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.SetDeadline(time.Now().Add(patience))
	io.WriteString(w, http2.ClientPreface)
	f := http2.NewFramer(w, w)
	f.WriteSettings()
	if frame, err := f.ReadFrame(); err != nil || frame.Header().Type != http2.FrameSettings {
		t.Fatalf("a client that waits gets %v %v", frame, err)
	}
	f.WriteSettingsAck()
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("GET", ""), EndStream: true, EndHeaders: true})
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("no answer after SETTINGS: %v", err)
		}
		if d, ok := frame.(*http2.DataFrame); ok {
			if string(d.Data()) != "HTTP/2.0 /wait" {
				t.Errorf("%q", d.Data())
			}
			return
		}
	}
}

func headers(method, contentType string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range [][2]string{{":method", method}, {":scheme", "http"}, {":path", "/wait"}, {":authority", "x"}, {"content-type", contentType}} {
		if h[1] != "" {
			e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
	}
	return b.Bytes()
}

// opening is what a client of HTTP/2 sends at first.
func opening(contentType string, before func(*http2.Framer)) []byte {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	if before != nil {
		before(f)
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("POST", contentType), EndHeaders: true, PadLength: 3})
	f.WriteData(1, true, []byte("body"))
	return b.Bytes()
}

func TestSniff(t *testing.T) {
	ack := func(f *http2.Framer) { f.WriteSettingsAck(); f.WriteWindowUpdate(0, 7); f.WritePing(false, [8]byte{}) }
	for name, test := range map[string]struct {
		in   []byte
		want protocol
		cut  bool // the client acknowledged SETTINGS that its server never sent
	}{
		"http1":             {in: []byte("GET / HTTP/1.1\r\n\r\n")},
		"put":               {in: []byte("PUT / HTTP/1.1\r\n\r\n")},
		"short":             {in: []byte("P")},
		"tls":               {in: []byte{0x16, 3, 1}},
		"grpc":              {in: opening("application/grpc", nil), want: isGRPC},
		"grpc with proto":   {in: opening("application/grpc+proto", nil), want: isGRPC},
		"grpc after an ack": {in: opening("Application/GRPC;x", ack), want: isGRPC},
		"grpc-web":          {in: opening("application/grpc-web", nil)},
		"json":              {in: opening("application/json", nil)},
		"json after an ack": {in: opening("application/json", ack), cut: true},
		"no type":           {in: opening("", nil)},
	} {
		for way, in := range map[string]io.Reader{"whole": bytes.NewReader(test.in), "bytewise": iotest.OneByteReader(bytes.NewReader(test.in))} {
			c := &scripted{in: in}
			p, again, err := sniff(c)
			if err != nil || p != test.want {
				t.Errorf("%s, %s: %v %v", name, way, p, err)
				continue
			}
			got, err := io.ReadAll(again)
			want := test.in
			if len(c.out) > 0 && test.cut {
				var a bytes.Buffer
				http2.NewFramer(&a, nil).WriteSettingsAck()
				want = bytes.Replace(test.in, a.Bytes(), nil, 1)
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: the server reads other bytes: %q, not %q (%v)", name, way, got, want, err)
			}
			if way == "whole" && len(c.out) > 0 {
				t.Errorf("%s: answered without need", name)
			}
		}
	}
}

func TestSniffIsBounded(t *testing.T) {
	flood := opening("x", func(f *http2.Framer) {
		for range sniffBytesMax / 16 {
			f.WritePing(false, [8]byte{})
		}
	})
	if _, _, err := sniff(&scripted{in: bytes.NewReader(flood)}); err == nil {
		t.Error("a flood of pings was read through")
	}
	huge := append([]byte(http2.ClientPreface), 0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1)
	if _, _, err := sniff(&scripted{in: bytes.NewReader(huge)}); err == nil {
		t.Error("a frame of 16 MiB was begun")
	}
}

func TestCloseEndsServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewSplit(l, zap.NewNop())
	done := make(chan error)
	go func() { done <- s.Serve() }()
	idle, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	io.WriteString(idle, "PRI ")
	if err := s.HTTP().Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("%v", err)
	}
	if _, err := s.GRPC().Accept(); err == nil {
		t.Error("a closed Split accepts")
	}
}

func FuzzSniff(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(opening("application/grpc", nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := &scripted{in: bytes.NewReader(in)}
		_, again, err := sniff(c)
		if err != nil {
			return
		}
		if got, err := io.ReadAll(again); err != nil || (len(c.out) == 0 && !bytes.Equal(got, in)) {
			t.Errorf("%q, not %q: %v", got, in, err)
		}
	})
}

// The look costs a new connection; what follows goes to the socket. Compare with the same server on a bare listener.
func BenchmarkConnect(b *testing.B) {
	bare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	g := grpc.NewServer()
	healthpb.RegisterHealthServer(g, health.NewServer())
	go g.Serve(bare)
	defer g.Stop()
	for name, address := range map[string]string{"bare": bare.Addr().String(), "split": servers(b)} {
		dial := func() *grpc.ClientConn {
			c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			return c
		}
		call := func(c *grpc.ClientConn) {
			if _, err := healthpb.NewHealthClient(c).Check(context.Background(), &healthpb.HealthCheckRequest{}); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(name+"/connect", func(b *testing.B) {
			for b.Loop() {
				c := dial()
				call(c)
				c.Close()
			}
		})
		b.Run(name+"/call", func(b *testing.B) {
			c := dial()
			defer c.Close()
			for b.Loop() {
				call(c)
			}
		})
	}
}
