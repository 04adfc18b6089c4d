package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const lockHelp = `Waits for the lock, prints the key that stands for it, and holds it until Ctrl-C.

  etcdctl lock nightly                    hold it by hand
  etcdctl lock nightly ./backup.sh        hold it while a command runs

The command finds ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment, and its exit status is that of etcdctl. When
etcdctl dies without a word the lock is free again after --ttl seconds.`

// The default of --ttl, in seconds.
const lockTTL = 10

var (
	errLockLost      = errors.New("lock lost on init")
	errSessionEnded  = errors.New("session expired")
	errElectionEnded = errors.New("elect: session expired")
)

func lockCommand(a *app) *cobra.Command {
	ttl := lockTTL
	cmd := &cobra.Command{
		Use:     "lock <lockname> [exec-command arg1 arg2 ...]",
		Short:   "Holds a named lock, or runs a command under it",
		Long:    lockHelp,
		GroupID: groupConcurrency,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fail(statusBadArgs, "lock takes a lock name argument and an optional command to execute")
			}
			c, err := a.dial(cmd, (*clientv3.GetResponse)(nil))
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			return c.lockStatus(c.lock(args[0], ttl, args[1:]))
		},
	}
	cmd.Flags().IntVar(&ttl, "ttl", lockTTL, "seconds after which the lock of a dead etcdctl is free")
	return cmd
}

// lockStatus gives a failed command's exit status to etcdctl.
func (c *call) lockStatus(err error) error {
	var own *exitError
	if err == nil || errors.As(err, &own) {
		return err
	}
	var run *exec.ExitError
	if errors.As(err, &run) {
		return &exitError{status: run.ExitCode(), err: err}
	}
	return c.app.explain(statusError, err)
}

// lock takes the lock and holds it until a signal, or while the command runs. It lets go of it in every case, and of
// its place in the queue when it is stopped before its turn.
func (c *call) lock(name string, ttl int, command []string) error {
	s, err := concurrency.NewSession(c.Client, concurrency.WithTTL(ttl))
	if err != nil {
		return err
	}
	defer closeQuietly(s) // revokes the session's lease
	m := concurrency.NewMutex(s, name)
	ctx, stop := untilSignal()
	defer stop()
	if err := m.Lock(ctx); err != nil {
		return err
	}
	if len(command) > 0 {
		err := c.runLocked(s, m, command)
		if uerr := m.Unlock(context.Background()); err == nil {
			err = uerr
		}
		return err
	}
	r, err := c.Get(ctx, m.Key())
	if err != nil {
		return err
	}
	if len(r.Kvs) == 0 {
		return errLockLost
	}
	if err := c.Print(r); err != nil {
		return printed(err)
	}
	select {
	case <-ctx.Done():
		return m.Unlock(context.Background())
	case <-s.Done():
		return errSessionEnded
	}
}

// runLocked runs the command to its end: a signal does not free the lock under it. It warns when the lock is lost.
func (c *call) runLocked(s *concurrency.Session, m *concurrency.Mutex, command []string) error {
	run := exec.Command(command[0], command[1:]...)
	run.Env = append([]string{
		"ETCD_LOCK_KEY=" + m.Key(),
		fmt.Sprintf("ETCD_LOCK_REV=%d", m.Header().Revision),
	}, c.app.env...)
	run.Stdout, run.Stderr = c.app.out, c.app.diag
	if err := run.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-s.Done():
		fmt.Fprintf(c.app.diag, "Warning: the lock %s was lost while the command runs: the cluster did not answer in time\n", m.Key())
		return <-ended
	}
}
