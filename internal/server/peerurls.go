package server

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// checkPeerURLs reads the peer URLs of a member to add or update and gives them as they are stored. They are checked
// before anything is proposed: what the log says of a member's addresses every member dials, and a stock one panics on
// an address that it can't read.
func checkPeerURLs(in []string) ([]string, error) {
	if len(in) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrBadPeerURLs)
	}
	out := make([]string, len(in))
	for i, text := range in {
		u, err := url.Parse(strings.TrimSpace(text))
		if err == nil {
			err = checkPeerURL(u)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrBadPeerURLs, text, err)
		}
		if out[i] = u.String(); slices.Contains(out[:i], out[i]) {
			return nil, fmt.Errorf("%w: %s is there twice", ErrBadPeerURLs, out[i])
		}
	}
	return out, nil
}

func checkPeerURL(u *url.URL) error {
	bad := func(why string) error { return fmt.Errorf("peer URL %s", why) }
	switch u.Scheme {
	case "unix", "unixs":
		if u.Host+u.Path == "" {
			return bad("has no file")
		}
		return nil
	case "http", "https":
	default:
		return bad("has none of the schemes http, https, unix, unixs")
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return bad("is not of the form http://HOST:PORT")
	}
	switch n, err := strconv.ParseUint(port, 10, 16); {
	case host == "":
		return bad("has no host that others could call")
	case err != nil || n == 0:
		return bad("has no port that others could call")
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.ForceQuery:
		return bad("has more than host and port")
	}
	return nil
}
