package raftloop

import (
	"context"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// One MsgProp carries what waits, up to these caps. raft refuses a message whole when its uncommitted
// limit is reached, so a message stays far below that limit (uncommittedBytesDefault).
const (
	// proposalEntriesMax is about what a thousand clients have waiting.
	proposalEntriesMax = 1024
	// proposalBytesMax keeps a message at half of one MsgApp (messageBytesMax), unless one entry is larger.
	proposalBytesMax = 512 << 10
)

// forwardedWait is how long a proposal that a follower forwarded waits here while it can't be appended:
// etcd's own request time-out, after which its client has gone.
const forwardedWait = 5 * time.Second

// proposal waits to be handed to raft. It is handed exactly once, or dropped when nobody waits for it.
type proposal struct {
	ctx   context.Context // nil for a forwarded message
	data  []byte
	msg   *raftpb.Message // a conf change of ours, or a follower's message; data is nil then
	size  int64
	until time.Duration // for a forwarded message: the loop's time when it is dropped
}

func (p *proposal) dead(now time.Duration) bool {
	if p.ctx != nil {
		return p.ctx.Err() != nil
	}
	return now >= p.until
}

// pump hands proposals to raft in the order in which they came. A proposal leaves its queue when raft has
// taken it: appended on the leader, or put into a message to the leader. What raft refuses stays, so
// nothing is ever handed twice. It belongs to the loop's goroutine.
type pump struct {
	in    *inbox
	queue []proposal
	head  int
	held  bool // raft refused: wait for an apply, a tick or another leader
	// confUntil: the leader replaced a conf change by an empty entry because another is not applied yet.
	// It is tried again when this index is applied; anyIndex until the empty entry's index is known.
	confUntil uint64
	// departs tells that a conf change removes this leader, who hands over first: the change waits.
	departs  func(*raftpb.Entry) bool
	entries  []raftpb.Entry  // scratch for the leader, whose raft copies entries
	pointers []*raftpb.Entry // into entries
}

const anyIndex = ^uint64(0)

func (p *pump) add(ps []proposal) { p.queue = append(p.queue, ps...) }

// forward queues a follower's message, or drops it if the queue is full: nobody here can wait for room.
func (p *pump) forward(m *raftpb.Message, now time.Duration) {
	q := proposal{msg: m, until: now + forwardedWait}
	for _, e := range m.GetEntries() {
		q.size += int64(len(e.GetData()))
	}
	if p.in.charge(q.size) {
		p.queue = append(p.queue, q)
	}
}

func (p *pump) empty() bool { return p.head == len(p.queue) }

// run hands over all that raft takes now. accepts is false while there is no leader, a transfer is under
// way or the disk hangs.
func (p *pump) run(rn *raft.RawNode, now time.Duration, accepts func(*raft.BasicStatus) bool) {
	if p.empty() || p.held {
		return
	}
	st := rn.BasicStatus()
	if !accepts(&st) {
		return
	}
	leader := st.RaftState == raft.StateLeader
	handed := int64(0)
	for !p.empty() && !p.held {
		head := &p.queue[p.head]
		if head.dead(now) {
			handed += head.size
			p.pop(1)
		} else if head.msg != nil {
			if !p.stepAlone(rn, head.msg, &st) {
				break
			}
			handed += head.size
			p.pop(1)
		} else {
			handed += p.stepBatch(rn, leader, now)
		}
	}
	p.in.handed(handed)
}

// stepAlone steps a message that may hold a conf change, and tells whether raft took it.
func (p *pump) stepAlone(rn *raft.RawNode, m *raftpb.Message, st *raft.BasicStatus) bool {
	ents := m.GetEntries()
	conf := len(ents) == 1 && ents[0].GetType() != raftpb.EntryNormal
	if !conf {
		p.held = rn.Step(m) != nil
		return !p.held
	}
	if st.Applied < p.confUntil || st.RaftState == raft.StateLeader && p.departs(ents[0]) {
		return false
	}
	change := ents[0]
	if p.held = rn.Step(m) != nil; p.held {
		return false
	}
	if ents[0] != change {
		ents[0] = change
		p.confUntil = anyIndex
		return false
	}
	p.confUntil = 0
	return true
}

// stepBatch steps the plain proposals at the head as one message and gives the bytes that left the queue.
func (p *pump) stepBatch(rn *raft.RawNode, leader bool, now time.Duration) (left int64) {
	ents, ptrs := p.entries[:0], p.pointers[:0]
	if !leader {
		ents, ptrs = nil, nil
	}
	n, size := 0, int64(0)
	for i := p.head; i < len(p.queue) && n < proposalEntriesMax; i++ {
		q := &p.queue[i]
		if q.msg != nil || (n > 0 && size+q.size > proposalBytesMax) {
			break
		}
		n++
		size += q.size
	}
	if cap(ents) < n {
		ents = make([]raftpb.Entry, 0, n)
	}
	ents = ents[:n]
	for i := range n {
		if q := &p.queue[p.head+i]; !q.dead(now) {
			ents[i].Data = q.data
			ptrs = append(ptrs, &ents[i])
		}
	}
	if leader {
		p.entries, p.pointers = ents, ptrs
	}
	if len(ptrs) > 0 && rn.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), Entries: ptrs}) != nil {
		p.held = true
		return 0
	}
	p.pop(n)
	return size
}

func (p *pump) pop(n int) {
	clear(p.queue[p.head : p.head+n])
	p.head += n
	if p.head == len(p.queue) {
		p.queue, p.head = p.queue[:0], 0
	}
}

// appended learns the index of the last entry that raft appended, for a conf change that was refused.
func (p *pump) appended(index uint64) {
	if p.confUntil == anyIndex {
		p.confUntil = index
	}
}

// retry lets the next run try again what raft refused; fresh says that the leader changed.
func (p *pump) retry(fresh bool) {
	p.held = false
	if fresh {
		p.confUntil = 0
	}
}

// prune drops what nobody waits for any more, so that the dead don't fill the queue while no leader is
// in sight.
func (p *pump) prune(now time.Duration) {
	if p.empty() {
		return
	}
	live, left := p.queue[:0], int64(0)
	for i := p.head; i < len(p.queue); i++ {
		if q := p.queue[i]; q.dead(now) {
			left += q.size
		} else {
			live = append(live, q)
		}
	}
	clear(p.queue[len(live):])
	p.queue, p.head = live, 0
	p.in.handed(left)
}
