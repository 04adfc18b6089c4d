package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"

	"go.uber.org/zap"

	"keelson/internal/kit/listen"
	"keelson/internal/kit/tlsconf"
)

// portPair is a port for clients and perhaps one more for metrics, of a program that is no member: open before it calls anybody.
// Its goroutines are joined by running.
type portPair struct {
	client, metrics net.Listener // metrics is nil where it is not asked for
	secrets         *tlsconf.Material
	metricsTLS      bool

	running sync.WaitGroup
	secured []net.Listener
	failed  chan error // one for each goroutine
}

// openPair opens --listen-addr and --metrics-addr. What is secured, is so with secrets; nil for plain text.
func openPair(ctx context.Context, address, metrics string, secrets *tlsconf.Material) (*portPair, error) {
	var err error
	p := &portPair{secrets: secrets, failed: make(chan error, 4)}
	if p.client, err = (&net.ListenConfig{KeepAlive: proxyKeepAlive}).Listen(ctx, "tcp", address); err != nil {
		return nil, fmt.Errorf("listen on --listen-addr=%s: %w", address, err)
	}
	if metrics == "" {
		return p, nil
	}
	at, err := url.Parse(metrics)
	if err == nil {
		p.metricsTLS = at.Scheme == "https" || at.Scheme == "unixs"
		p.metrics, err = listen.Open(ctx, at, listen.Options{})
	}
	if err != nil {
		p.client.Close()
		return nil, fmt.Errorf("--metrics-addr=%s: %w", metrics, err)
	}
	return p, nil
}

// checkMetricsAddr checks --metrics-addr. secure tells whether there is a certificate, needs what would give one.
func checkMetricsAddr(text string, secure bool, needs string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" {
		return fmt.Errorf("--metrics-addr=%s: give http://HOST:PORT or https://HOST:PORT", text)
	}
	if u.Scheme == "https" && !secure {
		return fmt.Errorf("--metrics-addr=%s: https needs %s", text, needs)
	}
	return nil
}

// keep serves in a goroutine of its own.
func (p *portPair) keep(at net.Addr, serve func() error) {
	p.running.Go(func() {
		if err := serve(); err != nil {
			p.failed <- portError(at, err)
		}
	})
}

// shaken does the TLS handshakes of a socket, where it is a secure one.
func (p *portPair) shaken(l net.Listener, secure bool, traffic string, log *zap.Logger, protocols ...string) net.Listener {
	if !secure {
		return l
	}
	x := listen.NewSecure(l, listen.SecureOptions{Config: p.secrets.Server(false, protocols...), Refused: rejected(log, traffic), Logger: log})
	p.keep(l.Addr(), x.Serve)
	p.secured = append(p.secured, x)
	return x
}

func (p *portPair) close() {
	for _, l := range p.secured {
		_ = l.Close() // closing twice does no harm
	}
	_ = p.client.Close()
	if p.metrics != nil {
		_ = p.metrics.Close()
	}
}
