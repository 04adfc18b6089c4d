package mvcc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keelson/internal/kit/wire"
)

// Each transaction of the race test writes its number to all of raceKeys, or deletes the even ones: whatever a reader
// sees must be of one transaction.
const raceKeys = 100

func raceKey(i int) []byte { return fmt.Appendf(nil, "k%03d", i) }

// TestReadersBesideWriter has readers hold views while the writer writes, evicts, compacts and prunes.
func TestReadersBesideWriter(t *testing.T) {
	f := newFile()
	s := New(f, Options{})
	var stop atomic.Bool
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			for n := 0; !stop.Load(); n++ {
				v := s.View()
				if n%8 == 0 {
					s.RetainView(v, time.Unix(int64(n), 0))
				}
				for range 3 {
					if err := readWhole(v, int64(i)); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for n := range 600 {
		raceWrite(s, f, n)
	}
	stop.Store(true)
	readers.Wait()
}

func raceWrite(s *Store, f *file, n int) {
	t := s.Begin()
	for i := range raceKeys {
		if n%5 == 4 && i%2 == 0 {
			t.DeleteRange(raceKey(i), nil)
		} else {
			t.Put(raceKey(i), fmt.Appendf(nil, "%d", n), 0)
		}
	}
	f.add(t.End())
	if n%3 == 0 {
		s.Publish()
	}
	s.Evict(s.Rev(), s.Rev()-2)
	if n%20 == 19 {
		_ = s.Compact(s.Rev() - 5)
	}
	dead, _ := s.Prune(s.CompactRev(), 50)
	f.drop(dead)
	if n%50 == 0 {
		s.Expire(time.Unix(int64(n), 0))
	}
}

// readWhole checks that v, some revisions back, is the work of one transaction.
func readWhole(v *View, back int64) error {
	o := RangeOptions{Key: []byte{0}, End: []byte{0}, Rev: max(1, v.Rev()-back)}
	res, err := v.Range(context.Background(), o)
	if errors.Is(err, ErrCompacted) {
		return nil
	}
	if err != nil {
		return err
	}
	if n := len(res.KVs); int64(n) != res.Count || n != 0 && n != raceKeys && n != raceKeys/2 {
		return fmt.Errorf("%d keys, count %d", n, res.Count)
	}
	var first wire.KeyValue
	for i, raw := range res.KVs {
		kv := parse(raw)
		if i == 0 {
			first = kv
		}
		if !bytes.Equal(kv.Value, first.Value) || kv.Mod != first.Mod {
			return fmt.Errorf("%q beside %q at %d", kv.Value, first.Value, o.Rev)
		}
	}
	return nil
}
