package jsonapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"

	"keelson/internal/kit/wire"
)

// Put and range have a way of their own: the generated handlers would decode JSON by reflection, make a message of protobuf out of
// the member's answer, and JSON of that, again by reflection. Here a plain body is decoded by hand (decode.go), the answer is
// written straight from what the member made (encode.go), and both buffers are used again. A put of 256 bytes costs a third less
// CPU so, a get less than half, a list of 500 keys a seventh. What the decoder does not know, the generated handlers get: bodies
// with unusual fields, and broken ones with their errors.

// The paths of this way.
const (
	putPath   = "/v3/kv/put"
	rangePath = "/v3/kv/range"
)

// hotBodyMax is the largest body of this way. It gets a buffer before it has come, so it is one that is kept for the next; a larger
// body's grows with what comes.
const hotBodyMax = pooledMax

// hot serves a request, or answers false and leaves it whole.
func (e *Edge) hot(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPost || r.ContentLength <= 0 || r.ContentLength > hotBodyMax {
		return false
	}
	put := r.URL.Path == putPath
	if !put && r.URL.Path != rangePath || asksForText(r.Header["Content-Type"]) || asksForText(r.Header["Accept"]) {
		return false
	}
	if r.Header["X-Http-Method-Override"] != nil || r.Header["Te"] != nil {
		return false // they are the gateway's own business
	}
	body := e.pool.get(int(r.ContentLength))
	defer e.pool.put(body)
	if _, err := io.ReadFull(r.Body, *body); err != nil {
		r.Body = replayed(nil, err)
		return false
	}
	if put {
		ask := new(pb.PutRequest)
		if decodePut(*body, ask) {
			e.answer(w, r, pb.KV_Put_FullMethodName, ask)
			return true
		}
	} else {
		ask := new(pb.RangeRequest)
		if decodeRange(*body, ask) {
			e.answer(w, r, pb.KV_Range_FullMethodName, ask)
			return true
		}
	}
	r.Body = replayed(append([]byte(nil), *body...), io.EOF)
	return false
}

// replay is a body that was read already.
type replay struct {
	left []byte
	end  error
}

func replayed(body []byte, end error) io.ReadCloser { return &replay{body, end} }

func (b *replay) Read(p []byte) (int, error) {
	if len(b.left) == 0 {
		return 0, b.end
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

func (b *replay) Close() error { return nil }

// jsonType is shared by all answers: nobody changes it.
var jsonType = []string{"application/json"}

// errAnswer is returned when the other end of the connection is not in this process: its answers are others.
var errAnswer = errors.New("jsonapi: an answer that no connection in this process gives")

// answer makes a call and writes what comes of it.
func (e *Edge) answer(w http.ResponseWriter, r *http.Request, method string, ask any) {
	ctx, err := e.annotated(r, method)
	var got any
	if err == nil {
		err = e.conn.Invoke(ctx, method, ask, &got)
	}
	if err != nil {
		_, out := runtime.MarshalerForRequest(e.mux, r)
		runtime.HTTPError(r.Context(), e.mux, out, w, r, err)
		return
	}
	var buf *[]byte
	switch a := got.(type) {
	case *wire.PutResponse:
		buf = e.pool.get(sizePut(a))
		*buf, err = appendPut((*buf)[:0], a)
	case *wire.RangeResponse:
		buf = e.pool.get(sizeRange(a))
		*buf, err = appendRange((*buf)[:0], a)
	default:
		err = fmt.Errorf("%w: %T", errAnswer, got)
	}
	defer e.pool.put(buf)
	if err != nil {
		_, out := runtime.MarshalerForRequest(e.mux, r)
		runtime.HTTPError(r.Context(), e.mux, out, w, r, err)
		return
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(*buf))}
	_, _ = w.Write(*buf) // a client that has gone needs no answer
}

// annotated gives a call's context the metadata that the gateway would make of the headers. The server looks at the token alone,
// and at what comes as metadata on purpose, in Grpc- headers.
func (e *Edge) annotated(r *http.Request, method string) (context.Context, error) {
	ctx := from(r)
	var tokens []string
	for name, values := range r.Header {
		switch {
		case name == "Authorization":
			tokens = values
		case strings.HasPrefix(name, "Grpc-"):
			return runtime.AnnotateContext(ctx, e.mux, r, method)
		}
	}
	if tokens == nil {
		return ctx, nil
	}
	return metadata.NewOutgoingContext(ctx, metadata.MD{"authorization": tokens}), nil
}
