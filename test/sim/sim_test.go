package sim

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag = flag.Int64("seed", -1, "replay the run of one seed; with -v, or if it fails, all that happened is printed")
	forFlag  = flag.Duration("for", 0, "run new seeds, one after the other, for so long")
)

// seedsDefault is how many seeds a plain test runs, a tenth of a second each.
const (
	seedsDefault = 240
	seedsShort   = 40
)

// garbagePercent lets the heap grow to some 200 MB: a run leaves everything behind at once, and collecting in between
// would take a third of the time.
const garbagePercent = 500

// TestMain gives the runs one processor: two of the same seed then differ only where the runtime itself draws lots.
func TestMain(m *testing.M) {
	flag.Parse()
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(garbagePercent)
	os.Exit(m.Run())
}

// memory gives a directory that is no disk: bolt syncs its files, and the test would wait for little else.
func memory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "keelson-sim-") //nolint:usetesting // TempDir may be a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// stuckAfter is how long a run may take by the real clock: hundreds of times what it does. Time in the bubble stands
// still while anybody waits for a mutex, so a lock held over a wait for the disk ends here.
const stuckAfter = time.Minute

// once runs one seed in a bubble of its own.
func once(t *testing.T, n uint64, p Plan, dir string) *Outcome {
	t.Helper()
	stuck := time.AfterFunc(stuckAfter, func() {
		panic(fmt.Sprintf("sim: seed %d is stuck: does a goroutine wait for a lock whose holder waits for the disk?", n))
	})
	defer stuck.Stop()
	defer func(r io.Reader) { rand.Reader = r }(rand.Reader)
	rand.Reader = Entropy(n)
	dir = filepath.Join(dir, fmt.Sprint(n))
	defer os.RemoveAll(dir)
	var o *Outcome
	synctest.Test(t, func(*testing.T) { o = Run(n, p, dir) })
	return o
}

// members gives a seed's number of members: one, three or five.
func members(n uint64) int { return []int{1, 3, 3, 5}[n%4] }

// tailLines is how much of a failed run is printed: what led to the end.
const tailLines = 40

func report(t *testing.T, n uint64, o *Outcome, err error) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(o.Journal()), "\n")
	t.Errorf("seed %d: %v\n%s\nreplay: go test ./test/sim -run TestSeeds -v -seed %d",
		n, err, strings.Join(lines[max(0, len(lines)-tailLines):], "\n"), n)
}

// TestSeeds runs clusters without planted faults: nothing must be found.
func TestSeeds(t *testing.T) {
	dir := memory(t)
	switch {
	case *seedFlag >= 0:
		n := uint64(*seedFlag)
		o := once(t, n, Pick(n, members(n)), dir)
		t.Log("all that happened:\n" + o.Journal())
		if err := o.Check(); err != nil {
			t.Fatal(err)
		}
	case *forFlag > 0:
		forever(t, dir)
	default:
		seeds := uint64(seedsDefault)
		if testing.Short() {
			seeds = seedsShort
		}
		for n := range seeds {
			o := once(t, n, Pick(n, members(n)), dir)
			if err := o.Check(); err != nil {
				report(t, n, o, err)
			}
		}
	}
}

// failuresMax ends a long run: more would not say more.
const failuresMax = 5

// forever runs seeds that nobody has seen until the time is over.
func forever(t *testing.T, dir string) {
	end := time.Now().Add(*forFlag)
	runs, failed := 0, 0
	for ; time.Now().Before(end) && failed < failuresMax; runs++ {
		n := uint64(mathrand.Uint32())
		o := once(t, n, Pick(n, members(n)), dir)
		if err := o.Check(); err != nil {
			failed++
			report(t, n, o, err)
		}
	}
	t.Logf("%d runs, %d failed", runs, failed)
}

// TestFaults plants one kind of fault at a time: a checker that finds none of it in 200 seeds is no checker.
func TestFaults(t *testing.T) {
	if *seedFlag >= 0 || *forFlag > 0 {
		t.Skip("for plain runs")
	}
	dir := memory(t)
	for _, c := range []struct {
		name    string
		members int
		faults  Faults
		found   []error
	}{
		{"lost sync alone", 1, Faults{LostSyncs: 0.1}, []error{ErrLost, ErrFailed}},
		{"lost sync of three", 3, Faults{LostSyncs: 0.5}, []error{ErrLost, ErrFailed, ErrHash, ErrWatch}},
		{"applied twice", 3, Faults{ApplyTwice: 0.02}, []error{ErrHash}},
		{"proposed twice", 3, Faults{RepeatProposals: 0.02}, []error{ErrLost}},
		{"event dropped", 3, Faults{DropEvents: 0.01}, []error{ErrWatch}},
		{"read before ReadIndex", 3, Faults{StaleReads: 0.5}, []error{ErrOrder}},
		{"write forgotten", 1, Faults{ForgetWrites: 0.01}, []error{ErrLost}},
		{"clock too fast", 3, Faults{FastClock: 4}, []error{ErrLease}},
		{"alarm cleared in secret", 3, Faults{SecretDisarm: true}, []error{ErrAlarm}},
		{"alarm missed", 3, Faults{DeafToAlarms: true}, []error{ErrAlarm}},
		{"snapshot with another configuration", 3, Faults{OtherConf: true}, []error{ErrConf}},
		{"removed and still counted", 3, Faults{StillCounted: true}, []error{ErrConf}},
		{"removed and not told", 3, Faults{HideRemovals: true}, []error{ErrMembers}},
		{"disk lost and taken for new", 3, Faults{HideStarted: true}, []error{ErrVote}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := range uint64(200) {
				p := Pick(n, c.members)
				p.Faults, p.Reconfigure = c.faults, c.faults.ofMembers()
				o := once(t, n, p, dir)
				err := o.Check()
				for _, want := range c.found {
					if errors.Is(err, want) {
						t.Logf("seed %d: %v", n, err)
						return
					}
				}
			}
			t.Error("planted, and never found")
		})
	}
}
