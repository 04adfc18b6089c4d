package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrHelp is returned when the command line asks for the help, ErrVersion when it asks for the version.
var (
	ErrHelp    = errors.New("config: help wanted")
	ErrVersion = errors.New("config: version wanted")
	// ErrUsage is returned, wrapped, when the command line cannot be read: an unknown flag, or a value that its flag cannot take.
	ErrUsage = errors.New("usage")
)

// envPrefix begins the name of every environment variable that is a setting.
const envPrefix = "ETCD_"

// Env is the name of the environment variable of a flag.
func Env(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// An entry is one setting as somebody wrote it; flag is the key of one that has no flag. from says where, for messages.
type entry struct{ flag, text, from string }

// catalog finds rows by the name of their flag, and what a YAML file alone can set.
type catalog struct {
	rows   map[string]Row
	olders map[string]older
	files  map[string]kind // by key
	order  []string
}

func newCatalog() *catalog {
	c := &catalog{rows: map[string]Row{}, olders: map[string]older{}, files: fileSettings()}
	for _, r := range Table() {
		c.rows[r.Flag] = r
		c.order = append(c.order, r.Flag)
		c.olders[experimental+r.Flag] = twin(r)
	}
	for _, o := range olders() {
		c.olders[o.flag] = o
	}
	return c
}

func (c *catalog) kind(flag string) (kind, bool) {
	if r, ok := c.rows[flag]; ok {
		return r.kind, true
	}
	if k, ok := c.files[flag]; ok {
		return k, true
	}
	o, ok := c.olders[flag]
	return o.kind, ok
}

// Parse reads the command line (without the program's name), or what it or the environment gives as --config-file, and the
// environment ("NAME=value" each). read answers the bytes of a file. The warnings are for the log, one line each.
// Parse touches nothing but what read does. It answers ErrHelp, ErrVersion, an error that wraps ErrUsage, or one that says what
// to change.
func Parse(args, environ []string, read func(path string) ([]byte, error)) (*Config, []string, error) {
	cat := newCatalog()
	flags, path, err := cat.commandLine(args)
	if err != nil {
		return nil, nil, err
	}
	vars := map[string]string{}
	for _, pair := range environ {
		if name, text, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, envPrefix) {
			vars[name] = text
		}
	}
	if path == "" {
		path = vars[Env(configFile)]
	}
	b := &builder{cat: cat, config: &Config{}, given: map[string]string{}}
	if path == "" {
		b.warnings = append(b.warnings, cat.shadowed(flags, vars)...)
		err = b.settle(append(cat.environment(vars), flags...), true)
	} else {
		err = b.file(path, read, len(flags) > 0)
	}
	if err != nil {
		return nil, b.warnings, err
	}
	return b.config, b.warnings, nil
}

const configFile = "config-file"

// commandLine reads flags by the rules of Go's flag package.
func (c *catalog) commandLine(args []string) (entries []entry, path string, err error) {
	set := flag.NewFlagSet("etcd", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	version := set.Bool("version", false, "")
	set.StringVar(&path, configFile, "", "")
	define := func(name string, k kind) {
		keep := func(text string) error {
			if err := k.set(&Config{}, text); err != nil {
				return err
			}
			entries = append(entries, entry{name, text, "--" + name})
			return nil
		}
		if k.switchLike {
			set.BoolFunc(name, "", keep)
		} else {
			set.Func(name, "", keep)
		}
	}
	for _, r := range c.rows {
		define(r.Flag, r.kind)
	}
	for _, o := range c.olders {
		define(o.flag, o.kind)
	}
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, "", ErrHelp
	case err != nil:
		return nil, "", fmt.Errorf("%w: %s", ErrUsage, c.explain(err))
	}
	if rest := set.Args(); len(rest) > 0 {
		return nil, "", fmt.Errorf("%q is not a valid flag: etcd takes flags alone, and a value that is true or false needs =, as in --pre-vote=false", rest[0])
	}
	if *version {
		return nil, "", ErrVersion
	}
	c.sortOlderFirst(entries)
	return entries, path, nil
}

// explain adds the nearest flag to the message about an unknown one.
func (c *catalog) explain(err error) string {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return err.Error()
	}
	return fmt.Sprintf("unknown flag --%s%s", name, c.hint("--", name))
}

// hint answers "; did you mean …?" where a setting has nearly that name, else where to read on.
func (c *catalog) hint(prefix, name string) string {
	best, far := "", min(3, len(name)/2)
	for _, flag := range c.order {
		if d := distance(name, flag); d < far {
			best, far = flag, d
		}
	}
	if best == "" {
		return "; etcd --help lists all"
	}
	return fmt.Sprintf("; did you mean %s%s?", prefix, best)
}

// distance counts the letters to add, drop or change to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// environment answers the variables that are settings. An empty one counts as unset.
func (c *catalog) environment(vars map[string]string) []entry {
	var entries []entry
	add := func(flag string) {
		if text := vars[Env(flag)]; text != "" {
			entries = append(entries, entry{flag, text, Env(flag)})
		}
	}
	for _, flag := range sortedKeys(c.olders) {
		add(flag)
	}
	for _, flag := range c.order {
		add(flag)
	}
	return entries
}

// sortOlderFirst puts older spellings before today's in entries of one source, so that today's name beats its older one.
func (c *catalog) sortOlderFirst(entries []entry) {
	rank := func(e entry) int {
		if _, today := c.rows[e.flag]; today {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return rank(a) - rank(b) })
}

// shadowed tells of variables that lose against a flag, and of those that are no setting.
func (c *catalog) shadowed(flags []entry, vars map[string]string) []string {
	var warnings []string
	for _, e := range flags {
		if vars[Env(e.flag)] != "" {
			warnings = append(warnings, fmt.Sprintf("%s is set too; the flag %s counts", Env(e.flag), e.from))
			delete(vars, Env(e.flag))
		}
	}
	known := map[string]bool{Env(configFile): true, "ETCD_UNSUPPORTED_ARCH": true}
	for flag := range c.rows {
		known[Env(flag)] = true
	}
	for flag := range c.olders {
		known[Env(flag)] = true
	}
	for _, name := range sortedKeys(vars) {
		if !known[name] {
			warnings = append(warnings, fmt.Sprintf("environment variable %s is no setting of etcd", name))
		}
	}
	return warnings
}
