package v2ctl

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// flags are the flags of one command, in the order of its help.
type flags struct {
	set  *flag.FlagSet
	rows []row
	help bool
}

// row is one flag in all its forms, such as recursive and r.
type row struct {
	names []string
	value string // what its value is called; "": it takes none
	text  string
}

func newFlags(declare func(*flags)) *flags {
	f := &flags{set: flag.NewFlagSet("", flag.ContinueOnError)}
	f.set.SetOutput(io.Discard) // errors are told by who asked to parse
	if declare != nil {
		declare(f)
	}
	// Every command has them, and no help of a command shows them.
	f.set.BoolVar(&f.help, "help", false, "")
	f.set.BoolVar(&f.help, "h", false, "")
	return f
}

// add declares a flag under each of its names ("recursive, r").
func (f *flags) add(names, value, text string, declare func(name string)) {
	r := row{names: strings.Split(names, ", "), value: value, text: text}
	for _, n := range r.names {
		declare(n)
	}
	f.rows = append(f.rows, r)
}

func (f *flags) boolean(p *bool, names, text string) {
	f.add(names, "", text, func(n string) { f.set.BoolVar(p, n, *p, text) })
}

func (f *flags) text(p *string, names, value, text string) {
	f.add(names, value, text, func(n string) { f.set.StringVar(p, n, *p, text) })
}

func (f *flags) number(p *int, names, value, text string) {
	f.add(names, value, text, func(n string) { f.set.IntVar(p, n, *p, text) })
}

func (f *flags) duration(p *time.Duration, names, value, text string) {
	f.add(names, value, text, func(n string) { f.set.DurationVar(p, n, *p, text) })
}

// words is a flag that may be given several times, a word each.
func (f *flags) words(p *[]string, names, value, text string) {
	f.add(names, value, text, func(n string) {
		f.set.Func(n, text, func(word string) error {
			*p = append(*p, strings.TrimSpace(word))
			return nil
		})
	})
}

// twoFormsError says that a flag was given by both its names.
type twoFormsError struct{ later, first string }

func (e twoFormsError) Error() string {
	return fmt.Sprintf("Cannot use two forms of the same flag: %s %s", e.later, e.first)
}

// parse reads the flags in front of words and leaves the others.
func (f *flags) parse(left *[]string, words []string) error {
	err := f.set.Parse(words)
	*left = f.set.Args()
	given := map[string]bool{}
	f.set.Visit(func(x *flag.Flag) { given[x.Name] = true })
	for _, r := range f.rows {
		names := slices.DeleteFunc(slices.Clone(r.names), func(n string) bool { return !given[n] })
		if len(names) > 1 {
			return twoFormsError{names[1], names[0]}
		}
	}
	return err
}

// flagsFirst gives the words in the order in which 3.4.23 of Debian reads them: the command's flags, each with the word
// behind it, then the arguments, with a "--" in front of them all where there is one among them. So `set key value --ttl 5`
// and `set key -- -value` work; a word that begins with - and is none of the command's flags counts as an argument
// unless it is the first.
func (f *flags) flagsFirst(words []string) []string {
	var first, rest []string
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "--":
			return slices.Concat(first, []string{"--"}, rest, words[i+1:])
		case !f.knows(w):
			rest = append(rest, w)
			continue
		}
		first = append(first, w)
		if next := i + 1; !strings.Contains(w, "=") && next < len(words) && !f.knows(words[next]) {
			first = append(first, words[next])
			i = next
		}
	}
	return append(first, rest...)
}

// knows tells whether a word is one of the flags, with one or two dashes.
func (f *flags) knows(word string) bool {
	name, dashed := strings.CutPrefix(word, "-")
	if !dashed {
		return false
	}
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
	return slices.ContainsFunc(f.rows, func(r row) bool { return slices.Contains(r.names, name) })
}
