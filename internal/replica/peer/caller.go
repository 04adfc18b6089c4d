package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/leasepb"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
	"keelson/internal/storage/schema"
)

// replyBytesMax bounds what another member may answer: etcd's 100 MiB, for a lease with very many keys.
const replyBytesMax = 100 << 20

var (
	// errNoURLs is returned for a member without addresses.
	errNoURLs = errors.New("peer: the member has no peer URLs")
	// errNotAnswered is returned when a member answers something else than was asked.
	errNotAnswered = errors.New("peer: the answer is to another question")
)

// Caller asks other members what is not raft's. It needs no identity: a member that joins asks before it has one.
// Every method tries the URLs in order, each for its share of the time.
type Caller struct{ lines lines }

// NewCaller makes a Caller.
func NewCaller(o Options) *Caller { return &Caller{newLines(o.withDefaults())} }

// reply is what a member answered.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// text is an error that tells what a member answered instead.
func (r *reply) refusal() error {
	return fmt.Errorf("peer: answered %d: %q", r.status, bytes.TrimSpace(r.body))
}

// ask sends one question, with more headers in pairs, to the first URL that answers.
func (c *Caller) ask(ctx context.Context, peerURLs []string, method, path string, body []byte, headers ...string) (*reply, error) {
	last := errNoURLs
	for i, base := range peerURLs {
		r, err := c.askOne(ctx, len(peerURLs)-i, method, base, path, body, headers)
		if err == nil {
			return r, nil
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// askOne asks at one URL of as many as are left.
func (c *Caller) askOne(ctx context.Context, left int, method, base, path string, body []byte, headers []string) (*reply, error) {
	if end, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	u, err := at(base, path)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("peer: make a request: %w", err)
	}
	r.Header.Set("Content-Type", "application/protobuf")
	for ; len(headers) > 0; headers = headers[2:] {
		r.Header.Set(headers[0], headers[1])
	}
	resp, err := c.lines.posts.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, replyBytesMax))
	if err != nil {
		return nil, fmt.Errorf("peer: read an answer: %w", err)
	}
	return &reply{resp.StatusCode, resp.Header, b}, nil
}

// askProto posts req and reads the answer into resp. lease.ErrNotFound for a 404.
func (c *Caller) askProto(ctx context.Context, peerURLs []string, path string, req, resp proto.Message) error {
	b, err := proto.Marshal(req)
	if err != nil {
		return fmt.Errorf("peer: encode a question: %w", err)
	}
	r, err := c.ask(ctx, peerURLs, http.MethodPost, path, b)
	switch {
	case err != nil:
		return err
	case r.status == http.StatusNotFound:
		return lease.ErrNotFound
	case r.status != http.StatusOK:
		return r.refusal()
	}
	if err := proto.Unmarshal(r.body, resp); err != nil {
		return fmt.Errorf("peer: decode an answer: %w", err)
	}
	return nil
}

// LeaseRenew renews a lease at the leader and gives its time in seconds. lease.ErrNotFound where it isn't there.
func (c *Caller) LeaseRenew(ctx context.Context, peerURLs []string, id int64) (ttl int64, err error) {
	resp := &pb.LeaseKeepAliveResponse{}
	if err := c.askProto(ctx, peerURLs, leasesPath, &pb.LeaseKeepAliveRequest{ID: id}, resp); err != nil {
		return 0, err
	}
	if resp.ID != id {
		return 0, errNotAnswered
	}
	return resp.TTL, nil
}

// LeaseTimeToLive asks the leader how long a lease has. lease.ErrNotFound where it isn't there.
func (c *Caller) LeaseTimeToLive(ctx context.Context, peerURLs []string, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	resp := &leasepb.LeaseInternalResponse{}
	if err := c.askProto(ctx, peerURLs, leaseInternalPath, &leasepb.LeaseInternalRequest{LeaseTimeToLiveRequest: r}, resp); err != nil {
		return nil, err
	}
	if left := resp.GetLeaseTimeToLiveResponse(); left.GetID() == r.GetID() && left != nil {
		return left, nil
	}
	return nil, errNotAnswered
}

// Version gives the server and cluster version that a member answers at /version.
func (c *Caller) Version(ctx context.Context, peerURLs []string) (server, cluster string, err error) {
	r, err := c.ask(ctx, peerURLs, http.MethodGet, versionPath, nil)
	if err != nil {
		return "", "", err
	}
	if r.status != http.StatusOK {
		return "", "", r.refusal()
	}
	var v struct {
		Server  string `json:"etcdserver"`
		Cluster string `json:"etcdcluster"`
	}
	if err := json.Unmarshal(r.body, &v); err != nil {
		return "", "", fmt.Errorf("peer: decode a version: %w", err)
	}
	return v.Server, v.Cluster, nil
}

// DowngradeEnabled asks a member whether the cluster is on its way to an older version.
func (c *Caller) DowngradeEnabled(ctx context.Context, peerURLs []string) (bool, error) {
	r, err := c.ask(ctx, peerURLs, http.MethodGet, downgradePath, nil)
	if err != nil {
		return false, err
	}
	if r.status != http.StatusOK {
		return false, r.refusal()
	}
	enabled, err := strconv.ParseBool(string(bytes.TrimSpace(r.body)))
	if err != nil {
		return false, fmt.Errorf("peer: decode whether a downgrade is enabled: %w", err)
	}
	return enabled, nil
}

// Members gives what a member answers at /members, and the cluster's ID.
func (c *Caller) Members(ctx context.Context, peerURLs []string) ([]Member, uint64, error) {
	r, err := c.ask(ctx, peerURLs, http.MethodGet, membersPath, nil)
	if err != nil {
		return nil, 0, err
	}
	if r.status != http.StatusOK {
		return nil, 0, r.refusal()
	}
	all, err := r.members()
	if err != nil {
		return nil, 0, err
	}
	clusterID, err := strconv.ParseUint(r.header.Get("X-Etcd-Cluster-ID"), 16, 64)
	if err != nil {
		return nil, 0, fmt.Errorf("peer: the cluster's ID: %w", err)
	}
	return all, clusterID, nil
}

// members reads a list of members.
func (r *reply) members() ([]Member, error) {
	var all []schema.Member
	if err := json.Unmarshal(r.body, &all); err != nil {
		return nil, fmt.Errorf("peer: decode members: %w", err)
	}
	out := make([]Member, len(all))
	for i, m := range all {
		out[i] = Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
	}
	return out, nil
}

// Promote has the leader make a learner a voter and gives the members as they then are. An error of package cluster is the
// leader's verdict, and so is one of package auth; stock leaders tell only three of the former. token, if not empty, is that
// of whoever asked for it.
func (c *Caller) Promote(ctx context.Context, peerURLs []string, id uint64, token string) ([]Member, error) {
	var header []string
	if token != "" {
		header = []string{authorizationHeader, token}
	}
	r, err := c.ask(ctx, peerURLs, http.MethodPost, promotePath+strconv.FormatUint(id, 10), nil, header...)
	switch {
	case err != nil:
		return nil, err
	case r.status == http.StatusOK:
		return r.members()
	case r.status == http.StatusNotFound:
		return nil, cluster.ErrIDNotFound
	}
	for _, verdict := range []error{
		cluster.ErrLearnerNotReady, cluster.ErrMemberNotLearner, cluster.ErrNotEnoughStarted,
		auth.ErrDenied, auth.ErrUserEmpty, auth.ErrUserNotFound, auth.ErrInvalidToken,
	} {
		if bytes.Contains(r.body, []byte(verdict.Error())) {
			return nil, verdict
		}
	}
	return nil, r.refusal()
}

// HashKV asks a member of the cluster for the hash of its revisions up to rev. mvcc.ErrFutureRev where it has not got there,
// mvcc.ErrCompacted where it has forgotten them.
func (c *Caller) HashKV(ctx context.Context, peerURLs []string, clusterID uint64, rev int64) (*pb.HashKVResponse, error) {
	body, err := json.Marshal(&pb.HashKVRequest{Revision: rev})
	if err != nil {
		return nil, fmt.Errorf("peer: encode a question: %w", err)
	}
	r, err := c.ask(ctx, peerURLs, http.MethodGet, hashKVPath, body, "Content-Type", "application/json", "X-Etcd-Cluster-ID", hexID(clusterID))
	switch {
	case err != nil:
		return nil, err
	case r.status == http.StatusPreconditionFailed && bytes.Contains(r.body, []byte(textMismatch)):
		return nil, errClusterMismatch
	case r.status == http.StatusBadRequest:
		for _, verdict := range []error{mvcc.ErrCompacted, mvcc.ErrFutureRev} {
			if bytes.Contains(r.body, []byte(verdict.Error())) {
				return nil, verdict
			}
		}
	}
	if r.status != http.StatusOK {
		return nil, r.refusal()
	}
	resp := &pb.HashKVResponse{}
	if err := json.Unmarshal(r.body, resp); err != nil {
		return nil, fmt.Errorf("peer: decode a hash: %w", err)
	}
	return resp, nil
}
