package apply

import (
	"fmt"
	"slices"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/versionpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoimpl"

	"keelson/internal/kit/wire"
)

// NeededVersion gives the oldest version that can read all the entries: the newest one that any message, field or enum
// value in them came with, as api's own notes say. Requests of the v2 API are passed over: no version since 3.6 reads them.
func NeededVersion(ents []*raftpb.Entry) (semver.Version, error) {
	n := needed{}
	for _, e := range ents {
		if e.GetType() != raftpb.EntryNormal || len(e.Data) == 0 {
			continue // conf changes are older than every version in question
		}
		var req pb.InternalRaftRequest
		if err := proto.Unmarshal(e.Data, &req); err != nil || legacy(&req) {
			continue
		}
		n.message(req.ProtoReflect())
		if t := req.DowngradeVersionTest; t != nil {
			n.text(t.GetVer())
		}
		if n.err != nil {
			return semver.Version{}, fmt.Errorf("apply: which version entry %d needs: %w", e.GetIndex(), n.err)
		}
	}
	return n.most, nil
}

// LastUnreadable gives the index of the last entry that a stock member of the cluster's version stops at: a request of the
// v2 API, or a cluster version above the present one. 0 if there is none.
func LastUnreadable(ents []*raftpb.Entry, clusterVersion string) uint64 {
	now, err := semver.NewVersion(clusterVersion)
	for _, e := range slices.Backward(ents) {
		if e.GetType() != raftpb.EntryNormal || len(e.Data) == 0 {
			continue
		}
		var req pb.InternalRaftRequest
		if derr := wire.DecodeInternalRequest(e.Data, &req); derr != nil || legacy(&req) {
			return e.GetIndex()
		}
		if set := req.ClusterVersionSet; set != nil && err == nil {
			if v, err := semver.NewVersion(set.GetVer()); err == nil && now.LessThan(*v) {
				return e.GetIndex()
			}
		}
	}
	return 0
}

// needed collects the newest version that anything names.
type needed struct {
	most semver.Version
	err  error
}

func (n *needed) text(s string) {
	v, err := semver.NewVersion(s)
	if err != nil {
		if v, err = semver.NewVersion(s + ".0"); err != nil {
			n.err = err
			return
		}
	}
	if n.most.LessThan(*v) {
		n.most = *v
	}
}

// note reads what a descriptor says of the version that it came with.
func (n *needed) note(d protoreflect.Descriptor, what *protoimpl.ExtensionInfo) {
	if o := d.Options(); proto.HasExtension(o, what) {
		if s, ok := proto.GetExtension(o, what).(string); ok {
			n.text(s)
		}
	}
}

func (n *needed) message(m protoreflect.Message) {
	n.note(m.Descriptor(), versionpb.E_EtcdVersionMsg)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		n.note(f, versionpb.E_EtcdVersionField)
		switch {
		case f.IsMap(): // no request has one
		case f.IsList():
			for i := range v.List().Len() {
				n.value(f, v.List().Get(i))
			}
		default:
			n.value(f, v)
		}
		return n.err == nil
	})
}

func (n *needed) value(f protoreflect.FieldDescriptor, v protoreflect.Value) {
	if f.Message() != nil {
		n.message(v.Message())
		return
	}
	if e := f.Enum(); e != nil {
		n.note(e, versionpb.E_EtcdVersionEnum)
		if name := e.Values().ByNumber(v.Enum()); name != nil {
			n.note(name, versionpb.E_EtcdVersionEnumValue)
		}
	}
}
