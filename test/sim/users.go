package sim

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/server"
	"keelson/internal/state/auth"
)

// byRoot is the context of whoever asks members for anything: root, once there are users.
func byRoot() context.Context { return auth.Itself(context.Background()) }

// introduce gives the cluster users while it works, by any member, again and again until one of them has enabled auth, or
// the time is over. What was done by an attempt that failed is no obstacle to the next.
func introduce(c *cluster, until time.Time) {
	for time.Now().Before(until) {
		time.Sleep(100 * time.Millisecond)
		for _, l := range c.serving() {
			ctx, cancel := context.WithTimeout(byRoot(), time.Second)
			err := enableAuth(ctx, l.member)
			cancel()
			c.journal.add(l.node.name, "enable auth: %v", err)
			if err == nil {
				return
			}
		}
	}
}

func enableAuth(ctx context.Context, m *server.Member) error {
	_, err := m.UserAdd(ctx, &pb.AuthUserAddRequest{Name: auth.RootUser, Password: "root"})
	if err != nil && !errors.Is(err, auth.ErrUserExists) {
		return err
	}
	if _, err := m.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: auth.RootUser, Role: auth.RootRole}); err != nil {
		return err
	}
	_, err = m.AuthEnable(ctx, &pb.AuthEnableRequest{})
	return err
}
