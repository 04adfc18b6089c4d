package compat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// Both programs refuse the same changes of the members, in the same order of checks, with the same codes and texts; what
// they grant they answer alike.
func TestMemberCalls(t *testing.T) {
	var got [2][]string
	for i, p := range []process.Program{ours(t), stock(t, "etcd37")} {
		m := single(t, p).Serve()
		got[i] = memberCalls(reach(t, m), m)
	}
	for i, line := range got[0] {
		if want := got[1][i]; line != want {
			t.Errorf("Keelson: %s\n   etcd: %s", line, want)
		}
	}
}

// memberCalls makes the calls and gives a line for each. What names the member is made equal.
func memberCalls(s *services, m *process.Member) (lines []string) {
	all, err := s.MemberList(s.ctx, &pb.MemberListRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	self, mine := all.Members[0].ID, all.Members[0].PeerURLs[0]
	same := strings.NewReplacer(fmt.Sprint(self), "SELF", fmt.Sprint(all.Header.ClusterId), "CLUSTER", m.PeerAddr, "PEER", m.ClientAddr, "CLIENT", m.Name, "NAME")
	var learner uint64
	note := func(what, answer string) {
		answer = same.Replace(answer)
		if learner != 0 {
			answer = strings.ReplaceAll(answer, fmt.Sprint(learner), "LEARNER")
		}
		lines = append(lines, what+": "+answer)
	}
	add := func(asLearner bool, urls ...string) {
		r, err := s.MemberAdd(s.ctx, &pb.MemberAddRequest{PeerURLs: urls, IsLearner: asLearner})
		if err == nil {
			learner = r.Member.ID
			order(r.Members)
		}
		note(same.Replace(fmt.Sprintf("add %q, learner %v", urls, asLearner)), show(r, err))
	}
	remove := func(what string, id uint64) {
		r, err := s.MemberRemove(s.ctx, &pb.MemberRemoveRequest{ID: id})
		order(r.GetMembers())
		note("remove "+what, show(r, err))
	}
	update := func(what string, id uint64, urls ...string) {
		r, err := s.MemberUpdate(s.ctx, &pb.MemberUpdateRequest{ID: id, PeerURLs: urls})
		order(r.GetMembers())
		note("update "+what, show(r, err))
	}
	promote := func(what string, id uint64) {
		r, err := s.MemberPromote(s.ctx, &pb.MemberPromoteRequest{ID: id})
		note("promote "+what, show(r, err))
	}
	add(false)
	for _, bad := range []string{"", "127.0.0.1", "127.0.0.1:1", "http://", "http://127.0.0.1", "http://127.0.0.1:1/", "http://127.0.0.1:1/x", "ftp://127.0.0.1:1", "http://127.0.0.1:x", "%"} {
		add(false, bad)
		add(true, "http://127.0.0.1:1", bad)
	}
	add(false, mine)
	add(true, "http://127.0.0.1:1", mine)
	for _, id := range []uint64{5, 0} { // nobody has them
		remove(fmt.Sprint(id), id)
		promote(fmt.Sprint(id), id)
		update(fmt.Sprint(id), id, mine)
	}
	remove("the last", self)
	promote("a voter", self)
	update("itself to what it has", self, mine)
	add(true, "http://127.0.0.1:9", "http://127.0.0.1:10") // sorted as text
	add(true, "http://127.0.0.1:9")
	add(true, "http://127.0.0.1:11")
	promote("one that never started", learner)
	update("to another's", learner, mine)
	update("a learner", learner, "http://127.0.0.1:12", "http://127.0.0.1:10")
	remove("the last voter", self)
	remove("a learner", learner)
	remove("one that is gone", learner)
	update("one that is gone", learner, "http://127.0.0.1:1")
	promote("one that is gone", learner)
	list, err := s.MemberList(s.ctx, &pb.MemberListRequest{Linearizable: true})
	note("list", show(list, err))
	return lines
}

// order puts learners last: IDs, by which members are listed, differ from server to server.
func order(all []*pb.Member) {
	slices.SortFunc(all, func(a, b *pb.Member) int {
		switch {
		case a.IsLearner == b.IsLearner:
			return 0
		case a.IsLearner:
			return 1
		}
		return -1
	})
}

// What a stock server takes and then ends with, all its members with it, is refused here: an update to an address that no
// member can read.
func TestUnreadablePeerURLs(t *testing.T) {
	m := single(t, ours(t)).Serve()
	s := reach(t, m)
	all, err := s.MemberList(s.ctx, &pb.MemberListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]string{nil, {""}, {"x"}, {"http://a"}, {"http://:1"}, {"http://a:1/x"}, {"http://a:1", "http://a:1"}, {"http://a:0"}, {"http://a:1?q"}} {
		_, err := s.MemberUpdate(s.ctx, &pb.MemberUpdateRequest{ID: all.Members[0].ID, PeerURLs: bad})
		_, err2 := s.MemberAdd(s.ctx, &pb.MemberAddRequest{PeerURLs: bad})
		for _, err := range []error{err, err2} {
			if want := rpctypes.ErrGRPCMemberBadURLs; err == nil || err.Error() != want.Error() {
				t.Errorf("%q: %v, want %v", bad, err, want)
			}
		}
	}
	m.Stop()
	m.Serve()
}

// changing is a cluster that members join and leave.
type changing struct{ *cluster }

// change makes a change of members through m as soon as it may: voters must have been connected for 5 s.
func (g changing) change(what string, m *process.Member, f func(context.Context, *clientv3.Client) error) {
	g.t.Helper()
	process.Until(g.t, what, func() error {
		ctx, cancel := context.WithTimeout(g.t.Context(), 8*time.Second)
		defer cancel()
		return f(ctx, m.Client())
	})
}

// join adds a member through another and starts it.
func (g changing) join(p process.Program, name string, through *process.Member, learner bool) (*process.Member, uint64) {
	g.t.Helper()
	m := process.Joiner(g.t, p, name, g.all, "--snapshot-count=500", "--snapshot-catchup-entries=50")
	m.Env = append(m.Env, "ETCD_VERIFY=all")
	var id uint64
	g.change("adding "+name, through, func(ctx context.Context, c *clientv3.Client) error {
		add := c.MemberAdd
		if learner {
			add = c.MemberAddAsLearner
		}
		r, err := add(ctx, []string{"http://" + m.PeerAddr})
		if err == nil {
			id = r.Member.ID
		}
		if !errors.Is(err, rpctypes.ErrPeerURLExist) {
			return err
		}
		all, err := c.MemberList(ctx) // an earlier try took effect
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all.Members, func(x *pb.Member) bool { return slices.Contains(x.PeerURLs, "http://"+m.PeerAddr) })
		if i < 0 {
			return errors.New("nobody has the address that is taken")
		}
		id = all.Members[i].ID
		return nil
	})
	m.Start()
	return m, id
}

// Members of one kind join a cluster of the other, as voters and as learners that a follower of the other kind has
// promoted; one moves to another address; the leader is removed and stops by itself; in the end all hold the same.
func TestMixedMembership(t *testing.T) {
	for _, kinds := range [][2]string{{"etcd37", "keelson"}, {"keelson", "etcd37"}, {"etcd36", "keelson"}, {"keelson", "keelson"}} {
		t.Run(kinds[1]+" joins "+kinds[0], func(t *testing.T) {
			t.Parallel()
			g := changing{form(t, kinds[0])}
			c := g.cluster
			first := c.all[0]
			write(t, first, 0)
			c.puts("alone", 700) // so that who joins gets a snapshot
			joins := ours(t)
			if kinds[1] != "keelson" {
				joins = stock(t, kinds[1])
			}
			second, _ := g.join(joins, "joiner", first, false)
			second.WaitHealthy()
			c.all = append(c.all, second)
			c.agree("two members")

			third, id := g.join(first.Program, "learner", second, true)
			process.Until(t, "the learner runs", func() error { _, err := third.HTTP("/version"); return err })
			c.puts("with a learner", 50)
			g.change("the promotion through the follower", second, func(ctx context.Context, client *clientv3.Client) error {
				_, err := client.MemberPromote(ctx, id)
				if errors.Is(err, rpctypes.ErrMemberNotLearner) {
					return nil // an earlier try took effect
				}
				return err
			})
			third.WaitHealthy()
			c.all = append(c.all, third)
			c.agree("three members")

			third.Stop()
			third.PeerAddr = process.FreeAddrs(t, 1)[0]
			g.change("an update", second, func(ctx context.Context, client *clientv3.Client) error {
				_, err := client.MemberUpdate(ctx, id, []string{"http://" + third.PeerAddr})
				return err
			})
			third.Serve()
			c.puts("at another address", 50)
			c.agree("at another address")
			g.removeLeader()
		})
	}
}

// removeLeader removes whoever leads, which stops by itself, says why, and can't come back.
func (g changing) removeLeader() {
	g.t.Helper()
	lead := g.leader()
	id := lead.ID()
	var rest []*process.Member
	for _, m := range g.all {
		if m != lead {
			rest = append(rest, m)
		}
	}
	g.change("the removal of the leader", rest[0], func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.MemberRemove(ctx, id)
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return nil // an earlier try took effect
		}
		return err
	})
	if status := lead.WaitExit(); status != 0 || !strings.Contains(lead.Log(), "the member has been permanently removed from the cluster") {
		g.t.Errorf("the removed %s ended with status %d", lead.Program.Name, status)
	}
	if lead.Program.Name == "keelson" {
		// Its directory knows, or, where the others told it before its own log did, the others tell it once more.
		lead.Start()
		status, log := lead.WaitExit(), lead.Log()
		if status != 0 && status != 1 || !strings.Contains(log, "etcdctl member add") || !strings.Contains(log, "an empty data directory") {
			g.t.Errorf("on its old directory it ends with status %d and says:\n%s", status, log)
		}
	}
	g.all = rest
	g.puts("without the old leader", 50)
	g.agree("without the old leader")
}

// A member whose directory was wiped, and that starts with its old flags, says what to do; it neither votes nor panics,
// nor brings the others down, whoever they are.
func TestWipedMember(t *testing.T) {
	for _, other := range []string{"keelson", "etcd37"} {
		t.Run("among "+other, func(t *testing.T) {
			t.Parallel()
			c := form(t, other, other, "keelson")
			wiped := c.oneOf("keelson", nil)
			if other == "keelson" {
				wiped = c.all[2]
			}
			c.puts("before", 30)
			wiped.Kill()
			if err := os.RemoveAll(wiped.Dir); err != nil {
				t.Fatal(err)
			}
			for _, state := range []string{"new", "existing"} {
				wiped.Env = []string{"ETCD_INITIAL_CLUSTER_STATE=" + state}
				if log := wiped.Refused(); !strings.Contains(log, "remove the member from the cluster and add it again") {
					t.Errorf("%s: it says:\n%s", state, log)
				}
			}
			// Nobody answers at its start: it learns the same later.
			var rest []*process.Member
			for _, m := range c.all {
				if m != wiped {
					m.Kill()
					rest = append(rest, m)
				}
			}
			wiped.Env = nil
			wiped.Start()
			process.Until(t, "it has begun", func() error {
				_, err := os.Stat(wiped.Dir + "/member/wal/0000000000000000-0000000000000000.wal")
				return err
			})
			for _, m := range rest {
				m.Start()
			}
			if status := wiped.WaitExit(); status != 1 || !strings.Contains(wiped.Log(), "remove the member from the cluster and add it again") {
				t.Errorf("it ended with status %d and says:\n%s", status, wiped.Log())
			}
			c.all = rest
			c.healthy()
			c.puts("after", 30)
		})
	}
}
