package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A gate is one feature that can be switched on or off by --feature-gates.
type gate struct {
	name string
	// older is what follows --experimental- in the spelling of 3.5 and 3.6.
	older string
	beta  bool
	byDefault,
	// works says that the value changes what this member does; others are taken, and told once in the log.
	works bool
}

const (
	allAlpha = "AllAlpha"
	allBeta  = "AllBeta"
)

// Gates by which members look after each other's data.
const (
	// CompactHashCheck compares what members hashed at their compactions.
	CompactHashCheck = "CompactHashCheck"
	// InitialCorruptCheck compares a member with the others before it takes part.
	InitialCorruptCheck = "InitialCorruptCheck"
)

// gates answers every gate that etcd 3.7 knows, by name.
func gates() []gate {
	return []gate{
		{name: CompactHashCheck, older: "compact-hash-check-enabled", works: true},
		{name: "FastLeaseKeepAlive", older: "fast-lease-keep-alive", beta: true, byDefault: true},
		{name: InitialCorruptCheck, older: "initial-corrupt-check", works: true},
		{name: "LeaseCheckpoint", older: "enable-lease-checkpoint", works: true},
		{name: "LeaseCheckpointPersist", older: "enable-lease-checkpoint-persist", works: true},
		{name: "PriorityRequest", older: "priority-request"},
		{name: "SetMemberLocalAddr", older: "set-member-localaddr"},
		{name: "StopGRPCServiceOnDefrag", older: "stop-grpc-service-on-defrag"},
		{name: "TxnModeWriteWithSharedBuffer", older: "txn-mode-write-with-shared-buffer", beta: true, byDefault: true},
	}
}

// parseGates reads "Name=bool,Name=bool"; the map holds what the text names and nothing else.
func parseGates(s string) (map[string]bool, error) {
	known := []string{allAlpha, allBeta}
	for _, g := range gates() {
		known = append(known, g.name)
	}
	set := map[string]bool{}
	for _, pair := range strings.Split(s, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, text, found := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		if !found {
			return nil, fmt.Errorf("%q has no value: write %s=true or %s=false", pair, name, name)
		}
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown feature gate %q: the gates are %s", name, strings.Join(known, ", "))
		}
		on, err := parseBool(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("feature gate %s: %w", name, err)
		}
		set[name] = on
	}
	return set, nil
}

// gatesKind adds what the text names to what is set already.
func gatesKind() kind {
	k := checked(parseGates)
	k.set = func(c *Config, text string) error {
		set, err := parseGates(text)
		if err != nil {
			return err
		}
		if c.Gates == nil {
			c.Gates = map[string]bool{}
		}
		maps.Copy(c.Gates, set)
		return nil
	}
	return k
}

// settleGates gives every gate the value that counts: its own, else that of its class, else its default. It answers the
// lines for the log.
func (c *Config) settleGates() (warnings []string, err error) {
	set := c.Gates
	c.Gates = map[string]bool{}
	for _, g := range gates() {
		class := allAlpha
		if g.beta {
			class = allBeta
		}
		on, named := set[g.name]
		if all, ok := set[class]; ok && !named {
			on, named = all, true
		}
		if !named {
			on = g.byDefault
		}
		c.Gates[g.name] = on
		if on != g.byDefault && !g.works {
			warnings = append(warnings, fmt.Sprintf("feature gate %s=%t is accepted and changes nothing in this version", g.name, on))
		}
	}
	if c.Gates["LeaseCheckpointPersist"] && !c.Gates["LeaseCheckpoint"] {
		return nil, fmt.Errorf("feature gate LeaseCheckpointPersist needs LeaseCheckpoint: set --feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true")
	}
	return warnings, nil
}

// GateStages answers ALPHA or BETA for every name that --feature-gates takes.
func GateStages() map[string]string {
	stages := map[string]string{allAlpha: "ALPHA", allBeta: "BETA"}
	for _, g := range gates() {
		stages[g.name] = "ALPHA"
		if g.beta {
			stages[g.name] = "BETA"
		}
	}
	return stages
}
