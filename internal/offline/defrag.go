package offline

import (
	"errors"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"go.uber.org/zap"

	"keelson/internal/kit/vfs"
	"keelson/internal/storage/store"
)

// Defrag writes the state file of a data directory anew, without its free pages. progress is told how many bytes of how
// many are dealt with; another process is waited for at most wait (0: for ever). Where it fails, or is killed, the file is
// as it was.
func Defrag(dataDir string, wait time.Duration, lg *zap.Logger, progress func(done, total int64)) error {
	path := statePath(dataDir)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	start := time.Now()
	lg.Info("defragmenting", zap.String("path", path),
		zap.Int64("current-db-size-bytes", info.Size()), zap.String("current-db-size", humanize.Bytes(uint64(info.Size()))))
	var after int64
	err = patiently(wait, lg, path, func(wait time.Duration) error {
		for began := time.Now(); ; {
			// It waits a while by itself.
			_, after, err = store.DefragmentFile(vfs.OS, path, store.Options{}, progress)
			if !errors.Is(err, store.ErrInUse) || wait > 0 && time.Since(began) >= wait {
				return err
			}
		}
	})
	if err != nil {
		return explainDir(dataDir, err)
	}
	lg.Info("finished defragmenting directory", zap.String("path", path), zap.Int64("current-db-size-bytes-diff", after-info.Size()),
		zap.Int64("current-db-size-bytes", after), zap.String("current-db-size", humanize.Bytes(uint64(after))), zap.Duration("took", time.Since(start)))
	return nil
}
