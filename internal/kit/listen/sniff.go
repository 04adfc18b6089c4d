package listen

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// firstRead holds what a gRPC client sends before it waits for an answer (24 bytes of preface, SETTINGS, WINDOW_UPDATE:
	// under 100 bytes), or the head of a usual HTTP/1 request.
	firstRead = 512
	// sniffBytesMax bounds what a connection may send before its first request is whole: a HEADERS frame of 16 KiB, its
	// continuation, and small frames before it.
	sniffBytesMax = 64 << 10
	// frameBytesMax is what HTTP/2 allows in one frame before anything else is agreed.
	frameBytesMax = 16 << 10
)

var errTooLong = fmt.Errorf("listen: more than %d bytes before the first request", sniffBytesMax)

// What a connection turned out to be.
type protocol int

const (
	isHTTP protocol = iota
	isGRPC
)

// sniff reads a connection up to the headers of its first request and tells the protocol. The answer is a connection that
// gives the same bytes again.
//
// gRPC clients send SETTINGS and then wait for ours before their first request, so a connection of HTTP/2 that has sent
// nothing more is answered with an empty SETTINGS frame. The server that takes over sends its own after it, which HTTP/2
// allows at any time. It must not see the acknowledgement of ours: gRPC's transport passes over it, net/http would take it for
// an error, so for net/http it is cut out (ackFilter).
func sniff(c net.Conn) (protocol, net.Conn, error) {
	r := &recorder{from: c}
	h2, err := r.preface()
	if err != nil {
		return 0, nil, err
	}
	if !h2 {
		return isHTTP, &replay{Conn: c, rest: r.seen}, nil
	}
	answered := false
	r.beforeWait = func() error {
		if answered {
			return nil
		}
		answered = true
		return http2.NewFramer(c, nil).WriteSettings()
	}
	grpc, err := r.firstRequest()
	switch {
	case err != nil:
		return 0, nil, err
	case grpc:
		return isGRPC, &replay{Conn: c, rest: r.seen}, nil
	}
	again := &replay{Conn: c, rest: r.seen}
	if answered {
		return isHTTP, &ackFilter{Conn: again, skip: len(http2.ClientPreface)}, nil
	}
	return isHTTP, again, nil
}

// recorder reads a connection and keeps everything it has read.
type recorder struct {
	from net.Conn
	seen []byte
	at   int // what has been handed out of seen
	// beforeWait, if set, is called before a read that may block.
	beforeWait func() error
}

// fill reads once more from the connection.
func (r *recorder) fill() error {
	if len(r.seen) >= sniffBytesMax {
		return errTooLong
	}
	if r.beforeWait != nil {
		if err := r.beforeWait(); err != nil {
			return err
		}
	}
	if cap(r.seen)-len(r.seen) < firstRead {
		r.seen = append(make([]byte, 0, 2*cap(r.seen)+firstRead), r.seen...)
	}
	n, err := r.from.Read(r.seen[len(r.seen):min(cap(r.seen), sniffBytesMax)])
	r.seen = r.seen[:len(r.seen)+n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func (r *recorder) Read(p []byte) (int, error) {
	if r.at == len(r.seen) {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.seen[r.at:])
	r.at += n
	return n, nil
}

// preface says whether the connection begins as HTTP/2 does; it stops at the first byte that differs.
func (r *recorder) preface() (bool, error) {
	for {
		n := min(len(r.seen), len(http2.ClientPreface))
		if string(r.seen[:n]) != http2.ClientPreface[:n] {
			return false, nil
		}
		if n == len(http2.ClientPreface) {
			r.at = n
			return true, nil
		}
		if err := r.fill(); err != nil {
			if n > 0 && errors.Is(err, io.EOF) {
				return false, nil
			}
			return false, err
		}
	}
}

// firstRequest reads frames up to the first HEADERS and says whether they ask for gRPC.
func (r *recorder) firstRequest() (grpc bool, err error) {
	f := http2.NewFramer(io.Discard, r)
	f.SetMaxReadFrameSize(frameBytesMax)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.MaxHeaderListSize = sniffBytesMax
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return false, fmt.Errorf("listen: read the first request: %w", err)
		}
		headers, ok := frame.(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		for _, h := range headers.RegularFields() {
			if h.Name == "content-type" {
				return isGRPCType(h.Value), nil
			}
		}
		return false, nil
	}
}

// isGRPCType takes application/grpc, alone or with a codec (+proto) or a parameter behind it.
func isGRPCType(contentType string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(contentType), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// replay gives what was read before, then the connection itself.
type replay struct {
	net.Conn
	rest []byte
}

func (c *replay) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.rest = nil
	}
	return n, nil
}

// ackFilter cuts the first acknowledgement of SETTINGS out of a connection of HTTP/2: 9 bytes, type 4, flag 1, no payload.
// It passes frames on as they are until then, and the connection untouched after it.
type ackFilter struct {
	net.Conn
	skip int // bytes to pass on before the next frame's head
	head [frameHead]byte
	have int // bytes of head that were read
	out  int // bytes of head that were passed on
	done bool
}

const frameHead = 9

func (c *ackFilter) Read(p []byte) (int, error) {
	for {
		switch {
		case len(p) == 0:
			return 0, nil
		case c.out < c.have && c.have == frameHead:
			n := copy(p, c.head[c.out:])
			if c.out += n; c.out == frameHead {
				c.have, c.out = 0, 0
			}
			return n, nil
		case c.done:
			return c.Conn.Read(p)
		case c.skip > 0:
			n, err := c.Conn.Read(p[:min(len(p), c.skip)])
			c.skip -= n
			return n, err
		}
		if err := c.readHead(); err != nil {
			return 0, err
		}
	}
}

// readHead reads the next frame's head and drops it where it is the acknowledgement.
func (c *ackFilter) readHead() error {
	for c.have < frameHead {
		n, err := c.Conn.Read(c.head[c.have:])
		if c.have += n; c.have < frameHead && err != nil {
			return err
		}
	}
	length := int(c.head[0])<<16 | int(c.head[1])<<8 | int(c.head[2])
	if bytes.Equal(c.head[:5], []byte{0, 0, 0, byte(http2.FrameSettings), byte(http2.FlagSettingsAck)}) {
		c.have, c.done = 0, true
		return nil
	}
	c.skip = length
	return nil
}
