package main

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/pflag"

	"keelson/internal/discovery/dnssrv"
)

// srv says how endpoints are found in DNS.
type srv struct {
	domain, name string
	insecure     bool
}

func (d *srv) bind(fs *pflag.FlagSet) {
	fs.StringVarP(&d.domain, "discovery-srv", "d", "", "domain whose SRV records (_etcd-client-ssl._tcp, _etcd-client._tcp) name the endpoints, in place of --endpoints")
	fs.StringVar(&d.name, "discovery-srv-name", "", "what is behind the service in those records, where a domain has several clusters")
	fs.BoolVar(&d.insecure, "insecure-discovery", true, "take what the records name as it is; with =false only endpoints with TLS, whose certificates must carry the domain")
}

// discover puts what DNS names in place of the endpoints. Unless it is to be taken as it is, members must prove that they are
// the domain's: whoever can forge an answer of DNS would else get what is sent, passwords too.
func (a *app) discover() error {
	d := &a.set.srv
	if d.domain == "" {
		return nil
	}
	ctx, cancel := a.timed()
	defer cancel()
	endpoints, err := a.endpointsOf(ctx, d.domain, d.name, d.insecure)
	if err != nil {
		return fail(statusError, "%w", err)
	}
	a.set.endpoints = endpoints
	if !d.insecure {
		a.set.access.serverName = d.domain
	}
	return nil
}

func (a *app) endpointsOf(ctx context.Context, domain, name string, insecure bool) ([]string, error) {
	var resolver dnssrv.Resolver = net.DefaultResolver
	if a.resolver != nil {
		resolver = a.resolver
	}
	endpoints, err := dnssrv.Endpoints(ctx, resolver, domain, name, insecure)
	if err != nil {
		return nil, fmt.Errorf("--discovery-srv=%s: %w", domain, err)
	}
	return endpoints, nil
}
