package server

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/internal/apply"
	"keelson/internal/kit/wire"
	"keelson/internal/state/mvcc"
)

// slow warns of what took longer than --warning-apply-duration, in the words that operators look for in etcd's log:
// entries while they were applied, and reads from their arrival on. It is safe for concurrent use.
type slow struct {
	warn    time.Duration
	logger  *zap.Logger
	observe *Observer
	count   atomic.Int64
}

// entry is told of each applied entry and what came of it.
func (s *slow) entry(asked apply.Asked, res *apply.Result, took time.Duration) {
	if asked.Name == "" {
		return
	}
	ok := res.Err == nil || errors.Is(res.Err, mvcc.ErrCompacted)
	s.observe.apply(asked.Name, ok, took)
	if took > s.warn {
		s.tell("", loggable(asked.Request), sizeText(res.Resp), took, res.Err)
	}
	if !ok {
		s.logger.Warn("failed to apply request", zap.Duration("took", took),
			zap.String("request", loggable(asked.Request)), zap.String("response", sizeText(res.Resp)), zap.Error(res.Err))
	}
}

// published is told how long a run took from its last entry until its results were out. It is the store's backlog that can
// make that long.
func (s *slow) published(took time.Duration) {
	if took > s.warn {
		s.tell("publishing ", "", "", took, nil)
	}
}

// ranged is told of each range: when it came, when it was read from (zero: never), and when it ended.
func (s *slow) ranged(r *pb.RangeRequest, resp *wire.RangeResponse, start, began, end time.Time, err error) {
	took := end.Sub(start)
	s.observe.request("Range", err == nil, took)
	if s.observe.Range != nil && !began.IsZero() {
		s.observe.Range(err == nil, end.Sub(began))
	}
	if took <= s.warn {
		return
	}
	text := ""
	if resp != nil {
		text = fmt.Sprintf("range_response_count:%d size:%d", len(resp.KVs), resp.Size())
	}
	s.tell("read-only range ", r.String(), text, took, err)
}

// readTxn is told of each transaction that only read.
func (s *slow) readTxn(r *pb.TxnRequest, resp *wire.TxnResponse, took time.Duration, err error) {
	s.observe.request("ReadonlyTxn", err == nil, took)
	if took <= s.warn {
		return
	}
	text := ""
	if resp != nil {
		counts := ""
		for i := range resp.Responses {
			if i > 0 {
				counts += " "
			}
			counts += fmt.Sprintf("range_response_count:%d", len(resp.Responses[i].Range.KVs))
		}
		text = fmt.Sprintf("responses:<%s> size:%d", counts, resp.Size())
	}
	s.tell("read-only txn ", pb.NewLoggableTxnRequest(r).String(), text, took, err)
}

func (s *slow) tell(prefix, request, response string, took time.Duration, err error) {
	s.count.Add(1)
	s.logger.Warn("apply request took too long", zap.Duration("took", took), zap.Duration("expected-duration", s.warn),
		zap.String("prefix", prefix), zap.String("request", request), zap.String("response", response), zap.Error(err))
}

// loggable shows a request without its values.
func loggable(r *pb.InternalRaftRequest) string {
	if a := r.GetAuthenticate(); a != nil {
		// The rest of it is a token but for a number that is easily guessed.
		return fmt.Sprintf("header:<ID:%d> authenticate:<name:%s>", r.GetHeader().GetID(), a.GetName())
	}
	return (&pb.InternalRaftStringer{Request: r}).String()
}

// sizeText tells how large an answer is; there may be none.
func sizeText(resp any) string {
	switch r := resp.(type) {
	case interface{ Size() int }:
		return fmt.Sprintf("size:%d", r.Size())
	case proto.Message:
		return fmt.Sprintf("size:%d", proto.Size(r))
	}
	return ""
}
