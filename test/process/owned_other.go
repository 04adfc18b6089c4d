//go:build !linux

package process

import "syscall"

// owned ties a process to the test where the system can.
func owned() *syscall.SysProcAttr { return nil }
