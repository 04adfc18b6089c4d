// Package token signs and checks the JWTs of --auth-token=jwt. The server calls it when a user has proven who they are, and
// for each request that brings a token.
//
// A token's claims are etcd's: username, revision (of the auth store when it was signed) and exp; a token of a stock member
// is good here, and the other way round. One algorithm is accepted, the configured one, and what a token says of itself is
// compared with that alone: neither "none" nor an HMAC under a public key gets in.
//
// Keys come from files that are read again while the member runs (Run). From then on new tokens carry the new key. Tokens
// under the old one stay good for one ttl, which is as long as any of them lives that a member signed: so a change of keys
// logs nobody out. Whoever must shut a stolen key out at once restarts the member.
package token

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
)

var (
	// ErrOptions is returned for options that cannot be used, a key file that cannot be read among them.
	ErrOptions = errors.New("auth: invalid auth options")
	// ErrMissingKey is returned when neither file has a key that the method can use.
	ErrMissingKey = errors.New("auth: missing key data")
	// ErrKeyMismatch is returned when both files are given and are not a pair.
	ErrKeyMismatch = errors.New("auth: public and private keys don't match")
	// ErrVerifyOnly is returned by Sign where only a public key is configured.
	ErrVerifyOnly = errors.New("auth: token signing attempted with verify-only key")
	// ErrInvalid is returned by Verify for what is not a good token of ours.
	ErrInvalid = errors.New("auth: invalid token")
)

const (
	// tokenBytesMax is far above any token with a name and a revision: what is longer is not worth decoding.
	tokenBytesMax = 16 << 10
	// seenMax bounds the tokens of one key set whose signatures need no second check, at some 150 bytes each.
	seenMax = 16_384
)

// Options are what a JWT gets from outside. The zero value reads the machine's files and clock and logs nothing.
type Options struct {
	// Read gives a file's content; nil for os.ReadFile.
	Read func(name string) ([]byte, error)
	// Clock dates tokens and paces Run; nil for the machine's.
	Clock clock.Clock
	// Log hears of unknown options and of keys that changed; nil for nobody.
	Log *zap.Logger
}

// JWT signs and verifies tokens. All methods may be called from any goroutine.
type JWT struct {
	settings
	read   func(name string) ([]byte, error)
	clock  clock.Clock
	log    *zap.Logger
	parser *jwt.Parser
	keys   atomic.Pointer[keySet]
}

// ParseJWT reads what stands behind "jwt," in --auth-token — sign-method=…,pub-key=FILE,priv-key=FILE,ttl=… — and the keys it
// names.
func ParseJWT(options string, o Options) (*JWT, error) {
	s, unknown, err := parseSettings(options)
	if err != nil {
		return nil, err
	}
	j := &JWT{settings: s, read: o.Read, clock: o.Clock, log: o.Log}
	if j.read == nil {
		j.read = os.ReadFile
	}
	if j.clock == nil {
		j.clock = clock.System
	}
	if j.log == nil {
		j.log = zap.NewNop()
	}
	if len(unknown) > 0 {
		j.log.Warn("unknown JWT options", zap.Strings("keys", unknown))
	}
	j.parser = jwt.NewParser(jwt.WithValidMethods([]string{s.method.Alg()}), jwt.WithTimeFunc(j.clock.Now))
	k, err := j.load()
	if err != nil {
		return nil, err
	}
	j.keys.Store(newKeySet(k))
	return j, nil
}

// Sign gives a token of user that is good for the configured ttl.
func (j *JWT) Sign(user string, revision uint64) (string, error) {
	k := j.keys.Load()
	if k.sign == nil {
		return "", ErrVerifyOnly
	}
	t, err := jwt.NewWithClaims(j.method, jwt.MapClaims{
		"username": user,
		"revision": revision,
		"exp":      j.clock.Now().Add(j.ttl).Unix(),
	}).SignedString(k.sign)
	if err != nil {
		return "", fmt.Errorf("auth: sign a token: %w", err)
	}
	return t, nil
}

// Verify gives whom a token names and the revision of the auth store that it was signed at, or ErrInvalid, wrapped with why.
func (j *JWT) Verify(token string) (user string, revision uint64, err error) {
	if len(token) > tokenBytesMax {
		return "", 0, fmt.Errorf("%w: %d bytes are more than %d", ErrInvalid, len(token), tokenBytesMax)
	}
	k, now := j.keys.Load(), j.clock.Now()
	sum := sha256.Sum256([]byte(token))
	if g, ok := k.seen.Get(sum); ok && g.goodAt(now) {
		return g.user, g.revision, nil
	}
	g, err := j.check(k, token, now)
	if err != nil {
		return "", 0, err
	}
	k.seen.Put(sum, g)
	return g.user, g.revision, nil
}

// good is what a token said whose signature was right.
type good struct {
	user     string
	revision uint64
	until    time.Time // zero: for ever, which only somebody else's signer would write
}

func (g good) goodAt(now time.Time) bool { return g.until.IsZero() || now.Before(g.until) }

// check tries the current key and, where the signature is not its, the retired ones.
func (j *JWT) check(k *keySet, token string, now time.Time) (good, error) {
	g, err := j.checkKey(k.verify, token)
	for _, r := range k.retired {
		if !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
			break
		}
		if !now.Before(r.until) {
			continue
		}
		if g, err = j.checkKey(r.verify, token); err == nil && (g.until.IsZero() || r.until.Before(g.until)) {
			g.until = r.until
		}
	}
	if err != nil {
		return good{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return g, nil
}

func (j *JWT) checkKey(key any, token string) (good, error) {
	c := jwt.MapClaims{}
	if _, err := j.parser.ParseWithClaims(token, c, func(*jwt.Token) (any, error) { return key, nil }); err != nil {
		return good{}, err
	}
	user, ok := c["username"].(string)
	if !ok || user == "" {
		return good{}, errors.New("it names no user")
	}
	revision, ok := c["revision"].(float64)
	if !ok || revision < 0 || revision >= 1<<63 || revision != math.Trunc(revision) {
		return good{}, errors.New("it has no revision")
	}
	g := good{user: user, revision: uint64(revision)}
	if exp, err := c.GetExpirationTime(); err != nil {
		return good{}, err
	} else if exp != nil {
		g.until = exp.Time
	}
	return g, nil
}
