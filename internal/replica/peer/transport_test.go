package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
)

const testCluster = 0xc1

// patience bounds what a test waits for.
const patience = time.Minute

// recorder is a Receiver that keeps what it is told. Each kind of news goes to a channel.
type recorder struct {
	steps     chan *raftpb.Message
	snapshots chan bool
	dead      chan uint64
	expelled  chan struct{}
	db        func() (io.ReadCloser, int64, error)
	received  chan int64

	mu      sync.Mutex // guards removed
	removed map[uint64]bool
}

func newRecorder() *recorder {
	return &recorder{
		steps: make(chan *raftpb.Message, 100_000), snapshots: make(chan bool, 10), dead: make(chan uint64, 10),
		expelled: make(chan struct{}, 10), received: make(chan int64, 10), removed: map[uint64]bool{},
	}
}

func (r *recorder) Step(_ context.Context, m *raftpb.Message) error { r.steps <- m; return nil }
func (r *recorder) ReportUnreachable(uint64)                        {}
func (r *recorder) ReportSnapshot(_ uint64, ok bool)                { r.snapshots <- ok }
func (r *recorder) PeerDead(id uint64)                              { r.dead <- id }
func (r *recorder) Expelled() {
	select {
	case r.expelled <- struct{}{}:
	default:
	}
}
func (r *recorder) OpenSnapshot(*raftpb.Message) (io.ReadCloser, int64, error) { return r.db() }
func (r *recorder) ReceiveSnapshot(_ context.Context, m *raftpb.Message, db io.Reader) error {
	n, err := io.Copy(io.Discard, db)
	if err == nil {
		r.received <- n
	}
	return err
}

func (r *recorder) Removed(id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.removed[id]
}

func (r *recorder) remove(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removed[id] = true
}

// end is one member with a real peer port.
type end struct {
	*Transport
	*recorder
	id   uint64
	http *httptest.Server
}

func (e *end) url() string { return e.http.URL }

func newEnd(t *testing.T, id, clusterID uint64) *end {
	t.Helper()
	e := &end{recorder: newRecorder(), id: id}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// A process that is held up for some seconds is silent, and ends no stream by that.
	e.Transport = New(Params{ID: id, ClusterID: clusterID, Receiver: e.recorder}, Options{
		PeerURLs: []string{"http://" + l.Addr().String()}, Clock: clock.System, Logger: zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)),
		DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience,
	})
	e.http = &httptest.Server{Listener: l, Config: &http.Server{Handler: e.Handler(local{})}}
	e.http.Start()
	t.Cleanup(e.close)
	return e
}

func (e *end) close() {
	e.Transport.Stop()
	e.http.CloseClientConnections()
	e.http.Close()
}

// pair connects two members and waits for their streams.
func pair(t *testing.T) (a, b *end) {
	t.Helper()
	a, b = newEnd(t, 1, testCluster), newEnd(t, 2, testCluster)
	a.AddPeer(2, []string{b.url()})
	b.AddPeer(1, []string{a.url()})
	eventually(t, func() bool { return a.streaming(2) && b.streaming(1) })
	return a, b
}

func (e *end) streaming(id uint64) bool {
	for k := range kinds {
		w := e.peer(id).writers[k]
		w.box.mu.Lock()
		open := w.box.open
		w.box.mu.Unlock()
		if !open {
			return false
		}
	}
	return true
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("did not happen within ", patience)
		}
	}
}

func await[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came within ", patience)
		panic("unreachable")
	}
}

func heartbeat(from, to, n uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: new(from), To: new(to), Term: new(uint64(1)), Commit: new(n)}
}

// TestOrder sends many messages of both kinds: each kind arrives whole and in order.
func TestOrder(t *testing.T) {
	a, b := pair(t)
	const count = 5000
	go func() {
		for i := range uint64(count) {
			a.Send([]*raftpb.Message{appendMessage(1, 1, i, i, entry(1, i+1, strings.Repeat("x", int(i%300)))), heartbeat(1, 2, i)})
		}
	}()
	var apps, beats uint64
	for apps < count || beats < count {
		m := await(t, b.steps)
		switch m.GetType() {
		case raftpb.MsgApp:
			if m.GetIndex() != apps || m.GetEntries()[0].GetIndex() != apps+1 || len(m.GetEntries()[0].GetData()) != int(apps%300) {
				t.Fatalf("append %d came as %v", apps, m)
			}
			apps++
		case raftpb.MsgHeartbeat:
			if m.GetCommit() != beats {
				t.Fatalf("heartbeat %d came as %d", beats, m.GetCommit())
			}
			beats++
		}
	}
	if a.ActiveSince(2).IsZero() || !a.ActiveSince(3).IsZero() {
		t.Error("who is active is wrong")
	}
}

// TestNothingLocalLeaves sends what stays between a member's own threads.
func TestNothingLocalLeaves(t *testing.T) {
	a, b := pair(t)
	bad := heartbeat(1, 2, 1)
	bad.Responses = []*raftpb.Message{heartbeat(2, 1, 1)}
	a.Send([]*raftpb.Message{
		bad, {Type: raftpb.MsgStorageAppend.Enum(), To: new(uint64(2)), From: new(uint64(1))},
		{Type: raftpb.MsgBeat.Enum(), To: new(uint64(2)), From: new(uint64(1))}, heartbeat(1, 2, 7),
	})
	if m := await(t, b.steps); m.GetCommit() != 7 {
		t.Errorf("got %v", m)
	}
}

// TestReconnect cuts all connections: messages go on arriving.
func TestReconnect(t *testing.T) {
	a, b := pair(t)
	for i := range uint64(3) {
		a.http.CloseClientConnections()
		b.http.CloseClientConnections()
		eventually(t, func() bool { a.Send([]*raftpb.Message{heartbeat(1, 2, 100+i)}); return len(b.steps) > 0 })
		eventually(t, func() bool { return a.streaming(2) && b.streaming(1) })
		for len(b.steps) > 0 {
			<-b.steps
		}
	}
	if len(a.dead) > 0 || len(b.dead) > 0 {
		t.Error("a member with an open port was taken for dead")
	}
}

// TestPostsWithoutStreams sends to a member that opens no stream.
func TestPostsWithoutStreams(t *testing.T) {
	a, b := newEnd(t, 1, testCluster), newEnd(t, 2, testCluster)
	a.AddPeer(2, []string{"http://127.0.0.1:1", b.url()}) // the first address is dead
	eventually(t, func() bool { a.Send([]*raftpb.Message{heartbeat(1, 2, 1)}); return len(b.steps) > 0 })
	// b learned a from it, and can answer before anybody adds a.
	eventually(t, func() bool { b.Send([]*raftpb.Message{heartbeat(2, 1, 2)}); return len(a.steps) > 0 })
}

// TestPeerDead ends a process: the survivor hears of it once.
func TestPeerDead(t *testing.T) {
	a, b := pair(t)
	// Both streams to the survivor have come up there, too: one that comes up behind the loss of the other is another loss.
	entries := appendMessage(1, 1, 1, 1, entry(1, 2, "x"))
	entries.From, entries.To = new(uint64(2)), new(uint64(1))
	b.Send([]*raftpb.Message{entries, heartbeat(2, 1, 1)})
	for range 2 {
		await(t, a.steps)
	}
	b.http.Listener.Close()
	b.http.CloseClientConnections()
	if id := await(t, a.dead); id != 2 {
		t.Errorf("member %d", id)
	}
	eventually(t, func() bool { return a.ActiveSince(2).IsZero() })
	if len(a.dead) > 0 {
		t.Error("told twice")
	}
}

// zeros is a db file that takes no memory.
type zeros struct{ left, largest int64 }

func (z *zeros) Read(b []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(b)), z.left)
	z.largest = max(z.largest, n)
	z.left -= n
	return int(n), nil
}
func (z *zeros) Close() error { return nil }

func snapshotMessage() *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1)),
		Snapshot: &raftpb.Snapshot{Data: []byte("{}"), Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(9)), Term: new(uint64(1))}}}
}

// TestSnapshot streams 50 MB in small pieces, and reports each end once: a file that breaks off and a missing peer too.
func TestSnapshot(t *testing.T) {
	a, b := pair(t)
	const size = 50 << 20
	z := &zeros{left: size}
	a.db = func() (io.ReadCloser, int64, error) { return z, size, nil }
	a.Send([]*raftpb.Message{snapshotMessage()})
	if !await(t, a.snapshots) || await(t, b.received) != size {
		t.Fatal("it did not arrive")
	}
	if z.largest > 1<<20 {
		t.Errorf("%d bytes were read at once", z.largest)
	}
	eventually(t, func() bool { return !a.peer(2).sending.Load() })
	a.db = func() (io.ReadCloser, int64, error) { return &zeros{left: size / 2}, size, nil }
	a.Send([]*raftpb.Message{snapshotMessage()})
	if await(t, a.snapshots) {
		t.Error("half a file was taken")
	}
	gone := snapshotMessage()
	gone.To = new(uint64(77))
	a.Send([]*raftpb.Message{gone})
	if await(t, a.snapshots) || len(a.snapshots) > 0 || len(b.received) > 0 {
		t.Error("reports are wrong")
	}
}

// TestRefusals asks with wrong headers.
func TestRefusals(t *testing.T) {
	b := newEnd(t, 2, testCluster)
	b.remove(4)
	good := map[string]string{"X-Server-From": "1", "X-Server-Version": "3.6.0", "X-Min-Cluster-Version": "3.0.0", "X-Etcd-Cluster-ID": "c1", "X-Raft-To": "2"}
	body, err := proto.Marshal(heartbeat(1, 2, 1))
	if err != nil {
		t.Fatal(err)
	}
	toOther, _ := proto.Marshal(heartbeat(1, 3, 1))
	fromRemoved, _ := proto.Marshal(heartbeat(4, 2, 1))
	for _, x := range []struct {
		method, path, header, value string
		body                        []byte
		status                      int
		text                        string
	}{
		{"POST", "/raft", "", "", body, 204, ""},
		{"GET", "/raft", "", "", nil, 405, "Method Not Allowed\n"},
		{"POST", "/raft", "X-Etcd-Cluster-ID", "c2", body, 412, "cluster ID mismatch\n"},
		{"POST", "/raft", "X-Server-Version", "2.3.0", body, 412, "incompatible version\n"},
		{"POST", "/raft", "X-Server-Version", "", body, 412, "incompatible version\n"},
		{"POST", "/raft", "X-Server-Version", "nonsense", body, 412, "incompatible version\n"},
		{"POST", "/raft", "X-Min-Cluster-Version", "3.8.0", body, 412, "incompatible version\n"},
		{"POST", "/raft", "", "", []byte{0xff}, 400, "error unmarshalling raft message\n"},
		{"POST", "/raft", "", "", toOther, 403, `{"message":"cannot process message to mismatch member"}` + "\n"},
		{"POST", "/raft", "", "", fromRemoved, 403, `{"message":"cannot process message from removed member"}` + "\n"},
		{"GET", "/raft/stream/message/4", "", "", nil, 410, "removed member\n"},
		{"GET", "/raft/stream/message/1", "", "", nil, 404, "error sender not found\n"},
		{"GET", "/raft/stream/other/1", "", "", nil, 404, "invalid path\n"},
		{"POST", "/raft/snapshot", "", "", []byte("short"), 400, "failed to decode raft message (unexpected EOF)\n"},
	} {
		r, err := http.NewRequest(x.method, b.url()+x.path, strings.NewReader(string(x.body)))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range good {
			r.Header.Set(k, v)
		}
		if x.header != "" {
			r.Header.Set(x.header, x.value)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != x.status || string(text) != x.text {
			t.Errorf("%s %s %s=%s: %d %q, want %d %q", x.method, x.path, x.header, x.value, resp.StatusCode, text, x.status, x.text)
		}
	}
}

// TestExpelled connects to a member that knows this one as removed.
func TestExpelled(t *testing.T) {
	a, b := newEnd(t, 1, testCluster), newEnd(t, 2, testCluster)
	b.remove(1)
	a.AddPeer(2, []string{b.url()})
	await(t, a.expelled)
}

// local answers a port's questions.
type local struct{}

func (local) RenewHere(_ context.Context, id int64) (int64, error) {
	if id == 7 {
		return 60, nil
	}
	return 0, lease.ErrNotFound
}

func (local) TimeToLiveHere(_ context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if r.ID == 7 {
		return &pb.LeaseTimeToLiveResponse{ID: 7, TTL: 5, GrantedTTL: 60, Keys: [][]byte{[]byte("k")}}, nil
	}
	return nil, lease.ErrNotPrimary
}

func (local) HashKV(_ context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	if r.Revision > 9 {
		return nil, errors.New("mvcc: required revision is a future revision")
	}
	if r.Revision < 3 {
		return nil, mvcc.ErrCompacted
	}
	return &pb.HashKVResponse{Header: &pb.ResponseHeader{ClusterId: 1, Revision: 9}, Hash: 42, CompactRevision: 3, HashRevision: r.Revision}, nil
}

func (local) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return &pb.MemberListResponse{Members: []*pb.Member{{ID: 5, Name: "n", PeerURLs: []string{"http://a:1"}, ClientURLs: []string{"http://a:2"}}, {ID: 6, PeerURLs: []string{"http://b:1"}, IsLearner: true}}}, nil
}
func (local) PromoteHere(ctx context.Context, id uint64) ([]*pb.Member, error) {
	switch id {
	case 6: // with users
		if c := auth.From(ctx); c == nil {
			return nil, auth.ErrUserEmpty
		} else if !c.HasToken || c.Token != "root's" {
			return nil, auth.ErrInvalidToken
		}
		return nil, nil
	case 1:
		return nil, cluster.ErrMemberNotLearner
	case 2:
		return nil, fmt.Errorf("%w: 1 of 100", cluster.ErrLearnerNotReady)
	case 3:
		return nil, cluster.ErrNotEnoughStarted
	case 4:
		return nil, errors.New("not the leader")
	case 7:
		return []*pb.Member{{ID: 7, Name: "seven", PeerURLs: []string{"http://a:1"}}}, nil
	}
	return nil, cluster.ErrIDNotFound
}
func (local) DowngradeEnabled(context.Context) (bool, error) { return false, nil }

// TestQuestions asks what is not raft's, by the Caller and by hand.
func TestQuestions(t *testing.T) {
	b := newEnd(t, 2, testCluster)
	ctx, urls := t.Context(), []string{"http://127.0.0.1:1", b.url()}
	c := NewCaller(Options{Clock: clock.System})
	if ttl, err := c.LeaseRenew(ctx, urls, 7); ttl != 60 || err != nil {
		t.Error(ttl, err)
	}
	if _, err := c.LeaseRenew(ctx, urls, 8); !errors.Is(err, lease.ErrNotFound) {
		t.Error(err)
	}
	if r, err := c.LeaseTimeToLive(ctx, urls, &pb.LeaseTimeToLiveRequest{ID: 7, Keys: true}); err != nil || r.TTL != 5 || len(r.Keys) != 1 {
		t.Error(r, err)
	}
	if _, err := c.LeaseTimeToLive(ctx, urls, &pb.LeaseTimeToLiveRequest{ID: 8}); err == nil || errors.Is(err, lease.ErrNotFound) {
		t.Error(err)
	}
	ms, id, err := c.Members(ctx, urls)
	if err != nil || id != testCluster || len(ms) != 2 || ms[0].Name != "n" || !ms[1].IsLearner {
		t.Error(ms, id, err)
	}
	for _, x := range []struct{ path, body, want string }{
		{"/members", "", `[{"id":5,"peerURLs":["http://a:1"],"name":"n","clientURLs":["http://a:2"]},{"id":6,"peerURLs":["http://b:1"],"isLearner":true}]` + "\n"},
		{"/members/hashkv", `{"revision":4}`, `{"header":{"revision":9},"hash":42,"compact_revision":3,"hash_revision":4}`},
		{"/members/hashkv", `{"revision":40}`, "mvcc: required revision is a future revision\n"},
		{"/downgrade/enabled", "", "false"},
		{"/members/promote/5", "", "Method Not Allowed\n"},
	} {
		r, _ := http.NewRequest(http.MethodGet, b.url()+x.path, strings.NewReader(x.body))
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(text) != x.want {
			t.Errorf("%s: %s", x.path, text)
		}
	}
	resp, err := http.Get(b.url() + "/raft/probing")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var probe struct {
		OK  bool
		Now time.Time
	}
	if err := json.NewDecoder(resp.Body).Decode(&probe); err != nil || !probe.OK || probe.Now.IsZero() {
		t.Error(probe, err)
	}
}

// TestHashKV asks for hashes: verdicts come back as such, and a member of another cluster gives none.
func TestHashKV(t *testing.T) {
	b := newEnd(t, 2, testCluster)
	c, urls := NewCaller(Options{Clock: clock.System}), []string{"http://127.0.0.1:1", b.url()}
	r, err := c.HashKV(t.Context(), urls, testCluster, 4)
	if err != nil || r.Hash != 42 || r.HashRevision != 4 || r.CompactRevision != 3 || r.Header.GetRevision() != 9 {
		t.Error(r, err)
	}
	for rev, want := range map[int64]error{40: mvcc.ErrFutureRev, 2: mvcc.ErrCompacted} {
		if _, err := c.HashKV(t.Context(), urls, testCluster, rev); !errors.Is(err, want) {
			t.Errorf("revision %d: %v, want %v", rev, err, want)
		}
	}
	if _, err := c.HashKV(t.Context(), urls, testCluster+1, 4); !errors.Is(err, errClusterMismatch) {
		t.Error(err)
	}
	if _, err := c.HashKV(t.Context(), urls[:1], testCluster, 4); err == nil {
		t.Error("nobody there gave a hash")
	}
}

// TestPromote asks a leader to promote: verdicts come back as such, anything else as a reason to ask again.
func TestPromote(t *testing.T) {
	b := newEnd(t, 2, testCluster)
	c := NewCaller(Options{Clock: clock.System})
	for id, want := range map[uint64]error{
		1: cluster.ErrMemberNotLearner, 2: cluster.ErrLearnerNotReady, 3: cluster.ErrNotEnoughStarted, 5: cluster.ErrIDNotFound,
	} {
		if _, err := c.Promote(t.Context(), []string{b.url()}, id, ""); !errors.Is(err, want) {
			t.Errorf("member %d: %v, want %v", id, err, want)
		}
	}
	if _, err := c.Promote(t.Context(), []string{b.url()}, 4, ""); err == nil || !strings.Contains(err.Error(), "not the leader") {
		t.Error(err)
	}
	for token, want := range map[string]error{"": auth.ErrUserEmpty, "tom's": auth.ErrInvalidToken, "root's": nil} {
		if _, err := c.Promote(t.Context(), []string{b.url()}, 6, token); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("with the token %q: %v, want %v", token, err, want)
		}
	}
	all, err := c.Promote(t.Context(), []string{b.url()}, 7, "")
	if err != nil || len(all) != 1 || all[0].Name != "seven" {
		t.Error(all, err)
	}
	// What stock members look at: status, text, list.
	for _, x := range []struct {
		path   string
		status int
		text   string
	}{
		{"1", http.StatusPreconditionFailed, "membership: can only promote a learner member\n"},
		{"2", http.StatusPreconditionFailed, "etcdserver: can only promote a learner member which is in sync with leader: 1 of 100\n"},
		{"5", http.StatusNotFound, "membership: ID not found\n"},
		{"a1", http.StatusNotFound, "member a1 not found in cluster\n"},
		{"4", http.StatusInternalServerError, "not the leader\n"},
		{"7", http.StatusOK, `[{"id":7,"peerURLs":["http://a:1"],"name":"seven"}]` + "\n"},
	} {
		resp, err := http.Post(b.url()+"/members/promote/"+x.path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != x.status || string(text) != x.text || resp.Header.Get("X-Etcd-Cluster-ID") != hexID(testCluster) {
			t.Errorf("%s: %d %s", x.path, resp.StatusCode, text)
		}
	}
}

// TestUnixSocket talks over a unix socket.
func TestUnixSocket(t *testing.T) {
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	b := newEnd(t, 2, testCluster)
	s := &http.Server{Handler: b.Handler(local{})}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	c := NewCaller(Options{Clock: clock.System})
	if _, id, err := c.Members(t.Context(), []string{"unix://" + path}); err != nil || id != testCluster {
		t.Error(id, err)
	}
}
