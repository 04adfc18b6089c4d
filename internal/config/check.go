package config

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// electionMax is the longest election time-out; past it a cluster without a leader waits for minutes.
const electionMax = 50 * time.Second

// electionHeartbeats is how many heartbeats an election time-out must span, so that a late one starts no election.
const electionHeartbeats = 5

// check looks at settings together. What an existing data directory makes void (--initial-cluster) is left to Founders.
func (c *Config) check() error {
	if c.Member.Name == "" {
		return errors.New("--name is empty: give the member a name")
	}
	for _, err := range []error{
		checkListen("--listen-peer-urls", c.Listen.Peer, true),
		checkListen("--listen-client-urls", c.Listen.Client, true),
		checkListen("--listen-client-http-urls", c.Listen.ClientHTTP, false),
		checkListen("--listen-metrics-urls", c.Listen.Metrics, false),
		checkAdvertise("--initial-advertise-peer-urls", c.Cluster.AdvertisePeer),
		checkAdvertise("--advertise-client-urls", c.Cluster.AdvertiseClient),
		checkMemberURLs("--listen-peer-urls", c.Listen.Peer),
		checkMemberURLs("--initial-advertise-peer-urls", c.Cluster.AdvertisePeer),
		c.checkTLS(),
		c.Raft.check(),
		c.Checks.check(),
		c.Logging.check(),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkListen wants addresses that can be bound: a number or localhost, never a name that somebody else resolves.
func checkListen(flag string, urls types.URLs, needed bool) error {
	if len(urls) == 0 && needed {
		return fmt.Errorf("%s is empty: give at least one URL to listen on", flag)
	}
	for _, u := range urls {
		if u.Scheme == "unix" || u.Scheme == "unixs" {
			continue
		}
		if host := u.Hostname(); host != "localhost" && net.ParseIP(zoneless(host)) == nil {
			return fmt.Errorf("expected IP in URL for binding (%s): %s takes an IP address or localhost; write %s://0.0.0.0:%s for all addresses", u.String(), flag, u.Scheme, u.Port())
		}
	}
	return nil
}

// zoneless drops the zone of an IPv6 address (fe80::1%eth0).
func zoneless(host string) string {
	host, _, _ = strings.Cut(host, "%")
	return host
}

func checkAdvertise(flag string, urls types.URLs) error {
	if len(urls) == 0 {
		return fmt.Errorf("%s is empty: give the URLs at which others reach this member", flag)
	}
	for _, u := range urls {
		if (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() == "" {
			return fmt.Errorf("%s %q has no host: write %s://HOST:%s with a host that others can reach", flag, u.String(), u.Scheme, u.Port())
		}
	}
	return nil
}

func (r Raft) check() error {
	heartbeat, election := r.Heartbeat.Milliseconds(), r.Election.Milliseconds()
	switch {
	case heartbeat == 0:
		return errors.New("--heartbeat-interval must be >0 (set to 0ms)")
	case election == 0:
		return errors.New("--election-timeout must be >0 (set to 0ms)")
	case election < electionHeartbeats*heartbeat:
		return fmt.Errorf("--election-timeout[%dms] should be at least %d times --heartbeat-interval[%dms]: set it to %d or more", election, electionHeartbeats, heartbeat, electionHeartbeats*heartbeat)
	case r.Election > electionMax:
		return fmt.Errorf("--election-timeout[%dms] is too long: set it to at most %d", election, electionMax.Milliseconds())
	}
	return nil
}

func (c Checks) check() error {
	if c.CompactHash <= 0 {
		return fmt.Errorf("--compact-hash-check-time must be >0 (set to %v)", c.CompactHash)
	}
	return nil
}

// check wants what the log can be built from; the logging package opens it.
func (l Logging) check() error {
	files := 0
	for _, o := range l.Outputs {
		switch o {
		case "":
			return errors.New("--log-outputs is empty: give stderr, stdout, systemd/journal or paths of files")
		case "stdout", "stderr":
		case "default", "systemd/journal":
			if len(l.Outputs) > 1 {
				return fmt.Errorf("--log-outputs has %q among others: it can only be alone", o)
			}
		default:
			files++
		}
	}
	if len(l.Outputs) == 0 {
		return errors.New("--log-outputs is empty: give stderr, stdout, systemd/journal or paths of files")
	}
	if l.Rotate && files != 1 {
		return errors.New("--enable-log-rotation needs one file to rotate: name exactly one in --log-outputs")
	}
	return nil
}
