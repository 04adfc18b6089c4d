package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// errPlainProxy is returned where a proxy would need certificates or users of its own.
var errPlainProxy = errors.New("bench: the proxy is measured in plain text and without users: leave -tls and -auth out")

// proxied is a work on a gRPC proxy of the program's, whose CPU it counts. The server behind it is Keelson's for both
// programs: what differs is the proxy.
func proxied(l load, prepare func(context.Context, *bench, *process) error) func(context.Context, *bench, *process) (measure, error) {
	return func(ctx context.Context, b *bench, p *process) (measure, error) {
		if b.secure.tls || b.secure.auth {
			return measure{}, errPlainProxy
		}
		behind, err := b.start(keelson)
		if err != nil {
			return measure{}, err
		}
		defer behind.stop()
		if prepare != nil {
			if err := prepare(ctx, b, behind); err != nil {
				return measure{}, err
			}
		}
		proxy, err := b.startProxy(p.program, behind)
		if err != nil {
			return measure{}, err
		}
		defer proxy.stop()
		l.duration, l.warm = b.duration, b.duration/5
		return l.run(ctx, proxy)
	}
}

// startProxy runs a program's gRPC proxy in front of a server and waits until it answers.
func (b *bench) startProxy(program string, behind *process) (*process, error) {
	dir, err := os.MkdirTemp(b.dir, "bench-")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	p := &process{name: "proxy", addr: ports[0], dir: dir, program: program}
	p.args = []string{
		"grpc-proxy", "start", "--endpoints=" + behind.addr, "--listen-addr=" + p.addr, "--advertise-client-url=" + p.addr,
		"--data-dir=" + filepath.Join(dir, "data"),
	}
	if err := p.launch(); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}
