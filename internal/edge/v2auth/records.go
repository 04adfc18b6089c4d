package v2auth

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/wire"
	"keelson/internal/state/auth"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/v2auth"
)

// records is the newest view, or one of a moment ago.
type records struct {
	*Edge
	view *mvcc.View
}

func (e *Edge) records() records { return records{e, e.member.View()} }

// get reads a record: its value and revision, 0 where there is none.
func (r records) get(name string) (value []byte, rev int64, err error) {
	b, ok, err := r.view.Get([]byte(r.options.Prefix.Auth(name)))
	if err != nil || !ok {
		return nil, 0, err
	}
	kv, err := wire.ParseKeyValue(b)
	return kv.Value, kv.Mod, err
}

func (r records) enabled() (bool, error) {
	b, _, err := r.get(v2auth.Enabled)
	return string(b) == v2auth.On, err
}

// user gives a user, nil where there is none.
func (r records) user(name string) (*v2auth.User, error) {
	b, rev, err := r.get(v2auth.Users + name)
	if err != nil || rev == 0 {
		return nil, err
	}
	u, err := v2auth.ParseUser(b)
	return &u, err
}

// role gives a role, nil where there is none.
func (r records) role(name string) (*v2auth.Role, error) {
	if name == v2auth.Root {
		return new(v2auth.All(v2auth.Root)), nil
	}
	b, rev, err := r.get(v2auth.Roles + name)
	if err != nil || rev == 0 {
		return nil, err
	}
	role, err := v2auth.ParseRole(b)
	return &role, err
}

// names lists the users or the roles that have a record, in order.
func (r records) names(ctx context.Context, of string) ([]string, error) {
	start := r.options.Prefix.Auth(of)
	end := start[:len(start)-1] + "0" // '0' comes next after '/'
	res, err := r.view.Range(ctx, mvcc.RangeOptions{Key: []byte(start), End: []byte(end)})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, b := range res.KVs {
		kv, err := wire.ParseKeyValue(b)
		if err != nil {
			return nil, err
		}
		names = append(names, strings.TrimPrefix(string(kv.Key), start))
	}
	return names, nil
}

// mayRead asks v3's rules whether the caller may see the records.
func (c call) mayRead(r records) error {
	all := r.options.Prefix.AuthAll()
	return r.member.MayKeys(c.ctx, r.view, auth.Read, []byte(all.Key), []byte(all.End))
}

// errChanged is returned when a record has changed since it was looked at.
var errChanged = errors.New("v2auth: the record has changed")

// change changes records until what it was decided on has not changed meanwhile. decide gives what to write, by name: nil
// deletes. The first of names is what the decision depends on beside what it writes.
func (c call) change(decide func(r records) (map[string]any, error), names ...string) error {
	if err := c.member.LinearizableRead(c.ctx); err != nil {
		return err
	}
	for {
		r := c.records()
		if err := c.mayRead(r); err != nil {
			return err
		}
		todo, err := decide(r)
		if err != nil {
			return err
		}
		if err := c.write(r, todo, names); !errors.Is(err, errChanged) {
			return err
		}
	}
}

// write makes the transaction.
func (c call) write(r records, todo map[string]any, names []string) error {
	txn := &pb.TxnRequest{}
	for name, v := range todo {
		names = append(names, name)
		key := []byte(r.options.Prefix.Auth(name))
		if v == nil {
			txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}})
			continue
		}
		value, ok := v.(string)
		if !ok {
			b, err := json.Marshal(v)
			if err != nil {
				return err
			}
			value = string(b)
		}
		txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: []byte(value)}}})
	}
	for _, name := range names {
		_, rev, err := r.get(name)
		if err != nil {
			return err
		}
		txn.Compare = append(txn.Compare, &pb.Compare{
			Key: []byte(r.options.Prefix.Auth(name)), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: rev},
		})
	}
	resp, err := c.member.Txn(c.ctx, txn)
	if err == nil && !resp.Succeeded {
		err = errChanged
	}
	return err
}
