package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"

	"keelson/internal/config"
	"keelson/internal/kit/password"
	"keelson/internal/kit/token"
)

// tokenTTLDefault is what 0 means for --auth-token-ttl.
const tokenTTLDefault = 300 * time.Second

// ErrAuthToken is returned for a value of --auth-token that is none.
var ErrAuthToken = errors.New("invalid --auth-token: use simple, or jwt with its options, such as jwt,sign-method=RS256,priv-key=FILE,ttl=5m")

// secrets is what a member knows beside the replicated state to tell who somebody is. Its goroutine, which follows the files
// of keys, is started by run.
type secrets struct {
	kind      tokenKind
	simple    *simpleKind // kind, where that is simple
	signed    *token.JWT  // what kind signs by, where it does
	known     *tokens
	passwords *password.Checker
}

// newSecrets reads what the configuration says of tokens and passwords.
func newSecrets(cfg *config.Config, d Deps) (*secrets, error) {
	random, read := d.Random, d.ReadFile
	if random == nil {
		random = rand.Reader
	}
	if read == nil {
		read = os.ReadFile
	}
	s := &secrets{}
	kind, options, _ := strings.Cut(cfg.Auth.Token, ",")
	switch kind {
	case "simple":
		s.simple = &simpleKind{rand: random}
		s.kind = s.simple
	case "jwt":
		jwt, err := token.ParseJWT(options, token.Options{Read: read, Clock: d.Clock, Log: d.Logger})
		if err != nil {
			return nil, fmt.Errorf("--auth-token: %w", err)
		}
		s.signed, s.kind = jwt, signedKind{jwt}
	default:
		return nil, fmt.Errorf("%w: it is %q", ErrAuthToken, cfg.Auth.Token)
	}
	cost := bcryptCost(cfg)
	if uint(cost) != cfg.Auth.BcryptCost {
		d.Logger.Warn("use default bcrypt cost instead of the invalid given cost", zap.Int("min-cost", bcrypt.MinCost),
			zap.Int("max-cost", bcrypt.MaxCost), zap.Int("default-cost", bcrypt.DefaultCost), zap.Uint("given-cost", cfg.Auth.BcryptCost))
	}
	ttl := cfg.Auth.TokenTTL
	if ttl == 0 {
		ttl = tokenTTLDefault
	}
	s.passwords = password.New(password.Options{Cost: cost, Clock: d.Clock, Rand: random})
	s.known = newTokens(d.Clock, ttl, s.passwords.Forget)
	if s.simple != nil {
		s.simple.known = s.known
	}
	return s, nil
}

// bcryptCost gives the cost of a password's hash: the default where the one that is asked for can't be.
func bcryptCost(cfg *config.Config) int {
	if c := cfg.Auth.BcryptCost; c >= uint(bcrypt.MinCost) && c <= uint(bcrypt.MaxCost) {
		return int(c)
	}
	return bcrypt.DefaultCost
}

// run follows the files of keys until ctx is done.
func (s *secrets) run(ctx context.Context) {
	if s.signed != nil {
		s.signed.Run(ctx)
	}
}
