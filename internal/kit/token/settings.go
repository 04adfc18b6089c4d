package token

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ttlDefault is etcd's.
const ttlDefault = 5 * time.Minute

// settings are the parsed options.
type settings struct {
	method  jwt.SigningMethod
	public  string // file, or empty
	private string
	ttl     time.Duration
}

// methods are the names that sign-method takes.
func methods() []string {
	return []string{
		"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
	}
}

// parseSettings gives the settings and the names of options that are none: etcd warns of those and goes on.
func parseSettings(options string) (s settings, unknown []string, err error) {
	s.ttl = ttlDefault
	method, seen := "", map[string]bool{}
	for _, option := range strings.Split(options, ",") {
		if options == "" {
			break
		}
		name, value, ok := strings.Cut(option, "=")
		if !ok || strings.Contains(value, "=") {
			return s, nil, fmt.Errorf("%w: %q is not name=value, with no further = in the value", ErrOptions, option)
		}
		if seen[name] {
			return s, nil, fmt.Errorf("%w: %s is given twice", ErrOptions, name)
		}
		seen[name] = true
		switch name {
		case "sign-method":
			method = value
		case "pub-key":
			s.public = value
		case "priv-key":
			s.private = value
		case "ttl":
			if s.ttl, err = parseTTL(value); err != nil {
				return s, nil, err
			}
		default:
			unknown = append(unknown, name)
		}
	}
	if !slices.Contains(methods(), method) {
		return s, nil, fmt.Errorf("%w: sign-method is %q; it is one of %s", ErrOptions, method, strings.Join(methods(), ", "))
	}
	s.method = jwt.GetSigningMethod(method)
	return s, unknown, nil
}

func parseTTL(value string) (time.Duration, error) {
	if value == "" {
		return ttlDefault, nil
	}
	ttl, err := time.ParseDuration(value)
	if err != nil || ttl <= 0 {
		return 0, fmt.Errorf("%w: ttl is %q; it is a time that tokens live, such as 5m or 90s", ErrOptions, value)
	}
	return ttl, nil
}
