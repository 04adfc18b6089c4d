package apply

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/state/alarm"
	"keelson/internal/state/auth"
	"keelson/internal/state/lease"
)

// Guard puts what requests do to the one place that decides, auth.View.May, for one caller and one moment. Apply asks it
// before an entry runs, and whoever reads a view before it is read.
type Guard struct {
	View   *auth.View
	Caller auth.Caller
	Leases *lease.Table
}

// May tells whether the caller may do one thing.
func (g *Guard) May(a auth.Access) error { return g.View.May(g.Caller, a) }

// Range tells whether a range may be read.
func (g *Guard) Range(key, end []byte) error {
	return g.May(auth.Access{Kind: auth.Read, Key: key, End: end})
}

func (g *Guard) write(key, end []byte) error {
	return g.May(auth.Access{Kind: auth.Write, Key: key, End: end})
}

// put: a key that joins a lease can go with it, and the lease's keys with whoever may end it. So all of them must be the
// caller's to write.
func (g *Guard) put(r *pb.PutRequest) error {
	if err := g.write(r.Key, nil); err != nil {
		return err
	}
	if r.Lease != 0 {
		if err := g.LeaseKeys(r.Lease, auth.Write); err != nil {
			return err
		}
	}
	if r.PrevKv {
		return g.Range(r.Key, nil)
	}
	return nil
}

func (g *Guard) deleteRange(r *pb.DeleteRangeRequest) error {
	if err := g.write(r.Key, r.RangeEnd); err != nil {
		return err
	}
	if r.PrevKv {
		return g.Range(r.Key, r.RangeEnd)
	}
	return nil
}

// Txn tells whether a transaction may run, whichever of its branches it will take: compares tell what is stored too. One
// that touches no key is anybody's, as in etcd.
func (g *Guard) Txn(r *pb.TxnRequest) error {
	for _, c := range r.GetCompare() {
		if err := g.Range(c.GetKey(), c.GetRangeEnd()); err != nil {
			return err
		}
	}
	if err := g.ops(r.GetSuccess()); err != nil {
		return err
	}
	return g.ops(r.GetFailure())
}

func (g *Guard) ops(ops []*pb.RequestOp) error {
	for _, op := range ops {
		var err error
		switch o := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			err = g.Range(o.RequestRange.GetKey(), o.RequestRange.GetRangeEnd())
		case *pb.RequestOp_RequestPut:
			err = g.put(o.RequestPut)
		case *pb.RequestOp_RequestDeleteRange:
			err = g.deleteRange(o.RequestDeleteRange)
		case *pb.RequestOp_RequestTxn:
			err = g.Txn(o.RequestTxn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// LeaseKeys tells whether the caller may do something with every key that is attached to a lease. One that is not there
// has none.
func (g *Guard) LeaseKeys(id int64, kind auth.Kind) error {
	if g.May(auth.Access{Kind: auth.Admin}) == nil {
		return nil // as in etcd, whatever the revision; and a lease may have very many keys
	}
	return g.Leases.EachKey(id, func(key []byte) error { return g.May(auth.Access{Kind: kind, Key: key}) })
}

// Refused tells, by what a member knows now, why a request that is to be proposed will be refused for its caller; nil where
// it is not, or where an alarm has to be told of first.
func Refused(g *Guard, alarms *alarm.Set, r *pb.InternalRaftRequest) error {
	k := kindOf(r)
	if k == nil || alarms.Active(pb.AlarmType_NOSPACE) || alarms.Active(pb.AlarmType_CORRUPT) {
		return nil
	}
	return k.may(g, r)
}

// The rules of kinds, beside those of the requests that name keys.

// anybody is for what members propose on their own, and for what etcd asks nobody for at apply: their callers are asked
// before they are proposed.
func anybody(*Guard, *pb.InternalRaftRequest) error { return nil }

func admin(g *Guard, _ *pb.InternalRaftRequest) error { return g.May(auth.Access{Kind: auth.Admin}) }

// ownUser lets users look at themselves.
func ownUser(g *Guard, r *pb.InternalRaftRequest) error {
	if r.AuthUserGet.Name == g.Caller.User {
		return nil
	}
	return admin(g, r)
}

// ownRole lets users look at the roles that they have.
func ownRole(g *Guard, r *pb.InternalRaftRequest) error {
	if g.View.HasRole(g.Caller.User, r.AuthRoleGet.Role) {
		return nil
	}
	return admin(g, r)
}
