package jsonapi

import (
	"encoding/base64"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// scanner reads a JSON object that clients usually send: members with simple values, strings without escapes, no name twice. It
// says no to everything else, right or wrong.
type scanner struct {
	rest []byte
	seen uint32 // fields there were, a bit each
	bad  bool
}

// blanks passes over white space.
func (s *scanner) blanks() {
	for len(s.rest) > 0 {
		switch s.rest[0] {
		case ' ', '\n', '\r', '\t':
			s.rest = s.rest[1:]
		default:
			return
		}
	}
}

// take passes over one character, white space before it and behind it.
func (s *scanner) take(c byte) bool {
	s.blanks()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	s.blanks()
	return true
}

func (s *scanner) fail() { s.bad, s.rest = true, nil }

// object calls member with each name, for it to read the value. It tells whether all was understood.
func (s *scanner) object(member func(name string)) bool {
	if !s.take('{') {
		return false
	}
	for n := 0; !s.take('}'); n++ {
		if s.bad || n > 0 && !s.take(',') {
			return false
		}
		name, ok := s.plain()
		if !ok || !s.take(':') {
			return false
		}
		member(string(name))
		if s.bad {
			return false
		}
	}
	return !s.bad && len(s.rest) == 0
}

// once notes that a field is there; twice is wrong.
func (s *scanner) once(field uint32) {
	if s.seen&field != 0 {
		s.fail()
	}
	s.seen |= field
}

// plain reads a string of printable ASCII without escapes. Base64 and names are so.
func (s *scanner) plain() ([]byte, bool) {
	if len(s.rest) == 0 || s.rest[0] != '"' {
		return nil, false
	}
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			text := s.rest[1:i]
			s.rest = s.rest[i+1:]
			return text, true
		case c == '\\' || c < ' ' || c > '~':
			return nil, false
		}
	}
	return nil, false
}

// bytes reads a field of bytes, into memory of its own.
func (s *scanner) bytes() []byte {
	text, ok := s.plain()
	if !ok || len(text)%4 != 0 {
		s.fail()
		return nil
	}
	if len(text) == 0 {
		return nil
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	if err != nil {
		s.fail()
		return nil
	}
	return out[:n:n]
}

// number reads a whole number, with or without quotes.
func (s *scanner) number() int64 {
	var text []byte
	if len(s.rest) > 0 && s.rest[0] == '"' {
		var ok bool
		if text, ok = s.plain(); !ok {
			s.fail()
			return 0
		}
	} else {
		n := 0
		for n < len(s.rest) && (s.rest[n] == '-' || s.rest[n] >= '0' && s.rest[n] <= '9') {
			n++
		}
		text, s.rest = s.rest[:n], s.rest[n:]
	}
	digits := text
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
	}
	// Zeros in front are none of JSON's numbers, and "-0" is nobody's.
	if len(digits) == 0 || digits[0] < '0' || digits[0] > '9' || digits[0] == '0' && len(text) > 1 {
		s.fail()
		return 0
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		s.fail()
	}
	return n
}

func (s *scanner) bool() bool {
	for _, word := range [...]string{"true", "false"} {
		if len(s.rest) >= len(word) && string(s.rest[:len(word)]) == word {
			s.rest = s.rest[len(word):]
			return word == "true"
		}
	}
	s.fail()
	return false
}

// The bits of fields, in scanner.seen.
const (
	fieldKey = 1 << iota
	fieldValue
	fieldLease
	fieldPrevKV
	fieldIgnoreValue
	fieldIgnoreLease
	fieldRangeEnd
	fieldLimit
	fieldRevision
	fieldSerializable
	fieldKeysOnly
	fieldCountOnly
)

// decodePut decodes a put, and tells whether it could. m must be fresh.
func decodePut(body []byte, m *pb.PutRequest) bool {
	s := &scanner{rest: body}
	return s.object(func(name string) {
		switch name {
		case "key":
			s.once(fieldKey)
			m.Key = s.bytes()
		case "value":
			s.once(fieldValue)
			m.Value = s.bytes()
		case "lease":
			s.once(fieldLease)
			m.Lease = s.number()
		case "prev_kv", "prevKv":
			s.once(fieldPrevKV)
			m.PrevKv = s.bool()
		case "ignore_value", "ignoreValue":
			s.once(fieldIgnoreValue)
			m.IgnoreValue = s.bool()
		case "ignore_lease", "ignoreLease":
			s.once(fieldIgnoreLease)
			m.IgnoreLease = s.bool()
		default:
			s.fail()
		}
	})
}

// decodeRange decodes a range, and tells whether it could. m must be fresh.
func decodeRange(body []byte, m *pb.RangeRequest) bool {
	s := &scanner{rest: body}
	return s.object(func(name string) {
		switch name {
		case "key":
			s.once(fieldKey)
			m.Key = s.bytes()
		case "range_end", "rangeEnd":
			s.once(fieldRangeEnd)
			m.RangeEnd = s.bytes()
		case "limit":
			s.once(fieldLimit)
			m.Limit = s.number()
		case "revision":
			s.once(fieldRevision)
			m.Revision = s.number()
		case "serializable":
			s.once(fieldSerializable)
			m.Serializable = s.bool()
		case "keys_only", "keysOnly":
			s.once(fieldKeysOnly)
			m.KeysOnly = s.bool()
		case "count_only", "countOnly":
			s.once(fieldCountOnly)
			m.CountOnly = s.bool()
		default:
			s.fail()
		}
	})
}
