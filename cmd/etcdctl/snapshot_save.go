package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/kit/progress"
	"keelson/internal/kit/vfs"
)

const snapshotSaveHelp = `Saves the database of the member that --endpoints names, exactly one, as it is at this moment. The member serves on
meanwhile. The file appears under its name when it is whole, checked and on disk; until then it ends in .part.

It holds all keys, users and their password hashes: keep it as safe as the cluster.`

const (
	// partSuffix ends the name of a snapshot that is not whole, as etcdctl's.
	partSuffix = ".part"
	// snapshotCopyBytes is how much is written at a time: two of the server's messages.
	snapshotCopyBytes = 64 << 10
)

func snapshotSaveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "save <filename>",
		Short: "Saves a snapshot of a member's database to a file",
		Long:  snapshotSaveHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "snapshot save expects one argument <filename>")
			}
			c, err := a.dial(cmd, nil)
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			if n := len(a.set.endpoints); n != 1 {
				return fail(statusInterrupted, "snapshot must be requested to one selected node, not multiple %v", a.set.endpoints)
			}
			ctx, stop := untilSignal()
			defer stop()
			if cmd.InheritedFlags().Changed("command-timeout") {
				limited, cancel := context.WithTimeout(ctx, a.set.commandTimeout)
				defer cancel()
				ctx = limited
			}
			version, err := a.saveSnapshot(ctx, c, args[0])
			if err != nil {
				return errors.Join(notified(ctx), a.explain(statusInterrupted, err))
			}
			lines := fmt.Sprintf("Snapshot saved at %s\n", args[0])
			if version != "" {
				lines += fmt.Sprintf("Server version %s\n", version)
			}
			if _, err := io.WriteString(a.out, lines); err != nil {
				return fail(statusIO, "write the answer: %w", err)
			}
			return nil
		},
	}
}

// saveSnapshot saves a snapshot to path, whole or not at all, and gives the storage version of the member.
func (a *app) saveSnapshot(ctx context.Context, c *call, path string) (version string, err error) {
	part := path + partSuffix
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("could not open %s (%w)", part, err)
	}
	defer func() {
		if err != nil {
			closeQuietly(f)
			_ = os.Remove(part) // gone where only its directory could not be synced
		}
	}()
	size, err := a.reach(ctx, c)
	if err != nil {
		return "", err
	}
	r, err := c.SnapshotWithVersion(ctx)
	if err != nil {
		return "", err
	}
	defer closeQuietly(r.Snapshot)
	line := progress.OnTerminal(a.diag)
	err = receive(f, r, func(n int64) { line.At(n, size) })
	line.End()
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("could not fsync snapshot: %w", err)
	}
	if err := os.Rename(part, path); err != nil {
		return "", fmt.Errorf("could not rename %s to %s (%w)", part, path, err)
	}
	return r.Version, vfs.OS.SyncDir(filepath.Dir(path))
}

// reach asks the member for the size of its database. A stream alone would wait for ever for a member that is not there.
func (a *app) reach(ctx context.Context, c *call) (size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.set.commandTimeout)
	defer cancel()
	s, err := c.Status(ctx, a.set.endpoints[0])
	if err != nil {
		return 0, err
	}
	return s.DbSize, nil
}

// receive writes the snapshot to w and compares it with the checksum at its end. at is told how far it is.
func receive(w io.Writer, r *clientv3.SnapshotResponse, at func(n int64)) error {
	sum := trailing{hash: sha256.New()}
	var n int64
	for buf := make([]byte, snapshotCopyBytes); ; {
		k, err := r.Snapshot.Read(buf)
		if k > 0 {
			sum.write(buf[:k])
			if _, err := w.Write(buf[:k]); err != nil {
				return fmt.Errorf("could not write snapshot: %w", err)
			}
			n += int64(k)
			at(n)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("could not receive snapshot: %w", err)
		}
	}
	// A database is whole sectors of 512 bytes.
	if n%512 != sha256.Size {
		return fmt.Errorf("sha256 checksum not found [bytes: %d]", n)
	}
	if got := sum.hash.Sum(nil); string(got) != string(sum.last) {
		return fmt.Errorf("expected sha256 %x, got %x: the snapshot was damaged on its way, or by the member: try again, or another member", sum.last, got)
	}
	return nil
}

// trailing hashes all that is written but the last bytes, which are a checksum.
type trailing struct {
	hash hash.Hash
	last []byte
}

func (t *trailing) write(p []byte) {
	t.last = append(t.last, p...)
	if n := len(t.last) - sha256.Size; n > 0 {
		t.hash.Write(t.last[:n])
		t.last = append(t.last[:0], t.last[n:]...)
	}
}
