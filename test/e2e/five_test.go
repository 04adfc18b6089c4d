package e2e

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/test/process"
)

const (
	// fiveRate is the puts a second of each of two clients.
	fiveRate = 100
	// noticeTime is how long a client may take to read the end of a connection, beyond what the machine stalls it: until then it
	// sends more on it, and all of that fails with it.
	noticeTime = time.Second
)

// Two followers of five are killed: who talks to the others sees no failed put, and who talked to all five loses no more
// than what was on its way to the two. They catch up when they are back.
func TestTwoOfFiveKilled(t *testing.T) {
	t.Parallel()
	all := process.Cluster(t, slices.Repeat([]process.Program{keelson}, 5), steady)
	for _, m := range all {
		m.Start()
	}
	for _, m := range all {
		m.WaitHealthy()
	}
	lead := leader(t, all)
	killed := []*process.Member{all[(lead+1)%5], all[(lead+3)%5]}
	rest := []*process.Member{all[lead], all[(lead+2)%5], all[(lead+4)%5]}
	some := process.StartLoad(t, process.Dial(t, rest...), "some", fiveRate)
	every := process.StartLoad(t, process.Dial(t, all...), "every", fiveRate)
	some.Await(t, fiveRate)
	var dead []time.Time
	for _, m := range killed {
		m.Kill()
		dead = append(dead, time.Now())
		some.Await(t, fiveRate)
		every.Await(t, fiveRate)
	}
	for _, m := range killed {
		m.Serve()
	}
	some.Await(t, fiveRate)
	some.Stop()
	every.Stop()
	for _, f := range some.Failed {
		t.Errorf("a put through the members that stayed failed, %v", f)
	}
	for _, f := range every.Failed {
		if !onItsWay(f, dead, noticeTime+max(some.Stalled, every.Stalled)) {
			t.Errorf("a put failed that was not on its way to a member that was killed, %v", f)
		}
	}
	client := process.Dial(t, rest...)
	t.Logf("%d and %d puts acknowledged, %d on their way to the killed failed; the slowest took %v", some.Check(t, client), every.Check(t, client), len(every.Failed), max(some.Slowest, every.Slowest))
	agreeOnHash(t, all)
	for _, m := range all {
		m.Stop()
	}
}

// onItsWay tells whether a put failed because a connection to one of the killed ended: by that error, and soon after a death.
func onItsWay(f process.Failure, dead []time.Time, soon time.Duration) bool {
	ended := f.Began.Add(f.Took)
	return status.Code(f.Err) == codes.Unavailable && slices.ContainsFunc(dead, func(at time.Time) bool {
		return f.Began.Before(at.Add(soon)) && ended.After(at.Add(-soon)) && ended.Before(at.Add(soon))
	})
}
