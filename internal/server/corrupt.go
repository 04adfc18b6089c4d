package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/kit/clock"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// secondLook is the pause before a difference is looked at again. What is only in passing, such as a compaction that one
// member has carried out and another has not, is over by then; damage stays.
const secondLook = time.Second

// corruptCheck compares the members' data, by the rules of etcd's checks, and raises the CORRUPT alarm for who differs. What a
// hash proves is said at store.HashAt: the files agree, not the memories.
type corruptCheck struct {
	id, clusterID uint64
	cluster       *cluster.Cluster
	caller        Caller
	// hash gives this member's own hash, taken those of its last compactions. leads tells whether this member looks after
	// the others; linearize returns once it has applied what anybody had before; raise raises the alarm.
	hash      func(ctx context.Context) (store.KVHash, error)
	taken     func() []store.CompactionHash
	leads     func() bool
	linearize func(ctx context.Context) (rev, compactRev int64, err error)
	raise     func(ctx context.Context, member uint64) error

	// every and compactEvery are the times between two checks of each kind, 0 for never; timeout bounds one member's answer.
	every, compactEvery, timeout time.Duration
	clock                        clock.Clock
	logger                       *zap.Logger
	// checked is the newest compaction whose hash was the same on all members.
	checked int64
}

func newCorruptCheck(m *Member, timeout time.Duration) *corruptCheck {
	c := &corruptCheck{
		id: m.data.id, clusterID: m.data.clusterID, cluster: m.data.state.Cluster, caller: m.deps.Caller,
		hash: func(ctx context.Context) (store.KVHash, error) { return m.Maintenance.hashAt(ctx, 0) }, taken: m.data.store.CompactionHashes,
		leads: func() bool { st := m.loop.Status(); return st.Lead == st.ID },
		linearize: func(ctx context.Context) (int64, int64, error) {
			err := m.KV.reads.linearize(ctx)
			v := m.data.state.KV.View()
			return v.Rev(), v.CompactRev(), err
		},
		raise: func(ctx context.Context, member uint64) error {
			if m.Alarmer.set.Has(member, pb.AlarmType_CORRUPT) {
				return nil
			}
			return m.Alarmer.raise(ctx, member, pb.AlarmType_CORRUPT)
		},
		every: m.cfg.Checks.Corrupt, timeout: timeout, clock: m.deps.Clock, logger: m.deps.Logger,
	}
	if m.cfg.Gates[config.CompactHashCheck] {
		c.compactEvery = m.cfg.Checks.CompactHash
	}
	return c
}

// run checks until ctx is done, while this member leads.
func (c *corruptCheck) run(ctx context.Context) {
	var data, compactions <-chan time.Time
	if c.every > 0 {
		c.logger.Info("enabled corruption checking", zap.Duration("interval", c.every))
		t := c.clock.NewTicker(c.every)
		defer t.Stop()
		data = t.C
	}
	if c.compactEvery > 0 {
		t := c.clock.NewTicker(c.compactEvery)
		defer t.Stop()
		compactions = t.C
	}
	for {
		look := c.compareData
		select {
		case <-ctx.Done():
			return
		case <-data:
		case <-compactions:
			look = c.compareCompactions
		}
		if c.leads() {
			c.check(ctx, look)
		}
	}
}

// suspects are members that differ, each with the reason. Member 0 stands for all where nobody can tell who is right.
type suspects map[uint64]string

// check looks, and looks again if anything differs. Who differs both times is damaged.
func (c *corruptCheck) check(ctx context.Context, look func(context.Context) (suspects, error)) {
	first, err := look(ctx)
	if err == nil && len(first) > 0 {
		c.logger.Warn("data of members differ; looking again", zap.Any("members", first.words()))
		t := c.clock.NewTimer(secondLook)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		var second suspects
		if second, err = look(ctx); err == nil {
			c.accuse(ctx, first, second)
		}
	}
	if err != nil && ctx.Err() == nil {
		c.logger.Warn("failed to check for corruption", zap.Error(err))
	}
}

func (c *corruptCheck) accuse(ctx context.Context, first, second suspects) {
	for member, reason := range second {
		if _, again := first[member]; !again {
			continue
		}
		c.logger.Error("found corrupt data; raising alarm", zap.String("member-id", hexID(member)), zap.String("reason", reason))
		if err := c.raise(ctx, member); err != nil && ctx.Err() == nil {
			c.logger.Warn("failed to raise an alarm", zap.Stringer("alarm", pb.AlarmType_CORRUPT), zap.Error(err))
		}
	}
}

func (s suspects) words() map[string]string {
	words := map[string]string{}
	for member, reason := range s {
		words[hexID(member)] = reason
	}
	return words
}

// hashAnswer is one member's hash, or why there is none.
type hashAnswer struct {
	member schema.Member
	*pb.HashKVResponse
	err error
}

// ask asks all other members at once for their hash up to rev.
func (c *corruptCheck) ask(ctx context.Context, rev int64) []hashAnswer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var all []hashAnswer
	for _, m := range c.cluster.State().Members {
		if m.ID != c.id && len(m.PeerURLs) > 0 {
			all = append(all, hashAnswer{member: m})
		}
	}
	var asked sync.WaitGroup
	for i := range all {
		asked.Go(func() {
			all[i].HashKVResponse, all[i].err = c.caller.HashKV(ctx, all[i].member.PeerURLs, c.clusterID, rev)
		})
	}
	asked.Wait()
	return all
}

// compareData compares all revisions that this member has with what the others have of them.
func (c *corruptCheck) compareData(ctx context.Context) (suspects, error) {
	own, err := c.hash(ctx)
	if err != nil {
		return nil, err
	}
	answers := c.ask(ctx, own.Rev)
	rev, compactRev, err := c.linearize(ctx)
	if err != nil {
		return nil, err
	}
	found := c.compare(own, answers, true)
	checked := 0
	for _, a := range answers {
		if a.err != nil {
			continue
		}
		checked++
		switch {
		case a.Header.GetRevision() > rev:
			found[a.member.ID] = fmt.Sprintf("it is at revision %d, the leader at %d", a.Header.GetRevision(), rev)
		case a.CompactRevision > compactRev:
			found[a.member.ID] = fmt.Sprintf("it is compacted at %d, the leader at %d", a.CompactRevision, compactRev)
		}
	}
	c.logger.Info("finished peer corruption check", zap.Int("number-of-peers-checked", checked), zap.Int64("revision", own.Rev))
	return found, nil
}

// same tells whether an answer is of the same data as own, if it is for the same compaction. An answer of a member that
// carried out the compaction at own.Rev, where this one has not, or the other way round, may be the twin.
func (a hashAnswer) same(own store.KVHash) bool { return a.Hash == own.Hash || a.Hash == own.Twin }

// compare finds who differs among this member and those that answered for the same compaction. Most members are right. Where
// there is no majority, the leader is, if so asked: else it stays open, which is member 0.
func (c *corruptCheck) compare(own store.KVHash, answers []hashAnswer, leaderIsRight bool) suspects {
	byHash := map[uint32][]uint64{own.Hash: {c.id}}
	for _, a := range answers {
		if a.err != nil || a.CompactRevision != own.CompactRev {
			continue
		}
		hash := a.Hash
		if a.same(own) {
			hash = own.Hash
		}
		byHash[hash] = append(byHash[hash], a.member.ID)
	}
	found := suspects{}
	if len(byHash) == 1 {
		return found
	}
	right, certain := own.Hash, false
	for hash, members := range byHash {
		if len(members) > (len(answers)+1)/2 {
			right, certain = hash, true
		}
	}
	reason := fmt.Sprintf("another hash at revision %d, compacted at %d", own.Rev, own.CompactRev)
	if !certain && !leaderIsRight {
		found[0] = reason
		return found
	}
	for hash, members := range byHash {
		for _, id := range members {
			if hash != right {
				found[id] = reason
			}
		}
	}
	return found
}

// compareCompactions compares what all members hashed just before the same compaction: the newest that all of them have. One
// that was compared is not again.
func (c *corruptCheck) compareCompactions(ctx context.Context) (suspects, error) {
	taken := c.taken()
	for _, h := range slices.Backward(taken) {
		if h.Rev <= c.checked {
			break
		}
		own := store.KVHash{Hash: h.Hash, Twin: h.Twin, CompactRev: h.CompactRev, Rev: h.Rev}
		answers := c.ask(ctx, h.Rev)
		if found := c.compare(own, answers, false); len(found) > 0 {
			return found, nil
		}
		same := 0
		for _, a := range answers {
			if a.err == nil && a.CompactRevision == h.CompactRev {
				same++
			}
		}
		if same == len(answers) {
			c.checked = h.Rev
			c.logger.Info("successfully checked hash on whole cluster", zap.Int("number-of-peers-checked", same), zap.Int64("revision", h.Rev), zap.Int64("compact-revision", h.CompactRev))
			break
		}
		c.logger.Warn("not all members have the hash of a compaction", zap.Int("number-of-peers-checked", same), zap.Int("number-of-peers", len(answers)), zap.Int64("revision", h.Rev))
	}
	return nil, nil
}

// errInconsistent is returned for a directory whose data are not those of the other members.
var errInconsistent = errors.New("found data inconsistency with peers")

// initial compares this member with those that answer, before it takes part. It goes on if nobody differs or most agree with
// it: then another one is damaged.
func (c *corruptCheck) initial(ctx context.Context) error {
	c.logger.Info("starting initial corruption check", zap.Duration("timeout", c.timeout))
	own, err := c.hash(ctx)
	if err != nil {
		return fmt.Errorf("server: hash the data before the start: %w", err)
	}
	agree, differ := 1, []string(nil)
	answers := c.ask(ctx, own.Rev)
	for _, a := range answers {
		switch {
		case a.err != nil:
			c.logger.Warn("cannot compare with a member", zap.String("remote-peer-id", hexID(a.member.ID)), zap.Int64("revision", own.Rev), zap.Error(a.err))
		case a.same(own):
			agree++
		case a.CompactRevision != own.CompactRev:
			c.logger.Warn("cannot compare with a member that is compacted elsewhere", zap.String("remote-peer-id", hexID(a.member.ID)),
				zap.Int64("compact-revision", own.CompactRev), zap.Int64("remote-peer-compact-revision", a.CompactRevision))
		default:
			differ = append(differ, hexID(a.member.ID))
		}
	}
	switch {
	case len(differ) == 0:
		c.logger.Info("initial corruption checking passed; no corruption", zap.Int("number-of-peers-checked", agree-1))
		return nil
	case agree > (len(answers)+1)/2:
		c.logger.Error("found members whose data differ from those of the majority and of this one", zap.Strings("member-ids", differ))
		return nil
	}
	return fmt.Errorf("%s %w: at revision %d the hash of its keys is %d, another than that of %v, after the same compaction (%d); "+
		"its files are damaged, so remove this member, wipe its directory and add it again (it starts as it is with "+
		"--feature-gates=%s=false)", hexID(c.id), errInconsistent, own.Rev, own.Hash, differ, own.CompactRev, config.InitialCorruptCheck)
}
