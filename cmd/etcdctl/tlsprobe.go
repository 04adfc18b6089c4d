package main

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"time"
)

// handshakeTimeout is what a server gets that takes connections: a busy one needs longer for a handshake than for that.
const handshakeTimeout = 2 * time.Second

// tlsTrouble tries a handshake on a connection to an endpoint and tells what is wrong with it, "" for nothing. gRPC knows the
// reason too, and goes on trying until the time is over without a word of it. cfg is how endpoints are connected that do
// not say it themselves, nil for without TLS.
func tlsTrouble(conn net.Conn, endpoint string, cfg *tls.Config) string {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return ""
	}
	scheme, _, _ := strings.Cut(endpoint, ":")
	secure := scheme == "https" || scheme == "unixs" || cfg != nil && scheme != "http"
	if !secure {
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // nothing is sent: who is there does not matter
		if err := c.Handshake(); err == nil || isAlert(err) {
			return "it speaks TLS and was talked to without: name it https://… and trust its CA with --cacert"
		}
		return ""
	}
	if cfg == nil {
		cfg = &tls.Config{} //nolint:gosec // as the client does
	}
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h2"}
	if cfg.ServerName == "" {
		_, address := socketOf(endpoint)
		cfg.ServerName = address
		if host, _, err := net.SplitHostPort(address); err == nil {
			cfg.ServerName = host
		}
	}
	c := tls.Client(conn, cfg)
	err := c.Handshake()
	if err == nil {
		// A server that misses our certificate says so behind the handshake, in place of its first words.
		_, err = c.Read(make([]byte, 1))
	}
	var plain tls.RecordHeaderError
	switch {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		return ""
	case errors.As(err, &plain):
		return "it does not speak TLS: name it http://…"
	case isAlert(err) && len(cfg.Certificates) == 0 && cfg.GetClientCertificate == nil:
		return "it ends the handshake (" + err.Error() + "): it may want a client certificate, --cert and --key"
	}
	return err.Error()
}

// isAlert tells whether the other side of a handshake ended it, by TLS's own means.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
