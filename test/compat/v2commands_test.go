package compat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keelson/test/process"
)

// v2Walk is what a person does with the v2 API by etcdctl. A | parts the arguments from the input, single quotes hold words
// together, and $+N is the index N behind that of the first command.
var v2Walk = []string{
	"-o extended set /base x",
	"set /a 1", "get /a", "-o extended get /a", "-o json get /a", "get /none", "-o json get /none", "get --quorum /a", "set /a|from the input", "get a", "set /a -- -1", "set / 1", "set /d/ 1",
	"mk /a 1", "mk /b 1", "mk /b 2", "mk --ttl 1000 /c 1", "-o extended get /c", "-o json get /c", "update /none 1", "update /b 2", "update /b 3 --ttl 1000", "-o extended get /b", "update /b 4", "-o extended get /b",
	"set /a 2 --swap-with-value 1", "set /a 2 --swap-with-value=-1", "set /a 3 --swap-with-index 1", "set /none 3 --swap-with-index 1", "set /none 3 --swap-with-value x", "-o extended set /a 4",
	"mkdir /dir", "mkdir /dir", "-o extended mkdir /dir2", "-o json mkdir /dir3 --ttl 1000", "set /dir 1", "get /dir", "set /dir/one 1", "set /dir/two/three 3", "set /a/b 1", "setdir /dir", "setdir /dir --ttl 1000", "-o json setdir /dir4", "setdir /a",
	"updatedir /none", "updatedir /dir --ttl 900", "-o json ls /dir3", "updatedir /dir3", "-o extended updatedir /dir3 --ttl 0", "updatedir /a --ttl 1000",
	"ls --sort", "ls --sort -p", "ls --sort --recursive -p /dir", "ls /dir/one", "ls /none", "ls /dir2", "-o json ls --sort --recursive /dir", "-o extended ls --sort /dir", "set /_hidden x", "set /dir/_hidden x", "ls --sort", "get /_hidden", "ls --sort /dir",
	"mk --in-order /queue one", "mk --in-order /queue two", "-o json mk --in-order /queue three --ttl 1000", "ls --sort /queue", "mk --in-order /a x",
	"rm /dir", "rmdir /dir", "rmdir /dir2", "rm --dir /dir3", "-o json rm --dir /dir4", "rm /none", "rmdir /none", "rm /b --with-value wrong", "rm /b --with-index 1", "rm /b --with-value 4", "-o extended rm /c", "rm --recursive /dir/two", "rm -r /queue", "-o json rm --recursive /dir", "rm -r /", "rmdir /", "rmdir /a",
	"set /w 1", "set /w 2", "rm /w", "set /w/x 3", "watch --after-index $+1 /a", "-o json watch --after-index $+1 /a", "-o extended watch --after-index $+1 -r /", "watch --recursive --after-index $+5 /w", "-o json watch --after-index $+5 /w", "watch --after-index $+1 /_hidden",
	"set /once 1", `exec-watch --after-index=$+1 --recursive /once -- sh -c 'echo $ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE; kill -INT $PPID'`,
	"get", "set", "set /a", "mk", "rm", "rmdir", "ls --nosuch", "nosuch", "get --nosuch /a", "set /a 1 --ttl x", "-o yaml get /a", "--debug get /a", "--debug --no-sync set /a 'x y'", "--debug rm /none", "--debug user list", "--debug cluster-health", "--endpoints http://$DOWN get /a", "--endpoints http://$DOWN cluster-health", "--no-sync get /a", "--timeout 11s --total-timeout 12s get /a",
	"cluster-health", "member list", "member remove $NAME", "member remove 1", "member remove xyz", "member update $ID http://127.0.0.1:7777", "member list", "member update $ID $PEER", "member update 1 http://127.0.0.1:7777", "member update xyz http://127.0.0.1:7777", "member update $ID nonsense", "member list",
	"member add x $PEER", "member add x http://127.0.0.1:1",
}

// v2AuthWalk is what a person does with the v2 API's users, from none to none again.
var v2AuthWalk = []string{
	"-o extended set /base x",
	"auth enable", "user list", "role list", "user add root:rootpw", "user list", "user get root", "role get root", "role get guest", "auth disable", "auth enable", "auth enable",
	"user list", "--username root:rootpw user list", "--username root:wrong user list", "--username nobody:x user list", "--username root user list|rootpw", "get /base", "set /base y", "--username root:rootpw set /base y", "--username root:wrong get /base",
	"-u root:rootpw user add ann:annpw", "-u root:rootpw user add ann:annpw", "-u root:rootpw user add bob|bobpw", "-u root:rootpw user add :pw", "-u root:rootpw user add empty:", "-u root:rootpw user get ann", "-u root:rootpw user get nobody", "-u root:rootpw user list",
	"-u root:rootpw role add app", "-u root:rootpw role add app", "-u root:rootpw role add root", "-u root:rootpw role add guest", "-u root:rootpw role list", "-u root:rootpw role get app", "-u root:rootpw role get none",
	"-u root:rootpw role grant app --path /app/* --readwrite", "-u root:rootpw role grant app --path /one --read", "-u root:rootpw role grant app --path /one --read", "-u root:rootpw role grant app --path /two --write", "-u root:rootpw role grant none --path /two --write", "-u root:rootpw role grant root --path /two --write", "-u root:rootpw role get app",
	"-u root:rootpw user grant ann --roles app", "-u root:rootpw user grant ann --roles app", "-u root:rootpw user grant ann --roles none", "-u root:rootpw user grant nobody --roles app", "-u root:rootpw user grant bob --roles app --roles root", "-u root:rootpw user get ann", "-u root:rootpw user get bob", "-u root:rootpw user list",
	"-u ann:annpw set /app/x 1", "-u ann:annpw get /app/x", "-u ann:annpw ls /app", "-u ann:annpw get /one", "-u ann:annpw set /one 1", "-u ann:annpw set /two 1", "-u ann:annpw get /two", "-u ann:annpw ls /", "-u ann:annpw rm /app/x", "-u ann:wrong get /app/x", "-u ann:annpw user list", "-u ann:annpw role list", "-u ann:annpw auth disable", "-u ann:annpw member list", "-u bob:bobpw user list",
	"-u root:rootpw role grant guest --path /* --read", "-u root:rootpw role revoke guest --path /* --write", "-u root:rootpw role get guest", "get /base", "set /base z", "-o json set /base z",
	"-u root:rootpw role revoke guest --path /* --readwrite", "get /base", "-o json get /base", "-u root:rootpw role revoke app --path /one --read", "-u root:rootpw role revoke app --path /one --read", "-u root:rootpw role get app",
	"-u root:rootpw user passwd ann|new", "-u ann:annpw get /app/x", "-u ann:new get /app/x", "-u root:rootpw user passwd nobody|new", "-u root:rootpw user revoke ann --roles app", "-u root:rootpw user revoke ann --roles app", "-u root:rootpw user get ann", "-u ann:new get /app/x", "-u root:rootpw user revoke root --roles root",
	"-u root:rootpw user remove root", "-u root:rootpw user remove ann", "-u root:rootpw user remove ann", "-u root:rootpw role remove app", "-u root:rootpw role remove app", "-u root:rootpw role remove root", "-u root:rootpw role remove guest",
	"auth disable", "-u root:rootpw auth disable", "-u root:rootpw auth disable", "-u nobody:x get /base", "user list", "role list", "user remove root",
}

// Both walks read the same whichever etcdctl asks whichever member: what is printed, where to, and how it ends. Indexes count
// from that of the first command.
func TestV2Commands(t *testing.T) {
	t.Parallel()
	t.Run("keys and members", func(t *testing.T) { v2Walks(t, v2Walk, false) })
	// What users and roles cost in indexes is nobody's affair.
	t.Run("users and roles", func(t *testing.T) { v2Walks(t, v2AuthWalk, true) })
}

// Ctrl-C ends what waits, and is a good end.
func TestV2Interrupt(t *testing.T) {
	t.Parallel()
	m := single(t, ours(t), "--enable-v2").Serve()
	to, err := url.Parse(m.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	// Who asks for what it waits for has begun to listen to signals.
	asked := make(chan struct{}, 100)
	pass := httputil.NewSingleHostReverseProxy(to)
	pass.ErrorLog = log.New(io.Discard, "", 0) // interrupted requests are no news
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("wait") == "true" || r.URL.Path == "/v2/members" {
			asked <- struct{}{}
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(door.Close)
	for _, p := range []process.Program{ours(t), stock(t, "etcd34")} {
		for _, line := range []string{"watch --forever /a", "watch /a", "exec-watch --recursive /a -- echo", "cluster-health --forever"} {
			for len(asked) > 0 {
				<-asked
			}
			var stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), p.Path("etcdctl"), append([]string{"--no-sync"}, strings.Fields(line)...)...)
			cmd.Env, cmd.Stderr = append(process.Environ(), "ETCDCTL_API=2", "ETCDCTL_ENDPOINTS="+door.URL), &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-asked:
				err = cmd.Process.Signal(os.Interrupt)
			case <-time.After(process.Patience):
				err = errors.Join(errors.New("it asks for nothing"), cmd.Process.Kill())
			}
			if err := errors.Join(err, cmd.Wait()); err != nil || stderr.Len() > 0 {
				t.Errorf("%s's etcdctl %s ends with %v, and says %s", p.Name, line, err, &stderr)
			}
		}
	}
}

func v2Walks(t *testing.T, lines []string, indexless bool) {
	t.Parallel()
	our, theirs := ours(t), stock(t, "etcd34")
	m := single(t, theirs, "--enable-v2")
	walk := func(ctl, server process.Program) []string {
		m.Dir = t.TempDir()
		m.With(server).Serve()
		defer m.Kill()
		return walkV2(t, ctl, m, lines, indexless)
	}
	want := walk(theirs, theirs)
	for _, x := range []struct{ ctl, server process.Program }{{our, theirs}, {theirs, our}, {our, our}} {
		t.Run(x.ctl.Name+" asks "+x.server.Name, func(t *testing.T) { agree(t, walk(x.ctl, x.server), want) })
	}
}

func walkV2(t *testing.T, p process.Program, m *process.Member, lines []string, indexless bool) (all []string) {
	t.Helper()
	w := &v2Walker{m: m, indexless: indexless, down: process.FreeAddrs(t, 1)[0]}
	for _, line := range lines {
		words, input, _ := strings.Cut(line, "|")
		env := []string{"ETCDCTL_API=2", "ETCDCTL_ENDPOINTS=http://" + m.ClientAddr}
		if strings.HasPrefix(line, "-u root") {
			words = "--no-sync " + words // each request costs the member a bcrypt
		}
		// A watch that sees nothing would wait for ever.
		o := process.Tool(t, "timeout", input, env, append([]string{"60", p.Path("etcdctl")}, w.args(words)...)...)
		if w.base == 0 {
			w.first(t, o)
		}
		if strings.HasPrefix(line, "member list") {
			w.id, _, _ = strings.Cut(o.Stdout, ":")
		}
		all = append(all, w.equalize(fmt.Sprintf("etcdctl %s\nstatus %d\n%s%s", line, o.Status, o.Stdout, o.Stderr)))
	}
	return all
}

// v2Walker fills in and hides what differs from one member to the next.
type v2Walker struct {
	m         *process.Member
	down, id  string
	base      int  // the first command's index
	indexless bool // the others are not compared
}

var v2Ahead = regexp.MustCompile(`\$\+(\d+)`)

func (w *v2Walker) args(words string) (args []string) {
	words = v2Ahead.ReplaceAllStringFunc(words, func(s string) string {
		n, _ := strconv.Atoi(s[2:])
		return strconv.Itoa(w.base + n)
	})
	for i, part := range strings.Split(words, "'") {
		if i%2 == 1 {
			args = append(args, part)
			continue
		}
		args = append(args, strings.Fields(strings.NewReplacer("$DOWN", w.down, "$NAME", w.m.Name, "$ID", w.id, "$PEER", w.m.PeerURL()).Replace(part))...)
	}
	return args
}

var (
	v2First   = regexp.MustCompile(`(?m)^Modified-Index: (\d+)$`)
	v2Indexes = []*regexp.Regexp{
		regexp.MustCompile(`(?m)(^(?:Created-|Modified-)?Index: )(\d+)()`),
		regexp.MustCompile(`("(?:created|modified)Index":)(\d+)()`),
		regexp.MustCompile(`(?m)(\) \[)(\d+)(\]$)`),
		regexp.MustCompile(`(/)(\d{20})(\b)`),
		regexp.MustCompile(`(\[\d+ != )(\d+)(\])`),
	}
	v2Cluster    = regexp.MustCompile(`ETCD_INITIAL_CLUSTER="([^"]*)"`)
	v2HexID      = regexp.MustCompile(`\b[0-9a-f]{12,16}\b`)
	v2Stty       = regexp.MustCompile(`(?m)^stty: .*\n`) // of a prompt without a terminal
	v2Expiration = regexp.MustCompile(`"expiration":"[^"]*"`)
	v2TTL        = regexp.MustCompile(`(?m)(^TTL: |"ttl":)(\d{3,4})\b`) // 900 and 1000, less what the walk took since
)

func (w *v2Walker) first(t *testing.T, o process.Outcome) {
	t.Helper()
	found := v2First.FindStringSubmatch(o.Stdout)
	if found == nil {
		t.Fatalf("the first command prints no index: %+v", o)
	}
	w.base, _ = strconv.Atoi(found[1])
}

// equalize counts indexes from the first command's, and hides dates, the seconds that pass, and the help.
func (w *v2Walker) equalize(s string) string {
	for _, re := range v2Indexes {
		s = re.ReplaceAllStringFunc(s, func(match string) string {
			part := re.FindStringSubmatch(match)
			n, _ := strconv.Atoi(part[2])
			switch {
			case n < w.base:
				return match
			case w.indexless:
				return part[1] + "<I>" + part[3]
			}
			return fmt.Sprintf("%s+%d%s", part[1], n-w.base, part[3])
		})
	}
	s = v2Stty.ReplaceAllString(s, "")
	s = v2Expiration.ReplaceAllString(s, `"expiration":"<T>"`)
	s = v2TTL.ReplaceAllStringFunc(s, func(match string) string {
		parts := v2TTL.FindStringSubmatch(match)
		seconds, _ := strconv.Atoi(parts[2])
		return parts[1] + strconv.Itoa((seconds+99)/100*100)
	})
	if head, rest, help := strings.Cut(s, "\n\nNAME:"); help {
		_, last, _ := strings.Cut(rest, "\n   \n")
		s = head + "\n" + last
	} else if head, rest, help := strings.Cut(s, "\n\netcdctl "); help {
		_, last, _ := cutLast(rest, "\n  ")
		_, last, _ = strings.Cut(last, "\n")
		s = head + "\n" + last
	}
	s = v2Cluster.ReplaceAllStringFunc(s, func(match string) string {
		members := strings.Split(v2Cluster.FindStringSubmatch(match)[1], ",") // by their IDs, which chance makes
		slices.Sort(members)
		return fmt.Sprintf("ETCD_INITIAL_CLUSTER=%q", strings.Join(members, ","))
	})
	s = v2HexID.ReplaceAllString(s, "<ID>")
	return stable(strings.NewReplacer(w.down, "<DOWN>", w.m.ClientAddr, "<CLIENT>").Replace(s))
}

// cutLast cuts around the last place of a separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
