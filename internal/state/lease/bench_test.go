package lease

import (
	"runtime"
	"testing"
	"time"
)

func filled(b *testing.B, leases int64, ttl int64) (*Table, time.Time) {
	b.Helper()
	table, now := New(1, Observer{}), time.Unix(0, 0)
	for id := range leases {
		table.Load(Lease{ID: id + 1, TTL: ttl})
	}
	table.Promote(now, time.Second)
	table.Advance(now, 0)
	return table, now
}

// BenchmarkMemory reports the heap that one of a million leases takes on a primary.
func BenchmarkMemory(b *testing.B) {
	const leases = 1_000_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		table, _ := filled(b, leases, 60)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/leases, "B/lease")
		runtime.KeepAlive(table)
	}
}

func BenchmarkRenew(b *testing.B) {
	const leases = 100_000
	table, now := filled(b, leases, 60)
	b.RunParallel(func(pb *testing.PB) {
		for id := int64(0); pb.Next(); id++ {
			if _, err := table.Renew(id%leases+1, now); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGrantRevoke(b *testing.B) {
	table, _ := filled(b, 100_000, 60)
	for id := int64(1 << 32); b.Loop(); id++ {
		_, _ = table.Grant(id, 60)
		_, _ = table.Revoke(id)
	}
}

// BenchmarkAdvance advances by half a second over a million leases that are all alive.
func BenchmarkAdvance(b *testing.B) {
	table, now := filled(b, 1_000_000, 86_400)
	for b.Loop() {
		now = now.Add(time.Second / 2)
		table.Advance(now, 500)
	}
}
