package password

import (
	"slices"
	"time"
)

// queue holds the checks that wait. Users take turns, whatever each has waiting. Its owner locks.
type queue struct {
	max, perUser int

	length int
	turns  []string // users with something waiting, the next one first
	byUser map[string][]*check
	pace   time.Duration // from one check's end to the next one's, by the last ones; 0: none was done yet
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

// paced follows what checks take: three of them outweigh all before.
func (q *queue) paced(now time.Duration) {
	if q.pace == 0 {
		q.pace = now
	}
	q.pace = (3*q.pace + now) / 4
}

// wait tells how long a new check of the user is to be expected to wait.
func (q *queue) wait(user string) time.Duration { return time.Duration(q.ahead(user)) * q.pace }

// ahead tells how many checks at most come before a new one of the user: of each user as many as this one has turns to wait.
func (q *queue) ahead(user string) (n int) {
	turns := len(q.byUser[user]) + 1
	for other, waiting := range q.byUser {
		if other == user {
			n += len(waiting)
		} else {
			n += min(len(waiting), turns)
		}
	}
	return n
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
