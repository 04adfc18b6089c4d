package main

import (
	"testing"
	"time"
)

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
