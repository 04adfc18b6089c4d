package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"keelson/internal/kit/tlsconf"
)

// Security holds the certificates of both kinds of ports, and what they have in common.
type Security struct {
	Client, Peer TLS
	// Limits are for all connections.
	Limits tlsconf.Limits
	// SelfSignedYears is how long a certificate made at the start is good.
	SelfSignedYears uint
	// Origins are those that browsers may call from, Hosts the names that a request in plain text may call this server by;
	// "*" stands for all.
	Origins, Hosts []string
}

// TLS is what one kind of ports is told. It counts for https and unixs URLs alone.
type TLS struct {
	CertFile, KeyFile string
	// ClientCertFile and ClientKeyFile are for calls to others, which see CertFile without them.
	ClientCertFile, ClientKeyFile string
	CAFile, CRLFile               string
	// CertAuth asks everybody for a certificate; among clients, its common name is then a user.
	CertAuth bool
	// Auto makes a certificate at the start where none is given.
	Auto bool
	// AllowedCNs or AllowedHostnames, if any, hold a name that others' certificates must carry.
	AllowedCNs, AllowedHostnames []string
	// SkipSAN lets other members come from any address.
	SkipSAN bool
}

// WithTLS tells whether one of the URLs is one with TLS.
func WithTLS(urls types.URLs) bool {
	return slices.ContainsFunc(urls.StringSlice(), func(u string) bool { return strings.HasPrefix(u, "https:") || strings.HasPrefix(u, "unixs:") })
}

func tlsRows() []Row {
	text := func(field func(*TLS) *string) kind {
		return into(parseText, func(c *Config) *string { return field(&c.Security.Client) })
	}
	rows := []Row{
		{Flag: "cert-file", Key: "client-transport-security.cert-file", Help: "The server's certificate for clients, in PEM form, with what leads to its authority behind it. Read again when it changes, as all files of certificates, keys and authorities are.",
			kind: text(func(t *TLS) *string { return &t.CertFile })},
		{Flag: "key-file", Key: "client-transport-security.key-file", Help: "The key of that certificate.",
			kind: text(func(t *TLS) *string { return &t.KeyFile })},
		{Flag: "client-cert-auth", Key: "client-transport-security.client-cert-auth", Default: "false", Help: "Ask every client for a certificate. With authentication on, its common name is the user.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Security.Client.CertAuth })},
		{Flag: "client-cert-file", Key: "client-transport-security.client-cert-file", Help: "A certificate for the server's own calls to its client port. This server makes none, so it is read and checked and has no effect; etcd shows --cert-file where it is missing.",
			kind: text(func(t *TLS) *string { return &t.ClientCertFile })},
		{Flag: "client-key-file", Key: "client-transport-security.client-key-file", Help: "The key of that certificate.",
			kind: text(func(t *TLS) *string { return &t.ClientKeyFile })},
		{Flag: "client-crl-file", Help: "A list (DER, or several in PEM) of the certificates of clients that are no longer good. Checked at each handshake, on every client port.",
			kind: text(func(t *TLS) *string { return &t.CRLFile })},
		{Flag: "client-cert-allowed-hostname", Key: "client-transport-security.allowed-hostname", Help: "Host names, one of which a client's certificate must carry.",
			kind: into(parseList, func(c *Config) *[]string { return &c.Security.Client.AllowedHostnames })},
		{Flag: "trusted-ca-file", Key: "client-transport-security.trusted-ca-file", Help: "The authorities that clients' certificates are checked against. Giving it asks every client for a certificate.",
			kind: text(func(t *TLS) *string { return &t.CAFile })},
		{Flag: "auto-tls", Key: "client-transport-security.auto-tls", Default: "false", Help: "Without --cert-file, make a certificate for clients at the start and keep it. It encrypts; it proves nobody's identity.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Security.Client.Auto })},
		{Flag: "self-signed-cert-validity", Default: "1", Help: "How many years a certificate made at the start is good; the first start after that makes a new one.",
			kind: into(parseSize, func(c *Config) *uint { return &c.Security.SelfSignedYears })},
		{Flag: "cipher-suites", Help: "The cipher suites of TLS 1.2 to offer; empty leaves the choice to Go. TLS 1.3 has no choice.",
			kind: into(parseSuites, func(c *Config) *[]uint16 { return &c.Security.Limits.CipherSuites })},
		{Flag: "cors", Default: "*", Help: "Origins that browsers may call from; * for all.",
			kind: into(parseOrigins, func(c *Config) *[]string { return &c.Security.Origins })},
		{Flag: "host-whitelist", Default: "*", Help: "Host names that plain HTTP requests may carry; * for all.",
			kind: into(parseOrigins, func(c *Config) *[]string { return &c.Security.Hosts })},
		{Flag: "tls-min-version", Default: "TLS1.2", Help: "The lowest TLS version: TLS1.2 or TLS1.3.",
			kind: into(tlsconf.Version, func(c *Config) *uint16 { return &c.Security.Limits.MinVersion })},
		{Flag: "tls-max-version", Help: "The highest TLS version: TLS1.2, TLS1.3, or empty for Go's choice.",
			kind: into(tlsconf.Version, func(c *Config) *uint16 { return &c.Security.Limits.MaxVersion })},
	}
	return inSection(rows, security)
}

func peerTLSRows() []Row {
	text := func(field func(*TLS) *string) kind {
		return into(parseText, func(c *Config) *string { return field(&c.Security.Peer) })
	}
	rows := []Row{
		{Flag: "peer-cert-file", Key: "peer-transport-security.cert-file", Help: "The certificate for other members, shown to those who call and to those who are called.",
			kind: text(func(t *TLS) *string { return &t.CertFile })},
		{Flag: "peer-key-file", Key: "peer-transport-security.key-file", Help: "The key of that certificate.",
			kind: text(func(t *TLS) *string { return &t.KeyFile })},
		{Flag: "peer-client-cert-auth", Key: "peer-transport-security.client-cert-auth", Default: "false", Help: "Ask every other member for a certificate.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Security.Peer.CertAuth })},
		{Flag: "peer-client-cert-file", Key: "peer-transport-security.client-cert-file", Help: "A certificate for calls to other members; without it, --peer-cert-file.",
			kind: text(func(t *TLS) *string { return &t.ClientCertFile })},
		{Flag: "peer-client-key-file", Key: "peer-transport-security.client-key-file", Help: "The key of that certificate.",
			kind: text(func(t *TLS) *string { return &t.ClientKeyFile })},
		{Flag: "peer-trusted-ca-file", Key: "peer-transport-security.trusted-ca-file", Help: "The authorities that members' certificates are checked against. Giving it asks every other member for a certificate.",
			kind: text(func(t *TLS) *string { return &t.CAFile })},
		{Flag: "peer-cert-allowed-cn", Key: "peer-transport-security.allowed-cn", Help: "Common names, one of which a member's certificate must carry.",
			kind: into(parseList, func(c *Config) *[]string { return &c.Security.Peer.AllowedCNs })},
		{Flag: "peer-cert-allowed-hostname", Key: "peer-transport-security.allowed-hostname", Help: "Host names, one of which a member's certificate must carry.",
			kind: into(parseList, func(c *Config) *[]string { return &c.Security.Peer.AllowedHostnames })},
		{Flag: "peer-auto-tls", Key: "peer-transport-security.auto-tls", Default: "false", Help: "Without --peer-cert-file, make a certificate for other members at the start and keep it. It encrypts; it proves nobody's identity.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Security.Peer.Auto })},
		{Flag: "peer-crl-file", Help: "A list (DER, or several in PEM) of the certificates of members that are no longer good. Checked at each handshake, also of calls to others.",
			kind: text(func(t *TLS) *string { return &t.CRLFile })},
		{Flag: "peer-skip-client-san-verification", Key: "peer-transport-security.skip-client-san-verification", Default: "false", Help: "Let a member call from an address that its certificate does not name.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Security.Peer.SkipSAN })},
	}
	return inSection(rows, security)
}

// parseSuites reads names of cipher suites separated by commas.
func parseSuites(s string) ([]uint16, error) {
	names, err := parseList(s)
	if err != nil {
		return nil, err
	}
	var suites []uint16
	for _, name := range names {
		id, err := tlsconf.CipherSuite(name)
		if err != nil {
			return nil, err
		}
		suites = append(suites, id)
	}
	return suites, nil
}

// checkMemberURLs refuses what members can't call each other by: nothing names a host that a certificate could be checked for.
func checkMemberURLs(flag string, urls types.URLs) error {
	for _, u := range urls {
		if u.Scheme == "unixs" {
			return fmt.Errorf("%s has %s: members call each other at https://, http:// or unix://", flag, u.String())
		}
	}
	return nil
}

// checkTLS looks at certificates and URLs together. Files are read later, at the start.
func (c *Config) checkTLS() error {
	s := &c.Security
	switch l := s.Limits; {
	case l.MaxVersion != 0 && l.MinVersion > l.MaxVersion:
		return fmt.Errorf("min version (%s) is greater than max version (%s): set --tls-min-version lower or --tls-max-version higher", versionName(l.MinVersion), versionName(l.MaxVersion))
	case l.MinVersion == tls.VersionTLS13 && len(l.CipherSuites) > 0:
		return errors.New("cipher suites cannot be configured when only TLS1.3 is enabled: remove --cipher-suites, or set --tls-min-version=TLS1.2")
	case len(l.CipherSuites) > 0 && !slices.Contains(l.CipherSuites, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) && !slices.Contains(l.CipherSuites, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256):
		return errors.New("--cipher-suites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher: add TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
	case s.SelfSignedYears == 0 && (s.Client.Auto || s.Peer.Auto):
		return errors.New("--self-signed-cert-validity is invalid, it should be greater than 0: a certificate must be good for a year at least")
	}
	clients := slices.Concat(c.Listen.Client, c.Listen.ClientHTTP, c.Listen.Metrics)
	if err := s.Client.check("", "client", clients); err != nil {
		return err
	}
	return s.Peer.check("peer-", "peer", c.Listen.Peer)
}

func versionName(v uint16) string { return strings.ReplaceAll(tls.VersionName(v), " ", "") }

// check wants what a kind of ports needs. prefix is that of its flags.
func (t TLS) check(prefix, name string, urls types.URLs) error {
	for _, pair := range [][3]string{{"", t.CertFile, t.KeyFile}, {"client-", t.ClientCertFile, t.ClientKeyFile}} {
		if (pair[1] == "") != (pair[2] == "") {
			flag := "--" + prefix + pair[0]
			return fmt.Errorf("%scert-file and %skey-file must both be present or both absent: key: %q, cert: %q", flag, flag, pair[2], pair[1])
		}
	}
	hosts := "--" + prefix + "cert-allowed-hostname"
	if prefix == "" {
		hosts = "--client-cert-allowed-hostname"
	}
	switch {
	case len(t.AllowedCNs) > 0 && len(t.AllowedHostnames) > 0:
		return fmt.Errorf("--%scert-allowed-cn and %s are mutually exclusive (cns=%q, hostnames=%q): set one of them", prefix, hosts, t.AllowedCNs, t.AllowedHostnames)
	case t.Auto && t.CertFile == "" && len(t.AllowedCNs)+len(t.AllowedHostnames) > 0:
		return fmt.Errorf("--%sauto-tls makes certificates that nobody vouches for, and names in such prove nothing: give --%scert-file, or remove the allowed names", prefix, prefix)
	case t.CertFile != "" || t.Auto:
		return nil
	}
	for _, u := range urls {
		if WithTLS(types.URLs{u}) {
			return fmt.Errorf("TLS key/cert (--%scert-file, --%skey-file) must be provided for %s url %s with HTTPS scheme: give them, or --%sauto-tls, or use %s://", prefix, prefix, name, u.String(), prefix, strings.TrimSuffix(u.Scheme, "s"))
		}
	}
	return nil
}
