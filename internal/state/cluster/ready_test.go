package cluster

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/storage/schema"
)

// of makes a state: a letter a member, v and V voters, l and L learners, capitals have started.
func of(letters string) *State {
	s := State{}
	for i, r := range letters {
		m := schema.Member{ID: uint64(i + 1), IsLearner: r == 'l' || r == 'L'}
		if r == 'V' || r == 'L' {
			m.Name = string(rune('a' + i))
		}
		s.Members = append(s.Members, m)
	}
	return New(s).State()
}

func TestMayChange(t *testing.T) {
	for _, x := range []struct {
		members              string
		add, remove, promote bool // of the first member
	}{
		{"V", true, false, true},
		{"v", false, false, false},
		{"VV", true, true, true},
		{"Vv", false, false, true},
		{"vV", false, true, true},
		{"VVV", true, true, true},
		{"VVv", false, false, true},
		{"vVV", false, true, true},
		{"Vvv", false, false, false},
		{"VL", true, false, true},
		{"lVvv", false, true, false},
		{"VVVv", true, true, true},
		{"VVVvv", false, false, true},
	} {
		s := of(x.members)
		if got := s.MayAddVoter() == nil; got != x.add {
			t.Errorf("%s: add %v", x.members, got)
		}
		if got := s.MayRemoveVoter(1) == nil; got != x.remove && s.Members[0].IsLearner == false {
			t.Errorf("%s: remove %v", x.members, got)
		}
		if got := s.MayPromote() == nil; got != x.promote {
			t.Errorf("%s: promote %v", x.members, got)
		}
	}
}

// Raft panics where the last voter is removed: no log may bring it there.
func TestLastVoterStays(t *testing.T) {
	gone := Change{Type: raftpb.ConfChangeRemoveNode, Member: schema.Member{ID: 1}}
	for members, want := range map[string]error{"V": ErrNotEnoughStarted, "VL": ErrNotEnoughStarted, "VV": nil, "LV": nil} {
		if err := of(members).Validate(gone, 1); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", members, err, want)
		}
	}
}
