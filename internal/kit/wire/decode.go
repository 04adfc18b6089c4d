package wire

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// txnDepthMax is how deep transactions may nest before protobuf's own decoder, which has a limit of its own, takes
// over. Requests are bounded to --max-txn-ops operations (128) and each level takes one at least.
const txnDepthMax = 128

// Each Decode function decodes b into m, which must be fresh. Keys and values alias b. Whatever the fast path does
// not know goes to protobuf, with copies.

// DecodeRangeRequest decodes an etcdserverpb.RangeRequest; errors are protobuf's.
func DecodeRangeRequest(b []byte, m *pb.RangeRequest) error {
	if rangeRequest(b, m) {
		return nil
	}
	return proto.Unmarshal(b, m)
}

// DecodePutRequest decodes an etcdserverpb.PutRequest; errors are protobuf's.
func DecodePutRequest(b []byte, m *pb.PutRequest) error {
	if putRequest(b, m) {
		return nil
	}
	return proto.Unmarshal(b, m)
}

// DecodeDeleteRangeRequest decodes an etcdserverpb.DeleteRangeRequest; errors are protobuf's.
func DecodeDeleteRangeRequest(b []byte, m *pb.DeleteRangeRequest) error {
	if deleteRangeRequest(b, m) {
		return nil
	}
	return proto.Unmarshal(b, m)
}

// DecodeTxnRequest decodes an etcdserverpb.TxnRequest; errors are protobuf's.
func DecodeTxnRequest(b []byte, m *pb.TxnRequest) error {
	if txnRequest(b, m, txnDepthMax) {
		return nil
	}
	return proto.Unmarshal(b, m)
}

// DecodeLeaseKeepAliveRequest decodes an etcdserverpb.LeaseKeepAliveRequest; errors are protobuf's.
func DecodeLeaseKeepAliveRequest(b []byte, m *pb.LeaseKeepAliveRequest) error {
	f := fields{b: b, ok: true}
	for {
		tag, more := f.next()
		if !more {
			break
		}
		if tag != 1<<3|varintType {
			f.ok = false
			break
		}
		m.ID = int64(f.varint())
	}
	if f.ok {
		return nil
	}
	return proto.Unmarshal(b, m)
}

func rangeRequest(b []byte, m *pb.RangeRequest) bool {
	f := fields{b: b, ok: true}
	for {
		tag, more := f.next()
		if !more {
			return f.ok
		}
		switch tag {
		case 1<<3 | bytesType:
			m.Key = f.bytes()
		case 2<<3 | bytesType:
			m.RangeEnd = f.bytes()
		case 3<<3 | varintType:
			m.Limit = int64(f.varint())
		case 4<<3 | varintType:
			m.Revision = int64(f.varint())
		case 5<<3 | varintType:
			m.SortOrder = pb.RangeRequest_SortOrder(f.varint())
		case 6<<3 | varintType:
			m.SortTarget = pb.RangeRequest_SortTarget(f.varint())
		case 7<<3 | varintType:
			m.Serializable = f.varint() != 0
		case 8<<3 | varintType:
			m.KeysOnly = f.varint() != 0
		case 9<<3 | varintType:
			m.CountOnly = f.varint() != 0
		case 10<<3 | varintType:
			m.MinModRevision = int64(f.varint())
		case 11<<3 | varintType:
			m.MaxModRevision = int64(f.varint())
		case 12<<3 | varintType:
			m.MinCreateRevision = int64(f.varint())
		case 13<<3 | varintType:
			m.MaxCreateRevision = int64(f.varint())
		default:
			return false
		}
	}
}

func putRequest(b []byte, m *pb.PutRequest) bool {
	f := fields{b: b, ok: true}
	for {
		tag, more := f.next()
		if !more {
			return f.ok
		}
		switch tag {
		case 1<<3 | bytesType:
			m.Key = f.bytes()
		case 2<<3 | bytesType:
			m.Value = f.bytes()
		case 3<<3 | varintType:
			m.Lease = int64(f.varint())
		case 4<<3 | varintType:
			m.PrevKv = f.varint() != 0
		case 5<<3 | varintType:
			m.IgnoreValue = f.varint() != 0
		case 6<<3 | varintType:
			m.IgnoreLease = f.varint() != 0
		default:
			return false
		}
	}
}

func deleteRangeRequest(b []byte, m *pb.DeleteRangeRequest) bool {
	f := fields{b: b, ok: true}
	for {
		tag, more := f.next()
		if !more {
			return f.ok
		}
		switch tag {
		case 1<<3 | bytesType:
			m.Key = f.bytes()
		case 2<<3 | bytesType:
			m.RangeEnd = f.bytes()
		case 3<<3 | varintType:
			m.PrevKv = f.varint() != 0
		default:
			return false
		}
	}
}

func txnRequest(b []byte, m *pb.TxnRequest, depth int) bool {
	if depth == 0 {
		return false
	}
	f := fields{b: b, ok: true}
	for {
		tag, more := f.next()
		if !more {
			return f.ok
		}
		switch tag {
		case 1<<3 | bytesType:
			c := new(pb.Compare)
			if !compare(f.bytes(), c) {
				return false
			}
			m.Compare = append(m.Compare, c)
		case 2<<3 | bytesType:
			op := new(pb.RequestOp)
			if !requestOp(f.bytes(), op, depth) {
				return false
			}
			m.Success = append(m.Success, op)
		case 3<<3 | bytesType:
			op := new(pb.RequestOp)
			if !requestOp(f.bytes(), op, depth) {
				return false
			}
			m.Failure = append(m.Failure, op)
		default:
			return false
		}
	}
}

// requestOp decodes an operation with one request in it; two (which protobuf merges, or lets the last win) are not
// for the fast path.
func requestOp(b []byte, m *pb.RequestOp, depth int) bool {
	f := fields{b: b, ok: true}
	for {
		tag, more := f.next()
		if !more {
			return f.ok
		}
		if m.Request != nil {
			return false
		}
		ok := false
		switch tag {
		case 1<<3 | bytesType:
			r := new(pb.RangeRequest)
			ok = rangeRequest(f.bytes(), r)
			m.Request = &pb.RequestOp_RequestRange{RequestRange: r}
		case 2<<3 | bytesType:
			r := new(pb.PutRequest)
			ok = putRequest(f.bytes(), r)
			m.Request = &pb.RequestOp_RequestPut{RequestPut: r}
		case 3<<3 | bytesType:
			r := new(pb.DeleteRangeRequest)
			ok = deleteRangeRequest(f.bytes(), r)
			m.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}
		case 4<<3 | bytesType:
			r := new(pb.TxnRequest)
			ok = txnRequest(f.bytes(), r, depth-1)
			m.Request = &pb.RequestOp_RequestTxn{RequestTxn: r}
		}
		if !ok {
			return false
		}
	}
}

// compareRangeEnd is range_end's field number: its tag takes two bytes.
const compareRangeEnd = 64

func compare(b []byte, m *pb.Compare) bool {
	f := fields{b: b, ok: true}
	for {
		tag, more := f.next()
		if !more {
			return f.ok
		}
		switch tag {
		case 1<<3 | varintType:
			m.Result = pb.Compare_CompareResult(f.varint())
		case 2<<3 | varintType:
			m.Target = pb.Compare_CompareTarget(f.varint())
		case 3<<3 | bytesType:
			m.Key = f.bytes()
		case 4<<3 | varintType:
			m.TargetUnion = &pb.Compare_Version{Version: int64(f.varint())}
		case 5<<3 | varintType:
			m.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: int64(f.varint())}
		case 6<<3 | varintType:
			m.TargetUnion = &pb.Compare_ModRevision{ModRevision: int64(f.varint())}
		case 7<<3 | bytesType:
			m.TargetUnion = &pb.Compare_Value{Value: f.bytes()}
		case 8<<3 | varintType:
			m.TargetUnion = &pb.Compare_Lease{Lease: int64(f.varint())}
		case compareRangeEnd<<3 | bytesType:
			m.RangeEnd = f.bytes()
		default:
			return false
		}
	}
}
