package server

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/password"
	"keelson/internal/state/auth"
	"keelson/internal/state/mvcc"
)

// View gives the keys at the newest published revision, for edges that read more than one range of the same moment. Who reads
// from it asks MayKeys first.
func (s *KV) View() *mvcc.View { return s.kv.View() }

// MayKeys tells whether the caller may read or write a range of keys, by the rules of the moment that a view shows.
func (a *authority) MayKeys(ctx context.Context, v *mvcc.View, kind auth.Kind, key, end []byte) error {
	return a.may(ctx, v, auth.Access{Kind: kind, Key: key, End: end})
}

// WithPassword gives a context for the calls of who knows a user's password. No token is made: the caller brings the password
// with each request, and the check remembers those that were right.
func (s *Auth) WithPassword(ctx context.Context, r *pb.AuthenticateRequest) (context.Context, error) {
	if err := s.reads.linearize(ctx); err != nil {
		return nil, err
	}
	for {
		v := s.rules()
		if err := s.checkPassword(ctx, v, r); err != nil {
			return nil, err
		}
		// Where a change came in between, the password is checked again.
		if v.Revision() == s.AuthRevision() {
			return auth.With(ctx, &auth.Credentials{CommonName: r.Name, Certified: true}), nil
		}
	}
}

// Passwords checks passwords for an edge with users of its own, in the part of the machine that all checks share.
func (s *Auth) Passwords() *password.Checker { return s.passwords }

// LeaseUsed tells whether a key is attached to a lease, as far as this member knows.
func (s *Leases) LeaseUsed(id int64) bool { return len(s.table.Keys(id)) > 0 }

// Progress gives how far the log is committed, and the term.
func (s *KV) Progress() (index, term uint64) {
	st := s.loop.Status()
	return st.Commit, st.Term
}

// Leader gives the leader's ID, 0 where there is none.
func (s *Membership) Leader() uint64 { return s.loop.Status().Lead }

// LeaderSince gives when the present leader was first seen.
func (s *Membership) LeaderSince() time.Time { return time.Unix(0, s.proposer.stats.elected.Load()) }
