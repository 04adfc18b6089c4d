package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// invoke runs a command line that ends by itself, in an empty directory that must stay empty.
func invoke(t *testing.T, environ []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	t.Chdir(t.TempDir())
	var out, errs bytes.Buffer
	status = command(append([]string{"etcd"}, args...), environ, &out, &errs)
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("%v made %v (%v)", args, made, err)
	}
	return status, out.String(), errs.String()
}

func TestVersion(t *testing.T) {
	status, out, _ := invoke(t, nil, "--version")
	lines := strings.Split(out, "\n")
	want := []string{"etcd Version: 3.7.3", "Git SHA: ", "Go Version: go", "Go OS/Arch: ", "Keelson 0.1.0", ""}
	if status != exitOK || len(lines) != len(want) {
		t.Fatalf("%d %q", status, out)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("line %d: %q, not %q…", i, lines[i], want[i])
		}
	}
}

func TestHelp(t *testing.T) {
	if status, out, _ := invoke(t, nil, "-h"); status != exitOK || !strings.Contains(out, "--listen-client-urls 'http://localhost:2379'") {
		t.Errorf("%d %q", status, out)
	}
}

// The statuses are those of etcd 3.7.3: 2 for what cannot be read, 1 for what is refused.
func TestStatuses(t *testing.T) {
	for line, want := range map[string]int{
		"--nope":                            exitUsage,
		"--heartbeat-interval=x":            exitUsage,
		"--data-dir":                        exitUsage,
		"--listen-client-urls=http://a:1/x": exitUsage,
		"gateway start --retry-delay=x":     exitFailed,
		"grpc-proxy start --resolver-ttl=5": exitFailed,
		"discovery start --max-tokens=0":    exitFailed,
		"--heartbeat-interval=0":            exitFailed,
		"--listen-client-urls=http://example.com:2379 --advertise-client-urls=http://example.com:2379": exitFailed,
		"--config-file=absent.yml":                 exitFailed,
		"--auto-tls --self-signed-cert-validity=0": exitFailed,
		"--log-outputs=/no/such/directory/x":       exitFailed,
	} {
		if status, _, errs := invoke(t, nil, strings.Fields(line)...); status != want {
			t.Errorf("%s: status %d, not %d: %s", line, status, want, errs)
		}
	}
	if status, _, _ := invoke(t, []string{"ETCD_HEARTBEAT_INTERVAL=x"}); status != exitFailed {
		t.Errorf("a bad variable: status %d", status)
	}
}
