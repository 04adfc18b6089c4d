package compat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"keelson/test/process"
)

// jsonPath is where a method is called as JSON, by etcd's own .proto; ours for the one that etcd serves by gRPC alone.
func jsonPath(t testing.TB, full string) string {
	t.Helper()
	d := descriptor(t, full)
	if rule, ok := proto.GetExtension(d.Options(), annotations.E_Http).(*annotations.HttpRule); ok && rule.GetPost() != "" {
		return rule.GetPost()
	}
	switch service := d.Parent().Name(); service {
	case "Lock", "Election":
		return "/v3/" + strings.ToLower(string(service+"/"+d.Name()))
	}
	if full == pb.KV_RangeStream_FullMethodName {
		return "/v3/kv/rangestream"
	}
	t.Fatalf("%s has no path", full)
	return ""
}

// errNamed is what comes of a certificate with a name, whoever's: no call.
var errNamed = status.Error(codes.InvalidArgument, "CommonName of client sending a request against gateway will be ignored and not used as expected")

// overHTTP makes one call as JSON. What etcd serves by gRPC alone is asked by gRPC there.
func (r *realm) overHTTP(cert, token, full string, req proto.Message) answer {
	if full == pb.KV_RangeStream_FullMethodName && r.m.Program.Name != "keelson" {
		switch cert {
		case "", "blank":
			return r.send("", token, full, req) // the gateway's calls have no certificate
		case "revoked":
			return r.send(cert, token, full, req)
		}
		return answer{err: errNamed}
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), callTime)
	defer cancel()
	scheme, address := r.place(cert, "http")
	ask, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+address+jsonPath(r.t, full), bytes.NewReader(asJSON(r.t, req)))
	if err != nil {
		r.t.Fatal(err)
	}
	// curl sends this. etcd takes it for the sign of its gateway: without it, a caller may be whom the server's own certificate names.
	ask.Header.Set("Accept", "*/*")
	if token != "" {
		ask.Header.Set("Authorization", token)
	}
	a, err := r.client(cert).Do(ask)
	if err != nil {
		return answer{err: status.Error(codes.Unavailable, err.Error())}
	}
	defer a.Body.Close()
	if a.StatusCode == http.StatusBadRequest && a.Header.Get("Content-Type") != "application/json" {
		text, _ := io.ReadAll(a.Body)
		return answer{err: status.Error(codes.InvalidArgument, strings.TrimSpace(string(text)))}
	}
	in := json.NewDecoder(a.Body)
	return r.fromJSON(full, func() (raw json.RawMessage, err error) {
		err = in.Decode(&raw)
		return raw, err
	})
}

// plainGateway tells whether etcd's gateway calls over the plain port. It takes whichever of a server's ports comes first out of a
// map; over TLS a caller by WebSocket, who can't send what it looks for, is whom the server's certificate names, and not nobody.
func (r *realm) plainGateway() bool {
	a := r.overSocket("", "", pb.Lease_LeaseKeepAlive_FullMethodName, &pb.LeaseKeepAliveRequest{ID: 404})
	return status.Code(a.err) == codes.InvalidArgument // the user name is empty
}

// client is one for a certificate, whose connections are kept.
func (r *realm) client(cert string) *http.Client {
	if c := r.clients[cert]; c != nil {
		return c
	}
	t := &http.Transport{ForceAttemptHTTP2: true} // behind TLS: there the server has to look for the certificate elsewhere
	if cert != "" {
		t.TLSClientConfig = r.certs[cert].Clone()
	}
	r.t.Cleanup(t.CloseIdleConnections)
	if r.clients == nil {
		r.clients = map[string]*http.Client{}
	}
	r.clients[cert] = &http.Client{Transport: t}
	return r.clients[cert]
}

// place is the scheme and the address for a certificate, or for none.
func (r *realm) place(cert, scheme string) (string, string) {
	if cert == "" {
		return scheme + "://", r.m.ClientAddr
	}
	return scheme + "s://", r.tls
}

func asJSON(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// overSocket makes one call by WebSocket.
func (r *realm) overSocket(cert, token, full string, req proto.Message) answer {
	ctx, cancel := context.WithTimeout(r.t.Context(), callTime)
	defer cancel()
	d := &websocket.Dialer{}
	if cert != "" {
		d.TLSClientConfig = r.certs[cert].Clone()
	}
	h := http.Header{}
	if token != "" {
		h.Set("Sec-WebSocket-Protocol", "Bearer, "+token)
	}
	scheme, address := r.place(cert, "ws")
	c, a, err := d.DialContext(ctx, scheme+address+jsonPath(r.t, full), h)
	if a != nil {
		defer a.Body.Close()
	}
	if errors.Is(err, websocket.ErrBadHandshake) {
		text, _ := io.ReadAll(a.Body)
		return answer{err: status.Error(codes.InvalidArgument, strings.TrimSpace(string(text)))}
	}
	if err != nil {
		return answer{err: status.Error(codes.Unavailable, err.Error())}
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = c.SetReadDeadline(end) // the connection is new
	}
	if err := c.WriteMessage(websocket.TextMessage, asJSON(r.t, req)); err != nil {
		return answer{err: err}
	}
	return r.fromJSON(full, func() (json.RawMessage, error) {
		_, raw, err := c.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			err = io.EOF
		}
		return raw, err
	})
}

// fromJSON makes the answer of a method out of the JSON of its first messages.
func (r *realm) fromJSON(full string, next func() (json.RawMessage, error)) answer {
	d := descriptor(r.t, full)
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.Output().FullName())
	if err != nil {
		r.t.Fatal(err)
	}
	resp := kind.New().Interface()
	for n := 0; ; n++ {
		raw, err := next()
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			return answer{msg: resp, err: status.Error(codes.Unknown, endedSilently)}
		case errors.Is(err, io.EOF):
			return answer{msg: resp}
		case err != nil:
			return answer{err: err}
		}
		part := kind.New().Interface()
		if err := fill(d, raw, part); err != nil {
			return answer{msg: resp, err: err}
		}
		if proto.Merge(resp, part); full != pb.KV_RangeStream_FullMethodName {
			return answer{msg: resp}
		}
	}
}

// fill decodes one message of an answer, or the error that it is.
func fill(d protoreflect.MethodDescriptor, raw []byte, to proto.Message) error {
	var outer struct {
		Result json.RawMessage
		Error  *jsonStatus
		jsonStatus
	}
	if err := json.Unmarshal(raw, &outer); err != nil {
		return fmt.Errorf("%s: %w", raw, err)
	}
	switch {
	case outer.Error != nil:
		return status.Error(outer.Error.Code, outer.Error.Message)
	case outer.Code != codes.OK:
		return status.Error(outer.Code, outer.Message)
	case d.IsStreamingServer():
		raw = outer.Result
	}
	return protojson.Unmarshal(raw, to)
}

// jsonStatus is an error as the gateway writes it.
type jsonStatus struct {
	Code    codes.Code
	Message string
}

// some are identities by their names.
func some(names ...string) []identity {
	return slices.DeleteFunc(identities(), func(i identity) bool { return !slices.Contains(names, i.name) })
}

// Whoever calls by JSON, and whatever: Keelson and etcd 3.7.3 answer with the same code and text, and change the same. By
// WebSocket Keelson answers as it does by HTTP; etcd answers streams alone there.
func TestIdentitiesByJSON(t *testing.T) {
	t.Parallel()
	who := some("nobody", "a certificate without a name", "a reader", "a writer of another range", "root", "a forged token", "a revoked certificate", "a certificate of a reader", "a certificate of root and a reader's token")
	few := some("nobody", "a reader", "root", "a certificate of a reader")
	bothWays := func(x row) bool { return descriptor(t, x.method).IsStreamingClient() }
	// byHTTP, bySocket and streams are what came of it, there and here.
	type walks struct{ byHTTP, bySocket, streams []cell }
	walk := func(t *testing.T, p process.Program) (w walks) {
		r := newRealm(t, p, simpleTokens)
		for p.Name != "keelson" && !r.plainGateway() {
			r = newRealm(t, p, simpleTokens)
		}
		r.way = r.overHTTP
		w.byHTTP = r.walk(who)
		if r.way = r.overSocket; p.Name == "keelson" {
			w.bySocket = r.walk(few)
		}
		r.only = bothWays
		w.streams = r.walk(few)
		return w
	}
	var there, here walks
	t.Run("walks", func(t *testing.T) {
		t.Run("etcd", func(t *testing.T) { t.Parallel(); there = walk(t, stock(t, "etcd37")) })
		t.Run("keelson", func(t *testing.T) { t.Parallel(); here = walk(t, ours(t)) })
	})
	if t.Failed() || here.byHTTP == nil {
		return
	}
	of := func(c cell) bool {
		return !slices.ContainsFunc(few, func(i identity) bool { return i.name == c.identity })
	}
	differ := parted(t, here.byHTTP, there.byHTTP)
	differ = append(differ, parted(t, here.bySocket, slices.DeleteFunc(slices.Clone(there.byHTTP), of))...)
	differ = append(differ, parted(t, here.streams, there.streams)...)
	t.Logf("%d cells by HTTP, %d by WebSocket, %d of streams by WebSocket of both; %d differ", len(here.byHTTP), len(here.bySocket), len(here.streams), len(differ))
	for _, d := range differ[:min(len(differ), shownCells)] {
		t.Error(d)
	}
}
