package server

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keelson/internal/apply"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/token"
)

const (
	// tokensMax bounds the simple tokens that are known at a time, which a member keeps in memory for --auth-token-ttl after
	// their last use: a million is 3,000 logins a second at its default, in some 150 MB. Past it, those that were used
	// longest ago go first.
	tokensMax = 1 << 20
	// prefixLetters is the length of a token's part that nobody can guess: 91 bits.
	prefixLetters = 16
	letters       = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// tokens knows the simple tokens, text made by chance on one member and made known to all by the log. It is what apply tells
// of tokens; forget is told of users whose password is another, or gone.
type tokens struct {
	clock  clock.Clock
	ttl    time.Duration
	forget func(user string)

	// mu guards what follows.
	mu    sync.RWMutex
	byTok map[string]*simpleToken
	users map[string]*tokenUser
	// swept is when tokens past their time were last taken out.
	swept time.Time
}

// simpleToken is good until a moment, in Unix nanoseconds, that each use moves.
type simpleToken struct {
	of    *tokenUser
	until atomic.Int64
}

// tokenUser is a user with tokens; they all end when out is set.
type tokenUser struct {
	name string
	out  bool // guarded by tokens.mu
}

var _ apply.Tokens = (*tokens)(nil)

func newTokens(c clock.Clock, ttl time.Duration, forget func(user string)) *tokens {
	return &tokens{clock: c, ttl: ttl, forget: forget, byTok: make(map[string]*simpleToken), users: make(map[string]*tokenUser)}
}

// Assign makes a token good.
func (t *tokens) Assign(user, prefix string, index uint64) string {
	text := prefix + "." + strconv.FormatUint(index, 10)
	now := t.clock.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.swept) >= t.ttl || len(t.byTok) >= tokensMax {
		t.sweep(now)
	}
	u := t.users[user]
	if u == nil {
		u = &tokenUser{name: user}
		t.users[user] = u
	}
	tok := &simpleToken{of: u}
	tok.until.Store(now.Add(t.ttl).UnixNano())
	t.byTok[text] = tok
	return text
}

// sweep takes out what is good no more; where that is not enough, all that has less than half its time left; else all.
func (t *tokens) sweep(now time.Time) {
	t.swept = now
	for _, left := range []time.Duration{0, t.ttl / 2, t.ttl} {
		for text, tok := range t.byTok {
			if tok.of.out || tok.until.Load() <= now.Add(left).UnixNano() {
				delete(t.byTok, text)
			}
		}
		if len(t.byTok) < tokensMax {
			return
		}
	}
}

// Drop ends a user's tokens.
func (t *tokens) Drop(user string) {
	t.mu.Lock()
	if u := t.users[user]; u != nil {
		u.out = true
		delete(t.users, user)
	}
	t.mu.Unlock()
	t.forget(user)
}

// DropAll ends all tokens.
func (t *tokens) DropAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.byTok)
	clear(t.users)
}

// user gives whose token it is, and makes it last longer.
func (t *tokens) user(text string) (string, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	tok := t.byTok[text]
	if tok == nil || tok.of.out {
		return "", false
	}
	now := t.clock.Now()
	if tok.until.Load() <= now.UnixNano() {
		return "", false
	}
	tok.until.Store(now.Add(t.ttl).UnixNano())
	return tok.of.name, true
}

// tokenKind is how --auth-token has tokens made and believed.
type tokenKind interface {
	// prefix gives the part of a token that goes into the log.
	prefix() (string, error)
	// finish gives the token of a user whose entry was applied, made being what apply made of the prefix.
	finish(user string, revision uint64, made string) (string, error)
	// verify gives whose token it is, and the auth revision in it; 0: it is good for every one.
	verify(ctx context.Context, text string) (user string, revision uint64, ok bool)
}

// simpleKind believes tokens that the log made known.
type simpleKind struct {
	known *tokens
	rand  io.Reader
	// applied waits until an entry is applied here.
	applied func(ctx context.Context, index uint64) error
	timeout time.Duration
}

func (k *simpleKind) prefix() (string, error) {
	// Of 256 bytes 208 are four times the alphabet: the others are drawn again, so that every letter is as likely.
	const even = 256 - 256%len(letters)
	out := make([]byte, 0, prefixLetters)
	var b [2 * prefixLetters]byte
	for len(out) < prefixLetters {
		if _, err := io.ReadFull(k.rand, b[:]); err != nil {
			return "", fmt.Errorf("server: make a token: %w", err)
		}
		for _, c := range b {
			if int(c) < even && len(out) < prefixLetters {
				out = append(out, letters[int(c)%len(letters)])
			}
		}
	}
	return string(out), nil
}

func (k *simpleKind) finish(_ string, _ uint64, made string) (string, error) { return made, nil }

// verify waits for the token's entry where this member is behind the one that made it.
func (k *simpleKind) verify(ctx context.Context, text string) (string, uint64, bool) {
	if user, ok := k.known.user(text); ok {
		return user, 0, true
	}
	_, number, ok := strings.Cut(text, ".")
	if !ok {
		return "", 0, false
	}
	index, err := strconv.ParseUint(number, 10, 64)
	if err != nil || index+1 == 0 {
		return "", 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	if k.applied(ctx, index+1) != nil {
		return "", 0, false
	}
	user, ok := k.known.user(text)
	return user, 0, ok
}

// signedKind believes tokens that are signed by a key.
type signedKind struct{ jwt *token.JWT }

func (signedKind) prefix() (string, error) { return "", nil }

func (k signedKind) finish(user string, revision uint64, _ string) (string, error) {
	return k.jwt.Sign(user, revision)
}

func (k signedKind) verify(_ context.Context, text string) (string, uint64, bool) {
	user, revision, err := k.jwt.Verify(text)
	return user, revision, err == nil
}
