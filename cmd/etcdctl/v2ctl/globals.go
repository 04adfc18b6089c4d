package v2ctl

import (
	"context"
	"net/url"
	"strings"
	"time"
)

// globals are the flags in front of the command.
type globals struct {
	debug, noSync  bool
	output         string
	timeout, total time.Duration

	endpoints, endpoint, peers string
	discovery                  string
	insecureDiscovery          bool

	ca, cert, key string
	username      string
}

const (
	timeoutDefault      = 2 * time.Second
	totalTimeoutDefault = 5 * time.Second
	endpointsDefault    = "http://127.0.0.1:2379,http://127.0.0.1:4001"
)

func (g *globals) declare(f *flags) {
	g.output, g.timeout, g.total = "simple", timeoutDefault, totalTimeoutDefault
	f.boolean(&g.debug, "debug", "print to stderr which endpoints are used, and each request as a curl command")
	f.boolean(&g.noSync, "no-sync", "use the endpoints as given: do not ask them for those of all members first")
	f.text(&g.output, "output, o", "format", "simple, extended or json (default simple)")
	f.text(&g.discovery, "discovery-srv, D", "domain", "domain whose SRV records name the endpoints")
	f.boolean(&g.insecureDiscovery, "insecure-discovery", "take endpoints from SRV records as they are; without it only those with TLS, whose certificates must carry the domain")
	f.text(&g.peers, "peers, C", "urls", "an older name of --endpoints")
	f.text(&g.endpoint, "endpoint", "urls", "an older name of --endpoints")
	f.text(&g.endpoints, "endpoints", "urls", "members to talk to, separated by commas; without a scheme it is http (default "+endpointsDefault+")")
	f.text(&g.cert, "cert-file", "file", "certificate to show to the members")
	f.text(&g.key, "key-file", "file", "key of --cert-file")
	f.text(&g.ca, "ca-file", "file", "trust members whose certificate is signed by this bundle of CAs")
	f.text(&g.username, "username, u", "name", "user name, or name:password; without a password it is asked for")
	f.duration(&g.timeout, "timeout", "time", "give up one request to one member after this time (default 2s)")
	f.duration(&g.total, "total-timeout", "time", "give up a command after this time; those that watch are not limited (default 5s)")
}

func (c *session) getenv(name string) string {
	value := ""
	for _, e := range c.Env {
		if k, v, _ := strings.Cut(e, "="); k == name {
			value = v
		}
	}
	return value
}

// firstOf gives the first that is not empty.
func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// domain is where endpoints are looked up, empty where they are given.
func (c *session) domain() string {
	return firstOf(c.discovery, c.getenv("ETCDCTL_DISCOVERY_SRV"))
}

// members gives the URLs of the members to talk to.
func (c *session) members() ([]string, error) {
	if domain := c.domain(); domain != "" {
		ctx, cancel := c.limited()
		defer cancel()
		eps, err := c.Discover(ctx, domain, c.insecureDiscovery)
		return eps, told(err)
	}
	list := firstOf(c.endpoints, c.getenv("ETCDCTL_ENDPOINTS"), c.endpoint, c.getenv("ETCDCTL_ENDPOINT"), c.peers, c.getenv("ETCDCTL_PEERS"), endpointsDefault)
	eps := strings.Split(list, ",")
	for i, ep := range eps {
		u, err := endpointURL(ep)
		if err != nil {
			return nil, told(err)
		}
		eps[i] = u
	}
	return eps, nil
}

// endpointURL completes an endpoint that has no scheme. (3.4.23 means to, and refuses all but "//host:port".)
func endpointURL(ep string) (string, error) {
	if !strings.Contains(ep, "://") {
		ep = "http://" + strings.TrimPrefix(ep, "//")
	}
	u, err := url.Parse(ep)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// limited gives the time that a command may take.
func (c *session) limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), c.total)
}
