package v2http

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"keelson/internal/state/v2tree"
)

// stats counts what this member did for v2 since its start. All fields are atomics.
type stats struct {
	gets    tally
	writes  [v2tree.Get]tally // by action
	expired atomic.Uint64
}

// tally counts what went well and what did not.
type tally struct{ success, fail atomic.Uint64 }

func (t *tally) add(err error) {
	if err != nil {
		t.fail.Add(1)
		return
	}
	t.success.Add(1)
}

func (s *stats) count(q *question, writes bool, err error) {
	if writes {
		s.writes[q.Action()].add(err)
		return
	}
	s.gets.add(err)
}

// statsStore serves /v2/stats/store.
func (e *Edge) statsStore(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, "GET") {
		return
	}
	of := func(a v2tree.Action) *tally { return &e.stats.writes[a] }
	show(w, struct {
		GetsSuccess             uint64 `json:"getsSuccess"`
		GetsFail                uint64 `json:"getsFail"`
		SetsSuccess             uint64 `json:"setsSuccess"`
		SetsFail                uint64 `json:"setsFail"`
		DeleteSuccess           uint64 `json:"deleteSuccess"`
		DeleteFail              uint64 `json:"deleteFail"`
		UpdateSuccess           uint64 `json:"updateSuccess"`
		UpdateFail              uint64 `json:"updateFail"`
		CreateSuccess           uint64 `json:"createSuccess"`
		CreateFail              uint64 `json:"createFail"`
		CompareAndSwapSuccess   uint64 `json:"compareAndSwapSuccess"`
		CompareAndSwapFail      uint64 `json:"compareAndSwapFail"`
		CompareAndDeleteSuccess uint64 `json:"compareAndDeleteSuccess"`
		CompareAndDeleteFail    uint64 `json:"compareAndDeleteFail"`
		ExpireCount             uint64 `json:"expireCount"`
		Watchers                uint64 `json:"watchers"`
	}{
		e.stats.gets.success.Load(), e.stats.gets.fail.Load(), of(v2tree.Set).success.Load(), of(v2tree.Set).fail.Load(),
		of(v2tree.Delete).success.Load(), of(v2tree.Delete).fail.Load(), of(v2tree.Update).success.Load(), of(v2tree.Update).fail.Load(),
		of(v2tree.Create).success.Load(), of(v2tree.Create).fail.Load(), of(v2tree.CompareAndSwap).success.Load(), of(v2tree.CompareAndSwap).fail.Load(),
		of(v2tree.CompareAndDelete).success.Load(), of(v2tree.CompareAndDelete).fail.Load(), e.stats.expired.Load(), uint64(e.hub.waiting()),
	})
}

// statsSelf serves /v2/stats/self.
func (e *Edge) statsSelf(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, "GET") {
		return
	}
	type leaderInfo struct {
		Leader    string    `json:"leader"`
		Uptime    string    `json:"uptime"`
		StartTime time.Time `json:"startTime"`
	}
	id, lead := e.member.ID(), e.member.Leader()
	state := "StateFollower"
	if id == lead {
		state = "StateLeader"
	}
	since := e.member.LeaderSince()
	sent, received := e.options.Traffic.messages()
	show(w, struct {
		Name       string     `json:"name"`
		ID         string     `json:"id"`
		State      string     `json:"state"`
		StartTime  time.Time  `json:"startTime"`
		LeaderInfo leaderInfo `json:"leaderInfo"`
		Received   uint64     `json:"recvAppendRequestCnt"`
		Sent       uint64     `json:"sendAppendRequestCnt"`
	}{
		e.options.Name, strconv.FormatUint(id, 16), state, e.began,
		leaderInfo{strconv.FormatUint(lead, 16), e.options.Clock.Now().Sub(since).String(), since}, received, sent,
	})
}

// statsLeader serves /v2/stats/leader, where this member leads.
func (e *Edge) statsLeader(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, "GET") {
		return
	}
	if e.member.ID() != e.member.Leader() {
		message(w, http.StatusForbidden, "not current leader")
		return
	}
	show(w, struct {
		Leader    string               `json:"leader"`
		Followers map[string]*follower `json:"followers"`
	}{strconv.FormatUint(e.member.ID(), 16), e.options.Traffic.followers()})
}

// show writes statistics: as in 3.4 no newline ends them.
func show(w http.ResponseWriter, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // a client that has gone needs no answer
}

// follower is how messages to another member fare, as /v2/stats/leader shows it. Times are milliseconds.
type follower struct {
	Latency struct {
		Current           float64 `json:"current"`
		Average           float64 `json:"average"`
		StandardDeviation float64 `json:"standardDeviation"`
		Minimum           float64 `json:"minimum"`
		Maximum           float64 `json:"maximum"`
	} `json:"latency"`
	Counts struct {
		Fail    uint64 `json:"fail"`
		Success uint64 `json:"success"`
	} `json:"counts"`
}

// latencies are a follower's round trips, in milliseconds: their number, sum, sum of squares and bounds.
type latencies struct {
	count                           uint64
	current, sum, squares, min, max float64
}

func (l *latencies) add(d time.Duration) {
	ms := float64(d) / float64(time.Millisecond)
	if l.count == 0 || ms < l.min {
		l.min = ms
	}
	l.max = max(l.max, ms)
	l.current, l.count = ms, l.count+1
	l.sum, l.squares = l.sum+ms, l.squares+ms*ms
}

func (l *latencies) deviation() float64 {
	mean := l.sum / float64(l.count)
	return math.Sqrt(max(0, l.squares/float64(l.count)-mean*mean))
}
