package peer

import (
	"bytes"
	"io"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// sendSnapshot begins to send a snapshot and reports how that ended, once in any case. It waits for nothing: the report
// of a refusal goes to a queue of raft's.
func (p *peer) sendSnapshot(m *raftpb.Message) {
	p.t.mu.RLock()
	defer p.t.mu.RUnlock() // Stop waits for what begins before it
	if p.t.stopped || p.ctx.Err() != nil || !p.sending.CompareAndSwap(false, true) {
		p.t.Receiver.ReportSnapshot(p.id, false)
		return
	}
	p.t.running.Go(func() {
		defer p.sending.Store(false)
		log := p.status.log.With(zap.Uint64("snapshot-index", m.GetSnapshot().GetMetadata().GetIndex()))
		began, ended := p.t.o.Clock.Now(), p.t.o.Observe.SendingSnapshot(p.id)
		size, err := p.stream(m, log)
		ended(err == nil)
		if err != nil {
			log.Warn("failed to send database snapshot", zap.Error(err))
			if p.ctx.Err() == nil {
				p.status.down(err)
			}
			p.dropped(1)
			p.t.Receiver.ReportSnapshot(p.id, false)
			return
		}
		p.status.up()
		p.t.Receiver.ReportSnapshot(p.id, true)
		p.t.o.Observe.Sent(p.id, int(size))
		log.Info("sent database snapshot", zap.Int64("bytes", size), zap.Duration("took", p.t.o.Clock.Now().Sub(began).Round(time.Millisecond)))
	})
}

// stream posts the message and the db file after it, and tells the file's size.
func (p *peer) stream(m *raftpb.Message, log *zap.Logger) (int64, error) {
	db, size, err := p.t.Receiver.OpenSnapshot(m)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	head, err := messageCodec{}.append(nil, m)
	if err != nil {
		return 0, err
	}
	log.Info("sending database snapshot", zap.Int64("bytes", size))
	body := io.MultiReader(bytes.NewReader(head), db)
	return size, p.deliver(p.ctx, snapshotPath, "application/octet-stream", body, int64(len(head))+size)
}
