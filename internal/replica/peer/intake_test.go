package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/logging"
)

// drops is a body that gives one byte after each pause.
type drops struct{ pause time.Duration }

func (d drops) Read(b []byte) (int, error) {
	time.Sleep(d.pause)
	b[0] = 'x'
	return 1, nil
}

// A body that comes in drops is given up, be each pause as short as the bound on silence asks. One that is slow is not.
func TestDribblingBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(from io.Reader) (time.Duration, error) {
			start := time.Now()
			_, err := io.Copy(io.Discard, &slowBody{body: from, control: http.NewResponseController(httptest.NewRecorder()), silence: 5 * time.Second})
			return time.Since(start), err
		}
		if took, err := read(drops{4 * time.Second}); !errors.Is(err, errTooSlow) || took > 2*paceTime {
			t.Errorf("after %v: %v", took, err)
		}
		// 1 MiB at twice the least pace takes half a minute.
		if took, err := read(io.LimitReader(drops{time.Second / (2 * paceBytes)}, 1<<20)); err != nil || took < paceTime {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// A length alone takes no memory to speak of.
func TestLengthTakesNoMemory(t *testing.T) {
	const tries = 100
	head := binary.BigEndian.AppendUint64(nil, snapshotBytesMax)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range tries {
		if _, err := readMessage(bytes.NewReader(head), snapshotBytesMax); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / tries; each > 128<<10 {
		t.Errorf("8 bytes that promise %d take %d", snapshotBytesMax, each)
	}
}

// Two bytes stand for an empty entry, which takes fifty times that in memory; a message within a message takes more.
func TestSwellingMessages(t *testing.T) {
	ents := bytes.Repeat([]byte{fieldEntries<<3 | 2, 0}, 1<<19)
	if _, err := parseMessage(ents, 1<<20); !errors.Is(err, errTooLarge) {
		t.Error(err)
	}
	if m, err := parseMessage(ents[:200], 1<<20); err != nil || len(m.GetEntries()) != 100 {
		t.Error(m, err)
	}
	nested, err := proto.Marshal(&raftpb.Message{Responses: []*raftpb.Message{{}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseMessage(nested, 1<<20); !errors.Is(err, errMalformed) {
		t.Error(err)
	}
	for _, bad := range []string{"\xff", "\x3a\x05", "\x3a\x80"} {
		if _, err := parseMessage([]byte(bad), 1<<20); !errors.Is(err, errMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// post sends a body to a member's peer port as a member of its cluster would.
func (e *end) post(t *testing.T, path, clusterID string, body io.Reader, size int64) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = size
	r.Header.Set("X-Etcd-Cluster-ID", clusterID)
	r.Header.Set("X-Server-From", "9")
	r.Header.Set("X-Server-Version", "3.7.0")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) // a status is enough where the connection ends early
	return resp.StatusCode, string(text)
}

// What is posted is bounded, each message and all together, and each kind of refusal is told once with its sender.
func TestIntake(t *testing.T) {
	e := newEnd(t, 2, testCluster)
	core, logs := observer.New(zap.WarnLevel)
	e.refusals.log = zap.New(core)
	good, err := proto.Marshal(heartbeat(9, 2, 1))
	if err != nil {
		t.Fatal(err)
	}
	forOther, err := proto.Marshal(heartbeat(9, 3, 1))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, path, cluster string
		body                []byte
		status              int
		logged              string
	}{
		{"good", raftPath, "c1", good, http.StatusNoContent, ""},
		{"another cluster", raftPath, "c2", good, http.StatusPreconditionFailed, "refused a member of another cluster"},
		{"another member", raftPath, "c1", forOther, http.StatusForbidden, "rejected a Raft message"},
		{"garbage", raftPath, "c1", []byte("\xff\xff"), http.StatusBadRequest, "failed to decode a Raft message"},
		{"entries without end", raftPath, "c1", bytes.Repeat([]byte{0x3a, 0}, 2<<20), http.StatusBadRequest, "failed to decode a Raft message"},
		{"a length that lies", snapshotPath, "c1", append(binary.BigEndian.AppendUint64(nil, 1<<20), "x"...), http.StatusBadRequest, "failed to decode a snapshot message"},
		{"a length past the bound", snapshotPath, "c1", bytes.Repeat([]byte{0xff}, 16), http.StatusBadRequest, "failed to decode a snapshot message"},
		{"no snapshot", snapshotPath, "c1", append(binary.BigEndian.AppendUint64(nil, uint64(len(good))), good...), http.StatusBadRequest, "refused a message that is no snapshot"},
		{"a question without end", leasesPath, "c1", make([]byte, questionBytesMax+1), http.StatusRequestEntityTooLarge, "failed to read a question of a member"},
	}
	for _, c := range cases {
		before := logs.Len()
		for range 2 {
			if status, text := e.post(t, c.path, c.cluster, bytes.NewReader(c.body), int64(len(c.body))); status != c.status {
				t.Errorf("%s: status %d: %s", c.name, status, text)
			}
		}
		told := logs.All()[before:]
		switch {
		case c.logged == "" && len(told) > 0, c.logged != "" && len(told) > 1:
			t.Errorf("%s: told %v", c.name, told)
		case len(told) == 1 && (told[0].Message != c.logged || !strings.HasPrefix(told[0].ContextMap()["remote-address"].(string), "127.0.0.1:") || told[0].ContextMap()["remote-peer-id"] != "9"):
			t.Errorf("%s: told %v", c.name, told[0])
		}
	}
	if status, _ := e.post(t, raftPath, "c1", &zeros{left: postBytesMax + 1}, postBytesMax+1); status != http.StatusRequestEntityTooLarge {
		t.Errorf("64 MiB and a byte: status %d", status)
	}
	e.room = semaphore.NewWeighted(int64(len(good)) - 1)
	if status, _ := e.post(t, raftPath, "c1", bytes.NewReader(good), int64(len(good))); status != http.StatusServiceUnavailable {
		t.Errorf("without room: status %d", status)
	}
	e.room = semaphore.NewWeighted(int64(len(good)))
	for range 3 { // what is taken is given back
		if status, _ := e.post(t, raftPath, "c1", bytes.NewReader(good), int64(len(good))); status != http.StatusNoContent {
			t.Errorf("with room: status %d", status)
		}
	}
}

// A refusal is told once for each host, whatever its port.
func TestRefusalsAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		f := &refusals{zap.New(core), logging.NewSeldom(clock.System)}
		ask := func(remote string) {
			f.tell(&http.Request{RemoteAddr: remote, Header: http.Header{}, URL: &url.URL{Path: raftPath}}, "no")
		}
		for range 10 {
			ask("10.0.0.1:1")
			ask("10.0.0.1:2")
			ask("10.0.0.2:1")
		}
		if n := logs.Len(); n != 2 {
			t.Errorf("%d lines for two hosts", n)
		}
	})
}

// Traffic is counted by members alone: a stranger names as many senders as they like, and each would be a metric.
func TestStrangersAreCountedTogether(t *testing.T) {
	e := newEnd(t, 2, testCluster)
	counted := make(chan uint64, 64)
	e.o.Observe.Received = func(id uint64, _ int) { counted <- id }
	e.o.Observe.ReceiveFailed = func(id uint64) { counted <- id }
	send := func(from, as uint64) {
		t.Helper()
		b, err := proto.Marshal(heartbeat(from, 2, 1))
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range [][]byte{b, b[:1]} {
			e.post(t, raftPath, "c1", bytes.NewReader(body), int64(len(body)))
			if id := <-counted; id != as {
				t.Errorf("what %d sends is counted as %d's", from, id)
			}
		}
	}
	send(9, 0)
	send(1<<40, 0)
	e.AddPeer(9, []string{"http://127.0.0.1:1"})
	send(9, 9)
}
