package raftloop

import (
	"encoding/binary"
	"time"

	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
)

const (
	// readRetry is when an unanswered round asks again: a request or its answer is lost whenever there is
	// no leader, the leader steps down, or an election runs.
	readRetry = 500 * time.Millisecond
	// readRoundsMax bounds the rounds in flight. Each costs a heartbeat to every peer; readers that come
	// while so many are out share the next one.
	readRoundsMax = 64
)

// round is one set of readers that share an answer.
type round struct {
	done  chan struct{} // closed when index is set
	index uint64
}

// question is one MsgReadIndex in flight. Its answer serves every round up to number upTo: their readers
// were all waiting when it was asked.
type question struct {
	id   uint64
	upTo uint64
}

// reads belongs to the loop's goroutine.
type reads struct {
	in     *inbox
	nextID func() uint64
	logger *zap.Logger
	rounds []*round // waiting, oldest first; rounds[i] has number first+i
	first  uint64
	asked  []question // oldest first
	last   time.Duration
}

// take brings in the readers that wait and asks for them, if a question may go out now.
func (r *reads) take(rn *raft.RawNode, now time.Duration) {
	if len(r.asked) >= readRoundsMax {
		return
	}
	if next := r.in.takeReads(); next != nil {
		r.rounds = append(r.rounds, next)
		r.ask(rn, now)
	}
}

// ask sends one question for all the rounds that wait. raft keeps the context: a fresh one each time.
func (r *reads) ask(rn *raft.RawNode, now time.Duration) {
	if len(r.rounds) == 0 {
		return
	}
	if len(r.asked) >= readRoundsMax {
		r.asked = append(r.asked[:0], r.asked[1:]...)
	}
	id := r.nextID()
	r.asked = append(r.asked, question{id, r.first + uint64(len(r.rounds)) - 1})
	r.last = now
	rn.ReadIndex(binary.BigEndian.AppendUint64(nil, id))
}

// retry asks again when the newest question has no answer for long.
func (r *reads) retry(rn *raft.RawNode, now time.Duration) {
	if len(r.rounds) == 0 || now-r.last < readRetry {
		return
	}
	if n := len(r.asked); n > 0 {
		r.logger.Warn("waiting for ReadIndex response took too long, retrying",
			zap.Uint64("sent-request-id", r.asked[n-1].id), zap.Duration("retry-timeout", readRetry))
	}
	r.ask(rn, now)
}

// answer serves the readers of a read state. States with another context are late answers to rounds
// already served, or to a former life of this member.
func (r *reads) answer(s raft.ReadState) {
	if len(s.RequestCtx) != 8 {
		return
	}
	id := binary.BigEndian.Uint64(s.RequestCtx)
	for i, q := range r.asked {
		if q.id == id {
			r.serve(q.upTo, s.Index)
			r.asked = append(r.asked[:0], r.asked[i+1:]...)
			return
		}
	}
}

// serve answers all rounds up to number upTo.
func (r *reads) serve(upTo, index uint64) {
	for len(r.rounds) > 0 && r.first <= upTo {
		r.rounds[0].index = index
		close(r.rounds[0].done)
		r.rounds[0] = nil
		r.rounds = r.rounds[1:]
		r.first++
	}
}

// local answers every reader with index, which the caller knows to be linearizable.
func (r *reads) local(index uint64) {
	if next := r.in.takeReads(); next != nil {
		r.rounds = append(r.rounds, next)
	}
	r.serve(r.first+uint64(len(r.rounds)), index)
	r.asked = r.asked[:0]
}
