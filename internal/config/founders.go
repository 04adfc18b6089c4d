package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Founders reads --initial-cluster: the peer URLs of every member by its name, this member among them. It is called at a
// first start, before anything is created; a later start goes by its data. The error says what to change.
func (c *Config) Founders() (types.URLsMap, error) {
	if c.Cluster.Initial == "" {
		return types.URLsMap{c.Member.Name: slices.Clone(c.Cluster.AdvertisePeer)}, nil
	}
	members, err := c.Cluster.Founders(c.Member.Name)
	if err != nil {
		return nil, err
	}
	for _, urls := range members {
		if err := checkMemberURLs("--initial-cluster", urls); err != nil {
			return nil, err
		}
	}
	return members, nil
}

// Founders reads Initial, which must name the member called name with the URLs of AdvertisePeer.
func (c *Cluster) Founders(name string) (types.URLsMap, error) {
	members, err := parseMembers(c.Initial)
	if err != nil {
		return nil, err
	}
	mine, ok := members[name]
	if !ok {
		return nil, fmt.Errorf("couldn't find local name %q in the initial cluster configuration: --initial-cluster names %s; set --name to one of them, or add %s=%s",
			name, strings.Join(sortedKeys(members), ", "), name, c.AdvertisePeer)
	}
	return members, c.checkMine("--initial-cluster", name, mine)
}

// checkMine wants the URLs that source has for this member to be those that it advertises.
func (c *Cluster) checkMine(source, name string, mine types.URLs) error {
	if c.sameURLs(mine, c.AdvertisePeer) {
		return nil
	}
	return fmt.Errorf("%s has %s=%s but --initial-advertise-peer-urls has %s: make the two the same", source, name, mine, c.AdvertisePeer)
}

// CheckFound looks at founders that were discovered, this member among them, as Founders looks at those of --initial-cluster.
func (c *Config) CheckFound(members types.URLsMap) error {
	for _, urls := range members {
		if err := checkMemberURLs("the members that discovery found", urls); err != nil {
			return err
		}
	}
	return c.Cluster.checkMine("discovery", c.Member.Name, members[c.Member.Name])
}

// parseMembers reads "name=url,name=url", where a name may come again with another URL.
func parseMembers(text string) (types.URLsMap, error) {
	members, owner := types.URLsMap{}, map[string]string{}
	for _, pair := range strings.Split(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, address, found := strings.Cut(pair, "=")
		if !found || name == "" {
			return nil, fmt.Errorf("--initial-cluster has %q: write NAME=URL", pair)
		}
		u, err := parseURL(address)
		if err != nil {
			return nil, fmt.Errorf("--initial-cluster, member %s: %w", name, err)
		}
		if u.Scheme == "http" && u.Hostname() == "" {
			return nil, fmt.Errorf("--initial-cluster, member %s: %s has no host that others could reach", name, u)
		}
		if other, taken := owner[u.String()]; taken {
			return nil, fmt.Errorf("--initial-cluster has duplicate url %s (members %s and %s): give every member its own", u, other, name)
		}
		owner[u.String()] = name
		members[name] = append(members[name], *u)
	}
	for _, urls := range members {
		urls.Sort()
	}
	return members, nil
}

// sameURLs compares two sorted lists, first as they are written and then, if it can, by what their hosts resolve to.
func (c *Cluster) sameURLs(a, b types.URLs) bool {
	if len(a) != len(b) {
		return false
	}
	if a.String() == b.String() {
		return true
	}
	if c.Resolve == nil {
		return false
	}
	rest := slices.Clone(b)
	for _, u := range a {
		at := slices.IndexFunc(rest, func(v url.URL) bool { return c.sameURL(u, v) })
		if at < 0 {
			return false
		}
		rest = slices.Delete(rest, at, at+1)
	}
	return true
}

func (c *Cluster) sameURL(a, b url.URL) bool {
	if a.String() == b.String() {
		return true
	}
	if a.Scheme != b.Scheme || a.Port() != b.Port() || a.Scheme == "unix" {
		return false
	}
	x, y := c.addresses(a.Hostname()), c.addresses(b.Hostname())
	return slices.ContainsFunc(x, func(s string) bool { return slices.Contains(y, s) })
}

// addresses is a host's IP addresses, or none where it has none.
func (c *Cluster) addresses(host string) []string {
	if ip := net.ParseIP(host); ip != nil {
		return []string{ip.String()}
	}
	found, err := c.Resolve(host)
	if err != nil {
		return nil
	}
	return found
}

// AdvertiseHost puts a host in place of "localhost" in the default of --initial-advertise-peer-urls where the member listens on
// all addresses, so that others can reach it. It answers whether it did.
func (c *Config) AdvertiseHost(host string) bool {
	const byDefault = "http://localhost:2380"
	listen := c.Listen.Peer[0]
	if host == "" || c.Cluster.AdvertisePeer.String() != byDefault || listen.Hostname() != "0.0.0.0" {
		return false
	}
	c.Cluster.AdvertisePeer = types.URLs{{Scheme: "http", Host: net.JoinHostPort(host, listen.Port())}}
	return true
}
