package v2auth

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"keelson/internal/state/v2auth"
	"keelson/internal/state/v2tree"
)

const keysPath = "/v2/keys"

// MayKeys tells whether who sends r may read a path of /v2/keys, or write it; recursive: and all below it. Who doesn't say who
// they are has role guest, which is not asked about what is below, as in 3.4.
func (e *Edge) MayKeys(r *http.Request, path string, write, recursive bool) bool {
	now := e.records()
	on, err := now.enabled()
	if err != nil {
		e.options.Logger.Warn("v2 auth is not readable: a request is refused", zap.Error(err))
		return false
	}
	if !on {
		return true
	}
	// A pattern such as /a/* covers the request of "/a/", though the node's path has no slash at its end.
	if at := strings.TrimPrefix(r.URL.Path, keysPath); v2tree.Clean(at) == path {
		path = at
	}
	u, known := e.sender(r, now)
	if !known {
		return false
	}
	roles := []string{v2auth.Guest}
	if u != nil {
		roles = u.Roles
	}
	return slices.ContainsFunc(roles, func(name string) bool {
		role, err := now.role(name)
		return err == nil && role != nil && role.May(path, write, recursive && u != nil)
	})
}

// MayAdmin tells whether who sends r may look after members: who only looks, and a user with role root.
func (e *Edge) MayAdmin(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || e.mayRoot(r)
}

// mayRoot tells whether who sends r is a user with role root, or auth is not enabled.
func (e *Edge) mayRoot(r *http.Request) bool {
	now := e.records()
	on, err := now.enabled()
	if err != nil || !on {
		return err == nil
	}
	u, known := e.sender(r, now)
	return known && u != nil && slices.Contains(u.Roles, v2auth.Root)
}

// sender finds who sends r: by name and password, else by a certificate. known is false for credentials that are wrong; without
// any there is no user.
func (e *Edge) sender(r *http.Request, now records) (u *v2auth.User, known bool) {
	if r.Header.Get("Authorization") == "" {
		return e.certified(r, now), true
	}
	name, pass, ok := r.BasicAuth()
	if !ok {
		return nil, false
	}
	u, err := now.user(name)
	if err != nil || u == nil {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(r.Context(), e.options.Timeout)
	defer cancel()
	if err := e.passwords.Check(ctx, checked(name), []byte(u.Password), pass); err != nil {
		e.options.Logger.Warn("a v2 user's password was not taken", zap.String("user", name), zap.Error(err))
		return nil, false
	}
	return u, true
}

// certified finds the user whom a certificate that was checked names.
func (e *Edge) certified(r *http.Request, now records) *v2auth.User {
	if !e.options.ClientCertAuth || r.TLS == nil {
		return nil
	}
	for _, chain := range r.TLS.VerifiedChains {
		if len(chain) == 0 {
			continue
		}
		if u, err := now.user(chain[0].Subject.CommonName); err == nil && u != nil {
			return u
		}
	}
	return nil
}
