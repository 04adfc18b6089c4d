package mvcc

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What retained views may cost. A reader that paginates comes back within seconds: 64 views are one a second for a
// minute. A view pins the nodes that were replaced since it was published, about 3 KB a new key put alone, so
// 64 MiB are some 22,000 of those.
const (
	retainViews = 64
	retainBytes = 64 << 20
)

// retained is the views kept for readers that paginate, oldest first. Readers load the list; mu guards its
// replacement.
type retained struct {
	mu    sync.Mutex
	list  atomic.Pointer[[]held]
	views int
	bytes int64
}

type held struct {
	view     *View
	deadline time.Time
}

func (r *retained) limit(o Options) {
	r.views, r.bytes = retainViews, retainBytes
	if o.RetainViews > 0 {
		r.views = o.RetainViews
	}
	if o.RetainBytes > 0 {
		r.bytes = o.RetainBytes
	}
	r.list.Store(&[]held{})
}

// RetainView keeps v until the deadline, so that ranges at its revision, through any later view, count and page
// as fast as ranges of the present. Where there are too many views, or they pin too much, the oldest go first, and
// ranges at their revisions walk instead: the answers are the same.
func (s *Store) RetainView(v *View, deadline time.Time) { s.held.add(v, deadline) }

// Expire lets go of views whose deadline has passed.
func (s *Store) Expire(now time.Time) {
	s.held.edit(func(list []held) []held {
		return slices.DeleteFunc(list, func(h held) bool { return h.deadline.Before(now) })
	})
}

func (r *retained) edit(f func([]held) []held) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := f(slices.Clone(*r.list.Load()))
	r.list.Store(&list)
}

func (r *retained) add(v *View, deadline time.Time) {
	r.edit(func(list []held) []held {
		i := r.search(list, v.rev)
		if i < len(list) && list[i].view.rev == v.rev {
			if list[i].deadline.Before(deadline) {
				list[i].deadline = deadline
			}
			return list
		}
		list = slices.Insert(list, i, held{v, deadline})
		if len(list) > r.views {
			list = list[1:]
		}
		return list
	})
}

func (r *retained) search(list []held, rev int64) int {
	i, _ := slices.BinarySearchFunc(list, rev, func(h held, rev int64) int { return int(h.view.rev - rev) })
	return i
}

// find gives the retained view at rev, or nil. It takes no lock.
func (r *retained) find(rev int64) *View {
	list := *r.list.Load()
	if i := r.search(list, rev); i < len(list) && list[i].view.rev == rev {
		return list[i].view
	}
	return nil
}

// trim drops views older than the compaction, and the oldest while the nodes replaced since they were published
// are more than the bound.
func (r *retained) trim(replaced, compact int64) {
	past := func(h held) bool { return h.view.rev < compact || replaced-h.view.replaced > r.bytes }
	if list := *r.list.Load(); len(list) == 0 || !past(list[0]) {
		return
	}
	r.edit(func(list []held) []held { return slices.DeleteFunc(list, past) })
}

func (r *retained) clear() { r.edit(func([]held) []held { return nil }) }
