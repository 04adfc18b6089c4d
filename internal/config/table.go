package config

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Row is one setting. Its environment variable is Env(); its key in a YAML file is Flag, or Key where that differs.
type Row struct {
	Section string
	// Flag is the name without dashes.
	Flag string
	// Key is the path in a YAML file ("group.key") where it is not Flag. Flag is a key too.
	Key string
	// Default is the text that means the same as leaving the setting out.
	Default string
	Help    string
	// Later names the feature that is missing as long as the setting must stay at its default; empty where the setting works.
	Later string
	// Deprecated is told in the log when the setting is used; empty for most.
	Deprecated string

	kind
}

// Sections of the table, in the order of the help.
const (
	member     = "Member"
	clustering = "Clustering"
	security   = "Security"
	authn      = "Auth"
	monitoring = "Profiling and Monitoring"
	logging    = "Logging"
	tracing    = "Distributed tracing"
	features   = "Features"
	unsafe     = "Unsafe feature"
)

// What the settings of later features wait for.
const (
	laterV2V3    = "the experiment of a v2 store above v3 (--enable-v2 and --v2-prefix are that, with keys laid out another way)"
	laterTracing = "distributed tracing"
)

const defaultRotation = `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`

// Table answers every setting of today; spellings of older versions are in older.go.
func Table() []Row {
	var rows []Row
	for _, part := range [][]Row{
		memberRows(), limitRows(), clusterRows(), discoveryRows(), tlsRows(), peerTLSRows(), authRows(), outputRows(), tracingRows(), featureRows(),
	} {
		rows = append(rows, part...)
	}
	return rows
}

func memberRows() []Row {
	return []Row{
		{Section: member, Flag: "name", Default: "default", Help: "The member's name; people read it, and --initial-cluster refers to it.",
			kind: into(parseText, func(c *Config) *string { return &c.Member.Name })},
		{Section: member, Flag: "data-dir", Default: "", Help: "The directory of the member's files; without it, the name followed by .etcd.",
			kind: into(parseText, func(c *Config) *string { return &c.Member.DataDir })},
		{Section: member, Flag: "wal-dir", Default: "", Help: "A directory for the log alone, say on a disk of its own; without it, the log lies in the data directory.",
			kind: into(parseText, func(c *Config) *string { return &c.Member.WALDir })},
		{Section: member, Flag: "snapshot-count", Default: "10000", Help: "How many applied entries lie between two snapshots of the log.",
			kind: into(parseUint, func(c *Config) *uint64 { return &c.Raft.SnapshotCount })},
		{Section: member, Flag: "heartbeat-interval", Default: "100", Help: "Milliseconds between two heartbeats of the leader.",
			kind: milliseconds(func(c *Config) *time.Duration { return &c.Raft.Heartbeat })},
		{Section: member, Flag: "election-timeout", Default: "1000", Help: "Milliseconds without a leader before an election; at least five heartbeats.",
			kind: milliseconds(func(c *Config) *time.Duration { return &c.Raft.Election })},
		{Section: member, Flag: "initial-election-tick-advance", Default: "true", Help: "Skip most of the first election time-out after a start.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Raft.InitialTickAdvance })},
		{Section: member, Flag: "listen-peer-urls", Default: "http://localhost:2380", Help: "URLs to listen on for other members.",
			kind: into(parseURLs, func(c *Config) *types.URLs { return &c.Listen.Peer })},
		{Section: member, Flag: "listen-client-urls", Default: "http://localhost:2379", Help: "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is set.",
			kind: into(parseURLs, func(c *Config) *types.URLs { return &c.Listen.Client })},
		{Section: member, Flag: "listen-client-http-urls", Default: "", Help: "URLs to listen on for HTTP alone; --listen-client-urls then serves gRPC alone.",
			kind: into(parseURLs, func(c *Config) *types.URLs { return &c.Listen.ClientHTTP })},
		{Section: member, Flag: "max-snapshots", Default: "5", Help: "How many snapshot files stay; 0 keeps all.",
			Deprecated: "--max-snapshots is deprecated and goes with etcd 3.8",
			kind:       into(parseSize, func(c *Config) *uint { return &c.Storage.MaxSnapshots })},
		{Section: member, Flag: "max-wals", Default: "5", Help: "How many files of the log stay that are no longer needed; 0 keeps all.",
			kind: into(parseSize, func(c *Config) *uint { return &c.Storage.MaxWALs })},
		{Section: member, Flag: "memory-mlock", Default: "false", Help: "Keep the pages of the store in memory, away from the swap.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Storage.Mlock })},
		{Section: member, Flag: "quota-backend-bytes", Default: "0", Help: "Bytes that the store may take before writes are refused; 0 means 2 GiB, a negative number no quota.",
			kind: into(parseInt64, func(c *Config) *int64 { return &c.Storage.QuotaBytes })},
		{Section: member, Flag: "backend-bbolt-freelist-type", Default: "map", Help: "How the store keeps its list of free pages: map or array.",
			kind: into(oneOf("map", "array"), func(c *Config) *string { return &c.Storage.FreelistType })},
		{Section: member, Flag: "backend-batch-interval", Default: "0s", Help: "The longest time between two commits of the store; 0 leaves the choice to the store.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.Storage.BatchInterval })},
		{Section: member, Flag: "backend-batch-limit", Default: "0", Help: "The most operations in one commit of the store; 0 leaves the choice to the store.",
			kind: into(parseInt, func(c *Config) *int { return &c.Storage.BatchLimit })},
	}
}

func limitRows() []Row {
	return []Row{
		{Section: member, Flag: "max-txn-ops", Default: "128", Help: "The most operations in one transaction.",
			kind: into(parseSize, func(c *Config) *uint { return &c.Limits.TxnOps })},
		{Section: member, Flag: "max-request-bytes", Default: "1572864", Help: "The most bytes in one request.",
			kind: into(parseSize, func(c *Config) *uint { return &c.Limits.RequestBytes })},
		{Section: member, Flag: "max-concurrent-streams", Default: "4294967295", Help: "The most streams that a client may hold open on one connection.",
			kind: into(parseUint32, func(c *Config) *uint32 { return &c.Limits.Streams })},
		{Section: member, Flag: "grpc-keepalive-min-time", Default: "5s", Help: "How long a client must wait between two pings.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.KeepAlive.MinTime })},
		{Section: member, Flag: "grpc-keepalive-interval", Default: "2h", Help: "How long a connection may be idle before the server pings it; 0 for never.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.KeepAlive.Interval })},
		{Section: member, Flag: "grpc-keepalive-timeout", Default: "20s", Help: "How long the answer to a ping may take before the connection is closed; 0 for any time.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.KeepAlive.Timeout })},
		{Section: member, Flag: "socket-reuse-port", Key: "socket-options.reuse-port", Default: "false", Help: "Listen with SO_REUSEPORT, so that a port in use can be bound again.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Listen.ReusePort })},
		{Section: member, Flag: "socket-reuse-address", Key: "socket-options.reuse-address", Default: "false", Help: "Listen with SO_REUSEADDR, so that an address in TIME_WAIT can be bound.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Listen.ReuseAddress })},
		{Section: member, Flag: "enable-grpc-gateway", Default: "true", Help: "Serve gRPC as JSON over HTTP too.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Listen.Gateway })},
		{Section: member, Flag: "raft-read-timeout", Default: "5s", Help: "How long a read on a connection between members may take; at least 5s.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.Listen.PeerRead })},
		{Section: member, Flag: "raft-write-timeout", Default: "5s", Help: "How long a write on a connection between members may take; at least 5s.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.Listen.PeerWrite })},
		{Section: member, Flag: "feature-gates", Default: "", Help: "Features to switch on or off, as Name=true,Name=false.",
			kind: gatesKind()},
	}
}

func clusterRows() []Row {
	return []Row{
		{Section: clustering, Flag: "initial-advertise-peer-urls", Default: "http://localhost:2380", Help: "The URLs at which other members reach this one; --initial-cluster must have the same.",
			kind: into(parseURLs, func(c *Config) *types.URLs { return &c.Cluster.AdvertisePeer })},
		{Section: clustering, Flag: "initial-cluster", Default: "default=http://localhost:2380", Help: "All members of a new cluster, as NAME=URL,NAME=URL. Only the first start looks at it. Without it: this member alone.",
			kind: into(parseText, func(c *Config) *string { return &c.Cluster.Initial })},
		{Section: clustering, Flag: "initial-cluster-state", Default: "new", Help: "new, or existing for a member that joins a running cluster. Only the first start looks at it.",
			kind: textual(into(either("new", "existing"), func(c *Config) *bool { return &c.Cluster.Existing }))},
		{Section: clustering, Flag: "initial-cluster-token", Default: "etcd-cluster", Help: "A text that makes the identity of the cluster and its members unique. Only the first start looks at it.",
			kind: into(parseText, func(c *Config) *string { return &c.Cluster.Token })},
		{Section: clustering, Flag: "advertise-client-urls", Default: "http://localhost:2379", Help: "The URLs at which clients reach this member.",
			kind: into(parseURLs, func(c *Config) *types.URLs { return &c.Cluster.AdvertiseClient })},
		{Section: clustering, Flag: "strict-reconfig-check", Default: "true", Help: "Refuse a change of members that would cost the quorum.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Cluster.StrictReconfig })},
		{Section: clustering, Flag: "pre-vote", Default: "true", Help: "Ask for votes before an election, so that a member that was cut off disturbs nobody when it is back.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Raft.PreVote })},
		{Section: clustering, Flag: "auto-compaction-retention", Default: "0", Help: "How much history automatic compaction leaves: hours, a duration, or a number of revisions; 0 turns it off.",
			kind: into(parseRetention, func(c *Config) *string { return &c.Compaction.retention })},
		{Section: clustering, Flag: "auto-compaction-mode", Default: "periodic", Help: "What --auto-compaction-retention counts: periodic for time, revision for revisions.",
			kind: textual(into(either("periodic", "revision"), func(c *Config) *bool { return &c.Compaction.byRevision }))},
		{Section: clustering, Flag: "v2-deprecation", Default: "write-only", Help: "The stage in the removal of the old v2 store. It has no effect.",
			Deprecated: "--v2-deprecation has no effect and goes with etcd 3.8",
			kind:       checked(oneOf("not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"))},
	}
}

func authRows() []Row {
	return []Row{
		{Section: authn, Flag: "auth-token", Default: "simple", Help: "The kind of token that a user gets, and its options: simple or jwt,…",
			kind: into(parseText, func(c *Config) *string { return &c.Auth.Token })},
		{Section: authn, Flag: "bcrypt-cost", Default: "10", Help: "The cost of a password's hash, 4 to 31; each step doubles the time that a login takes. Another number means 10.",
			kind: into(parseSize, func(c *Config) *uint { return &c.Auth.BcryptCost })},
		{Section: authn, Flag: "auth-token-ttl", Default: "300", Help: "Seconds that a simple token is good for after its last use.",
			kind: seconds(func(c *Config) *time.Duration { return &c.Auth.TokenTTL })},
	}
}

func outputRows() []Row {
	return []Row{
		{Section: monitoring, Flag: "enable-pprof", Default: "false", Help: "Serve Go's profiles under /debug/pprof/ on the client URLs.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Monitoring.Pprof })},
		{Section: monitoring, Flag: "metrics", Default: "basic", Help: "How much the metrics tell: basic, or extensive for a histogram of every RPC.",
			kind: textual(into(either("basic", "extensive"), func(c *Config) *bool { return &c.Monitoring.Extensive }))},
		{Section: monitoring, Flag: "listen-metrics-urls", Default: "", Help: "More URLs to listen on, for /metrics and the health checks alone.",
			kind: into(parseURLs, func(c *Config) *types.URLs { return &c.Listen.Metrics })},
		{Section: logging, Flag: "logger", Default: "zap", Help: "The kind of log: zap.",
			kind: checked(oneOf("zap"))},
		{Section: logging, Flag: "log-outputs", Default: "default", Help: "Where the log goes: stderr, stdout, systemd/journal or paths of files. The default is stderr.",
			kind: into(parseList, func(c *Config) *[]string { return &c.Logging.Outputs })},
		{Section: logging, Flag: "log-level", Default: "info", Help: "The least important line to log: debug, info, warn, error, panic or fatal.",
			kind: into(oneOf("debug", "info", "warn", "error", "panic", "fatal"), func(c *Config) *string { return &c.Logging.Level })},
		{Section: logging, Flag: "log-format", Default: "json", Help: "json or console.",
			kind: into(oneOf("json", "console"), func(c *Config) *string { return &c.Logging.Format })},
		{Section: logging, Flag: "enable-log-rotation", Default: "false", Help: "Rotate the one file of --log-outputs.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Logging.Rotate })},
		{Section: logging, Flag: "log-rotation-config-json", Default: defaultRotation, Help: "When to rotate: maxsize in MB, maxage in days, maxbackups (0 for no bound), localtime for names in local time, compress for gzip.",
			kind: into(parseText, func(c *Config) *string { return &c.Logging.Rotation })},
		{Section: logging, Flag: "warning-unary-request-duration", Default: "300ms", Help: "A request that takes longer is logged.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.Limits.WarnUnary })},
	}
}

func tracingRows() []Row {
	rows := []Row{
		{Flag: "enable-distributed-tracing", Default: "false", Help: "Send traces to a collector.", kind: checked(parseBool)},
		{Flag: "distributed-tracing-address", Default: "localhost:4317", Help: "The collector's address.", kind: checked(parseText)},
		{Flag: "distributed-tracing-service-name", Default: "etcd", Help: "The service's name in traces, one for all members.", kind: checked(parseText)},
		{Flag: "distributed-tracing-instance-id", Default: "", Help: "This member's name in traces.", kind: checked(parseText)},
		{Flag: "distributed-tracing-sampling-rate", Default: "0", Help: "How many of a million spans are sent.", kind: checked(parseInt)},
	}
	return allLater(rows, tracing, laterTracing)
}

func featureRows() []Row {
	return []Row{
		{Section: features, Flag: "corrupt-check-time", Default: "0s", Help: "How often members compare their data; 0 for never.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.Checks.Corrupt })},
		{Section: features, Flag: "compact-hash-check-time", Default: "1m", Help: "How often the leader compares hashes after compactions.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.Checks.CompactHash })},
		{Section: features, Flag: "compaction-batch-limit", Default: "1000", Help: "The most revisions that one step of a compaction removes.",
			kind: into(parseInt, func(c *Config) *int { return &c.Compaction.BatchLimit })},
		{Section: features, Flag: "compaction-sleep-interval", Default: "0s", Help: "The pause between two steps of a compaction; 0 leaves the choice to the store.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.Compaction.Sleep })},
		{Section: features, Flag: "watch-progress-notify-interval", Default: "10m", Help: "How often an idle watcher that asked for it is told the revision.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.Limits.WatchProgress })},
		{Section: features, Flag: "warning-apply-duration", Default: "100ms", Help: "An entry that takes longer to apply is logged.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.Limits.WarnApply })},
		{Section: features, Flag: "bootstrap-defrag-threshold-megabytes", Default: "0", Help: "Defragment at the start where that frees at least so much; 0 for never.",
			kind: into(parseSize, func(c *Config) *uint { return &c.Storage.BootstrapDefragMB })},
		{Section: features, Flag: "max-learners", Default: "1", Help: "The most learners in the cluster.",
			kind: into(parseInt, func(c *Config) *int { return &c.Cluster.MaxLearners })},
		{Section: features, Flag: "downgrade-check-time", Default: "5s", Help: "How often the leader looks after a downgrade.",
			kind: into(parseDuration, func(c *Config) *time.Duration { return &c.Checks.Downgrade })},
		{Section: features, Flag: "snapshot-catchup-entries", Default: "5000", Help: "How many entries stay in the log behind a snapshot for a follower that lags.",
			kind: into(parseUint, func(c *Config) *uint64 { return &c.Raft.CatchUpEntries })},
		{Section: features, Flag: "max-cluster-version", Default: "", Help: "3.6 or 3.7: how far this member, when it leads, raises the cluster version; without it, to the lowest version of all members. " +
			"A cluster held at 3.6 keeps directories that etcd 3.6 opens; one that is at 3.7 already goes back by `etcdctl downgrade enable 3.6`. Give all members the same.",
			kind: into(oneOf("", "3.6", "3.7"), func(c *Config) *string { return &c.Cluster.MaxVersion })},
		{Section: features, Flag: "enable-v2", Default: "false", Help: "Serve the v2 API on the client URLs, as a view of the keys below --v2-prefix.",
			Deprecated: "--enable-v2 serves an API that etcd no longer has: move clients to v3 (etcdctl migrate takes their keys along)",
			kind:       into(parseBool, func(c *Config) *bool { return &c.V2.Enable })},
		{Section: features, Flag: "v2-prefix", Default: "/_v2/", Help: "The keys under which the v2 API keeps its data. Give all members the same; data under another one is not moved.",
			kind: into(parsePrefix, func(c *Config) *string { return &c.V2.Prefix })},
		{Section: unsafe, Flag: "force-new-cluster", Default: "false", Help: "Start as the only member of a new cluster with the old data.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Cluster.ForceNew })},
		{Section: unsafe, Flag: "unsafe-no-fsync", Default: "false", Help: "Do not wait for the disk. A crash loses acknowledged writes.",
			kind: into(parseBool, func(c *Config) *bool { return &c.Storage.NoSync })},
	}
}

// allLater fills in what a whole part of the table has in common; a row keeps what it says itself.
func allLater(rows []Row, section, later string) []Row {
	for i := range rows {
		if rows[i].Later == "" {
			rows[i].Later = later
		}
	}
	return inSection(rows, section)
}

func inSection(rows []Row, section string) []Row {
	for i := range rows {
		rows[i].Section = section
	}
	return rows
}
