package v2tree

import (
	"time"
)

// Event is what a change did, or what a read found, as v2 writes it in JSON.
type Event struct {
	Action   string  `json:"action"`
	Node     *Extern `json:"node,omitempty"`
	PrevNode *Extern `json:"prevNode,omitempty"`
	// Index is where the event has its place in the history; of a read, the index of the state that was read.
	Index uint64 `json:"-"`
	// Refresh is set for a change that nobody who watches is told of.
	Refresh bool `json:"-"`
}

// Extern is a node as v2 writes it in JSON.
type Extern struct {
	Key           string     `json:"key,omitempty"`
	Value         *string    `json:"value,omitempty"`
	Dir           bool       `json:"dir,omitempty"`
	Expiration    *time.Time `json:"expiration,omitempty"`
	TTL           int64      `json:"ttl,omitempty"`
	Nodes         []*Extern  `json:"nodes,omitempty"`
	ModifiedIndex uint64     `json:"modifiedIndex,omitempty"`
	CreatedIndex  uint64     `json:"createdIndex,omitempty"`
}

// Created tells whether a change made a node that was not there: such an answer has another status.
func (e *Event) Created() bool {
	return e.Action == Create.String() || e.Action == Set.String() && e.PrevNode == nil
}

// place is a node where it is: its path, what it holds, the revision that wrote it, and the lease of its key.
type place struct {
	path  string
	node  Node
	mod   int64
	lease int64
}

// extern gives a node without what is below it. The root has no name and no indexes.
func (at *place) extern(now time.Time) *Extern {
	n := at.node
	x := &Extern{Key: at.path, Dir: n.Dir, ModifiedIndex: n.Modified, CreatedIndex: n.Created}
	if at.path == "/" {
		x.Key = ""
	}
	if !n.Dir {
		x.Value = &n.Value
	}
	if n.Expiry != 0 {
		end := time.Unix(0, n.Expiry).UTC()
		x.Expiration, x.TTL = &end, secondsLeft(end, now)
	}
	return x
}

// secondsLeft rounds up. What ought to have ended has none left: the keys of a lease may outlast it by a moment.
func secondsLeft(end, now time.Time) int64 {
	return max(0, int64((end.Sub(now)+time.Second-1)/time.Second))
}

// written is the event of a node that was written. prev is nil where there was none.
func written(at, prev *place, now time.Time) *Event {
	e := &Event{Action: at.node.Action.String(), Node: at.extern(now), Index: uint64(at.mod), Refresh: at.node.Refresh}
	e.Node.ModifiedIndex = e.Index
	if prev != nil {
		e.PrevNode = prev.extern(now)
	}
	return e
}

// removed is the event of a node that was deleted at revision rev.
func removed(a Action, prev *place, rev int64, now time.Time) *Event {
	return &Event{
		Action: a.String(), Index: uint64(rev), PrevNode: prev.extern(now),
		Node: &Extern{Key: prev.path, Dir: prev.node.Dir, ModifiedIndex: uint64(rev), CreatedIndex: prev.node.Created},
	}
}
