package v2ctl

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	client "go.etcd.io/etcd/client/v2"
)

// dialTimeoutMax bounds how long one connection may take to be made; --total-timeout does too, where it is shorter.
const dialTimeoutMax = 30 * time.Second

// transport makes what carries requests, with TLS where files for it are named.
func (c *session) transport() (*http.Transport, error) {
	info := transport.TLSInfo{
		CertFile:      firstOf(c.cert, c.getenv("ETCDCTL_CERT_FILE")),
		KeyFile:       firstOf(c.key, c.getenv("ETCDCTL_KEY_FILE")),
		TrustedCAFile: firstOf(c.ca, c.getenv("ETCDCTL_CA_FILE")),
	}
	if !c.insecureDiscovery {
		info.ServerName = c.domain()
	}
	limit := dialTimeoutMax
	if c.total != 0 {
		limit = min(limit, c.total)
	}
	return transport.NewTransport(info, limit)
}

// connect makes a client for the endpoints as they are given. No request is sent.
func (c *session) connect() (client.Client, error) {
	eps, err := c.members()
	if err != nil {
		return nil, err
	}
	t, err := c.transport()
	if err != nil {
		return nil, told(err)
	}
	cfg := client.Config{Transport: t, Endpoints: eps, HeaderTimeoutPerRequest: c.timeout}
	if user := firstOf(c.username, c.getenv("ETCDCTL_USERNAME")); user != "" {
		if cfg.Username, cfg.Password, err = c.login(user, "Password: "); err != nil {
			return nil, told(err)
		}
	}
	cl, err := client.New(cfg)
	return cl, told(err)
}

// login takes name:password apart, and asks for the password where there is a name alone.
func (c *session) login(user, prompt string) (name, password string, err error) {
	name, password, given := strings.Cut(user, ":")
	if !given {
		password, err = c.AskPassword(prompt)
	}
	return name, password, err
}

// members named so by the cluster itself are what dial talks to, unless --no-sync keeps it to the endpoints as given.
func (c *session) dial() (client.Client, error) {
	cl, err := c.connect()
	if err != nil {
		return nil, err
	}
	if c.debug {
		client.EnablecURLDebug()
	}
	if !c.noSync {
		if err := c.sync(cl); err != nil {
			return nil, err
		}
	}
	c.debugf("Cluster-Endpoints: %s\n", strings.Join(cl.Endpoints(), ", "))
	return cl, nil
}

// sync asks the endpoints for those of all members. Only where no member can be reached, or none can be named, is there no
// point in going on.
func (c *session) sync(cl client.Client) error {
	given := strings.Join(cl.Endpoints(), ",")
	c.debugf("start to sync cluster using endpoints(%s)\n", given)
	ctx, cancel := c.limited()
	defer cancel()
	err := cl.Sync(ctx)
	switch {
	case errors.Is(err, client.ErrNoEndpoints):
		fmt.Fprintf(c.Diag, "etcd cluster has no published client endpoints.\n"+
			"Try '--no-sync' if you want to access non-published client endpoints(%s).\n", given)
		return failed(statusServerError, err)
	case err != nil && unreachable(err):
		return failed(statusBadConnection, err)
	}
	c.debugf("got endpoints(%s) after sync\n", strings.Join(cl.Endpoints(), ","))
	return nil
}

func (c *session) debugf(format string, args ...any) {
	if c.debug {
		fmt.Fprintf(c.Diag, format, args...)
	}
}

// unreachable tells whether every endpoint failed before it answered.
func unreachable(err error) bool {
	var all *client.ClusterError
	if errors.As(err, &all) {
		for _, e := range all.Errors {
			if !unreachable(e) {
				return false
			}
		}
		return true
	}
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "read") {
		return true
	}
	var timed net.Error
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &timed) && timed.Timeout()
}

// dialKeys dials for the commands on keys.
func (c *session) dialKeys() (client.KeysAPI, error) {
	cl, err := c.dial()
	if err != nil {
		return nil, err
	}
	return client.NewKeysAPI(cl), nil
}

// dialAuth dials for the commands on users and roles, which 3.4.23 has tell the endpoints of once more.
func (c *session) dialAuth() (client.Client, error) {
	cl, err := c.dial()
	if err != nil {
		return nil, err
	}
	c.debugf("Cluster-Endpoints: %s\n", strings.Join(cl.Endpoints(), ", "))
	return cl, nil
}
