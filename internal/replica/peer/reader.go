package peer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

const (
	// retryMin and retryMax bound the pause before a stream is opened again: it begins with etcd's and doubles. A member
	// that comes back opens its own streams and ends the pause.
	retryMin = 100 * time.Millisecond
	retryMax = time.Second
	// readBytes is how much is read from a connection at once.
	readBytes = 64 << 10
)

// read opens one kind of stream from the member again and again and hands on what it brings.
func (p *peer) read(k kind) {
	pause := retryMin
	for p.ctx.Err() == nil {
		body, err := p.open(k)
		if err == nil {
			pause = retryMin
			p.suspect.connected()
			p.status.up()
			p.status.log.Info("established TCP streaming connection with remote peer", zap.String("stream-reader-type", k.String()))
			err = p.drain(k, body)
			_ = body.Close()
			if p.ctx.Err() != nil {
				return
			}
			p.t.o.Observe.ReceiveFailed(p.id)
			p.suspect.cutOff(err)
			p.status.log.Warn("lost TCP streaming connection with remote peer", zap.String("stream-reader-type", k.String()), zap.Error(err))
		} else if p.ctx.Err() == nil {
			p.status.down(err)
		}
		if p.suspect.ask(func() bool { return p.t.lines.refuses(p.ctx, p.urls.list()) }) {
			p.status.down(errors.New("peer: the connection ended and every address refuses another"))
			p.t.Receiver.PeerDead(p.id)
		}
		p.rest(k, pause)
		pause = min(2*pause, retryMax)
	}
}

// rest waits before the next attempt.
func (p *peer) rest(k kind, pause time.Duration) {
	t := p.t.o.Clock.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.redial[k]:
	case <-p.ctx.Done():
	}
}

// seen tells the readers that the member is there.
func (p *peer) seen() {
	for _, ch := range p.redial {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// open asks the member for a stream.
func (p *peer) open(k kind) (io.ReadCloser, error) {
	base := p.urls.pick()
	r, err := p.request(p.ctx, http.MethodGet, base, streamPath+k.String()+"/"+hexID(p.t.ID), nil)
	if err != nil {
		p.urls.failed(base)
		return nil, err
	}
	r.Header.Set("X-Raft-To", p.name)
	resp, err := p.t.lines.streams.RoundTrip(r)
	if err != nil {
		p.urls.failed(base)
		return nil, err
	}
	if err := p.accept(resp); err != nil {
		_ = resp.Body.Close()
		p.urls.failed(base)
		return nil, err
	}
	return resp.Body, nil
}

// accept checks the answer to the request for a stream.
func (p *peer) accept(resp *http.Response) error {
	theirs, err := versionOf(resp.Header, "X-Server-Version")
	if err != nil {
		return err
	}
	// Streams of this form came with 2.1.
	if theirs.LessThan(semver.Version{Major: 2, Minor: 1}) {
		return errIncompatible
	}
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if err != nil {
		return fmt.Errorf("peer: read an answer: %w", err)
	}
	if resp.StatusCode == http.StatusNotFound {
		return errUnknownThere
	}
	return p.explain(resp, string(text))
}

// drain hands on messages until the stream ends.
func (p *peer) drain(k kind, body io.Reader) error {
	in, c := bufio.NewReaderSize(body, readBytes), p.newCodec(k)
	for {
		m, err := c.read(in)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		if why := p.t.unwanted(m); why != "" {
			p.status.log.Debug("dropped a message", zap.String("reason", why), zap.Stringer("type", m.GetType()))
			continue
		}
		p.t.o.Observe.Received(p.id, proto.Size(m))
		if err := p.t.Receiver.Step(p.ctx, m); err != nil && p.ctx.Err() == nil {
			p.status.log.Debug("raft refused a message", zap.Stringer("type", m.GetType()), zap.Error(err))
		}
	}
}

// unwanted tells why a message is not for raft; empty: it is.
func (t *Transport) unwanted(m *raftpb.Message) string {
	switch {
	case t.Receiver.Removed(m.GetFrom()):
		return textRemoved
	case m.GetTo() != t.ID:
		return textNotForMe
	}
	return ""
}

// versionOf reads a version from a header. Members before 2.1 send none.
func versionOf(h http.Header, name string) (*semver.Version, error) {
	text := h.Get(name)
	if text == "" {
		text = "2.0.0"
	}
	v, err := semver.NewVersion(text)
	if err != nil {
		return nil, fmt.Errorf("peer: header %s: %w", name, err)
	}
	return v, nil
}

// compatible checks a member's versions, as its request tells them, against this one's.
func compatible(h http.Header) error {
	server, err := versionOf(h, "X-Server-Version")
	if err != nil {
		return err
	}
	least, err := versionOf(h, "X-Min-Cluster-Version")
	if err != nil {
		return err
	}
	ours, oursLeast := semver.New(version.Version), semver.New(version.MinClusterVersion)
	if older(server, oursLeast) || older(ours, least) {
		return errIncompatible
	}
	return nil
}

// older compares major and minor alone.
func older(a, b *semver.Version) bool {
	return a.Major < b.Major || a.Major == b.Major && a.Minor < b.Minor
}
