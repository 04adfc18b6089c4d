package snap

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"keelson/internal/storage/schema"
)

var (
	// ErrV2 is returned when the data of a snapshot is not the JSON of a v2 store.
	ErrV2 = errors.New("snap: malformed v2 store")
	// ErrV2UserData is returned when a v2 store holds keys or auth data of users, which only an etcd of
	// 3.5 or older could serve.
	ErrV2UserData = errors.New("snap: the v2 store holds users' data")
)

// V2Members is the part of a v2 store that outlived it: who the members are, as etcd 3.6 and older read it.
type V2Members struct {
	Members []schema.Member
	Removed []uint64
	// ClusterVersion is a version such as "3.6.0", empty before the first was decided.
	ClusterVersion string
}

// Paths of the v2 store: "/0" is the cluster's own, "/1" the users' keys, "/2" the old auth.
const (
	v2Cluster        = "/0"
	v2Keys           = "/1"
	v2Auth           = "/2"
	v2MembersName    = "members"
	v2RemovedName    = "removed_members"
	v2VersionName    = "version"
	v2AttrName       = "attributes"
	v2RaftAttrName   = "raftAttributes"
	v2Version        = 2
	v2EventsCapacity = 1000
)

// v2Time is the zero time, as the v2 store writes that a node never expires.
const v2Time = "0001-01-01T00:00:00Z"

// v2Node is a node in the JSON of a v2 store; a file has no Children at all.
type v2Node struct {
	Path          string
	CreatedIndex  uint64
	ModifiedIndex uint64
	ExpireTime    string
	Value         string
	Children      map[string]*v2Node
}

// v2Store is the JSON as a whole. etcd goes on writing into the ring of events that it finds here, so the
// ring has its full length, all null.
type v2Store struct {
	Root       *v2Node
	WatcherHub struct {
		EventHistory struct {
			Queue struct {
				Events                      []*struct{}
				Size, Front, Back, Capacity int
			}
			StartIndex, LastIndex uint64
		}
	}
	CurrentIndex   uint64
	Stats          struct{}
	CurrentVersion int
}

type v2RaftAttributes struct {
	PeerURLs  []string `json:"peerURLs"`
	IsLearner bool     `json:"isLearner,omitempty"`
}

type v2Attributes struct {
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// v2Writer makes nodes; each file counts one change, as if it had been written in turn.
type v2Writer struct{ index uint64 }

// dir makes a directory, which comes into being with its first file; the fixed ones have index 0.
func (w *v2Writer) dir(path string, index uint64) *v2Node {
	return &v2Node{Path: path, CreatedIndex: index, ModifiedIndex: index, ExpireTime: v2Time, Children: map[string]*v2Node{}}
}

func (w *v2Writer) file(parent *v2Node, name, value string) {
	w.index++
	parent.Children[name] = &v2Node{Path: parent.Path + "/" + name, CreatedIndex: w.index, ModifiedIndex: w.index, ExpireTime: v2Time, Value: value}
}

// EncodeV2 gives the JSON of a v2 store that holds m and nothing else.
func EncodeV2(m V2Members) []byte {
	var w v2Writer
	s := v2Store{Root: w.dir("/", 0), CurrentVersion: v2Version}
	cluster := w.dir(v2Cluster, 0)
	s.Root.Children["0"], s.Root.Children["1"] = cluster, w.dir(v2Keys, 0)

	members := w.dir(v2Cluster+"/"+v2MembersName, w.index+1)
	for _, member := range m.Members {
		id := strconv.FormatUint(member.ID, 16)
		dir := w.dir(members.Path+"/"+id, w.index+1)
		members.Children[id] = dir
		w.file(dir, v2RaftAttrName, encode(v2RaftAttributes{member.PeerURLs, member.IsLearner}))
		if member.Name != "" || len(member.ClientURLs) > 0 {
			w.file(dir, v2AttrName, encode(v2Attributes{member.Name, member.ClientURLs}))
		}
	}
	if len(m.Members) > 0 {
		cluster.Children[v2MembersName] = members
	}
	if len(m.Removed) > 0 {
		removed := w.dir(v2Cluster+"/"+v2RemovedName, w.index+1)
		cluster.Children[v2RemovedName] = removed
		for _, id := range m.Removed {
			w.file(removed, strconv.FormatUint(id, 16), "")
		}
	}
	if m.ClusterVersion != "" {
		w.file(cluster, v2VersionName, m.ClusterVersion)
	}
	s.CurrentIndex = w.index
	history := &s.WatcherHub.EventHistory
	history.Queue.Events = make([]*struct{}, v2EventsCapacity)
	history.Queue.Capacity = v2EventsCapacity
	return []byte(encode(s))
}

// encode encodes structs of text, numbers and lists, which cannot fail.
func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("snap: encode %T: %v", v, err))
	}
	return string(b)
}

// DecodeV2 reads the JSON of a v2 store: ErrV2UserData if it holds more than members and version, ErrV2 if
// it is none. Members and removed IDs come in ascending order.
func DecodeV2(b []byte) (V2Members, error) {
	root, err := decodeRoot(b)
	if err != nil {
		return V2Members{}, err
	}
	var m V2Members
	for name, n := range root.Children {
		switch path := "/" + name; {
		case n == nil:
			return V2Members{}, fmt.Errorf("%w: an empty node %s", ErrV2, path)
		case path == v2Cluster:
			if err := m.cluster(n); err != nil {
				return V2Members{}, err
			}
		case path == v2Auth && !hasGrandchildren(n):
			// What is left of an auth that has no users and roles.
		case len(n.Children) > 0 || path != v2Keys && n.Value != "":
			return V2Members{}, fmt.Errorf("%w: %s", ErrV2UserData, path)
		}
	}
	m.sort()
	return m, nil
}

// DecodeMembers is DecodeV2 that passes over what a v2 store holds beside members and version.
func DecodeMembers(b []byte) (V2Members, error) {
	root, err := decodeRoot(b)
	if err != nil {
		return V2Members{}, err
	}
	var m V2Members
	if n := root.Children[v2Cluster[1:]]; n != nil {
		if err := m.cluster(n); err != nil {
			return V2Members{}, err
		}
	}
	m.sort()
	return m, nil
}

func decodeRoot(b []byte) (*v2Node, error) {
	var s struct{ Root *v2Node }
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrV2, err)
	}
	if s.Root == nil {
		return nil, fmt.Errorf("%w: no root", ErrV2)
	}
	return s.Root, nil
}

func (m *V2Members) sort() {
	slices.SortFunc(m.Members, func(a, b schema.Member) int { return compare(a.ID, b.ID) })
	slices.Sort(m.Removed)
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func hasGrandchildren(n *v2Node) bool {
	for _, c := range n.Children {
		if c != nil && len(c.Children) > 0 {
			return true
		}
	}
	return false
}

// cluster reads the node /0.
func (m *V2Members) cluster(n *v2Node) error {
	for name, child := range n.Children {
		if child == nil {
			return fmt.Errorf("%w: an empty node %s/%s", ErrV2, v2Cluster, name)
		}
		switch name {
		case v2MembersName:
			for id, dir := range child.Children {
				if err := m.member(id, dir); err != nil {
					return err
				}
			}
		case v2RemovedName:
			for id := range child.Children {
				num, err := parseID(id)
				if err != nil {
					return err
				}
				m.Removed = append(m.Removed, num)
			}
		case v2VersionName:
			m.ClusterVersion = child.Value
		}
	}
	return nil
}

// member reads the node of one member.
func (m *V2Members) member(id string, dir *v2Node) error {
	num, err := parseID(id)
	if err != nil {
		return err
	}
	if dir == nil || dir.Children[v2RaftAttrName] == nil {
		return fmt.Errorf("%w: member %s has no %s", ErrV2, id, v2RaftAttrName)
	}
	var raft v2RaftAttributes
	if err := json.Unmarshal([]byte(dir.Children[v2RaftAttrName].Value), &raft); err != nil {
		return fmt.Errorf("%w: member %s: %w", ErrV2, id, err)
	}
	var attr v2Attributes
	if n := dir.Children[v2AttrName]; n != nil {
		if err := json.Unmarshal([]byte(n.Value), &attr); err != nil {
			return fmt.Errorf("%w: member %s: %w", ErrV2, id, err)
		}
	}
	m.Members = append(m.Members, schema.Member{
		ID: num, PeerURLs: raft.PeerURLs, IsLearner: raft.IsLearner, Name: attr.Name, ClientURLs: attr.ClientURLs,
	})
	return nil
}

func parseID(s string) (uint64, error) {
	id, err := schema.ParseMemberKey([]byte(strings.TrimPrefix(s, "/")))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrV2, err)
	}
	return id, nil
}
