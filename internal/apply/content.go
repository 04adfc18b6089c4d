package apply

import (
	"fmt"
	"path"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/wire"
	"keelson/internal/state/v2store"
)

// Content says what an entry is about, for tools that copy a log without executing it.
type Content int

// What entries are about.
const (
	ContentNone    Content = iota // the empty entry that a leader begins its term with
	ContentMembers                // who the members are: conf changes, and what members publish of themselves
	ContentV2                     // a write of the v2 API's keys or users
	ContentV2Other                // another request of the v2 API: the cluster version, the clock of its TTLs, a read
	ContentV3                     // any other request
)

// ContentOf tells what an entry is about. ErrUnknownRequest where it is nothing that any version writes.
func ContentOf(e *raftpb.Entry) (Content, error) {
	if e.GetType() != raftpb.EntryNormal {
		return ContentMembers, nil
	}
	if len(e.Data) == 0 {
		return ContentNone, nil
	}
	var req pb.InternalRaftRequest
	if err := wire.DecodeInternalRequest(e.Data, &req); err == nil && !legacy(&req) {
		if req.ClusterMemberAttrSet != nil {
			return ContentMembers, nil
		}
		return ContentV3, nil
	}
	r, err := v2store.Parse(e.Data)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: entry %d: %w", ErrUnknownRequest, e.GetIndex(), err)
	case r.Method == v2store.MethodPut && strings.HasPrefix(r.Path, v2PathMembers) && path.Base(r.Path) == v2AttrSuffix:
		return ContentMembers, nil
	case r.Method == v2store.MethodSync || r.Method == v2store.MethodQGet || r.Path == v2PathVersion:
		return ContentV2Other, nil
	}
	return ContentV2, nil
}
