package v2tree

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"
)

func TestKeys(t *testing.T) {
	p := At("/_v2")
	if p != DefaultPrefix || At(DefaultPrefix) != DefaultPrefix {
		t.Fatalf("the prefix is %q", p)
	}
	for got, want := range map[string]string{
		p.Node("/a/b"): "/_v2/keys/a/b", p.Removed(): "/_v2/removed", p.Order("/"): "/_v2/order/", p.Order("/q"): "/_v2/order/q", p.Auth("users/x"): "/_v2/auth/users/x",
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	for got, want := range map[Range]Range{
		p.All():            {"/_v2/", "/_v20"},
		p.Nodes():          {"/_v2/keys/", "/_v2/keys0"},
		p.Below("/a"):      {"/_v2/keys/a/", "/_v2/keys/a0"},
		p.OrderBelow("/"):  {"/_v2/order/", "/_v2/order0"},
		p.OrderBelow("/a"): {"/_v2/order/a/", "/_v2/order/a0"},
		p.AuthAll():        {"/_v2/auth/", "/_v2/auth0"},
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	for key, want := range map[string]string{"/_v2/keys/a/b": "/a/b", "/_v2/keys/": "", "/_v2/keys": "", "/_v2/keysx": "", "/_v2/keys/a/": "", "/_v2/keys//a": "", "/_v2/removed": "", "/x": ""} {
		if got, ok := p.Path(key); ok != (want != "") || ok && got != want {
			t.Errorf("%q is the path %q, %v", key, got, ok)
		}
	}
	if got := Ancestors("/a/b/c"); !slices.Equal(got, []string{"/a", "/a/b"}) {
		t.Errorf("above /a/b/c are %q", got)
	}
	if got := Ancestors("/"); len(got) > 0 {
		t.Errorf("above the root is %q", got)
	}
}

func TestNodeBytes(t *testing.T) {
	n := Node{Action: Update, Dir: true, Created: 300, Expiry: 1, Modified: 5, Value: "x"}
	if got, want := n.Encode(), []byte{2, 39, 3, 0xac, 2, 1, 5, 'x'}; !bytes.Equal(got, want) {
		t.Errorf("%v, not %v: the layout is on disks", got, want)
	}
	if got, want := (Node{Action: Set, Value: "x"}).Encode(), []byte{2, 0, 1, 'x'}; !bytes.Equal(got, want) {
		t.Errorf("%v, not %v: the layout is on disks", got, want)
	}
	if got, err := Decode([]byte{2, 0, 1, 'x'}, 9); err != nil || got.Created != 9 || got.Modified != 9 {
		t.Errorf("%+v, %v: a node without indexes was created when it was written", got, err)
	}
	r := Removal{Action: Delete, Dir: true, Created: 300, Path: "/a"}
	if got, want := r.Encode(), []byte{2, 1, 5, 0xac, 2, '/', 'a'}; !bytes.Equal(got, want) {
		t.Errorf("%v, not %v: the layout is on disks", got, want)
	}
}

func TestNotANode(t *testing.T) {
	for _, b := range []string{"", "x", "\x02", "\x02\x00", "\x02\x00\x00", "\x02\x40\x01", "\x02\x00\x05", "\x02\x04\x01", "\x02\x20\x01", "\x02\x02\x01\x00", "\x02\x02\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		if n, err := Decode([]byte(b), 1); !errors.Is(err, ErrFormat) {
			t.Errorf("%q is %+v, %v", b, n, err)
		}
		if n := Read([]byte(b), 5); n.Value != b || n.Created != 5 || n.Dir {
			t.Errorf("%q, written by somebody else, is read as %+v", b, n)
		}
	}
}

func FuzzNode(f *testing.F) {
	f.Add([]byte{2, 39, 3, 0xac, 2, 1, 5, 'x'}, int64(4))
	f.Add([]byte{2, 0, 1}, int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, b []byte, mod int64) {
		if mod <= 0 {
			return
		}
		n, err := Decode(b, mod)
		if err != nil {
			return
		}
		// The same bytes need not come back (a number may be written longer than needed), but the same node does.
		if back, err := Decode(n.Encode(), mod); n.Created > 0 && n.Modified > 0 && (err != nil || back != n) {
			t.Errorf("%v is %+v, and back %+v, %v", b, n, back, err)
		}
	})
}

func FuzzRemoval(f *testing.F) {
	f.Add([]byte{2, 1, 5, 0xac, 2, '/', 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRemoval(b)
		if err != nil {
			return
		}
		if back, err := DecodeRemoval(r.Encode()); err != nil || back != r {
			t.Errorf("%v is %+v, and back %+v, %v", b, r, back, err)
		}
	})
}
