package mvcc

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs testdata: a command a line in, what it answers out. A block is one transaction where it is "txn", and
// each of its lines is published where it is "do".
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		c := &script{f: newFile()}
		c.s = New(c.f, Options{})
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			if d.Cmd == "txn" {
				c.t = c.s.Begin()
			}
			for line := range strings.Lines(d.Input) {
				c.line(&out, strings.Fields(line))
			}
			if d.Cmd == "txn" {
				changes := c.t.End()
				c.t = nil
				c.f.add(changes)
				c.s.Publish()
				for i := range changes {
					fmt.Fprintf(&out, "%d.%d %s prev %s\n", changes[i].Rev.Main, changes[i].Rev.Sub, show(changes[i].KV), show(changes[i].Prev))
				}
			}
			fmt.Fprintf(&out, "revision %d, compacted %d, %d keys\n", c.s.Rev(), c.s.CompactRev(), c.s.View().Keys())
			return out.String()
		})
	})
}

type script struct {
	s *Store
	t *Txn
	f *file
}

func (c *script) line(out *strings.Builder, w []string) {
	switch w[0] {
	case "put", "delete", "range":
		c.keys(out, w)
	case "compact":
		n, _ := strconv.ParseInt(w[1], 10, 64)
		fmt.Fprintf(out, "%s: %v\n", w, c.s.Compact(n))
	case "prune":
		n, _ := strconv.Atoi(w[1])
		dead, more := c.s.Prune(c.s.CompactRev(), n)
		c.f.drop(dead)
		fmt.Fprintf(out, "dead %v, more %v\n", dead, more)
	case "evict":
		n, _ := strconv.ParseInt(w[1], 10, 64)
		c.s.Evict(n, n+1)
	case "load":
		scheduled, _ := strconv.ParseInt(w[1], 10, 64)
		finished, _ := strconv.ParseInt(w[2], 10, 64)
		if err := c.f.load(c.s, scheduled, finished); err != nil {
			fmt.Fprintln(out, err)
		}
	case "file":
		for _, r := range c.f.sorted() {
			fmt.Fprintf(out, "%d.%d %s tombstone=%v\n", r.rev.Main, r.rev.Sub, show(r.kv), r.tombstone)
		}
	}
	c.s.Publish()
}

// keys runs a command on keys: inside the open transaction, or in one of its own.
func (c *script) keys(out *strings.Builder, w []string) {
	t := c.t
	if t == nil {
		t = c.s.Begin()
		defer func() { c.f.add(t.End()); c.s.Publish() }()
	}
	switch w[0] {
	case "put":
		rev, prev := t.Put([]byte(w[1]), []byte(w[2]), 0)
		fmt.Fprintf(out, "%s: revision %d, prev %s\n", w, rev, show(prev))
	case "delete":
		n, _ := t.DeleteRange([]byte(w[1]), end(w[2:]))
		fmt.Fprintf(out, "%s: %d\n", w, n)
	case "range":
		o := options(w[1:])
		res, err := t.Range(o)
		if c.t == nil {
			res, err = c.s.View().Range(context.Background(), o)
		}
		fmt.Fprintf(out, "%s: count %d more %v rev %d err %v\n", w, res.Count, res.More, res.Rev, err)
		for _, kv := range res.KVs {
			fmt.Fprintf(out, "  %s\n", show(kv))
		}
	}
}

// end reads a range's end: absent, a key, or - for from the key on.
func end(w []string) []byte {
	switch {
	case len(w) == 0:
		return nil
	case w[0] == "-":
		return []byte{0}
	}
	return []byte(w[0])
}

func options(w []string) RangeOptions {
	o := RangeOptions{Key: []byte(w[0])}
	numbers := map[string]*int64{
		"rev": &o.Rev, "limit": &o.Limit, "min-mod": &o.MinMod, "max-mod": &o.MaxMod, "min-create": &o.MinCreate, "max-create": &o.MaxCreate,
	}
	targets := map[string]SortTarget{"key": ByKey, "version": ByVersion, "create": ByCreate, "mod": ByMod, "value": ByValue}
	for _, arg := range w[1:] {
		name, value, has := strings.Cut(arg, "=")
		switch {
		case !has && arg == "keys":
			o.KeysOnly = true
		case !has && arg == "count":
			o.CountOnly = true
		case !has:
			o.End = end([]string{arg})
		case numbers[name] != nil:
			*numbers[name], _ = strconv.ParseInt(value, 10, 64)
		case name == "by":
			o.Target = targets[value]
		case name == "order":
			o.Order = map[string]SortOrder{"up": SortAscend, "down": SortDescend}[value]
		}
	}
	return o
}

// show prints an encoded KeyValue as key=value and create/mod/version.
func show(raw []byte) string {
	if raw == nil {
		return "none"
	}
	kv := parse(raw)
	return fmt.Sprintf("%s=%s %d/%d/%d", kv.Key, kv.Value, kv.Create, kv.Mod, kv.Version)
}
