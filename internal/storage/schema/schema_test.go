package schema

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

func TestRevisionKeySortsAndParses(t *testing.T) {
	revs := []Revision{{0, 0}, {1, 0}, {1, 1}, {1, 255}, {1, 256}, {2, 0}, {1 << 40, 3}}
	var last []byte
	for _, r := range revs {
		for _, tomb := range []bool{false, true} {
			k := RevisionKey(r, tomb)
			if bytes.Compare(last, k) >= 0 {
				t.Fatalf("%x does not sort after %x", k, last)
			}
			last = k
			got, gotTomb, err := ParseRevisionKey(k)
			if err != nil || got != r || gotTomb != tomb {
				t.Fatalf("ParseRevisionKey(%x) = %v %v %v", k, got, gotTomb, err)
			}
		}
	}
}

// The bytes below were read out of a directory of etcd 3.7.3.
func TestBytesAreEtcds(t *testing.T) {
	member := Member{
		ID:         12059357587627211260,
		PeerURLs:   []string{"http://127.0.0.1:41101"},
		Name:       "one",
		ClientURLs: []string{"http://127.0.0.1:41100"},
	}
	learner := Member{ID: 7, PeerURLs: []string{"http://h:1", "http://h:2"}, IsLearner: true}
	for _, c := range []struct{ got, want string }{
		{string(EncodeMember(member)), `{"id":12059357587627211260,"peerURLs":["http://127.0.0.1:41101"],"name":"one","clientURLs":["http://127.0.0.1:41100"]}`},
		{string(EncodeMember(learner)), `{"id":7,"peerURLs":["http://h:1","http://h:2"],"isLearner":true}`},
		{string(MemberKey(12059357587627211260)), "a75b71d52dee79fc"},
		{string(ConfStateJSON(&raftpb.ConfState{Voters: []uint64{12059357587627211260}, AutoLeave: new(bool)})), `{"voters":[12059357587627211260],"auto_leave":false}`},
		{string(EncodeDowngrade(Downgrade{})), `{"target-version":"","enabled":false}`},
		{string(RevisionKey(Revision{2, 0}, true)), "\x00\x00\x00\x00\x00\x00\x00\x02_\x00\x00\x00\x00\x00\x00\x00\x00t"},
		{string(AppendLease(nil, 1, 300, 0)), "\x08\x01\x10\xac\x02"},
	} {
		if c.got != c.want {
			t.Errorf("got  %q\nwant %q", c.got, c.want)
		}
	}
	back, err := ParseMember(EncodeMember(member))
	if err != nil || !reflect.DeepEqual(back, member) {
		t.Errorf("ParseMember = %+v, %v", back, err)
	}
}

func TestBucketIDsIndexAnArray(t *testing.T) {
	seen := make([]bool, BucketsLen)
	for _, b := range Buckets() {
		if seen[b.ID] || b.ID == 0 {
			t.Errorf("bucket %s has ID %d", b, b.ID)
		}
		seen[b.ID] = true
	}
}

func FuzzRevisionKey(f *testing.F) {
	f.Add(RevisionKey(Revision{3, 1}, false))
	f.Add(RevisionKey(Revision{3, 1}, true))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rev, tomb, err := ParseRevisionKey(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if again := RevisionKey(rev, tomb); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func FuzzLease(f *testing.F) {
	f.Add(AppendLease(nil, 1, 2, 3))
	f.Add(AppendLease(nil, -1, 1<<40, 0))
	f.Add([]byte{0x22, 3, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, ttl, remaining, err := ParseLease(b)
		if err != nil {
			return
		}
		id2, ttl2, remaining2, err := ParseLease(AppendLease(nil, id, ttl, remaining))
		if err != nil || id != id2 || ttl != ttl2 || remaining != remaining2 {
			t.Fatalf("lease %x came back changed: %v", b, err)
		}
	})
}

func FuzzMemberJSON(f *testing.F) {
	f.Add([]byte(`{"id":7,"peerURLs":["http://h:1"],"isLearner":true,"name":"n"}`))
	f.Add([]byte(`{"target-version":"3.6.0","enabled":true}`))
	f.Add([]byte(`{"voters":[1,2],"learners":[3],"auto_leave":false}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseMember(b); err == nil {
			again, err := ParseMember(EncodeMember(m))
			if err != nil || again.ID != m.ID || again.Name != m.Name || len(again.PeerURLs) != len(m.PeerURLs) {
				t.Fatalf("member %q came back as %+v, %v", b, again, err)
			}
		}
		if d, err := ParseDowngrade(b); err == nil {
			if again, err := ParseDowngrade(EncodeDowngrade(d)); err != nil || again != d {
				t.Fatalf("downgrade %q came back as %+v, %v", b, again, err)
			}
		}
		if cs, err := ParseConfState(b); err == nil {
			again, err := ParseConfState(ConfStateJSON(cs))
			if err != nil || len(again.Voters) != len(cs.Voters) {
				t.Fatalf("confState %q came back as %v, %v", b, again, err)
			}
		}
	})
}
