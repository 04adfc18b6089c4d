package main

import "testing"

func TestQuiet(t *testing.T) {
	var q quiet
	for i, c := range []struct {
		allocated, garbage uint64
		want               bool
	}{
		{10 << 20, 100 << 20, false}, // busy
		{10<<20 + 1, 100 << 20, false},
		{10<<20 + 2, 100 << 20, true}, // quiet for long enough
		{10<<20 + 3, 100 << 20, false},
		{10<<20 + 4, 100 << 20, false}, // once
		{20 << 20, 100 << 20, false},
		{20 << 20, 1 << 20, false},
		{20 << 20, 1 << 20, false}, // quiet, and little to gain
	} {
		if got := q.look(c.allocated, c.garbage, 32<<20); got != c.want {
			t.Errorf("look %d: %t", i, got)
		}
	}
}
