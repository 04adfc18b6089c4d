//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package listen

import "syscall"

func reuse(syscall.RawConn, Options) error { return ErrNoReuse }
