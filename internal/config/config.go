// Package config turns what an operator wrote into one checked value. A setting is one row of a table (table.go): the row
// gives its flag, its environment variable (ETCD_ and the flag in capitals), its key in a configuration file, its default and
// its help, and binds it to a field of Config. cmd/etcd calls Parse; internal/server reads the Config and changes nothing in it.
//
// Order of precedence: with a configuration file, the file alone counts; without one, a flag beats its environment variable,
// which beats the default. A setting whose feature is not there is refused by name as soon as it differs from its default.
package config

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Config is everything that one member is told at its start. All durations are real durations, also where the flag counts
// milliseconds.
type Config struct {
	Member     Member
	Listen     Listen
	Cluster    Cluster
	Raft       Raft
	Storage    Storage
	Limits     Limits
	Auth       Auth
	KeepAlive  KeepAlive
	Logging    Logging
	Monitoring Monitoring
	Compaction Compaction
	Checks     Checks
	Security   Security
	V2         V2
	// Gates holds every feature gate by its name, with the value that counts.
	Gates map[string]bool
}

// Member says who this member is and where it keeps its files.
type Member struct {
	Name string
	// DataDir is never empty: without --data-dir it is the name followed by ".etcd".
	DataDir string
	// WALDir is empty where the log lives in the data directory (member/wal).
	WALDir string
}

// Listen says which sockets the member opens. Every list is sorted and free of repeats.
type Listen struct {
	Peer   types.URLs
	Client types.URLs
	// ClientHTTP, if not empty, takes HTTP off the Client listeners, which then serve gRPC alone.
	ClientHTTP types.URLs
	// Metrics adds listeners for /metrics, /health, /livez and /readyz.
	Metrics                 types.URLs
	ReusePort, ReuseAddress bool
	// Gateway serves gRPC as JSON over HTTP too.
	Gateway bool
	// PeerRead and PeerWrite limit each read and write on a connection between members; at least 5 s.
	PeerRead, PeerWrite time.Duration
}

// Cluster says what the member tells others about itself, and the members it starts with.
type Cluster struct {
	AdvertisePeer   types.URLs
	AdvertiseClient types.URLs
	// Initial is the text of --initial-cluster, "name=url,name=url"; Founders reads it. Only the first start looks at it.
	Initial string
	// Discovery is how the founders find each other where Initial does not name them.
	Discovery Discovery
	// Resolve looks a host name up when two texts of one URL list differ; nil compares the texts alone.
	Resolve func(host string) ([]string, error)
	// Existing says that the member joins a cluster that runs already (--initial-cluster-state existing).
	Existing bool
	Token    string
	// MaxLearners is how many learners the cluster may have; every member should have the same.
	MaxLearners int
	// StrictReconfig refuses a change of members that would cost the quorum.
	StrictReconfig bool
	// ForceNew makes this member the only one of a new cluster with the old data, once, at this start.
	ForceNew bool
	// MaxVersion is the highest cluster version, as "3.6", that this member's leader raises the cluster to; empty for its own.
	MaxVersion string
}

// Raft holds what steers elections and the length of the log.
type Raft struct {
	// Heartbeat is one tick of raft's clock.
	Heartbeat time.Duration
	// Election is at least five heartbeats.
	Election           time.Duration
	InitialTickAdvance bool
	PreVote            bool
	// SnapshotCount is how many applied entries lie between two snapshots of the log.
	SnapshotCount uint64
	// CatchUpEntries stay in the log behind a snapshot for a follower that lags a little.
	CatchUpEntries uint64
}

// Storage holds what steers the files of the member.
type Storage struct {
	// MaxSnapshots and MaxWALs are how many old files stay; 0 keeps all.
	MaxSnapshots, MaxWALs uint
	// QuotaBytes is as given: 0 asks for the default of 2 GiB, a negative number for no quota.
	QuotaBytes int64
	// FreelistType is "map" or "array", bbolt's two.
	FreelistType string
	// BatchInterval and BatchLimit bound a commit of the store; 0 asks for the default of each.
	BatchInterval time.Duration
	BatchLimit    int
	Mlock         bool
	NoSync        bool
	// BootstrapDefragMB is how many megabytes a defragmentation must free for one to be done at the start; 0 for never.
	BootstrapDefragMB uint
}

// Compaction says what history is dropped by itself, and how gently.
type Compaction struct {
	// Retention is how long history is kept, Revisions how much of it; one is 0, and if both are, nothing is dropped by itself.
	Retention time.Duration
	Revisions int64
	// retention and byRevision are --auto-compaction-retention and --auto-compaction-mode, of which the two above are made.
	retention  string
	byRevision bool
	// BatchLimit is how many revisions one step removes, Sleep the pause between two; 0 leaves either to the store.
	BatchLimit int
	Sleep      time.Duration
}

// Checks says how often members look after their own and each other's soundness; 0 for never.
type Checks struct {
	// Corrupt is the time between two comparisons of data, CompactHash between two of hashes at compactions.
	Corrupt, CompactHash time.Duration
	// Downgrade is the time between two looks of the leader at a downgrade under way.
	Downgrade time.Duration
}

// Limits holds what one request or one client may ask for, and when slowness is worth a line in the log.
type Limits struct {
	TxnOps       uint
	RequestBytes uint
	// Streams is how many streams a client may hold open on one connection.
	Streams uint32
	// WarnApply and WarnUnary are how long an entry's apply and a whole request may take without a warning.
	WarnApply, WarnUnary time.Duration
	// WatchProgress is how often an idle watcher that asked for it is told the revision; 0 asks for the default of 10 minutes.
	WatchProgress time.Duration
}

// Auth holds how users prove who they are.
type Auth struct {
	// Token is the kind of token, and its options behind a comma.
	Token string
	// TokenTTL is how long a simple token is good for; 0 asks for the default of five minutes.
	TokenTTL time.Duration
	// BcryptCost is the cost of a password's hash.
	BcryptCost uint
}

// V2 says whether and where the v2 API is served.
type V2 struct {
	Enable bool
	// Prefix is where v2's data lives among the keys; all members must have the same.
	Prefix string
}

// KeepAlive holds the pings of a gRPC connection.
type KeepAlive struct {
	// MinTime is how soon after its last ping a client may send the next.
	MinTime time.Duration
	// Interval and Timeout are how long a connection may be idle before it is pinged, and how long the answer may take; 0 turns
	// pings off.
	Interval, Timeout time.Duration
}

// Logging says what is logged, how and where to.
type Logging struct {
	// Level is one of debug, info, warn, error, panic, fatal.
	Level string
	// Format is "json" or "console".
	Format string
	// Outputs are "default", "stdout", "stderr", "systemd/journal" or paths of files.
	Outputs []string
	// Rotate asks for rotation of the one file in Outputs, as Rotation (a JSON text) says.
	Rotate   bool
	Rotation string
}

// Monitoring says what the member shows of itself.
type Monitoring struct {
	// Extensive adds histograms of every RPC to the metrics.
	Extensive bool
	Pprof     bool
}

// ElectionTicks is the election time-out in heartbeats.
func (c *Config) ElectionTicks() int { return int(c.Raft.Election / c.Raft.Heartbeat) }
