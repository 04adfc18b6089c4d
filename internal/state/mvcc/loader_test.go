package mvcc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

// writes gives random puts and deletes of n keys, as a file has them.
func writes(r *rand.Rand, n, revs int) []stored {
	all := make([]stored, 0, revs)
	for i := range revs {
		rev := schema.Revision{Main: int64(i/2) + 2, Sub: int64(i % 2)}
		key := fmt.Appendf(nil, "registry/%d", r.IntN(n)*7919)
		kv := wire.KeyValue{Key: key}
		tombstone := r.IntN(5) == 0
		if !tombstone {
			kv.Mod, kv.Version, kv.Value = rev.Main, 1, fmt.Appendf(nil, "value %d", r.Uint64())
		}
		all = append(all, stored{rev, tombstone, wire.AppendKeyValue(nil, kv)})
	}
	return all
}

// TestLoadInStretches loads the same file in one stretch and in several: keys, values, what is superseded and what is deleted
// must be the same, in the same order.
func TestLoadInStretches(t *testing.T) {
	t.Parallel()
	const seed = 11
	records := writes(rand.New(rand.NewPCG(seed, 1)), 3000, 20_000)
	newest := map[string]string{}
	for _, r := range records {
		kv, err := wire.ParseKeyValue(r.kv)
		if err != nil {
			t.Fatal(err)
		}
		if newest[string(kv.Key)] = string(r.kv); r.tombstone {
			delete(newest, string(kv.Key))
		}
	}
	var want string
	for _, stretches := range []int{1, 2, 7, 50} {
		s := New(nothing{}, Options{})
		if err := loadRecords(s, records, stretches, 0, 0); err != nil {
			t.Fatal(err)
		}
		all, err := s.View().Range(context.Background(), RangeOptions{Key: []byte{0}, End: []byte{0}})
		if err != nil || len(all.KVs) != len(newest) || int(all.Count) != len(newest) {
			t.Fatalf("%d stretches: %d keys, counted %d, want %d: %v", stretches, len(all.KVs), all.Count, len(newest), err)
		}
		var keys []string
		for _, raw := range all.KVs {
			kv := parse(raw)
			keys = append(keys, string(kv.Key))
			if newest[keys[len(keys)-1]] != string(raw) {
				t.Errorf("%d stretches: %q has another value", stretches, kv.Key)
			}
		}
		if !slices.IsSorted(keys) {
			t.Errorf("%d stretches: keys are out of order", stretches)
		}
		var history strings.Builder
		for i := range s.superseded.tail {
			v := s.superseded.at(i)
			fmt.Fprintln(&history, v.rev(), v.size, v.prev.Load().rev())
		}
		for i := range s.deleted.tail {
			g := s.deleted.at(i)
			fmt.Fprintln(&history, g.v.rev(), g.key, g.e == s.tree.root.get(g.key))
		}
		if want == "" {
			want = history.String()
		} else if history.String() != want {
			t.Errorf("%d stretches: another history than of one", stretches)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	kv := wire.AppendKeyValue(nil, wire.KeyValue{Key: []byte("k"), Mod: 1})
	at := func(main int64) stored { return stored{rev: schema.Revision{Main: main}, kv: kv} }
	for name, c := range map[string]struct {
		records   []stored
		stretches int
		want      string
	}{
		"a revision twice":           {[]stored{at(5), at(5)}, 1, "revision 5.0 after 5.0"},
		"stretches in another order": {[]stored{at(7), at(8), at(3), at(4)}, 2, "revision 3.0 after 8.0"},
		"no key-value":               {[]stored{{rev: schema.Revision{Main: 9}, kv: []byte{0xff}}}, 1, "load revision 9.0"},
	} {
		err := loadRecords(New(nothing{}, Options{}), c.records, c.stretches, 0, 0)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
