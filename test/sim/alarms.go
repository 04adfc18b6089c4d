package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/server"
)

// alarmSpan is a time in which the NOSPACE alarm was raised for sure: nothing that grows the store may begin and be
// acknowledged in it. Both are places in the order of all invocations and returns.
type alarmSpan struct{ from, to int64 }

// alarm raises the NOSPACE alarm of some member.
func (n *nemesis) alarm(l *life) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	all := n.cluster.alive()
	of := all[n.r.IntN(len(all))].member.ID()
	_, err := l.member.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: of, Alarm: pb.AlarmType_NOSPACE})
	n.cluster.journal.add(l.node.name, "alarm for %x raised: %v", of, err)
	if err == nil && !l.dead.Load() {
		n.alarms = append(n.alarms, &alarmSpan{n.record.tick(), math.MaxInt64})
	}
}

// disarm clears all alarms there are. Clients could do little else while one is raised: it is called often.
func (n *nemesis) disarm() {
	all := n.cluster.serving()
	if len(all) == 0 {
		return
	}
	l := all[n.r.IntN(len(all))]
	if len(l.member.Alarms()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	now := n.record.tick()
	for _, s := range n.alarms {
		if !n.cluster.plan.Faults.SecretDisarm {
			s.to = min(s.to, now)
		}
	}
	list, err := l.member.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	if err != nil {
		n.cluster.journal.add(l.node.name, "alarms: %v", err)
		return
	}
	for _, a := range list.Alarms {
		if a.Alarm == pb.AlarmType_CORRUPT && n.cluster.plan.Faults == (Faults{}) {
			n.cluster.fail("%w: %v, though nothing was damaged", ErrAlarm, a)
		}
		_, err := l.member.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: a.MemberID, Alarm: a.Alarm})
		n.cluster.journal.add(l.node.name, "alarm %v cleared: %v", a, err)
	}
}

// checkAlarms finds writes that a raised alarm should have refused.
func (o *Outcome) checkAlarms() error {
	for _, w := range o.record.ops {
		if !w.known || w.kind != opPut && (w.kind != opSwap || !w.done) {
			continue
		}
		for _, s := range o.alarms {
			if w.call > s.from && w.end < s.to {
				return fmt.Errorf("%w: %v, with the alarm raised from %d to %d", ErrAlarm, w, s.from, s.to)
			}
		}
	}
	return nil
}

// refusedForSpace tells, of a request that can't grow the store, whether it was refused for want of space.
func refusedForSpace(err error) error {
	if errors.Is(err, server.ErrNoSpace) {
		return fmt.Errorf("%w: refused, though it grows nothing: %w", ErrAlarm, err)
	}
	return nil
}
