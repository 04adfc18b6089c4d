package wire

// Size is the encoded length of h in bytes.
func (h *Header) Size() int {
	return sizeInt(h.ClusterID) + sizeInt(h.MemberID) + sizeInt(uint64(h.Revision)) + sizeInt(h.Term)
}

// AppendTo appends h as an encoded etcdserverpb.ResponseHeader.
func (h *Header) AppendTo(dst []byte) []byte {
	dst = appendInt(dst, 1, h.ClusterID)
	dst = appendInt(dst, 2, h.MemberID)
	dst = appendInt(dst, 3, uint64(h.Revision))
	return appendInt(dst, 4, h.Term)
}

// Every answer but a watch's has its header in field 1; nil leaves it out.
func sizeHeader(h *Header) int {
	if h == nil {
		return 0
	}
	return sizeMessage(h.Size())
}

func appendHeader(dst []byte, h *Header) []byte {
	if h == nil {
		return dst
	}
	return h.AppendTo(appendLen(dst, 1, h.Size()))
}

func sizeEach(msgs [][]byte) (n int) {
	for _, m := range msgs {
		n += sizeMessage(len(m))
	}
	return n
}

func appendEach(dst []byte, num byte, msgs [][]byte) []byte {
	for _, m := range msgs {
		dst = append(appendLen(dst, num, len(m)), m...)
	}
	return dst
}

// Size is the encoded length of r in bytes.
func (r *RangeResponse) Size() int {
	return sizeHeader(r.Header) + sizeEach(r.KVs) + sizeBool(r.More) + sizeInt(uint64(r.Count))
}

// AppendTo appends r as an encoded etcdserverpb.RangeResponse.
func (r *RangeResponse) AppendTo(dst []byte) []byte {
	dst = appendHeader(dst, r.Header)
	dst = appendEach(dst, 2, r.KVs)
	dst = appendBool(dst, 3, r.More)
	return appendInt(dst, 4, uint64(r.Count))
}

// Size is the encoded length of r in bytes.
func (r *RangeStreamResponse) Size() int { return sizeMessage(r.Range.Size()) }

// AppendTo appends r as an encoded etcdserverpb.RangeStreamResponse.
func (r *RangeStreamResponse) AppendTo(dst []byte) []byte {
	return r.Range.AppendTo(appendLen(dst, 1, r.Range.Size()))
}

// Size is the encoded length of r in bytes.
func (r *PutResponse) Size() int {
	n := sizeHeader(r.Header)
	if r.PrevKV != nil {
		n += sizeMessage(len(r.PrevKV))
	}
	return n
}

// AppendTo appends r as an encoded etcdserverpb.PutResponse.
func (r *PutResponse) AppendTo(dst []byte) []byte {
	dst = appendHeader(dst, r.Header)
	if r.PrevKV != nil {
		dst = append(appendLen(dst, 2, len(r.PrevKV)), r.PrevKV...)
	}
	return dst
}

// Size is the encoded length of r in bytes.
func (r *DeleteRangeResponse) Size() int {
	return sizeHeader(r.Header) + sizeInt(uint64(r.Deleted)) + sizeEach(r.PrevKVs)
}

// AppendTo appends r as an encoded etcdserverpb.DeleteRangeResponse.
func (r *DeleteRangeResponse) AppendTo(dst []byte) []byte {
	dst = appendHeader(dst, r.Header)
	dst = appendInt(dst, 2, uint64(r.Deleted))
	return appendEach(dst, 3, r.PrevKVs)
}

// Size is the encoded length of r in bytes.
func (r *TxnResponse) Size() int {
	n := sizeHeader(r.Header) + sizeBool(r.Succeeded)
	for i := range r.Responses {
		n += sizeMessage(r.Responses[i].size())
	}
	return n
}

// AppendTo appends r as an encoded etcdserverpb.TxnResponse. A transaction within it is sized once for each
// transaction around it; the depth of nesting is bounded by the operations that one request may have.
func (r *TxnResponse) AppendTo(dst []byte) []byte {
	dst = appendHeader(dst, r.Header)
	dst = appendBool(dst, 2, r.Succeeded)
	for i := range r.Responses {
		op := &r.Responses[i]
		dst = op.appendTo(appendLen(dst, 3, op.size()))
	}
	return dst
}

func (o *ResponseOp) size() int {
	switch {
	case o.Range != nil:
		return sizeMessage(o.Range.Size())
	case o.Put != nil:
		return sizeMessage(o.Put.Size())
	case o.DeleteRange != nil:
		return sizeMessage(o.DeleteRange.Size())
	case o.Txn != nil:
		return sizeMessage(o.Txn.Size())
	}
	return 0
}

func (o *ResponseOp) appendTo(dst []byte) []byte {
	switch {
	case o.Range != nil:
		return o.Range.AppendTo(appendLen(dst, 1, o.Range.Size()))
	case o.Put != nil:
		return o.Put.AppendTo(appendLen(dst, 2, o.Put.Size()))
	case o.DeleteRange != nil:
		return o.DeleteRange.AppendTo(appendLen(dst, 3, o.DeleteRange.Size()))
	case o.Txn != nil:
		return o.Txn.AppendTo(appendLen(dst, 4, o.Txn.Size()))
	}
	return dst
}

// Size is the encoded length of e in bytes.
func (e *Event) Size() int {
	n := sizeBool(e.Delete)
	if e.KV != nil {
		n += sizeMessage(len(e.KV))
	}
	if e.PrevKV != nil {
		n += sizeMessage(len(e.PrevKV))
	}
	return n
}

// AppendTo appends e as an encoded mvccpb.Event.
func (e *Event) AppendTo(dst []byte) []byte {
	dst = appendBool(dst, 1, e.Delete)
	if e.KV != nil {
		dst = append(appendLen(dst, 2, len(e.KV)), e.KV...)
	}
	if e.PrevKV != nil {
		dst = append(appendLen(dst, 3, len(e.PrevKV)), e.PrevKV...)
	}
	return dst
}

// Size is the encoded length of r in bytes.
func (r *WatchResponse) Size() int {
	n := sizeHeader(&r.Header) + sizeInt(uint64(r.WatchID)) + sizeBool(r.Created) + sizeBool(r.Canceled) +
		sizeInt(uint64(r.CompactRevision)) + sizeBytes(len(r.CancelReason)) + sizeBool(r.Fragment)
	for i := range r.Events {
		n += sizeMessage(r.Events[i].Size())
	}
	return n
}

// AppendTo appends r as an encoded etcdserverpb.WatchResponse, whose events are field 11.
func (r *WatchResponse) AppendTo(dst []byte) []byte {
	dst = appendHeader(dst, &r.Header)
	dst = appendInt(dst, 2, uint64(r.WatchID))
	dst = appendBool(dst, 3, r.Created)
	dst = appendBool(dst, 4, r.Canceled)
	dst = appendInt(dst, 5, uint64(r.CompactRevision))
	if r.CancelReason != "" {
		dst = append(appendLen(dst, 6, len(r.CancelReason)), r.CancelReason...)
	}
	dst = appendBool(dst, 7, r.Fragment)
	for i := range r.Events {
		e := &r.Events[i]
		dst = e.AppendTo(appendLen(dst, 11, e.Size()))
	}
	return dst
}

// Size is the encoded length of r in bytes.
func (r *LeaseKeepAliveResponse) Size() int {
	return sizeHeader(&r.Header) + sizeInt(uint64(r.ID)) + sizeInt(uint64(r.TTL))
}

// AppendTo appends r as an encoded etcdserverpb.LeaseKeepAliveResponse.
func (r *LeaseKeepAliveResponse) AppendTo(dst []byte) []byte {
	dst = appendHeader(dst, &r.Header)
	dst = appendInt(dst, 2, uint64(r.ID))
	return appendInt(dst, 3, uint64(r.TTL))
}
