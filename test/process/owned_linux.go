package process

import "syscall"

// owned ties a process to the test: it dies with it, however the test ends.
func owned() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
