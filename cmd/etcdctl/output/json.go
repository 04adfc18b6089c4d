package output

import (
	"bufio"
	"encoding/json"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// jsonLayout prints an answer as one line of JSON, by the struct tags of the generated types: byte strings in base64,
// IDs as numbers. Under --hex the IDs of the cluster calls, and only those, are hexadecimal strings.
type jsonLayout struct {
	hex bool
}

func (j *jsonLayout) refuse(any) error { return nil }

func (j *jsonLayout) lay(w *bufio.Writer, answer any) error {
	switch r := answer.(type) {
	case *clientv3.TxnResponse:
		answer = txnToJSON((*pb.TxnResponse)(r))
	case *Revoked:
		answer = r.LeaseRevokeResponse
	case *Downgrade:
		answer = r.DowngradeResponse
	case *Remaining:
		answer = r.LeaseTimeToLiveResponse
	case *Added, *Changed, *Moved:
		answer = raw(r)
		if j.hex {
			answer = hexOf(r)
		}
	case *clientv3.MemberListResponse:
		if j.hex {
			answer = &hexMembersJSON{hexHeader(r.Header), hexList(r.Members)}
		}
	case *AuthChange, *Role, *User:
		answer = authMessage(r)
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("output: encode the answer as JSON: %w", err)
	}
	w.Write(b)
	return w.WriteByte('\n')
}

// txnJSON and opJSON stand for the generated types because a oneof has no struct tags: the names below are etcd's.
type txnJSON struct {
	Header    *pb.ResponseHeader `json:"header,omitempty"`
	Succeeded bool               `json:"succeeded,omitempty"`
	Responses []opJSON           `json:"responses,omitempty"`
}

type opJSON struct {
	Response oneofJSON `json:"Response"`
}

type oneofJSON struct {
	Range  *pb.RangeResponse       `json:"response_range,omitempty"`
	Put    *pb.PutResponse         `json:"response_put,omitempty"`
	Delete *pb.DeleteRangeResponse `json:"response_delete_range,omitempty"`
	Txn    *txnJSON                `json:"response_txn,omitempty"`
}

func txnToJSON(r *pb.TxnResponse) *txnJSON {
	t := &txnJSON{Header: r.GetHeader(), Succeeded: r.GetSucceeded()}
	for _, op := range r.GetResponses() {
		o := oneofJSON{Range: op.GetResponseRange(), Put: op.GetResponsePut(), Delete: op.GetResponseDeleteRange()}
		if nested := op.GetResponseTxn(); nested != nil {
			o.Txn = txnToJSON(nested)
		}
		t.Responses = append(t.Responses, opJSON{o})
	}
	return t
}

type hexHeaderJSON struct {
	ClusterID string `json:"cluster_id"`
	MemberID  string `json:"member_id"`
	Revision  int64  `json:"revision,omitempty"`
	RaftTerm  uint64 `json:"raft_term,omitempty"`
}

type hexMemberJSON struct {
	ID         string   `json:"ID"`
	Name       string   `json:"name,omitempty"`
	PeerURLs   []string `json:"peerURLs,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
	IsLearner  bool     `json:"isLearner,omitempty"`
}

type hexMembersJSON struct {
	Header  *hexHeaderJSON   `json:"header"`
	Members []*hexMemberJSON `json:"members"`
}

func hexHeader(h *pb.ResponseHeader) *hexHeaderJSON {
	if h == nil {
		return nil
	}
	return &hexHeaderJSON{
		ClusterID: fmt.Sprintf("%x", h.ClusterId), MemberID: fmt.Sprintf("%x", h.MemberId), Revision: h.Revision, RaftTerm: h.RaftTerm,
	}
}

func hexMember(m *pb.Member) *hexMemberJSON {
	return &hexMemberJSON{fmt.Sprintf("%x", m.GetID()), m.GetName(), m.GetPeerURLs(), m.GetClientURLs(), m.GetIsLearner()}
}

func hexList(all []*pb.Member) []*hexMemberJSON {
	list := make([]*hexMemberJSON, len(all))
	for i, m := range all {
		list[i] = hexMember(m)
	}
	return list
}
