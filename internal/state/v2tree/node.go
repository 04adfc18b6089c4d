package v2tree

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The flags of a node's header.
const (
	flagDir      = 1
	flagExpiry   = 2
	flagCreated  = 4
	flagImplicit = 8
	flagRefresh  = 16
	flagModified = 32
	flagsKnown   = flagDir | flagExpiry | flagCreated | flagImplicit | flagRefresh | flagModified
)

// format is byte 0 of everything that this package writes.
const format = 0x02

// headerBytes is the part of the header that every node has.
const headerBytes = 3

// ErrFormat is returned for bytes that this package did not write.
var ErrFormat = errors.New("v2tree: not a v2 node")

// Action is what a change did, as its events say it.
type Action byte

// The actions. Nodes are written by the first four, removals by Delete and CompareAndDelete; Expire and Get are in no key.
const (
	Set Action = 1 + iota
	Create
	Update
	CompareAndSwap
	Delete
	CompareAndDelete
	Expire
	Get
)

var actionNames = [...]string{
	Set: "set", Create: "create", Update: "update", CompareAndSwap: "compareAndSwap",
	Delete: "delete", CompareAndDelete: "compareAndDelete", Expire: "expire", Get: "get",
}

// String is the action's name in an event.
func (a Action) String() string {
	if a == 0 || int(a) >= len(actionNames) {
		return fmt.Sprintf("action %d", byte(a))
	}
	return actionNames[a]
}

func (a Action) writes() bool  { return a >= Set && a <= CompareAndSwap }
func (a Action) removes() bool { return a == Delete || a == CompareAndDelete }

// Node is what a node's key holds.
type Node struct {
	Action Action
	Dir    bool
	// Implicit is set for a directory that a change below it made: it is no event of its own.
	Implicit bool
	// Refresh is set where the expiry was set anew and nobody who watches is to be told.
	Refresh bool
	// Created is the created index; 0 means the revision that wrote the node.
	Created uint64
	// Modified is the modified index where that is not the revision that wrote the node; 0 means that it is. As in 3.4, a
	// directory keeps the index that it had when its expiry is changed.
	Modified uint64
	// Expiry is when the node ends, in nanoseconds since 1970; 0 for never. Times before 1970 are no expiries.
	Expiry int64
	Value  string
}

// Encode gives the value of the node's key.
func (n Node) Encode() []byte {
	flags := byte(0)
	for _, f := range [...]struct {
		bit byte
		set bool
	}{
		{flagDir, n.Dir}, {flagExpiry, n.Expiry > 0}, {flagCreated, n.Created > 0}, {flagImplicit, n.Implicit}, {flagRefresh, n.Refresh},
		{flagModified, n.Modified > 0},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	b := append(make([]byte, 0, headerBytes+3*binary.MaxVarintLen64+len(n.Value)), format, flags, byte(n.Action))
	if n.Created > 0 {
		b = binary.AppendUvarint(b, n.Created)
	}
	if n.Expiry > 0 {
		b = binary.AppendUvarint(b, uint64(n.Expiry))
	}
	if n.Modified > 0 {
		b = binary.AppendUvarint(b, n.Modified)
	}
	return append(b, n.Value...)
}

// Decode reads the value of a node's key, written at revision mod; Created and Modified are always filled in.
func Decode(value []byte, mod int64) (Node, error) {
	if len(value) < headerBytes || value[0] != format {
		return Node{}, fmt.Errorf("%w: no header", ErrFormat)
	}
	flags, n := value[1], Node{Action: Action(value[2])}
	if flags&^flagsKnown != 0 {
		return Node{}, fmt.Errorf("%w: flags %#x", ErrFormat, flags)
	}
	if !n.Action.writes() {
		return Node{}, fmt.Errorf("%w: written by %v", ErrFormat, n.Action)
	}
	n.Dir, n.Implicit, n.Refresh = flags&flagDir != 0, flags&flagImplicit != 0, flags&flagRefresh != 0
	rest := value[headerBytes:]
	n.Created, n.Modified = uint64(mod), uint64(mod)
	if flags&flagCreated != 0 {
		if n.Created, rest = uvarint(rest); rest == nil {
			return Node{}, fmt.Errorf("%w: created index", ErrFormat)
		}
	}
	if flags&flagExpiry != 0 {
		var at uint64
		if at, rest = uvarint(rest); rest == nil || int64(at) <= 0 {
			return Node{}, fmt.Errorf("%w: expiry", ErrFormat)
		}
		n.Expiry = int64(at)
	}
	if flags&flagModified != 0 {
		if n.Modified, rest = uvarint(rest); rest == nil {
			return Node{}, fmt.Errorf("%w: modified index", ErrFormat)
		}
	}
	n.Value = string(rest)
	return n, nil
}

// Read is Decode for keys that anybody may have written: what is no node of ours is a file with those bytes as its value.
func Read(value []byte, mod int64) Node {
	n, err := Decode(value, mod)
	if err != nil {
		return Node{Action: Set, Created: uint64(mod), Modified: uint64(mod), Value: string(value)}
	}
	return n
}

// uvarint reads a number and gives the bytes behind it, nil if there is none.
func uvarint(b []byte) (uint64, []byte) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil
	}
	return v, b[n:]
}
