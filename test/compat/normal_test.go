package compat

import (
	"bytes"
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ttlSlack is how many seconds the two clocks of a lease may be apart: they are started one after the other, on a busy
// machine. Where one of them was starved it is more, by what the steps took that gave the lease its time and looked
// at it.
const ttlSlack = 3

// tokenShape is what a simple token looks like; its letters are drawn at random, its number is that of an entry.
var tokenShape = regexp.MustCompile(`^[a-zA-Z]{16}\.\d+$`)

var address = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// same compares all of two answers but what must differ between two clusters.
func (p *pair) same(got, want answer) bool {
	if !slices.EqualFunc(got.md, want.md, func(a, b metadata.MD) bool { return maps.EqualFunc(a, b, slices.Equal[[]string]) }) {
		return false
	}
	if got.err != nil || want.err != nil {
		return sameError(got.err, want.err)
	}
	a, b := proto.Clone(got.msg), proto.Clone(want.msg)
	normalize(a)
	normalize(b)
	if x, ok := a.(*pb.LeaseTimeToLiveResponse); ok {
		if y, ok := b.(*pb.LeaseTimeToLiveResponse); ok && abs(x.TTL-y.TTL) <= ttlSlack+int64(2*p.slow/time.Second) {
			x.TTL = y.TTL
		}
	}
	return proto.Equal(a, b)
}

func sameError(got, want error) bool {
	if got == nil || want == nil {
		return false
	}
	return proto.Equal(refusal(got), refusal(want))
}

// refusal gives code, text and details of an error.
func refusal(err error) proto.Message {
	s := status.Convert(err).Proto()
	s.Message = strings.ReplaceAll(s.Message, "\u00a0", " ") // protobuf's errors have one or the other, by the binary
	return s
}

func abs(n int64) int64 { return max(n, -n) }

// normalize sets what belongs to a cluster, and not to what it was asked, to one value: the IDs of cluster and member,
// the term, addresses, sizes of files. That they are there at all is still compared.
func normalize(m proto.Message) {
	headers(m.ProtoReflect())
	switch m := m.(type) {
	case *pb.MemberListResponse:
		for _, x := range m.Members {
			x.ID = one(x.ID)
			for _, urls := range [][]string{x.PeerURLs, x.ClientURLs} {
				for i, u := range urls {
					urls[i] = address.ReplaceAllString(u, "address")
				}
			}
		}
	case *pb.StatusResponse:
		m.Leader, m.RaftIndex, m.RaftTerm, m.RaftAppliedIndex = one(m.Leader), one(m.RaftIndex), one(m.RaftTerm), one(m.RaftAppliedIndex)
		for i, text := range m.Errors {
			m.Errors[i] = strings.Join(strings.Fields(text), " ") // protobuf's text has one space or two, by the binary
		}
		m.DbSize, m.DbSizeInUse = int64(one(uint64(m.DbSize))), int64(one(uint64(m.DbSizeInUse)))
	case *pb.AuthenticateResponse:
		m.Token = tokenShape.ReplaceAllString(m.Token, "token")
	case *pb.HashResponse:
		m.Hash = 0 // of the file, with all that is kept in it for each cluster
	case *pb.LeaseTimeToLiveResponse:
		slices.SortFunc(m.Keys, bytes.Compare) // etcd's come out of a map
	case *pb.LeaseLeasesResponse:
		slices.SortFunc(m.Leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
	}
}

func one(n uint64) uint64 { return min(n, 1) }

// headers normalizes every header in a message.
func headers(m protoreflect.Message) {
	if h, ok := m.Interface().(*pb.ResponseHeader); ok {
		h.ClusterId, h.MemberId, h.RaftTerm = one(h.ClusterId), one(h.MemberId), one(h.RaftTerm)
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				headers(v.List().Get(i).Message())
			}
		default:
			headers(v.Message())
		}
		return true
	})
}

// revisions are those in the headers of answers. Once they differ, everything after does.
func revisions(all []answer) []int64 {
	var out []int64
	for _, a := range all {
		out = append(out, revisionOf(a))
	}
	return out
}

func revisionOf(a answer) int64 {
	if x, ok := a.msg.(interface{ GetHeader() *pb.ResponseHeader }); ok && a.err == nil {
		return x.GetHeader().GetRevision()
	}
	return 0
}
