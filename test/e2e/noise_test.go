package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"keelson/test/process"
)

const (
	// noiseTime is how long noise lasts; make e2e has it last for noiseTimeLong.
	noiseTime, noiseTimeLong = 3 * time.Second, time.Minute
	// noiseMakers are connections at once to each port.
	noiseMakers = 4
	// listenTime is how long a connection waits for an answer to its noise.
	listenTime = 50 * time.Millisecond
	// grownMax is what noise may leave behind in memory.
	grownMax = 10 << 20
)

// wave sends noise to one port, made of what it understands.
type wave struct {
	address string
	seeds   [][]byte
}

// noise is one connection's bytes: now and then random ones, mostly something sensible that was damaged.
func (w *wave) noise(r *rand.Rand) []byte {
	if r.IntN(8) == 0 {
		return randomBytes(r, r.IntN(2048))
	}
	var b []byte
	for range 1 + r.IntN(3) {
		b = append(b, w.seeds[r.IntN(len(w.seeds))]...)
	}
	for range r.IntN(6) {
		if len(b) == 0 {
			break
		}
		at := r.IntN(len(b))
		switch r.IntN(6) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = byte(r.IntN(256))
		case 2:
			b = b[:at]
		case 3:
			b = append(b[:at:at], append(randomBytes(r, r.IntN(40)), b[at:]...)...)
		case 4:
			to := at + r.IntN(len(b)-at)
			b = append(b, b[at:to]...)
		case 5:
			binary.BigEndian.PutUint64(b[max(0, min(at, len(b)-8)):][:8:8], r.Uint64()>>r.IntN(64))
		}
		if len(b) < 8 {
			b = append(b, make([]byte, 8)...)
		}
	}
	return b
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(256))
	}
	return b
}

// make opens connections one after the other until ctx ends, and counts them.
func (w *wave) make(ctx context.Context, r *rand.Rand) (n int) {
	for ; ctx.Err() == nil; n++ {
		c, err := net.Dial("tcp", w.address)
		if err != nil {
			continue // for want of ports, maybe; whether the member is there is looked at later
		}
		_ = c.SetDeadline(time.Now().Add(time.Second)) // what fails is the other side's to judge
		_, _ = c.Write(w.noise(r))
		if r.IntN(2) == 0 {
			_ = c.SetReadDeadline(time.Now().Add(listenTime))
			_, _ = io.Copy(io.Discard, io.LimitReader(c, 64<<10))
		}
		_ = c.Close()
	}
	return n
}

// clientSeeds are requests of all kinds that the client port takes.
func clientSeeds(t *testing.T) [][]byte {
	t.Helper()
	var all [][]byte
	for method, m := range map[string]proto.Message{
		pb.KV_Range_FullMethodName: &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}, Limit: 10},
		pb.KV_Put_FullMethodName:   &pb.PutRequest{Key: []byte("noise"), Value: []byte("value")},
		pb.KV_Txn_FullMethodName: &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("noise")}}}},
		}}}}},
		pb.Watch_Watch_FullMethodName:          &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte{0}}}},
		pb.Lease_LeaseKeepAlive_FullMethodName: &pb.LeaseKeepAliveRequest{ID: 7},
		pb.Maintenance_Status_FullMethodName:   &pb.StatusRequest{},
		pb.Auth_Authenticate_FullMethodName:    &pb.AuthenticateRequest{Name: "root", Password: "guess"},
		"/no.Such/Method":                      &pb.StatusRequest{},
	} {
		body, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, opening(method, body))
	}
	return append(all, []byte("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
		[]byte("POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"key\r\n0\r\n\r\n"), []byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"))
}

// peerSeeds are requests that the peer port takes. What is meant for raft is to another member: whoever may post to a member
// of a cluster without TLS may do all that members may.
func peerSeeds(t *testing.T, clusterID string) [][]byte {
	t.Helper()
	message := func(kind raftpb.MessageType) []byte {
		b, err := proto.Marshal(&raftpb.Message{
			Type: kind.Enum(), To: new(uint64(0xfeed)), From: new(uint64(0xbeef)), Term: new(uint64(2)), Entries: []*raftpb.Entry{{Term: new(uint64(2)), Index: new(uint64(5)), Data: []byte("data")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	headers := "Host: x\r\nX-Server-From: beef\r\nX-Server-Version: 3.7.0\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: " + clusterID + "\r\n"
	post := func(path string, body []byte) []byte {
		return append(fmt.Appendf(nil, "POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", path, headers, len(body)), body...)
	}
	snapshot := message(raftpb.MsgSnap)
	lease, err := proto.Marshal(&pb.LeaseKeepAliveRequest{ID: 7})
	if err != nil {
		t.Fatal(err)
	}
	all := [][]byte{
		post("/raft", message(raftpb.MsgApp)), post("/raft", message(raftpb.MsgHeartbeat)), post("/raft/snapshot", append(binary.BigEndian.AppendUint64(nil, uint64(len(snapshot))), snapshot...)),
		post("/leases", lease), post("/leases/internal", lease), post("/members/promote/5", nil),
	}
	for _, path := range []string{"/raft/stream/msgapp/beef", "/raft/stream/message/beef", "/raft/probing", "/members", "/members/hashkv", "/version", "/downgrade/enabled"} {
		all = append(all, fmt.Appendf(nil, "GET %s HTTP/1.1\r\n%sX-Raft-To: feed\r\n\r\n", path, headers))
	}
	return all
}

// Noise of all kinds on the client port and the peer port for a while: the member serves on, and its memory is as before.
// KEELSON_SEED replays one seed; the order of connections is the machine's all the same.
func TestNoise(t *testing.T) {
	membersOnly(t, "a proxy tells no cluster ID with the member list")
	t.Parallel()
	seed := rand.Uint64()
	if v := os.Getenv("KEELSON_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	duration := noiseTime
	if os.Getenv("KEELSON_LONG") != "" {
		duration = noiseTimeLong
	}
	m := process.Single(t, keelson, "", "--log-level=error").Serve()
	r, err := m.Client().MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waves := []*wave{{m.ClientAddr, clientSeeds(t)}, {m.PeerAddr, peerSeeds(t, fmt.Sprintf("%x", r.Header.ClusterId))}}
	blow := func(d time.Duration) (total int) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		var counts [2 * noiseMakers]int
		var all sync.WaitGroup
		for i := range counts {
			all.Go(func() { counts[i] = waves[i%2].make(ctx, rand.New(rand.NewPCG(seed, uint64(i)))) })
		}
		all.Wait()
		for _, n := range counts {
			total += n
		}
		return total
	}
	blow(duration / 10) // what comes with the first requests of each kind stays
	before := settled(t, m)
	n := blow(duration)
	var after int64
	process.Until(t, "memory is as before", func() error {
		if after = settled(t, m); after > before+grownMax {
			return fmt.Errorf("seed %d: %d connections in %v: %d MiB resident, %d before", seed, n, duration, after>>20, before>>20)
		}
		return nil
	})
	t.Logf("seed %d: %d connections of noise in %v; resident %.1f MiB before, %.1f after", seed, n, duration, float64(before)/(1<<20), float64(after)/(1<<20))
	if out := m.Ctl("put", "still", "here"); out != "OK\n" {
		t.Errorf("seed %d: put printed %q", seed, out)
	}
	m.Stop()
}

const (
	// busyPuts of busyBytes each make more garbage than a member keeps when nobody asks it for anything.
	busyPuts, busyBytes = 75, 1 << 20 // few puts, each of which may wait long for its sync
	// stillTime is how long resident memory has to stay the same.
	stillTime = 2 * time.Second
)

// settled has the member make garbage, waits until it has given that back, and tells how much anonymous memory it holds.
func settled(t *testing.T, m *process.Member) int64 {
	t.Helper()
	c := m.Client()
	defer c.Close()
	for range busyPuts {
		if _, err := c.Put(t.Context(), "busy", strings.Repeat("v", busyBytes)); err != nil {
			t.Fatal(err)
		}
	}
	last, since := int64(0), time.Now()
	process.Until(t, "memory settles", func() error {
		now := anonymous(t, m)
		if d := now - last; d > 1<<20 || d < -1<<20 {
			last, since = now, time.Now()
		}
		if still := time.Since(since); still < stillTime {
			return fmt.Errorf("%d MiB for %v", now>>20, still)
		}
		return nil
	})
	return last
}

// anonymous is a process's resident memory that is no file's.
func anonymous(t *testing.T, m *process.Member) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.PID()))
	if err != nil {
		t.Skipf("the system does not tell how much memory a process holds: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Skip("the system does not tell how much memory a process holds")
	return 0
}

// opening is what a gRPC client sends for a first call.
func opening(method string, body []byte) []byte {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	message := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	// To a buffer nothing fails.
	_ = f.WriteSettings()
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: grpcHeaders(method), EndHeaders: true})
	_ = f.WriteData(1, true, message)
	return b.Bytes()
}
