package output

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// table draws members and endpoints as a table with borders. Other answers have no table.
type table struct{}

func (table) refuse(answer any) error {
	switch answer.(type) {
	case *clientv3.MemberListResponse, []Health, []Status, []HashKV:
		return nil
	}
	return unsupported("table")
}

func (table) lay(w *bufio.Writer, answer any) error {
	switch r := answer.(type) {
	case *clientv3.MemberListResponse:
		return draw(w, memberRows(r), "ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner")
	case []Health:
		return draw(w, healthRows(r), "endpoint", "health", "took", "error")
	case []Status:
		return draw(w, statusRows(r), "endpoint", "ID", "version", "storage version", "db size", "in use",
			"percentage not in use", "quota", "is leader", "is learner", "raft term", "raft index",
			"raft applied index", "errors", "downgrade target version", "downgrade enabled")
	case []HashKV:
		return draw(w, hashRows(r), "endpoint", "hash", "hash_revision")
	}
	return unsupported("table")
}

func draw(w *bufio.Writer, rows [][]string, head ...string) error {
	config := tablewriter.NewConfigBuilder().WithRowAlignment(tw.AlignRight).Build()
	t := tablewriter.NewTable(w, tablewriter.WithConfig(config))
	t.Header(head)
	for _, row := range rows {
		if err := t.Append(row); err != nil {
			return fmt.Errorf("output: add a row to the table: %w", err)
		}
	}
	if err := t.Render(); err != nil {
		return fmt.Errorf("output: draw the table: %w", err)
	}
	return nil
}

func memberRows(r *clientv3.MemberListResponse) (rows [][]string) {
	for _, m := range r.Members {
		state := "started" // a member tells its name when it first starts
		if m.Name == "" {
			state = "unstarted"
		}
		rows = append(rows, []string{
			fmt.Sprintf("%x", m.ID), state, m.Name,
			strings.Join(m.PeerURLs, ","), strings.Join(m.ClientURLs, ","), strconv.FormatBool(m.IsLearner),
		})
	}
	return rows
}

func healthRows(hs []Health) (rows [][]string) {
	for _, h := range hs {
		rows = append(rows, []string{h.Endpoint, strconv.FormatBool(h.Healthy), h.Took, h.Error})
	}
	return rows
}

func statusRows(ss []Status) (rows [][]string) {
	for _, s := range ss {
		r := (*pb.StatusResponse)(s.Response)
		rows = append(rows, []string{
			s.Endpoint,
			fmt.Sprintf("%x", r.GetHeader().GetMemberId()),
			r.GetVersion(),
			r.GetStorageVersion(),
			humanize.Bytes(uint64(r.GetDbSize())),
			humanize.Bytes(uint64(r.GetDbSizeInUse())),
			fmt.Sprintf("%d%%", percentUnused(r.GetDbSize(), r.GetDbSizeInUse())),
			humanize.Bytes(uint64(r.GetDbSizeQuota())),
			strconv.FormatBool(r.GetLeader() == r.GetHeader().GetMemberId()),
			strconv.FormatBool(r.GetIsLearner()),
			strconv.FormatUint(r.GetRaftTerm(), 10),
			strconv.FormatUint(r.GetRaftIndex(), 10),
			strconv.FormatUint(r.GetRaftAppliedIndex(), 10),
			strings.Join(r.GetErrors(), ", "),
			r.GetDowngradeInfo().GetTargetVersion(),
			strconv.FormatBool(r.GetDowngradeInfo().GetEnabled()),
		})
	}
	return rows
}

// percentUnused rounds the used part down, as etcd does. A database of no bytes has nothing unused.
func percentUnused(size, used int64) int64 {
	if size == 0 {
		return 0
	}
	return 100 - used*100/size
}

func hashRows(hs []HashKV) (rows [][]string) {
	for _, h := range hs {
		rows = append(rows, []string{
			h.Endpoint,
			strconv.FormatUint(uint64(h.Response.Hash), 10),
			strconv.FormatInt(h.Response.HashRevision, 10),
		})
	}
	return rows
}
