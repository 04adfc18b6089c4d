package grpcproxy

import (
	"context"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// passed are the metadata of a call that go on to the member with it: whose call it is, and whether the member needs a leader.
var passed = []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger, rpctypes.MetadataRequireLeaderKey}

const (
	// againPause and againMax bound how long a failure of members is hidden from a call: about a second. The balancer gives
	// each attempt another member.
	againPause = 25 * time.Millisecond
	againMax   = 40
)

// repeatable are the calls that may be made twice.
var repeatable = map[string]bool{
	pb.KV_Range_FullMethodName: true, pb.Lease_LeaseTimeToLive_FullMethodName: true, pb.Lease_LeaseLeases_FullMethodName: true,
	pb.Cluster_MemberList_FullMethodName: true, pb.Maintenance_Status_FullMethodName: true, pb.Maintenance_HashKV_FullMethodName: true,
	pb.Maintenance_Hash_FullMethodName: true, pb.Auth_Authenticate_FullMethodName: true, pb.Auth_AuthStatus_FullMethodName: true,
	pb.Auth_UserGet_FullMethodName: true, pb.Auth_UserList_FullMethodName: true, pb.Auth_RoleGet_FullMethodName: true, pb.Auth_RoleList_FullMethodName: true,
}

// DialOptions are what the client of the members must be made with: by them each call that is made in the context of a
// client's call goes out under the token of that client, never under another one's. Requests and answers are bounded by
// sendMax and recvMax bytes.
//
// They take the place of the client's own retries, which repeat a call whose token was refused up to a hundred times: it may
// have a new token then. Here tokens are the callers'.
func DialOptions(sendMax, recvMax int) []grpc.DialOption {
	// They come last, so that they hold for every call, whatever else it was made with.
	bounds := []grpc.CallOption{grpc.MaxCallSendMsgSize(sendMax), grpc.MaxCallRecvMsgSize(recvMax)}
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return call(ctx, method, req, reply, cc, invoke, append(opts, bounds...)...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(asCaller(ctx), d, cc, method, append(opts, bounds...)...)
		}),
	}
}

// undated is a context that ends with another one and doesn't tell when that will be. Callers' deadlines differ by
// nanoseconds: told to members, each call's would be a header of its own that no table of headers has, and one more timer
// there. A call that is over here is cancelled there.
type undated struct{ context.Context }

func (undated) Deadline() (time.Time, bool) { return time.Time{}, false }

// call makes a call, again where a member failed and another one may not.
func call(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx = undated{asCaller(ctx)}
	for attempt := 1; ; attempt++ {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if attempt == againMax || !mayRepeat(method, err) {
			return err
		}
		pause := time.NewTimer(againPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// mayRepeat tells whether a call that failed may be made again: each that no member has seen, and of the others those that
// change nothing.
func mayRepeat(method string, err error) bool {
	s, ok := status.FromError(err)
	if err == nil || !ok || s.Code() != codes.Unavailable || s.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader) {
		return false
	}
	// It is so where no connection was there: one that broke under a call has another text.
	return repeatable[method] || strings.Contains(s.Message(), "connection error: desc")
}

// asCaller copies the metadata of the client's call to the outgoing one. What is there already is kept: whoever sets a token
// for itself means it.
func asCaller(ctx context.Context) context.Context {
	out, _ := metadata.FromOutgoingContext(ctx)
	var more []string
	for _, key := range passed {
		if len(out.Get(key)) > 0 {
			continue
		}
		for _, value := range metadata.ValueFromIncomingContext(ctx, key) {
			more = append(more, key, value)
		}
	}
	if len(more) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, more...)
}
