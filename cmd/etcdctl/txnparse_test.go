package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func quietApp(args ...string) *app {
	return &app{args: args, in: strings.NewReader(""), out: io.Discard, diag: io.Discard, wait: func(time.Duration) {}}
}

func TestParseCompare(t *testing.T) {
	key := []byte("a key")
	for line, want := range map[string]*pb.Compare{
		`val("a key") = "x"`:       {Target: pb.Compare_VALUE, Key: key, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_Value{Value: []byte("x")}},
		`value("a key") != "\x00"`: {Target: pb.Compare_VALUE, Key: key, Result: pb.Compare_NOT_EQUAL, TargetUnion: &pb.Compare_Value{Value: []byte{0}}},
		`ver("a key") > "1"`:       {Target: pb.Compare_VERSION, Key: key, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: 1}},
		`version("a key")<"2"`:     {Target: pb.Compare_VERSION, Key: key, Result: pb.Compare_LESS, TargetUnion: &pb.Compare_Version{Version: 2}},
		`c("a key") = "3"`:         {Target: pb.Compare_CREATE, Key: key, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 3}},
		`create("a key") = "-3"`:   {Target: pb.Compare_CREATE, Key: key, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: -3}},
		"m(`a key`) = \"4\"":       {Target: pb.Compare_MOD, Key: key, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: 4}},
		`mod("a key") = "5"`:       {Target: pb.Compare_MOD, Key: key, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: 5}},
		`lease("a key") = "1f"`:    {Target: pb.Compare_LEASE, Key: key, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_Lease{Lease: 0x1f}},
	} {
		got, err := parseCompare(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if c := got.GetCompare(); !proto.Equal(c, want) {
			t.Errorf("%s: %v, want %v", line, c, want)
		}
	}
}

func TestParseCompareRefuses(t *testing.T) {
	for line, want := range map[string]string{
		`100%d`:                             `malformed comparison: 100%d`,
		``:                                  `malformed comparison: `,
		`val`:                               `malformed comparison: val`,
		`val("a") = 1`:                      `malformed comparison: val("a") = 1; got val("a") = ""`,
		`val("a) = "1"`:                     `malformed comparison: val("a) = "1"; got val("a) = ")  ""`,
		`val("a") <= "1"`:                   `malformed comparison: val("a") <= "1"; got val("a")  ""`,
		`val("a") == "1"`:                   `malformed comparison: val("a") == "1"; got val("a")  ""`,
		`val("a") = "1" and so`:             `malformed comparison: val("a") = "1" and so; got val("a") = "1"`,
		`size("a") = "1"`:                   `malformed comparison: size("a") = "1" (unknown target size)`,
		`mod("a") = "x"`:                    `invalid txn compare request: mod("a") = "x"`,
		`lease("a") = "lease"`:              `invalid txn compare request: lease("a") = "lease"`,
		`ver("a") = "99999999999999999999"`: `invalid txn compare request: ver("a") = "99999999999999999999"`,
	} {
		_, err := parseCompare(line)
		var e *exitError
		if !errors.As(err, &e) || e.status != statusInvalidInput {
			t.Errorf("%s: %v, want exit status %d", line, err, statusInvalidInput)
			continue
		}
		if e.Error() != want {
			t.Errorf("%s: %q, want %q", line, e, want)
		}
	}
}

func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		``:                          nil,
		`put a b`:                   {"put", "a", "b"},
		"  put\ta  b  ":             {"put", "a", "b"},
		`put "a b" 'c "d"'`:         {"put", "a b", `c "d"`},
		`put "\x41\n\"" ''`:         {"put", "A\n\"", ""},
		`put it's fo"o`:             {"put", "it's", `fo"o`},
		`"a""b"`:                    {"a", "b"},
		`get --prefix "" --limit=5`: {"get", "--prefix", "", "--limit=5"},
	} {
		got, err := splitWords(line)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`put "a`, `put 'a`, `put "\q"`} {
		if got, err := splitWords(line); err == nil {
			t.Errorf("%s: %q, want an error", line, got)
		}
	}
}

func TestParseRequest(t *testing.T) {
	a := quietApp()
	op, err := a.parseRequest(`put --prev-kv "k 1" --lease=1f v`)
	if err != nil || !op.IsPut() || string(op.KeyBytes()) != "k 1" || string(op.ValueBytes()) != "v" {
		t.Errorf("put: %+v, %v", op, err)
	}
	op, err = a.parseRequest(`get a --prefix --rev 7`)
	if err != nil || !op.IsGet() || string(op.RangeBytes()) != "b" || op.Rev() != 7 {
		t.Errorf("get: %+v, %v", op, err)
	}
	op, err = a.parseRequest(`del "" --from-key`)
	if err != nil || !op.IsDelete() || string(op.KeyBytes()) != "\x00" || string(op.RangeBytes()) != "\x00" {
		t.Errorf("del: %+v, %v", op, err)
	}
	for line, status := range map[string]int{
		`put`: statusInvalidInput, `put a`: statusBadArgs, `move a b`: statusInvalidInput, `get a --no-such-flag`: statusInvalidInput,
		`get a --order UP`: statusBadFeature, `del a b c`: statusBadArgs, `put "a b`: statusInvalidInput,
	} {
		_, err := a.parseRequest(line)
		var e *exitError
		if !errors.As(err, &e) || e.status != status {
			t.Errorf("%s: %v, want exit status %d", line, err, status)
		}
	}
}

func TestTransactionIsSentWhole(t *testing.T) {
	f := startFake(t, false)
	stdin := "ver(\"k\") = \"0\"\n\nput k 1\nput l 2\n\nget k\n\n"
	status, out, diag := runProgram([]string{"--endpoints=http://" + f.addr, "txn", "-i"}, stdin, nil)
	if status != 0 || !strings.HasPrefix(out, "compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\nSUCCESS\n") {
		t.Errorf("exit %d, %s%s", status, out, diag)
	}
	if f.txn == nil || len(f.txn.Compare) != 1 || len(f.txn.Success) != 2 || len(f.txn.Failure) != 1 {
		t.Errorf("sent %v", f.txn)
	}
}

func FuzzTransaction(f *testing.F) {
	f.Add(`val("a") = "b"`)
	f.Add(`put "a b" 'c' --lease=7`)
	f.Add(`lease("\x00") < "ff"`)
	f.Add(`get "" --prefix --order DESCEND`)
	f.Fuzz(func(t *testing.T, line string) {
		a := quietApp()
		if _, err := parseCompare(line); err != nil && !errors.As(err, new(*exitError)) {
			t.Errorf("compare: %T %v", err, err)
		}
		if _, err := a.parseRequest(line); err != nil && !errors.As(err, new(*exitError)) {
			t.Errorf("request: %T %v", err, err)
		}
	})
}
