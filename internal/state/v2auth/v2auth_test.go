package v2auth

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestMay(t *testing.T) {
	r := Role{Role: "r"}
	r.Permissions.KV.Read, r.Permissions.KV.Write = []string{"/a/*", "/b", ""}, []string{"/c*"}
	for _, c := range []struct {
		path        string
		write       bool
		below, want bool
	}{
		{"/a/x", false, false, true}, {"/a/x", false, true, true}, {"/a", false, false, false}, {"/a/", false, true, true}, {"/a/x", true, false, false},
		{"/b", false, false, true}, {"/b", false, true, false}, {"/b/x", false, false, false}, {"/bb", false, false, false}, {"/", false, false, false},
		{"/c", true, true, true}, {"/cc", true, false, true}, {"/c", false, false, false},
	} {
		if got := r.May(c.path, c.write, c.below); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	root, all := Role{Role: Root}, All(Guest)
	if !root.May("/x", true, true) || !all.May("/", true, true) || !all.May("/x", false, false) {
		t.Error("root or guest may not")
	}
}

// FuzzRecords: records and requests of whatever bytes are read or refused, and what comes of them is a record again.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"user":"root","password":"h","roles":["a","b"]}`), []byte(`{"user":"root","password":"p","grant":["c"],"revoke":["a"]}`))
	f.Add([]byte(`{"role":"r","permissions":{"kv":{"read":["/a*"],"write":null}}}`), []byte(`{"role":"r","grant":{"kv":{"read":["/b"]}},"revoke":{"kv":{"read":["/a*"]}}}`))
	hash := func(p string) (string, error) { return "hash of " + p, nil }
	f.Fuzz(func(t *testing.T, record, request []byte) {
		if old, err := ParseUser(record); err == nil {
			var req User
			if json.Unmarshal(request, &req) == nil {
				if now, _, err := PutUser(&old, req, hash); err == nil {
					again(t, now, func(b []byte) error { _, err := ParseUser(b); return err })
				}
			}
		} else if !errors.Is(err, ErrRecord) {
			t.Fatal(err)
		}
		if old, err := ParseRole(record); err == nil {
			old.May("/a", false, true)
			var req Role
			if json.Unmarshal(request, &req) == nil {
				if now, _, err := PutRole(&old, req); err == nil {
					again(t, now, func(b []byte) error { _, err := ParseRole(b); return err })
				}
			}
		} else if !errors.Is(err, ErrRecord) {
			t.Fatal(err)
		}
	})
}

func again(t *testing.T, record any, parse func([]byte) error) {
	b, err := json.Marshal(record)
	if err == nil {
		err = parse(b)
	}
	if err != nil {
		t.Errorf("%+v: %v", record, err)
	}
}
