package jsonapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// With "strings=utf8" every field of type bytes that holds a key, a value or a name is a JSON string of that very text. Bytes that
// are no UTF-8 can't be one: they are an object {"base64": "…"}, which requests may have in any such place. A piece of a snapshot
// is always base64.

// base64Key is the one field of bytes that are no text.
const base64Key = "base64"

// snapshotBlob is the field that is never text.
const snapshotBlob = "etcdserverpb.SnapshotResponse.blob"

// isText tells whether a field holds keys, values or names.
func isText(f protoreflect.FieldDescriptor) bool {
	return f.Kind() == protoreflect.BytesKind && f.FullName() != snapshotBlob
}

// appendText appends a message as JSON with text, in the order of its fields; else it is as the gateway writes it.
func appendText(dst []byte, m protoreflect.Message) []byte {
	dst = append(dst, '{')
	fields := m.Descriptor().Fields()
	first := true
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(append(dst, '"'), f.Name()...), '"', ':')
		if v := m.Get(f); f.IsList() {
			dst = appendTexts(dst, f, v.List())
		} else {
			dst = appendField(dst, f, v)
		}
	}
	return append(dst, '}')
}

func appendTexts(dst []byte, f protoreflect.FieldDescriptor, l protoreflect.List) []byte {
	dst = append(dst, '[')
	for i := range l.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendField(dst, f, l.Get(i))
	}
	return append(dst, ']')
}

func appendField(dst []byte, f protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return appendText(dst, v.Message())
	case protoreflect.BytesKind:
		switch b := v.Bytes(); {
		case !isText(f):
			return appendBase64(dst, b)
		case utf8.Valid(b):
			return appendString(dst, b)
		default:
			return append(appendBase64(append(dst, `{"`+base64Key+`":`...), b), '}')
		}
	case protoreflect.StringKind:
		return appendString(dst, []byte(v.String()))
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, v.Bool())
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return appendString(dst, []byte(e.Name()))
		}
		return strconv.AppendInt(dst, int64(v.Enum()), 10)
	case protoreflect.Int32Kind:
		return strconv.AppendInt(dst, v.Int(), 10)
	case protoreflect.Uint32Kind:
		return strconv.AppendUint(dst, v.Uint(), 10)
	case protoreflect.Int64Kind:
		return append(strconv.AppendInt(append(dst, '"'), v.Int(), 10), '"')
	}
	return append(strconv.AppendUint(append(dst, '"'), v.Uint(), 10), '"')
}

func appendBase64(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

const hexDigits = "0123456789abcdef"

// appendString appends valid UTF-8 as a JSON string.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// The ways in which text is no request.
var (
	errNotUTF8   = errors.New("the body is not UTF-8: write such keys and values as {\"base64\": \"…\"}")
	errSurrogate = errors.New("the body has half of a surrogate pair: no text has one")
	errNotText   = errors.New("neither a string nor {\"base64\": \"…\"}")
)

// encodeBytes rewrites a request with text into one with base64, which the gateway reads. raw is whole and well formed, and a
// message of kind md; what is not is left for the gateway's decoder to refuse.
func encodeBytes(raw []byte, md protoreflect.MessageDescriptor) ([]byte, error) {
	if !utf8.Valid(raw) {
		return nil, errNotUTF8
	}
	if halved(raw) {
		return nil, errSurrogate
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	t := &transcoder{from: d, to: make([]byte, 0, len(raw)+len(raw)/2)}
	if err := t.value(md, nil); err != nil {
		return nil, err
	}
	return t.to, nil
}

// halved finds an escaped surrogate without its other half, which encoding/json would replace.
func halved(raw []byte) bool {
	unit := func(at int) uint64 {
		if at+6 > len(raw) || raw[at] != '\\' || raw[at+1] != 'u' {
			return 0
		}
		n, err := strconv.ParseUint(string(raw[at+2:at+6]), 16, 16)
		if err != nil {
			return 0
		}
		return n
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		switch u := unit(i); {
		case u >= 0xd800 && u < 0xdc00 && unit(i+6)>>10 == 0xdc00>>10:
			i += 11
		case u >= 0xd800 && u < 0xe000:
			return true
		default:
			i++ // what is escaped may be a backslash
		}
	}
	return false
}

// transcoder copies JSON, with the strings in fields of bytes as base64. Its depth is that of the JSON, which encoding/json bounds.
type transcoder struct {
	from *json.Decoder
	to   []byte
}

// value copies one value: of a message's kind, of a field's, or, with neither, of no kind that is known.
func (t *transcoder) value(md protoreflect.MessageDescriptor, f protoreflect.FieldDescriptor) error {
	token, err := t.from.Token()
	if err != nil {
		return err
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '[' {
			return t.list(md, f)
		}
		if f != nil {
			return t.base64(f)
		}
		return t.object(md)
	case string:
		if f != nil {
			t.to = appendBase64(t.to, []byte(v))
		} else {
			t.to = appendString(t.to, []byte(v))
		}
	case json.Number:
		t.to = append(t.to, v...)
	case bool:
		t.to = strconv.AppendBool(t.to, v)
	default:
		t.to = append(t.to, "null"...)
	}
	return nil
}

func (t *transcoder) list(md protoreflect.MessageDescriptor, f protoreflect.FieldDescriptor) error {
	t.to = append(t.to, '[')
	for n := 0; t.from.More(); n++ {
		if n > 0 {
			t.to = append(t.to, ',')
		}
		if err := t.value(md, f); err != nil {
			return err
		}
	}
	t.to = append(t.to, ']')
	_, err := t.from.Token()
	return err
}

func (t *transcoder) object(md protoreflect.MessageDescriptor) error {
	t.to = append(t.to, '{')
	for n := 0; t.from.More(); n++ {
		name, err := t.from.Token()
		if err != nil {
			return err
		}
		if n > 0 {
			t.to = append(t.to, ',')
		}
		key, _ := name.(string) // an object has nothing else before a value
		t.to = append(appendString(t.to, []byte(key)), ':')
		if err := t.value(kinds(md, key)); err != nil {
			return err
		}
	}
	t.to = append(t.to, '}')
	_, err := t.from.Token()
	return err
}

// kinds finds what a field holds: messages, or bytes that are text, or neither.
func kinds(md protoreflect.MessageDescriptor, key string) (protoreflect.MessageDescriptor, protoreflect.FieldDescriptor) {
	if md == nil {
		return nil, nil
	}
	f := md.Fields().ByTextName(key)
	if f == nil {
		f = md.Fields().ByJSONName(key)
	}
	switch {
	case f == nil:
		return nil, nil
	case isText(f):
		return nil, f
	}
	return f.Message(), nil
}

// base64 copies the text out of {"base64": "…"}.
func (t *transcoder) base64(f protoreflect.FieldDescriptor) error {
	for i := range 3 {
		token, err := t.from.Token()
		if err != nil {
			return err
		}
		text, isString := token.(string)
		switch {
		case i == 0 && text == base64Key, i == 2 && token == json.Delim('}'):
		case i == 1 && isString:
			t.to = appendString(t.to, []byte(text))
		default:
			return fmt.Errorf("%s: %w", f.Name(), errNotText)
		}
	}
	return nil
}
