package sim

import (
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag = flag.Int64("seed", -1, "replay the run of one seed and print all that happened")
	forFlag  = flag.Duration("for", 0, "run new seeds for so long")
)

func TestMain(m *testing.M) {
	flag.Parse()
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

// shm is a directory in memory: bolt syncs its files, and a disk would be what the test waits for.
func shm(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "keelson-sim-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// stuckAfter is how long a run may take by the real clock: a thousand times what it does. Time in the bubble stands
// still while anybody waits for a mutex, so a lock held over a wait for the disk ends here.
const stuckAfter = 20 * time.Second

func run(t *testing.T, n uint64, p Plan, dir string) *Outcome {
	stuck := time.AfterFunc(stuckAfter, func() {
		panic(fmt.Sprintf("sim: seed %d is stuck: does a goroutine wait for a lock whose holder waits for the disk?", n))
	})
	defer stuck.Stop()
	defer func(r interface{ Read([]byte) (int, error) }) { rand.Reader = r }(rand.Reader)
	rand.Reader = Entropy(n)
	var o *Outcome
	synctest.Test(t, func(*testing.T) { o = Run(n, p, dir) })
	return o
}

func members(n uint64) int { return []int{1, 3, 3, 5}[n%4] }

func TestSeeds(t *testing.T) {
	dir := shm(t)
	seeds := uint64(300)
	if *seedFlag >= 0 {
		n := uint64(*seedFlag)
		o := run(t, n, Pick(n, members(n)), dir)
		fmt.Print(o.Journal())
		if err := o.Check(); err != nil {
			t.Fatal(err)
		}
		return
	}
	for n := range seeds {
		o := run(t, n, Pick(n, members(n)), dir)
		if err := o.Check(); err != nil {
			t.Errorf("seed %d: %v\nreplay: go test ./test/sim -seed %d", n, err, n)
		}
	}
}
