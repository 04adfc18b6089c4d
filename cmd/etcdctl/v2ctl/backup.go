package v2ctl

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"keelson/internal/offline"
)

func backupVerb() verb {
	var b offline.Backup
	return verb{
		name: "backup", short: "copies a data directory for a new cluster of one member",
		long: "Start the copy with --force-new-cluster once, then without. With --with-v3 the member must not run.\n" +
			"Where v2 keys are v3 keys below a prefix, as Keelson has them, the v3 data is copied in any case.",
		flags: func(f *flags) {
			f.text(&b.DataDir, "data-dir", "dir", "the data directory to copy")
			f.text(&b.WALDir, "wal-dir", "dir", "its log, if that is not in member/wal of it")
			f.text(&b.ToDir, "backup-dir", "dir", "the directory to make")
			f.text(&b.ToWALDir, "backup-wal-dir", "dir", "where to make its log, if that shall not be in member/wal of it")
			f.boolean(&b.WithV3, "with-v3", "copy the v3 API's data too")
		},
		run: func(c *call) error {
			b.Logger = newLogger(c.Diag)
			return told(b.Run())
		},
	}
}

// newLogger writes what a command does, a line each.
func newLogger(w io.Writer) *zap.Logger {
	e := zap.NewProductionEncoderConfig()
	e.EncodeTime, e.EncodeDuration = zapcore.RFC3339TimeEncoder, zapcore.StringDurationEncoder
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(e), zapcore.AddSync(w), zap.InfoLevel))
}
