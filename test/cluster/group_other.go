//go:build !unix

package main

import "syscall"

// ownGroup has no meaning here: the terminal's Ctrl-C reaches the members too.
func ownGroup() *syscall.SysProcAttr { return nil }
