package tcpgateway

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keelson/internal/kit/clock"
)

func poolOf(endpoints ...Endpoint) *pool {
	p := &pool{clock: clock.System, delay: time.Minute}
	p.replace(endpoints)
	return p
}

// names gives who gets n connections, in order.
func names(p *pool, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(p.next(nil).Address)
	}
	return b.String()
}

func TestTurns(t *testing.T) {
	if got := names(poolOf(Endpoint{Address: "a"}, Endpoint{Address: "b"}, Endpoint{Address: "c"}), 6); got != "abcabc" {
		t.Error(got)
	}
}

// Weights hold for few connections already, and a weight of zero beside others gets none.
func TestWeights(t *testing.T) {
	p := poolOf(Endpoint{Address: "a", Weight: 3}, Endpoint{Address: "b", Weight: 1}, Endpoint{Address: "c"})
	for range 5 {
		got := names(p, 4)
		if strings.Count(got, "a") != 3 || strings.Count(got, "b") != 1 {
			t.Error(got)
		}
	}
}

// A higher number of priority is for when those below are down, one that is down for when nothing else is left, and each is
// asked once.
func TestPriorities(t *testing.T) {
	p := poolOf(Endpoint{Address: "a", Priority: 1}, Endpoint{Address: "b", Priority: 2}, Endpoint{Address: "c", Priority: 1})
	if got := names(p, 4); got != "acac" {
		t.Error(got)
	}
	a := p.next(nil)
	if a.Address != "a" || !p.mark(a, true) || p.mark(a, true) {
		t.Errorf("%+v", a)
	}
	if got := names(p, 3); got != "ccc" {
		t.Error(got)
	}
	var tried []*backend
	order := ""
	for b := p.next(nil); b != nil; b = p.next(tried) {
		tried = append(tried, b)
		order += b.Address
	}
	if order != "cba" {
		t.Error(order)
	}
}

// An endpoint that failed is due after the delay, also when the list was made anew meanwhile.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := poolOf(Endpoint{Address: "a"}, Endpoint{Address: "b"})
		p.mark(p.next(nil), true)
		p.replace([]Endpoint{{Address: "c"}, {Address: "a"}})
		if got := names(p, 2); got != "cc" {
			t.Error(got)
		}
		timer := time.NewTimer(time.Minute - time.Second)
		<-timer.C
		if due := p.stale(); len(due) != 0 {
			t.Error("due too early")
		}
		timer.Reset(time.Second)
		<-timer.C
		due := p.stale()
		if len(due) != 1 || due[0].Address != "a" || !p.mark(due[0], false) || len(p.stale()) != 0 {
			t.Errorf("%+v", due)
		}
	})
}
