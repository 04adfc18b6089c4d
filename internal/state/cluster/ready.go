package cluster

import (
	"errors"

	"keelson/internal/storage/schema"
)

// The reasons why the members' own state forbids a change. Texts and meaning are etcd's.
var (
	// ErrNotEnoughStarted is returned when, after the change, the voters that have ever started would be no majority.
	ErrNotEnoughStarted = errors.New("etcdserver: re-configuration failed due to not enough started members")
	// ErrLearnerNotReady is returned when the learner to promote lags too far behind the leader.
	ErrLearnerNotReady = errors.New("etcdserver: can only promote a learner member which is in sync with leader")
)

// Quorum is how many of n voters decide.
func Quorum(n int) int { return n/2 + 1 }

// Voters gives the members that vote, by ID.
func (s *State) Voters() []schema.Member {
	var vs []schema.Member
	for _, m := range s.Members {
		if !m.IsLearner {
			vs = append(vs, m)
		}
	}
	return vs
}

// started counts the voters but except, and those of them that have ever started: a member names itself when it first
// does.
func (s *State) started(except uint64) (voters, started int) {
	for _, m := range s.Voters() {
		if m.ID == except {
			continue
		}
		voters++
		if m.Name != "" {
			started++
		}
	}
	return voters, started
}

// MayAddVoter gives ErrNotEnoughStarted where one more voter, which has not started, would leave no majority that has.
// A single member may always get a second one: there is no other way to grow.
func (s *State) MayAddVoter() error {
	voters, started := s.started(0)
	if voters == 1 && started == 1 || started >= Quorum(voters+1) {
		return nil
	}
	return ErrNotEnoughStarted
}

// MayRemoveVoter gives ErrNotEnoughStarted where the voters that stay would have no majority that has started.
func (s *State) MayRemoveVoter(id uint64) error {
	if voters, started := s.started(id); started < Quorum(voters) {
		return ErrNotEnoughStarted
	}
	return nil
}

// MayPromote gives ErrNotEnoughStarted where one more voter, which has started, would leave no majority that has.
func (s *State) MayPromote() error {
	if voters, started := s.started(0); started+1 < Quorum(voters+1) {
		return ErrNotEnoughStarted
	}
	return nil
}
