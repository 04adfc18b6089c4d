package discoverysvc

import (
	"net/url"
	"strings"
)

const (
	// tokenDigits are 128 random bits: nobody guesses one.
	tokenDigits = 32
	// nameBytesMax bounds a member's ID: 16 hex digits where etcd sends it, a name where a person does.
	nameBytesMax = 64

	newPath    = "/new"
	healthPath = "/health"
	configName = "_config"
	sizePath   = "/_config/size"
)

// place is what a request's path names, always inside of its token's directory.
type place struct {
	token string
	// clean is the node's path, "/TOKEN" or longer.
	clean string
	// member is set where the node is a member's.
	member bool
}

// parsePath reads the path of a request. It takes what a token's directory can hold and nothing else: no empty or dotted
// elements, no escaped slashes, no names that are none. A slash at the end is as good as none.
func parsePath(u *url.URL) (place, bool) {
	if u.RawPath != "" {
		return place{}, false // it has escapes that are none of ours
	}
	rest, ok := strings.CutPrefix(u.Path, "/")
	if !ok {
		return place{}, false
	}
	token, below, deeper := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	if !isToken(token) {
		return place{}, false
	}
	at := place{token: token, clean: "/" + token}
	if !deeper {
		return at, true
	}
	at.clean += "/" + below
	switch {
	case below == configName, "/"+below == sizePath:
		return at, true
	case isName(below):
		at.member = true
		return at, true
	}
	return place{}, false
}

// isToken tells whether a text may be a token: lower case alone, so that each has one spelling.
func isToken(s string) bool {
	return len(s) == tokenDigits && strings.Trim(s, "0123456789abcdef") == ""
}

// isName tells whether a text may name a member. Names with an underscore first are the service's.
func isName(s string) bool {
	if s == "" || len(s) > nameBytesMax || s[0] == '_' || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
