package output

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The layouts themselves are compared with etcdctl's by the golden files of the command.

func TestRefuse(t *testing.T) {
	answers := map[string]any{
		"put":    (*clientv3.PutResponse)(nil),
		"revoke": (*Revoked)(nil),
		"member": (*clientv3.MemberListResponse)(nil),
		"health": []Health(nil),
		"status": []Status(nil),
		"hash":   []HashKV(nil),
	}
	refused := map[string]string{ // by format, names in the order above
		"simple": "", "fields": "", "json": "",
		"protobuf": "revoke health status hash",
		"table":    "put revoke",
	}
	for format, names := range refused {
		p, err := New(Options{Format: format}, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		for name, answer := range answers {
			want := strings.Contains(names, name)
			if got := p.Refuse(answer) != nil; got != want {
				t.Errorf("%s %s: refused %v, want %v", format, name, got, want)
			}
		}
	}
	if _, err := New(Options{Format: "yaml"}, io.Discard, io.Discard); !errors.Is(err, ErrFormat) {
		t.Errorf("yaml: %v", err)
	}
}

func TestUnknownAnswerIsAnError(t *testing.T) {
	for _, format := range []string{"simple", "fields", "protobuf", "table"} {
		p, err := New(Options{Format: format}, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		var u *UnsupportedError
		if err := p.Print(42); !errors.As(err, &u) {
			t.Errorf("%s: %v", format, err)
		}
	}
}

type brokenWriter struct{}

var errBroken = errors.New("disk full")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestWriteErrorsAreReturned(t *testing.T) {
	answer := &clientv3.MemberListResponse{Header: &pb.ResponseHeader{}, Members: []*pb.Member{{ID: 1, Name: "m"}}}
	for _, format := range []string{"simple", "fields", "json", "protobuf", "table"} {
		p, err := New(Options{Format: format}, brokenWriter{}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Print(answer); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", format, err)
		}
	}
}

func TestUnhealthyEndpointsGoToDiag(t *testing.T) {
	var out, diag bytes.Buffer
	p, err := New(Options{Format: "simple"}, &out, &diag)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Print([]Health{{Endpoint: "a", Healthy: true, Took: "1ms"}, {Endpoint: "b", Error: "late"}}); err != nil {
		t.Fatal(err)
	}
	if out.String() != "a is healthy: successfully committed proposal: took = 1ms\n" || diag.String() != "b is unhealthy: failed to commit proposal: late\n" {
		t.Errorf("%q %q", &out, &diag)
	}
}

func TestEmptyDatabaseHasNothingUnused(t *testing.T) {
	if percentUnused(0, 0) != 0 || percentUnused(300, 100) != 67 || percentUnused(100, 100) != 0 {
		t.Error("wrong share")
	}
}
