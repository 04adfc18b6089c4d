package compat

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
	"keelson/test/process"
)

// underAlarm are calls of every kind, sent while an alarm is raised.
func underAlarm() []proto.Message {
	return []proto.Message{
		&pb.PutRequest{Key: b("a"), Value: b("2")}, &pb.PutRequest{Key: b("a"), IgnoreValue: true, Lease: 404}, &pb.PutRequest{},
		&pb.RangeRequest{Key: b("a")}, &pb.RangeRequest{Key: b("a"), RangeEnd: b("z"), Serializable: true}, &pb.RangeRequest{Key: b("a"), Revision: 999},
		&pb.TxnRequest{}, &pb.TxnRequest{Success: []*pb.RequestOp{opGet(&pb.RangeRequest{Key: b("a")})}}, &pb.TxnRequest{Success: []*pb.RequestOp{opPut("a", "3")}}, &pb.TxnRequest{Failure: []*pb.RequestOp{opPut("a", "3")}},
		&pb.TxnRequest{Success: []*pb.RequestOp{opTxn(&pb.TxnRequest{Failure: []*pb.RequestOp{opPut("a", "3")}})}}, &pb.TxnRequest{Success: []*pb.RequestOp{opDel("c", "")}}, &pb.TxnRequest{Success: []*pb.RequestOp{opDel("c", ""), opGet(&pb.RangeRequest{Key: b("a")})}, Failure: []*pb.RequestOp{opDel("d", "")}},
		&pb.TxnRequest{Compare: []*pb.Compare{version("a", "", pb.Compare_GREATER, 0)}, Success: []*pb.RequestOp{opDel("d", "")}, Failure: []*pb.RequestOp{opPut("d", "")}},
		&pb.DeleteRangeRequest{Key: b("b")}, &pb.DeleteRangeRequest{Key: b("none")}, &pb.CompactionRequest{Revision: 3}, &pb.CompactionRequest{Revision: 4, Physical: true}, &pb.CompactionRequest{Revision: 99},
		&pb.LeaseGrantRequest{ID: 8, TTL: 600}, &pb.LeaseGrantRequest{TTL: 9000000001}, &pb.LeaseTimeToLiveRequest{ID: 7}, &pb.LeaseLeasesRequest{}, &pb.LeaseKeepAliveRequest{ID: 7}, &pb.LeaseRevokeRequest{ID: 7}, &pb.LeaseRevokeRequest{ID: 404},
		&pb.HashKVRequest{}, &pb.MemberListRequest{Linearizable: true}, &lockpb.LockRequest{Name: b("l"), Lease: 7}, &lockpb.UnlockRequest{Key: b("l/7")}, &electionpb.CampaignRequest{Name: b("e"), Lease: 7}, &electionpb.LeaderRequest{Name: b("e")},
	}
}

func alarm(do pb.AlarmRequest_AlarmAction, member uint64, kind pb.AlarmType) *pb.AlarmRequest {
	return &pb.AlarmRequest{Action: do, MemberID: member, Alarm: kind}
}

// alarmCalls raise, list and clear alarms. Members 5 and 6 are made up, as an alarm's may be.
func alarmCalls(s *services, kinds []pb.AlarmType, probe func() []string) (all []string) {
	const get, on, off = pb.AlarmRequest_GET, pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE
	ask := func(r *pb.AlarmRequest) {
		resp, err := s.Alarm(s.ctx, r)
		slices.SortFunc(resp.GetAlarms(), func(a, b *pb.AlarmMember) int { return strings.Compare(a.String(), b.String()) })
		all = append(all, fmt.Sprintf("%v\n  %s", r, show(resp, err)))
	}
	for _, kind := range kinds {
		ask(alarm(on, 5, kind))
		ask(alarm(on, 5, kind))
		ask(alarm(on, 6, kind))
		ask(alarm(get, 0, kind))
	}
	ask(alarm(on, 5, pb.AlarmType_NONE))
	ask(alarm(get, 0, pb.AlarmType_NONE))
	ask(alarm(get, 5, pb.AlarmType_CORRUPT))
	ask(alarm(get, 0, 9))
	ask(alarm(off, 5, pb.AlarmType_NONE))
	ask(alarm(off, 77, kinds[0]))
	all = append(all, probe()...)
	for _, r := range underAlarm() {
		all = append(all, fmt.Sprintf("%v: %T %.200s\n  %s", kinds, r, show(r, nil), s.young(show(s.send(r)))))
	}
	defragmented, err := s.Defragment(s.ctx, &pb.DefragmentRequest{})
	all = append(all, "defragment: "+show(defragmented, err))
	for _, kind := range kinds {
		ask(alarm(off, 5, kind))
		ask(alarm(off, 6, kind))
		ask(alarm(off, 6, kind))
	}
	ask(alarm(get, 0, pb.AlarmType_NONE))
	return append(all, probe()...)
}

var alarmNumber = regexp.MustCompile(`memberID:\d+ +alarm:\w+ *`)

// probes are what whoever watches over the member sees.
func probes(t *testing.T, m *process.Member, s *services) (all []string) {
	t.Helper()
	st, err := s.Status(s.ctx, &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range st.Errors {
		st.Errors[i] = alarmNumber.ReplaceAllStringFunc(e, func(s string) string { return strings.Join(strings.Fields(s), " ") })
	}
	slices.Sort(st.Errors)
	all = append(all, fmt.Sprintf("status: %q, quota %d", st.Errors, st.DbSizeQuota))
	for _, path := range []string{"/health?exclude=NOSPACE", "/health?exclude=CORRUPT", "/health?exclude=NOSPACE&exclude=CORRUPT", "/livez", "/readyz", "/readyz?verbose", "/readyz/data_corruption", "/health"} {
		if path == "/health" && len(st.Errors) > 2 {
			continue // it names one of several alarms: in etcd, any
		}
		body, err := m.HTTP(path)
		if err != nil {
			body = strings.Replace(err.Error(), ": ", ":\n", 1)
		}
		lines := strings.Split(body, "\n")
		slices.Sort(lines) // etcd's checks come out of a map
		all = append(all, path+": "+strings.Join(lines, "\n"))
	}
	return all
}

// Alarms of each kind are raised, listed and cleared as in etcd 3.7.3, and while they are, every call is answered and refused as
// there, and health tells the same.
func TestAlarms(t *testing.T) {
	t.Parallel()
	for name, kinds := range map[string][]pb.AlarmType{
		"nospace": {pb.AlarmType_NOSPACE}, "corrupt": {pb.AlarmType_CORRUPT}, "both": {pb.AlarmType_CORRUPT, pb.AlarmType_NOSPACE}, "unknown": {17},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, want := twins(t, func(m *process.Member) []string {
				s := reach(t, m)
				for _, key := range []string{"a", "b", "c", "d"} {
					if _, err := s.Put(s.ctx, &pb.PutRequest{Key: b(key), Value: b("1")}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := s.LeaseGrant(s.ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 600}); err != nil {
					t.Fatal(err)
				}
				return alarmCalls(s, kinds, func() []string { return probes(t, m, s) })
			})
			agree(t, got, want)
		})
	}
}
