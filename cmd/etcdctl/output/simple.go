package output

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// simple is the default layout: bare keys and values, one a line, or a sentence.
type simple struct {
	hex, valueOnly bool
	diag           io.Writer
}

func (s *simple) refuse(any) error { return nil }

func (s *simple) lay(w *bufio.Writer, answer any) error {
	switch r := answer.(type) {
	case *clientv3.PutResponse:
		s.put(w, (*pb.PutResponse)(r))
	case *clientv3.GetResponse:
		s.kvs(w, r.Kvs)
	case *clientv3.DeleteResponse:
		s.del(w, (*pb.DeleteRangeResponse)(r))
	case *clientv3.TxnResponse:
		s.txn(w, (*pb.TxnResponse)(r))
	case *clientv3.WatchResponse:
		s.watch(w, r)
	case *clientv3.LeaseGrantResponse:
		fmt.Fprintf(w, "lease %016x granted with TTL(%ds)\n", r.ID, r.TTL)
	case *Revoked:
		fmt.Fprintf(w, "lease %016x revoked\n", r.ID)
	case *clientv3.LeaseKeepAliveResponse:
		fmt.Fprintf(w, "lease %016x keepalived with TTL(%d)\n", r.ID, r.TTL)
	case *Remaining:
		s.remaining(w, r)
	case *clientv3.LeaseLeasesResponse:
		fmt.Fprintf(w, "found %d leases\n", len(r.Leases))
		for _, l := range r.Leases {
			fmt.Fprintf(w, "%016x\n", l.ID)
		}
	case *clientv3.MemberListResponse:
		joined(w, memberRows(r))
	case *clientv3.AlarmResponse:
		for _, a := range r.Alarms {
			fmt.Fprintf(w, "memberID:%d alarm:%s\n", a.MemberID, a.Alarm)
		}
	case *Added, *Changed, *Moved:
		s.members(w, r)
	case *AuthChange, *Role, *User, *clientv3.AuthUserListResponse, *clientv3.AuthRoleListResponse, *clientv3.AuthStatusResponse:
		s.auth(w, r)
	case *Downgrade:
		fmt.Fprintf(w, "Downgrade %s success, cluster version %s\n", r.Step, r.Version)
	case []Health:
		s.health(w, r)
	case []Status:
		joined(w, statusRows(r))
	case []HashKV:
		joined(w, hashRows(r))
	default:
		return unsupported("simple")
	}
	return nil
}

func joined(w *bufio.Writer, rows [][]string) {
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, ", "))
	}
}

func (s *simple) kvs(w *bufio.Writer, kvs []*mvccpb.KeyValue) {
	for _, kv := range kvs {
		if !s.valueOnly {
			s.bytes(w, kv.GetKey())
		}
		s.bytes(w, kv.GetValue())
	}
}

// bytes writes one byte string and a newline; under --hex as \x01\x02….
func (s *simple) bytes(w *bufio.Writer, b []byte) {
	if !s.hex {
		w.Write(b)
	}
	for i := 0; s.hex && i < len(b); i++ {
		fmt.Fprintf(w, `\x%02x`, b[i])
	}
	w.WriteByte('\n')
}

func (s *simple) put(w *bufio.Writer, r *pb.PutResponse) {
	fmt.Fprintln(w, "OK")
	if r.GetPrevKv() != nil {
		s.kvs(w, []*mvccpb.KeyValue{r.GetPrevKv()})
	}
}

func (s *simple) del(w *bufio.Writer, r *pb.DeleteRangeResponse) {
	fmt.Fprintln(w, r.GetDeleted())
	s.kvs(w, r.GetPrevKvs())
}

func (s *simple) txn(w *bufio.Writer, r *pb.TxnResponse) {
	word := "FAILURE"
	if r.GetSucceeded() {
		word = "SUCCESS"
	}
	fmt.Fprintln(w, word)
	for _, op := range r.GetResponses() {
		fmt.Fprintln(w)
		switch v := op.GetResponse().(type) {
		case *pb.ResponseOp_ResponseRange:
			s.kvs(w, v.ResponseRange.GetKvs())
		case *pb.ResponseOp_ResponsePut:
			s.put(w, v.ResponsePut)
		case *pb.ResponseOp_ResponseDeleteRange:
			s.del(w, v.ResponseDeleteRange)
		default:
			fmt.Fprintf(w, "unexpected response %+v\n", op)
		}
	}
}

func (s *simple) watch(w *bufio.Writer, r *clientv3.WatchResponse) {
	for _, e := range r.Events {
		fmt.Fprintln(w, e.GetType())
		if e.GetPrevKv() != nil {
			s.kvs(w, []*mvccpb.KeyValue{e.GetPrevKv()})
		}
		s.kvs(w, []*mvccpb.KeyValue{e.GetKv()})
	}
}

func (s *simple) remaining(w *bufio.Writer, r *Remaining) {
	if r.GrantedTTL == 0 && r.TTL == -1 {
		fmt.Fprintf(w, "lease %016x already expired\n", r.ID)
		return
	}
	fmt.Fprintf(w, "lease %016x granted with TTL(%ds), remaining(%ds)", r.ID, r.GrantedTTL, r.TTL)
	if r.WithKeys {
		fmt.Fprintf(w, ", attached keys(%s)", r.Keys)
	}
	fmt.Fprintln(w)
}

func (s *simple) health(w *bufio.Writer, hs []Health) {
	for _, h := range hs {
		if h.Error == "" {
			fmt.Fprintf(w, "%s is healthy: successfully committed proposal: took = %s\n", h.Endpoint, h.Took)
		} else {
			fmt.Fprintf(s.diag, "%s is unhealthy: failed to commit proposal: %s\n", h.Endpoint, h.Error)
		}
	}
}
