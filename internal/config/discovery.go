package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Discovery says how members find each other before the cluster's first start. At most one of the ways is set.
type Discovery struct {
	// URL is a token of a discovery service of the v2 protocol, and Proxy an HTTP proxy to reach it through; nil for none.
	URL, Proxy *url.URL
	// Cluster keeps a token of the v3 protocol.
	Cluster DiscoveryCluster
	// Domain has SRV records of the members, and Service is behind the service's name in them, where it is not empty.
	Domain, Service string

	token, proxy string
}

// DiscoveryCluster is a cluster of etcd or Keelson that keeps tokens of the v3 protocol, and how it is reached.
type DiscoveryCluster struct {
	// Token is empty where this way is not taken.
	Token     string
	Endpoints []string
	// DialTimeout and RequestTimeout bound one connection and one request.
	DialTimeout, RequestTimeout     time.Duration
	KeepAliveTime, KeepAliveTimeout time.Duration
	DiscoveryTLS
	// User is empty for none. Bearer is a token of that cluster's in place of a password.
	User, Password, Bearer string
	// SendBytes and ReceiveBytes bound one message; 0 or less leaves the choice to the client.
	SendBytes, ReceiveBytes int
}

// DiscoveryTLS is how the connection to that cluster is made safe.
type DiscoveryTLS struct {
	// Plain talks in plain text to endpoints that do not begin with https://, unless a file is given.
	Plain                     bool
	SkipVerify                bool
	CertFile, KeyFile, CAFile string
	// ServerName, if not empty, is the name that certificates must carry.
	ServerName string
}

func discoveryRows() []Row {
	v3 := func(c *Config) *DiscoveryCluster { return &c.Cluster.Discovery.Cluster }
	rows := []Row{
		{Flag: "discovery", Default: "", Help: "The URL of a discovery token (v2 protocol): members that are given the same one find each other there. Only the first start looks at it.",
			kind: into(parseText, func(c *Config) *string { return &c.Cluster.Discovery.token })},
		{Flag: "discovery-token", Key: "discovery-config.token", Default: "", Help: "The token of the cluster to find (v3 protocol): members that are given the same one find each other by it. Only the first start looks at it.",
			kind: into(parseText, func(c *Config) *string { return &v3(c).Token })},
		{Flag: "discovery-endpoints", Key: "discovery-config.client.endpoints", Default: "", Help: "The endpoints of the cluster that keeps the token (v3 protocol), separated by commas.",
			kind: into(parseList, func(c *Config) *[]string { return &v3(c).Endpoints })},
		{Flag: "discovery-dial-timeout", Key: "discovery-config.client.dial-timeout", Default: "2s", Help: "How long a connection to that cluster may take.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &v3(c).DialTimeout })},
		{Flag: "discovery-request-timeout", Key: "discovery-config.client.request-timeout", Default: "5s", Help: "How long a request to that cluster may take.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &v3(c).RequestTimeout })},
		{Flag: "discovery-keepalive-time", Key: "discovery-config.client.keepalive-time", Default: "2s", Help: "How long a connection to that cluster may be idle before a ping.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &v3(c).KeepAliveTime })},
		{Flag: "discovery-keepalive-timeout", Key: "discovery-config.client.keepalive-timeout", Default: "6s", Help: "How long the answer to that ping may take.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &v3(c).KeepAliveTimeout })},
		{Flag: "discovery-insecure-transport", Key: "discovery-config.client.secure.insecure-transport", Default: "true", Help: "Talk to that cluster in plain text where an endpoint is not https:// and no certificate is named.",
			kind: into(parseBool, func(c *Config) *bool { return &v3(c).Plain })},
		{Flag: "discovery-insecure-skip-tls-verify", Key: "discovery-config.client.secure.insecure-skip-tls-verify", Default: "false", Help: "Do not check the certificates of that cluster; for tests.",
			kind: into(parseBool, func(c *Config) *bool { return &v3(c).SkipVerify })},
		{Flag: "discovery-cert", Key: "discovery-config.client.secure.cert", Default: "", Help: "The client certificate for that cluster.",
			kind: into(parseText, func(c *Config) *string { return &v3(c).CertFile })},
		{Flag: "discovery-key", Key: "discovery-config.client.secure.key", Default: "", Help: "The key of that certificate.",
			kind: into(parseText, func(c *Config) *string { return &v3(c).KeyFile })},
		{Flag: "discovery-cacert", Key: "discovery-config.client.secure.cacert", Default: "", Help: "The authorities that the certificates of that cluster are checked against.",
			kind: into(parseText, func(c *Config) *string { return &v3(c).CAFile })},
		{Flag: "discovery-user", Key: "discovery-config.client.auth.username", Default: "", Help: "The user for that cluster, NAME or NAME:PASSWORD.",
			kind: into(parseText, func(c *Config) *string { return &v3(c).User })},
		{Flag: "discovery-password", Key: "discovery-config.client.auth.password", Default: "", Help: "That user's password. Others on this machine see flags: ETCD_DISCOVERY_PASSWORD is better.",
			kind: into(parseText, func(c *Config) *string { return &v3(c).Password })},
		{Flag: "discovery-fallback", Default: "exit", Help: "What to do when discovery fails: exit. The proxy of old versions is gone.", kind: checked(oneOf("exit"))},
		{Flag: "discovery-proxy", Default: "", Help: "An HTTP proxy to reach the discovery service through (v2 protocol).",
			kind: into(parseText, func(c *Config) *string { return &c.Cluster.Discovery.proxy })},
		{Flag: "discovery-srv", Default: "", Help: "The DNS domain whose SRV records (_etcd-server-ssl._tcp and _etcd-server._tcp) lead to the members. Only the first start looks at it. Members found by TLS must have the domain in their certificates.",
			kind: into(parseText, func(c *Config) *string { return &c.Cluster.Discovery.Domain })},
		{Flag: "discovery-srv-name", Default: "", Help: "What is behind the service in those records, as in _etcd-server-NAME._tcp, where a domain has several clusters.",
			kind: into(parseText, func(c *Config) *string { return &c.Cluster.Discovery.Service })},
	}
	return inSection(rows, clustering)
}

// fileSettings are those that have a place in a YAML file alone, as in etcd: no flag and no variable. They default to nothing.
func fileSettings() map[string]kind {
	v3 := func(c *Config) *DiscoveryCluster { return &c.Cluster.Discovery.Cluster }
	const client = discoveryGroup + ".client."
	return map[string]kind{
		client + "max-request-bytes":  into(parseInt, func(c *Config) *int { return &v3(c).SendBytes }),
		client + "max-recv-bytes":     into(parseInt, func(c *Config) *int { return &v3(c).ReceiveBytes }),
		client + "secure.server-name": into(parseText, func(c *Config) *string { return &v3(c).ServerName }),
		client + "auth.token":         into(parseText, func(c *Config) *string { return &v3(c).Bearer }),
	}
}

// Discovers tells whether the founders are to be found by discovery.
func (d *Discovery) Discovers() bool { return d.ByToken() || d.Domain != "" }

// ByToken tells whether a token brings the founders together: one that is used up then.
func (d *Discovery) ByToken() bool { return d.URL != nil || d.Cluster.Token != "" }

// settleDiscovery reads what discovery is told, and makes its token the cluster's, as etcd does: by it the identities of
// members and cluster are unique.
func (c *Config) settleDiscovery() error {
	d := &c.Cluster.Discovery
	ways := 0
	for _, set := range []bool{c.Cluster.Initial != "", d.token != "", len(d.Cluster.Endpoints) > 0, d.Domain != ""} {
		if set {
			ways++
		}
	}
	switch {
	case ways > 1:
		return errConflict
	case d.Service != "" && d.Domain == "":
		return errors.New("--discovery-srv-name is set without --discovery-srv: name the domain too")
	}
	if err := d.Cluster.settle(); err != nil {
		return err
	}
	switch {
	case d.Cluster.Token != "":
		c.Cluster.Token = d.Cluster.Token
	case d.token != "":
		c.Cluster.Token = d.token
		return d.settleURL()
	}
	return nil
}

// settle checks what the v3 protocol is told, and takes a user apart.
func (d *DiscoveryCluster) settle() error {
	switch {
	case (d.Token != "") != (len(d.Endpoints) > 0):
		return errors.New("both --discovery-token and --discovery-endpoints must be set: set the other one too, or neither")
	case d.Token == "":
		return nil
	case slices.Contains(d.Endpoints, ""):
		return errors.New("--discovery-endpoints must not contain empty endpoints: remove the extra comma")
	case d.RequestTimeout == 0:
		return errors.New("--discovery-request-timeout is 0: no request could be answered in time")
	case (d.CertFile != "") != (d.KeyFile != ""):
		return errors.New("--discovery-cert and --discovery-key must both be given, or neither")
	case d.Bearer != "" && d.User+d.Password != "":
		return errors.New(discoveryGroup + ".client.auth has a token and a user: give one of them")
	case d.ReceiveBytes > 0 && d.SendBytes > d.ReceiveBytes:
		return fmt.Errorf("%s.client: max-request-bytes (%d) must not be above max-recv-bytes (%d)", discoveryGroup, d.SendBytes, d.ReceiveBytes)
	case d.User == "" || d.Password != "":
		return nil
	}
	var given bool
	if d.User, d.Password, given = strings.Cut(d.User, ":"); !given {
		return errors.New("--discovery-user has no password: set ETCD_DISCOVERY_PASSWORD; there is nobody to ask for it")
	}
	return nil
}

func (d *Discovery) settleURL() (err error) {
	if d.URL, err = discoveryURL(d.token); err != nil {
		return err
	}
	d.Proxy, err = proxyURL(d.proxy)
	return err
}

// errConflict is etcd's, with the mend.
var errConflict = errors.New(`multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery", "discovery-endpoints" or "discovery-srv", and remove the others`)

func discoveryURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, notURL("discovery", text, err)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", strings.Trim(u.Path, "/") == "":
		return nil, fmt.Errorf("--discovery is %q: give the whole URL of a token, such as https://HOST/TOKEN or http://HOST:2379/v2/keys/discovery/TOKEN", u.Redacted())
	}
	u.RawQuery, u.Fragment = "", ""
	return u, nil
}

func proxyURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	given := text
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, notURL("discovery-proxy", given, err)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, fmt.Errorf("--discovery-proxy is %q: give the URL of an HTTP proxy, such as http://HOST:3128", u.Redacted())
	}
	return u, nil
}

// notURL says what is wrong with a text that url.Parse refuses. Where there may be a password in it, the parser's own words,
// which hold a part of the text, are not for the log.
func notURL(flag, text string, err error) error {
	if strings.Contains(text, "@") {
		return fmt.Errorf("--%s is %q: write what is special in a user's name or password as in %%2F for /, %%40 for @, %%25 for %%", flag, Redacted(text))
	}
	if inner := (*url.Error)(nil); errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("--%s is %q: %w", flag, text, err)
}

// Redacted is a URL as the log may show it: without its password, and without the user where it cannot be read. It need not
// begin with a scheme.
func Redacted(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	prefix := scheme + "://"
	if !ok {
		prefix, rest = "", text
	}
	u, err := url.Parse("http://" + rest)
	switch {
	case err != nil:
		const hidden = "xxxxx"
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			rest = hidden + rest[at:]
		}
	case u.User != nil:
		rest = strings.TrimPrefix(u.Redacted(), "http://")
	}
	return prefix + rest
}
