package snap

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
	"keelson/test/fixture"
)

// etcdsFile gives a .snap file that etcd 3.7.3 wrote.
func etcdsFile(t testing.TB) []byte {
	t.Helper()
	return fixture.Gunzip(t, "etcd37.snap.gz")
}

func TestBytesAreEtcds(t *testing.T) {
	file := etcdsFile(t)
	s, err := Decode(file)
	if err != nil || s.Index != 33 || s.Term != 2 || len(s.ConfState.GetVoters()) != 1 {
		t.Fatalf("Decode = %+v, %v", s, err)
	}
	if again, err := Encode(s); err != nil || !bytes.Equal(again, file) {
		t.Errorf("Encode gave other bytes, %v", err)
	}
	m, err := DecodeV2(s.Data)
	want := V2Members{
		Members: []schema.Member{{
			ID: 12059357587627211260, PeerURLs: []string{"http://127.0.0.1:41101"},
			Name: "one", ClientURLs: []string{"http://127.0.0.1:41100"},
		}},
		ClusterVersion: "3.7.0",
	}
	if err != nil || !reflect.DeepEqual(m, want) {
		t.Fatalf("DecodeV2 = %+v, %v", m, err)
	}
	// The tree is etcd's to the byte; its events and counts are not kept.
	type tree struct {
		Root           json.RawMessage
		CurrentIndex   uint64
		CurrentVersion int
	}
	var ours, theirs tree
	if err := errors.Join(json.Unmarshal(EncodeV2(m), &ours), json.Unmarshal(s.Data, &theirs)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(ours, theirs) {
		t.Errorf("ours   %s\ntheirs %s", ours.Root, theirs.Root)
	}
}

func TestV2RoundTrip(t *testing.T) {
	m := V2Members{
		Members: []schema.Member{
			{ID: 3, PeerURLs: []string{"http://a:1", "http://b:2"}, Name: "n", ClientURLs: []string{"http://a:3"}},
			{ID: 1 << 63, PeerURLs: []string{"http://c:1"}, IsLearner: true},
		},
		Removed:        []uint64{7, 9},
		ClusterVersion: "3.6.0",
	}
	got, err := DecodeV2(EncodeV2(m))
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("came back as %+v, %v", got, err)
	}
}

func TestV2UserDataIsRefused(t *testing.T) {
	for _, c := range []struct {
		json string
		want error
	}{
		{`{"Root":{"Children":{"1":{"Children":{"foo":{"Value":"bar"}}}}}}`, ErrV2UserData},
		{`{"Root":{"Children":{"2":{"Children":{"users":{"Children":{"root":{"Value":"x"}}}}}}}}`, ErrV2UserData},
		{`{"Root":{"Children":{"2":{"Children":{"enabled":{"Value":"false"},"users":{"Children":{}}}}}}}`, nil},
		{`{"Root":{"Children":{"0":{"Children":{"members":{"Children":{"xyz":{}}}}}}}}`, ErrV2},
		{`{"Root":{"Children":{"0":{"Children":{"members":{"Children":{"1":{"Children":{}}}}}}}}}`, ErrV2},
		{`{"Root":{"Children":{"0":null}}}`, ErrV2},
		{`{}`, ErrV2},
		{`no`, ErrV2},
	} {
		if _, err := DecodeV2([]byte(c.json)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.json, err, c.want)
		}
	}
}

func TestSaveLoadPurge(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(vfs.OS, dir, func(uint64, uint64) bool { return true }); !errors.Is(err, ErrNone) {
		t.Fatalf("empty directory: %v", err)
	}
	for i := range uint64(5) {
		s := Snapshot{Index: 100 + 10*i, Term: 2, ConfState: &raftpb.ConfState{Voters: []uint64{1}}, Data: EncodeV2(V2Members{})}
		if err := Save(vfs.OS, dir, s); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Load(vfs.OS, dir, func(index, term uint64) bool { return index <= 130 && term == 2 })
	if err != nil || s.Index != 130 || s.ConfState.GetVoters()[0] != 1 {
		t.Fatalf("Load = %+v, %v", s, err)
	}
	// A damaged one is passed over.
	newest := filepath.Join(dir, "0000000000000002-000000000000008c.snap")
	if err := os.WriteFile(newest, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Load(vfs.OS, dir, func(uint64, uint64) bool { return true }); err != nil || s.Index != 130 {
		t.Fatalf("Load = %+v, %v", s, err)
	}
	if _, err := Load(vfs.OS, dir, func(uint64, uint64) bool { return false }); !errors.Is(err, ErrNone) || !errors.Is(err, ErrCorrupt) {
		t.Fatalf("Load: %v", err)
	}
	all, err := list(vfs.OS, dir)
	if err != nil || Purge(vfs.OS, dir, 0) != nil {
		t.Fatal(err)
	}
	if left, err := list(vfs.OS, dir); err != nil || len(left) != len(all) {
		t.Errorf("0 keeps all, and %v is left of %v (%v)", left, all, err)
	}
	if err := Purge(vfs.OS, dir, 2); err != nil {
		t.Fatal(err)
	}
	names, err := list(vfs.OS, dir)
	if err != nil || len(names) != 2 || names[1] != filepath.Base(newest) {
		t.Errorf("left after Purge: %v, %v", names, err)
	}
}

func TestReceiveAndClean(t *testing.T) {
	dir := t.TempDir()
	for _, index := range []uint64{5, 0xab} {
		if _, err := ReceiveDB(vfs.OS, dir, index, strings.NewReader("a state file"), clock.System); err != nil {
			t.Fatalf("ReceiveDB: %v", err)
		}
	}
	if _, err := ReceiveDB(vfs.OS, dir, 6, io.MultiReader(strings.NewReader("part"), failing{}), clock.System); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("ReceiveDB of a broken stream: %v", err)
	}
	for _, name := range []string{"db", "tmp123", "db.tmp.77", "0000000000000001-0000000000000005.snap", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := CleanTemp(vfs.OS, dir, 10); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"0000000000000001-0000000000000005.snap", "00000000000000ab.snap.db", "db", "other"}; !reflect.DeepEqual(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
	if err := DropDBs(vfs.OS, dir, 0xaa); err != nil {
		t.Fatal(err)
	}
	if !HasDB(vfs.OS, dir, 0xab) || HasDB(vfs.OS, dir, 5) || HasDB(vfs.OS, dir, 6) {
		t.Error("HasDB tells something else")
	}
	if err := DropDBs(vfs.OS, dir, 0xab); err != nil || HasDB(vfs.OS, dir, 0xab) {
		t.Errorf("a file that was passed over stays: %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func FuzzDecode(f *testing.F) {
	f.Add(etcdsFile(f))
	f.Add([]byte{0x08, 1, 0x12, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		b2, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(b2)
		if err != nil || again.Index != s.Index || again.Term != s.Term || !bytes.Equal(again.Data, s.Data) {
			t.Fatalf("came back as %+v, %v", again, err)
		}
	})
}

func FuzzDecodeV2(f *testing.F) {
	f.Add(EncodeV2(V2Members{Members: []schema.Member{{ID: 1, PeerURLs: []string{"http://a:1"}, Name: "n"}}, Removed: []uint64{2}, ClusterVersion: "3.6.0"}))
	f.Add([]byte(`{"Root":{"Children":{"1":{"Children":{"foo":{}}}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeV2(b)
		if err != nil {
			if !errors.Is(err, ErrV2) && !errors.Is(err, ErrV2UserData) {
				t.Fatal(err)
			}
			return
		}
		again, err := DecodeV2(EncodeV2(m))
		if err != nil || again.ClusterVersion != m.ClusterVersion || len(again.Members) > len(m.Members) {
			t.Fatalf("%+v came back as %+v, %v", m, again, err)
		}
	})
}
