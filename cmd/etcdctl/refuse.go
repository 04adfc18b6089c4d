package main

import (
	"github.com/spf13/pflag"
)

// A flag that is parsed but refused when it is set to something else than its default.
type refusedFlag struct {
	name, short, what string
	text              bool   // takes a string, default ""; else a bool
	on                bool   // a bool's default
	help              string // as it will be when it works
}

func refusedFlags() []refusedFlag {
	const srv = "discovery by DNS"
	return []refusedFlag{
		{name: "discovery-srv", short: "d", what: srv, text: true, help: "domain whose SRV records name the endpoints"},
		{name: "discovery-srv-name", what: srv, text: true, help: "service name to add to the SRV query"},
		{name: "insecure-discovery", what: srv, on: true, help: "accept endpoints without TLS from SRV records"},
	}
}

func bindRefused(fs *pflag.FlagSet, flags []refusedFlag) {
	for _, f := range flags {
		if f.text {
			fs.StringP(f.name, f.short, "", f.help)
		} else {
			fs.BoolP(f.name, f.short, f.on, f.help)
		}
	}
}

// refuseFlags fails on the first flag, by the command line or the environment, that asks for what is not there yet.
func refuseFlags(fs *pflag.FlagSet) error {
	for _, r := range refusedFlags() {
		if f := fs.Lookup(r.name); f != nil && f.Value.String() != f.DefValue {
			return fail(statusBadFeature, "--%s (%s): %s is not supported by this version of etcdctl yet; nothing was done", r.name, envName(r.name), r.what)
		}
	}
	return nil
}
