package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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

	"keelson/internal/kit/logging"
	"keelson/internal/kit/tlsconf"
	testprocess "keelson/test/process"
)

// What is wrong with a command line is told with the flag's name, before anything is made.
func TestDiscoveryRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct{ args, want string }{
		{"--data-dir=a --endpoints=b:2379", "--data-dir and --endpoints: give one"},
		{"--max-tokens=0", "--max-tokens=0: give a number above zero"},
		{"--rate-limit=-1", "--rate-limit=-1"},
		{"--rate-limit=NaN", "--rate-limit=NaN"},
		{"--cert-file=x", "--cert-file and --key-file: give both"},
		{"--cert-file=none --key-file=none", "--cert-file and --key-file"},
		{"--prefix=/", "--prefix=/"},
		{"--prefix=", "--prefix="},
		{"--advertise-url=discovery.example", "--advertise-url=discovery.example: give http://HOST:PORT"},
		{"--advertise-url=http://x/?a=b", "--advertise-url"},
		{"--trusted-proxies=10.0.0.0/8,x", `--trusted-proxies: "x"`},
		{"--metrics-addr=127.0.0.1:1", "--metrics-addr=127.0.0.1:1: give http://HOST:PORT"},
		{"--metrics-addr=https://127.0.0.1:1", "https needs --cert-file"},
		{"--metrics-addr=http://nowhere:1 --listen-addr=127.0.0.1:0", "--metrics-addr=http://nowhere:1"},
		{"--log-level=loud", "--log-level=loud"},
		{"--log-format=xml", "--log-format=xml"},
		{"--log-outputs=/nowhere/x", "--log-outputs=/nowhere/x"},
		{"--user=root:x", "need --endpoints"},
		{"--endpoints=a --cert=x", "--cert and --key: give both"},
		{"--listen-addr=127.0.0.1:0 --endpoints=a --cacert=none", "--cacert"},
		{"--listen-addr=nowhere", "--listen-addr=nowhere"},
		{"x", "unknown command"},
	} {
		status, out, errs := invoke(t, nil, append([]string{"discovery", "start"}, strings.Fields(c.args)...)...)
		if status != exitFailed || out != "" || !strings.Contains(errs, c.want) || !strings.Contains(errs, "--help") {
			t.Errorf("%s: %d %q %q", c.args, status, out, errs)
		}
	}
	if left, err := os.ReadDir("."); len(left) > 0 || err != nil {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestDiscoveryHelp(t *testing.T) {
	status, out, errs := invoke(t, nil, "discovery")
	if status != exitOK || !strings.Contains(out, "start") || errs != "" {
		t.Errorf("%d %q %q", status, out, errs)
	}
	status, out, _ = invoke(t, nil, "discovery", "start", "--help")
	for _, text := range []string{"curl http://10.0.0.9:8087/new?size=3", "--listen-addr string", "--data-dir string", "--advertise-url string", "--cert-file string", "--endpoints strings", "ends after a week", "--log-level string", "/metrics "} {
		if status != exitOK || !strings.Contains(out, text) {
			t.Errorf("%d, no %q in %q", status, text, out)
		}
	}
}

func TestAdvertised(t *testing.T) {
	at := func(text string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, x := range []struct {
		address string
		secure  bool
		want    string
	}{
		{"127.0.0.1:8087", false, "http://127.0.0.1:8087"}, {"10.0.0.1:443", true, "https://10.0.0.1:443"}, {"[::1]:80", false, "http://[::1]:80"},
	} {
		if got := advertised(at(x.address), x.secure); got != x.want {
			t.Errorf("%+v: %s", x, got)
		}
	}
	if host := defaultHost(); host != "" {
		if got, want := advertised(at("0.0.0.0:8087"), false), "http://"+net.JoinHostPort(host, "8087"); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

// serving runs the service inside the test until end is called.
func serving(t *testing.T, f discoveryFlags) (end func()) {
	t.Helper()
	if f.prefix == "" {
		f.prefix, f.tokens, f.rate = "/_discovery/", 100, 1000
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runDiscovery(ctx, &f) }()
	return func() {
		t.Helper()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the service ended: %v", err)
			}
		case <-time.After(startTime):
			t.Fatal("the service does not stop")
		}
	}
}

// fetch asks until there is an answer.
func fetch(t *testing.T, c *http.Client, method, url, form string) string {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(startTime); ; <-tick.C {
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := c.Do(r)
		if err != nil && time.Now().Before(end) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode/100 != 2 {
			t.Fatalf("%s %s: %s %s %v", method, url, resp.Status, body, err)
		}
		return string(body)
	}
}

// Tokens are there again after a restart, and a request that waits does not hold up a stop.
func TestDiscoveryEmbedded(t *testing.T) {
	f := discoveryFlags{listen: testprocess.FreeAddrs(t, 1)[0], dir: filepath.Join(t.TempDir(), "tokens")}
	end := serving(t, f)
	url := fetch(t, http.DefaultClient, "GET", "http://"+f.listen+"/new?size=2", "")
	if !strings.HasPrefix(url, "http://"+f.listen+"/") {
		t.Fatal(url)
	}
	fetch(t, http.DefaultClient, "PUT", url+"/m0?prevExist=false", "value=m0=http://10.0.0.1:2380")
	waiting, err := http.Get(url + "?wait=true&recursive=true")
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Body.Close()
	end()
	if body, err := io.ReadAll(waiting.Body); len(body) > 0 || err != nil {
		t.Errorf("%q %v", body, err)
	}
	f.log = logging.Options{Level: "debug", Outputs: []string{filepath.Join(t.TempDir(), "log")}}
	end = serving(t, f)
	if body := fetch(t, http.DefaultClient, "GET", url, ""); !strings.Contains(body, "m0=http://10.0.0.1:2380") {
		t.Error(body)
	}
	wantSeries(t, fetch(t, http.DefaultClient, "GET", "http://"+f.listen+"/metrics", ""))
	end()
	if log, err := os.ReadFile(f.log.Outputs[0]); err != nil || !strings.Contains(string(log), `"msg":"answered a request","request":"read","code":200`) || strings.Contains(string(log), filepath.Base(url)) {
		t.Errorf("%s, %v", log, err)
	}
}

// wantSeries looks for the service's own metrics, and those of the process.
func wantSeries(t *testing.T, body string) {
	t.Helper()
	for _, name := range []string{"keelson_discovery_tokens_created_total", "go_goroutines", "process_start_time_seconds"} {
		if !strings.Contains(body, "\n"+name+" ") {
			t.Errorf("no %s in %s", name, body)
		}
	}
}

// The directory of a member of some cluster is left as it is.
func TestDiscoveryForeignDirectory(t *testing.T) {
	dir, p := t.TempDir(), testprocess.FreeAddrs(t, 2)
	args := []string{"--name=infra0", "--data-dir=" + dir, "--listen-client-urls=http://" + p[0], "--advertise-client-urls=http://" + p[0], "--listen-peer-urls=http://" + p[1], "--initial-advertise-peer-urls=http://" + p[1], "--initial-cluster=infra0=http://" + p[1]}
	m := launch(t, args...)
	fetch(t, http.DefaultClient, "GET", "http://"+p[0]+"/health", "")
	m.stop(t)
	f := discoveryFlags{listen: testprocess.FreeAddrs(t, 1)[0], dir: dir, prefix: "/_discovery/", tokens: 1, rate: 1}
	if err := runDiscovery(t.Context(), &f); !errors.Is(err, errForeignDir) || !strings.Contains(err.Error(), "infra0") || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	m = launch(t, args...)
	fetch(t, http.DefaultClient, "GET", "http://"+p[0]+"/health", "")
	m.stop(t)
}

func TestDiscoveryHTTPS(t *testing.T) {
	dir := t.TempDir()
	address := testprocess.FreeAddrs(t, 1)[0]
	cert, key, _, err := tlsconf.SelfSign(filepath.Join(dir, "certs"), []string{address}, 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer c.CloseIdleConnections()
	apart := "https://" + testprocess.FreeAddrs(t, 1)[0]
	end := serving(t, discoveryFlags{listen: address, metrics: apart, dir: filepath.Join(dir, "tokens"), cert: cert, key: key, advertise: "https://discovery.example/"})
	if url := fetch(t, c, "GET", "https://"+address+"/new", ""); len(url) != len("https://discovery.example/")+32 || !strings.HasPrefix(url, "https://discovery.example/") {
		t.Error(url)
	}
	wantSeries(t, fetch(t, c, "GET", apart+"/metrics", ""))
	if resp, err := c.Get("https://" + address + "/metrics"); err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("strangers see metrics: %v, %v", resp, err)
	}
	end()
}

// Two services keep their tokens in one cluster: what one makes the other serves.
func TestDiscoveryInACluster(t *testing.T) {
	p := testprocess.FreeAddrs(t, 4)
	m := launch(t, "--data-dir="+t.TempDir(), "--listen-client-urls=http://"+p[0], "--advertise-client-urls=http://"+p[0], "--listen-peer-urls=http://"+p[1], "--initial-advertise-peer-urls=http://"+p[1])
	f := discoveryFlags{cluster: discoveryCluster{endpoints: []string{p[0]}}, advertise: "http://" + p[2]}
	var ends []func()
	for _, address := range p[2:] {
		f.listen = address
		ends = append(ends, serving(t, f))
		fetch(t, http.DefaultClient, "GET", "http://"+address+"/robots.txt", "")
	}
	// The service is there before its cluster, and answers once that is.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(startTime); ; <-tick.C {
		resp, err := http.Get("http://" + p[3] + "/health")
		if err == nil {
			resp.Body.Close()
		}
		if err == nil && resp.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the service does not become healthy")
		}
	}
	url := fetch(t, http.DefaultClient, "GET", "http://"+p[2]+"/new?size=1", "")
	there := strings.Replace(url, p[2], p[3], 1)
	heard := make(chan string, 1)
	go func() {
		heard <- fetch(t, http.DefaultClient, "GET", there+"?wait=true&recursive=true&waitIndex=1", "")
	}()
	fetch(t, http.DefaultClient, "PUT", url+"/m0?prevExist=false", "value=m0")
	if body := <-heard; !strings.Contains(body, fmt.Sprintf("%s/m0", strings.TrimPrefix(url, "http://"+p[2]))) {
		t.Error(body)
	}
	for _, end := range ends {
		end()
	}
	m.stop(t)
}
