package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// The checkers' findings, one a kind of broken promise.
var (
	// ErrFailed is returned when a member failed, did not start, or the members never came to agree.
	ErrFailed = errors.New("sim: the cluster did not survive")
	// ErrMembers is returned when members differ about who belongs to the cluster.
	ErrMembers = errors.New("sim: the members differ about the membership")
	// ErrUsers is returned when members differ about users.
	ErrUsers = errors.New("sim: the members differ about users")
	// ErrConf is returned when raft's configuration is not the one that was in force.
	ErrConf = errors.New("sim: raft's configuration is not what it was")
	// ErrVote is returned when a member voted whose disk, and with it its earlier votes, was lost.
	ErrVote = errors.New("sim: a member voted that can't know whether it has before")
	// ErrAlarm is returned when an alarm did not do what it is for, or the members differ about the alarms.
	ErrAlarm = errors.New("sim: an alarm that is none")
	// ErrHash is returned when members differ at the end.
	ErrHash = errors.New("sim: the members differ")
	// ErrLost is returned when an acknowledged write is not in the history, or is there twice.
	ErrLost = errors.New("sim: an acknowledged write is not where it was said to be")
	// ErrRead is returned when a read shows what never was at its revision.
	ErrRead = errors.New("sim: a read shows what never was")
	// ErrOrder is returned when the requests can't have happened one after the other.
	ErrOrder = errors.New("sim: not linearizable")
	// ErrWatch is returned when a watcher saw a gap, a duplicate or disorder.
	ErrWatch = errors.New("sim: a watcher saw something else than what happened")
	// ErrLease is returned when a key was gone before its lease could end, or was there after it had to.
	ErrLease = errors.New("sim: a lease did not keep its time")
)

// Check runs all checkers, outside of the bubble, and joins their findings.
func (o *Outcome) Check() error {
	if len(o.failed) > 0 {
		return fmt.Errorf("%w: %w", ErrFailed, o.failed[0])
	}
	if len(o.finals) == 0 {
		return fmt.Errorf("%w: nobody is left", ErrFailed)
	}
	if err := o.checkHashes(); err != nil {
		return err
	}
	h, err := o.history()
	if err != nil {
		return err
	}
	return errors.Join(o.checkAlarms(), h.checkWrites(o.record.ops), h.checkReads(o.record.ops), o.checkWatchers(h), checkOrder(h, o.record.ops), o.checkLeases(h))
}

// checkHashes compares the members with each other.
func (o *Outcome) checkHashes() error {
	a := o.finals[0]
	if o.plan.Faults == (Faults{}) && strings.Contains(strings.Join(a.alarms, " "), "CORRUPT") {
		return fmt.Errorf("%w: %v, though nothing was damaged", ErrAlarm, a.alarms)
	}
	for _, b := range o.finals[1:] {
		if !slices.Equal(a.alarms, b.alarms) {
			return fmt.Errorf("%w: %s has %v, %s has %v", ErrAlarm, a.name, a.alarms, b.name, b.alarms)
		}
		if !slices.Equal(a.members, b.members) {
			return fmt.Errorf("%w: %s has %v, %s has %v", ErrMembers, a.name, a.members, b.name, b.members)
		}
		if a.users != b.users {
			return fmt.Errorf("%w: %s has them %s, %s %s", ErrUsers, a.name, a.users, b.name, b.users)
		}
		if a.rev != b.rev || a.hash != b.hash || a.hashCompact != b.hashCompact {
			return fmt.Errorf("%w: %s has hash %x at revision %d (compacted %d), %s has %x at %d (%d)",
				ErrHash, a.name, a.hash, a.rev, a.hashCompact, b.name, b.hash, b.rev, b.hashCompact)
		}
		if !slices.Equal(a.events, b.events) {
			return fmt.Errorf("%w: %s and %s tell different histories after revision %d", ErrHash, a.name, b.name, a.compact)
		}
	}
	return nil
}

// chronicle is the one history that the members agree on: every change, in order.
type chronicle struct {
	events []event
	last   int64
	// at finds the place of a write by its key and value, which are never written twice.
	at map[[2]string]event
	// states are the values of each key, oldest first.
	states map[string][]event
}

// history joins what the audit saw of the compacted past with what a member still has.
func (o *Outcome) history() (*chronicle, error) {
	f := o.finals[0]
	h := &chronicle{at: map[[2]string]event{}, states: map[string][]event{}, last: f.rev}
	for _, s := range o.audit.spans {
		for _, e := range s.events {
			if e.rev <= f.compact {
				h.events = append(h.events, e)
			}
		}
	}
	h.events = append(h.events, f.events...)
	rev := int64(1)
	for _, e := range h.events {
		if e.rev != rev && e.rev != rev+1 {
			return nil, fmt.Errorf("%w: the history goes from revision %d to %v", ErrWatch, rev, e)
		}
		rev = e.rev
		if !e.del {
			if was, twice := h.at[[2]string{e.key, e.value}]; twice {
				return nil, fmt.Errorf("%w: made twice: %v and %v", ErrLost, was, e)
			}
			h.at[[2]string{e.key, e.value}] = e
		}
		h.states[e.key] = append(h.states[e.key], e)
	}
	if rev != h.last {
		return nil, fmt.Errorf("%w: the history ends at revision %d, the members are at %d", ErrWatch, rev, h.last)
	}
	return h, nil
}

// value gives what a key holds at a revision.
func (h *chronicle) value(key string, rev int64) (e event, found bool) {
	for _, s := range h.states[key] {
		if s.rev > rev {
			break
		}
		e, found = s, !s.del
	}
	return e, found
}

// checkWrites finds every acknowledged write in the history, at the revision that its client was told.
func (h *chronicle) checkWrites(ops []*op) error {
	for _, o := range ops {
		if !o.known {
			continue
		}
		switch {
		case o.kind == opPut, o.kind == opSwap && o.done:
			if e, ok := h.at[[2]string{o.key, o.value}]; !ok || e.rev != o.rev {
				return fmt.Errorf("%w: %v; in the history: %v", ErrLost, o, e)
			}
		case o.kind == opDelete && o.deleted > 0:
			if e, _ := h.value(o.key, o.rev); !e.del || e.rev != o.rev {
				return fmt.Errorf("%w: %v; in the history: %v", ErrLost, o, e)
			}
		}
	}
	return nil
}

// checkReads compares every answer with the history at the revision that it was given for.
func (h *chronicle) checkReads(ops []*op) error {
	for _, o := range ops {
		if !o.known || o.kind != opGet && (o.kind != opSwap || o.done) {
			continue
		}
		e, found := h.value(o.key, o.rev)
		if found != o.found || found && (e.value != o.got || e.rev != o.mod) {
			return fmt.Errorf("%w: %v; in the history: %v", ErrRead, o, e)
		}
	}
	return nil
}

// checkWatchers compares what each watcher saw with the history.
func (o *Outcome) checkWatchers(h *chronicle) error {
	for _, w := range o.watchers {
		for _, s := range w.spans {
			// A lease may have ended after the members were read.
			s.to = min(s.to, h.last)
			s.events = slices.DeleteFunc(s.events, func(e event) bool { return e.rev > h.last })
			var want []event
			for _, e := range h.events {
				if e.rev >= s.from && e.rev <= s.to && w.sees(e.key) {
					want = append(want, e)
				}
			}
			for i := range max(len(want), len(s.events)) {
				if i >= len(want) || i >= len(s.events) || want[i] != s.events[i] {
					return fmt.Errorf("%w: %v, from revision %d to %d, place %d: want %v, got %v",
						ErrWatch, w, s.from, s.to, i, want[min(i, len(want)):], s.events[min(i, len(s.events)):])
				}
			}
		}
	}
	return nil
}

// checkLeases finds leased keys that were seen to be gone too early. Time of deletion is not in the history, so the
// audit's clock, which can only be late, stands in for it.
func (o *Outcome) checkLeases(h *chronicle) error {
	for _, g := range o.leases {
		for _, key := range g.keys {
			if e, found := h.value(key, h.last); found && o.plan.Outwait {
				return fmt.Errorf("%w: %v is there %v after lease %x of %d s", ErrLease, e, leaseLife, g.id, g.ttl)
			}
			if g.revoked {
				continue
			}
			for _, e := range h.states[key] {
				at, ok := o.audit.seen[e.rev]
				if e.del && ok && at < g.alive+time.Duration(g.ttl)*time.Second {
					return fmt.Errorf("%w: lease %x of %d s, last renewed at %v: %v seen at %v", ErrLease, g.id, g.ttl, g.alive, e, at)
				}
			}
		}
	}
	return nil
}

// orderMax bounds the search for an order. A history of this size takes a few milliseconds.
const orderMax = 10 * time.Second

// checkOrder looks for an order of the requests on each key in which each answer follows from what came before.
// Requests without an answer are put in where the history has them; those that it doesn't have were never made.
func checkOrder(h *chronicle, ops []*op) error {
	var history []porcupine.Operation
	for _, o := range ops {
		if o.serial || len(o.key) > 1 && o.key[:2] == "l/" {
			continue
		}
		end := o.end
		if !o.known {
			_, made := h.at[[2]string{o.key, o.value}]
			if o.kind == opGet || o.kind != opDelete && !made {
				continue
			}
			end = 1 << 62
		}
		history = append(history, porcupine.Operation{ClientId: o.client, Input: o, Output: o, Call: o.call, Return: end})
	}
	switch res, info := porcupine.CheckOperationsVerbose(model(), history, orderMax); res {
	case porcupine.Illegal:
		return fmt.Errorf("%w: %s", ErrOrder, explain(info, history))
	case porcupine.Unknown:
		return fmt.Errorf("%w: no order found in %v", ErrOrder, orderMax)
	}
	return nil
}

// model is a key: its value, or "".
func model() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			keys := map[string][]porcupine.Operation{}
			for _, o := range history {
				k := o.Input.(*op).key
				keys[k] = append(keys[k], o)
			}
			var parts [][]porcupine.Operation
			for _, p := range keys {
				parts = append(parts, p)
			}
			return parts
		},
		Init: func() any { return "" },
		Step: func(state, in, _ any) (bool, any) {
			return in.(*op).step(state.(string))
		},
		DescribeOperation: func(in, _ any) string { return in.(*op).String() },
	}
}

// step tells whether the request may be the next one on a key that holds value, and what the key holds after it.
func (o *op) step(value string) (bool, string) {
	switch o.kind {
	case opPut:
		return true, o.value
	case opDelete:
		return !o.known || (o.deleted == 1) == (value != ""), ""
	case opSwap:
		if !o.known { // it was made, as the history says
			return value == o.expect, o.value
		}
		if o.done {
			return value == o.expect, o.value
		}
		return value != o.expect && o.got == value, value
	}
	return o.got == value, value
}

// explain names the requests around the place where no order goes on.
func explain(info porcupine.LinearizationInfo, history []porcupine.Operation) string {
	var longest []porcupine.Operation
	var rest []*op
	for _, part := range info.PartialLinearizationsOperations() {
		longest = nil
		for _, l := range part {
			if len(l) > len(longest) {
				longest = l
			}
		}
		if len(longest) == 0 {
			continue
		}
		in := map[*op]bool{}
		for _, o := range longest {
			in[o.Input.(*op)] = true
		}
		key := longest[0].Input.(*op).key
		rest = nil
		for _, o := range history {
			if o := o.Input.(*op); o.key == key && !in[o] && o.known {
				rest = append(rest, o)
			}
		}
		if len(rest) > 0 {
			return fmt.Sprintf("after %v nothing fits of %v", longest[len(longest)-1].Input, rest[:min(4, len(rest))])
		}
	}
	return "no order fits"
}
