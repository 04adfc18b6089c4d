package dnssrv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"keelson/internal/kit/backoff"
	"keelson/internal/kit/clock"
)

const (
	serviceServer = "etcd-server"
	// membersMax bounds how many records are taken: a stranger's answer could hold thousands.
	membersMax = 100
	// lookTime bounds one look at all records.
	lookTime = 30 * time.Second
	// The pauses between looks at records that are not there yet.
	pauseFirst = time.Second
	pauseMost  = 30 * time.Second
)

// Hosts looks up what Resolver does, and the addresses of hosts. *net.Resolver is one.
type Hosts interface {
	Resolver
	LookupHost(ctx context.Context, host string) (addresses []string, err error)
}

// Why records will not do. More time mends neither.
var (
	// ErrScheme is returned where this member's record is below the service with TLS and its peer URL without it, or the other
	// way round. The text is etcd's.
	ErrScheme = errors.New("scheme mismatch with expected peer")
	// ErrTooMany is returned for a domain with more records than a cluster has members.
	ErrTooMany = errors.New("too many SRV records")
)

// ErrNotListed is returned for a member that no record leads to. The text is etcd's.
var ErrNotListed = errors.New("cannot find local etcd member in SRV records")

// Self is the member that looks for the others.
type Self struct {
	Name string
	// URLs are its peer URLs. Their hosts resolve to what the hosts of its records resolve to.
	URLs types.URLs
}

// Options say where the members' records are.
type Options struct {
	Domain string
	// Service tells clusters of one domain apart; empty for the only one.
	Service string
	Hosts   Hosts
	Clock   clock.Clock
	Logger  *zap.Logger
}

// Members finds the members of the cluster in a domain: those of the service with TLS, and those of the one without that the
// former does not name. It waits until there are records, self among them, and all their hosts have addresses: with less, a
// member would found a cluster of its own. Members are called by their addresses, self by its name.
func Members(ctx context.Context, o Options, self Self) (types.URLsMap, error) {
	pause := backoff.New(o.Clock, pauseFirst, pauseMost)
	for {
		found, err := look(ctx, o, self)
		switch {
		case err == nil:
			o.Logger.Info("got bootstrap from DNS", zap.String("discovery-srv", o.Domain), zap.Stringer("members", found))
			return found, nil
		case ctx.Err() != nil || errors.Is(err, ErrScheme) || errors.Is(err, ErrTooMany):
			return nil, err
		}
		o.Logger.Warn("failed to resolve during SRV discovery", zap.String("discovery-srv", o.Domain), zap.Error(err), zap.Duration("backoff", pause.Next()))
		if ended := pause.Wait(ctx); ended != nil {
			return nil, fmt.Errorf("%w, %w", ended, err)
		}
	}
}

// look looks at the records once.
func look(ctx context.Context, o Options, self Self) (types.URLsMap, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	targets, err := servers(ctx, o)
	if err != nil {
		return nil, err
	}
	own, err := sockets(ctx, o.Hosts, self.URLs)
	if err != nil {
		return nil, err
	}
	found := types.URLsMap{}
	for _, t := range targets {
		name, err := nameOf(ctx, o.Hosts, t, self.Name, own)
		if err != nil {
			return nil, err
		}
		u, err := url.Parse(t.URL())
		if err != nil {
			return nil, fmt.Errorf("the record that leads to %s: %w", t.Address(), err)
		}
		found[name] = append(found[name], *u)
	}
	if len(found[self.Name]) < len(self.URLs) {
		return nil, fmt.Errorf("%w: %q is at %s, and the records lead to %s: a record's host must resolve to each of --initial-advertise-peer-urls, with its port",
			ErrNotListed, self.Name, self.URLs, found)
	}
	for _, urls := range found {
		urls.Sort()
	}
	return found, nil
}

// servers gives where the records of both services lead to, each place once.
func servers(ctx context.Context, o Options) ([]Target, error) {
	var (
		all  []Target
		errs []error
	)
	for _, secure := range []bool{true, false} {
		found, err := lookup(ctx, o.Hosts, service(serviceServer, o.Service, secure), o.Domain, secure)
		if err != nil && !absent(err) {
			return nil, err // what it would have told is not known, and without it a cluster could be founded in halves
		}
		errs = append(errs, err)
		for _, t := range found {
			if !slices.ContainsFunc(all, func(x Target) bool { return strings.EqualFold(x.Address(), t.Address()) }) {
				all = append(all, t)
			}
		}
	}
	switch {
	case len(all) == 0:
		return nil, errors.Join(errs...)
	case len(all) > membersMax:
		return nil, fmt.Errorf("%w: %s has %d, and a cluster at most %d members", ErrTooMany, o.Domain, len(all), membersMax)
	}
	return all, nil
}

// absent tells whether an error means that there is no record, and not that nobody could say.
func absent(err error) bool {
	var d *net.DNSError
	return errors.Is(err, ErrNone) || errors.As(err, &d) && d.IsNotFound
}

// sockets gives the addresses with ports that URLs lead to, each with its scheme.
func sockets(ctx context.Context, r Hosts, urls types.URLs) (map[string]string, error) {
	all := map[string]string{}
	for _, u := range urls {
		ips, err := r.LookupHost(ctx, u.Hostname())
		if err != nil {
			return nil, fmt.Errorf("look up this member's own %s: %w", u.Hostname(), err)
		}
		for _, ip := range ips {
			all[net.JoinHostPort(ip, u.Port())] = u.Scheme
		}
	}
	return all, nil
}

// nameOf gives the name of the member that a record leads to: self's where one of its addresses is self's.
func nameOf(ctx context.Context, r Hosts, t Target, self string, own map[string]string) (string, error) {
	ips, err := r.LookupHost(ctx, t.Host)
	if err != nil {
		return "", fmt.Errorf("look up %s, to which a record of the members leads: %w", t.Host, err)
	}
	for _, ip := range ips {
		t := Target{Host: ip, Port: t.Port, TLS: t.TLS}
		scheme, mine := own[t.Address()]
		switch {
		case !mine:
		case (scheme == "https") != t.TLS:
			return "", fmt.Errorf("bootstrap at %s from DNS: %w: --initial-advertise-peer-urls has it as %s; let the record be below _%s%s._tcp for https and _%s._tcp for http",
				t.URL(), ErrScheme, scheme, serviceServer, suffixTLS, serviceServer)
		default:
			return self, nil
		}
	}
	return t.Address(), nil
}
