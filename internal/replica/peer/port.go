package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/leasepb"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/state/lease"
	"keelson/internal/storage/schema"
)

// The paths of what members ask each other beside raft.
const (
	membersPath       = "/members"
	hashKVPath        = "/members/hashkv"
	promotePath       = "/members/promote/" // and the ID in decimal
	leasesPath        = "/leases"
	leaseInternalPath = "/leases/internal"
	downgradePath     = "/downgrade/enabled"
	versionPath       = "/version"
	// authorizationHeader carries the token of whoever asked another member for what this one is asked for.
	authorizationHeader = "Authorization"
)

const (
	// questionBytesMax bounds the body of a question: an ID or a revision. etcd's bound.
	questionBytesMax = 64 << 10
	// leaseWaitMax bounds how long a question for a lease may wait until this member has caught up: etcd's 1 s.
	leaseWaitMax = time.Second
	// downgradeWaitMax bounds a linearizable answer: etcd's 5 s and two election time-outs.
	downgradeWaitMax = 7 * time.Second
)

// Local is what the peer port asks its own member.
type Local interface {
	// RenewHere and TimeToLiveHere answer for a lease if this member leads; lease.ErrNotFound where there is none.
	RenewHere(ctx context.Context, id int64) (ttl int64, err error)
	TimeToLiveHere(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error)
	HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error)
	MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error)
	// PromoteHere makes a learner a voter if this member leads.
	PromoteHere(ctx context.Context, id uint64) ([]*pb.Member, error)
	// DowngradeEnabled answers from a linearizable read.
	DowngradeEnabled(ctx context.Context) (bool, error)
}

// Handler serves the peer port, but for /version, which health serves on every port.
func (t *Transport) Handler(m Local) http.Handler {
	q := questions{Local: m, clusterID: hexID(t.ClusterID), log: t.o.Logger, refusals: t.refusals}
	mux := http.NewServeMux()
	raft := t.raftHandler()
	mux.Handle(raftPath, raft)
	mux.Handle(raftPath+"/", raft)
	mux.HandleFunc(membersPath, q.members)
	mux.HandleFunc(hashKVPath, q.hashKV)
	mux.HandleFunc(promotePath, q.promote)
	mux.HandleFunc(leasesPath, q.renew)
	mux.HandleFunc(leaseInternalPath, q.timeToLive)
	mux.HandleFunc(downgradePath, q.downgrade)
	return mux
}

// questions answers what is not raft's.
type questions struct {
	Local
	clusterID string
	log       *zap.Logger
	refusals  *refusals
}

func (q questions) members(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet) {
		return
	}
	w.Header().Set("X-Etcd-Cluster-ID", q.clusterID)
	list, err := q.MemberList(r.Context(), &pb.MemberListRequest{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeMembers(w, list.Members)
}

func writeMembers(w http.ResponseWriter, list []*pb.Member) {
	all := make([]schema.Member, len(list))
	for i, m := range list {
		all[i] = schema.Member{ID: m.ID, PeerURLs: m.PeerURLs, IsLearner: m.IsLearner, Name: m.Name, ClientURLs: m.ClientURLs}
	}
	w.Header().Set("Content-Type", "application/json")
	writeJSON(w, all)
}

// promote promotes a learner for a member that does not lead. That one tells verdicts apart by status and text; after any
// other answer it looks for the leader again.
func (q questions) promote(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodPost) {
		return
	}
	w.Header().Set("X-Etcd-Cluster-ID", q.clusterID)
	text := strings.TrimPrefix(r.URL.Path, promotePath)
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		http.Error(w, fmt.Sprintf("member %s not found in cluster", text), http.StatusNotFound)
		return
	}
	ctx := r.Context()
	if token := r.Header.Get(authorizationHeader); token != "" {
		ctx = auth.With(ctx, &auth.Credentials{Token: token, HasToken: true})
	}
	list, err := q.PromoteHere(ctx, id)
	if err != nil {
		q.log.Warn("failed to promote a member", zap.String("member-id", hexID(id)), zap.Error(err))
		http.Error(w, err.Error(), promoteStatus(err))
		return
	}
	writeMembers(w, list)
}

func promoteStatus(err error) int {
	switch {
	case errors.Is(err, cluster.ErrIDNotFound):
		return http.StatusNotFound
	case errors.Is(err, cluster.ErrMemberNotLearner), errors.Is(err, cluster.ErrLearnerNotReady):
		return http.StatusPreconditionFailed
	}
	return http.StatusInternalServerError
}

func (q questions) hashKV(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet) {
		return
	}
	if theirs := r.Header.Get("X-Etcd-Cluster-ID"); theirs != "" && theirs != q.clusterID {
		q.refusals.tell(r, "refused a question of another cluster", zap.String("remote-cluster-id", theirs))
		http.Error(w, textMismatch, http.StatusPreconditionFailed)
		return
	}
	b, ok := q.question(w, r)
	if !ok {
		return
	}
	req := &pb.HashKVRequest{}
	if err := json.Unmarshal(b, req); err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return
	}
	h, err := q.HashKV(r.Context(), req)
	if err != nil {
		q.log.Warn("failed to get hashKV", zap.Int64("requested-revision", req.Revision), zap.Error(err))
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := json.Marshal(&pb.HashKVResponse{
		Header: &pb.ResponseHeader{Revision: h.Header.GetRevision()},
		Hash:   h.Hash, CompactRevision: h.CompactRevision, HashRevision: h.HashRevision,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("X-Etcd-Cluster-ID", q.clusterID)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out) // whoever does not take it sees that
}

// question reads the body of a request.
func (q questions) question(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, questionBytesMax))
	var large *http.MaxBytesError
	if err != nil {
		q.refusals.tell(r, "failed to read a question of a member", zap.Error(err))
	}
	switch {
	case errors.As(err, &large):
		http.Error(w, "request body too large", http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, "error reading body", http.StatusBadRequest)
	}
	return b, err == nil
}

func (q questions) renew(w http.ResponseWriter, r *http.Request) {
	req := &pb.LeaseKeepAliveRequest{}
	q.lease(w, r, req, http.StatusBadRequest, func(ctx context.Context) (proto.Message, error) {
		ttl, err := q.RenewHere(ctx, req.ID)
		return &pb.LeaseKeepAliveResponse{ID: req.ID, TTL: ttl}, err
	})
}

func (q questions) timeToLive(w http.ResponseWriter, r *http.Request) {
	req := &leasepb.LeaseInternalRequest{}
	q.lease(w, r, req, http.StatusInternalServerError, func(ctx context.Context) (proto.Message, error) {
		ask := req.GetLeaseTimeToLiveRequest()
		if ask == nil {
			ask = &pb.LeaseTimeToLiveRequest{}
		}
		left, err := q.TimeToLiveHere(ctx, ask)
		return &leasepb.LeaseInternalResponse{LeaseTimeToLiveResponse: left}, err
	})
}

// lease answers a question for a lease that is posted as req. Refusals but for a missing lease make the asker try again.
func (q questions) lease(w http.ResponseWriter, r *http.Request, req proto.Message, refusal int, run func(context.Context) (proto.Message, error)) {
	if !allow(w, r, http.MethodPost) {
		return
	}
	b, ok := q.question(w, r)
	if !ok {
		return
	}
	if err := proto.Unmarshal(b, req); err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), leaseWaitMax)
	defer cancel()
	resp, err := run(ctx)
	switch {
	case errors.Is(err, lease.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case err != nil && ctx.Err() != nil:
		http.Error(w, "waiting for node to catch up its applied index has timed out", http.StatusRequestTimeout)
		return
	case err != nil:
		http.Error(w, err.Error(), refusal)
		return
	}
	out, err := proto.Marshal(resp)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/protobuf")
	_, _ = w.Write(out) // whoever does not take it sees that
}

func (q questions) downgrade(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet) {
		return
	}
	w.Header().Set("X-Etcd-Cluster-ID", q.clusterID)
	ctx, cancel := context.WithTimeout(r.Context(), downgradeWaitMax)
	defer cancel()
	enabled, err := q.DowngradeEnabled(ctx)
	if err != nil {
		http.Error(w, fmt.Sprintf("failed linearized read: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, strconv.FormatBool(enabled)) // whoever does not take it sees that
}
