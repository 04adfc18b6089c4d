package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/config"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/wal"
)

// The reasons not to start. Each says what to change.
var (
	// ErrNoDatabase is returned for a directory with a log and no state file.
	ErrNoDatabase = errors.New("the data directory has a log (member/wal) but no state file (member/snap/db): " +
		"restore the directory from a snapshot, or remove the member, wipe the directory and add the member again")
	// ErrLogLost is returned when the only member's log ends before what its state file holds.
	ErrLogLost = errors.New("the log ends before the state file: entries were lost; restore the directory from a snapshot")
	// ErrDiscovery is returned when the other founders of the cluster were not found.
	ErrDiscovery = errors.New("discovery failed")
)

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
	// unproven says that no other founder could be asked whether this member has lived before.
	unproven bool
}

// begin works out who this member is, from its configuration alone or, to join, from the running cluster. It changes
// nothing on disk.
func begin(cfg *config.Config, d Deps) (*genesis, error) {
	urls, err := founders(cfg, d)
	if err != nil {
		return nil, err
	}
	if cfg.Cluster.Existing {
		return join(cfg, urls, d.Caller, d.Logger)
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
	var others [][]string
	for _, m := range g.founders {
		if m.ID != g.id {
			others = append(others, m.PeerURLs)
		}
	}
	heard, err := inquire(context.Background(), d.Caller, g.id, g.clusterID, others)
	g.unproven = heard != proof && len(others) > 0
	return g, err
}

// founders gives the members of a new cluster with their peer URLs, or, where this one joins, all members of the running one.
func founders(cfg *config.Config, d Deps) (types.URLsMap, error) {
	if d.Discover == nil {
		return cfg.Founders()
	}
	found, err := d.Discover(context.Background(), cluster.MemberID(cfg.Cluster.AdvertisePeer.StringSlice(), cfg.Cluster.Token))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDiscovery, err)
	}
	return found, cfg.CheckFound(found)
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
