// Package alarm holds the replicated alarms: which member raised which. Apply changes the set entry by entry;
// everybody else reads it. It is written to the store by apply, under the keys that Key gives.
package alarm

import (
	"fmt"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// Set is the alarms that are active. All methods may be called from any goroutine.
type Set struct {
	mu     sync.RWMutex // guards active
	active []entry      // in the order they were raised
}

type entry struct {
	member uint64
	kind   pb.AlarmType
}

// New gives an empty set.
func New() *Set { return &Set{} }

// Reset replaces the set by alarms whose store keys are keys, at start and after an incoming snapshot.
func (s *Set) Reset(keys [][]byte) error {
	var active []entry
	for _, k := range keys {
		var m pb.AlarmMember
		if err := proto.Unmarshal(k, &m); err != nil {
			return fmt.Errorf("alarm: read a stored alarm: %w", err)
		}
		active = append(active, entry{m.MemberID, m.Alarm})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = active
	return nil
}

// Key gives the store key of an alarm: the marshalled AlarmMember.
func Key(member uint64, kind pb.AlarmType) []byte {
	b, err := proto.Marshal(&pb.AlarmMember{MemberID: member, Alarm: kind})
	if err != nil {
		panic(fmt.Sprintf("alarm: two scalars do not marshal: %v", err))
	}
	return b
}

// Activate raises an alarm. It tells whether that changed the set.
func (s *Set) Activate(member uint64, kind pb.AlarmType) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.active, entry{member, kind}) {
		return false
	}
	s.active = append(s.active, entry{member, kind})
	return true
}

// Deactivate clears an alarm. It tells whether that changed the set.
func (s *Set) Deactivate(member uint64, kind pb.AlarmType) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.active, entry{member, kind})
	if i < 0 {
		return false
	}
	s.active = slices.Delete(s.active, i, i+1)
	return true
}

// Has tells whether a member has raised an alarm.
func (s *Set) Has(member uint64, kind pb.AlarmType) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Contains(s.active, entry{member, kind})
}

// Active tells whether any member has raised kind.
func (s *Set) Active(kind pb.AlarmType) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(s.active, func(e entry) bool { return e.kind == kind })
}

// List gives the active alarms of a kind; NONE means all.
func (s *Set) List(kind pb.AlarmType) []*pb.AlarmMember {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*pb.AlarmMember
	for _, e := range s.active {
		if kind == pb.AlarmType_NONE || e.kind == kind {
			out = append(out, &pb.AlarmMember{MemberID: e.member, Alarm: e.kind})
		}
	}
	return out
}
