package tcpgateway

import (
	"errors"
	"io"
	"net"
	"sync"
)

const (
	// A connection that waits holds a small buffer: thousands of clients mostly wait. One that is busy borrows a large one for
	// as long as it fills it.
	idleBytes, busyBytes = 1 << 10, 64 << 10
)

// large are buffers for busy connections.
var large = sync.Pool{New: func() any { return new([busyBytes]byte) }}

// stream copies from one connection to another to the end of what comes, and tells the other side that this is the end. Where
// it fails both connections are closed: half of a conversation is of no use.
func stream(to, from net.Conn) {
	if err := relay(to, from); err != nil {
		_ = to.Close() // they are in an unknown state
		_ = from.Close()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the other side may be gone, which the other direction finds out
	}
}

// relay is stream's copying; nil at the end of what comes.
func relay(to, from net.Conn) error {
	small := make([]byte, idleBytes)
	for {
		n, err := from.Read(small)
		if n > 0 {
			if _, werr := to.Write(small[:n]); werr != nil {
				return werr
			}
		}
		if err == nil && n == len(small) {
			err = burst(to, from)
		}
		if err != nil {
			return ended(err)
		}
	}
}

// burst copies by a large buffer until there is less to read than that.
func burst(to, from net.Conn) error {
	b := large.Get().(*[busyBytes]byte)
	defer large.Put(b)
	for {
		n, err := from.Read(b[:])
		if n > 0 {
			if _, werr := to.Write(b[:n]); werr != nil {
				return werr
			}
		}
		if err != nil || n < len(b)/2 {
			return err
		}
	}
}

// ended makes the end of a stream no error.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
