// Package rendezvous lets the founders of a cluster find each other at a registry that all of them know: each leaves its name
// and peer URLs there, and waits until as many have done so as the cluster is to have. The first to register are its members,
// in that order; whoever comes later is refused. Both protocols of discovery are registries.
//
// What a registry says was written by strangers: it is read, never trusted to be whole. A registry that can't be reached is
// asked again, with longer and longer pauses, for as long as it takes; what can't be mended by waiting ends the attempt.
package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"keelson/internal/kit/backoff"
	"keelson/internal/kit/clock"
)

// SizeMax bounds how many founders a registry may ask for: no cluster of raft has a use for more.
const SizeMax = 1000

const (
	// The pauses between attempts at a registry that fails.
	pauseFirst = time.Second
	pauseMost  = 32 * time.Second
	// quick is how soon a registry may say that something has changed without it being so: then it is asked with pauses.
	quick = time.Second
)

// Why founders do not come together. Each ends the attempt. The beginnings of the texts are etcd's.
var (
	// ErrFull is returned when as many as the cluster is to have were there before.
	ErrFull = errors.New("discovery: cluster is full")
	// ErrDuplicateName is returned when two founders have the same name.
	ErrDuplicateName = errors.New("discovery: found duplicate name")
	// ErrDuplicateID is returned when another founder has registered with the very peer URLs of this one.
	ErrDuplicateID = errors.New("discovery: found duplicate id")
	// ErrDuplicateURL is returned when two founders share a peer URL.
	ErrDuplicateURL = errors.New("discovery: found duplicate url")
	// ErrInvalidURL is returned for a registration that is not a name with peer URLs.
	ErrInvalidURL = errors.New("discovery: invalid peer URL")
	// ErrSizeNotFound is returned for a token whose size was never set: it does not exist, or no longer.
	ErrSizeNotFound = errors.New("discovery: size key not found")
	// ErrBadSize is returned for a size that is no number of members.
	ErrBadSize = errors.New("discovery: size key is bad")
	// ErrRefused is returned by a registry for an answer that will be no other next time.
	ErrRefused = errors.New("discovery: refused")
)

// Registration is one founder's.
type Registration struct {
	ID string
	// Text is NAME=URL, or NAME=URL,NAME=URL for several URLs.
	Text string
}

// Registry keeps the registrations under one token. An error is taken for a passing one unless it wraps one of this package's.
type Registry interface {
	// Size is how many founders the cluster is to have, as it is written there.
	Size(ctx context.Context) (string, error)
	// List gives the registrations in the order of their creation, and a mark for Changed.
	List(ctx context.Context) (all []Registration, mark int64, err error)
	// Register leaves a registration, unless there is one of that ID.
	Register(ctx context.Context, r Registration) error
	// Changed waits until the list may be another one than at a mark; it may be wrong. It comes back within minutes.
	Changed(ctx context.Context, mark int64) error
}

// meeting is one founder's wait for the others.
type meeting struct {
	registry Registry
	self     Registration
	name     string
	size     int
	clock    clock.Clock
	log      *zap.Logger
	// pause is for a registry that fails, calm for one that wakes this member for nothing.
	pause, calm *backoff.Backoff
}

// Meet registers self and waits for the others. It gives all founders, self among them.
func Meet(ctx context.Context, r Registry, self Registration, c clock.Clock, log *zap.Logger) (types.URLsMap, error) {
	name, _, err := parse(self.Text)
	if err != nil {
		return nil, err
	}
	m := &meeting{registry: r, self: self, name: name, clock: c, log: log, pause: backoff.New(c, pauseFirst, pauseMost), calm: backoff.New(c, pauseFirst, pauseMost)}
	if m.size, err = m.askSize(ctx); err != nil {
		return nil, err
	}
	there, _, err := m.list(ctx)
	if err != nil {
		return nil, err
	}
	// Who will be refused leaves nothing behind that others would stumble over.
	if _, err := m.gather(there); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(there, m.mine) {
		log.Info("this member has registered before: going on from there", zap.String("member", self.Text))
	} else if err := m.try(ctx, "register this member", func() error { return r.Register(ctx, self) }); err != nil {
		return nil, err
	}
	return m.wait(ctx)
}

func (m *meeting) mine(r Registration) bool { return r.ID == m.self.ID }

func (m *meeting) askSize(ctx context.Context) (int, error) {
	var text string
	err := m.try(ctx, "read the cluster's size", func() (err error) { text, err = m.registry.Size(ctx); return err })
	if err != nil {
		return 0, err
	}
	return parseSize(text)
}

func (m *meeting) list(ctx context.Context) (all []Registration, mark int64, err error) {
	err = m.try(ctx, "read the members", func() (err error) { all, mark, err = m.registry.List(ctx); return err })
	return all, mark, err
}

// try does something until it works or can't.
func (m *meeting) try(ctx context.Context, what string, do func() error) error {
	for {
		err := do()
		switch {
		case err == nil:
			m.pause.Reset()
			return nil
		case ctx.Err() != nil || final(err):
			return fmt.Errorf("%s: %w", what, err)
		}
		m.log.Warn("retry connecting to discovery service", zap.String("reason", what), zap.Duration("backoff", m.pause.Next()), zap.Error(err))
		if ended := m.pause.Wait(ctx); ended != nil {
			return fmt.Errorf("%s: %w, %w", what, ended, err)
		}
	}
}

func final(err error) bool {
	for _, e := range []error{ErrFull, ErrDuplicateName, ErrDuplicateID, ErrDuplicateURL, ErrInvalidURL, ErrSizeNotFound, ErrBadSize, ErrRefused} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wait looks at the registry until all founders are there.
func (m *meeting) wait(ctx context.Context) (types.URLsMap, error) {
	var before []Registration
	var asked time.Time
	for {
		all, mark, err := m.list(ctx)
		if err != nil {
			return nil, err
		}
		found, err := m.gather(all)
		if err != nil {
			return nil, err
		}
		if len(all) >= m.size && slices.ContainsFunc(all[:m.size], m.mine) {
			m.log.Info("found all needed members from discovery service", zap.Int("size", m.size), zap.Stringer("members", found))
			return found, nil
		}
		if !slices.Equal(all, before) || m.clock.Now().Sub(asked) >= quick {
			m.calm.Reset()
			m.log.Info("waiting for members to register with the discovery service", zap.Strings("here", texts(all)),
				zap.String("missing", fmt.Sprintf("%d of %d", m.size-len(all), m.size)), zap.Bool("this-member-seen", slices.ContainsFunc(all, m.mine)))
		} else if err := m.calm.Wait(ctx); err != nil {
			return nil, err
		}
		before, asked = all, m.clock.Now()
		if err := m.try(ctx, "wait for other members", func() error { return m.registry.Changed(ctx, mark) }); err != nil {
			return nil, err
		}
	}
}

// gather makes one map of those that were first. It fails where this member is not among them and there is no place left, or
// where they do not fit together.
func (m *meeting) gather(all []Registration) (types.URLsMap, error) {
	first := all[:min(len(all), m.size)]
	if len(first) == m.size && !slices.ContainsFunc(first, m.mine) {
		return nil, fmt.Errorf("%w: its %d members are %s; a member that is to come later is added with `etcdctl member add`", ErrFull, m.size, strings.Join(texts(first), ", "))
	}
	if i := slices.IndexFunc(first, m.mine); i < 0 {
		first = append(slices.Clone(first), m.self)
	} else if first[i].Text != m.self.Text {
		return nil, fmt.Errorf("%w: %s is registered as %s, and this member is %s: give every member its own --initial-advertise-peer-urls, and each cluster a new token",
			ErrDuplicateID, m.self.ID, first[i].Text, m.self.Text)
	}
	found, owner := types.URLsMap{}, map[string]string{}
	for _, r := range first {
		name, urls, err := parse(r.Text)
		if err != nil {
			return nil, err
		}
		if _, ok := found[name]; ok {
			return nil, fmt.Errorf("%w: two members are called %s: give every member its own --name", ErrDuplicateName, name)
		}
		for _, u := range urls.StringSlice() {
			if other, ok := owner[u]; ok {
				return nil, fmt.Errorf("%w: members %s and %s are both at %s: give every member its own --initial-advertise-peer-urls", ErrDuplicateURL, other, name, u)
			}
			owner[u] = name
		}
		found[name] = urls
	}
	return found, nil
}

func texts(all []Registration) []string {
	out := make([]string, len(all))
	for i, r := range all {
		out[i] = r.Text
	}
	return out
}
