//go:build !linux

package auditdbtest

import "syscall"

// attributes keep the terminal's signals from the server, which outlives a
// process that is killed: only Linux can tie the two together.
func attributes(owner *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: owner, Setpgid: true}
}
