package peer

import (
	"net"
	"net/http"

	"go.uber.org/zap"

	"keelson/internal/kit/logging"
)

// refusals logs who was refused and why, once in a while each: a member of another cluster asks every second.
type refusals struct {
	log    *zap.Logger
	seldom *logging.Seldom
}

func (f *refusals) tell(r *http.Request, why string, fields ...zap.Field) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr // a unix socket
	}
	from := r.Header.Get("X-Server-From")
	if !f.seldom.Due(why + " " + host + " " + from) {
		return
	}
	f.log.Warn(why, append([]zap.Field{
		zap.String("remote-peer-id", from), zap.String("remote-address", r.RemoteAddr), zap.String("path", r.URL.Path),
	}, fields...)...)
}
