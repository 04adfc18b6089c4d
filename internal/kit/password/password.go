// Package password checks passwords against bcrypt hashes without letting the checks take the machine. bcrypt is slow on
// purpose — some 50 ms of a core at the cost that etcd uses — and whoever can reach the client port can ask for it. So:
//
//   - Checks run on few goroutines that rest after each millisecond or less: together they take at most a set share of a
//     core, and none for long at a time.
//   - What waits is bounded, in number for all users and for each, and in time; and users take turns: a flood of guesses for
//     one user is refused with ErrBusy and delays another user by one check, not by the flood.
//   - Callers that ask the same question at the same time share one check.
//   - A password that was right is remembered as a keyed hash, so that a program that logs in again costs a microsecond.
//     A wrong one never is. Neither the password nor anything that can be tested outside of this process is kept.
package password

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/recent"
)

var (
	// ErrMismatch is returned when the password is not the one of the hash.
	ErrMismatch = errors.New("password: does not match")
	// ErrBusy is returned at once when as many checks wait as may, or would be waited for too long.
	ErrBusy = errors.New("password: too many checks wait")
	// ErrClosed is returned by checks that end because the checker was closed.
	ErrClosed = errors.New("password: the checker is closed")
)

const (
	shareDefault = 0.5
	// At the default cost and share ten checks a second are done, so that a full queue is some 13 s of work.
	queueDefault = 128
	// waitMax is how long a check may be expected to wait: who would wait longer is refused now rather than let down later.
	// It counts where checks are slow, by their cost or on a machine that is busy with other things.
	waitMax = 10 * time.Second
	// Four wait for one user: programs with the old and the new password while it is changed, and a person.
	perUserDefault = 4
	// callersMax bounds the callers of one check, each of which holds a goroutine of its own.
	callersMax = 16_384
	// knownMax bounds the remembered passwords, one a user, of some 150 bytes each.
	knownMax = 16_384
	// sliceTime of work are done between two rests. A check of some 70 ms in one piece keeps a core from everybody else for as
	// long, which on a machine of two cores is the longest time that a put takes.
	sliceTime = 500 * time.Microsecond
)

// Options say how much a checker may take. The zero value is what a member runs with.
type Options struct {
	// Cost is bcrypt's for new hashes, 4 to 31; 0 for 10.
	Cost int
	// Share is how much of a core checks may take; 0 for a half.
	Share float64
	// Queue and PerUser bound the checks that wait, of all users and of one; 0 for 128 and 4.
	Queue, PerUser int
	// Clock tells how long a check took and how long to rest; nil for the machine's.
	Clock clock.Clock
	// Rand gives the key of this process; nil for the machine's randomness.
	Rand io.Reader
}

// digest identifies a password and the hash that it is checked against, under the key of this process.
type digest [sha256.Size]byte

// question is what a check answers; equal ones share it.
type question struct {
	user string
	digest
}

// Checker checks passwords. All methods may be called from any goroutine; Close ends its goroutines.
type Checker struct {
	cost     int
	parallel int     // workers
	share    float64 // of each worker
	clock    clock.Clock
	key      [sha256.Size]byte
	compare  func(hash, password []byte, breathe func()) error
	known    *recent.Map[string, digest]
	hashing  sync.Mutex // held while a new hash is made: one at a time
	stop     chan struct{}
	workers  sync.WaitGroup

	mu     sync.Mutex // guards the rest
	more   *sync.Cond // on mu: a check came into the queue, or the checker was closed
	open   map[question]*check
	queue  queue
	closed bool
}

// check is one run of bcrypt that is waited for.
type check struct {
	question
	hash, password []byte
	running        bool // guarded by Checker.mu
	callers        int  // who wait, guarded by Checker.mu

	done chan struct{} // closed once err is set
	err  error
}

// New starts a checker.
func New(o Options) *Checker { return start(o, compare) }

func start(o Options, compare func(hash, password []byte, breathe func()) error) *Checker {
	c := &Checker{
		cost:    or(o.Cost, bcrypt.DefaultCost),
		clock:   o.Clock,
		compare: compare,
		known:   recent.New[string, digest](knownMax),
		stop:    make(chan struct{}),
		open:    map[question]*check{},
		queue:   newQueue(or(o.Queue, queueDefault), or(o.PerUser, perUserDefault)),
	}
	c.more = sync.NewCond(&c.mu)
	if c.clock == nil {
		c.clock = clock.System
	}
	source := o.Rand
	if source == nil {
		source = rand.Reader
	}
	if _, err := io.ReadFull(source, c.key[:]); err != nil {
		// A guessable key would make the remembered hashes worth stealing, and crypto/rand itself never fails.
		panic(fmt.Sprintf("password: no randomness: %v", err))
	}
	share := or(o.Share, shareDefault)
	c.parallel = max(1, int(math.Ceil(share)))
	c.share = min(1, share/float64(c.parallel))
	for range c.parallel {
		c.workers.Go(c.work)
	}
	return c
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Close ends the checker and waits for the check that runs. Who waits for another gets ErrClosed.
func (c *Checker) Close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.stop)
		c.more.Broadcast()
	}
	c.mu.Unlock()
	c.workers.Wait()
}

// Hash gives the bcrypt hash of a new password. It runs on the caller's goroutine, one at a time over all callers: whoever
// may set passwords is trusted, and still takes one core at most.
func (c *Checker) Hash(password string) ([]byte, error) {
	c.hashing.Lock()
	defer c.hashing.Unlock()
	h, err := bcrypt.GenerateFromPassword([]byte(password), c.cost)
	if err != nil {
		return nil, fmt.Errorf("password: hash: %w", err)
	}
	return h, nil
}

// Forget drops what is remembered of a user: called when the user's password changes, or the user goes.
func (c *Checker) Forget(user string) { c.known.Delete(user) }

// Check gives nil if password is the one of hash, the user's bcrypt hash; else ErrMismatch, ErrBusy when too many checks
// wait, ErrClosed, or the context's error when that ends first.
func (c *Checker) Check(ctx context.Context, user string, hash []byte, password string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q := question{user, c.digest(hash, password)}
	if d, ok := c.known.Get(user); ok && hmac.Equal(d[:], q.digest[:]) {
		return nil
	}
	ch, err := c.join(q, hash, password)
	if err != nil {
		return err
	}
	select {
	case <-ch.done:
		return ch.err
	case <-c.stop:
		return ErrClosed
	case <-ctx.Done():
		c.leave(ch)
		return ctx.Err()
	}
}

// digest covers the hash too: a remembered password counts for nothing once the user has another hash.
func (c *Checker) digest(hash []byte, password string) (d digest) {
	m := hmac.New(sha256.New, c.key[:])
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(hash)))
	m.Write(n[:]) // so that no hash and password run together into another pair
	m.Write(hash)
	m.Write([]byte(password))
	m.Sum(d[:0])
	return d
}

// join finds the check of q, or puts one into the queue.
func (c *Checker) join(q question, hash []byte, password string) (*check, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if ch, ok := c.open[q]; ok {
		if ch.callers >= callersMax {
			return nil, ErrBusy
		}
		ch.callers++
		return ch, nil
	}
	ch := &check{question: q, hash: hash, password: []byte(password), callers: 1, done: make(chan struct{})}
	if c.queue.wait(q.user) > waitMax || !c.queue.push(ch) {
		return nil, ErrBusy
	}
	c.open[q] = ch
	c.more.Signal()
	return ch, nil
}

// leave takes a caller that gave up from ch. A check that nobody waits for does not run.
func (c *Checker) leave(ch *check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch.callers--
	if ch.callers == 0 && !ch.running {
		c.queue.remove(ch)
		delete(c.open, ch.question)
	}
}

// work runs checks, one after the other, until the checker is closed.
func (c *Checker) work() {
	for {
		ch := c.next()
		if ch == nil {
			return
		}
		began := c.clock.Now()
		e := effort{checker: c, since: began}
		err := c.compare(ch.hash, ch.password, e.breathe)
		idle := e.owed()
		c.finish(ch, err, c.clock.Now().Sub(began)+idle)
		c.rest(idle)
	}
}

// effort is the work of one check, and the rests that it owes.
type effort struct {
	checker *Checker
	// since is when the work went on last, worked what was done before since the last rest.
	since  time.Time
	worked time.Duration
}

// owed is the rest for what was worked since the last one. A worker's share is its busy part of it.
func (e *effort) owed() time.Duration {
	e.worked += e.checker.clock.Now().Sub(e.since)
	return time.Duration(float64(e.worked)/e.checker.share) - e.worked
}

// breathe lets others go first: a put passes many goroutines, and would wait at each. After a slice it rests as well.
func (e *effort) breathe() {
	idle := e.owed()
	if e.worked < sliceTime {
		runtime.Gosched()
	} else {
		e.checker.rest(idle)
		e.worked = 0
	}
	e.since = e.checker.clock.Now()
}

// next waits for a check; nil once the checker is closed.
func (c *Checker) next() *check {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed {
		if ch := c.queue.pop(); ch != nil {
			ch.running = true
			return ch
		}
		c.more.Wait()
	}
	return nil
}

// finish remembers a right password and answers all who wait for ch. Remembering comes first: whoever asks after the check
// has left the open ones finds it.
func (c *Checker) finish(ch *check, err error, each time.Duration) {
	switch {
	case err == nil:
		c.known.Put(ch.user, ch.digest)
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword):
		ch.err = ErrMismatch
	default:
		ch.err = fmt.Errorf("%w: %w", ErrMismatch, err) // not a bcrypt hash: nothing matches it
	}
	c.mu.Lock()
	delete(c.open, ch.question)
	c.queue.paced(each / time.Duration(c.parallel))
	c.mu.Unlock()
	close(ch.done)
}

// rest keeps a worker that just was busy idle for as long as makes its share. On a machine that is busy with other things the
// time for which its thread waits for a core counts as work: checks then take less than their share, never more.
func (c *Checker) rest(idle time.Duration) {
	if idle <= 0 {
		return
	}
	t := c.clock.NewTimer(idle)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.stop:
	}
}
