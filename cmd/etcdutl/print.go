package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"

	"keelson/internal/offline"
)

// answer is what a verb prints: the same facts for each format. Names and bytes are etcd's, since scripts parse them.
type answer struct {
	value  any      // for json
	head   []string // of a table
	row    []string // of a table, and of the line that simple prints
	fields []field
}

type field struct {
	name  string
	value any
}

func statusAnswer(s offline.Status) answer {
	return answer{
		value: s,
		head:  []string{"hash", "revision", "total keys", "total size", "version"},
		row: []string{
			strconv.FormatUint(uint64(s.Hash), 16), strconv.FormatInt(s.Revision, 10), strconv.Itoa(s.TotalKey),
			humanize.Bytes(uint64(s.TotalSize)), s.Version,
		},
		fields: []field{{"Hash", s.Hash}, {"Revision", s.Revision}, {"Keys", s.TotalKey}, {"Size", s.TotalSize}, {"Version", s.Version}},
	}
}

func hashAnswer(h offline.HashKV) answer {
	return answer{
		value: h,
		head:  []string{"hash", "hash revision", "compact revision"},
		row: []string{
			strconv.FormatUint(uint64(h.Hash), 10), strconv.FormatInt(h.HashRevision, 10), strconv.FormatInt(h.CompactRevision, 10),
		},
		fields: []field{{"Hash", h.Hash}, {"Hash revision", h.HashRevision}, {"Compact revision", h.CompactRevision}},
	}
}

// checkFormat refuses a --write-out that has no layout, before anything is read.
func (a *app) checkFormat() error {
	switch a.set.format {
	case "simple", "table", "json", "fields":
		return nil
	case "protobuf":
		return fail(statusBadFeature, "protobuf not supported as output format")
	}
	return fail(statusBadFeature, "unsupported output format")
}

// print writes an answer in the format that checkFormat has taken.
func (a *app) print(r answer) error {
	var err error
	switch a.set.format {
	case "simple":
		_, err = fmt.Fprintln(a.out, strings.Join(r.row, ", "))
	case "fields":
		for _, f := range r.fields {
			if _, err = fmt.Fprintf(a.out, "%q : %v\n", f.name, f.value); err != nil {
				break
			}
		}
	case "json":
		err = json.NewEncoder(a.out).Encode(r.value)
	case "table":
		err = draw(a.out, r)
	}
	if err != nil {
		return fail(statusIO, "write the answer: %w", err)
	}
	return nil
}

func draw(w io.Writer, r answer) error {
	config := tablewriter.NewConfigBuilder().WithRowAlignment(tw.AlignRight).Build()
	t := tablewriter.NewTable(w, tablewriter.WithConfig(config))
	t.Header(r.head)
	if err := t.Append(r.row); err != nil {
		return err
	}
	return t.Render()
}
