// Package dnssrv finds a cluster by the SRV records of a DNS domain: the members' peer URLs before a member's first start, and
// the endpoints of clients. Names are etcd's: _etcd-server-ssl._tcp, _etcd-server._tcp, _etcd-client-ssl._tcp and
// _etcd-client._tcp of the domain, each with "-NAME" behind the service where one domain has several clusters.
package dnssrv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Resolver looks DNS records up. *net.Resolver is one.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)
}

// Target is where a record points to.
type Target struct {
	// Host is without a dot at its end.
	Host string
	Port uint16
	// TLS is set for what was found below a service whose name says so.
	TLS bool
	// Priority and Weight are the record's: all of the lowest priority before any of the next, and in proportion to their
	// weights.
	Priority, Weight uint16
}

// Address is host:port.
func (t Target) Address() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// URL is the address with the scheme of the service that it was found below.
func (t Target) URL() string {
	if t.TLS {
		return "https://" + t.Address()
	}
	return "http://" + t.Address()
}

// ErrNone is returned for a domain without records.
var ErrNone = errors.New("no SRV records")

const (
	serviceClient = "etcd-client"
	suffixTLS     = "-ssl"
)

// Clients finds the endpoints for clients of the cluster in a domain, those with TLS first. name tells clusters of one domain
// apart and may be empty. It fails only where neither service has a record; the error says what both look-ups met with.
func Clients(ctx context.Context, r Resolver, domain, name string) ([]Target, error) {
	var (
		all  []Target
		errs []error
	)
	for _, secure := range []bool{true, false} {
		found, err := lookup(ctx, r, service(serviceClient, name, secure), domain, secure)
		all, errs = append(all, found...), append(errs, err)
	}
	if len(all) == 0 {
		return nil, errors.Join(errs...)
	}
	return all, nil
}

// Endpoints gives the URLs of the endpoints for clients, of all where insecure is set, else of those with TLS. It fails where
// there is none.
func Endpoints(ctx context.Context, r Resolver, domain, name string, insecure bool) ([]string, error) {
	targets, err := Clients(ctx, r, domain, name)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, t := range targets {
		if t.TLS || insecure {
			all = append(all, t.URL())
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s and %d others: %w", targets[0].URL(), len(targets)-1, ErrNoTLS)
	}
	return all, nil
}

// service is the name of a service in a record, without its underscore.
func service(kind, name string, secure bool) string {
	if secure {
		kind += suffixTLS
	}
	if name != "" {
		kind += "-" + name
	}
	return kind
}

func lookup(ctx context.Context, r Resolver, service, domain string, secure bool) ([]Target, error) {
	_, records, err := r.LookupSRV(ctx, service, "tcp", domain)
	if err == nil && len(records) == 0 {
		err = ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("look up _%s._tcp.%s: %w", service, domain, err)
	}
	targets := make([]Target, 0, len(records))
	for _, x := range records {
		targets = append(targets, Target{Host: strings.TrimSuffix(x.Target, "."), Port: x.Port, TLS: secure, Priority: x.Priority, Weight: x.Weight})
	}
	// Among equals the order of a resolver is random on purpose.
	slices.SortStableFunc(targets, func(a, b Target) int { return int(a.Priority) - int(b.Priority) })
	return targets, nil
}
