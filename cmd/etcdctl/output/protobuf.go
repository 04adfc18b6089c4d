package output

import (
	"bufio"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// protobuf prints the answer's wire bytes and nothing else, no newline. Of a lease's answer it prints only the header:
// so does etcdctl 3.7.3, whose client hands out a type that holds the header and is no message itself.
type protobuf struct{}

func (protobuf) refuse(answer any) error {
	switch answer.(type) {
	case []Health, []Status, []HashKV:
		return unsupported("protobuf")
	case *Revoked:
		return &UnsupportedError{Text: "marshal unsupported for type *clientv3.LeaseRevokeResponse"}
	}
	return nil
}

func (protobuf) lay(w *bufio.Writer, answer any) error {
	var m proto.Message
	switch r := answer.(type) {
	case *clientv3.PutResponse:
		m = (*pb.PutResponse)(r)
	case *clientv3.GetResponse:
		m = (*pb.RangeResponse)(r)
	case *clientv3.DeleteResponse:
		m = (*pb.DeleteRangeResponse)(r)
	case *clientv3.TxnResponse:
		m = (*pb.TxnResponse)(r)
	case *clientv3.WatchResponse:
		m = watchMessage(r)
	case *clientv3.LeaseGrantResponse:
		m = r.ResponseHeader
	case *clientv3.LeaseKeepAliveResponse:
		m = r.ResponseHeader
	case *Remaining:
		m = r.ResponseHeader
	case *clientv3.LeaseLeasesResponse:
		m = r.ResponseHeader
	case *clientv3.MemberListResponse:
		m = (*pb.MemberListResponse)(r)
	case *clientv3.AlarmResponse:
		m = (*pb.AlarmResponse)(r)
	case *Added, *Changed, *Moved:
		m = raw(r)
	case *Downgrade:
		m = (*pb.DowngradeResponse)(r.DowngradeResponse)
	default:
		m = authMessage(r)
	}
	if m == nil {
		return unsupported("protobuf")
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("output: encode the answer as protobuf: %w", err)
	}
	_, err = w.Write(b)
	return err
}

func watchMessage(r *clientv3.WatchResponse) *pb.WatchResponse {
	return &pb.WatchResponse{
		Header:          r.Header,
		CompactRevision: r.CompactRevision,
		Canceled:        r.Canceled,
		Created:         r.Created,
		Events:          r.Events,
	}
}
