package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/server"
)

// operator changes who belongs to the cluster: members and learners come, are promoted, move to another address, go, and
// are replaced when their disk is lost. It sends one request at a time and believes the list of members alone, since a
// request without an answer may have been made, or be made yet. It runs on the nemesis' goroutine; only requests have
// their own, so that harm comes in the middle of them.
type operator struct {
	cluster *cluster
	r       *rand.Rand
	back    map[*node]time.Time // the nemesis'
	call    chan struct{}       // closed when the request under way has ended; nil: none is
	roll    []*pb.Member        // as listed last
	// lost is the member whose disk was lost, until it is removed.
	lost *node
	// moves counts the addresses that members moved to.
	moves int
}

// membersMax is how many members there may be at most.
const membersMax = 5

// How long the operator waits for an answer.
const (
	changeTimeout = 2 * time.Second
	listTimeout   = 300 * time.Millisecond
)

// work does one thing, and tells whether it did.
func (o *operator) work() bool {
	if !o.look() {
		return false
	}
	if o.lost != nil {
		o.remove(o.lost.id)
		return true
	}
	if o.r.IntN(3) > 0 {
		return false
	}
	o.change()
	return true
}

// finish brings to an end what was begun, with no harm done any more. It is true once all members run, and no others.
func (o *operator) finish() bool {
	if !o.look() {
		return false
	}
	if o.lost != nil {
		o.remove(o.lost.id)
		return false
	}
	for _, m := range o.roll {
		o.follow(o.at(m.ID))
	}
	return o.allRun()
}

// follow restarts a member that has moved, so that it listens at its new address.
func (o *operator) follow(n *node) {
	if l := n.life.Load(); l == nil || l.end.url == n.peerURL {
		return
	}
	if err := n.stop(); err != nil {
		o.cluster.fail("%s: %w", n.name, err)
	}
	o.back[n] = time.Now()
}

// at finds the place of a member.
func (o *operator) at(id uint64) *node {
	for _, n := range o.cluster.places() {
		if n.id == id {
			return n
		}
	}
	return nil
}

// joining tells whether a place's member may not have begun yet: it can start only while the list is as it was told.
func (o *operator) joining(n *node) bool { return n.joins && n.id != 0 }

// look reads the list of members and follows it. It is false while a request is under way, or nobody answers.
func (o *operator) look() bool {
	if o.call != nil {
		select {
		case <-o.call:
			o.call = nil
		default:
			return false
		}
	}
	resp, err := o.list()
	if err != nil {
		o.glance()
		return false
	}
	o.roll = resp.Members
	for _, m := range o.roll {
		o.meet(m)
	}
	for _, n := range o.cluster.places() {
		if n.id != 0 && !slices.ContainsFunc(o.roll, func(m *pb.Member) bool { return m.ID == n.id }) {
			o.part(n)
		}
	}
	return true
}

// list asks any member for the list as it is now.
func (o *operator) list() (*pb.MemberListResponse, error) {
	l := o.anyone()
	if l == nil {
		return nil, errRefused
	}
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	resp, err := l.member.MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
	if l.dead.Load() {
		return nil, errRefused
	}
	return resp, err
}

// glance starts members that were added where the list can't be had: there may be no majority without them. A member's
// own list, as it tells it on its peer port, shows who was added.
func (o *operator) glance() {
	all := o.cluster.alive()
	if len(all) == 0 {
		return
	}
	resp, err := all[o.r.IntN(len(all))].member.MemberList(context.Background(), &pb.MemberListRequest{})
	if err != nil {
		return
	}
	for _, n := range o.cluster.places() {
		o.follow(n)
	}
	for _, m := range resp.Members {
		if n := o.at(m.ID); (n == nil || n.joins && n.free()) && !o.cluster.confs.removed(m.ID) {
			o.roll = resp.Members
			o.meet(m)
		}
	}
}

func (o *operator) anyone() *life {
	all := o.cluster.serving()
	if len(all) == 0 {
		return nil
	}
	return all[o.r.IntN(len(all))]
}

// meet follows what the list says of one member: it may be new, or have moved, and it should run.
func (o *operator) meet(m *pb.Member) {
	n := o.at(m.ID)
	if n == nil {
		for _, free := range o.cluster.places() {
			if free.id == 0 && slices.Contains(m.PeerURLs, free.peerURL) {
				n = free
			}
		}
		if n == nil {
			o.cluster.fail("%w: nobody added member %x at %v", ErrMembers, m.ID, m.PeerURLs)
			return
		}
		n.id, n.joins = m.ID, true
	}
	if !slices.Contains(m.PeerURLs, n.peerURL) {
		n.peerURL = m.PeerURLs[0]
		o.cluster.journal.add(n.name, "has moved to %s", n.peerURL)
	}
	if _, down := o.back[n]; down || !n.free() || n.wiped {
		return
	}
	if n.joins {
		n.founding = o.names()
	}
	if err := n.start(); err != nil {
		o.cluster.journal.add(n.name, "%v", err)
		if !n.joins {
			o.cluster.fail("%w", err)
		}
	}
}

// names gives the members as --initial-cluster wants them.
func (o *operator) names() string {
	var all []string
	for i, m := range o.roll {
		name := fmt.Sprintf("unknown%d", i)
		if n := o.at(m.ID); n != nil {
			name = n.name
		} else if m.Name != "" {
			name = m.Name
		}
		for _, u := range m.PeerURLs {
			all = append(all, name+"="+u)
		}
	}
	return strings.Join(all, ",")
}

// part follows the removal of a member. It has to end by itself, also if it was down and is started once more; then its
// place is free.
func (o *operator) part(n *node) {
	if l := n.life.Load(); l != nil {
		if l.end.forlorn() {
			o.cluster.journal.add(n.name, "was removed and reaches nobody who could say so")
			if err := n.stop(); err != nil {
				o.cluster.fail("%s: %w", n.name, err)
			}
		}
		return
	}
	if _, down := o.back[n]; down || !n.free() {
		return
	}
	if !n.wiped && o.r.IntN(3) == 0 {
		o.cluster.journal.add(n.name, "starts though it was removed")
		if err := n.start(); err != nil {
			o.cluster.journal.add(n.name, "%v", err)
		}
		return
	}
	if o.lost == n {
		o.lost = nil
	}
	o.cluster.journal.add(n.name, "the place of %x is free", n.id)
	n.id, n.joins, n.wiped = 0, false, false
	n.wipe()
}

// change asks for one change of the membership.
func (o *operator) change() {
	voters, learners := 0, 0
	for _, m := range o.roll {
		if m.IsLearner {
			learners++
		} else {
			voters++
		}
	}
	one := o.roll[o.r.IntN(len(o.roll))]
	// A founder that nobody has heard of yet can't be told from one that starts late. Before all have told where they serve,
	// one whose disk is lost may vote again, and those that are left may rightly wait for its word; where the cluster does not
	// see to it itself, none is removed either.
	published := !slices.ContainsFunc(o.roll, func(m *pb.Member) bool { return len(m.ClientURLs) == 0 })
	switch n := o.r.IntN(10); {
	case n < 4 && len(o.roll) < membersMax:
		o.add(o.r.IntN(2) == 0)
	case n < 6 && len(o.roll) > 1 && (published || !o.cluster.plan.Reckless):
		o.remove(one.ID)
	case n < 8 && voters > 2 && published && o.allRun():
		o.lose(o.at(one.ID))
	case n < 9 && published:
		// A founder that has not got beyond its beginning yet asks the others at the addresses that it was told: where
		// they have moved, it never votes.
		o.move(one.ID)
	case learners > 0:
		for _, m := range o.roll {
			if m.IsLearner {
				o.promote(m.ID)
				return
			}
		}
	}
}

func (o *operator) allRun() bool {
	return !slices.ContainsFunc(o.roll, func(m *pb.Member) bool { return o.at(m.ID).life.Load() == nil })
}

// ask sends a request to any member.
func (o *operator) ask(what string, f func(context.Context, *server.Member) error) {
	l := o.anyone()
	if l == nil {
		return
	}
	done := make(chan struct{})
	o.call = done
	o.cluster.journal.add(l.node.name, "is asked to %s", what)
	o.cluster.watches.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(byRoot(), changeTimeout)
		defer cancel()
		err := f(ctx, l.member)
		o.cluster.journal.add(l.node.name, "%s: %v", what, err)
	})
}

func (o *operator) add(learner bool) {
	var free *node
	for _, n := range o.cluster.places() {
		if n.id == 0 {
			free = n
			break
		}
	}
	if free == nil {
		free = o.cluster.place()
	}
	url := free.peerURL
	o.ask(fmt.Sprintf("add %s, learner: %v", url, learner), func(ctx context.Context, m *server.Member) error {
		_, err := m.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{url}, IsLearner: learner})
		return err
	})
}

func (o *operator) remove(id uint64) {
	o.ask(fmt.Sprintf("remove %x", id), func(ctx context.Context, m *server.Member) error {
		_, err := m.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: id})
		return err
	})
}

func (o *operator) promote(id uint64) {
	o.ask(fmt.Sprintf("promote %x", id), func(ctx context.Context, m *server.Member) error {
		_, err := m.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: id})
		return err
	})
}

// move gives a member another address, at which it listens from its next life on.
func (o *operator) move(id uint64) {
	o.moves++
	url := fmt.Sprintf("http://127.0.0.1:%d", 11000+o.moves)
	o.ask(fmt.Sprintf("move %x to %s", id, url), func(ctx context.Context, m *server.Member) error {
		_, err := m.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: id, PeerURLs: []string{url}})
		return err
	})
}

// lose takes a member's disk. Sometimes it is started all the same, with its old flags: it must not vote.
func (o *operator) lose(n *node) {
	n.crash(true)
	n.wiped, o.lost = true, n
	n.wipe()
	o.cluster.journal.add(n.name, "its disk is lost")
	if o.r.IntN(2) == 0 {
		return
	}
	if err := n.start(); err != nil {
		o.cluster.journal.add(n.name, "%v", err)
	}
}
