package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"keelson/test/process"
)

// Flags that say what a proxy tells of itself.
func TestProxyTells(t *testing.T) {
	plainOnly(t, "certificates change nothing of it")
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	silent, open := process.Proxy(t, []*process.Member{m}), process.Proxy(t, []*process.Member{m}, "--enable-pprof", "--debug", "--experimental-enable-grpc-logging")
	for p, want := range map[*process.Member]bool{silent: false, open: true} {
		p.Ctl("put", "a", "b")
		if _, err := p.HTTP("/debug/pprof/cmdline"); (err == nil) != want {
			t.Errorf("profiles are served: %v, want %v", err, want)
		}
		if want {
			process.AwaitLog(p, "KV/Put")
		} else if strings.Contains(p.Log(), "KV/Put") {
			t.Error("a call is logged")
		}
	}
}

// A proxy takes members whose certificates nobody vouches for only where it is told to.
func TestProxySkipsVerify(t *testing.T) {
	plainOnly(t, "the member has a certificate of its own making")
	t.Parallel()
	m := process.Single(t, keelson, "", "--auto-tls")
	process.Secure([]*process.Member{m}, &tls.Config{InsecureSkipVerify: true}, false)
	m.Serve()
	process.Proxy(t, []*process.Member{m}, "--insecure-skip-tls-verify").Ctl("put", "a", "b")
	if o := process.Proxy(t, []*process.Member{m}).TryCtl("--command-timeout=1s", "get", "a"); o.Status == 0 {
		t.Errorf("a member that can't prove who it is was believed: %s", o.Stdout)
	}
}

// With --endpoints-auto-sync-interval a proxy that was told of one member gets to know the others.
func TestProxySyncsEndpoints(t *testing.T) {
	plainOnly(t, "certificates change nothing of it")
	t.Parallel()
	all := three(t)
	p := process.Proxy(t, all[:1], "--endpoints-auto-sync-interval=200ms")
	process.Until(t, "the proxy has the list of members", func() error {
		const lists = `grpc_server_handled_total{grpc_code="OK",grpc_method="MemberList",grpc_service="etcdserverpb.Cluster",grpc_type="unary"}`
		if n := all[0].Metric(lists); n < 2 { // then it has made use of the first
			return fmt.Errorf("it was asked for %v times", n)
		}
		return nil
	})
	all[0].Kill()
	process.Until(t, "the proxy serves by members that it was not told of", func() error {
		if o := p.TryCtl("--command-timeout=2s", "get", "a"); o.Status != 0 {
			return errors.New(o.Stderr)
		}
		return nil
	})
}

// A client that is silent is pinged, and let go where it doesn't answer.
func TestProxyPings(t *testing.T) {
	plainOnly(t, "it reads frames of its own")
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	p := process.Proxy(t, []*process.Member{m}, "--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s")
	r := dialRaw(t, p.ClientAddr).hello()
	if err := r.open(1); err != nil {
		t.Fatal(err)
	}
	if _, err := r.until(func(f http2.Frame) bool { return f.Header().Type == http2.FramePing && !f.(*http2.PingFrame).IsAck() }); err != nil {
		t.Fatal("no ping:", err)
	}
	if _, err := r.until(func(http2.Frame) bool { return false }); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("it is not let go")
	}
}
