package main

import (
	"net"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keelson/internal/offline"
)

const snapshotRestoreHelp = `Makes the data directory of one member of a new cluster from a snapshot. Run it once for each member, with the same
snapshot, the same --initial-cluster and the same --initial-cluster-token, then start all members:

  etcdutl snapshot restore backup.db --name m1 --data-dir m1.etcd \
      --initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380 \
      --initial-cluster-token cluster-2 --initial-advertise-peer-urls http://10.0.0.1:2380

Keys, leases, users, roles and alarms are the snapshot's; members and the cluster's ID are new, so members of the old
cluster cannot join by mistake. Nothing is ever overwritten, and a restore that fails leaves nothing behind.

A state file copied from a data directory (member/snap/db) has no checksum: it needs --skip-hash-check, and must have
been copied while no member ran on it.

Programs that watch the cluster or keep lists of it believe that revisions only grow. Those that outlive the restore are
told to start anew by --bump-revision=1000000000 --mark-compacted: more than was written since the snapshot was taken.`

// mapBytesDefault is the address space that etcd reserves for its file.
const mapBytesDefault = 10 << 30

func snapshotRestoreCommand(a *app) *cobra.Command {
	var (
		r             offline.Restore
		peerURLs      string
		markCompacted bool
	)
	cmd := &cobra.Command{
		Use:   "restore <filename> --data-dir {output dir} [options]",
		Short: "Makes a member's data directory from a snapshot",
		Long:  snapshotRestoreHelp,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "snapshot restore requires exactly one argument")
			}
			if markCompacted != (r.BumpRevision > 0) {
				return fail(statusBadArgs, "--mark-compacted required if --bump-revision > 0, and not allowed otherwise")
			}
			r.Snapshot, r.PeerURLs = args[0], strings.Split(peerURLs, ",")
			r.Resolve, r.Logger = net.LookupHost, a.logger()
			return failed(r.Run())
		},
	}
	bindRestore(cmd.Flags(), &r)
	cmd.Flags().StringVar(&peerURLs, "initial-advertise-peer-urls", "http://localhost:2380", "this member's peer URLs, as --initial-cluster has them")
	cmd.Flags().BoolVar(&markCompacted, "mark-compacted", false, "count the newest revision after the restore as compacted (goes with --bump-revision)")
	completeDirs(cmd, "data-dir", "wal-dir")
	return cmd
}

func bindRestore(fs *pflag.FlagSet, r *offline.Restore) {
	fs.StringVar(&r.DataDir, "data-dir", "", "where to write the data directory (empty: NAME.etcd)")
	fs.StringVar(&r.WALDir, "wal-dir", "", "where to write the log (empty: in the data directory)")
	fs.StringVar(&r.Cluster, "initial-cluster", "default=http://localhost:2380", "name=peer-url of every member of the new cluster, separated by commas")
	fs.StringVar(&r.Token, "initial-cluster-token", "etcd-cluster", "token of the new cluster; a new one keeps it apart from the old")
	fs.StringVar(&r.Name, "name", "default", "name of this member, one of --initial-cluster")
	fs.BoolVar(&r.SkipHashCheck, "skip-hash-check", false, "take a file without a checksum, or with a wrong one")
	fs.Uint64Var(&r.MapBytes, "initial-memory-map-size", mapBytesDefault, "address space to reserve for the database, in bytes (0: the default)")
	fs.Uint64Var(&r.BumpRevision, "bump-revision", 0, "how much to add to the newest revision (goes with --mark-compacted)")
}
