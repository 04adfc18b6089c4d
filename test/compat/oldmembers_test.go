package compat

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Versions up to 3.5 lived by the members in the .snap and the log; faults of theirs left others in the state file. Keelson
// believes the former and corrects the latter, which etcd 3.7.3 then believes.
func TestOldMembers(t *testing.T) {
	for name, flags := range map[string][]string{"from the log": nil, "from a .snap": {"--snapshot-count=60"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := single(t, stock(t, "etcd35"), flags...).Serve()
			write(t, m, 0)
			// One that was removed for good, and is put back into the file below.
			added, err := m.Client().MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:2"})
			if err != nil {
				t.Fatal(err)
			}
			zombie := added.Member.ID
			if _, err := m.Client().MemberRemove(t.Context(), zombie); err != nil {
				t.Fatal(err)
			}
			want := observe(t, m)
			m.Stop()
			db, err := bolt.Open(filepath.Join(m.Dir, "member", "snap", "db"), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = db.Update(func(tx *bolt.Tx) error {
				members := tx.Bucket([]byte("members"))
				own, text := members.Cursor().First()
				// A learner that was promoted (etcd #19557), a member that was removed and is known as that (#13196), and one
				// of which nothing else is left (#20967).
				back := fmt.Appendf(nil, `{"id":%d,"peerURLs":["http://127.0.0.1:2"],"name":"back"}`, zombie)
				if err := members.Put(strconv.AppendUint(nil, zombie, 16), back); err != nil {
					return err
				}
				changed := strings.Replace(string(text), `"peerURLs"`, `"isLearner":true,"peerURLs"`, 1)
				if err := members.Put(append([]byte(nil), own...), []byte(changed)); err != nil {
					return err
				}
				return members.Put([]byte("abcdef0123456789"), []byte(`{"id":12379813738877118345,"peerURLs":["http://127.0.0.1:1"],"name":"gone"}`))
			})
			if err != nil || db.Close() != nil {
				t.Fatal(err)
			}
			m.With(ours(t)).Serve()
			same(t, "a 3.5 directory with stray members", observe(t, m), want)
			if !strings.Contains(m.Log(), "the file is corrected") {
				t.Error("no word of the correction")
			}
			handOver(t, m, ends[1], stock(t, "etcd37"))
			if r, err := reach(t, m).MemberList(t.Context(), &pb.MemberListRequest{}); err != nil || len(r.Members) != 1 || r.Members[0].IsLearner {
				t.Errorf("etcd's members: %v %v", r, err)
			}
		})
	}
}
