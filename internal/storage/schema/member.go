package schema

import (
	"encoding/json"
	"fmt"
	"strconv"

	"go.etcd.io/raft/v3/raftpb"
)

// Member is one member as bucket members, conf changes and the peers' /members answer hold it. Name and
// ClientURLs are what the member publishes of itself once it has started.
type Member struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// Downgrade says whether the cluster is on its way to an older minor version.
type Downgrade struct {
	// TargetVersion is a version such as "3.6.0", empty where Enabled is false.
	TargetVersion string `json:"target-version"`
	Enabled       bool   `json:"enabled"`
}

// MemberKey gives the key of a member in buckets members and members_removed.
func MemberKey(id uint64) []byte { return strconv.AppendUint(nil, id, 16) }

// ParseMemberKey reads a key of buckets members and members_removed. ErrMalformed where it is none.
func ParseMemberKey(k []byte) (uint64, error) {
	id, err := strconv.ParseUint(string(k), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: member key %q", ErrMalformed, k)
	}
	return id, nil
}

// EncodeMember gives a member's JSON, bytes as etcd's.
func EncodeMember(m Member) []byte { return encodeJSON(m) }

// ParseMember reads a member's JSON. Unknown fields are passed over; ErrMalformed where b is none.
func ParseMember(b []byte) (Member, error) {
	var m Member
	if err := json.Unmarshal(b, &m); err != nil {
		return Member{}, fmt.Errorf("%w: member: %w", ErrMalformed, err)
	}
	return m, nil
}

// EncodeDowngrade gives the JSON of a downgrade, bytes as etcd's.
func EncodeDowngrade(d Downgrade) []byte { return encodeJSON(d) }

// ParseDowngrade reads the JSON of a downgrade. ErrMalformed where b is none.
func ParseDowngrade(b []byte) (Downgrade, error) {
	var d Downgrade
	if err := json.Unmarshal(b, &d); err != nil {
		return Downgrade{}, fmt.Errorf("%w: downgrade: %w", ErrMalformed, err)
	}
	return d, nil
}

// ConfStateJSON gives the JSON of a membership configuration, bytes as etcd's.
func ConfStateJSON(cs *raftpb.ConfState) []byte { return encodeJSON(cs) }

// ParseConfState reads the JSON of a membership configuration. ErrMalformed where b is none.
func ParseConfState(b []byte) (*raftpb.ConfState, error) {
	cs := new(raftpb.ConfState)
	if err := json.Unmarshal(b, cs); err != nil {
		return nil, fmt.Errorf("%w: confState: %w", ErrMalformed, err)
	}
	return cs, nil
}

// encodeJSON encodes values that hold nothing but numbers, text, truth values and lists of them, which
// cannot fail.
func encodeJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("schema: encode %T: %v", v, err))
	}
	return b
}
