// Package solo runs a member of a cluster of one within a test, for what is built above a member.
package solo

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"keelson/internal/config"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/server"
)

// patience is far above what a start or a stop takes.
const patience = 30 * time.Second

// Start gives a member that serves, in a directory of its own, with further flags. It stops when the test ends, after what
// was registered later.
func Start(t testing.TB, flags ...string) *server.Member {
	t.Helper()
	args := append([]string{"--data-dir", t.TempDir(), "--heartbeat-interval", "10", "--election-timeout", "100", "--unsafe-no-fsync", "--bcrypt-cost", "4"}, flags...)
	cfg, _, err := config.Parse(args, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := server.New(cfg, server.Deps{
		FS: vfs.OS, Clock: clock.System, Logger: zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)), Caller: nobody{},
		Network: func(server.NetworkParams) server.Network { return nobody{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := m.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-m.Ready():
	case <-m.Failed():
		t.Fatal(m.Err())
	case <-time.After(patience):
		t.Fatal("the member is not ready")
	}
	return m
}

var errNobody = errors.New("nobody there")

// nobody is a network and a way to call others where there are none.
type nobody struct{}

func (nobody) Send([]*raftpb.Message)       {}
func (nobody) AddPeer(uint64, []string)     {}
func (nobody) UpdatePeer(uint64, []string)  {}
func (nobody) RemovePeer(uint64)            {}
func (nobody) ActiveSince(uint64) time.Time { return time.Time{} }
func (nobody) Stop()                        {}

func (nobody) LeaseRenew(context.Context, []string, int64) (int64, error) { return 0, errNobody }

func (nobody) LeaseTimeToLive(context.Context, []string, *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return nil, errNobody
}

func (nobody) Version(context.Context, []string) (string, string, error) { return "", "", errNobody }

func (nobody) HashKV(context.Context, []string, uint64, int64) (*pb.HashKVResponse, error) {
	return nil, errNobody
}

func (nobody) Members(context.Context, []string) ([]server.PeerMember, uint64, error) {
	return nil, 0, errNobody
}

func (nobody) DowngradeEnabled(context.Context, []string) (bool, error) { return false, errNobody }

func (nobody) Promote(context.Context, []string, uint64, string) ([]server.PeerMember, error) {
	return nil, errNobody
}
