package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/cluster"
)

// Why a member with an empty data directory is not the one that its configuration says. Each tells what to do.
var (
	// ErrBootstrapped is returned when the cluster knows this member already and its data directory is empty.
	ErrBootstrapped = errors.New("member has already been bootstrapped: its data directory was lost; " +
		"remove the member from the cluster and add it again, then start it with --initial-cluster-state existing")
	// ErrWasRemoved is returned when the member that --initial-cluster describes is none of the running cluster's.
	ErrWasRemoved = errors.New("the cluster of --initial-cluster runs and does not have this member any more: it was removed; " +
		"add it with `etcdctl member add`, then start it with an empty data directory and --initial-cluster-state existing")
	// ErrOtherCluster is returned when a member that --initial-cluster names belongs to another cluster.
	ErrOtherCluster = errors.New("cluster ID mismatch: --initial-cluster and --initial-cluster-token must be the same on all members of a new cluster; " +
		"to join a running one, add this member with `etcdctl member add` and start it with --initial-cluster-state existing")
	// ErrForeignDirectory is returned for a data directory that another cluster's member wrote.
	ErrForeignDirectory = errors.New("the data directory is another cluster's: start this member with an empty --data-dir, " +
		"or, to run what is in the directory, with the flags it was made with")
)

// peerAskTimeout bounds one question to a member while starting: etcd's.
const peerAskTimeout = time.Second

// answer is what a member says of its cluster.
type answer struct {
	urls      []string
	members   []PeerMember
	clusterID uint64
	err       error
}

// askAll asks members, each by its peer URLs, who they know, all at once.
func askAll(ctx context.Context, caller Caller, all [][]string) []answer {
	answers := make([]answer, len(all))
	var asking sync.WaitGroup
	for i, urls := range all {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, peerAskTimeout)
			defer cancel()
			a := answer{urls: urls}
			a.members, a.clusterID, a.err = caller.Members(ctx, urls)
			answers[i] = a
		})
	}
	asking.Wait()
	return answers
}

// started tells whether a member has ever run: it then told the others where it serves clients.
func started(m PeerMember) bool { return len(m.ClientURLs) > 0 }

// vet judges a founder with nothing in its log by what the other founders answer: an error where it has lived before or
// is none of them. heard tells whether anybody answered.
func vet(id, clusterID uint64, answers []answer) (heard bool, err error) {
	for _, a := range answers {
		if a.err != nil || len(a.members) == 0 {
			continue // it has begun as little as this one has
		}
		if a.clusterID != clusterID {
			return true, fmt.Errorf("%w: the member at %v is of cluster %x, and the flags of this one say %x", ErrOtherCluster, a.urls, a.clusterID, clusterID)
		}
		i := slices.IndexFunc(a.members, func(m PeerMember) bool { return m.ID == id })
		switch {
		case i >= 0 && started(a.members[i]):
			return true, fmt.Errorf("member %x: %w", id, ErrBootstrapped)
		case i < 0 && slices.ContainsFunc(a.members, started):
			return true, fmt.Errorf("member %x: %w", id, ErrWasRemoved)
		}
		heard = true
	}
	return heard, nil
}

// confirm asks once more, behind a linearizable read, who says that a cluster runs and does not say that this member has:
// one that lags since before this member first published itself knows no better. An answer in which nobody has run is
// taken as it is: that cluster is being founded, and its first leader may need this member's vote. What is not confirmed
// counts as no answer.
func confirm(ctx context.Context, caller Caller, answers []answer) []answer {
	var asking sync.WaitGroup
	for i, a := range answers {
		if a.err != nil || !slices.ContainsFunc(a.members, started) {
			continue
		}
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, peerAskTimeout)
			defer cancel()
			if _, answers[i].err = caller.DowngradeEnabled(ctx, a.urls); answers[i].err == nil {
				answers[i].members, answers[i].clusterID, answers[i].err = caller.Members(ctx, a.urls)
			}
		})
	}
	asking.Wait()
	return answers
}

// word is what the others say of whether a founder has lived before.
type word int

const (
	silence word = iota // nobody answers
	doubt               // one that runs says no, and has no leader behind it: it may lag
	proof
)

// inquire asks the other founders, by their peer URLs, and vets a founder by what they answer.
func inquire(ctx context.Context, caller Caller, id, clusterID uint64, others [][]string) (word, error) {
	answers := askAll(ctx, caller, others)
	if heard, err := vet(id, clusterID, answers); !heard {
		return silence, err
	} else if err != nil {
		return proof, err
	}
	if heard, err := vet(id, clusterID, confirm(ctx, caller, answers)); !heard {
		return doubt, err
	} else {
		return proof, err
	}
}

// vetInterval is how often the other founders are asked: a new cluster waits for it when its members start one by one.
// doubtInterval is how often people are told that nothing comes of it, where the cluster may be waiting for this vote.
const (
	vetInterval   = 100 * time.Millisecond
	doubtInterval = 10 * time.Second
)

// vetting goes on asking the other founders while none has said whether this member, whose log holds no more than its
// beginning, has lived before. Meanwhile raft holds back the votes that could undo what it once acknowledged, and the
// member tells nobody its client URLs: those that others know are then an earlier life's.
type vetting struct {
	id, clusterID uint64
	cluster       *cluster.Cluster
	loop          *raftloop.Loop
	caller        Caller
	clock         clock.Clock
	logger        *zap.Logger
	fail          func(error)
	// over is closed once this member may publish itself.
	over chan struct{}
}

// run ends with the first word from another founder.
func (v *vetting) run(ctx context.Context) {
	tick := v.clock.NewTicker(vetInterval)
	defer tick.Stop()
	told := v.clock.Now()
	for {
		st := v.cluster.State()
		var others [][]string
		for _, m := range st.Members {
			if m.ID != v.id {
				others = append(others, m.PeerURLs)
			}
		}
		heard, err := inquire(ctx, v.caller, v.id, v.clusterID, others)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			v.fail(err)
			return
		case heard == proof:
			v.loop.Prove()
			close(v.over)
			return
		case heard == doubt && v.clock.Now().Sub(told) >= doubtInterval:
			told = v.clock.Now()
			v.logger.Warn("this member votes for nobody yet: its log is at its beginning, and no member with a leader behind it has said that it never ran before; " +
				"start the members that are down, or, if this one has surely never run, start it with an empty data directory and --initial-cluster-state existing")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
