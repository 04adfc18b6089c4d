package main

import (
	"context"
	"net"
	"strings"
	"testing"

	testprocess "keelson/test/process"
)

func TestGatewayAddress(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1": "127.0.0.1:2379", "infra0:12379": "infra0:12379", "http://infra0:2379": "infra0:2379", "http://infra0/": "infra0:2379", " infra0 ": "infra0:2379",
		"::1": "[::1]:2379", "[::1]": "[::1]:2379", "[::1]:5": "[::1]:5",
	} {
		if got, err := gatewayAddress(text); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"https://infra0:2379": "does not terminate TLS", "a:b:c": "IPv6 address in brackets", "": "write HOST", ":2379": "write HOST", "infra0:": "write HOST", "http://infra0/x": "write HOST", "unix://x": "write HOST",
	} {
		if got, err := gatewayAddress(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--endpoints") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// What is wrong with a command line is told with the flag's name, before anything listens.
func TestGatewayRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"gateway start --retry-delay=123", `etcd gateway start: invalid argument "123" for "--retry-delay" flag: time: missing unit in duration "123"`},
		{"gateway start --retry-delay=0s", "--retry-delay=0s: give a time above zero"},
		{"gateway start --endpoints=a,https://b:2379", `"https://b:2379": the gateway does not terminate TLS`},
		{"gateway start x", "unknown command"},
		{"gateway stop", "start"},
		{"gateway start --discovery-srv=example.com --trusted-ca-file=none", "--trusted-ca-file"},
		{"gateway start --listen-addr=nowhere", "--listen-addr=nowhere"},
	} {
		status, out, errs := invoke(t, nil, strings.Fields(c.args)...)
		if status != exitFailed || out != "" || !strings.Contains(errs, c.want) || !strings.Contains(errs, "--help") {
			t.Errorf("%s: %d %q %q", c.args, status, out, errs)
		}
	}
}

func TestGatewayHelp(t *testing.T) {
	status, out, errs := invoke(t, nil, "gateway")
	if status != exitOK || !strings.Contains(out, "start") || errs != "" {
		t.Errorf("%d %q %q", status, out, errs)
	}
	status, out, _ = invoke(t, nil, "gateway", "start", "--help")
	for _, flag := range []string{"discovery-srv string", "discovery-srv-name string", "endpoints strings", "insecure-discovery", `listen-addr string`, "retry-delay duration", "trusted-ca-file string"} {
		if status != exitOK || !strings.Contains(out, "--"+flag) {
			t.Errorf("%d, no --%s in %q", status, flag, out)
		}
	}
}

// A domain that has no records is an error that names what was looked up.
func TestGatewayDomain(t *testing.T) {
	f := gatewayFlags{domain: "nowhere.invalid", retryDelay: 1, insecure: true}
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := f.options(ctx); err == nil || !strings.Contains(err.Error(), "_etcd-client-ssl._tcp.nowhere.invalid") {
		t.Error(err)
	}
}

// A gateway, or a proxy, before itself would call itself for ever.
func TestBeforeItself(t *testing.T) {
	port := strings.TrimPrefix(testprocess.FreeAddrs(t, 1)[0], "127.0.0.1:")
	for command, who := range map[string]string{"gateway": "gateway", "grpc-proxy": "proxy"} {
		for listen, endpoint := range map[string]string{
			"127.0.0.1:" + port: "127.0.0.1:" + port,
			"localhost:" + port: "http://localhost:" + port,
			":" + port:          "127.0.0.1:" + port, // all addresses of this machine
		} {
			status, out, errs := invoke(t, nil, command, "start", "--listen-addr="+listen, "--endpoints=127.0.0.1:1,"+endpoint)
			if status != exitFailed || out != "" || !strings.Contains(errs, "is the "+who+"'s own address") {
				t.Errorf("%s at %s: %d %q %q", command, listen, status, out, errs)
			}
		}
	}
	here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 23790}
	for address, own := range map[string]bool{"127.0.0.1:23790": true, "localhost:23790": true, "127.0.0.2:23790": false, "127.0.0.1:2379": false, "nowhere.invalid:23790": false} {
		if err := apart(t.Context(), "gateway", here, []string{"127.0.0.1:2379", address}); (err != nil) != own {
			t.Errorf("%s: %v", address, err)
		}
	}
}
