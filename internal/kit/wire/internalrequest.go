package wire

import (
	"fmt"
	"slices"
	"unicode/utf8"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Fields of etcdserverpb.InternalRaftRequest that have a fast path.
const (
	internalID          = 1
	internalPut         = 4
	internalDeleteRange = 5
	internalTxn         = 6
	internalLeaseRevoke = 9
	internalHeader      = 100 // a two-byte tag

	// internalOverhead is room for all but the request itself and the user's name: two IDs and an auth revision of at most
	// eleven bytes each, two tags with lengths, the length of the name.
	internalOverhead = 64
)

// AppendInternalRequest appends r, the content of one log entry, as it is encoded by every member of a cluster.
// Puts, deletes, transactions and lease revocations go by hand, everything else by protobuf. Unknown fields of the
// request are kept. An error is protobuf's: a string that is not UTF-8.
func AppendInternalRequest(dst []byte, r *pb.InternalRaftRequest) ([]byte, error) {
	if out, ok := appendFast(dst, r); ok {
		return out, nil
	}
	out, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(dst, r)
	if err != nil {
		return dst, fmt.Errorf("wire: encode a log entry: %w", err)
	}
	return out, nil
}

// appendFast encodes r where it holds one of the fast kinds and nothing else. proto.Equal would be the honest way
// to say "nothing else", and too slow: so the rare kinds are asked for by their absence in soleKind.
func appendFast(dst []byte, r *pb.InternalRaftRequest) ([]byte, bool) {
	num, size, ok := soleKind(r)
	if !ok || hasUnknown(r) || r.Header != nil && (hasUnknown(r.Header) || !utf8.ValidString(r.Header.Username)) {
		return dst, false
	}
	dst = slices.Grow(dst, internalOverhead+size+len(r.GetHeader().GetUsername()))
	dst = appendInt(dst, internalID, r.ID)
	dst = appendLen(dst, num, size)
	switch num {
	case internalPut:
		dst = appendPutRequest(dst, r.Put)
	case internalDeleteRange:
		dst = appendDeleteRangeRequest(dst, r.DeleteRange)
	case internalTxn:
		dst = appendTxnRequest(dst, r.Txn)
	case internalLeaseRevoke:
		dst = appendInt(dst, 1, uint64(r.LeaseRevoke.ID))
	}
	if h := r.Header; h != nil {
		dst = protowire.AppendVarint(dst, tagOf(internalHeader, bytesType))
		dst = protowire.AppendVarint(dst, uint64(sizeInt(h.ID)+sizeBytes(len(h.Username))+sizeInt(h.AuthRevision)))
		dst = appendInt(dst, 1, h.ID)
		if h.Username != "" {
			dst = append(appendLen(dst, 2, len(h.Username)), h.Username...)
		}
		dst = appendInt(dst, 3, h.AuthRevision)
	}
	return dst, true
}

// soleKind names the one fast kind that r holds, with its encoded size. It answers false where r holds another
// kind too, or a fast kind that has unknown fields.
func soleKind(r *pb.InternalRaftRequest) (num byte, size int, ok bool) {
	set := 0
	if r.Put != nil {
		set++
		num, size, ok = internalPut, sizePutRequest(r.Put), !hasUnknown(r.Put)
	}
	if r.DeleteRange != nil {
		set++
		num, size, ok = internalDeleteRange, sizeDeleteRangeRequest(r.DeleteRange), !hasUnknown(r.DeleteRange)
	}
	if r.Txn != nil {
		set++
		ok = knownTxn(r.Txn)
		if ok {
			num, size = internalTxn, sizeTxnRequest(r.Txn)
		}
	}
	if r.LeaseRevoke != nil {
		set++
		num, size, ok = internalLeaseRevoke, sizeInt(uint64(r.LeaseRevoke.ID)), !hasUnknown(r.LeaseRevoke)
	}
	return num, size, ok && set == 1 && !rareKind(r)
}

// rareKind says whether r holds a kind that protobuf encodes.
func rareKind(r *pb.InternalRaftRequest) bool {
	common := r.Range != nil || r.Compaction != nil || r.LeaseGrant != nil || r.Alarm != nil || r.LeaseCheckpoint != nil
	auth := r.AuthEnable != nil || r.AuthDisable != nil || r.AuthStatus != nil || r.Authenticate != nil
	users := r.AuthUserAdd != nil || r.AuthUserDelete != nil || r.AuthUserGet != nil || r.AuthUserChangePassword != nil ||
		r.AuthUserGrantRole != nil || r.AuthUserRevokeRole != nil || r.AuthUserList != nil
	roles := r.AuthRoleList != nil || r.AuthRoleAdd != nil || r.AuthRoleDelete != nil || r.AuthRoleGet != nil ||
		r.AuthRoleGrantPermission != nil || r.AuthRoleRevokePermission != nil
	cluster := r.ClusterVersionSet != nil || r.ClusterMemberAttrSet != nil || r.DowngradeInfoSet != nil || r.DowngradeVersionTest != nil
	return common || auth || users || roles || cluster
}

func hasUnknown(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) > 0 }

// DecodeInternalRequest decodes one log entry into r, which must be fresh. Keys and values alias b: entries never
// change. An error is protobuf's.
func DecodeInternalRequest(b []byte, r *pb.InternalRaftRequest) error {
	if internalRequest(b, r) {
		return nil
	}
	if err := proto.Unmarshal(b, r); err != nil {
		return fmt.Errorf("wire: decode a log entry: %w", err)
	}
	return nil
}

// internalRequest leaves to protobuf whatever is not one fast kind: a field given twice would have to be merged.
func internalRequest(b []byte, r *pb.InternalRaftRequest) bool {
	f := fields{b: b, ok: true}
	for {
		tag, more := f.next()
		if !more {
			return f.ok
		}
		ok := false
		switch {
		case tag == internalID<<3|varintType:
			r.ID, ok = f.varint(), true
		case tag == internalPut<<3|bytesType && r.Put == nil:
			r.Put = new(pb.PutRequest)
			ok = putRequest(f.bytes(), r.Put)
		case tag == internalDeleteRange<<3|bytesType && r.DeleteRange == nil:
			r.DeleteRange = new(pb.DeleteRangeRequest)
			ok = deleteRangeRequest(f.bytes(), r.DeleteRange)
		case tag == internalTxn<<3|bytesType && r.Txn == nil:
			r.Txn = new(pb.TxnRequest)
			ok = txnRequest(f.bytes(), r.Txn, txnDepthMax)
		case tag == internalHeader<<3|bytesType && r.Header == nil:
			r.Header = new(pb.RequestHeader)
			ok = requestHeader(f.bytes(), r.Header)
		}
		if !ok {
			return false
		}
	}
}

func requestHeader(b []byte, h *pb.RequestHeader) bool {
	f := fields{b: b, ok: true}
	for {
		tag, more := f.next()
		if !more {
			return f.ok
		}
		switch tag {
		case 1<<3 | varintType:
			h.ID = f.varint()
		case 2<<3 | bytesType:
			h.Username = string(f.bytes())
			if !utf8.ValidString(h.Username) {
				return false
			}
		case 3<<3 | varintType:
			h.AuthRevision = f.varint()
		default:
			return false
		}
	}
}
