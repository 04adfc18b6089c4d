package compat

import (
	"fmt"
	"strings"
	"testing"

	"keelson/test/process"
)

// authWalk is what a person does with users, from none to authentication that is on and off again. A | parts the arguments
// from the input; a pair of single quotes is an argument of nothing.
var authWalk = []string{
	"auth status", "auth enable", "user add root|rootpw\nrootpw\n", "user list", "user get root", "user add root:again", "role get root",
	"auth enable", "auth status", "--user=root:rootpw auth status", "--user=root:rootpw auth status -w json", "--user=root:rootpw auth status -w fields", "put a b", "get a",
	"--user=root:wrong get a", "--user=nobody:x get a", "--user=root get a|rootpw\n", "--user=root get a|wrong\n", "--user=root --password=rootpw put a b",
	"--user=root: get a", "--auth-jwt-token=nonsense get a", "--user=root:rootpw role get root", "--user=root:rootpw role get root -w json",
	"--user=root:rootpw role add app", "--user=root:rootpw role add app", "--user=root:rootpw role add ''", "--user=root:rootpw role list",
	"--user=root:rootpw role grant-permission app readwrite /app/ --prefix", "--user=root:rootpw role grant-permission app read one", "--user=root:rootpw role grant-permission app write from --from-key",
	"--user=root:rootpw role grant-permission app read c b", "--user=root:rootpw role grant-permission app read a b", "--user=root:rootpw role grant-permission nothing read a",
	"--user=root:rootpw role grant-permission app read ''", "--user=root:rootpw role grant-permission app readwrite a b", "--user=root:rootpw role grant-permission app read '' --prefix",
	"--user=root:rootpw role get app", "--user=root:rootpw role get app -w json", "--user=root:rootpw role get app -w fields", "--user=root:rootpw role get app -w protobuf", "--user=root:rootpw role get app -w table",
	"--user=root:rootpw role revoke-permission app '' --prefix", "--user=root:rootpw role revoke-permission app a b", "--user=root:rootpw role revoke-permission app a b", "--user=root:rootpw role revoke-permission app one",
	"--user=root:rootpw role revoke-permission app from --from-key", "--user=root:rootpw role get app", "--user=root:rootpw role get nothing",
	"--user=root:rootpw user add ann --interactive=false|annpw", "--user=root:rootpw user add bob:bobpw", "--user=root:rootpw user add bob:bobpw", "--user=root:rootpw user add carol --no-password", "--user=root:rootpw user add ''  --no-password",
	"--user=root:rootpw user add dora --new-user-password=x", "--user=root:rootpw user add eve --interactive=false", "--user=root user add fay|fay\nfay\nrootpw\n", "--user=root:rootpw user list", "--user=root:rootpw user list -w json", "--user=root:rootpw user list -w table",
	"--user=ann:annpw put /app/x 1", "--user=ann:annpw get --prefix /app/", "--user=root:rootpw user grant-role ann app", "--user=root:rootpw user grant-role ann app", "--user=root:rootpw user grant-role ann nothing", "--user=root:rootpw user grant-role nobody app",
	"--user=ann:annpw put /app/x 1", "--user=ann:annpw get --prefix /app/", "--user=ann:annpw get /app/x", "--user=ann:annpw put /other 1", "--user=ann:annpw get / --prefix", "--user=ann:annpw del /app/x", "--user=ann:annpw del --prefix /",
	"--user=ann:annpw txn|\nput /app/y 2\n\nput /other 1\n\n", "--user=ann:annpw txn|\nput /app/y 2\nget /app/y\n\n\n", "--user=ann:annpw watch /other|", "--user=ann:annpw member list", "--user=ann:annpw user list", "--user=ann:annpw role list", "--user=ann:annpw user get ann", "--user=ann:annpw user get bob", "--user=ann:annpw role get app",
	"--user=ann:annpw user get ann --detail", "--user=root:rootpw user get ann --detail", "--user=root:rootpw user get ann", "--user=root:rootpw user get ann -w fields", "--user=root:rootpw user get nobody", "--user=root:rootpw user get carol", "--user=carol:x get /app/x",
	"--user=ann:annpw compaction 2", "--user=ann:annpw defrag", "--user=ann:annpw alarm list", "--user=ann:annpw alarm disarm", "--user=ann:annpw move-leader 1", "--user=ann:annpw endpoint hashkv", "--user=ann:annpw lease grant 100 -w json", "--user=ann:annpw lease list", "--user=ann:annpw lock /other", "--user=ann:annpw elect /other x", "--user=ann:annpw snapshot save /nonexistent/x",
	"--user=ann:annpw endpoint health -w fields", "--user=bob:bobpw endpoint health -w fields", "endpoint health -w fields", "--user=root:rootpw endpoint health -w fields", "--user=root:rootpw endpoint health --cluster -w fields", "endpoint hashkv", "member list", "--user=ann:annpw check datascale --load=s",
	"--user=ann:annpw user passwd ann --interactive=false|newpw", "--user=root:rootpw user passwd ann|new\nold\n", "--user=root:rootpw user passwd ann|newpw\nnewpw\n", "--user=root:rootpw user passwd nobody --interactive=false|x", "--user=ann:annpw get /app/x", "--user=ann:newpw get /app/x", "--user=root:rootpw user passwd ann --interactive=false",
	"--user=root:rootpw user revoke-role ann app", "--user=root:rootpw user revoke-role ann app", "--user=root:rootpw user revoke-role nobody app", "--user=ann:newpw get /app/x", "--user=root:rootpw user revoke-role root root", "--user=root:rootpw user delete root", "--user=root:rootpw role delete root",
	"--user=root:rootpw user grant-role ann app", "--user=root:rootpw role delete app", "--user=root:rootpw role delete app", "--user=root:rootpw user get ann", "--user=root:rootpw user delete ann", "--user=root:rootpw user delete ann", "--user=ann:newpw get a",
	"auth disable", "--user=bob:bobpw auth disable", "--user=root:rootpw auth disable", "--user=root:rootpw auth disable", "auth status -w protobuf", "--user=nobody:x get a", "get a", "role delete root", "user delete root", "auth enable", "user list",
}

// The walk reads the same by our etcdctl and by etcd's, and against our member and etcd's: what is printed, where to, and how
// it ends. That of etcd 3.4 sees no difference between the two either.
func TestAuthCommands(t *testing.T) {
	t.Parallel()
	our, theirs := ours(t), stock(t, "etcd37")
	m := single(t, theirs, "--bcrypt-cost=4")
	walk := func(ctl, server process.Program) []string {
		m.Dir = t.TempDir()
		m.With(server).Serve()
		defer m.Stop()
		return walkAuth(t, ctl, m)
	}
	want := walk(theirs, theirs)
	for _, x := range []struct{ ctl, server process.Program }{{our, theirs}, {theirs, our}} {
		t.Run(x.ctl.Name+" asks "+x.server.Name, func(t *testing.T) { agree(t, walk(x.ctl, x.server), want) })
	}
	old := stock(t, "etcd34")
	t.Run("etcd34 asks both", func(t *testing.T) { agree(t, walk(old, our), walk(old, theirs)) })
}

func walkAuth(t *testing.T, p process.Program, m *process.Member) (all []string) {
	t.Helper()
	for _, line := range authWalk {
		words, input, _ := strings.Cut(line, "|")
		args := strings.Fields(words)
		for i, a := range args {
			args[i] = strings.ReplaceAll(a, "''", "")
		}
		o := process.Tool(t, p.Path("etcdctl"), input, append(process.CtlTimes(args...), "ETCDCTL_ENDPOINTS=http://"+m.ClientAddr), args...)
		var told []string
		for l := range strings.Lines(o.Stderr) {
			if l != "\n" && !strings.HasPrefix(l, "{") && !strings.HasPrefix(l, "stty: ") && !strings.HasPrefix(l, "Hint:") && !strings.HasPrefix(l, "      ") {
				told = append(told, l)
			}
		}
		all = append(all, moving.ReplaceAllString(stable(fmt.Sprintf("etcdctl %s\nstatus %d\n%s%s", line, o.Status, o.Stdout, strings.Join(told, ""))), " "))
	}
	return all
}
