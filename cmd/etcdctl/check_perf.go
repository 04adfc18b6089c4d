package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/time/rate"
)

const checkPerfHelp = `Writes at a fixed rate for a minute and prints PASS or FAIL: s asks for 150 writes a second, m for 1,000, l for 8,000 and xl
for 15,000; none may take longer than half a second, nor their times differ by more than 100 ms (one standard
deviation). The keys are deleted afterwards. Exit status 1 for FAIL.`

// perfTimeDefault is how long check perf writes.
const perfTimeDefault = time.Minute

// Bounds on what passes, etcdctl's.
const (
	perfShareMin     = 0.9
	perfSlowestMax   = 0.5 // seconds
	perfDeviationMax = 0.1 // seconds
)

type perfLoad struct{ rate, clients int }

func checkPerfCommand(a *app) *cobra.Command {
	k := &check{app: a}
	cmd := &cobra.Command{
		Use:   "perf [options]",
		Short: "Checks how fast the cluster writes",
		Long:  checkPerfHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			load, err := loadOf(k.load, perfLoad{150, 50}, perfLoad{1000, 200}, perfLoad{8000, 500}, perfLoad{15000, 1000})
			if err != nil {
				return err
			}
			if err := k.open(cmd, load.clients, "'%s'"); err != nil {
				return err
			}
			defer k.close()
			return k.perf(load)
		},
	}
	k.bind(cmd, "/etcdctl-check-perf/")
	return cmd
}

// perf writes until time is up or a signal comes, tidies up, and judges.
func (k *check) perf(load perfLoad) error {
	ctx, stop := untilSignal()
	defer stop()
	lasting := cmp.Or(k.perfTime, perfTimeDefault)
	ctx, cancel := context.WithTimeout(ctx, lasting)
	defer cancel()
	ops := make(chan clientv3.Op, load.clients)
	next, limit := k.putter(256, 1024), rate.NewLimiter(rate.Limit(load.rate), 1)
	go func() {
		defer close(ops)
		for limit.Wait(ctx) == nil {
			ops <- next()
		}
	}()
	seconds := max(int64(lasting/time.Second), 1)
	b := startBar(k.diag, seconds)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for b.done.Load() < seconds {
			select {
			case <-tick.C:
				b.add(1)
			case <-b.stop:
				return
			}
		}
	}()
	r := k.writes(ops, func() {})
	if ctx.Err() == context.DeadlineExceeded {
		b.done.Store(seconds)
	}
	b.end()
	tidy, done := context.WithTimeout(context.Background(), checkTidyTime)
	defer done()
	rev, err := k.remove(tidy)
	if err != nil {
		fmt.Fprintf(k.out, "FAIL: Cleanup failed during key deletion: ERROR(%v)\n", err)
	} else if err := k.reclaim(rev); err != nil {
		return err
	}
	return k.judge(r, load)
}

// judge prints the verdict.
func (k *check) judge(r *report, load perfLoad) error {
	good := !k.failed(r)
	say := func(ok bool, pass, failure string, value any) {
		if ok {
			fmt.Fprintf(k.out, "PASS: "+pass+"\n", value)
			return
		}
		good = false
		fmt.Fprintf(k.out, failure+"\n", value)
	}
	perSecond, slowest, deviation := r.rate()
	say(perSecond/float64(load.rate) > perfShareMin, "Throughput is %d writes/s", "FAIL: Throughput too low: %d writes/s", int(perSecond)+1)
	say(slowest <= perfSlowestMax, "Slowest request took %fs", "Slowest request took too long: %fs", slowest)
	say(deviation <= perfDeviationMax, "Stddev is %fs", "Stddev too high: %fs", deviation)
	if !good {
		fmt.Fprintln(k.out, "FAIL")
		return &exitError{status: statusError} // told above
	}
	fmt.Fprintln(k.out, "PASS")
	return nil
}
