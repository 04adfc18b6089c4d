package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// messageBytesMax bounds one message, and one entry, that a stream brings: etcd's 512 MiB. Raft sends 1 MiB, or one
	// entry that is larger.
	messageBytesMax = 512 << 20
	// postBytesMax bounds a message that is posted: anybody may post, while this member opens the streams that it reads.
	// A larger entry waits for a stream.
	postBytesMax = 64 << 20
	// snapshotBytesMax bounds the message before the db file of a snapshot: etcd's 64 MiB. It holds the members alone.
	snapshotBytesMax = 64 << 20
	// entriesAheadMax bounds what is reserved on the word of a count.
	entriesAheadMax = 1024
	// What a message and an entry take in memory beside their data, about.
	messageOverhead, entryOverhead = 256, 96
	// readPieceBytes is how much of a message is reserved before it has come.
	readPieceBytes = 64 << 10
)

var (
	// errTooLarge is returned for a length that no member sends.
	errTooLarge = errors.New("peer: a message is larger than any member sends")
	// errMalformed is returned for bytes that are no message.
	errMalformed = errors.New("peer: malformed message")
)

// codec writes and reads the messages of one stream. Each direction has its own.
type codec interface {
	// append adds a message to dst as it goes on the stream.
	append(dst []byte, m *raftpb.Message) ([]byte, error)
	// read takes the next message. A link heartbeat is nil.
	read(r *bufio.Reader) (*raftpb.Message, error)
}

// A link heartbeat keeps a silent stream alive.
var linkHeartbeat = &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum()}

func isLinkHeartbeat(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgHeartbeat && m.GetFrom() == 0 && m.GetTo() == 0
}

// messageCodec is that of a message stream: 8 bytes of length and the message. A link heartbeat is a MsgHeartbeat from
// and to nobody.
type messageCodec struct{}

func (messageCodec) append(dst []byte, m *raftpb.Message) ([]byte, error) {
	at := len(dst)
	dst = append(dst, make([]byte, 8)...)
	dst, err := proto.MarshalOptions{}.MarshalAppend(dst, m)
	if err != nil {
		return nil, fmt.Errorf("peer: encode a message: %w", err)
	}
	binary.BigEndian.PutUint64(dst[at:], uint64(len(dst)-at-8))
	return dst, nil
}

func (messageCodec) read(r *bufio.Reader) (*raftpb.Message, error) {
	m, err := readMessage(r, messageBytesMax)
	if err != nil || isLinkHeartbeat(m) {
		return nil, err
	}
	return m, nil
}

// readMessage reads a length and a message of at most limit bytes.
func readMessage(r io.Reader, limit uint64) (*raftpb.Message, error) {
	b, err := readSized(r, limit)
	if err != nil {
		return nil, err
	}
	return parseMessage(b, 2*limit)
}

// Fields of raftpb.Message that hold messages.
const (
	fieldEntries   = 7
	fieldResponses = 14
)

// parseMessage decodes a message that takes about weightMax in memory at most: an empty entry has two bytes on the wire.
func parseMessage(b []byte, weightMax uint64) (*raftpb.Message, error) {
	total := uint64(len(b))
	for rest := b; len(rest) > 0; {
		field, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return nil, errMalformed
		}
		size := protowire.ConsumeFieldValue(field, kind, rest[n:])
		if size < 0 {
			return nil, errMalformed
		}
		switch field {
		case fieldEntries:
			total += entryOverhead
		case fieldResponses: // it is between the threads of one member
			return nil, errMalformed
		}
		rest = rest[n+size:]
	}
	if total > weightMax {
		return nil, errTooLarge
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return m, nil
}

// readSized reads 8 bytes of length, then that many, into memory that nothing else uses.
func readSized(r io.Reader, limit uint64) ([]byte, error) {
	n, err := readUint64(r)
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, errTooLarge
	}
	// A length alone must not take memory: it grows with what comes.
	b := make([]byte, min(n, readPieceBytes))
	for at := uint64(0); ; {
		k, err := io.ReadFull(r, b[at:])
		if err != nil {
			return nil, cut(err)
		}
		if at += uint64(k); at == n {
			return b, nil
		}
		more := min(n-at, at)
		b = slices.Grow(b, int(more))[:at+more]
	}
}

func readUint64(r io.Reader) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// cut tells the end of a stream within a message from the end between two.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// The kinds of an append stream's messages, in its first byte.
const (
	appendHeartbeat = 0 // nothing follows: a link heartbeat
	appendEntries   = 1 // entries that continue the last ones: count, then length and entry each, then the commit index
	appendWhole     = 2 // length and a whole MsgApp: the first one, and one that does not continue
)

// appendCodec is that of a msgapp stream. Entries that exactly continue what was sent before, in its term, need no
// message around them: both ends count. term and index are of the last entry; only a whole message sets the term.
type appendCodec struct {
	local, remote uint64 // for reading: who the messages are to and from
	term, index   uint64
}

func (c *appendCodec) append(dst []byte, m *raftpb.Message) ([]byte, error) {
	if isLinkHeartbeat(m) {
		return append(dst, appendHeartbeat), nil
	}
	if m.GetIndex() != c.index || m.GetLogTerm() != c.term || m.GetTerm() != c.term {
		return c.appendWhole(dst, m)
	}
	ents := m.GetEntries()
	dst = append(dst, appendEntries)
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(ents)))
	for _, e := range ents {
		at := len(dst)
		dst = append(dst, make([]byte, 8)...)
		var err error
		if dst, err = (proto.MarshalOptions{}).MarshalAppend(dst, e); err != nil {
			return nil, fmt.Errorf("peer: encode an entry: %w", err)
		}
		binary.BigEndian.PutUint64(dst[at:], uint64(len(dst)-at-8))
	}
	c.index += uint64(len(ents))
	return binary.BigEndian.AppendUint64(dst, m.GetCommit()), nil
}

func (c *appendCodec) appendWhole(dst []byte, m *raftpb.Message) ([]byte, error) {
	dst, err := messageCodec{}.append(append(dst, appendWhole), m)
	if err != nil {
		return nil, err
	}
	c.follow(m)
	return dst, nil
}

// follow takes the place in the log from a whole message.
func (c *appendCodec) follow(m *raftpb.Message) {
	c.term, c.index = m.GetTerm(), m.GetIndex()
	if ents := m.GetEntries(); len(ents) > 0 {
		c.index = ents[len(ents)-1].GetIndex()
	}
}

func (c *appendCodec) read(r *bufio.Reader) (*raftpb.Message, error) {
	kind, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	switch kind {
	case appendHeartbeat:
		return nil, nil
	case appendEntries:
		m, err := c.readEntries(r)
		return m, cut(err)
	case appendWhole:
		m, err := readMessage(r, messageBytesMax)
		if err != nil {
			return nil, cut(err)
		}
		c.follow(m)
		return m, nil
	}
	return nil, fmt.Errorf("%w: kind %d", errMalformed, kind)
}

func (c *appendCodec) readEntries(r *bufio.Reader) (*raftpb.Message, error) {
	n, err := readUint64(r)
	if err != nil {
		return nil, err
	}
	m := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(c.remote), To: new(c.local),
		Term: new(c.term), LogTerm: new(c.term), Index: new(c.index), Entries: make([]*raftpb.Entry, 0, min(n, entriesAheadMax)),
	}
	var bytes uint64
	for range n {
		b, err := readSized(r, messageBytesMax)
		if err != nil {
			return nil, err
		}
		if bytes += uint64(len(b)) + entryOverhead; bytes > 2*messageBytesMax {
			return nil, errTooLarge
		}
		e, err := parseEntry(b)
		if err != nil {
			return nil, err
		}
		m.Entries = append(m.Entries, e)
	}
	commit, err := readUint64(r)
	if err != nil {
		return nil, err
	}
	c.index += n
	m.Commit = new(commit)
	return m, nil
}

// entryCell is an entry with room for its numbers: one allocation for four.
type entryCell struct {
	entry       raftpb.Entry
	kind        raftpb.EntryType
	term, index uint64
}

// parseEntry reads an entry as protobuf would; its data stays in b. Anything but the four plain fields is left to
// protobuf itself.
func parseEntry(b []byte) (*raftpb.Entry, error) {
	c := &entryCell{}
	e := &c.entry
	for rest := b; len(rest) > 0; {
		tag, n := protowire.ConsumeVarint(rest)
		if n < 0 {
			return parseEntryAny(b)
		}
		rest = rest[n:]
		if tag == 4<<3|uint64(protowire.BytesType) {
			data, n := protowire.ConsumeBytes(rest)
			if n < 0 {
				return parseEntryAny(b)
			}
			e.Data, rest = data[:len(data):len(data)], rest[n:]
			continue
		}
		v, n := protowire.ConsumeVarint(rest)
		if n < 0 {
			return parseEntryAny(b)
		}
		rest = rest[n:]
		switch tag {
		case 1 << 3:
			if v > math.MaxInt32 || raftpb.EntryType_name[int32(v)] == "" {
				return parseEntryAny(b)
			}
			c.kind = raftpb.EntryType(v)
			e.Type = &c.kind
		case 2 << 3:
			c.term = v
			e.Term = &c.term
		case 3 << 3:
			c.index = v
			e.Index = &c.index
		default:
			return parseEntryAny(b)
		}
	}
	return e, nil
}

func parseEntryAny(b []byte) (*raftpb.Entry, error) {
	e := &raftpb.Entry{}
	if err := proto.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return e, nil
}

// weight is about how much memory a message holds on to.
func weight(m *raftpb.Message) int {
	n := messageOverhead + len(m.GetContext())
	for _, e := range m.GetEntries() {
		n += entryOverhead + len(e.GetData())
	}
	return n
}
