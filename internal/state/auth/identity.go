package auth

import "context"

// Credentials are what a call brings to say who makes it, not believed yet.
type Credentials struct {
	// Token is good if HasToken is set; an empty one is a bad one.
	Token    string
	HasToken bool
	// CommonName is that of a client certificate that was verified, if Certified is set. A token comes before it.
	CommonName string
	Certified  bool
	// itself is set for what the member does on its own.
	itself bool
}

type credentialsKey struct{}

// With gives a context that carries what a call brings.
func With(ctx context.Context, c *Credentials) context.Context {
	return &identified{Context: ctx, Credentials: *c}
}

// identified is context.WithValue and the value in one piece: there is one for every call.
type identified struct {
	context.Context
	Credentials
}

func (i *identified) Value(key any) any {
	if key == (credentialsKey{}) {
		return &i.Credentials
	}
	return i.Context.Value(key)
}

// From gives what the call brought, nil if nothing.
func From(ctx context.Context) *Credentials {
	c, _ := ctx.Value(credentialsKey{}).(*Credentials)
	return c
}

// Itself gives a context for what the member does on its own, which it does as root.
func Itself(ctx context.Context) context.Context { return With(ctx, &Credentials{itself: true}) }

// Itself tells whether the member itself calls.
func (c *Credentials) Itself() bool { return c != nil && c.itself }
