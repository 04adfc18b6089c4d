package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/state/cluster"
	"keelson/internal/state/mvcc"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// hashes is a cluster whose members' answers are made up. Member 1 looks at 2 and further.
type hashes struct {
	alone
	mu      sync.Mutex // guards the rest
	answers map[string]any
	asked   []int64
	raised  []uint64
}

func (h *hashes) HashKV(_ context.Context, urls []string, _ uint64, rev int64) (*pb.HashKVResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, rev)
	switch a := h.answers[urls[0]].(type) {
	case *pb.HashKVResponse:
		return a, nil
	case error:
		return nil, a
	}
	return nil, errors.New("nobody there")
}

func (h *hashes) set(member string, answer any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers[member] = answer
}

func hashOf(hash uint32, compactRev, current int64) *pb.HashKVResponse {
	return &pb.HashKVResponse{Header: &pb.ResponseHeader{Revision: current}, Hash: hash, CompactRevision: compactRev, HashRevision: 10}
}

// looking gives a check whose own answer is own, over as many others as there are answers.
func looking(own store.KVHash, others ...any) (*corruptCheck, *hashes) {
	h := &hashes{answers: map[string]any{}}
	st := cluster.State{Members: []schema.Member{{ID: 1, PeerURLs: []string{"1"}}}}
	for i, a := range others {
		id := uint64(i + 2)
		h.answers[hexID(id)] = a
		st.Members = append(st.Members, schema.Member{ID: id, PeerURLs: []string{hexID(id)}})
	}
	return &corruptCheck{
		id: 1, cluster: cluster.New(st), caller: h, clock: clock.System, logger: zap.NewNop(), timeout: proposeGrace,
		hash:      func(context.Context) (store.KVHash, error) { return own, nil },
		linearize: func(context.Context) (int64, int64, error) { return 12, 6, nil },
		raise: func(_ context.Context, id uint64) error {
			h.raised = append(h.raised, id)
			return nil
		},
	}, h
}

var errSilent = errors.New("no")

// mine is what member 1 has itself. A member that was compacted where this one was not, or was not where it was, may answer 17.
var mine = store.KVHash{Hash: 7, Twin: 17, Rev: 10, CompactRev: 5, Current: 10}

func TestCompareData(t *testing.T) {
	same, twin, other, third := hashOf(7, 5, 12), hashOf(17, 5, 12), hashOf(8, 5, 10), hashOf(9, 5, 10)
	for name, c := range map[string]struct {
		others []any
		want   []uint64
	}{
		"alone":                           {nil, nil},
		"all the same":                    {[]any{same, same}, nil},
		"one was compacted since":         {[]any{same, twin}, nil},
		"the others were compacted since": {[]any{twin, twin}, nil},
		"one differs":                     {[]any{same, other}, []uint64{3}},
		"the leader differs":              {[]any{other, other}, []uint64{1}},
		"without a majority it is right":  {[]any{other}, []uint64{2}},
		"all differ":                      {[]any{other, third}, []uint64{2, 3}},
		"two of four are no majority":     {[]any{same, other, errSilent, errSilent}, []uint64{3}},
		"two of five differ":              {[]any{same, other, other, same}, []uint64{3, 4}},
		"another compaction is no proof":  {[]any{same, hashOf(8, 4, 10)}, nil},
		"behind":                          {[]any{mvcc.ErrFutureRev, mvcc.ErrCompacted}, nil},
		"ahead of the leader":             {[]any{same, hashOf(7, 5, 13)}, []uint64{3}},
		"compacted further than the log":  {[]any{same, hashOf(1, 7, 10)}, []uint64{3}},
		"compacted since, as the log was": {[]any{same, hashOf(1, 6, 10)}, nil},
	} {
		check, _ := looking(mine, c.others...)
		got, err := check.compareData(t.Context())
		if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got)), c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

func TestCompareCompactions(t *testing.T) {
	taken := []store.CompactionHash{{Hash: 6, Twin: 6, Rev: 5, CompactRev: 2}, {Hash: 7, Twin: 17, Rev: 10, CompactRev: 5}}
	same, twin, other, older := hashOf(7, 5, 10), hashOf(17, 5, 10), hashOf(8, 5, 10), hashOf(6, 2, 10)
	for name, c := range map[string]struct {
		others  []any
		want    []uint64
		asked   []int64
		checked int64
	}{
		"all the same":                      {[]any{same, same}, nil, []int64{10, 10}, 10},
		"one is not compacted there yet":    {[]any{same, twin}, nil, []int64{10, 10}, 10},
		"one differs":                       {[]any{same, other}, []uint64{3}, []int64{10, 10}, 0},
		"the leader differs":                {[]any{other, other}, []uint64{1}, []int64{10, 10}, 0},
		"nobody can tell who":               {[]any{other}, []uint64{0}, []int64{10}, 0},
		"one is late, so the one before":    {[]any{same, errSilent}, nil, []int64{10, 10, 5, 5}, 0},
		"all have the one before":           {[]any{older, older}, nil, []int64{10, 10, 5, 5}, 5},
		"one differs though another's late": {[]any{errSilent, other, same, same}, []uint64{3}, []int64{10, 10, 10, 10}, 0},
	} {
		check, h := looking(mine, c.others...)
		check.taken = func() []store.CompactionHash { return taken }
		got, err := check.compareCompactions(t.Context())
		if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got)), c.want) || !slices.Equal(h.asked, c.asked) || check.checked != c.checked {
			t.Errorf("%s: %v, %v, asked %v, checked %d, want %+v", name, got, err, h.asked, check.checked, c)
		}
	}
}

// TestSecondLook raises no alarm for what has passed a second later, and one for what stays.
func TestSecondLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		check, h := looking(mine, hashOf(8, 5, 10), hashOf(8, 5, 10), hashOf(7, 5, 10), hashOf(7, 5, 10))
		looks := 0
		check.check(t.Context(), func(ctx context.Context) (suspects, error) {
			if looks++; looks == 2 {
				h.set("2", hashOf(7, 5, 10))
			}
			return check.compareData(ctx)
		})
		if !slices.Equal(h.raised, []uint64{3}) || looks != 2 {
			t.Errorf("raised for %v after %d looks", h.raised, looks)
		}
	})
}

func TestInitialCheck(t *testing.T) {
	same, twin, other := hashOf(7, 5, 10), hashOf(17, 5, 10), hashOf(8, 5, 10)
	for name, c := range map[string]struct {
		others []any
		refuse bool
	}{
		"the same":                      {[]any{same, same}, false},
		"compacted since":               {[]any{twin, twin}, false},
		"nobody answers":                {[]any{errSilent, errSilent}, false},
		"it differs from one":           {[]any{errSilent, other}, true},
		"it differs from all":           {[]any{other, other}, true},
		"most agree with it":            {[]any{same, other}, false},
		"other compactions, no proof":   {[]any{hashOf(8, 6, 10), mvcc.ErrCompacted}, false},
		"two against two of five":       {[]any{same, other, other, errSilent}, true},
		"half of two is not a majority": {[]any{other}, true},
	} {
		check, _ := looking(mine, c.others...)
		err := check.initial(t.Context())
		if c.refuse != errors.Is(err, errInconsistent) || !c.refuse && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.refuse && !strings.Contains(err.Error(), "remove this member") {
			t.Errorf("%s: it does not say what to do: %v", name, err)
		}
	}
}
