//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package listen

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// reuse sets the socket options before the socket is bound.
func reuse(c syscall.RawConn, o Options) error {
	var failed error
	set := func(fd uintptr, option int) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, 1); err != nil && failed == nil {
			failed = fmt.Errorf("listen: set socket option %d: %w", option, err)
		}
	}
	err := c.Control(func(fd uintptr) {
		if o.ReuseAddress {
			set(fd, unix.SO_REUSEADDR)
		}
		if o.ReusePort {
			set(fd, unix.SO_REUSEPORT)
		}
	})
	if err != nil {
		return err
	}
	return failed
}
