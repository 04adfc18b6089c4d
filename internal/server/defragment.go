package server

import (
	"context"

	"github.com/dustin/go-humanize"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/storage/store"
)

// Defragmenter has the state file written anew, without its free pages.
type Defragmenter struct {
	store  *store.Store
	logger *zap.Logger
}

// Defragment answers when the new file is in use. Nobody else waits for it. It goes on when the caller stops waiting, as
// in etcd, where a default time limit of 5 s is too short for many files.
func (d *Defragmenter) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	d.logger.Info("starting defragment")
	if err := d.store.Defragment(ctx); err != nil {
		d.logger.Warn("failed to defragment", zap.Error(err))
		return nil, err
	}
	d.logger.Info("finished defragment")
	return &pb.DefragmentResponse{}, nil
}

// Defragmenting tells whether the state file is being written anew.
func (d *Defragmenter) Defragmenting() bool { return d.store.Defragmenting() }

// defragmentAtStart defragments where that frees as much as --bootstrap-defrag-threshold-megabytes asks for.
func defragmentAtStart(ctx context.Context, cfg *config.Config, s *store.Store, logger *zap.Logger) error {
	const mebibyte = 1 << 20
	threshold := cfg.Storage.BootstrapDefragMB * mebibyte
	if threshold == 0 {
		return nil
	}
	size, inUse := s.Size(), s.SizeInUse()
	if uint(size-inUse) < threshold {
		logger.Info("Skipping defragmentation", zap.Int64("current-db-size-bytes", size),
			zap.String("current-db-size", humanize.Bytes(uint64(size))), zap.Int64("current-db-size-in-use-bytes", inUse),
			zap.String("current-db-size-in-use", humanize.Bytes(uint64(inUse))), zap.Uint("bootstrap-defrag-threshold-bytes", threshold),
			zap.String("bootstrap-defrag-threshold", humanize.Bytes(uint64(threshold))))
		return nil
	}
	return s.Defragment(ctx)
}
