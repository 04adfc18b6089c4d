package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

const (
	dialTimeoutDefault      = 2 * time.Second
	commandTimeoutDefault   = 5 * time.Second
	keepaliveTimeDefault    = 2 * time.Second
	keepaliveTimeoutDefault = 6 * time.Second

	envPrefix = "ETCDCTL_"
)

// settings are the global flags.
type settings struct {
	endpoints        []string
	dialTimeout      time.Duration
	commandTimeout   time.Duration
	keepaliveTime    time.Duration
	keepaliveTimeout time.Duration
	maxSendBytes     int // 0: the client's default, 2 MiB
	maxRecvBytes     int // 0: no limit
	format           string
	hex              bool
	debug            bool
	access           access
	srv              srv
}

func (s *settings) bind(fs *pflag.FlagSet) {
	fs.StringSliceVar(&s.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "members to talk to: host:port, http://host:port, https://host:port or unix:///path, separated by commas")
	fs.DurationVar(&s.dialTimeout, "dial-timeout", dialTimeoutDefault, "give up connecting after this time")
	fs.DurationVar(&s.commandTimeout, "command-timeout", commandTimeoutDefault, "give up a command after this time; those that run until they are stopped are not limited")
	fs.DurationVar(&s.keepaliveTime, "keepalive-time", keepaliveTimeDefault, "ping a silent connection after this time")
	fs.DurationVar(&s.keepaliveTimeout, "keepalive-timeout", keepaliveTimeoutDefault, "close a connection whose ping is not answered in this time")
	fs.IntVar(&s.maxSendBytes, "max-request-bytes", 0, "largest request to send, in bytes (0: 2 MiB)")
	fs.IntVar(&s.maxRecvBytes, "max-recv-bytes", 0, "largest answer to take, in bytes (0: no limit)")
	fs.StringVarP(&s.format, "write-out", "w", "simple", "output format: fields, json, protobuf, simple or table")
	fs.BoolVar(&s.hex, "hex", false, "print byte strings in hexadecimal")
	fs.BoolVar(&s.debug, "debug", false, "print the settings and what the client does to stderr")
	s.access.bind(fs)
	s.srv.bind(fs)
}

// clean trims the spaces of a list such as "a, b".
func (s *settings) clean() {
	for i, ep := range s.endpoints {
		s.endpoints[i] = strings.TrimSpace(ep)
	}
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (a *app) getenv(name string) string {
	value := ""
	for _, e := range a.env {
		if k, v, _ := strings.Cut(e, "="); k == name {
			value = v
		}
	}
	return value
}

// applyEnv sets every flag of fs that the command line left alone from its ETCDCTL_… variable, and warns about
// variables that belong to no flag.
func (a *app) applyEnv(fs *pflag.FlagSet) error {
	known := map[string]bool{"ETCDCTL_API": true, "ETCDCTL_WATCH_KEY": true, "ETCDCTL_WATCH_RANGE_END": true, "ETCDCTL_CLUSTER": true}
	var err error
	fs.VisitAll(func(f *pflag.Flag) {
		name := envName(f.Name)
		known[name] = true
		value := a.getenv(name)
		if f.Changed || value == "" || err != nil {
			return
		}
		if serr := fs.Set(f.Name, value); serr != nil {
			err = fail(statusBadArgs, "%s=%q: %w", name, value, serr)
		}
	})
	for _, e := range a.env {
		if k, _, _ := strings.Cut(e, "="); strings.HasPrefix(k, envPrefix) && !known[k] {
			fmt.Fprintf(a.diag, "Warning: %s is no setting of etcdctl and has no effect\n", k)
		}
	}
	return err
}
