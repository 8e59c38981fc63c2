//go:build !purego

package sigverify

import "golang.org/x/sys/cpu"

// mulLanes is a multiplier for digits that are a multiple of 4 up to 80.
//
//go:noescape
func mulLanes(dst, a, b, n, t, inv *vector, digits int)

// assembly gives the multiplier of this machine, nil if it has none.
func assembly() multiplier {
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512IFMA {
		return mulLanes
	}
	return nil
}
