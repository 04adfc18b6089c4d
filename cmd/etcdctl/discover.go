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
	resolver     dnssrv.Resolver // nil: the machine's
}

func (d *srv) bind(fs *pflag.FlagSet) {
	fs.StringVarP(&d.domain, "discovery-srv", "d", "", "domain whose SRV records (_etcd-client-ssl._tcp, _etcd-client._tcp) name the endpoints, in place of --endpoints")
	fs.StringVar(&d.name, "discovery-srv-name", "", "what is behind the service in those records, where a domain has several clusters")
	fs.BoolVar(&d.insecure, "insecure-discovery", true, "take what the records name as it is; with =false only endpoints with TLS, whose certificates must carry the domain")
}

// endpoints finds those of a domain, those with TLS or, insecure, all.
func (d *srv) endpoints(ctx context.Context, domain string, insecure bool) ([]string, error) {
	var r dnssrv.Resolver = net.DefaultResolver
	if d.resolver != nil {
		r = d.resolver
	}
	found, err := dnssrv.Endpoints(ctx, r, domain, d.name, insecure)
	if err != nil {
		return nil, fmt.Errorf("--discovery-srv=%s: %w", domain, err)
	}
	return found, nil
}

// discover puts what DNS names in place of the endpoints. Unless it is to be taken as it is, members must prove that they are
// the domain's: whoever can forge an answer of DNS would else get what is sent, passwords too.
func (s *settings) discover() error {
	d := &s.srv
	if d.domain == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.commandTimeout)
	defer cancel()
	found, err := d.endpoints(ctx, d.domain, d.insecure)
	if err != nil {
		return &exitError{status: statusError, err: err}
	}
	s.endpoints = found
	if !d.insecure {
		s.access.serverName = d.domain
	}
	return nil
}
