package password

import "slices"

// queue holds the checks that wait. Users take turns, whatever each has waiting. Its owner locks.
type queue struct {
	max, perUser int

	length int
	turns  []string // users with something waiting, the next one first
	byUser map[string][]*check
}

func newQueue(limit, perUser int) queue {
	return queue{max: limit, perUser: perUser, byUser: map[string][]*check{}}
}

// push puts ch behind the others of its user; false if that is one too many.
func (q *queue) push(ch *check) bool {
	own := q.byUser[ch.user]
	if q.length >= q.max || len(own) >= q.perUser {
		return false
	}
	if len(own) == 0 {
		q.turns = append(q.turns, ch.user)
	}
	q.byUser[ch.user] = append(own, ch)
	q.length++
	return true
}

// pop takes the oldest check of the user whose turn it is; nil if none waits.
func (q *queue) pop() *check {
	if len(q.turns) == 0 {
		return nil
	}
	user := q.turns[0]
	ch := q.byUser[user][0]
	q.remove(ch)
	if len(q.byUser[user]) > 0 {
		q.turns = append(slices.Delete(q.turns, 0, 1), user)
	}
	return ch
}

// remove takes ch out, wherever it is.
func (q *queue) remove(ch *check) {
	own := q.byUser[ch.user]
	at := slices.Index(own, ch)
	if at < 0 {
		return
	}
	own = slices.Delete(own, at, at+1)
	q.length--
	if len(own) > 0 {
		q.byUser[ch.user] = own
		return
	}
	delete(q.byUser, ch.user)
	turn := slices.Index(q.turns, ch.user)
	q.turns = slices.Delete(q.turns, turn, turn+1)
}
