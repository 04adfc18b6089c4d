package v2store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// dump shows the users' part of the tree, a node a line.
func dump(s *Store) string {
	var b strings.Builder
	_ = s.Walk(Keys, func(n Node) error {
		fmt.Fprintf(&b, "%s", n.Path)
		if n.Dir {
			b.WriteString("/")
		} else {
			fmt.Fprintf(&b, "=%s", n.Value)
		}
		fmt.Fprintf(&b, " %d,%d", n.Created, n.Modified)
		if !n.Expires.IsZero() {
			fmt.Fprintf(&b, " until %d", n.Expires.Unix())
		}
		b.WriteString("\n")
		return nil
	})
	return b.String()
}

const second = int64(time.Second)

// base is a time that counts as an expiry, in Unix seconds.
const base = 2_000_000_000

// program is requests and what they leave.
type program struct {
	name    string
	reqs    []Request
	want    string
	index   uint64
	refused int
}

func programs() []program {
	yes, no := new(true), new(false)
	put := func(path, value string) Request { return Request{Method: MethodPut, Path: "/1" + path, Value: value} }
	with := func(r Request, f func(*Request)) Request { f(&r); return r }
	return []program{
		{"set makes directories and replaces", []Request{put("/a/b", "1"), put("/a/b", "2"), put("/a//c/", "3")},
			"/a/ 1,1\n/a/b=2 2,2\n/a/c=3 3,3\n", 3, 0},
		{"a file is no directory", []Request{put("/a", "1"), put("/a/b", "2"), put("", "x"),
			{Method: MethodPut, Path: "/", Value: "x"}, {Method: MethodDelete, Path: "/0", Recursive: true}, {Method: MethodDelete, Path: "/1", Dir: true}},
			"/a=1 1,1\n", 1, 5},
		{"a directory is replaced by nothing, a file by a directory", []Request{put("/f", "1"),
			with(put("/f", ""), func(r *Request) { r.Dir = true }), put("/f", "2"), with(put("/f", ""), func(r *Request) { r.Dir = true })},
			"/f/ 2,2\n", 2, 2},
		{"create and update", []Request{
			with(put("/a", "1"), func(r *Request) { r.PrevExist = yes }),
			with(put("/a", "1"), func(r *Request) { r.PrevExist = no }),
			with(put("/a", "2"), func(r *Request) { r.PrevExist = no }),
			with(put("/a", "3"), func(r *Request) { r.PrevExist = yes })},
			"/a=3 1,2\n", 2, 2},
		{"compare and swap keeps the created index", []Request{put("/a", "1"),
			with(put("/a", "2"), func(r *Request) { r.PrevValue = "1" }),
			with(put("/a", "3"), func(r *Request) { r.PrevIndex = 2 }),
			with(put("/a", "4"), func(r *Request) { r.PrevIndex, r.PrevValue = 3, "2" }),
			with(put("/a", "4"), func(r *Request) { r.PrevExist, r.PrevValue = yes, "2" }),
			with(put("/b", "4"), func(r *Request) { r.PrevValue = "2" })},
			"/a=3 1,3\n", 3, 3},
		{"compare and swap of a directory", []Request{put("/d/a", "1"), with(put("/d", "2"), func(r *Request) { r.PrevIndex = 1 }),
			with(put("/d", "2"), func(r *Request) { r.PrevExist = yes })},
			"/d/ 1,1\n/d/a=1 1,1\n", 1, 2},
		{"in order", []Request{{Method: MethodPost, Path: "/1/q", Value: "a"}, {Method: MethodPost, Path: "/1/q", Value: "b"}, {Method: MethodPost, Path: "/1", Dir: true}},
			"/00000000000000000003/ 3,3\n/q/ 1,1\n/q/00000000000000000001=a 1,1\n/q/00000000000000000002=b 2,2\n", 3, 0},
		{"delete", []Request{put("/d/a", "1"), put("/d/b", "1"), put("/c", "1"), with(put("/e", ""), func(r *Request) { r.Dir = true }),
			{Method: MethodDelete, Path: "/1/d"}, {Method: MethodDelete, Path: "/1/d", Dir: true}, {Method: MethodDelete, Path: "/1/c"},
			{Method: MethodDelete, Path: "/1/e", Dir: true}, {Method: MethodDelete, Path: "/1/d/a", PrevValue: "2"},
			{Method: MethodDelete, Path: "/1/d/a", PrevIndex: 1}, {Method: MethodDelete, Path: "/1/d", PrevIndex: 1}, {Method: MethodDelete, Path: "/1/x"}},
			"/d/ 1,1\n/d/b=1 2,2\n", 7, 5},
		{"delete below", []Request{put("/d/a/b", "1"), {Method: MethodDelete, Path: "/1/d", Recursive: true}}, "", 2, 0},
		{"a TTL that is past counts for an update only", []Request{
			with(put("/a", "1"), func(r *Request) { r.Expiration = 5 * second }), put("/b", "1"),
			with(put("/b", "2"), func(r *Request) { r.PrevExist, r.Expiration = yes, 5*second })},
			"/a=1 1,1\n/b=2 2,3 until 5\n", 3, 0},
		{"an update without a TTL ends it", []Request{
			with(put("/a", "1"), func(r *Request) { r.Expiration = base * second }), with(put("/a", "2"), func(r *Request) { r.PrevExist = yes }),
			{Method: MethodSync, Time: 2 * base * second}},
			"/a=2 1,2\n", 2, 0},
		{"refresh keeps the value", []Request{put("/a", "1"),
			with(put("/a", ""), func(r *Request) { r.Refresh, r.PrevExist, r.Expiration = true, yes, base*second }),
			with(put("/b", ""), func(r *Request) { r.Refresh, r.Expiration = true, base*second }),
			with(put("/a", ""), func(r *Request) { r.Refresh, r.Expiration = true, (base+1)*second })},
			"/a=1 3,3 until 2000000001\n", 3, 1},
		{"a directory's TTL is renewed and its index stays", []Request{
			with(put("/d", ""), func(r *Request) { r.Dir, r.Expiration = true, base*second }), put("/d/a", "1"),
			with(put("/d", ""), func(r *Request) { r.PrevExist, r.Dir, r.Expiration = yes, true, (base+9)*second })},
			"/d/ 1,1 until 2000000009\n/d/a=1 2,2\n", 3, 0},
		{"time expires, each node at its own", []Request{
			with(put("/d", ""), func(r *Request) { r.Dir, r.Expiration = true, base*second }),
			with(put("/d/late", "1"), func(r *Request) { r.Expiration = (base + 5) * second }),
			with(put("/early", "1"), func(r *Request) { r.Expiration = (base - 5) * second }),
			with(put("/stays", "1"), func(r *Request) { r.Expiration = (base + 1) * second }),
			{Method: MethodSync, Time: base * second}, {Method: MethodQGet, Path: "/1/d"}},
			"/stays=1 4,4 until 2000000001\n", 6, 0},
	}
}

// Each request does to the tree and to its index what 3.4.23 does.
func TestApply(t *testing.T) {
	for _, c := range programs() {
		t.Run(c.name, func(t *testing.T) {
			s, refused := New(), 0
			for i := range c.reqs {
				err := s.Apply(&c.reqs[i])
				if errors.Is(err, ErrRefused) {
					refused++
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if got := dump(s); got != c.want || s.Index() != c.index || refused != c.refused {
				t.Errorf("%d refused, index %d\n%swant %d, index %d\n%s", refused, s.Index(), got, c.refused, c.index, c.want)
			}
		})
	}
	if err := New().Apply(&Request{Method: "PATCH"}); !errors.Is(err, ErrUnknownMethod) {
		t.Errorf("an unknown method: %v", err)
	}
}

// The JSON is that of a .snap file of 3.4.23, shortened.
func TestLoad(t *testing.T) {
	s, err := Load([]byte(`{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
		"0":{"Path":"/0","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
			"version":{"Path":"/0/version","CreatedIndex":3,"ModifiedIndex":3,"ExpireTime":"0001-01-01T00:00:00Z","Value":"3.4.0","Children":null}}},
		"1":{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
			"d":{"Path":"/1/d","CreatedIndex":4,"ModifiedIndex":4,"ExpireTime":"2033-05-18T03:33:20Z","Value":"","Children":{
				"a":{"Path":"/1/d/a","CreatedIndex":5,"ModifiedIndex":7,"ExpireTime":"0001-01-01T00:00:00Z","Value":"x","Children":null}}},
			"e":{"Path":"/1/e","CreatedIndex":6,"ModifiedIndex":6,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{}}}}}},
		"WatcherHub":{},"CurrentIndex":9,"Stats":{},"CurrentVersion":2}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := dump(s), "/d/ 4,4 until 2000000000\n/d/a=x 5,7\n/e/ 6,6\n"; got != want || s.Index() != 9 {
		t.Errorf("index %d\n%s", s.Index(), got)
	}
	if err := s.Apply(&Request{Method: MethodSync, Time: base * second}); err != nil || dump(s) != "/e/ 6,6\n" || s.Index() != 10 {
		t.Errorf("after its time: %v, index %d\n%s", err, s.Index(), dump(s))
	}
	for _, bad := range []string{"", "{}", "[]", `{"Root":{"Children":{"1":null}}}`, `{"Root":{"Children":{"a/b":{}}}}`, `{"Root":{"Children":{"..":{}}}}`} {
		if _, err := Load([]byte(bad)); !errors.Is(err, ErrNotStore) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// encoded gives a request's bytes.
func encoded(r Request) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, idField, protowire.VarintType), 77)
	for _, f := range []struct {
		num protowire.Number
		v   string
	}{{methodField, r.Method}, {pathField, r.Path}, {valueField, r.Value}, {prevValueField, r.PrevValue}} {
		b = protowire.AppendString(protowire.AppendTag(b, f.num, protowire.BytesType), f.v)
	}
	bit := func(v bool) uint64 { return protowire.EncodeBool(v) }
	nums := map[protowire.Number]uint64{
		dirField: bit(r.Dir), prevIndexField: r.PrevIndex, expirationField: uint64(r.Expiration), recursiveField: bit(r.Recursive),
		timeField: uint64(r.Time), refreshField: bit(r.Refresh),
	}
	if r.PrevExist != nil {
		nums[prevExistField] = bit(*r.PrevExist)
	}
	for num, v := range nums {
		b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
	}
	return b
}

func TestParse(t *testing.T) {
	want := Request{
		Method: MethodPut, Path: "/1/a", Value: "v", Dir: true, Recursive: true, PrevValue: "p", PrevIndex: 4,
		PrevExist: new(true), Expiration: -5, Time: 6, Refresh: true,
	}
	bare := encoded(want)
	around := protowire.AppendBytes(protowire.AppendTag(nil, aroundField, protowire.BytesType), bare)
	around = append(protowire.AppendVarint(protowire.AppendTag(nil, 100, protowire.VarintType), 1), around...)
	for _, b := range [][]byte{bare, around} {
		got, err := Parse(b)
		if err != nil || got.PrevExist == nil || !*got.PrevExist {
			t.Fatalf("%+v, %v", got, err)
		}
		got.PrevExist = want.PrevExist
		if got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	if _, err := Parse([]byte{0x0a, 0xff}); !errors.Is(err, ErrMalformed) {
		t.Errorf("cut: %v", err)
	}
	for _, c := range []struct {
		r    Request
		want bool
	}{
		{Request{Method: MethodSync}, true}, {Request{Method: MethodPut, Path: "/0/version"}, true}, {Request{Method: MethodPut, Path: "/0"}, true},
		{Request{Method: MethodPut, Path: "/1/0/a"}, false}, {Request{Method: MethodPut, Path: "/00/a"}, false}, {Request{Method: MethodPut, Path: "/2/users"}, false},
	} {
		if c.r.Own() != c.want {
			t.Errorf("%+v: own %v", c.r, c.r.Own())
		}
	}
}

// FuzzLog: whatever a log and a .snap file hold, requests and tree are read or refused, and the tree stays one.
func FuzzLog(f *testing.F) {
	f.Add([]byte(`{"Root":{"Children":{"1":{"Children":{"d":{"ExpireTime":"2033-05-18T03:33:20Z","Children":{"a":{"Value":"x"}}}}}}},"CurrentIndex":9}`),
		encoded(Request{Method: MethodPut, Path: "/1/d", Dir: true, Expiration: base * second}), encoded(Request{Method: MethodSync, Time: 2 * base * second}))
	f.Add([]byte("{}"), encoded(Request{Method: MethodPost, Path: "/1/a"}), encoded(Request{Method: MethodDelete, Path: "/1/a", Recursive: true}))
	f.Fuzz(func(t *testing.T, snap, one, two []byte) {
		s, err := Load(snap)
		if err != nil {
			if !errors.Is(err, ErrNotStore) {
				t.Fatal(err)
			}
			s = New()
		}
		for _, b := range [][]byte{one, two} {
			r, err := Parse(b)
			if err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Fatal(err)
				}
				continue
			}
			if err := s.Apply(&r); err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnknownMethod) {
				t.Fatal(err)
			}
		}
		expiring := 0
		for _, n := range s.expires {
			for at := n; at.parent != nil; at = at.parent {
				if at.parent.children[at.name] != at {
					t.Fatalf("%s expires and is not in the tree", n.path())
				}
			}
			expiring++
		}
		_ = s.Walk("/", func(n Node) error {
			if !n.Expires.IsZero() {
				expiring--
			}
			return nil
		})
		if expiring != 0 {
			t.Errorf("%d nodes more expire than the tree has", expiring)
		}
	})
}
