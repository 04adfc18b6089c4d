package listen

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
)

// stateKey is where a connection's TLS state is in its requests' contexts.
type stateKey struct{}

// KeepState is an http.Server's ConnContext: it keeps the TLS state of a connection whose kind the server does not see. Behind a
// Split that is every one that speaks HTTP/2.
func KeepState(ctx context.Context, c net.Conn) context.Context {
	if state, ok := State(c); ok {
		return context.WithValue(ctx, stateKey{}, &state)
	}
	return ctx
}

// WithState gives such requests the state that KeepState kept.
func WithState(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			if state, ok := r.Context().Value(stateKey{}).(*tls.ConnectionState); ok {
				r.TLS = state
			}
		}
		next.ServeHTTP(w, r)
	})
}
