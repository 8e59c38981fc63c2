//go:build !amd64 || purego

package sigverify

// assembly gives the multiplier of this machine: there is none.
func assembly() multiplier { return nil }
