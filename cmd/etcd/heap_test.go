package main

import (
	"runtime/debug"
	"testing"
	"time"
)

// A collector that the user has set is left alone; else more garbage may be there while a directory is read.
func TestAllow(t *testing.T) {
	for _, own := range []string{"", "150"} {
		t.Run("GOGC="+own, func(t *testing.T) {
			defer debug.SetGCPercent(debug.SetGCPercent(100))
			t.Setenv("GOGC", own)
			t.Setenv("GOMEMLIMIT", "")
			inForce := func() int {
				percent := debug.SetGCPercent(100)
				debug.SetGCPercent(percent)
				return percent
			}
			var p pacer
			p.start(memberHeap)
			usual := inForce()
			before := p.allow(loadingHeap)
			loading := inForce()
			p.allow(before)
			after := inForce()
			if own == "" && (before != memberHeap || loading < 2*usual || loading < 2*after) || own != "" && (usual != 100 || loading != 100 || after != 100) {
				t.Errorf("%d%% before, %d%% while loading, %d%% afterwards", usual, loading, after)
			}
		})
	}
}

func TestPercentFor(t *testing.T) {
	for live, want := range map[uint64]int{0: 1600, 1 << 20: 1600, 64 << 20: 100, 32 << 20: 200, 128 << 20: 50, 1 << 30: 50} {
		if got := percentFor(live, 64<<20); got != want {
			t.Errorf("%d live bytes: %d %%, not %d", live, got, want)
		}
	}
}

// A proxy may have the garbage of half a second, within bounds; a member's bound is one number.
func TestGarbage(t *testing.T) {
	for _, c := range []struct {
		made uint64
		took time.Duration
		want uint64
	}{
		{8 << 20, time.Minute, 8 << 20}, {8 << 20, 0, 40 << 20}, {10 << 20, 250 * time.Millisecond, 20 << 20}, {32 << 20, 100 * time.Millisecond, 40 << 20}, {0, 0, 8 << 20},
	} {
		if got := proxyHeap.garbage(c.made, c.took); got != c.want {
			t.Errorf("%d bytes in %v: %d, not %d", c.made, c.took, got, c.want)
		}
		if got := memberHeap.garbage(c.made, c.took); got != 64<<20 {
			t.Errorf("a member may have %d", got)
		}
	}
	for arg, want := range map[string]allowance{"gateway": proxyHeap, "grpc-proxy": proxyHeap, "discovery": proxyHeap, "--name=gateway": memberHeap} {
		if got := heapOf([]string{"etcd", arg}); got != want {
			t.Errorf("%s: %+v", arg, got)
		}
	}
	if heapOf([]string{"etcd"}) != memberHeap {
		t.Error("a program without arguments is no member")
	}
}
