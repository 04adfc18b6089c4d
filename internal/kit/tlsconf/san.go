package tlsconf

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Resolver looks up names and addresses; a *net.Resolver is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
	LookupAddr(ctx context.Context, address string) ([]string, error)
}

func systemResolver() Resolver { return net.DefaultResolver }

// checkSAN wants the remote address to be one of the certificate's, as an IP, or else by its DNS names. A certificate without
// either says nothing about addresses, nor does a unix socket.
func (o Options) checkSAN(ctx context.Context, c *x509.Certificate, remote net.Addr) error {
	if _, ok := remote.(*net.TCPAddr); !ok || len(c.IPAddresses) == 0 && len(c.DNSNames) == 0 {
		return nil
	}
	host, _, err := net.SplitHostPort(remote.String())
	if err != nil {
		return err
	}
	host, _, _ = strings.Cut(host, "%") // the zone is this machine's own name for it
	if len(c.IPAddresses) > 0 {
		err := c.VerifyHostname(host)
		if err == nil || len(c.DNSNames) == 0 {
			return err
		}
	}
	ok, err := resolvesTo(ctx, o.Resolver, host, c.DNSNames)
	switch {
	case ok:
		return nil
	case err != nil:
		return fmt.Errorf("tls: %q does not match any of DNSNames %q (%w)", host, c.DNSNames, err)
	}
	return fmt.Errorf("tls: %q does not match any of DNSNames %q", host, c.DNSNames)
}

// resolvesTo tells whether one of the names stands for the host: a whole name by its addresses or the host's own names, one
// with *. before it by the host's names alone. The error is the last one that a look-up met.
func resolvesTo(ctx context.Context, r Resolver, host string, dnsNames []string) (bool, error) {
	var last error
	for _, name := range dnsNames {
		if strings.HasPrefix(name, "*.") {
			continue
		}
		addrs, err := r.LookupHost(ctx, name)
		if err != nil {
			last = err
		}
		if slices.ContainsFunc(addrs, func(a string) bool { return sameIP(a, host) }) {
			return true, nil
		}
	}
	hosts, err := r.LookupAddr(ctx, host)
	if err != nil && last == nil {
		last = err
	}
	for _, h := range hosts {
		h = strings.TrimSuffix(h, ".")
		for _, name := range dnsNames {
			end, wild := strings.CutPrefix(name, "*")
			if name == h || wild && strings.HasPrefix(end, ".") && strings.HasSuffix(h, end) {
				return true, nil
			}
		}
	}
	return false, last
}

func sameIP(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	return errX == nil && errY == nil && x.Unmap().WithZone("") == y.Unmap().WithZone("")
}
