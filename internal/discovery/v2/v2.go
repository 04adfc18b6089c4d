// Package v2 finds the other founders of a cluster by a discovery URL, etcd's older protocol: plain keys of the v2 API below
// the URL. cmd/etcd calls it before a member's first start.
//
//	URL/_config/size   how many founders there are to be, written by whoever made the token
//	URL/ID             one founder: its ID in hexadecimal, and as value NAME=URL,…
//
// Founders are ordered by the index at which their key was created.
package v2

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/rendezvous"
)

const (
	// requestTime bounds a request that is answered at once, dialTime and shakeTime its connection.
	requestTime = 10 * time.Second
	dialTime    = 5 * time.Second
	shakeTime   = 5 * time.Second
	// waitTime is how long one wait for a change lasts: a connection that died unseen costs no more.
	waitTime = time.Minute
	// pollTime is the pause between two looks at a service that does not say where in its history an answer is.
	pollTime = 5 * time.Second
	// answerBytesMax bounds an answer: a thousand founders of a kilobyte each.
	answerBytesMax = 1 << 20
	headerBytesMax = 64 << 10
	redirectsMax   = 5
)

// Codes of the v2 API.
const (
	codeNotFound = 100
	codeExists   = 105
	codeGone     = 401
)

// Options say where founders meet.
type Options struct {
	// URL ends with the token.
	URL *url.URL
	// Proxy, if not nil, is asked to reach it.
	Proxy  *url.URL
	Clock  clock.Clock
	Logger *zap.Logger
	// Transport carries requests; nil: over the network, with the system's roots for https.
	Transport http.RoundTripper
}

// Find registers a member by its ID, name and peer URLs, and waits for the others.
func Find(ctx context.Context, o Options, id uint64, name string, urls types.URLs) (types.URLsMap, error) {
	if o.Transport == nil {
		t := transport(o.Proxy)
		defer t.CloseIdleConnections()
		o.Transport = t
	}
	r := &registry{base: o.URL, clock: o.Clock, client: &http.Client{Transport: o.Transport, CheckRedirect: redirect}}
	self := rendezvous.Registration{ID: strconv.FormatUint(id, 16), Text: types.URLsMap{name: urls}.String()}
	log := o.Logger.With(zap.String("discovery-url", o.URL.Redacted()))
	return rendezvous.Meet(ctx, r, self, o.Clock, log)
}

func transport(proxy *url.URL) *http.Transport {
	t := &http.Transport{
		DialContext: (&net.Dialer{Timeout: dialTime}).DialContext, TLSHandshakeTimeout: shakeTime,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, MaxResponseHeaderBytes: headerBytesMax,
	}
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
	}
	return t
}

// redirect follows where a service moves to, but not from https to http, nor where a write would become a read.
func redirect(req *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > redirectsMax || req.Method != first.Method || first.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: redirected to %s", errBadEndpoint, req.URL.Redacted())
	}
	return nil
}

// errBadEndpoint is returned for an answer that no service of this protocol gives.
var errBadEndpoint = fmt.Errorf("%w: bad discovery endpoint", rendezvous.ErrRefused)

// registry is a token of the service.
type registry struct {
	base   *url.URL
	clock  clock.Clock
	client *http.Client
}

var _ rendezvous.Registry = (*registry)(nil)

func (r *registry) Size(ctx context.Context) (string, error) {
	a, err := r.do(ctx, requestTime, http.MethodGet, "_config/size", url.Values{"quorum": {"true"}}, nil)
	switch {
	case err != nil:
		return "", err
	case a.Code == codeNotFound:
		return "", fmt.Errorf("%w: %s does not exist: make a token, and give all members its URL", rendezvous.ErrSizeNotFound, r.base.JoinPath("_config/size").Redacted())
	}
	if err := a.failure(); err != nil {
		return "", err
	}
	return a.Node.Value, nil
}

func (r *registry) List(ctx context.Context) ([]rendezvous.Registration, int64, error) {
	a, err := r.do(ctx, requestTime, http.MethodGet, "", url.Values{"quorum": {"true"}}, nil)
	if err == nil {
		err = a.failure()
	}
	if err != nil {
		return nil, 0, err
	}
	return a.registrations(), a.index, nil
}

func (r *registry) Register(ctx context.Context, reg rendezvous.Registration) error {
	a, err := r.do(ctx, requestTime, http.MethodPut, reg.ID, url.Values{"prevExist": {"false"}}, url.Values{"value": {reg.Text}})
	if err != nil || a.Code == codeExists {
		return err
	}
	return a.failure()
}

func (r *registry) Changed(ctx context.Context, mark int64) error {
	if mark == 0 {
		t := r.clock.NewTimer(pollTime)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	a, err := r.do(ctx, waitTime, http.MethodGet, "", url.Values{"wait": {"true"}, "recursive": {"true"}, "waitIndex": {strconv.FormatInt(mark+1, 10)}}, nil)
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return nil
	case err != nil || a.Code == codeGone || a.silent:
		return err
	}
	return a.failure()
}

// do sends one request and reads its answer.
func (r *registry) do(ctx context.Context, limit time.Duration, method, key string, query, form url.Values) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	u := *r.base
	if key != "" {
		u = *u.JoinPath(key)
	}
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadEndpoint, err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax+1))
	if err != nil {
		return nil, err
	}
	return decode(resp.StatusCode, resp.Header.Get("X-Etcd-Index"), body)
}

// answer is one of the v2 API.
type answer struct {
	Code    int    `json:"errorCode"`
	Message string `json:"message"`
	Cause   string `json:"cause"`
	Node    *node  `json:"node"` // nil with an error, and only then

	index int64
	// silent is set for a wait that ended without a word: the service ends long ones so.
	silent bool
}

type node struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Created uint64 `json:"createdIndex"`
	Nodes   []node `json:"nodes"`
}

// decode reads an answer. What a server at fault says is a passing error.
func decode(status int, index string, body []byte) (*answer, error) {
	if status >= http.StatusInternalServerError {
		return nil, fmt.Errorf("the discovery service answers %d %s: %.200q", status, http.StatusText(status), body)
	}
	if len(body) > answerBytesMax {
		return nil, fmt.Errorf("%w: its answer is larger than %d bytes", errBadEndpoint, answerBytesMax)
	}
	a := &answer{}
	if n, err := strconv.ParseInt(index, 10, 64); err == nil && n > 0 {
		a.index = n
	}
	if len(body) == 0 && status == http.StatusOK {
		a.silent = true
		return a, nil
	}
	if err := json.Unmarshal(body, a); err != nil {
		return nil, fmt.Errorf("%w: %d %s, and no answer of the v2 API: %.200q", errBadEndpoint, status, http.StatusText(status), body)
	}
	if (a.Code == 0) == (a.Node == nil) {
		return nil, fmt.Errorf("%w: %d %s, and not either a node or an error: %.200q", errBadEndpoint, status, http.StatusText(status), body)
	}
	return a, nil
}

// failure is the error that an answer tells of.
func (a *answer) failure() error {
	switch {
	case a.silent:
		return errors.New("the discovery service answers nothing")
	case a.Code != 0:
		return fmt.Errorf("%w: the discovery service answers %d %s (%s)", rendezvous.ErrRefused, a.Code, a.Message, a.Cause)
	}
	return nil
}
