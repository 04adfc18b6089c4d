package apply

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/wire"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// Buckets is what small state is read from: the store, or one snapshot of it.
type Buckets interface {
	Get(b schema.Bucket, key []byte) ([]byte, error)
	ForEach(b schema.Bucket, f func(k, v []byte) error) error
}

// Load fills s from the store: at start, and after a snapshot was installed. It gives the compaction that had
// begun and not ended, 0 if none.
func Load(st *store.Store, s State) (resume int64, err error) {
	if err := loadAuth(st, s.Auth); err != nil {
		return 0, err
	}
	s.KV.SetBeside(s.Auth.Now())
	cs, err := LoadCluster(st)
	if err != nil {
		return 0, err
	}
	s.Cluster.Reset(cs)
	if err := loadLeases(st, s.Leases); err != nil {
		return 0, err
	}
	var alarms [][]byte
	err = st.ForEach(schema.Alarm, func(k, _ []byte) error {
		alarms = append(alarms, append([]byte(nil), k...))
		return nil
	})
	if err != nil {
		return 0, err
	}
	if err := s.Alarms.Reset(alarms); err != nil {
		return 0, err
	}
	return loadKeys(st, s)
}

// loadAuth reads users, roles and what is said of them as a whole.
func loadAuth(b Buckets, to *auth.Store) error {
	var from auth.Stored
	var err error
	if from.Enabled, err = b.Get(schema.Auth, schema.AuthEnabledKey); err != nil {
		return err
	}
	if from.Revision, err = b.Get(schema.Auth, schema.AuthRevisionKey); err != nil {
		return err
	}
	for _, part := range []struct {
		bucket schema.Bucket
		to     *[][]byte
	}{{schema.AuthUsers, &from.Users}, {schema.AuthRoles, &from.Roles}} {
		err := b.ForEach(part.bucket, func(_, v []byte) error {
			*part.to = append(*part.to, bytes.Clone(v))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return to.Load(from)
}

// loadKeys builds the index and attaches keys to their leases.
func loadKeys(st *store.Store, s State) (resume int64, err error) {
	scheduled, err := LoadRevision(st, schema.ScheduledCompactKey)
	if err != nil {
		return 0, err
	}
	finished, err := LoadRevision(st, schema.FinishedCompactKey)
	if err != nil {
		return 0, err
	}
	l := s.KV.Loader()
	if err := st.Load(l); err != nil {
		return 0, err
	}
	l.Done(0, scheduled, finished)
	if err := attachLeases(s); err != nil {
		return 0, err
	}
	s.Watch.Reset(s.KV.Rev(), s.KV.CompactRev())
	if scheduled > finished {
		return scheduled, nil
	}
	return 0, nil
}

// The pieces in which all keys are looked at.
const (
	attachKeys  = 1000
	attachBytes = 512 << 10
)

// attachLeases tells the leases which keys they hold.
func attachLeases(s State) error {
	if s.Leases.Len() == 0 {
		return nil
	}
	all := mvcc.RangeOptions{Key: []byte{0}, End: []byte{0}}
	_, err := s.KV.View().Walk(context.Background(), all, attachKeys, attachBytes, func(kvs [][]byte) error {
		for _, b := range kvs {
			kv, err := wire.ParseKeyValue(b)
			if err != nil {
				return fmt.Errorf("apply: read a stored key: %w", err)
			}
			if kv.Lease != 0 {
				s.Leases.Attach(kv.Lease, kv.Key)
			}
		}
		return nil
	})
	return err
}

func LoadRevision(b Buckets, key []byte) (int64, error) {
	v, err := b.Get(schema.Meta, key)
	if err != nil || v == nil {
		return 0, err
	}
	rev, _, err := schema.ParseRevisionKey(v)
	if err != nil {
		return 0, fmt.Errorf("apply: read %s: %w", key, err)
	}
	return rev.Main, nil
}

func loadLeases(b Buckets, t *lease.Table) error {
	t.Reset()
	return b.ForEach(schema.Lease, func(_, v []byte) error {
		id, ttl, remaining, err := schema.ParseLease(v)
		if err != nil {
			return fmt.Errorf("apply: read a stored lease: %w", err)
		}
		t.Load(lease.Lease{ID: id, TTL: ttl, Remaining: remaining})
		return nil
	})
}

// LoadCluster reads the membership. Raft's configuration follows from the members, as in 3.7: the one that is stored
// beside them stays the old cluster's after etcd's restore of a snapshot, until members change, and before 3.5 there is none.
func LoadCluster(b Buckets) (cluster.State, error) {
	s := cluster.State{Removed: map[uint64]bool{}}
	err := b.ForEach(schema.Members, func(_, v []byte) error {
		m, err := schema.ParseMember(v)
		s.Members = append(s.Members, m)
		return err
	})
	if err != nil {
		return s, err
	}
	err = b.ForEach(schema.MembersRemoved, func(k, _ []byte) error {
		id, err := schema.ParseMemberKey(k)
		s.Removed[id] = true
		return err
	})
	if err != nil {
		return s, err
	}
	v, err := b.Get(schema.Cluster, schema.ClusterVersionKey)
	if err != nil {
		return s, err
	}
	s.Version = string(v)
	if v, err = b.Get(schema.Cluster, schema.DowngradeKey); err != nil {
		return s, err
	}
	if len(v) > 0 {
		if s.Downgrade, err = schema.ParseDowngrade(v); err != nil {
			return s, err
		}
	}
	s.Conf = ConfOf(s.Members)
	return s, nil
}

// ConfOf gives raft's configuration for members: this version never leaves a joint one behind.
func ConfOf(members []schema.Member) *raftpb.ConfState {
	cs := &raftpb.ConfState{}
	for _, m := range members {
		if m.IsLearner {
			cs.Learners = append(cs.Learners, m.ID)
		} else {
			cs.Voters = append(cs.Voters, m.ID)
		}
	}
	slices.Sort(cs.Voters) // members come in the order of their IDs' text
	slices.Sort(cs.Learners)
	return cs
}
