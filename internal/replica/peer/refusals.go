package peer

import (
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"keelson/internal/kit/clock"
)

const (
	// refusalInterval is how often the same refusal of the same sender is logged: a member of another cluster asks every
	// second.
	refusalInterval = time.Minute
	// refusalsMax bounds the senders that are remembered for it.
	refusalsMax = 256
)

// refusals logs who was refused and why, once in a while each.
type refusals struct {
	clock clock.Clock
	log   *zap.Logger

	mu   sync.Mutex // guards the rest
	last map[string]time.Time
}

func (f *refusals) tell(r *http.Request, why string, fields ...zap.Field) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr // a unix socket
	}
	from := r.Header.Get("X-Server-From")
	if !f.due(why + " " + host + " " + from) {
		return
	}
	f.log.Warn(why, append([]zap.Field{
		zap.String("remote-peer-id", from), zap.String("remote-address", r.RemoteAddr), zap.String("path", r.URL.Path),
	}, fields...)...)
}

func (f *refusals) due(what string) bool {
	now := f.clock.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if at, ok := f.last[what]; ok && now.Sub(at) < refusalInterval {
		return false
	}
	if len(f.last) >= refusalsMax {
		clear(f.last)
	}
	f.last[what] = now
	return true
}
