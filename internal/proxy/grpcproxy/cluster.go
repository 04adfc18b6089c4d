package grpcproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.uber.org/zap"
)

// againTime is how long a registration that failed waits for its next try.
const againTime = time.Second

// clusterService serves etcdserverpb.Cluster. Its member list are the proxies that share a prefix, so that a client that
// follows the list stays with proxies; all else is passed on.
type clusterService struct {
	pb.UnsafeClusterServer
	to        pb.ClusterClient
	registry  endpoints.Manager // nil without a prefix
	advertise string            // empty: the list is the members'
	host      string
}

// described is what the registry says of a proxy beside its address, as JSON within JSON: etcd's form, and both may share a
// prefix.
type described struct {
	Name string `json:"name"`
}

func newCluster(u *clientv3.Client, o Options) (*clusterService, error) {
	s := &clusterService{to: clientv3.RetryClusterClient(u), advertise: o.Advertise}
	s.host, _ = os.Hostname() // a name to show, which may be missing
	if o.ResolverPrefix == "" {
		return s, nil
	}
	var err error
	if s.registry, err = endpoints.NewManager(u, o.ResolverPrefix); err != nil {
		return nil, fmt.Errorf("grpcproxy: resolver prefix %q: %w", o.ResolverPrefix, err)
	}
	return s, nil
}

// MemberList answers the proxies of the prefix, or this one alone where there is none or the caller may not read it.
func (s *clusterService) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if s.advertise == "" {
		return s.to.MemberList(ctx, r)
	}
	self := &pb.MemberListResponse{Members: []*pb.Member{{Name: s.host, ClientURLs: []string{s.advertise}}}}
	if s.registry == nil {
		return self, nil
	}
	found, err := s.registry.List(ctx)
	if err != nil && !refused(err) {
		return nil, err
	}
	if len(found) == 0 {
		return self, nil
	}
	resp := &pb.MemberListResponse{}
	for _, e := range found {
		resp.Members = append(resp.Members, &pb.Member{Name: nameOf(e), ClientURLs: []string{e.Addr}})
	}
	slices.SortFunc(resp.Members, func(a, b *pb.Member) int { return strings.Compare(a.ClientURLs[0], b.ClientURLs[0]) })
	return resp, nil
}

// refused tells whether the members did not let a caller read.
func refused(err error) bool {
	err = rpctypes.Error(err)
	return slices.ContainsFunc([]error{rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken}, func(x error) bool { return errors.Is(err, x) })
}

// nameOf reads what a proxy, of whatever version, wrote of itself; empty where it wrote something else.
func nameOf(e endpoints.Endpoint) string {
	var d described
	text, _ := e.Metadata.(string)
	if json.Unmarshal([]byte(text), &d) != nil {
		return ""
	}
	return d.Name
}

func (s *clusterService) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	return s.to.MemberAdd(ctx, r)
}

func (s *clusterService) MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	return s.to.MemberRemove(ctx, r)
}

func (s *clusterService) MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	return s.to.MemberUpdate(ctx, r)
}

func (s *clusterService) MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	return s.to.MemberPromote(ctx, r)
}

// register keeps this proxy in the registry until ctx ends, and takes it out then. A lease that ended, by a long failure of the
// cluster, is replaced.
func (s *clusterService) register(ctx context.Context, u *clientv3.Client, o Options) {
	for ctx.Err() == nil {
		session, err := s.enter(ctx, u, o)
		if err != nil {
			o.Logger.Warn("failed to register this proxy; trying again", zap.String("prefix", o.ResolverPrefix), zap.Error(err))
			select {
			case <-ctx.Done():
			case <-time.After(againTime):
			}
			continue
		}
		o.Logger.Info("registered this proxy", zap.String("prefix", o.ResolverPrefix), zap.String("address", o.Advertise), zap.Int("ttl", o.ResolverTTL))
		select {
		case <-ctx.Done():
		case <-session.Done():
			o.Logger.Warn("the registration of this proxy ended; making it again", zap.String("prefix", o.ResolverPrefix))
		}
		session.Orphan()
		if ctx.Err() != nil {
			leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), againTime)
			_, _ = u.Revoke(leave, session.Lease()) // else it ends after its TTL
			cancel()
		}
	}
}

func (s *clusterService) enter(ctx context.Context, u *clientv3.Client, o Options) (*concurrency.Session, error) {
	about, err := json.Marshal(described{s.host})
	if err != nil {
		return nil, err
	}
	session, err := concurrency.NewSession(u, concurrency.WithTTL(o.ResolverTTL), concurrency.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	entry := endpoints.Endpoint{Addr: o.Advertise, Metadata: string(about)}
	err = s.registry.AddEndpoint(ctx, o.ResolverPrefix+"/"+o.Advertise, entry, clientv3.WithLease(session.Lease()))
	if err != nil {
		session.Orphan()
		return nil, err
	}
	return session, nil
}
