package grpcproxy

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/wire"
)

// answering answers each call with the same bytes, or fails, and remembers what it was sent.
type answering struct {
	grpc.ClientConnInterface
	answer []byte
	fail   error
	sent   []byte
	calls  int
}

func (m *answering) Invoke(_ context.Context, _ string, in, out any, _ ...grpc.CallOption) error {
	m.calls++
	sent, err := codec{}.Marshal(in)
	if err != nil {
		return err
	}
	m.sent = sent.Materialize()
	if m.fail != nil {
		return m.fail
	}
	return codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(m.answer)}, out)
}

// send calls a method as grpc does, with a request of these bytes.
func send(t *testing.T, d grpc.MethodDesc, request []byte, around grpc.UnaryServerInterceptor) ([]byte, error) {
	t.Helper()
	answer, err := d.Handler(nil, t.Context(), func(v any) error {
		return codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(request)}, v)
	}, around)
	if err != nil {
		return nil, err
	}
	b, err := codec{}.Marshal(answer)
	return b.Materialize(), err
}

func encoded(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Requests and answers pass as they came, with what this version knows nothing of.
func TestForwardsBytes(t *testing.T) {
	unknown := []byte{0xfa, 0x7f, 1, 'x'} // field 2047, one byte
	m := &answering{answer: append(encoded(t, &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 7}}), unknown...)}
	f := &forwarder{to: m, cache: newCache(clock.System)}
	put := forwarded(f, pb.KV_Put_FullMethodName, wire.DecodePutRequest)
	if put.MethodName != "Put" {
		t.Error(put.MethodName)
	}
	request := append(encoded(t, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}), unknown...)
	answer, err := send(t, put, request, nil)
	if err != nil || !bytes.Equal(answer, m.answer) || !bytes.Equal(m.sent, request) {
		t.Errorf("%q, %v; sent %q", answer, err, m.sent)
	}
	var seen string
	answer, err = send(t, put, request, func(ctx context.Context, r any, info *grpc.UnaryServerInfo, serve grpc.UnaryHandler) (any, error) {
		seen = info.FullMethod
		return serve(ctx, r)
	})
	if err != nil || seen != pb.KV_Put_FullMethodName || !bytes.Equal(answer, m.answer) {
		t.Errorf("around a call: %q, %q, %v", seen, answer, err)
	}
	calls := m.calls
	if _, err := send(t, put, []byte{0x0a, 0x05, 'k'}, nil); err == nil || m.calls != calls {
		t.Errorf("half a request: %v, %d calls", err, m.calls-calls)
	}
}

// A serializable range is remembered until a change of its keys was tried, however that went.
func TestForwarderRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // an answer is kept for a second
		m := &answering{answer: encoded(t, &pb.RangeResponse{Count: 1})}
		f := &forwarder{to: m, cache: newCache(clock.System)}
		get := forwarded(f, pb.KV_Range_FullMethodName, wire.DecodeRangeRequest)
		ask := func(r *pb.RangeRequest, calls int) {
			t.Helper()
			before := m.calls
			if answer, err := send(t, get, encoded(t, r), nil); err != nil || !bytes.Equal(answer, m.answer) || m.calls-before != calls {
				t.Errorf("%v: %q, %v after %d calls", r, answer, err, m.calls-before)
			}
		}
		kept := &pb.RangeRequest{Key: []byte("k"), Serializable: true}
		ask(kept, 1)
		ask(kept, 0)
		ask(&pb.RangeRequest{Key: []byte("k")}, 1)
		m.fail = errors.New("lost on the way")
		if _, err := send(t, forwarded(f, pb.KV_Put_FullMethodName, wire.DecodePutRequest), encoded(t, &pb.PutRequest{Key: []byte("k")}), nil); !errors.Is(err, m.fail) {
			t.Error(err)
		}
		if _, err := send(t, get, encoded(t, kept), nil); !errors.Is(err, m.fail) {
			t.Error("remembered a failure, or what may have been changed:", err)
		}
		m.fail = nil
		ask(kept, 1)
		ask(kept, 0)
	})
}

// A range in parts comes through whole, and so does its refusal.
func TestForwardsStreams(t *testing.T) {
	f := serve(t)
	f.put("k", "1")
	var keys int
	for part := range must(f.proxy.GetStream(t.Context(), "k")) {
		if part.Err() != nil {
			t.Fatal(part.Err())
		}
		keys += len(part.RangeResponse.GetKvs())
	}
	if keys != 1 {
		t.Error(keys, "keys")
	}
	var failed error
	for part := range must(f.proxy.GetStream(t.Context(), "k", clientv3.WithRev(math.MaxInt64-1))) {
		failed = errors.Join(failed, part.Err())
	}
	if failed == nil {
		t.Error("a revision that is yet to come was answered")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Members are not told when a caller's time is over; the call ends then all the same.
func TestCallsAreUndated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		err := call(ctx, pb.KV_Put_FullMethodName, nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			if at, ok := ctx.Deadline(); ok {
				t.Error("told of", at)
			}
			inner, cancel := context.WithCancel(ctx)
			defer cancel()
			<-inner.Done()
			return inner.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
