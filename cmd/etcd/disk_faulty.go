//go:build faultvfs

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"keelson/internal/kit/vfs"
)

// faultEnv names a file that says what is wrong with the disk just now, so that a test can change it while the member
// runs. Each line is an operation on the log and what befalls it: "datasync 3s" delays it, "write full" and
// "datasync error" fail it. No file, no fault.
const faultEnv = "KEELSON_FAULT"

// disk is the machine's, with the faults that the file asks for.
func disk() vfs.FS {
	file := os.Getenv(faultEnv)
	return vfs.Inject(vfs.OS, func(op vfs.Op) error {
		if filepath.Ext(op.Path) != ".wal" {
			return nil
		}
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			kind, what, _ := strings.Cut(strings.TrimSpace(line), " ")
			if vfs.Kind(kind) == op.Kind {
				return befall(what)
			}
		}
		return nil
	}, nil)
}

func befall(what string) error {
	switch what {
	case "full":
		return syscall.ENOSPC
	case "error":
		return syscall.EIO
	}
	d, err := time.ParseDuration(what)
	if err == nil {
		time.Sleep(d)
	}
	return err
}
