package jsonapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// marshaler turns messages into JSON and back, as etcd's gateway does: fields by their names in the .proto, zero values left out,
// 64-bit numbers and bytes as strings; unknown fields are passed over. textIn and textOut make keys and values text.
type marshaler struct {
	json            runtime.JSONPb
	textIn, textOut bool
	max             int64 // bytes of one message that is read
}

var (
	_ runtime.Marshaler = (*marshaler)(nil)
	_ runtime.Delimited = (*marshaler)(nil)
)

// errTooLarge is returned when a message in a stream of them has more bytes than any request.
var errTooLarge = errors.New("the message is too large")

// What negotiate makes of headers that ask for text, so that the gateway finds the marshaler. Nobody else uses the names.
const (
	textInType  = "application/keelson-text"
	textOutType = "application/json; strings=utf8"
)

func (e *Edge) marshaler(textIn, textOut bool) *marshaler {
	m := &marshaler{textIn: textIn, textOut: textOut, max: e.bodyMax}
	m.json.UseProtoNames, m.json.DiscardUnknown = true, true
	return m
}

// marshalers are those of etcd's gateway, and those for text. The gateway takes the one of Content-Type for answers too where
// Accept names none.
func (e *Edge) marshalers() []runtime.ServeMuxOption {
	return []runtime.ServeMuxOption{
		runtime.WithMarshalerOption(runtime.MIMEWildcard, e.marshaler(false, false)),
		runtime.WithMarshalerOption(textInType, e.marshaler(true, false)),
		runtime.WithMarshalerOption(textOutType, e.marshaler(false, true)),
	}
}

// negotiate looks for text in the headers: Content-Type is about the request, Accept about the answer.
func (e *Edge) negotiate(r *http.Request) {
	if asksForText(r.Header["Content-Type"]) {
		r.Header["Content-Type"] = []string{textInType}
	}
	if asksForText(r.Header["Accept"]) {
		r.Header["Accept"] = []string{textOutType}
	}
}

// asksForText finds "application/json; strings=utf8" in a list of media types.
func asksForText(header []string) bool {
	for _, line := range header {
		if !strings.Contains(line, "strings") {
			continue
		}
		for _, part := range strings.Split(line, ",") {
			kind, params, err := mime.ParseMediaType(part)
			if err == nil && kind == "application/json" && strings.EqualFold(params["strings"], "utf8") {
				return true
			}
		}
	}
	return false
}

func (m *marshaler) ContentType(any) string { return "application/json" }

func (m *marshaler) Delimiter() []byte { return []byte("\n") }

// Marshal takes a message, or a map with one message: a stream's {"result": …} or {"error": …}.
func (m *marshaler) Marshal(v any) ([]byte, error) {
	if m.textOut {
		switch v := v.(type) {
		case *spb.Status: // an error: it has no keys
		case proto.Message:
			return appendText(nil, v.ProtoReflect()), nil
		case map[string]any:
			if result, ok := v["result"].(proto.Message); ok && len(v) == 1 {
				return append(appendText([]byte(`{"result":`), result.ProtoReflect()), '}'), nil
			}
		}
	}
	return m.json.Marshal(v)
}

func (m *marshaler) Unmarshal(data []byte, v any) error { return m.decode(data, v) }

// NewEncoder writes one message after another, a line each.
func (m *marshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		b, err := m.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(append(b, '\n'))
		return err
	})
}

// NewDecoder reads one message after another. Each is bounded, their number is not.
func (m *marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	b := &bounded{from: r}
	d := json.NewDecoder(b)
	return runtime.DecoderFunc(func(v any) error {
		b.left = m.max
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return err
		}
		return m.decode(raw, v)
	})
}

func (m *marshaler) decode(raw []byte, v any) error {
	to, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("jsonapi: decode into %T: not a message", v)
	}
	if m.textIn {
		var err error
		if raw, err = encodeBytes(raw, to.ProtoReflect().Descriptor()); err != nil {
			return err
		}
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(raw, to)
}

// bounded gives an error where one message goes on too long.
type bounded struct {
	from io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// decodeOne reads the one message of a body. None is an empty one, and what follows it is dropped, as by generated handlers.
func decodeOne(m runtime.Marshaler, body io.Reader, to proto.Message) error {
	if err := m.NewDecoder(body).Decode(to); err != nil && !errors.Is(err, io.EOF) {
		return status.Errorf(codes.InvalidArgument, "%v", err)
	}
	_, _ = io.Copy(io.Discard, body) // the request is whole
	return nil
}
