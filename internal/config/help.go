package config

import (
	"fmt"
	"strings"
)

// Usage is the head of the help: what can be called.
const Usage = `Usage:

  etcd [flags]
    Start a member.

  etcd --version
    Print the version.

  etcd -h | --help
    Print this help.

  etcd --config-file FILE
    Start a member with the settings of FILE: YAML with the names of flags as keys, or lines of ETCD_NAME="value".
    Nothing else counts then, neither flags nor environment variables. Write durations as text with a unit, such as "10m";
    a bare number means nanoseconds, except for --heartbeat-interval and --election-timeout, which count milliseconds.

A flag may begin with one dash or two. Without a configuration file, --some-flag can be given as ETCD_SOME_FLAG in the
environment too; the flag wins.
`

// Help is the whole help text: every flag by section, with its default.
func Help() string {
	var b strings.Builder
	b.WriteString(Usage)
	section := ""
	for _, group := range []string{member, clustering, security, authn, monitoring, logging, tracing, features, unsafe} {
		for _, r := range Table() {
			if r.Section != group {
				continue
			}
			if section != group {
				section = group
				fmt.Fprintf(&b, "\n%s:\n", section)
			}
			shown := r.Default
			if r.Flag == "data-dir" {
				shown = "${name}.etcd"
			}
			fmt.Fprintf(&b, "  --%s '%s'\n    %s\n", r.Flag, shown, r.Help)
			if r.Later != "" {
				fmt.Fprintf(&b, "    (Not in this version: waits for %s.)\n", r.Later)
			}
		}
	}
	b.WriteString("\nFeature gates:\n")
	for _, g := range gates() {
		stage := "alpha"
		if g.beta {
			stage = "beta"
		}
		fmt.Fprintf(&b, "  %s (%s, %t)\n", g.name, stage, g.byDefault)
	}
	b.WriteString("  AllAlpha, AllBeta: all gates of a stage that are not named\n")
	b.WriteString("\nOlder spellings, taken with a warning:\n  --experimental-X for any flag or feature gate X\n")
	for _, o := range olders() {
		if !strings.HasPrefix(o.flag, experimental) {
			fmt.Fprintf(&b, "  --%s '%s'\n", o.flag, o.byDefault)
		}
	}
	return b.String()
}
