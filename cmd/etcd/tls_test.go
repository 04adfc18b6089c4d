package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"keelson/internal/config"
	"keelson/internal/kit/listen"
	"keelson/test/authority"
	testprocess "keelson/test/process"
)

// Ports with TLS and without lie beside each other, on sockets of both kinds, and each takes its own kind alone.
func TestTLSPorts(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ca := authority.New(t, "ca")
	authority.Bundle(t, at("ca"), ca)
	pair := ca.Local(dir, "pair")
	p := testprocess.FreeAddrs(t, 5)
	m := launch(t, "--data-dir="+at("data"), "--listen-client-urls=http://"+p[0]+",https://"+p[1]+",http://"+p[4]+",https://"+p[4]+",unixs://"+at("localhost"), "--advertise-client-urls=https://"+p[1],
		"--listen-metrics-urls=https://"+p[2], "--listen-peer-urls=https://"+p[3], "--initial-advertise-peer-urls=https://"+p[3],
		"--cert-file="+pair.CertFile, "--key-file="+pair.KeyFile, "--trusted-ca-file="+at("ca"), "--client-cert-auth",
		"--peer-cert-file="+pair.CertFile, "--peer-key-file="+pair.KeyFile, "--peer-trusted-ca-file="+at("ca"), "--peer-client-cert-auth")
	// A client takes the last part of a socket's path for the server's name, at etcd's too.
	trust := authority.Client(&pair, ca)
	for endpoint, config := range map[string]*tls.Config{"http://" + p[0]: nil, "https://" + p[1]: trust, "http://" + p[4]: nil, "https://" + p[4]: trust, "unixs://" + at("localhost"): trust} {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: config, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), startTime)
		if _, err := c.Put(ctx, "key", endpoint); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
		cancel()
		c.Close()
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	for url, want := range map[string]string{
		p[1] + "/health": `{"health":"true","reason":""}`, p[2] + "/metrics": "keelson_tls_certificate_expiry_timestamp_seconds", p[3] + "/version": `"etcdserver":"3.7.3"`,
	} {
		r, err := client.Get("https://" + url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %.100s %v", url, body, err)
		}
		if r, err := http.Get("http://" + url); err == nil {
			r.Body.Close()
			t.Errorf("%s answers in plain text", url)
		}
	}
	m.stop(t)
}

// gRPC gets the state of the handshake that was done before it, and no state where there was none.
func TestHandshaken(t *testing.T) {
	var m materials
	if len(m.securely(nil)) != 0 {
		t.Error("credentials without TLS")
	}
	h := handshaken{insecure.NewCredentials()}
	theirs, ours := net.Pipe()
	if _, info, err := h.ServerHandshake(ours); err != nil || info.AuthType() != "insecure" {
		t.Errorf("%v %v", info, err)
	}
	theirs.Close()
	c := tls.Server(ours, &tls.Config{})
	if _, ok := listen.State(c); !ok {
		t.Error("no state")
	}
	_, info, err := h.Clone().ServerHandshake(c)
	if _, ok := info.(credentials.TLSInfo); !ok || err != nil {
		t.Errorf("%v %v", info, err)
	}
}

// Files that can't be used end the start before anything is created.
func TestBadCertificates(t *testing.T) {
	p := testprocess.FreeAddrs(t, 2)
	for _, flags := range [][]string{
		{"--cert-file=/absent", "--key-file=/absent"},
		{"--auto-tls", "--peer-trusted-ca-file=/absent"},
	} {
		args := append([]string{"--data-dir=" + filepath.Join(t.TempDir(), "d"), "--listen-client-urls=https://" + p[0], "--advertise-client-urls=https://" + p[0],
			"--listen-peer-urls=http://" + p[1]}, flags...)
		if err := <-launch(t, args...).ended; err == nil || !strings.Contains(err.Error(), "/absent") {
			t.Errorf("%v: %v", flags, err)
		}
	}
	cfg, _, err := config.Parse(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := openMaterials(cfg, zap.NewNop()); err != nil || m.client != nil || m.peer == nil {
		t.Errorf("without TLS: %+v %v", m, err)
	}
}

// Who is refused again and again is logged once, whatever ports the connections have; another reason is another line.
func TestRejectionsAreToldOnce(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	tell := rejected(zap.New(core), "client")
	for port := range 20 {
		remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1000 + port}
		tell(listen.Refusal{Remote: remote, Err: io.EOF})
		tell(listen.Refusal{Remote: remote, Err: &net.OpError{Op: "read", Source: remote, Err: errors.New("connection reset by peer")}})
	}
	tell(listen.Refusal{Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2)}, Err: io.EOF})
	if n := logs.FilterMessage("rejected connection on client endpoint").Len(); n != 3 {
		t.Errorf("%d lines: %v", n, logs.All())
	}
}
