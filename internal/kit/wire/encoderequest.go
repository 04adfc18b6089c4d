package wire

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// knownTxn says whether the hand-written encoder knows everything in r: no unknown fields, no nil operation, and
// no oneof that holds a typed nil.
func knownTxn(r *pb.TxnRequest) bool {
	if hasUnknown(r) {
		return false
	}
	for _, c := range r.Compare {
		if c == nil || hasUnknown(c) {
			return false
		}
	}
	return knownOps(r.Success) && knownOps(r.Failure)
}

func knownOps(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		if op == nil || hasUnknown(op) {
			return false
		}
		ok := false
		switch u := op.Request.(type) {
		case nil:
			ok = true
		case *pb.RequestOp_RequestRange:
			ok = u != nil && u.RequestRange != nil && !hasUnknown(u.RequestRange)
		case *pb.RequestOp_RequestPut:
			ok = u != nil && u.RequestPut != nil && !hasUnknown(u.RequestPut)
		case *pb.RequestOp_RequestDeleteRange:
			ok = u != nil && u.RequestDeleteRange != nil && !hasUnknown(u.RequestDeleteRange)
		case *pb.RequestOp_RequestTxn:
			ok = u != nil && u.RequestTxn != nil && knownTxn(u.RequestTxn)
		}
		if !ok {
			return false
		}
	}
	return true
}

func sizePutRequest(r *pb.PutRequest) int {
	return sizeBytes(len(r.Key)) + sizeBytes(len(r.Value)) + sizeInt(uint64(r.Lease)) +
		sizeBool(r.PrevKv) + sizeBool(r.IgnoreValue) + sizeBool(r.IgnoreLease)
}

func appendPutRequest(dst []byte, r *pb.PutRequest) []byte {
	dst = appendBytes(dst, 1, r.Key)
	dst = appendBytes(dst, 2, r.Value)
	dst = appendInt(dst, 3, uint64(r.Lease))
	dst = appendBool(dst, 4, r.PrevKv)
	dst = appendBool(dst, 5, r.IgnoreValue)
	return appendBool(dst, 6, r.IgnoreLease)
}

func sizeDeleteRangeRequest(r *pb.DeleteRangeRequest) int {
	return sizeBytes(len(r.Key)) + sizeBytes(len(r.RangeEnd)) + sizeBool(r.PrevKv)
}

func appendDeleteRangeRequest(dst []byte, r *pb.DeleteRangeRequest) []byte {
	dst = appendBytes(dst, 1, r.Key)
	dst = appendBytes(dst, 2, r.RangeEnd)
	return appendBool(dst, 3, r.PrevKv)
}

func sizeRangeRequest(r *pb.RangeRequest) int {
	return sizeBytes(len(r.Key)) + sizeBytes(len(r.RangeEnd)) + sizeInt(uint64(r.Limit)) + sizeInt(uint64(r.Revision)) +
		sizeInt(uint64(r.SortOrder)) + sizeInt(uint64(r.SortTarget)) +
		sizeBool(r.Serializable) + sizeBool(r.KeysOnly) + sizeBool(r.CountOnly) +
		sizeInt(uint64(r.MinModRevision)) + sizeInt(uint64(r.MaxModRevision)) +
		sizeInt(uint64(r.MinCreateRevision)) + sizeInt(uint64(r.MaxCreateRevision))
}

func appendRangeRequest(dst []byte, r *pb.RangeRequest) []byte {
	dst = appendBytes(dst, 1, r.Key)
	dst = appendBytes(dst, 2, r.RangeEnd)
	dst = appendInt(dst, 3, uint64(r.Limit))
	dst = appendInt(dst, 4, uint64(r.Revision))
	dst = appendInt(dst, 5, uint64(r.SortOrder))
	dst = appendInt(dst, 6, uint64(r.SortTarget))
	dst = appendBool(dst, 7, r.Serializable)
	dst = appendBool(dst, 8, r.KeysOnly)
	dst = appendBool(dst, 9, r.CountOnly)
	dst = appendInt(dst, 10, uint64(r.MinModRevision))
	dst = appendInt(dst, 11, uint64(r.MaxModRevision))
	dst = appendInt(dst, 12, uint64(r.MinCreateRevision))
	return appendInt(dst, 13, uint64(r.MaxCreateRevision))
}

func sizeTxnRequest(r *pb.TxnRequest) (n int) {
	for _, c := range r.Compare {
		n += sizeMessage(sizeCompare(c))
	}
	for _, op := range r.Success {
		n += sizeMessage(sizeRequestOp(op))
	}
	for _, op := range r.Failure {
		n += sizeMessage(sizeRequestOp(op))
	}
	return n
}

func appendTxnRequest(dst []byte, r *pb.TxnRequest) []byte {
	for _, c := range r.Compare {
		dst = appendCompare(appendLen(dst, 1, sizeCompare(c)), c)
	}
	for _, op := range r.Success {
		dst = appendRequestOp(appendLen(dst, 2, sizeRequestOp(op)), op)
	}
	for _, op := range r.Failure {
		dst = appendRequestOp(appendLen(dst, 3, sizeRequestOp(op)), op)
	}
	return dst
}

func sizeRequestOp(op *pb.RequestOp) int {
	switch u := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return sizeMessage(sizeRangeRequest(u.RequestRange))
	case *pb.RequestOp_RequestPut:
		return sizeMessage(sizePutRequest(u.RequestPut))
	case *pb.RequestOp_RequestDeleteRange:
		return sizeMessage(sizeDeleteRangeRequest(u.RequestDeleteRange))
	case *pb.RequestOp_RequestTxn:
		return sizeMessage(sizeTxnRequest(u.RequestTxn))
	}
	return 0
}

func appendRequestOp(dst []byte, op *pb.RequestOp) []byte {
	switch u := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return appendRangeRequest(appendLen(dst, 1, sizeRangeRequest(u.RequestRange)), u.RequestRange)
	case *pb.RequestOp_RequestPut:
		return appendPutRequest(appendLen(dst, 2, sizePutRequest(u.RequestPut)), u.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return appendDeleteRangeRequest(appendLen(dst, 3, sizeDeleteRangeRequest(u.RequestDeleteRange)), u.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return appendTxnRequest(appendLen(dst, 4, sizeTxnRequest(u.RequestTxn)), u.RequestTxn)
	}
	return dst
}

// The target union is written even where it is zero: that it is there says something.
func sizeTarget(c *pb.Compare) int {
	switch u := c.TargetUnion.(type) {
	case *pb.Compare_Version:
		return 1 + protowire.SizeVarint(uint64(u.Version))
	case *pb.Compare_CreateRevision:
		return 1 + protowire.SizeVarint(uint64(u.CreateRevision))
	case *pb.Compare_ModRevision:
		return 1 + protowire.SizeVarint(uint64(u.ModRevision))
	case *pb.Compare_Value:
		return sizeMessage(len(u.Value))
	case *pb.Compare_Lease:
		return 1 + protowire.SizeVarint(uint64(u.Lease))
	}
	return 0
}

func appendTarget(dst []byte, c *pb.Compare) []byte {
	switch u := c.TargetUnion.(type) {
	case *pb.Compare_Version:
		return protowire.AppendVarint(append(dst, 4<<3|varintType), uint64(u.Version))
	case *pb.Compare_CreateRevision:
		return protowire.AppendVarint(append(dst, 5<<3|varintType), uint64(u.CreateRevision))
	case *pb.Compare_ModRevision:
		return protowire.AppendVarint(append(dst, 6<<3|varintType), uint64(u.ModRevision))
	case *pb.Compare_Value:
		return append(appendLen(dst, 7, len(u.Value)), u.Value...)
	case *pb.Compare_Lease:
		return protowire.AppendVarint(append(dst, 8<<3|varintType), uint64(u.Lease))
	}
	return dst
}

func sizeCompare(c *pb.Compare) int {
	n := sizeInt(uint64(c.Result)) + sizeInt(uint64(c.Target)) + sizeBytes(len(c.Key)) + sizeTarget(c)
	if len(c.RangeEnd) > 0 {
		n += 1 + sizeMessage(len(c.RangeEnd))
	}
	return n
}

// appendCompare writes the target union last, after a field with a higher number: Go's protobuf puts oneofs there.
func appendCompare(dst []byte, c *pb.Compare) []byte {
	dst = appendInt(dst, 1, uint64(c.Result))
	dst = appendInt(dst, 2, uint64(c.Target))
	dst = appendBytes(dst, 3, c.Key)
	if len(c.RangeEnd) > 0 {
		dst = protowire.AppendVarint(dst, tagOf(compareRangeEnd, bytesType))
		dst = protowire.AppendVarint(dst, uint64(len(c.RangeEnd)))
		dst = append(dst, c.RangeEnd...)
	}
	return appendTarget(dst, c)
}
