package peer

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func entry(term, index uint64, data string) *raftpb.Entry {
	return &raftpb.Entry{Term: new(term), Index: new(index), Data: []byte(data), Type: raftpb.EntryNormal.Enum()}
}

func appendMessage(term, logTerm, index, commit uint64, ents ...*raftpb.Entry) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(term), LogTerm: new(logTerm),
		Index: new(index), Commit: new(commit), Entries: ents,
	}
}

// TestAppendGolden holds the bytes of each form of an append stream.
func TestAppendGolden(t *testing.T) {
	c := &appendCodec{}
	for _, x := range []struct {
		name string
		m    *raftpb.Message
		want string
	}{
		{"heartbeat", linkHeartbeat, "00"},
		{"whole", appendMessage(2, 1, 4, 4, entry(2, 5, "a")), "02" + "0000000000000019" +
			"080310021801200228013004" + "3a09" + "080010021805220161" + "4004"},
		{"next entry", appendMessage(2, 2, 5, 5, entry(2, 6, "b")), "01" + "0000000000000001" +
			"0000000000000009" + "080010021806220162" + "0000000000000005"},
		{"commit alone", appendMessage(2, 2, 6, 6), "01" + "0000000000000000" + "0000000000000006"},
	} {
		got, err := c.append(nil, x.m)
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(got) != x.want {
			t.Errorf("%s: %x, want %s", x.name, got, x.want)
		}
	}
	// Another term, and a place that does not follow, go whole.
	for _, m := range []*raftpb.Message{appendMessage(3, 2, 6, 6), appendMessage(3, 3, 9, 6)} {
		if got, err := c.append(nil, m); err != nil || got[0] != appendWhole {
			t.Errorf("%v: form %d, %v", m, got[0], err)
		}
	}
}

func TestMessageGolden(t *testing.T) {
	got, err := messageCodec{}.append(nil, linkHeartbeat)
	if err != nil || hex.EncodeToString(got) != "00000000000000020808" {
		t.Errorf("%x, %v", got, err)
	}
}

// TestAppendStream sends random logs through both ends.
func TestAppendStream(t *testing.T) {
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	out, in := &appendCodec{}, &appendCodec{local: 2, remote: 1}
	var stream []byte
	var sent []*raftpb.Message
	term, index := uint64(1), uint64(0)
	for range 2000 {
		logTerm := term
		switch rng.Intn(20) {
		case 0:
			term++
		case 1:
			index = uint64(rng.Intn(100)) + 1
		case 2:
			stream, _ = out.append(stream, linkHeartbeat)
		}
		m := appendMessage(term, logTerm, index, uint64(rng.Intn(50)))
		for range rng.Intn(4) {
			index++
			m.Entries = append(m.Entries, entry(term, index, string(make([]byte, rng.Intn(100)))))
		}
		var err error
		if stream, err = out.append(stream, m); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, m)
	}
	r := bufio.NewReader(bytes.NewReader(stream))
	for i := 0; i < len(sent); {
		m, err := in.read(r)
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			continue
		}
		if !proto.Equal(m, sent[i]) {
			t.Fatalf("message %d: %v, want %v", i, m, sent[i])
		}
		i++
	}
	if _, err := in.read(r); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestLengthsAreBounded(t *testing.T) {
	huge := bytes.Repeat([]byte{0xff}, 8)
	if _, err := readMessage(bytes.NewReader(huge), snapshotBytesMax); !errors.Is(err, errTooLarge) {
		t.Error(err)
	}
	in := &appendCodec{}
	if _, err := in.read(bufio.NewReader(bytes.NewReader(append([]byte{appendEntries}, huge...)))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func FuzzAppendRead(f *testing.F) {
	c := &appendCodec{}
	var b []byte
	for _, m := range []*raftpb.Message{linkHeartbeat, appendMessage(2, 1, 4, 4, entry(2, 5, "a")), appendMessage(2, 2, 5, 5, entry(2, 6, "b"))} {
		b, _ = c.append(b, m)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, in := bufio.NewReader(bytes.NewReader(b)), &appendCodec{local: 2, remote: 1}
		for {
			m, err := in.read(r)
			if err != nil {
				return
			}
			if m != nil && len(m.GetEntries()) > len(b) {
				t.Fatalf("%d entries out of %d bytes", len(m.GetEntries()), len(b))
			}
		}
	})
}

// FuzzParseEntry holds the entry parser to protobuf's answers.
func FuzzParseEntry(f *testing.F) {
	for _, e := range []*raftpb.Entry{entry(1, 2, "x"), {}, {Type: raftpb.EntryConfChange.Enum()}} {
		b, err := proto.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x22\x00"))
	f.Add([]byte("\x08\x09\x10\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		want := &raftpb.Entry{}
		wantErr := proto.Unmarshal(b, want)
		got, err := parseEntry(b)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, protobuf's %v", err, wantErr)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatalf("%v, protobuf's %v", got, want)
		}
	})
}
