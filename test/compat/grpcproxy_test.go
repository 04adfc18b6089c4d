package compat

import (
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/test/process"
)

// proxied gives who answers for a member: a gRPC proxy before Keelson's, and etcd's itself.
func proxied(t *testing.T, m *process.Member) *process.Member {
	t.Helper()
	if m.Program.Name != "keelson" {
		return m
	}
	// Large requests get as far as the member.
	return process.Proxy(t, []*process.Member{m}, "--max-send-bytes=4000000")
}

// Every call that TestCalls makes of a member is answered the same by a proxy before it, but for the list of members, which is
// that of the proxies.
func TestProxyCalls(t *testing.T) {
	t.Parallel()
	asked := slices.DeleteFunc(requests(), func(r proto.Message) bool { _, ok := r.(*pb.MemberListRequest); return ok })
	got, want := twins(t, func(m *process.Member) []string { return callAll(reach(t, proxied(t, m)), asked) })
	agree(t, got, want)
}

// So are the watches of TestWatches. A proxy keeps the last header of a stream for what it tells by itself, and answers a
// request for progress to the watcher that wants to hear of progress anyway first.
func TestProxyWatches(t *testing.T) {
	t.Parallel()
	got, want := twins(t, func(m *process.Member) []string { return watchAll(reach(t, proxied(t, m))) })
	for i, line := range got {
		switch {
		case strings.HasPrefix(line, "compacted: ") && strings.Contains(line, `"canceled":true`):
			got[i] = strings.Replace(line, `"revision":"16",`, "", 1)
		case strings.HasPrefix(line, "now: progress: "):
			got[i] = strings.Replace(line, `"raftTerm":"2"}}`, `"raftTerm":"2"},"watchId":"-1"}`, 1)
		}
	}
	agree(t, got, want)
}
