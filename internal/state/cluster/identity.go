package cluster

import (
	"crypto/sha1"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MemberID derives a member's ID from its peer URLs and the cluster token, as every etcd since 2.0 does: the first
// eight bytes, big-endian, of SHA-1 over the sorted URLs and the token.
func MemberID(peerURLs []string, token string) uint64 {
	return hashID(peerURLs, token)
}

// MemberIDAt derives the ID of a member that is added to a running cluster: the token's place is taken by the
// Unix time in seconds, in decimal, so that a member added again gets a new ID.
func MemberIDAt(peerURLs []string, now time.Time) uint64 {
	return hashID(peerURLs, strconv.FormatInt(now.Unix(), 10))
}

func hashID(peerURLs []string, suffix string) uint64 {
	urls := slices.Sorted(slices.Values(peerURLs))
	sum := sha1.Sum([]byte(strings.Join(urls, "") + suffix))
	return binary.BigEndian.Uint64(sum[:8])
}

// ID derives the cluster's ID from the IDs of its initial members, in any order.
func ID(members []uint64) uint64 {
	sorted := slices.Sorted(slices.Values(members))
	b := make([]byte, 0, 8*len(sorted))
	for _, id := range sorted {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	sum := sha1.Sum(b)
	return binary.BigEndian.Uint64(sum[:8])
}
