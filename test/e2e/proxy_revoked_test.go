package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keelson/test/authority"
	"keelson/test/process"
)

// A proxy refuses what its own list of revoked certificates names, for gRPC and HTTP, from the moment that the list says so, and a
// list that can't be read ends its start.
func TestProxyRevoked(t *testing.T) {
	t.Parallel()
	plainOnly(t, "the members have no part in it")
	m := process.Single(t, keelson, "").Serve()
	c := &mutual{dir: t.TempDir(), ca: authority.New(t, "clients")}
	c.member, c.client = c.ca.Local(c.dir, "proxy"), c.ca.Local(c.dir, "good")
	bad := c.ca.Local(c.dir, "bad")
	authority.Bundle(t, c.at("ca"), c.ca)
	flags := []string{
		"--cert-file=" + c.member.CertFile, "--key-file=" + c.member.KeyFile, "--trusted-ca-file=" + c.at("ca"), "--client-crl-file=" + c.at("crl"),
	}
	refused := process.Single(t, keelson, "")
	refused.Bare, refused.Flags = true, append([]string{"grpc-proxy", "start", "--listen-addr=" + refused.ClientAddr}, flags...)
	if out := refused.Refused(); !strings.Contains(out, "--client-crl-file") || !strings.Contains(out, c.at("crl")) {
		t.Errorf("without its list the proxy ends with %s", out)
	}
	c.ca.Revoke(c.at("crl"))
	p := process.Proxy(t, []*process.Member{m}, flags...)
	p.TLS = authority.Client(&c.client, c.ca)
	p.WaitHealthy()
	if err := letIn(t, p, authority.Client(&bad, c.ca)); err != nil {
		t.Fatalf("a certificate that is not revoked yet: %v", err)
	}
	c.ca.Revoke(c.at("crl"), bad)
	if err := keptOut(t, p, authority.Client(&bad, c.ca)); err == nil {
		t.Error("a revoked certificate is served")
	}
	h := http.Client{Transport: &http.Transport{TLSClientConfig: authority.Client(&bad, c.ca), DisableKeepAlives: true}, Timeout: process.Patience}
	if r, err := h.Get(p.ClientURL() + "/health"); err == nil {
		r.Body.Close()
		t.Errorf("a revoked certificate is served by HTTP: %s", r.Status)
	}
	if err := letIn(t, p, p.TLS); err != nil {
		t.Errorf("the other one is not served any more: %v", err)
	}
	process.AwaitLog(p, fmt.Sprintf("certificate serial %x revoked", bad.Leaf.SerialNumber.Bytes()))
}
