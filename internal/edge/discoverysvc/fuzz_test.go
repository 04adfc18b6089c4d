package discoverysvc

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"keelson/internal/kit/clock"
	"keelson/internal/state/v2tree"
)

const someToken = "0123456789abcdef0123456789abcdef"

// Whatever a path is, what it names is in its token's directory, by one spelling alone.
func FuzzPath(f *testing.F) {
	for _, x := range []string{
		"/" + someToken, "/" + someToken + "/", "/" + someToken + "/_config/size", "/" + someToken + "/8e9e05c52164694d", "/" + someToken + "/../x",
		"/" + someToken + "/%2e%2e/x", "/" + someToken + "/a%2fb", "//" + someToken, "/" + someToken + "//", "/" + someToken + "/.", "/" + someToken + "/a/", "", "x",
		"/" + someToken + "/_x", "/" + someToken + "/a\x00", "/" + someToken + "0",
	} {
		f.Add(x)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.ParseRequestURI(text)
		if err != nil {
			return
		}
		at, ok := parsePath(u)
		if !ok {
			return
		}
		dir := "/" + at.token
		if !isToken(at.token) || at.clean != dir && !strings.HasPrefix(at.clean, dir+"/") || v2tree.Clean(at.clean) != at.clean || strings.TrimSuffix(u.Path, "/") != at.clean {
			t.Errorf("%q: %+v", text, at)
		}
		if at.member != (at.clean != dir && !strings.Contains(at.clean, "/_")) || at.member && strings.Count(at.clean, "/") != 2 {
			t.Errorf("%q: %+v", text, at)
		}
		if back, ok := v2tree.Prefix(DefaultPrefix).Path(v2tree.Prefix(DefaultPrefix).Node(at.clean)); !ok || back != at.clean {
			t.Errorf("%q: its key is read as %q", text, back)
		}
	})
}

// witness is a cluster with one token, which sees to it that no key of another is asked for.
type witness struct {
	unreachable
	t       *testing.T
	allowed string
	entries []*pb.RequestOp
}

func (w *witness) in(key []byte) {
	if k := string(key); k != w.allowed && !strings.HasPrefix(k, w.allowed+"/") {
		w.t.Errorf("key %q is none of %q", k, w.allowed)
	}
}

func (w *witness) Range(_ context.Context, r *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 7, ClusterId: 1}}
	if r.CountOnly {
		return resp, nil
	}
	if string(r.Key) != w.allowed || string(r.RangeEnd) != w.allowed+"0" {
		w.t.Errorf("keys from %q to %q are read", r.Key, r.RangeEnd)
	}
	for _, op := range w.entries {
		put := op.GetRequestPut()
		resp.Kvs = append(resp.Kvs, keyValue(put))
	}
	return resp, nil
}

func (w *witness) Txn(_ context.Context, r *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	if len(r.Success) != 1 || len(r.Failure) != 0 {
		w.t.Errorf("more than one key is written: %v", r)
	}
	for _, op := range r.Success {
		put := op.GetRequestPut()
		w.in(put.GetKey())
		if put.GetLease() != 99 || len(put.GetValue()) > valueBytesMax+64 || strings.Contains(string(put.GetKey())[len(w.allowed):], "/_") {
			w.t.Errorf("%v is written", put)
		}
	}
	return &pb.TxnResponse{Succeeded: true, Header: &pb.ResponseHeader{Revision: 8}}, nil
}

// Whatever a request is, it reads one token whole at most, and writes one member of that token at most.
func FuzzRequest(f *testing.F) {
	for _, x := range []struct{ method, target, form string }{
		{"GET", "/" + someToken, ""}, {"PUT", "/" + someToken + "/m?prevExist=false", "value=m"}, {"PUT", "/" + someToken + "/_config/size", "value=9"},
		{"GET", "/" + someToken + "/_config/size?recursive=true", ""}, {"GET", "/" + someToken + "?wait=true&waitIndex=1", ""}, {"DELETE", "/" + someToken, ""},
		{"PUT", "/" + someToken + "/../../x", "value=m"}, {"GET", "/?token=" + someToken, ""}, {"PUT", "/" + someToken + "/a%2f..%2fb", "value=%zz"},
	} {
		f.Add(x.method, x.target, x.form)
	}
	f.Fuzz(func(t *testing.T, method, target, form string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Path == newPath || u.Path == "/health" {
			return
		}
		o := Options{Advertise: "http://x", Prefix: DefaultPrefix, TokensMax: 1, Rate: plenty, Timeout: patience, Clock: clock.System, Logger: zap.NewNop()}
		w := &witness{t: t, allowed: "/_discovery/keys/" + someToken}
		s := build(Store{KV: w}, o)
		w.entries = s.tokens.birth(someToken, 3, 99).Success
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nobody waits here
		if at, ok := parsePath(u); ok && at.token != someToken {
			w.allowed = "/_discovery/keys/" + at.token
			w.entries = nil
		}
		r := &http.Request{Method: method, URL: u, RequestURI: target, RemoteAddr: "192.0.2.1:1", Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}
		r.Body = http.NoBody
		if form != "" {
			r.Body = readCloser{strings.NewReader(form)}
		}
		if u.Query().Has("wait") {
			r = r.WithContext(ctx)
		}
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, r)
		if answer.Code >= 500 && answer.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
	})
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func keyValue(put *pb.PutRequest) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: put.Key, Value: put.Value, Lease: put.Lease, ModRevision: 5, CreateRevision: 5}
}
