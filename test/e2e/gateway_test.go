package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keelson/test/process"
)

// gateway starts a gateway in front of addresses, which its ClientAddr stands for from then on.
func gateway(t *testing.T, addresses ...string) *process.Member {
	t.Helper()
	g := process.Single(t, keelson, "")
	g.Bare = true
	g.Flags = []string{"gateway", "start", "--listen-addr=" + g.ClientAddr, "--endpoints=" + strings.Join(addresses, ","), "--retry-delay=1s"}
	g.Start()
	process.Until(t, "the gateway listens", func() error {
		c, err := net.Dial("tcp", g.ClientAddr)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return g
}

// Clients behind a gateway notice nothing of a member that is killed, and the gateway uses it again once it is back.
func TestGateway(t *testing.T) {
	plainOnly(t, "certificates and users pass a gateway as they are")
	t.Parallel()
	all := process.Cluster(t, []process.Program{keelson, keelson, keelson})
	for _, m := range all {
		m.Start()
	}
	for _, m := range all {
		m.WaitHealthy()
	}
	g := gateway(t, all[0].ClientAddr, all[1].ClientAddr, all[2].ClientAddr)
	for i := range 6 {
		g.Ctl("put", fmt.Sprint("before", i), "x")
	}
	all[1].Kill()
	for i := range 6 {
		g.Ctl("put", fmt.Sprint("after", i), "x")
	}
	if got := g.Ctl("get", "", "--prefix", "--count-only", "--write-out=fields"); !strings.Contains(got, `"Count" : 12`) {
		t.Error(got)
	}
	all[1].Serve()
	all[0].Kill()
	g.Ctl("put", "by", "the others")
	g.Stop()
	for _, m := range all[1:] {
		m.Stop()
	}
}

const (
	// held is how many connections a gateway holds at once; make e2e has it hold heldLong.
	held, heldLong = 500, 8_000
	// heldBytesMax is what it may hold in memory then.
	heldBytesMax = 160 << 20
)

// Many connections that have all been used cost little memory, and end with the gateway.
func TestGatewayManyConnections(t *testing.T) {
	plainOnly(t, "the gateway reads nothing of what it passes on")
	t.Parallel()
	n := held
	if os.Getenv("KEELSON_LONG") != "" {
		n = heldLong
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var echoing sync.WaitGroup
	echoing.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			echoing.Go(func() {
				defer c.Close()
				// Until the gateway ends; without what a pair of sockets would take in pipes.
				_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 1<<10))
			})
		}
	})
	g := gateway(t, l.Addr().String())
	conns := make([]net.Conn, n)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", g.ClientAddr); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	for _, size := range []int{1, 5000} {
		sent, got := make([]byte, size), make([]byte, size)
		for i, c := range conns {
			copy(sent, fmt.Sprint(i))
			_ = c.SetDeadline(time.Now().Add(process.Patience))
			if _, err := c.Write(sent); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, got); err != nil || !slices.Equal(got, sent) {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	}
	anon := anonymous(t, g)
	t.Logf("%d connections: %.1f MiB", n, float64(anon)/(1<<20))
	if anon > heldBytesMax {
		t.Errorf("%d connections hold %d MiB", n, anon>>20)
	}
	g.Stop()
	if _, err := conns[0].Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives the gateway")
	}
	l.Close()
	echoing.Wait()
}
