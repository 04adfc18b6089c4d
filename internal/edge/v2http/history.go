package v2http

import (
	"fmt"
	"path"
	"sort"
	"strings"

	"keelson/internal/state/v2tree"
)

// historyEvents is how many events are kept for those who ask for the past, as in 3.4.
const historyEvents = 1000

// history is the newest events, in the order of their indexes. The hub's mutex guards it.
type history struct {
	events []*v2tree.Event // a ring: first is the place of the oldest
	first  int
	// begin is the first index whose event would be here. 0 where all are.
	begin uint64
}

// add appends an event. Once the ring is full, the oldest one left is where history begins.
func (h *history) add(e *v2tree.Event) {
	if len(h.events) < historyEvents {
		h.events = append(h.events, e)
		return
	}
	h.events[h.first] = e
	h.first = (h.first + 1) % historyEvents
	h.begin = h.events[h.first].Index
}

// reset forgets all: history begins with an index.
func (h *history) reset(begin uint64) { *h = history{begin: begin} }

// find gives the first event at or after an index that a watcher of a path would be told of, nil if there is none yet. Other
// than at the moment when it happens, hidden nodes are not left out: that is 3.4's way.
func (h *history) find(watched string, recursive bool, since, index uint64) (*v2tree.Event, error) {
	if since < h.begin {
		return nil, v2tree.Refuse(v2tree.IndexCleared, fmt.Sprintf("the requested history has been cleared [%d/%d]", h.begin, since), index)
	}
	at := func(i int) *v2tree.Event { return h.events[(h.first+i)%len(h.events)] }
	from := sort.Search(len(h.events), func(i int) bool { return at(i).Index >= since })
	for i := from; i < len(h.events); i++ {
		if e := at(i); !e.Refresh && concerns(e, watched, recursive) {
			return e, nil
		}
	}
	return nil, nil
}

// concerns tells whether a watcher of a path asks for an event.
func concerns(e *v2tree.Event, watched string, recursive bool) bool {
	key := e.Node.Key
	if key == watched || recursive && strings.HasPrefix(key, slashed(watched)) {
		return true
	}
	// What is below a directory goes with it. A text that begins alike is enough, as in 3.4.
	ends := e.Action == v2tree.Delete.String() || e.Action == v2tree.Expire.String()
	return ends && e.PrevNode != nil && e.PrevNode.Dir && strings.HasPrefix(watched, e.PrevNode.Key)
}

// hiddenFrom tells whether a node is hidden from who watches above it: its name, or that of a directory between, begins with
// an underscore.
func hiddenFrom(watched, key string) bool {
	if len(watched) > len(key) {
		return false // of a deleted directory, who watches below it is told
	}
	if watched == "/" {
		watched = ""
	}
	return strings.Contains(path.Clean("/"+key[len(watched):]), "/_")
}

func slashed(clean string) string {
	if strings.HasSuffix(clean, "/") {
		return clean
	}
	return clean + "/"
}
