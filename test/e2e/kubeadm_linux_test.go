package e2e

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/test/authority"
	"keelson/test/process"
)

// nodeAddr stands for the node's own address. It is another one of the loopback's, so that both URLs can have the same port.
const nodeAddr = "127.0.0.2"

// staticPod is the command line that kubeadm writes, but for the check of data, which has had two spellings.
func staticPod(dir, data string, server, peer authority.Pair, clientPort, peerPort, metricsPort string) []string {
	return []string{
		"--advertise-client-urls=https://" + nodeAddr + ":" + clientPort,
		"--cert-file=" + server.CertFile,
		"--client-cert-auth=true",
		"--data-dir=" + data,
		"--initial-advertise-peer-urls=https://" + nodeAddr + ":" + peerPort,
		"--initial-cluster=control=https://" + nodeAddr + ":" + peerPort,
		"--key-file=" + server.KeyFile,
		"--listen-client-urls=https://127.0.0.1:" + clientPort + ",https://" + nodeAddr + ":" + clientPort,
		"--listen-metrics-urls=http://127.0.0.1:" + metricsPort,
		"--listen-peer-urls=https://" + nodeAddr + ":" + peerPort,
		"--name=control",
		"--peer-cert-file=" + peer.CertFile,
		"--peer-client-cert-auth=true",
		"--peer-key-file=" + peer.KeyFile,
		"--peer-trusted-ca-file=" + filepath.Join(dir, "ca.crt"),
		"--snapshot-count=10000",
		"--trusted-ca-file=" + filepath.Join(dir, "ca.crt"),
		"--watch-progress-notify-interval=5s",
	}
}

// The command line of the static pod that kubeadm writes, of today and of 1.33 and before, starts and serves, and the pod's
// probes pass.
func TestKubeadm(t *testing.T) {
	t.Parallel()
	for _, corrupt := range []string{"--feature-gates=InitialCorruptCheck=true", "--experimental-initial-corrupt-check=true"} {
		dir := t.TempDir()
		ca := authority.New(t, "etcd-ca")
		authority.Bundle(t, filepath.Join(dir, "ca.crt"), ca)
		onNode := func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, net.ParseIP(nodeAddr)) }
		server, peer := ca.Local(dir, "server", onNode), ca.Local(dir, "peer", onNode)
		apiserver := ca.Local(dir, "apiserver-etcd-client", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil })
		port := func() string {
			_, p, err := net.SplitHostPort(process.FreeAddrs(t, 1)[0])
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		clientPort, peerPort, metricsPort := port(), port(), port()
		m := process.Single(t, keelson, "")
		m.Bare, m.ClientAddr = true, net.JoinHostPort(nodeAddr, clientPort)
		m.TLS = authority.Client(&apiserver, ca)
		m.Flags = append(staticPod(dir, m.Dir, server, peer, clientPort, peerPort, metricsPort), corrupt)
		m.Serve()
		for _, path := range []string{"/livez", "/readyz", "/health?exclude=NOSPACE&serializable=true", "/health?serializable=false"} {
			r, err := http.Get("http://127.0.0.1:" + metricsPort + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil || r.StatusCode != http.StatusOK {
				t.Errorf("%s: %d %s %v", path, r.StatusCode, body, err)
			}
		}
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://127.0.0.1:" + clientPort}, TLS: m.TLS, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), process.Patience)
		defer cancel()
		began := time.Now()
		w := c.Watch(ctx, "quiet", clientv3.WithProgressNotify())
		if _, err := c.Put(ctx, "/registry/x", "y"); err != nil {
			t.Fatal(err)
		}
		if r := <-w; !r.IsProgressNotify() {
			t.Errorf("the watch got %+v", r)
		} else if took := time.Since(began); took > 15*time.Second {
			t.Errorf("a quiet watch heard after %v", took)
		}
		if strings.Contains(m.Log(), `"level":"error"`) {
			t.Error("the log holds an error")
		}
		m.Stop()
	}
}
