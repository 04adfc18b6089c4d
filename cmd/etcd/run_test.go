package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/config"
	testprocess "keelson/test/process"
)

// startTime is far above what a start takes, also under the race detector.
const startTime = time.Minute

// process is one run of the program inside the test.
type process struct {
	signals chan os.Signal
	ended   chan error
}

func launch(t *testing.T, args ...string) *process {
	t.Helper()
	cfg, _, err := config.Parse(args, nil, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{signals: make(chan os.Signal, 2), ended: make(chan error, 1)}
	go func() { p.ended <- run(cfg, zap.NewNop(), p.signals) }()
	return p
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signals <- os.Interrupt
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("stop: %v", err)
		}
	case <-time.After(startTime):
		t.Fatal("the member does not stop")
	}
}

func get(t *testing.T, address, path string) string {
	t.Helper()
	r, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// One member serves gRPC and HTTP on every port it was given, keeps what it was told over a stop, and starts again.
func TestOneMember(t *testing.T) {
	dir := t.TempDir()
	p := testprocess.FreeAddrs(t, 4)
	args := []string{
		"--name=solo", "--data-dir=" + filepath.Join(dir, "data"),
		"--listen-client-urls=http://" + p[0] + ",unix://" + filepath.Join(dir, "s"), "--advertise-client-urls=http://" + p[0],
		"--listen-peer-urls=http://" + p[1], "--initial-advertise-peer-urls=http://" + p[1], "--listen-metrics-urls=http://" + p[2],
	}
	for round := range 2 {
		m := launch(t, args...)
		for _, endpoint := range []string{p[0], "unix://" + filepath.Join(dir, "s")} {
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), startTime)
			value := fmt.Sprint("value ", round)
			if round == 0 {
				_, err = c.Put(ctx, "key", "value 1")
			} else if r, e := c.Get(ctx, "key"); e != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != value {
				err = fmt.Errorf("get: %v %w", r, e)
			}
			if err != nil {
				t.Fatalf("round %d at %s: %v", round, endpoint, err)
			}
			cancel()
			c.Close()
		}
		if body := get(t, p[0], "/health"); body != `{"health":"true","reason":""}` {
			t.Errorf("health: %s", body)
		}
		if body := get(t, p[2], "/metrics"); !strings.Contains(body, "\netcd_server_has_leader 1\n") || !strings.Contains(body, "etcd_disk_wal_fsync_duration_seconds_count") {
			t.Error("metrics are missing")
		}
		awaitVersion(t, p[1])
		m.stop(t)
	}
}

// awaitVersion waits until a peer port tells its cluster's version: members serve before it is decided.
func awaitVersion(t *testing.T, address string) {
	t.Helper()
	testprocess.Until(t, "the cluster's version is decided", func() error {
		body := get(t, address, "/version")
		if strings.HasPrefix(body, `{"etcdserver":"3.7.3","etcdcluster":"not_decided"`) {
			return errors.New("it is not")
		}
		if !strings.HasPrefix(body, `{"etcdserver":"3.7.3","etcdcluster":"3.`) {
			t.Errorf("the peer port's version: %s", body)
		}
		return nil
	})
}

// With --listen-client-http-urls the client port takes gRPC alone.
func TestHTTPApart(t *testing.T) {
	p := testprocess.FreeAddrs(t, 3)
	m := launch(t, "--data-dir="+t.TempDir(), "--listen-client-urls=http://"+p[0], "--advertise-client-urls=http://"+p[0],
		"--listen-client-http-urls=http://"+p[1], "--listen-peer-urls=http://"+p[2], "--initial-advertise-peer-urls=http://"+p[2])
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{p[0]}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	if _, err := c.Put(ctx, "a", "b"); err != nil {
		t.Fatal(err)
	}
	if body := get(t, p[1], "/health"); !strings.Contains(body, "true") {
		t.Errorf("health: %s", body)
	}
	if r, err := http.Get("http://" + p[0] + "/health"); err == nil {
		r.Body.Close()
		t.Errorf("the gRPC port answers HTTP: %d", r.StatusCode)
	}
	m.stop(t)
}

// A port in use ends the start before anything is created.
func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := filepath.Join(t.TempDir(), "data")
	url := "http://" + l.Addr().String()
	m := launch(t, "--data-dir="+dir, "--listen-client-urls="+url, "--advertise-client-urls="+url, "--listen-peer-urls=http://"+testprocess.FreeAddrs(t, 1)[0])
	if err := <-m.ended; err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the data directory was made")
	}
}
