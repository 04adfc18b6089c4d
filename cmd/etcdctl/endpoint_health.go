package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

const endpointHealthHelp = `Asks each endpoint for a linearizable read, which needs a leader and a majority, and for alarms. Exit status 1 where one is
not healthy.`

// The key that a health check reads; it need not exist.
const healthKey = "health"

func endpointHealthCommand(e *endpoints) *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Checks that each endpoint can commit",
		Long:  endpointHealthHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.prepare(cmd, nil)
			if err != nil {
				return err
			}
			list, err := e.list()
			if err != nil {
				return err
			}
			answers := e.checkAll(list)
			if err := c.Print(answers); err != nil {
				return printed(err)
			}
			for _, h := range answers {
				if h.Error != "" {
					return &exitError{status: statusError, err: errors.New("unhealthy cluster"), hint: e.ill(answers)}
				}
			}
			return nil
		},
	}
}

// checkAll asks all of list at once; the answers stand in its order.
func (e *endpoints) checkAll(list []string) []output.Health {
	if len(list) == 0 {
		return nil
	}
	answers := make([]output.Health, len(list))
	var wg sync.WaitGroup
	for i, ep := range list {
		wg.Go(func() { answers[i] = e.check(ep) })
	}
	wg.Wait()
	return answers
}

func (e *endpoints) check(endpoint string) output.Health {
	h := output.Health{Endpoint: endpoint}
	c, err := e.client([]string{endpoint})
	if err != nil {
		h.Error = err.Error()
		return h
	}
	defer closeQuietly(c)
	ctx, cancel := e.timed()
	defer cancel()
	begin := time.Now()
	_, err = c.Get(ctx, healthKey)
	h.Took = time.Since(begin).String()
	// a refusal for want of permission went through consensus too
	if err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied) {
		h.Error = err.Error()
		return h
	}
	h.Error = alarmsOf(ctx, c)
	h.Healthy = h.Error == ""
	return h
}

// alarmsOf names the alarms that are raised, "" where there is none.
func alarmsOf(ctx context.Context, c *clientv3.Client) string {
	r, err := c.AlarmList(ctx)
	if err != nil {
		return "Unable to fetch the alarm list"
	}
	if len(r.Alarms) == 0 {
		return ""
	}
	text := "Active Alarm(s): "
	for _, alarm := range r.Alarms {
		switch alarm.Alarm {
		case pb.AlarmType_NOSPACE:
			text += "NOSPACE "
		case pb.AlarmType_CORRUPT:
			text += "CORRUPT "
		default:
			text += "UNKNOWN "
		}
	}
	return text
}

// ill says what is wrong with the endpoints that gave no answer.
func (e *endpoints) ill(answers []output.Health) string {
	var silent []string
	for _, h := range answers {
		if h.Error == context.DeadlineExceeded.Error() {
			silent = append(silent, h.Endpoint)
		}
	}
	if len(silent) == 0 {
		return ""
	}
	return e.hint(context.DeadlineExceeded, silent)
}
