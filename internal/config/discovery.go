package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Discovery says how members find each other before the cluster's first start. At most one of the ways is set.
type Discovery struct {
	// URL is a token of a discovery service of the v2 protocol, and Proxy an HTTP proxy to reach it through; nil for none.
	URL, Proxy *url.URL

	token, proxy string
}

const laterDiscovery = "this way of discovery"

func discoveryRows() []Row {
	rows := []Row{
		{Flag: "discovery", Default: "", Help: "The URL of a discovery token (v2 protocol): members that are given the same one find each other there. Only the first start looks at it.",
			kind: into(parseText, func(c *Config) *string { return &c.Cluster.Discovery.token })},
		{Flag: "discovery-token", Default: "", Help: "The token of the cluster to find (v3 protocol).", Later: laterDiscovery, kind: checked(parseText)},
		{Flag: "discovery-endpoints", Default: "", Help: "The endpoints of the cluster that serves discovery (v3 protocol).", Later: laterDiscovery, kind: checked(parseList)},
		{Flag: "discovery-dial-timeout", Default: "2s", Help: "How long a connection to the discovery cluster may take.", Later: laterDiscovery, kind: checked(parseDuration)},
		{Flag: "discovery-request-timeout", Default: "5s", Help: "How long a request to the discovery cluster may take.", Later: laterDiscovery, kind: checked(parseDuration)},
		{Flag: "discovery-keepalive-time", Default: "2s", Help: "How long a connection to the discovery cluster may be idle before a ping.", Later: laterDiscovery, kind: checked(parseDuration)},
		{Flag: "discovery-keepalive-timeout", Default: "6s", Help: "How long the answer to that ping may take.", Later: laterDiscovery, kind: checked(parseDuration)},
		{Flag: "discovery-insecure-transport", Default: "true", Help: "Talk to the discovery cluster in plain text.", Later: laterDiscovery, kind: checked(parseBool)},
		{Flag: "discovery-insecure-skip-tls-verify", Default: "false", Help: "Do not check the certificate of the discovery cluster; for tests.", Later: laterDiscovery, kind: checked(parseBool)},
		{Flag: "discovery-cert", Default: "", Help: "The client certificate for the discovery cluster.", Later: laterDiscovery, kind: checked(parseText)},
		{Flag: "discovery-key", Default: "", Help: "The key of that certificate.", Later: laterDiscovery, kind: checked(parseText)},
		{Flag: "discovery-cacert", Default: "", Help: "The authorities that the certificate of the discovery cluster is checked against.", Later: laterDiscovery, kind: checked(parseText)},
		{Flag: "discovery-user", Default: "", Help: "The user for the discovery cluster, NAME or NAME:PASSWORD.", Later: laterDiscovery, kind: checked(parseText)},
		{Flag: "discovery-password", Default: "", Help: "That user's password.", Later: laterDiscovery, kind: checked(parseText)},
		{Flag: "discovery-fallback", Default: "exit", Help: "What to do when discovery fails: exit. The proxy of old versions is gone.", kind: checked(oneOf("exit"))},
		{Flag: "discovery-proxy", Default: "", Help: "An HTTP proxy to reach the discovery service through (v2 protocol).",
			kind: into(parseText, func(c *Config) *string { return &c.Cluster.Discovery.proxy })},
		{Flag: "discovery-srv", Default: "", Help: "The DNS domain whose SRV records name the members.", Later: laterDiscovery, kind: checked(parseText)},
		{Flag: "discovery-srv-name", Default: "", Help: "A suffix to the service name of those records.", Later: laterDiscovery, kind: checked(parseText)},
	}
	return inSection(rows, clustering)
}

// Discovers tells whether the founders are to be found by discovery.
func (c *Config) Discovers() bool { return c.Cluster.Discovery.URL != nil }

// settleDiscovery reads what discovery is told, and makes its token the cluster's, as etcd does: by it the identities of
// members and cluster are unique.
func (c *Config) settleDiscovery() error {
	d := &c.Cluster.Discovery
	if d.token == "" {
		return nil
	}
	if c.Cluster.Initial != "" {
		return errConflict
	}
	var err error
	if d.URL, err = discoveryURL(d.token); err != nil {
		return err
	}
	if d.Proxy, err = proxyURL(d.proxy); err != nil {
		return err
	}
	c.Cluster.Token = d.token
	return nil
}

// errConflict is etcd's, with the mend.
var errConflict = errors.New(`multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery", "discovery-endpoints" or "discovery-srv", and remove the others`)

func discoveryURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--discovery: %w", err)
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
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--discovery-proxy: %w", err)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, fmt.Errorf("--discovery-proxy is %q: give the URL of an HTTP proxy, such as http://HOST:3128", u.Redacted())
	}
	return u, nil
}
