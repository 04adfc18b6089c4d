package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
)

// A caller sends requests and measures nothing.
type caller interface {
	call(ctx context.Context, r request) error
}

var errNoAnswer = errors.New("bench: not the answer that was due")

// jsonConn is one connection of HTTP/1.1 with one client. Its requests are bytes already, as those by gRPC are.
type jsonConn struct {
	net.Conn
	in   *bufio.Reader
	head string // of every request, behind its path
}

// dialJSON makes connections, each with a token of its own where there are users.
func (p *process) dialJSON(n int) ([]*jsonConn, error) {
	if p.auth {
		if err := p.takeTokens(n); err != nil {
			return nil, err
		}
	}
	var all []*jsonConn
	for i := range n {
		c, err := net.DialTimeout("tcp", p.addr, callTime)
		if err != nil {
			closeJSON(all)
			return nil, fmt.Errorf("bench: dial %s: %w", p.addr, err)
		}
		if p.tls != nil {
			c = tls.Client(c, p.tls)
		}
		j := &jsonConn{Conn: c, in: bufio.NewReader(c), head: " HTTP/1.1\r\nHost: " + p.addr + "\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Type: application/json\r\n"}
		if p.auth {
			j.head += "Authorization: " + p.tokens[i]["token"] + "\r\n"
		}
		all = append(all, j)
	}
	return all, nil
}

func closeJSON(all []*jsonConn) {
	for _, c := range all {
		_ = c.Close() // nothing is left to lose
	}
}

// call sends one request and reads its answer to the end.
func (c *jsonConn) call(ctx context.Context, r request) error {
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(c.Conn, "POST %s%sContent-Length: %d\r\n\r\n%s", r.method, c.head, len(r.body), r.body); err != nil {
		return err
	}
	a, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, a.Body)
	_ = a.Body.Close() // it is read
	switch {
	case err != nil:
		return err
	case a.StatusCode != http.StatusOK || n == 0:
		return fmt.Errorf("%w: %s with %d bytes", errNoAnswer, a.Status, n)
	}
	return nil
}

// runJSON sends the load as JSON over HTTP.
func (l *load) runJSON(ctx context.Context, p *process) (measure, error) {
	conns, err := p.dialJSON(l.clients)
	if err != nil {
		return measure{}, err
	}
	defer closeJSON(conns)
	callers := make([]caller, len(conns))
	for i, c := range conns {
		callers[i] = c
	}
	return l.over(ctx, p, callers)
}

// jsonLoad makes a work that sends JSON.
func jsonLoad(name, about string, prepare func(context.Context, *bench, *process) error, next func(int, int) request) work {
	l := &load{clients: 64, json: true, next: next}
	return work{name: name, about: about + " as JSON, 64 clients on 64 connections", prepare: prepare, load: l}
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func nextJSONPut(int, int) request {
	body := fmt.Appendf(nil, `{"key":"%s","value":"%s"}`, base64Of(keyOf(rand.IntN(keySpace))), base64Of(someValue()))
	return request{"/v3/kv/put", body}
}

func nextJSONGet(keys int) func(int, int) request {
	return func(int, int) request {
		return request{"/v3/kv/range", fmt.Appendf(nil, `{"key":"%s"}`, base64Of(keyOf(rand.IntN(keys))))}
	}
}

func nextJSONList(int, int) request {
	body := fmt.Appendf(nil, `{"key":"%s","range_end":"%s","limit":%d}`, base64Of(keyOf(rand.IntN(keySpace-listLimit))), base64Of([]byte("bench0")), listLimit)
	return request{"/v3/kv/range", body}
}
