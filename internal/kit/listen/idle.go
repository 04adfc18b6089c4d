package listen

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// idleLooks is how many times in its idle time a connection is looked at: it lasts an eighth longer at most.
const idleLooks = 8

// idleConns are the connections of one server that nothing is asked on.
type idleConns struct {
	after time.Duration

	mu    sync.Mutex
	since map[net.Conn]time.Time
	armed bool // sweep will run
}

// Idle gives a ConnState for an http.Server that closes connections on which nothing was asked for that long. It takes the place of
// IdleTimeout: for HTTP/2, net/http of Go 1.26 arms the timer of that once more when a connection ends with streams open, and a
// client that opens and drops them would have all of each kept in memory until then.
func Idle(after time.Duration) func(net.Conn, http.ConnState) {
	i := &idleConns{after: after, since: map[net.Conn]time.Time{}}
	return i.state
}

// state notes what becomes of a connection. What is closed is idle before it is closed, where it had streams.
func (i *idleConns) state(c net.Conn, to http.ConnState) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if to != http.StateIdle {
		delete(i.since, c)
		return
	}
	i.since[c] = time.Now()
	if !i.armed {
		i.armed = true
		time.AfterFunc(i.after/idleLooks, i.sweep)
	}
}

// sweep closes what was idle for too long, and comes again for the rest.
func (i *idleConns) sweep() {
	i.mu.Lock()
	var over []net.Conn
	for c, since := range i.since {
		if time.Since(since) >= i.after {
			over = append(over, c)
			delete(i.since, c)
		}
	}
	if i.armed = len(i.since) > 0; i.armed {
		time.AfterFunc(i.after/idleLooks, i.sweep)
	}
	i.mu.Unlock()
	for _, c := range over {
		_ = c.Close() // its server reads the end of it
	}
}
