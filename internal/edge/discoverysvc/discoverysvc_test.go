package discoverysvc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"keelson/internal/edge/rpc"
	"keelson/internal/kit/clock"
	"keelson/test/solo"
)

// patience is far above what any step here takes.
const patience = 30 * time.Second

// later is the machine's clock, put forward.
type later struct {
	clock.Clock
	by atomic.Int64
}

func (c *later) Now() time.Time { return c.Clock.Now().Add(time.Duration(c.by.Load())) }

// stopped is a clock that stands still.
type stopped struct{ clock.Clock }

func (stopped) Now() time.Time { return time.Unix(1<<30, 0) }

// newStore starts a member, which ends with the test, and gives what keeps tokens in it.
func newStore(t testing.TB) Store {
	t.Helper()
	m := solo.Start(t)
	services := rpc.NewServer(m, rpc.Options{MaxRequestBytes: 1 << 20, Registerer: prometheus.NewRegistry(), Clock: clock.System})
	t.Cleanup(func() {
		services.Stop()
		services.Close()
	})
	conn := services.InProcess()
	return Store{KV: pb.NewKVClient(conn), Lease: pb.NewLeaseClient(conn), Watch: pb.NewWatchClient(conn)}
}

// site is a service above a member of its own.
type site struct {
	t       testing.TB
	store   Store
	clock   *later
	service *Service
	url     string
	close   func()
}

// plenty is a rate that no test reaches.
const plenty = 1e6

func newSite(t testing.TB, change func(*Options)) *site {
	t.Helper()
	return siteOn(t, newStore(t), change)
}

// siteOn starts a service on a store; it ends with the test.
func siteOn(t testing.TB, store Store, change func(*Options)) *site {
	t.Helper()
	s := &site{t: t, store: store}
	o := Options{Advertise: "http://discovery.example:8087", Clock: &later{Clock: clock.System}, Rate: plenty, Timeout: patience}
	if change != nil {
		change(&o)
	}
	s.clock = o.Clock.(*later)
	s.service = New(store, o)
	web := httptest.NewServer(s.service)
	s.url = web.URL
	s.close = sync.OnceFunc(s.service.Close)
	t.Cleanup(func() {
		s.close()
		web.Close()
	})
	return s
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	event  event
}

// event is what of v2's answers is looked at.
type event struct {
	Action    string
	Node      eventNode
	ErrorCode int
	Cause     string
	Index     uint64
}

// eventNode is a node of it.
type eventNode struct {
	Key, Value   string
	Dir          bool
	TTL          int64
	CreatedIndex uint64
	Nodes        []eventNode
}

// ask sends a request; form, if there is one, is text such as "value=x".
func (s *site) ask(method, target, form string, more ...func(*http.Request)) answer {
	s.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form))
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, f := range more {
		f(r)
	}
	w := httptest.NewRecorder()
	s.service.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), body: w.Body.String()}
	if w.Header().Get("Content-Type") == "application/json" && a.body != "" {
		if err := json.Unmarshal(w.Body.Bytes(), &a.event); err != nil {
			s.t.Errorf("%s %s: %q: %v", method, target, a.body, err)
		}
	}
	return a
}

// want asks, and compares the status and v2's code for an error, 0 for none.
func (s *site) want(status, code int, method, target, form string, more ...func(*http.Request)) answer {
	s.t.Helper()
	a := s.ask(method, target, form, more...)
	if a.status != status || a.event.ErrorCode != code {
		s.t.Errorf("%s %s %.100s: %d %.300s\nnot %d with code %d", method, target, form, a.status, a.body, status, code)
	}
	return a
}

// token makes one, and gives its path.
func (s *site) token(size string) string {
	s.t.Helper()
	a := s.want(http.StatusOK, 0, "GET", "/new?size="+size, "")
	path, ok := strings.CutPrefix(a.body, "http://discovery.example:8087")
	if !ok || len(path) != 1+tokenDigits || !isToken(path[1:]) {
		s.t.Fatalf("/new answers %q", a.body)
	}
	return path
}

// register registers a member as etcd's own client does.
func (s *site) register(token, id string) answer {
	s.t.Helper()
	return s.want(http.StatusCreated, 0, "PUT", token+"/"+id+"?prevExist=false", url.Values{"value": {id + "=http://10.0.0.1:2380"}}.Encode())
}

func TestNew(t *testing.T) {
	s := newSite(t, nil)
	for query, size := range map[string]string{"": "3", "?size=": "3", "?size=1": "1", "?size=5": "5", "?size=100": "100"} {
		a := s.want(http.StatusOK, 0, "GET", "/new"+query, "")
		path := strings.TrimPrefix(a.body, "http://discovery.example:8087")
		got := s.want(http.StatusOK, 0, "GET", path+"/_config/size", "")
		if got.event.Node.Value != size || got.event.Action != "get" || got.event.Node.Key != path+"/_config/size" || got.header.Get("X-Etcd-Index") == "" {
			t.Errorf("%q: %s", query, got.body)
		}
	}
	if a, b := s.token("3"), s.token("3"); a == b {
		t.Errorf("the same token twice: %s", a)
	}
	for _, size := range []string{"0", "-1", "101", "x", "1e1", "99999999999999999999", "3%00"} {
		if a := s.want(http.StatusBadRequest, 0, "GET", "/new?size="+size, ""); !strings.Contains(a.body, "from 1 to 100") {
			t.Errorf("%s: %s", size, a.body)
		}
	}
	for _, method := range []string{"HEAD", "POST"} { // one that nobody knows, or whose size is in the form
		s.want(http.StatusMethodNotAllowed, 0, method, "/new", "")
	}
}

// What etcd's discovery client asks, in its order.
func TestMemberProtocol(t *testing.T) {
	s := newSite(t, nil)
	token := s.token("2")
	empty := s.want(http.StatusOK, 0, "GET", token+"?quorum=false&recursive=false&sorted=false", "")
	if n := empty.event.Node; !n.Dir || n.Key != token || len(n.Nodes) != 0 || n.TTL < 7*24*3600-60 || n.TTL > 7*24*3600 {
		t.Errorf("%s", empty.body)
	}
	made := s.register(token, "b0")
	if made.event.Action != "create" || made.event.Node.Key != token+"/b0" || made.event.Node.Value != "b0=http://10.0.0.1:2380" {
		t.Errorf("%s", made.body)
	}
	index := made.event.Node.CreatedIndex
	self := s.want(http.StatusOK, 0, "GET", fmt.Sprintf("%s/b0?recursive=false&wait=true&waitIndex=%d", token, index), "")
	if self.event.Action != "create" || self.event.Node.Key != token+"/b0" || self.event.Node.CreatedIndex != index {
		t.Errorf("%s", self.body)
	}
	s.want(http.StatusPreconditionFailed, 105, "PUT", token+"/b0?prevExist=false", "value=b0=http://10.0.0.1:2380")
	s.want(http.StatusPreconditionFailed, 105, "PUT", token+"/b0", "value=other")
	second := s.register(token, "a1")
	list := s.want(http.StatusOK, 0, "GET", token+"/", "").event.Node.Nodes
	if len(list) != 2 || list[0].Key != token+"/a1" || list[0].CreatedIndex != second.event.Node.CreatedIndex || list[1].CreatedIndex != index {
		t.Errorf("%+v", list)
	}
	if a := s.ask("HEAD", token, ""); a.status != http.StatusOK || a.header.Get("X-Etcd-Index") == "" {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
}

func TestRefusals(t *testing.T) {
	s := newSite(t, nil)
	token := s.token("1")
	missing := s.want(http.StatusNotFound, 100, "GET", "/0123456789abcdef0123456789abcdef", "")
	if missing.event.Cause != "/0123456789abcdef0123456789abcdef" || missing.event.Index == 0 {
		t.Errorf("%s", missing.body)
	}
	s.want(http.StatusNotFound, 100, "GET", "/0123456789abcdef0123456789abcdef/_config/size", "")
	s.want(http.StatusNotFound, 100, "PUT", "/0123456789abcdef0123456789abcdef/x?prevExist=false", "value=x")
	s.want(http.StatusNotFound, 100, "GET", "/0123456789abcdef0123456789abcdef?wait=true", "")
	s.want(http.StatusNotFound, 100, "GET", token+"/nobody", "")
	for _, path := range []string{"/x", token + "/a/b", token + "/_config/other", token + "/_config/size/x", token + "//x", token + "/..", token + "/../x", token + "/%2e%2e/x", token + "/a%2fb", "//" + token[1:], "/0123456789ABCDEF0123456789abcdef"} {
		s.want(http.StatusNotFound, 100, "GET", path, "")
	}
	for _, method := range []string{"POST", "DELETE", "PATCH", "OPTIONS"} {
		if a := s.want(http.StatusMethodNotAllowed, 0, method, token+"/x", ""); a.header.Get("Allow") != "GET, HEAD, PUT" {
			t.Errorf("%s: %v", method, a.header)
		}
	}
	for _, path := range []string{"", "/_config", "/_config/size"} {
		s.want(http.StatusMethodNotAllowed, 0, "PUT", token+path, "value=5")
	}
	for _, x := range []struct{ query, form string }{
		{"", ""}, {"", "value="}, {"?prevExist=true", "value=x"}, {"?prevExist=x", "value=x"}, {"?prevIndex=1", "value=x"}, {"?prevValue=y", "value=x"},
		{"?dir=true", "value=x"}, {"?ttl=1", "value=x"}, {"", "value=" + strings.Repeat("x", valueBytesMax+1)},
	} {
		s.want(http.StatusBadRequest, 209, "PUT", token+"/x"+x.query, x.form)
	}
	s.want(http.StatusBadRequest, 210, "PUT", token+"/x", "value="+strings.Repeat("%41", bodyBytesMax))
	s.want(http.StatusBadRequest, 209, "GET", token+"?wait=perhaps", "")
	s.want(http.StatusBadRequest, 209, "GET", token+"?wait=true&stream=true", "")
	s.want(http.StatusBadRequest, 203, "GET", token+"?wait=true&waitIndex=-1", "")
	s.want(http.StatusCreated, 0, "PUT", token+"/x", "value="+strings.Repeat("%41", valueBytesMax)) // the largest there is
}

// However many register at once, a token holds its size and a few more: those learn by the order that they are too late.
func TestMembersOfAToken(t *testing.T) {
	s := newSite(t, nil)
	token := s.token("2")
	var in, out atomic.Int32
	var running sync.WaitGroup
	for i := range 40 {
		running.Go(func() {
			switch a := s.ask("PUT", fmt.Sprintf("%s/m%d?prevExist=false", token, i), "value=x"); {
			case a.status == http.StatusCreated:
				in.Add(1)
			case a.status == http.StatusForbidden && a.event.ErrorCode == 103:
				out.Add(1)
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	running.Wait()
	if in.Load() != 2+spareMembers || out.Load() != 40-2-spareMembers {
		t.Errorf("%d in, %d out", in.Load(), out.Load())
	}
	if n := len(s.want(http.StatusOK, 0, "GET", token, "").event.Node.Nodes); n != 2+spareMembers {
		t.Errorf("%d members", n)
	}
}

// Where there are as many tokens as there may be, new ones are refused before members of those that are there.
func TestTokensMax(t *testing.T) {
	s := newSite(t, func(o *Options) { o.TokensMax = 1 })
	one, two := s.token("3"), s.token("3")
	s.register(one, "a")
	s.register(two, "a")
	if a := s.want(http.StatusServiceUnavailable, 0, "GET", "/new", ""); a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "try again later") {
		t.Errorf("%v %s", a.header, a.body)
	}
	s.register(one, "b")
	s.register(two, "b")
	if a := s.want(http.StatusServiceUnavailable, 300, "PUT", two+"/c", "value=x"); a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
	s.want(http.StatusOK, 0, "GET", two, "")
}

// A token ends after a week, also where its lease has begun anew meanwhile; its keys and its lease go.
func TestTokensEnd(t *testing.T) {
	s := newSite(t, nil)
	old := s.token("3")
	s.register(old, "a")
	s.clock.by.Store(int64(time.Hour))
	young := s.token("3")
	s.clock.by.Store(int64(Lifetime + time.Minute))
	s.want(http.StatusNotFound, 100, "GET", old, "")
	s.want(http.StatusNotFound, 100, "PUT", old+"/b", "value=x")
	s.want(http.StatusNotFound, 0, "GET", "/?token="+old, "")
	s.want(http.StatusOK, 0, "GET", young, "")
	if n, err := s.service.tokens.sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("%d swept, %v", n, err)
	}
	if n, err := s.service.tokens.count(t.Context()); n != 3 || err != nil {
		t.Errorf("%d keys left, %v", n, err)
	}
	leases, err := s.store.Lease.LeaseLeases(t.Context(), &pb.LeaseLeasesRequest{})
	if err != nil || len(leases.Leases) != 1 {
		t.Errorf("%v %v", leases, err)
	}
	ttl, err := s.store.Lease.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: leases.Leases[0].ID, Keys: true})
	if err != nil || ttl.GrantedTTL != 7*24*3600 || len(ttl.Keys) != 3 {
		t.Errorf("%v %v", ttl, err)
	}
}

// unreachable is a cluster that does not answer.
type unreachable struct {
	pb.KVClient
	pb.LeaseClient
	pb.WatchClient
}

var errUnreachable = errors.New("no member answers at 10.1.2.3")

func (unreachable) Range(context.Context, *pb.RangeRequest, ...grpc.CallOption) (*pb.RangeResponse, error) {
	return nil, errUnreachable
}

func (unreachable) Watch(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[pb.WatchRequest, pb.WatchResponse], error) {
	return nil, errUnreachable
}

// Strangers are not told where the cluster is that does not answer; members are told to try again.
func TestUnreachable(t *testing.T) {
	u := unreachable{}
	s := siteOn(t, Store{u, u, u}, nil)
	token := "/0123456789abcdef0123456789abcdef"
	for _, a := range []answer{
		s.want(http.StatusServiceUnavailable, 300, "GET", token, ""),
		s.want(http.StatusServiceUnavailable, 300, "GET", token+"?wait=true", ""),
		s.want(http.StatusServiceUnavailable, 300, "PUT", token+"/x", "value=x"),
		s.want(http.StatusServiceUnavailable, 0, "GET", "/new", ""),
		s.want(http.StatusServiceUnavailable, 0, "GET", "/health", ""),
		s.want(http.StatusServiceUnavailable, 0, "GET", "/?token="+token, ""),
	} {
		if strings.Contains(a.body, "10.1.2.3") || !strings.Contains(a.body, "does not answer") {
			t.Errorf("%s", a.body)
		}
	}
}

func TestSmallThings(t *testing.T) {
	s := newSite(t, nil)
	if a := s.want(http.StatusOK, 0, "GET", "/health", ""); a.body != `{"health":"true","reason":""}` {
		t.Errorf("%q", a.body)
	}
	s.want(http.StatusMethodNotAllowed, 0, "POST", "/health", "")
	if a := s.want(http.StatusOK, 0, "GET", "/robots.txt", ""); !strings.Contains(a.body, "Disallow: /") {
		t.Errorf("%q", a.body)
	}
}

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, x := range texts {
		all = append(all, netip.MustParsePrefix(x))
	}
	return all
}
