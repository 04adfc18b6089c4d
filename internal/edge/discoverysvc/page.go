package discoverysvc

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"keelson/internal/state/v2tree"
)

//go:embed page.html
var pageText string

// pageTemplate escapes whatever it shows: names and URLs come from strangers.
var pageTemplate = template.Must(template.New("page").Parse(pageText))

// policy lets a browser load nothing at all, and send forms nowhere else.
const policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// shown is what the page shows.
type shown struct {
	Advertise string
	SizeMax   int
	SizeUsual int
	Asked     string // for which token
	Problem   string
	Token     *shownToken
}

// shownToken is the state of a token.
type shownToken struct {
	URL              string
	Size, Registered int
	Missing          int
	Founders, Extra  []shownMember
	End              string
}

// shownMember is one member as it registered.
type shownMember struct{ ID, Value string }

// newToken makes a token and answers its URL alone, without a line's end, as clients of the public service expect.
func (s *Service) newToken(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet) {
		return
	}
	size, err := parseSize(r.URL.Query().Get("size"))
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	var token string
	// Who hangs up meanwhile must not leave half a token behind.
	err = s.tokens.within(context.WithoutCancel(r.Context()), func(ctx context.Context) (err error) {
		token, err = s.tokens.found(ctx, size)
		return err
	})
	if err != nil {
		w.Header().Set("Retry-After", retryAfter)
		plain(w, http.StatusServiceUnavailable, s.excuse(err)+"\n")
		return
	}
	s.metrics.tokens.Inc()
	plain(w, http.StatusOK, s.o.Advertise+"/"+token)
}

// errSize is returned for a size that no cluster has.
var errSize = errors.New("size: give the number of members that found the cluster, from 1 to " + strconv.Itoa(SizeMax) + ", such as /new?size=3")

func parseSize(text string) (int, error) {
	if text == "" {
		return SizeDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > SizeMax {
		return 0, errSize
	}
	return n, nil
}

// page tells people what is here, and what a token's state is.
func (s *Service) page(w http.ResponseWriter, r *http.Request) {
	if !reads(w, r) {
		return
	}
	p := shown{Advertise: s.o.Advertise, SizeMax: SizeMax, SizeUsual: SizeDefault, Asked: strings.TrimSpace(r.URL.Query().Get("token"))}
	status := http.StatusOK
	if p.Asked != "" {
		status = s.show(r.Context(), &p)
	}
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, p); err != nil {
		plain(w, http.StatusInternalServerError, err.Error())
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // a client that has gone needs no answer
}

// show looks a token up for the page. People paste the whole URL.
func (s *Service) show(ctx context.Context, p *shown) (status int) {
	token := strings.TrimRight(p.Asked, "/")
	token = token[strings.LastIndexByte(token, '/')+1:]
	if !isToken(token) {
		p.Asked, p.Problem = "", "That is no token: one has 32 digits, from 0 to 9 and from a to f."
		return http.StatusBadRequest
	}
	var d *directory
	err := s.tokens.within(ctx, func(ctx context.Context) (err error) {
		d, err = s.tokens.look(ctx, token)
		return err
	})
	var missing *v2tree.Error
	switch {
	case errors.As(err, &missing):
		p.Problem = "There is no such token. It may have ended: each is kept for a week."
		return http.StatusNotFound
	case err != nil:
		p.Problem = "The token can't be read now: " + s.excuse(err) + "."
		return http.StatusServiceUnavailable
	}
	p.Token = s.shownToken(d)
	return http.StatusOK
}

func (s *Service) shownToken(d *directory) *shownToken {
	t := &shownToken{URL: s.o.Advertise + "/" + d.token, Size: d.size(), End: time.Unix(0, d.marker.Expiry).UTC().Format("2 January 2006 15:04 MST")}
	for i, n := range d.members() {
		m := shownMember{ID: strings.TrimPrefix(n.path, "/"+d.token+"/"), Value: n.Value}
		if i < t.Size {
			t.Founders = append(t.Founders, m)
		} else {
			t.Extra = append(t.Extra, m)
		}
	}
	t.Registered = len(t.Founders)
	t.Missing = t.Size - t.Registered
	return t
}
