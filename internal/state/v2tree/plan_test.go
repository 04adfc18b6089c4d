package v2tree

import (
	"errors"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// script makes changes, each planned on the newest view, and wants none to be refused.
func script(t *testing.T, s *keyspace, all ...Request) {
	t.Helper()
	for _, r := range all {
		p, err := Tree{DefaultPrefix, s.past[s.rev]}.Plan(r)
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if _, ok, err := s.run(p.Txn); err != nil || !ok {
			t.Fatalf("%+v: %v, %v", r, ok, err)
		}
	}
}

func (s *keyspace) dump(t *testing.T) string {
	t.Helper()
	var paths []string
	all, err := s.past[s.rev].Scan(Prefix(DefaultPrefix).Nodes(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		paths = append(paths, strings.TrimPrefix(e.Key, "/_v2/keys"))
	}
	return strings.Join(paths, " ")
}

// What was left below a directory that expired stays gone when a directory of that name is made again, even by a plan on a
// view that had not seen the first one.
func TestOrphansStayGone(t *testing.T) {
	s := newKeyspace()
	old := s.past[s.rev]
	p := Prefix(DefaultPrefix)
	again := Request{Path: "/d/sub/y", Value: "y"}
	early, err := Tree{p, old}.Plan(again)
	if err != nil {
		t.Fatal(err)
	}
	script(t, s, Request{Path: "/d", Dir: true, Expiry: time.Unix(2e9, 0).UnixNano(), Lease: 1}, Request{Path: "/d/sub/x"}, Request{Path: "/d/a"})
	s.expire(p.Node("/d"))
	if got := s.dump(t); got != "/d/a /d/sub /d/sub/x" {
		t.Fatalf("left of the directory: %s", got)
	}
	if ok, err := (Tree{p, s.past[s.rev]}).Has("/d/sub/x"); ok || err != nil {
		t.Errorf("what is below an expired directory exists: %v, %v", ok, err)
	}
	if _, ok, err := s.run(early.Txn); ok || err != nil {
		t.Errorf("a plan on an old view brings back what expired since: %v, %v", ok, err)
	}
	script(t, s, again)
	if got := s.dump(t); got != "/d /d/sub /d/sub/y" {
		t.Errorf("after the directory was made again: %s", got)
	}
}

// Names that are made in order grow with the commits: a name that was chosen before a later one was committed is chosen anew.
func TestNamesInOrder(t *testing.T) {
	s := newKeyspace()
	r := Request{Path: "/q", InOrder: true}
	script(t, s, Request{Path: "/q", Dir: true})
	early, err := Tree{DefaultPrefix, s.past[s.rev]}.Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	script(t, s, Request{Path: "/x"}, r)
	if _, ok, err := s.run(early.Txn); ok || err != nil {
		t.Errorf("a smaller name behind a larger one: %v, %v", ok, err)
	}
	// Writes of others move the revision on: a name is never above it, but always above the last.
	script(t, s, Request{Path: "/x"}, Request{Path: "/q", Remove: true, Recursive: true}, r)
	if got, want := s.dump(t), "/q /q/00000000000000000007 /x"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// Writers of different keys, in a directory that exists, depend on nothing of each other's.
func TestNeighboursDoNotConflict(t *testing.T) {
	s := newKeyspace()
	script(t, s, Request{Path: "/d", Dir: true}, Request{Path: "/d/a"})
	view := Tree{DefaultPrefix, s.past[s.rev]}
	var plans []*Plan
	for _, r := range []Request{{Path: "/d/a"}, {Path: "/d/b"}, {Path: "/d/c", Dir: true}, {Path: "/e"}, {Path: "/d/x/y"}} {
		p, err := view.Plan(r)
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, p)
	}
	for i, p := range plans {
		if _, ok, err := s.run(p.Txn); !ok || err != nil {
			t.Errorf("plan %d: %v, %v", i, ok, err)
		}
	}
}

// failing is a view that can't be read.
type failing struct{ snapshot }

var errView = errors.New("no view")

func (failing) Get(string) (Entry, bool, error)    { return Entry{}, false, errView }
func (failing) Scan(Range, int64) ([]Entry, error) { return nil, errView }

func TestViewFails(t *testing.T) {
	tree := Tree{DefaultPrefix, failing{}}
	for _, r := range []Request{{Path: "/a"}, {Path: "/a", InOrder: true}, {Path: "/a", Remove: true}, {Path: "/a", PrevValue: "x"}} {
		if _, err := tree.Plan(r); !errors.Is(err, errView) {
			t.Errorf("%v: %v", r.Action(), err)
		}
	}
	if _, err := tree.Get("/", false, time.Unix(0, 0)); !errors.Is(err, errView) {
		t.Errorf("get: %v", err)
	}
}

// Keys that somebody wrote below the prefix without v2 are files, as far as v2 can see them.
func TestForeignKeys(t *testing.T) {
	s := newKeyspace()
	p := Prefix(DefaultPrefix)
	for _, key := range []string{p.Node("/plain"), p.Node("/no/marker"), "/_v2/keys/", "/_v2/keys//x"} {
		put := &pb.PutRequest{Key: []byte(key), Value: []byte("raw")}
		changes, _, err := s.run(&pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: put}}}})
		if err != nil {
			t.Fatal(err)
		}
		p.Happened(changes, time.Unix(0, 0))
	}
	e, err := Tree{p, s.past[s.rev]}.Get("/", true, time.Unix(0, 0))
	if err != nil || len(e.Node.Nodes) != 1 || *e.Node.Nodes[0].Value != "raw" || e.Node.Nodes[0].CreatedIndex != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	script(t, s, Request{Path: "/plain", Value: "x"}, Request{Path: "/no/other"})
	if got, want := s.dump(t), "/ //x /no /no/other /plain"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}
