//go:build unix

package main

import "syscall"

// ownGroup puts a member into a process group of its own, out of the terminal's Ctrl-C.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
