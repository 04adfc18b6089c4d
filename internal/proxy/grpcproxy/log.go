package grpcproxy

import (
	"context"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// LogCalls are the options of a gRPC server that logs each call when it ends: who made it, how long it took, and what came of
// it. Keys and values are in no log.
func LogCalls(log *zap.Logger) []grpc.ServerOption {
	tell := func(ctx context.Context, method string, began time.Time, err error) {
		fields := []zap.Field{zap.String("method", method), zap.Duration("took", time.Since(began)), zap.Error(err)}
		if p, ok := peer.FromContext(ctx); ok {
			fields = append(fields, zap.Stringer("remote-addr", p.Addr))
		}
		log.Info("served a call", fields...)
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, i *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			began := time.Now()
			resp, err := h(ctx, req)
			tell(ctx, i.FullMethod, began, err)
			return resp, err
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, i *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			began := time.Now()
			err := h(srv, s)
			tell(s.Context(), i.FullMethod, began, err)
			return err
		}),
	}
}
