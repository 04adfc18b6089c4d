package v2tree

import (
	"encoding/binary"
	"fmt"
)

// Removal is what the key "removed" holds: what a request deleted in the revision that wrote it.
//
//	byte 0     format, 0x02
//	byte 1     flags: 1 it was a directory
//	byte 2     the action: 5 delete, 6 compareAndDelete
//	uvarint    the created index of the node
//	the rest   its path
type Removal struct {
	Action  Action
	Dir     bool
	Created uint64
	Path    string
}

// Encode gives the value of the key.
func (r Removal) Encode() []byte {
	flags := byte(0)
	if r.Dir {
		flags = flagDir
	}
	b := append(make([]byte, 0, headerBytes+binary.MaxVarintLen64+len(r.Path)), format, flags, byte(r.Action))
	return append(binary.AppendUvarint(b, r.Created), r.Path...)
}

// DecodeRemoval reads the value of the key.
func DecodeRemoval(value []byte) (Removal, error) {
	if len(value) < headerBytes || value[0] != format || value[1]&^flagDir != 0 {
		return Removal{}, fmt.Errorf("%w: no header of a removal", ErrFormat)
	}
	r := Removal{Action: Action(value[2]), Dir: value[1]&flagDir != 0}
	if !r.Action.removes() {
		return Removal{}, fmt.Errorf("%w: removed by %v", ErrFormat, r.Action)
	}
	created, rest := uvarint(value[headerBytes:])
	if rest == nil {
		return Removal{}, fmt.Errorf("%w: created index of a removal", ErrFormat)
	}
	r.Created, r.Path = created, string(rest)
	if Clean(r.Path) != r.Path || r.Path == "/" {
		return Removal{}, fmt.Errorf("%w: removed path %q", ErrFormat, r.Path)
	}
	return r, nil
}
