package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"keelson/test/process"
)

// raw is a connection whose frames a test makes by itself.
type raw struct {
	net.Conn
	*http2.Framer
	t *testing.T
}

func dialRaw(t *testing.T, address string) raw {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(process.Patience)); err != nil {
		t.Fatal(err)
	}
	return raw{c, http2.NewFramer(c, c), t}
}

// hello begins HTTP/2.
func (r raw) hello() raw {
	r.t.Helper()
	if _, err := io.WriteString(r.Conn, http2.ClientPreface); err != nil {
		r.t.Fatal(err)
	}
	if err := r.WriteSettings(); err != nil {
		r.t.Fatal(err)
	}
	return r
}

// grpcHeaders are those of a call, and more.
func grpcHeaders(method string, more ...hpack.HeaderField) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSize(0)
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: http.MethodPost}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method}, {Name: ":authority", Value: "x"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...) {
		_ = e.WriteField(f) // to a buffer
	}
	return b.Bytes()
}

// open begins a call and leaves its request open.
func (r raw) open(stream uint32) error {
	return r.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: grpcHeaders(pb.Watch_Watch_FullMethodName), EndHeaders: true})
}

// until reads frames up to the first that is wanted. What a connection ends with is an error.
func (r raw) until(want func(http2.Frame) bool) (http2.Frame, error) {
	for {
		f, err := r.ReadFrame()
		if err != nil {
			return nil, err
		}
		if want(f) {
			return f, nil
		}
	}
}

func (r raw) goAway() (string, error) {
	f, err := r.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameGoAway })
	if err != nil {
		return "", err
	}
	g := f.(*http2.GoAwayFrame)
	return fmt.Sprintf("%v %s", g.ErrCode, g.DebugData()), nil
}

// A client that pings too often is sent away with etcd's word for it.
func TestTooManyPings(t *testing.T) {
	plainOnly(t, "it writes frames of its own")
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	for _, at := range []*process.Member{process.Proxy(t, []*process.Member{m}), m} {
		r := dialRaw(t, at.ClientAddr).hello()
		if err := r.open(1); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if err := r.WritePing(false, [8]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := r.goAway(); err != nil || got != "ENHANCE_YOUR_CALM too_many_pings" {
			t.Errorf("%s: %q %v", at.Name, got, err)
		}
		at.Stop()
	}
}

// One connection has as many calls at once as --max-concurrent-streams says; one more is refused, and another connection has
// its own.
func TestStreamsOfAConnection(t *testing.T) {
	plainOnly(t, "it writes frames of its own")
	t.Parallel()
	const most = "--max-concurrent-streams=2"
	m := process.Single(t, keelson, "", most).Serve()
	for _, at := range []*process.Member{process.Proxy(t, []*process.Member{m}, most), m} {
		r := dialRaw(t, at.ClientAddr).hello()
		for n := range uint32(3) {
			if err := r.open(2*n + 1); err != nil {
				t.Fatal(err)
			}
		}
		f, err := r.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameRSTStream })
		if err != nil {
			t.Fatal(err)
		}
		if x := f.(*http2.RSTStreamFrame); x.StreamID != 5 || x.ErrCode != http2.ErrCodeRefusedStream {
			t.Errorf("%s: %v", at.Name, x)
		}
		at.Ctl("put", "k", "v")
		at.Stop()
	}
}

// Headers past the bound are refused by each port, those of a large token are not.
func TestHugeHeaders(t *testing.T) {
	plainOnly(t, "it writes frames of its own")
	t.Parallel()
	m := process.Single(t, keelson, "")
	metrics := process.FreeAddrs(t, 1)[0]
	m.Flags = []string{"--listen-metrics-urls=http://" + metrics}
	m.Serve()
	for _, address := range []string{m.ClientAddr, m.PeerAddr, metrics} {
		for size, want := range map[int]int{8 << 10: http.StatusOK, 200 << 10: http.StatusRequestHeaderFieldsTooLarge} {
			path := "/version"
			if address == metrics {
				path = "/health"
			}
			c := dialRaw(t, address)
			if _, err := fmt.Fprintf(c.Conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", path, strings.Repeat("t", size)); err != nil {
				t.Logf("%s closed the connection early: %v", address, err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c.Conn), nil)
			if err != nil {
				if want == http.StatusOK {
					t.Errorf("%s, %d bytes: %v", address, size, err)
				}
				continue
			}
			_ = resp.Body.Close() // the connection ends with the test
			if resp.StatusCode != want {
				t.Errorf("%s, %d bytes: status %d", address, size, resp.StatusCode)
			}
		}
	}
	// A call after the first, which the look at a connection's beginning has bounded already.
	r := dialRaw(t, m.ClientAddr).hello()
	if err := r.open(1); err != nil {
		t.Fatal(err)
	}
	block := grpcHeaders(pb.KV_Range_FullMethodName, hpack.HeaderField{Name: "token", Value: strings.Repeat("t", 200<<10)})
	err := r.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block[:16<<10]})
	for rest := block[16<<10:]; err == nil && len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
		err = r.WriteContinuation(3, len(rest) <= 16<<10, rest[:min(len(rest), 16<<10)])
	}
	if err != nil {
		t.Logf("the connection ended early: %v", err)
	}
	f, err := r.until(func(f http2.Frame) bool { return f.Header().StreamID == 3 || f.Header().Type == http2.FrameGoAway })
	if err == nil && f.Header().Type != http2.FrameRSTStream && f.Header().Type != http2.FrameGoAway {
		t.Errorf("200 KiB of headers were answered by %v", f)
	}
	m.Ctl("put", "k", "v")
	m.Stop()
}

// Members speak HTTP/1.1, and so does their port, alone.
func TestPeerPortSpeaksOldHTTP(t *testing.T) {
	plainOnly(t, "it writes frames of its own")
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	for address, want := range map[string]bool{m.ClientAddr: true, m.PeerAddr: false} {
		f, err := dialRaw(t, address).hello().until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameSettings })
		if got := err == nil; got != want {
			t.Errorf("%s speaks HTTP/2: %v (%v %v)", address, got, f, err)
		}
	}
	m.Stop()
}

// No port takes frames past the least that HTTP/2 asks of a server: a megabyte for each connection would be anybody's to keep.
func TestLargestFrame(t *testing.T) {
	plainOnly(t, "it writes frames of its own")
	t.Parallel()
	m := process.Single(t, keelson, "")
	metrics := process.FreeAddrs(t, 1)[0]
	m.Flags = []string{"--listen-metrics-urls=http://" + metrics}
	m.Serve()
	const bound = 16 << 10
	for _, c := range []struct{ address, kind string }{{m.ClientAddr, "text/plain"}, {m.ClientAddr, "application/grpc"}, {metrics, "text/plain"}} {
		r := dialRaw(t, c.address).hello()
		var b bytes.Buffer
		e := hpack.NewEncoder(&b)
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: http.MethodPost}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/health"}, {Name: ":authority", Value: "x"}, {Name: "content-type", Value: c.kind},
		} {
			_ = e.WriteField(f) // to a buffer
		}
		if err := r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b.Bytes(), EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		f, err := r.until(func(f http2.Frame) bool {
			return f.Header().Type == http2.FrameSettings && !f.Header().Flags.Has(http2.FlagSettingsAck)
		})
		if err != nil {
			t.Fatal(err)
		}
		if n, told := f.(*http2.SettingsFrame).Value(http2.SettingMaxFrameSize); told && n > bound {
			t.Errorf("%s takes frames of %d bytes with %s", c.address, n, c.kind)
		}
	}
	m.Stop()
}

// Frames that break the rules end their connection, messages that do end their call; the member serves on.
func TestMalformedFrames(t *testing.T) {
	plainOnly(t, "it writes frames of its own")
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	for _, c := range []struct {
		name, bad string
		call      bool // the call ends, the connection goes on
	}{
		{"a frame past the largest size", "\xff\xff\xff\x00\x00\x00\x00\x00\x01", false},
		{"data on stream 0", "\x00\x00\x01\x00\x00\x00\x00\x00\x00x", false},
		{"headers that are no HPACK", "\x00\x00\x04\x01\x04\x00\x00\x00\x03\xff\xff\xff\xff", false},
		{"settings of 5 bytes", "\x00\x00\x05\x04\x00\x00\x00\x00\x0012345", false},
		{"a window of nothing", "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00", false},
		{"a stream's number that goes down", "\x00\x00\x00\x01\x05\x00\x00\x00\x01", false},
		{"an even stream", "\x00\x00\x00\x01\x05\x00\x00\x00\x02", false},
		{"a continuation of nothing", "\x00\x00\x01\x09\x04\x00\x00\x00\x03x", false},
		{"padding longer than the frame", "\x00\x00\x02\x00\x08\x00\x00\x00\x01\xffx", false},
		{"headers that never end", "\x00\x00\x01\x01\x00\x00\x00\x00\x03\x82\x00\x00\x01\x00\x00\x00\x00\x00\x01x", false},
		{"a message shorter than it says", "\x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x7f\xff\xff\xff", true},
		{"a message past the largest size", "\x00\x00\x05\x00\x00\x00\x00\x00\x01\x00\x7f\xff\xff\xff", true},
		{"a message of an unknown encoding", "\x00\x00\x06\x00\x01\x00\x00\x00\x01\x01\x00\x00\x00\x01x", true},
	} {
		r := dialRaw(t, m.ClientAddr).hello()
		err := r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: grpcHeaders(pb.KV_Range_FullMethodName), EndHeaders: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(r.Conn, c.bad); err != nil {
			t.Fatal(err)
		}
		f, err := r.until(func(f http2.Frame) bool {
			h := f.Header()
			ended := h.Type == http2.FrameRSTStream || h.Type == http2.FrameHeaders && h.Flags.Has(http2.FlagHeadersEndStream)
			return h.Type == http2.FrameGoAway || c.call && ended
		})
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("%s: goes on", c.name)
		}
		if c.call && err != nil {
			t.Errorf("%s: the connection ends: %v", c.name, err)
		}
		t.Logf("%s: %v %v", c.name, f, err)
	}
	m.Ctl("put", "k", "v")
	m.Stop()
}
