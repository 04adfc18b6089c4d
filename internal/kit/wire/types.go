// Package wire encodes and decodes by hand the messages that nearly every request and answer is made of, so that
// a stored key-value is copied into answers instead of being marshalled again.
//
// The bytes are those that Go's protobuf makes of the same messages of go.etcd.io/etcd/api/v3: fields in ascending
// order (oneofs last), zero values left out, varints in their shortest form. The tests hold every function here equal to protobuf.
// What a decoder here does not know (a field of a newer client, a message given twice, broken bytes) it leaves to
// protobuf whole, so answers and errors are protobuf's too.
//
// Who decodes gives up the bytes: decoded keys and values alias them. The package knows no transport; edge/rpc
// turns it into a gRPC codec, apply and replica use it for log entries.
package wire

// Header is what every answer carries: who answered, at which store revision, in which raft term.
type Header struct {
	ClusterID, MemberID uint64
	Revision            int64
	Term                uint64
}

// KeyValue is a decoded mvccpb.KeyValue. Key and Value alias the bytes it was decoded from.
type KeyValue struct {
	Key, Value  []byte
	Create, Mod int64
	Version     int64
	Lease       int64
}

// RangeResponse answers a range. KVs are encoded mvccpb.KeyValue messages, shared and never changed.
// A nil Header is left out, as in a transaction's inner answers.
type RangeResponse struct {
	Header *Header
	KVs    [][]byte
	More   bool
	Count  int64
}

// RangeStreamResponse is one chunk of a streamed range.
type RangeStreamResponse struct {
	Range RangeResponse
}

// PutResponse answers a put. PrevKV is an encoded mvccpb.KeyValue, or nil.
type PutResponse struct {
	Header *Header
	PrevKV []byte
}

// DeleteRangeResponse answers a delete. PrevKVs are encoded mvccpb.KeyValue messages.
type DeleteRangeResponse struct {
	Header  *Header
	Deleted int64
	PrevKVs [][]byte
}

// TxnResponse answers a transaction. Inner answers have a header with the revision alone, as etcd's have.
type TxnResponse struct {
	Header    *Header
	Succeeded bool
	Responses []ResponseOp
}

// ResponseOp is one inner answer of a transaction: exactly one field is set.
type ResponseOp struct {
	Range       *RangeResponse
	Put         *PutResponse
	DeleteRange *DeleteRangeResponse
	Txn         *TxnResponse
}

// Event is one change as a watcher sees it. KV is an encoded mvccpb.KeyValue (for a delete: key and
// mod_revision alone); PrevKV is encoded too, or nil.
type Event struct {
	Delete bool
	KV     []byte
	PrevKV []byte
}

// WatchResponse is one message on a watch stream.
type WatchResponse struct {
	Header          Header
	WatchID         int64
	Created         bool
	Canceled        bool
	CompactRevision int64
	CancelReason    string
	Fragment        bool
	Events          []Event
}

// LeaseKeepAliveResponse answers one renewal. TTL is in seconds; 0 says that the lease is gone.
type LeaseKeepAliveResponse struct {
	Header  Header
	ID, TTL int64
}
