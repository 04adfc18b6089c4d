// Package schema names every bucket and key of the state file (member/snap/db) and encodes what is stored
// there, byte for byte as etcd 3.7.3 does, so that either program opens a directory of the other.
//
// The file is a bolt database with one bucket a kind:
//
//	key              revision → mvccpb.KeyValue (see RevisionKey)
//	meta             consistent_index, term, confState, scheduledCompactRev, finishedCompactRev, storageVersion
//	lease            ID, 8 bytes big-endian → leasepb.Lease
//	alarm            encoded AlarmMember → nothing
//	cluster          clusterVersion (text), downgrade (JSON)
//	members          ID in hexadecimal → JSON Member
//	members_removed  ID in hexadecimal → "removed"
//	auth             authEnabled (1 byte), authRevision (8 bytes big-endian)
//	authUsers        name → authpb.User
//	authRoles        name → authpb.Role
//
// Callers: storage/store (which writes whatever it is given), apply and the offline tools (which choose what).
package schema

import "bytes"

// Bucket names one bucket of the state file. The zero value names none.
type Bucket struct {
	// ID is the bucket's place in Buckets: a small number that arrays can be indexed by.
	ID   uint8
	name string
}

// String gives the bucket's name in the file.
func (b Bucket) String() string { return b.name }

// The buckets. A new file has all of them from its first moment.
var (
	Key            = Bucket{1, "key"}
	Meta           = Bucket{2, "meta"}
	Lease          = Bucket{3, "lease"}
	Alarm          = Bucket{4, "alarm"}
	Cluster        = Bucket{5, "cluster"}
	Members        = Bucket{6, "members"}
	MembersRemoved = Bucket{7, "members_removed"}
	Auth           = Bucket{8, "auth"}
	AuthUsers      = Bucket{9, "authUsers"}
	AuthRoles      = Bucket{10, "authRoles"}
)

// BucketsLen is one more than the greatest bucket ID.
const BucketsLen = 11

// Buckets lists every bucket.
func Buckets() []Bucket {
	return []Bucket{Key, Meta, Lease, Alarm, Cluster, Members, MembersRemoved, Auth, AuthUsers, AuthRoles}
}

// Keys of bucket meta, with the first version that writes them. The bytes are never changed.
var (
	ConsistentIndexKey  = []byte("consistent_index")    // 8 bytes big-endian: the log index that the file's state ends with
	ScheduledCompactKey = []byte("scheduledCompactRev") // revision: a compaction that was decided
	FinishedCompactKey  = []byte("finishedCompactRev")  // revision: the newest compaction whose deletes are all done
	TermKey             = []byte("term")                // 8 bytes big-endian: the term of that index; since 3.5
	ConfStateKey        = []byte("confState")           // JSON; since 3.5
	StorageVersionKey   = []byte("storageVersion")      // text, such as "3.7.0"; since 3.6
)

// Keys of bucket cluster, since 3.5.
var (
	ClusterVersionKey = []byte("clusterVersion") // text, such as "3.7.0"
	DowngradeKey      = []byte("downgrade")      // JSON
)

// Keys of bucket auth.
var (
	AuthEnabledKey  = []byte("authEnabled")  // one byte, 0 or 1
	AuthRevisionKey = []byte("authRevision") // 8 bytes big-endian; a new file has 1
)

// Removed is the value of each key in bucket members_removed.
var Removed = []byte("removed")

// NotHashed tells whether a key stays out of the hash of the whole file: index and term move without any
// user's doing, and storageVersion is a member's own.
func NotHashed(b Bucket, key []byte) bool {
	if b != Meta {
		return false
	}
	return bytes.Equal(key, TermKey) || bytes.Equal(key, ConsistentIndexKey) || bytes.Equal(key, StorageVersionKey)
}
