package auditdbtest

import "syscall"

// attributes let the server die with the thread that started it and keep the
// terminal's signals from it.
func attributes(owner *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: owner, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}
