package password

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// checkTime is what a check of the tests' bcrypt takes, in the bubble's time.
const checkTime = 50 * time.Millisecond

// slow stands for bcrypt in a bubble: a hash is its password in brackets, and comparing takes its time.
type slow struct {
	takes          time.Duration // 0: checkTime
	ran, now, most atomic.Int64
}

func (s *slow) compare(hash, password []byte, _ func()) error {
	s.ran.Add(1)
	s.most.Store(max(s.most.Load(), s.now.Add(1)))
	time.Sleep(or(s.takes, checkTime))
	s.now.Add(-1)
	if string(hash) != "["+string(password)+"]" {
		return bcrypt.ErrMismatchedHashAndPassword
	}
	return nil
}

func hashOf(password string) []byte { return []byte("[" + password + "]") }

// inBubble runs body against a checker whose checks are slow's.
func inBubble(t *testing.T, o Options, body func(t *testing.T, c *Checker, s *slow)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		c := start(o, s.compare)
		defer c.Close()
		body(t, c, s)
	})
}

func TestBcrypt(t *testing.T) {
	c := New(Options{Cost: bcrypt.MinCost, Share: 1})
	defer c.Close()
	hash, err := c.Hash("secret")
	if err != nil {
		t.Fatal(err)
	}
	if cost, err := bcrypt.Cost(hash); err != nil || cost != bcrypt.MinCost {
		t.Errorf("the hash has cost %d (%v), want %d", cost, err, bcrypt.MinCost)
	}
	for _, x := range []struct {
		name, password string
		hash           []byte
		want           error
	}{
		{"right", "secret", hash, nil},
		{"right again", "secret", hash, nil},
		{"wrong", "Secret", hash, ErrMismatch},
		{"empty", "", hash, ErrMismatch},
		{"no hash", "secret", nil, ErrMismatch},
		{"not a hash", "secret", []byte("$9z$10$"), ErrMismatch},
	} {
		if err := c.Check(t.Context(), "ada", x.hash, x.password); !errors.Is(err, x.want) {
			t.Errorf("%s: got %v, want %v", x.name, err, x.want)
		}
	}
	if _, err := c.Hash(strings.Repeat("x", 73)); !errors.Is(err, bcrypt.ErrPasswordTooLong) {
		t.Errorf("hash of 73 bytes: got %v, want %v", err, bcrypt.ErrPasswordTooLong)
	}
}

// TestRemembered: what was right once costs nothing again, until the user is forgotten or has another hash; what was wrong
// is checked each time.
func TestRemembered(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, c *Checker, s *slow) {
		for _, x := range []struct {
			name, user, hash, password string
			want                       error
			runs                       int64
		}{
			{"first", "ada", "pw", "pw", nil, 1},
			{"again", "ada", "pw", "pw", nil, 0},
			{"wrong", "ada", "pw", "no", ErrMismatch, 1},
			{"wrong again", "ada", "pw", "no", ErrMismatch, 1},
			{"right after wrong", "ada", "pw", "pw", nil, 0},
			{"another user's", "bob", "pw", "pw", nil, 1},
			{"old password under a new hash", "ada", "new", "pw", ErrMismatch, 1},
			{"new password", "ada", "new", "new", nil, 1},
			{"back to the old hash", "ada", "pw", "pw", nil, 1},
			{"forgotten", "", "", "", nil, 0},
			{"after that", "ada", "pw", "pw", nil, 1},
			{"another user was not forgotten", "bob", "pw", "pw", nil, 0},
		} {
			if x.user == "" {
				c.Forget("ada")
				continue
			}
			before := s.ran.Load()
			if err := c.Check(t.Context(), x.user, hashOf(x.hash), x.password); !errors.Is(err, x.want) {
				t.Errorf("%s: got %v, want %v", x.name, err, x.want)
			}
			if n := s.ran.Load() - before; n != x.runs {
				t.Errorf("%s: bcrypt ran %d times, want %d", x.name, n, x.runs)
			}
		}
	})
}

func TestEqualQuestionsShareOneCheck(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, c *Checker, s *slow) {
		var right, wrong sync.WaitGroup
		for range 1000 {
			right.Go(func() {
				if err := c.Check(t.Context(), "ada", hashOf("pw"), "pw"); err != nil {
					t.Errorf("right password: %v", err)
				}
			})
			wrong.Go(func() {
				if err := c.Check(t.Context(), "ada", hashOf("pw"), "no"); !errors.Is(err, ErrMismatch) {
					t.Errorf("wrong password: got %v, want %v", err, ErrMismatch)
				}
			})
		}
		right.Wait()
		wrong.Wait()
		if n := s.ran.Load(); n != 2 {
			t.Errorf("bcrypt ran %d times for two questions", n)
		}
	})
}

// TestFlood offers 200 wrong passwords a second for one user for 30 seconds, while another logs in for the first time now and
// then: checks take their share and no more, the excess is refused at once, and the other user waits for two checks at most.
func TestFlood(t *testing.T) {
	for _, share := range []float64{0.25, 0.5, 1, 1.5} {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			inBubble(t, Options{Share: share}, func(t *testing.T, c *Checker, s *slow) { flood(t, c, s, share) })
		})
	}
}

func flood(t *testing.T, c *Checker, s *slow, share float64) {
	const (
		offered = 6000
		each    = 5 * time.Millisecond
	)
	var busy, wrong atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for i := range offered {
		all.Go(func() {
			before := time.Now()
			switch err := c.Check(t.Context(), "victim", hashOf("pw"), fmt.Sprintf("guess %d", i)); {
			case errors.Is(err, ErrBusy):
				if took := time.Since(before); took > 0 {
					t.Errorf("a refusal took %v", took)
				}
				busy.Add(1)
			case errors.Is(err, ErrMismatch):
				wrong.Add(1)
			default:
				t.Errorf("a guess gave %v", err)
			}
		})
		if i%1000 == 999 {
			all.Go(func() {
				before := time.Now()
				if err := c.Check(t.Context(), fmt.Sprintf("other %d", i), hashOf("pw"), "pw"); err != nil {
					t.Errorf("another user: %v", err)
				}
				if took, most := time.Since(before), time.Duration(float64(3*checkTime)/min(1, share)); took > most {
					t.Errorf("another user waited %v behind the flood, want at most %v", took, most)
				}
			})
		}
		time.Sleep(each)
	}
	all.Wait()
	took := time.Since(began)
	if got := float64(s.ran.Load()) * float64(checkTime) / float64(took); got > share*1.02 || got < share*0.9 {
		t.Errorf("checks took %.3f of a core, want about %.2f", got, share)
	}
	if most := s.most.Load(); float64(most) > math.Ceil(share) {
		t.Errorf("%d checks ran at a time", most)
	}
	if n := busy.Load() + wrong.Load(); n != offered || busy.Load() < offered/2 {
		t.Errorf("%d refused, %d checked, of %d", busy.Load(), wrong.Load(), offered)
	}
}

func TestQueueIsBounded(t *testing.T) {
	inBubble(t, Options{Queue: 3, PerUser: 2}, func(t *testing.T, c *Checker, s *slow) {
		var all sync.WaitGroup
		ask := func(user, password string, want error) {
			all.Go(func() {
				if err := c.Check(t.Context(), user, hashOf("pw"), password); !errors.Is(err, want) {
					t.Errorf("%s, %s: got %v, want %v", user, password, err, want)
				}
			})
			synctest.Wait()
		}
		ask("ada", "1", ErrMismatch) // runs
		ask("ada", "2", ErrMismatch)
		ask("ada", "3", ErrMismatch)
		ask("ada", "4", ErrBusy) // ada's bound
		ask("ada", "3", ErrMismatch)
		ask("bob", "pw", nil)
		ask("eve", "pw", ErrBusy) // everybody's
		all.Wait()
		if n := s.ran.Load(); n != 4 {
			t.Errorf("bcrypt ran %d times, want 4", n)
		}
		ask("eve", "pw", nil)
		all.Wait()
	})
}

// TestNobodyWaitsInVain: where checks are slow, whoever would wait too long is refused at once.
func TestNobodyWaitsInVain(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, c *Checker, s *slow) {
		s.takes = 2 * time.Second // one each 4 s
		var all sync.WaitGroup
		var refused, longest atomic.Int64
		ask := func(user string) {
			all.Go(func() {
				began := time.Now()
				switch err := c.Check(t.Context(), user, hashOf("pw"), "pw"); {
				case errors.Is(err, ErrBusy):
					refused.Add(1)
				case err != nil:
					t.Errorf("%s: %v", user, err)
				default:
					longest.Store(max(longest.Load(), int64(time.Since(began))))
				}
			})
			synctest.Wait()
		}
		ask("first")
		all.Wait() // now it is known how slow they are
		for i := range 20 {
			ask(fmt.Sprint("user ", i))
		}
		all.Wait()
		if took := time.Duration(longest.Load()); took > waitMax+2*4*time.Second {
			t.Errorf("somebody waited %v", took)
		}
		if n := refused.Load(); n < 15 || n > 18 {
			t.Errorf("%d of 20 were refused", n)
		}
		ask("last")
		all.Wait()
		if n := refused.Load(); n > 18 {
			t.Error("refused with nobody before")
		}
	})
}

// TestWaitEndsWithTheContext: who gives up is answered at once, and a check that nobody waits for does not run.
func TestWaitEndsWithTheContext(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, c *Checker, s *slow) {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Check(gone, "ada", hashOf("pw"), "pw"); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: got %v", err)
		}
		var all sync.WaitGroup
		all.Go(func() { _ = c.Check(t.Context(), "ada", hashOf("pw"), "runs") })
		synctest.Wait()
		hasty, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		for _, password := range []string{"alone", "shared"} {
			all.Go(func() {
				if err := c.Check(hasty, "bob", hashOf("pw"), password); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("hasty, %s: got %v", password, err)
				}
			})
		}
		all.Go(func() {
			if err := c.Check(t.Context(), "bob", hashOf("pw"), "shared"); !errors.Is(err, ErrMismatch) {
				t.Errorf("patient: got %v", err)
			}
		})
		all.Wait()
		if n := s.ran.Load(); n != 2 {
			t.Errorf("bcrypt ran %d times, want 2: the abandoned check must not run", n)
		}
		// A check that runs when its caller gives up ends, and is remembered.
		hasty, cancel = context.WithTimeout(t.Context(), time.Millisecond+2*checkTime)
		defer cancel()
		_ = c.Check(hasty, "bob", hashOf("pw"), "pw")
		time.Sleep(2 * checkTime)
		if err := c.Check(t.Context(), "bob", hashOf("pw"), "pw"); err != nil || s.ran.Load() != 3 {
			t.Errorf("got %v after %d runs, want it remembered from the third", err, s.ran.Load())
		}
	})
}

func TestClose(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, c *Checker, s *slow) {
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				if err := c.Check(t.Context(), "ada", hashOf("pw"), fmt.Sprint(i)); !errors.Is(err, ErrClosed) {
					t.Errorf("a waiting check: got %v, want %v", err, ErrClosed)
				}
			})
		}
		synctest.Wait()
		c.Close()
		c.Close()
		all.Wait()
		if err := c.Check(t.Context(), "ada", hashOf("pw"), "pw"); !errors.Is(err, ErrClosed) {
			t.Errorf("after it was closed: got %v", err)
		}
		if n := s.ran.Load(); n != 1 {
			t.Errorf("bcrypt ran %d times, want only the one that ran at the end", n)
		}
	})
}

// TestQueueAgainstLists compares the queue with plain lists, and asks that nobody is served twice before somebody who waits.
func TestQueueAgainstLists(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	q := newQueue(20, 4)
	waiting := map[string][]*check{}
	since := map[string]map[string]bool{} // for each who waits: who was served since
	count := func() (n int) {
		for _, l := range waiting {
			n += len(l)
		}
		return n
	}
	take := func(user string, at int) {
		waiting[user] = append(waiting[user][:at:at], waiting[user][at+1:]...)
	}
	for step := range 20_000 {
		user := fmt.Sprint(rng.IntN(9))
		switch rng.IntN(5) {
		case 0, 1:
			ch := &check{question: question{user: user}}
			want := count() < 20 && len(waiting[user]) < 4
			if got := q.push(ch); got != want {
				t.Fatalf("seed %d, step %d: push gives %v, want %v", seed, step, got, want)
			}
			if want {
				if len(waiting[user]) == 0 {
					since[user] = map[string]bool{}
				}
				waiting[user] = append(waiting[user], ch)
			}
		case 2:
			if l := waiting[user]; len(l) > 0 {
				at := rng.IntN(len(l))
				q.remove(l[at])
				take(user, at)
			}
			q.remove(&check{question: question{user: user}}) // one that is not in it
		default:
			ch := q.pop()
			if (ch == nil) != (count() == 0) {
				t.Fatalf("seed %d, step %d: pop gives %v with %d waiting", seed, step, ch, count())
			}
			if ch == nil {
				continue
			}
			if waiting[ch.user][0] != ch {
				t.Fatalf("seed %d, step %d: %s's checks are out of order", seed, step, ch.user)
			}
			take(ch.user, 0)
			since[ch.user] = map[string]bool{}
			for other, l := range waiting {
				if other != ch.user && len(l) > 0 && since[other][ch.user] {
					t.Fatalf("seed %d, step %d: %s was served twice while %s waited", seed, step, ch.user, other)
				} else if other != ch.user && len(l) > 0 {
					since[other][ch.user] = true
				}
			}
		}
		if q.length != count() {
			t.Fatalf("seed %d, step %d: length %d, want %d", seed, step, q.length, count())
		}
	}
}

// TestAhead: a new check comes up after no more others than the queue says, and at most one a user fewer.
func TestAhead(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 500 {
		q := newQueue(1000, 1000)
		users := 1 + rng.IntN(6)
		for range rng.IntN(30) {
			q.push(&check{question: question{user: fmt.Sprint(rng.IntN(users))}})
			if rng.IntN(4) == 0 {
				q.pop()
			}
		}
		own := &check{question: question{user: fmt.Sprint(rng.IntN(users))}}
		says := q.ahead(own.user)
		q.push(own)
		came := 0
		for q.pop() != own {
			came++
		}
		if came > says || came < says-users {
			t.Fatalf("seed %d, round %d: %d came before, the queue says %d", seed, round, came, says)
		}
	}
}

// BenchmarkKnown is a login with a password that was right before.
func BenchmarkKnown(b *testing.B) {
	c := New(Options{Cost: bcrypt.MinCost})
	defer c.Close()
	hash, err := c.Hash("secret")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := c.Check(b.Context(), "ada", hash, "secret"); err != nil {
			b.Fatal(err)
		}
	}
}
