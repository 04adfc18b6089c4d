package config

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// builder fills a Config from entries. given holds, for each setting of today that somebody wrote, where.
type builder struct {
	cat      *catalog
	config   *Config
	given    map[string]string
	warnings []string
}

const (
	// peerTimeoutMin is the least time that a read or write between members gets: below it a busy disk looks like a dead peer.
	peerTimeoutMin = 5 * time.Second
	// warnUnaryDefault is what 0 means for --warning-unary-request-duration.
	warnUnaryDefault = 300 * time.Millisecond
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// settle stores the defaults, then the entries: later ones beat earlier ones. strictClients says that listening URLs for clients
// need advertised ones beside them.
func (b *builder) settle(entries []entry, strictClients bool) error {
	for _, flag := range b.cat.order {
		r := b.cat.rows[flag]
		if err := r.set(b.config, r.Default); err != nil {
			return fmt.Errorf("config: default of --%s: %w", flag, err)
		}
	}
	for _, e := range entries {
		if err := b.store(e); err != nil {
			return err
		}
	}
	return b.finish(strictClients)
}

func (b *builder) store(e entry) error {
	if o, ok := b.cat.olders[e.flag]; ok {
		return b.storeOlder(e, o)
	}
	r, ok := b.cat.rows[e.flag]
	if !ok {
		r = Row{kind: b.cat.files[e.flag]}
	}
	if err := r.set(b.config, e.text); err != nil {
		return fmt.Errorf("invalid value %q for %s: %w", e.text, e.from, err)
	}
	if r.Later != "" && !r.equal(e.text, r.Default) {
		return fmt.Errorf("%s is set, but %s is not in this version: remove it", e.from, r.Later)
	}
	if r.Deprecated != "" {
		b.warnings = append(b.warnings, r.Deprecated)
	}
	b.given[e.flag] = e.from
	return nil
}

func (b *builder) storeOlder(e entry, o older) error {
	if err := o.set(&Config{}, e.text); err != nil {
		return fmt.Errorf("invalid value %q for %s: %w", e.text, e.from, err)
	}
	if o.later != "" {
		if !o.equal(e.text, o.byDefault) {
			return fmt.Errorf("%s is set, but %s is not in this version: remove it", e.from, o.later)
		}
		return nil
	}
	b.warnings = append(b.warnings, fmt.Sprintf("%s is deprecated: %s", e.from, o.warning))
	if o.today == nil {
		return nil
	}
	flag, text := o.today(e.text)
	if flag == "" {
		return nil
	}
	return b.store(entry{flag, text, e.from})
}

// finish fills in what follows from other settings, and checks the whole.
func (b *builder) finish(strictClients bool) error {
	c := b.config
	if c.Member.DataDir == "" {
		c.Member.DataDir = c.Member.Name + ".etcd"
	}
	if strictClients && b.given["listen-client-urls"] != "" && b.given["advertise-client-urls"] == "" {
		return fmt.Errorf("--advertise-client-urls is required when --listen-client-urls is set explicitly: set it to the URLs at which clients reach this member, such as %s", c.Listen.Client)
	}
	if b.given["initial-cluster"] == "" {
		c.Cluster.Initial = ""
	}
	if err := c.settleDiscovery(); err != nil {
		return err
	}
	c.Listen.PeerRead = max(c.Listen.PeerRead, peerTimeoutMin)
	c.Listen.PeerWrite = max(c.Listen.PeerWrite, peerTimeoutMin)
	if c.Limits.WarnUnary == 0 {
		c.Limits.WarnUnary = warnUnaryDefault
	}
	told, err := c.settleGates()
	if err != nil {
		return err
	}
	b.warnings = append(b.warnings, told...)
	if err := c.Compaction.settle(); err != nil {
		return err
	}
	return c.check()
}
