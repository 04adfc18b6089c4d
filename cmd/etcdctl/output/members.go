package output

import (
	"bufio"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// Added is the answer of a member add, with what the new member is to be started with: simple prints that as variables of
// its environment.
type Added struct {
	Name, PeerURLs string // as they were given
	Response       *pb.MemberAddResponse
}

// Changed is the answer of another change of one member.
type Changed struct {
	ID       uint64
	Done     string // "removed from", "updated in" or "promoted in"
	Response memberAnswer
}

// memberAnswer is what the answers of all changes of members are.
type memberAnswer interface {
	proto.Message
	GetHeader() *pb.ResponseHeader
	GetMembers() []*pb.Member
}

// Moved is the answer of a move of leadership.
type Moved struct {
	From, To uint64
	*clientv3.MoveLeaderResponse
}

// raw gives an answer of this file as the server sent it, nil for others.
func raw(answer any) proto.Message {
	switch r := answer.(type) {
	case *Added:
		return r.Response
	case *Changed:
		return r.Response
	case *Moved:
		return (*pb.MoveLeaderResponse)(r.MoveLeaderResponse)
	}
	return nil
}

func (s *simple) members(w *bufio.Writer, answer any) {
	switch r := answer.(type) {
	case *Added:
		added(w, r)
	case *Changed:
		fmt.Fprintf(w, "Member %16x %s cluster %16x\n", r.ID, r.Done, r.Response.GetHeader().GetClusterId())
	case *Moved:
		fmt.Fprintf(w, "Leadership transferred from %s to %s\n", types.ID(r.From), types.ID(r.To))
	}
}

func added(w *bufio.Writer, r *Added) {
	as, m := " ", r.Response.GetMember()
	if m.GetIsLearner() {
		as = " as learner "
	}
	fmt.Fprintf(w, "Member %16x added%sto cluster %16x\n", m.GetID(), as, r.Response.GetHeader().GetClusterId())
	var initial []string
	for _, o := range r.Response.GetMembers() {
		name := o.GetName()
		if o.GetID() == m.GetID() {
			name = r.Name
		}
		for _, u := range o.GetPeerURLs() {
			initial = append(initial, name+"="+u)
		}
	}
	fmt.Fprintf(w, "\nETCD_NAME=%q\n", r.Name)
	fmt.Fprintf(w, "ETCD_INITIAL_CLUSTER=%q\n", strings.Join(initial, ","))
	fmt.Fprintf(w, "ETCD_INITIAL_ADVERTISE_PEER_URLS=%q\n", r.PeerURLs)
	fmt.Fprintf(w, "ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n")
}

// hexAdded stands for the generated type under --hex.
type hexAdded struct {
	Header  *hexHeaderJSON   `json:"header"`
	Member  *hexMemberJSON   `json:"member"`
	Members []*hexMemberJSON `json:"members"`
}

// hexOf gives an answer of this file as it is printed under --hex; those that are not about members stay as they are.
func hexOf(answer any) any {
	switch r := answer.(type) {
	case *Added:
		return &hexAdded{hexHeader(r.Response.GetHeader()), hexMember(r.Response.GetMember()), hexList(r.Response.GetMembers())}
	case *Changed:
		return &hexMembersJSON{hexHeader(r.Response.GetHeader()), hexList(r.Response.GetMembers())}
	}
	return raw(answer)
}
