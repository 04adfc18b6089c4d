package apply

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"

	"keelson/internal/kit/wire"
	"keelson/internal/state/v2store"
)

// Members up to 3.5 publish themselves, and the cluster's version, by requests of the v2 API: an entry that is a bare
// Request message, or an InternalRaftRequest that holds one in field 2. Two of its paths matter here, others must
// not be guessed at:
//
//	PUT /0/members/<hex id>/attributes  {"name":…,"clientURLs":[…]}
//	PUT /0/version                      3.5.0
const (
	v2Field       protowire.Number = 2 // in InternalRaftRequest
	v2PathVersion                  = "/0/version"
	v2PathMembers                  = "/0/members/"
	v2AttrSuffix                   = "attributes"
)

// legacy tells whether a decoded request holds a v2 request, or nothing that this version knows but the v2 field.
func legacy(r *pb.InternalRaftRequest) bool {
	b := r.ProtoReflect().GetUnknown()
	if len(b) == 0 {
		return false
	}
	num, _, n := protowire.ConsumeTag(b)
	return n > 0 && num == v2Field
}

// IsV2 tells whether an entry holds a request of the v2 API.
func IsV2(e *raftpb.Entry) bool {
	if e.GetType() != raftpb.EntryNormal || len(e.Data) == 0 {
		return false
	}
	var req pb.InternalRaftRequest
	return wire.DecodeInternalRequest(e.Data, &req) != nil || legacy(&req)
}

// applyV2 executes a v2 request. Requests with another meaning are fatal.
func (a *Applier) applyV2(e *raftpb.Entry) error {
	r, err := v2store.Parse(e.Data)
	if err != nil {
		return fmt.Errorf("%w: entry %d: %w", ErrUnknownRequest, e.GetIndex(), err)
	}
	switch {
	case r.Method == v2store.MethodSync || r.Method == v2store.MethodQGet:
		return nil // one expires v2 keys, of which there are none; the other reads
	case r.Method == v2store.MethodPut && r.Path == v2PathVersion:
		return a.setVersion(r.Value).Err
	case r.Method == v2store.MethodPut && strings.HasPrefix(r.Path, v2PathMembers) && path.Base(r.Path) == v2AttrSuffix:
		return a.applyV2Attributes(r)
	}
	return fmt.Errorf("%w: entry %d is the v2 request %s %s; a directory that holds v2 keys is to be migrated first: etcdctl migrate",
		ErrUnknownRequest, e.GetIndex(), r.Method, r.Path)
}

func (a *Applier) applyV2Attributes(r v2store.Request) error {
	hex := path.Base(path.Dir(r.Path))
	id, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return fmt.Errorf("apply: member ID in %s: %w", r.Path, err)
	}
	var attr struct {
		Name       string   `json:"name"`
		ClientURLs []string `json:"clientURLs"`
	}
	if err := json.Unmarshal([]byte(r.Value), &attr); err != nil {
		return fmt.Errorf("apply: attributes in %s: %w", r.Path, err)
	}
	return a.setAttributes(id, attr.Name, attr.ClientURLs).Err
}
