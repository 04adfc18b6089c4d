package cluster

import (
	"crypto/sha1"
	"encoding/binary"
	"slices"
	"strings"
)

// MemberID derives a member's ID from its peer URLs and the cluster token, as every etcd since 2.0 does: the first
// eight bytes, big-endian, of SHA-1 over the sorted URLs and the token.
func MemberID(peerURLs []string, token string) uint64 {
	urls := slices.Sorted(slices.Values(peerURLs))
	sum := sha1.Sum([]byte(strings.Join(urls, "") + token))
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
