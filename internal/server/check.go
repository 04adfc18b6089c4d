package server

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// checkRange tells whether a range makes sense, whatever the state.
func checkRange(r *pb.RangeRequest) error {
	if len(r.Key) == 0 {
		return ErrEmptyKey
	}
	if _, ok := pb.RangeRequest_SortOrder_name[int32(r.SortOrder)]; !ok {
		return ErrInvalidSortOption
	}
	if _, ok := pb.RangeRequest_SortTarget_name[int32(r.SortTarget)]; !ok {
		return ErrInvalidSortOption
	}
	return nil
}

// checkStream tells whether a range can be streamed: in key order, unfiltered.
func checkStream(r *pb.RangeRequest) error {
	if err := checkRange(r); err != nil {
		return err
	}
	byKey := r.SortTarget == pb.RangeRequest_KEY && r.SortOrder != pb.RangeRequest_DESCEND
	if !byKey && r.SortOrder != pb.RangeRequest_NONE {
		return ErrStreamSorted
	}
	if r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0 {
		return ErrStreamFiltered
	}
	return nil
}

func checkPut(r *pb.PutRequest) error {
	switch {
	case len(r.Key) == 0:
		return ErrEmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return ErrValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return ErrLeaseProvided
	}
	return nil
}

func checkDelete(r *pb.DeleteRangeRequest) error {
	if len(r.Key) == 0 {
		return ErrEmptyKey
	}
	return nil
}

// checkTxn tells whether a transaction makes sense: no more than maxOps compares or operations, nested ones within
// what is left, and no key changed twice.
func checkTxn(r *pb.TxnRequest, maxOps int) error {
	if err := checkTxnOps(r, maxOps); err != nil {
		return err
	}
	if _, err := branchWrites(r.Success); err != nil {
		return err
	}
	_, err := branchWrites(r.Failure)
	return err
}

func checkTxnOps(r *pb.TxnRequest, maxOps int) error {
	n := max(len(r.GetCompare()), len(r.GetSuccess()), len(r.GetFailure()))
	if n > maxOps {
		return ErrTooManyOps
	}
	for _, c := range r.GetCompare() {
		if len(c.Key) == 0 {
			return ErrEmptyKey
		}
	}
	for _, branch := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range branch {
			if err := checkOp(op, maxOps-n); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOp(op *pb.RequestOp, maxOps int) error {
	switch o := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return checkRange(o.RequestRange)
	case *pb.RequestOp_RequestPut:
		return checkPut(o.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return checkDelete(o.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return checkTxnOps(o.RequestTxn, maxOps)
	}
	return ErrKeyNotFound
}

// writes is what a branch changes: keys put, and spans deleted.
type writes struct {
	puts map[string]bool
	dels spans
}

// branchWrites collects what a branch changes, nested transactions included. Deletes may overlap each other; a put may
// overlap nothing but a put in the other branch of the same nested transaction.
func branchWrites(ops []*pb.RequestOp) (writes, error) {
	w := writes{puts: map[string]bool{}}
	for _, op := range ops {
		if d := op.GetRequestDeleteRange(); d != nil {
			w.dels.add(d.Key, d.RangeEnd)
		}
	}
	for _, op := range ops {
		if t := op.GetRequestTxn(); t != nil {
			if err := w.addNested(t); err != nil {
				return w, err
			}
		}
	}
	for _, op := range ops {
		if p := op.GetRequestPut(); p != nil {
			if err := w.addPut(string(p.Key), nil); err != nil {
				return w, err
			}
		}
	}
	return w, nil
}

func (w *writes) addNested(t *pb.TxnRequest) error {
	then, err := branchWrites(t.Success)
	if err != nil {
		return err
	}
	other, err := branchWrites(t.Failure)
	if err != nil {
		return err
	}
	for k := range then.puts {
		if err := w.addPut(k, nil); err != nil {
			return err
		}
	}
	for k := range other.puts {
		if err := w.addPut(k, then.puts); err != nil {
			return err
		}
	}
	w.dels.union(then.dels)
	w.dels.union(other.dels)
	return nil
}

// addPut adds a put. One that is in exclusive, the branch that is not taken when this one is, may be there already.
func (w *writes) addPut(k string, exclusive map[string]bool) error {
	if w.puts[k] && !exclusive[k] || w.dels.contains([]byte(k)) {
		return ErrDuplicateKey
	}
	w.puts[k] = true
	return nil
}

// span is the keys from lo up to hi; open means no upper end.
type span struct {
	lo, hi []byte
	open   bool
}

// spans is a union of spans, kept sorted and disjoint so that a transaction of many operations costs n·log n to check.
type spans []span

// add joins [key, end) to the union; no end: the one key; end {0}: from key on.
func (s *spans) add(key, end []byte) {
	n := span{lo: key, hi: end}
	switch {
	case len(end) == 0:
		n.hi = append(bytes.Clone(key), 0)
	case len(end) == 1 && end[0] == 0:
		n.open = true
	case bytes.Compare(key, end) >= 0:
		return
	}
	s.join(n)
}

func (s *spans) union(o spans) {
	for _, n := range o {
		s.join(n)
	}
}

func (s *spans) join(n span) {
	// The first span that n touches, and the first after it that lies wholly behind n.
	from, _ := slices.BinarySearchFunc(*s, n.lo, func(a span, lo []byte) int {
		if !a.open && bytes.Compare(a.hi, lo) < 0 {
			return -1
		}
		return 1
	})
	to := from
	for to < len(*s) && (n.open || bytes.Compare((*s)[to].lo, n.hi) <= 0) {
		a := (*s)[to]
		if bytes.Compare(a.lo, n.lo) < 0 {
			n.lo = a.lo
		}
		if a.open {
			n.open = true
		} else if !n.open && bytes.Compare(a.hi, n.hi) > 0 {
			n.hi = a.hi
		}
		to++
	}
	*s = slices.Replace(*s, from, to, n)
}

func (s spans) contains(key []byte) bool {
	i, _ := slices.BinarySearchFunc(s, key, func(a span, key []byte) int {
		if !a.open && bytes.Compare(a.hi, key) <= 0 {
			return -1
		}
		return 1
	})
	return i < len(s) && bytes.Compare(s[i].lo, key) <= 0
}
