package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/internal/config"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/wal"
)

// The reasons not to start. Each says what to change.
var (
	// ErrBootstrapped is returned when the cluster knows this member already and its data directory is empty.
	ErrBootstrapped = errors.New("member has already been bootstrapped: its data directory was lost; " +
		"remove the member from the cluster and add it again, then start it with --initial-cluster-state existing")
	// ErrNoDatabase is returned for a directory with a log and no state file.
	ErrNoDatabase = errors.New("the data directory has a log (member/wal) but no state file (member/snap/db): " +
		"restore the directory from a snapshot, or remove the member, wipe the directory and add the member again")
	// ErrLogLost is returned when the only member's log ends before what its state file holds.
	ErrLogLost = errors.New("the log ends before the state file: entries were lost; restore the directory from a snapshot")
)

// peerAskTimeout bounds one question to a member while starting: etcd's.
const peerAskTimeout = time.Second

// dirs is where a member keeps its files.
type dirs struct{ data, member, wal, snap, db string }

func dirsOf(m config.Member) dirs {
	d := dirs{data: m.DataDir, member: filepath.Join(m.DataDir, "member"), wal: m.WALDir}
	if d.wal == "" {
		d.wal = filepath.Join(d.member, "wal")
	}
	d.snap = filepath.Join(d.member, "snap")
	d.db = filepath.Join(d.snap, "db")
	return d
}

// genesis is what a member that has no log begins with.
type genesis struct {
	id, clusterID uint64
	// founders are the members that the log begins with; none where the member joins a running cluster.
	founders []schema.Member
	// others are members to talk to before the log has named them.
	others []schema.Member
}

// begin works out who this member is, from its configuration alone or, to join, from the running cluster. It changes
// nothing on disk.
func begin(cfg *config.Config, caller Caller, logger *zap.Logger) (*genesis, error) {
	urls, err := cfg.Founders()
	if err != nil {
		return nil, err
	}
	if cfg.Cluster.Existing {
		return join(cfg, urls, caller, logger)
	}
	g := &genesis{}
	for name, u := range urls {
		m := schema.Member{ID: cluster.MemberID(u.StringSlice(), cfg.Cluster.Token)}
		m.Name, m.PeerURLs = name, u.StringSlice()
		if name == cfg.Member.Name {
			g.id = m.ID
		}
		g.founders = append(g.founders, m)
	}
	slices.SortFunc(g.founders, func(a, b schema.Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	ids := make([]uint64, len(g.founders))
	for i, m := range g.founders {
		ids[i] = m.ID
	}
	g.clusterID = cluster.ID(ids)
	if err := refuseBootstrapped(g, caller, logger); err != nil {
		return nil, err
	}
	return g, nil
}

// refuseBootstrapped asks the other founders whether they know this member as one that has run.
func refuseBootstrapped(g *genesis, caller Caller, logger *zap.Logger) error {
	for _, m := range g.founders {
		if m.ID == g.id {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), peerAskTimeout)
		known, _, err := caller.Members(ctx, m.PeerURLs)
		cancel()
		if err != nil {
			logger.Debug("a founding member does not answer yet", zap.Strings("peer-urls", m.PeerURLs), zap.Error(err))
			continue
		}
		for _, k := range known {
			if k.ID == g.id && len(k.ClientURLs) > 0 {
				return fmt.Errorf("member %x: %w", g.id, ErrBootstrapped)
			}
		}
		return nil
	}
	return nil
}

// join learns this member's ID, and the cluster's, from a running cluster to which it was added.
func join(cfg *config.Config, urls types.URLsMap, caller Caller, logger *zap.Logger) (*genesis, error) {
	var last error
	for name, u := range urls {
		if name == cfg.Member.Name {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), peerAskTimeout)
		known, clusterID, err := caller.Members(ctx, u.StringSlice())
		cancel()
		if err != nil {
			last = err
			logger.Warn("failed to get cluster information from a member", zap.String("name", name), zap.Error(err))
			continue
		}
		g, err := joinAs(cfg.Member.Name, urls, known, clusterID)
		if err != nil {
			return nil, err
		}
		return g, refuseIncompatible(caller, g.others, logger)
	}
	return nil, fmt.Errorf("cannot fetch cluster info from peer urls: no member of --initial-cluster answers (last error: %w)", last)
}

// joinAs matches --initial-cluster with the members that the cluster has, by their peer URLs.
func joinAs(name string, urls types.URLsMap, known []PeerMember, clusterID uint64) (*genesis, error) {
	if len(known) != len(urls) {
		return nil, fmt.Errorf("error validating peerURLs: member count is unequal: --initial-cluster names %d members and the cluster has %d; "+
			"list exactly the cluster's members and this one, which must have been added with `etcdctl member add`", len(urls), len(known))
	}
	g := &genesis{clusterID: clusterID}
	for n, u := range urls {
		i := slices.IndexFunc(known, func(k PeerMember) bool { return sameURLs(k.PeerURLs, u.StringSlice()) })
		if i < 0 {
			return nil, fmt.Errorf("error validating peerURLs: no member of the cluster has the peer URLs %v that --initial-cluster gives %s; "+
				"make them equal to what `etcdctl member list` shows", u.StringSlice(), n)
		}
		if n == name {
			g.id = known[i].ID
			continue
		}
		m := schema.Member{ID: known[i].ID}
		m.PeerURLs = known[i].PeerURLs
		g.others = append(g.others, m)
	}
	return g, nil
}

// firstEntries gives the entries that every founder's log begins with: one conf change a founder, in the order of
// their IDs, in term 1, committed from the start.
func (g *genesis) firstEntries() ([]*raftpb.Entry, *raftpb.HardState, error) {
	ents := make([]*raftpb.Entry, 0, len(g.founders))
	for i, m := range g.founders {
		cc := &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: &m.ID, Context: schema.EncodeMember(m)}
		data, err := proto.Marshal(cc)
		if err != nil {
			return nil, nil, fmt.Errorf("server: encode the addition of member %x: %w", m.ID, err)
		}
		ents = append(ents, &raftpb.Entry{
			Type: raftpb.EntryConfChange.Enum(), Term: new(uint64(1)), Index: new(uint64(i + 1)), Data: data,
		})
	}
	if len(ents) == 0 {
		return nil, nil, nil
	}
	return ents, &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(len(ents)))}, nil
}

// found writes the log's beginning.
func (g *genesis) found(w *wal.Writer) (*raftpb.HardState, []*raftpb.Entry, error) {
	ents, hs, err := g.firstEntries()
	if err != nil || len(ents) == 0 {
		return hs, ents, err
	}
	if err := w.Append(wal.Batch{State: hs, Entries: ents}); err != nil {
		return nil, nil, err
	}
	return hs, ents, w.Sync()
}
