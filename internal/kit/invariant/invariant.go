// Package invariant stops the program where going on would corrupt data: a broken invariant is a bug, and a member that
// crashes can be replaced, while one that writes nonsense spreads it.
package invariant

import "fmt"

// Assert panics with the message if cond is false. Checks that are cheap stay on in production.
func Assert(cond bool, format string, args ...any) {
	if !cond {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}
