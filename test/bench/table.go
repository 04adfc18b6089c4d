package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A result is one run: a line of bench.jsonl.
type result struct {
	Time   time.Time `json:"time"`
	Commit string    `json:"commit,omitempty"` // that the generator was built from
	CPUs   int       `json:"cpus"`
	Work   string    `json:"work"`
	Server string    `json:"server"`
	Round  int       `json:"round"`
	measure
}

// results are kept in the order in which they came.
type results struct{ all []result }

func (r *results) add(x result) { r.all = append(r.all, x) }

// appendTo adds one line to a file.
func (x result) appendTo(path string) error {
	line, err := json.Marshal(x)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(append(line, '\n'))
	return err
}

// of gives the rounds of one work on one server.
func (r *results) of(work, server string) []measure {
	var out []measure
	for _, x := range r.all {
		if x.Work == work && x.Server == server {
			out = append(out, x.measure)
		}
	}
	return out
}

// medianOf takes the median of every figure apart.
func medianOf(rounds []measure) measure {
	var m measure
	if len(rounds) == 0 {
		return m
	}
	median := func(get func(measure) float64) float64 {
		var v []float64
		for _, x := range rounds {
			v = append(v, get(x))
		}
		return spreadOf(v).median
	}
	m.Ops = int(median(func(x measure) float64 { return float64(x.Ops) }))
	m.Seconds = median(func(x measure) float64 { return x.Seconds })
	m.Rate = median(func(x measure) float64 { return x.Rate })
	m.P50, m.P99 = median(func(x measure) float64 { return x.P50 }), median(func(x measure) float64 { return x.P99 })
	m.Max = median(func(x measure) float64 { return x.Max })
	m.CPU, m.LoadCPU = median(func(x measure) float64 { return x.CPU }), median(func(x measure) float64 { return x.LoadCPU })
	m.Syncs = median(func(x measure) float64 { return x.Syncs })
	m.Anon, m.File = median(func(x measure) float64 { return x.Anon }), median(func(x measure) float64 { return x.File })
	m.Extra = map[string]float64{}
	for name := range rounds[0].Extra {
		m.Extra[name] = median(func(x measure) float64 { return x.Extra[name] })
	}
	for _, x := range rounds {
		m.Errors += x.Errors
	}
	return m
}

// print writes a table: the median of each server's rounds, and ratios to etcd.
func (r *results) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "work\tserver\trate/s\tlow–high\tp50 ms\tp99 ms\tCPU µs/op\tload µs/op\tsyncs/op\tanon MiB\tfile MiB\terrors\t")
	var works []string
	for _, x := range r.all {
		if !slices.Contains(works, x.Work) {
			works = append(works, x.Work)
		}
	}
	for _, work := range works {
		for _, server := range []string{keelson, peer, floorStock, floorOurs} {
			if rounds := r.of(work, server); len(rounds) > 0 {
				row(t, work, server, rounds)
			}
		}
		ours, theirs := medianOf(r.of(work, keelson)), medianOf(r.of(work, peer))
		if ours.Ops > 0 && theirs.Ops > 0 {
			fmt.Fprintf(t, "\tkeelson to etcd\t%.2f×\t\t%.2f×\t%.2f×\t%.2f×\t\t%.2f×\t%.2f×\t\t\t\n", ratio(ours.Rate, theirs.Rate), ratio(ours.P50, theirs.P50),
				ratio(ours.P99, theirs.P99), ratio(ours.CPU, theirs.CPU),
				ratio(ratio(ours.Syncs, float64(ours.Ops)), ratio(theirs.Syncs, float64(theirs.Ops))), ratio(ours.Anon, theirs.Anon))
		}
	}
	_ = t.Flush() // to a terminal or a buffer
	for _, work := range works {
		for _, server := range []string{keelson, peer} {
			if m := medianOf(r.of(work, server)); len(m.Extra) > 0 {
				fmt.Fprintf(w, "%s, %s: %s\n", work, server, extras(m.Extra))
			}
		}
	}
}

func row(w io.Writer, work, server string, rounds []measure) {
	m := medianOf(rounds)
	var rates []float64
	for _, x := range rounds {
		rates = append(rates, x.Rate)
	}
	s := spreadOf(rates)
	fmt.Fprintf(w, "%s\t%s\t%.0f\t%.0f–%.0f\t%.2f\t%.2f\t%.1f\t%.1f\t%.3f\t%.0f\t%.0f\t%d\t\n", work, server, m.Rate, s.low, s.high,
		m.P50, m.P99, m.CPU, m.LoadCPU, ratio(m.Syncs, float64(m.Ops)), m.Anon, m.File, m.Errors)
}

func extras(e map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(e)) {
		parts = append(parts, fmt.Sprintf("%s %.2f", name, e[name]))
	}
	return strings.Join(parts, ", ")
}
