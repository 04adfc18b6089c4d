// Package output lays out the answers of a cluster for etcdctl: one file for each value of --write-out.
//
// The bytes are an interface: scripts parse them. Every layout equals that of etcdctl 3.7.3; the golden files
// under testdata hold what that program printed for the same answers.
package output

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrFormat is returned when --write-out names no format.
var ErrFormat = errors.New("unsupported output format")

// UnsupportedError is returned when a format has no layout for an answer.
type UnsupportedError struct {
	Text string // what etcdctl prints for it
}

// Error gives etcd's text, which scripts match.
func (e *UnsupportedError) Error() string { return e.Text }

// Options choose the layout.
type Options struct {
	Format    string // "simple", "fields", "json", "protobuf" or "table"
	Hex       bool   // --hex: byte strings and, in some layouts, IDs in hexadecimal
	ValueOnly bool   // --print-value-only: simple prints a key's value without the key
}

// Revoked is the answer of a lease revoke, with the ID that was asked for: the answer itself has none.
type Revoked struct {
	ID clientv3.LeaseID
	*clientv3.LeaseRevokeResponse
}

// Downgrade is the answer of a step of a downgrade: validate, enable or cancel.
type Downgrade struct {
	Step string
	*clientv3.DowngradeResponse
}

// Remaining is the answer of a lease timetolive.
type Remaining struct {
	*clientv3.LeaseTimeToLiveResponse
	WithKeys bool // the attached keys were asked for
}

// Health says whether one endpoint commits.
type Health struct {
	Endpoint string `json:"endpoint"`
	Healthy  bool   `json:"health"`
	Took     string `json:"took"`
	Error    string `json:"error,omitempty"`
}

// Status is one endpoint's answer to Status.
type Status struct {
	Endpoint string                   `json:"Endpoint"`
	Response *clientv3.StatusResponse `json:"Status"`
}

// HashKV is one endpoint's answer to HashKV.
type HashKV struct {
	Endpoint string                   `json:"Endpoint"`
	Response *clientv3.HashKVResponse `json:"HashKV"`
}

// layout is one output format.
type layout interface {
	// lay writes the answer; w keeps the first write error.
	lay(w *bufio.Writer, answer any) error
	// refuse tells why the format has no layout for answers of this type, nil where it has. The answer may be a nil pointer.
	refuse(answer any) error
}

// Printer prints answers in one format. It is safe for several goroutines: an answer is never cut by another.
type Printer struct {
	layout layout

	mu  sync.Mutex    // guards out
	out *bufio.Writer // flushed after every answer
}

// New gives the printer for o. Answers go to out, complaints about unhealthy endpoints (simple only) to diag.
func New(o Options, out, diag io.Writer) (*Printer, error) {
	p := &Printer{out: bufio.NewWriter(out)}
	switch o.Format {
	case "simple":
		p.layout = &simple{hex: o.Hex, valueOnly: o.ValueOnly, diag: diag}
	case "fields":
		p.layout = &fields{hex: o.Hex}
	case "json":
		p.layout = &jsonLayout{hex: o.Hex}
	case "protobuf":
		p.layout = protobuf{}
	case "table":
		p.layout = table{}
	default:
		return nil, ErrFormat
	}
	return p, nil
}

// Refuse gives an *UnsupportedError where answers of this type cannot be printed, so that a verb can stop before it
// changes anything. The answer's value is not looked at: a nil pointer of the type does.
func (p *Printer) Refuse(answer any) error { return p.layout.refuse(answer) }

// Print writes one answer and flushes it. The answer is one of clientv3's responses or a type of this package.
func (p *Printer) Print(answer any) error {
	if err := p.layout.refuse(answer); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.layout.lay(p.out, answer); err != nil {
		return err
	}
	return p.out.Flush()
}

// Line writes one line of text between answers, such as the prompts of an interactive transaction.
func (p *Printer) Line(text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.out, text)
	return p.out.Flush()
}

func unsupported(format string) error {
	return &UnsupportedError{Text: format + " not supported as output format"}
}
