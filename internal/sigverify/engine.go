package sigverify

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
)

// Paths names the fast paths that may be taken.
type Paths uint8

// The fast paths. Each is taken only where the machine and the key allow it.
const (
	Lanes   Paths = 1 << iota // RSA, eight signatures at once: amd64 with AVX-512 IFMA
	Modulus                   // RSA, with what the library computes anew from the modulus each time
	Tables                    // Ed25519, with tables of each busy key
	MAC                       // HMAC, with the key's pads hashed once

	AllPaths Paths = 1<<iota - 1
	NoPaths  Paths = 0
)

var pathNames = []string{"ifma", "modulus", "tables", "mac"}

// ParsePaths reads "all" (as does ""), "none", or a list of ifma, modulus,
// tables and mac with commas in between.
func ParsePaths(text string) (Paths, error) {
	switch text {
	case "", "all":
		return AllPaths, nil
	case "none":
		return NoPaths, nil
	}
	var p Paths
next:
	for name := range strings.SplitSeq(text, ",") {
		for i, known := range pathNames {
			if name == known {
				p |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("%.40q is no fast path: give all, none, or some of %s with commas in between", name, strings.Join(pathNames, ", "))
	}
	return p, nil
}

// Options say how an Engine works; the zero value is meant for use.
type Options struct {
	// Without names the fast paths that are not taken.
	Without Paths
	// Recheck n has one in n accepted signatures checked again by the library,
	// chosen at random; 0 is one in 1,024. The first one of each key always is;
	// below 0 it alone.
	Recheck int

	// multiply stands in for the assembly in tests.
	multiply multiplier
}

// Engine checks batches of signatures, for several goroutines at once.
type Engine struct {
	options Options
	tables  *tables
	free    chan bench
	counts  struct{ fast, library, rechecked atomic.Int64 }
}

// Counts say who decided about signatures.
type Counts struct {
	// Fast were accepted by a fast path; Rechecked of them were checked again
	// by the standard library, which agreed each time.
	Fast      int64 `json:"fast"`
	Rechecked int64 `json:"rechecked"`
	// Library were decided by the standard library alone.
	Library int64 `json:"library"`
}

// maxFree bounds the benches that are kept for later.
const maxFree = 256

// NewEngine makes an engine.
func NewEngine(o Options) *Engine {
	if o.Recheck == 0 {
		o.Recheck = 1024
	}
	if o.multiply == nil {
		o.multiply = assembly()
	}
	return &Engine{options: o, tables: newTables(maxTables), free: make(chan bench, maxFree)}
}

// Check is one signature to be checked: Engine.Verify sets Valid. Signature is
// the raw one, see Decode.
type Check struct {
	Key       *Key
	Digest    [32]byte
	Signature []byte
	Valid     bool
}

// engine is a fast path, with the space that one goroutine needs for it.
type engine interface {
	// accept sets Valid of those checks that it knows to be valid, and leaves
	// all others as they are.
	accept(checks []Check)
}

// bench is what one goroutine works with, in the order of preference.
type bench []engine

func (e *Engine) newBench() (b bench) {
	takes := func(p Paths) bool { return e.options.Without&p == 0 }
	if takes(Lanes) && e.options.multiply != nil {
		for _, digits := range []int{40, 60, 80} {
			b = append(b, newLanes(digits, e.options.multiply))
		}
	}
	if takes(Modulus) {
		b = append(b, newPower())
	}
	if takes(Tables) {
		b = append(b, &tabled{tables: e.tables})
	}
	if takes(MAC) {
		b = append(b, &macs{})
	}
	return b
}

// take gives a bench for one goroutine, put takes it back.
func (e *Engine) take() bench {
	select {
	case b := <-e.free:
		return b
	default:
		return e.newBench()
	}
}

func (e *Engine) put(b bench) {
	select {
	case e.free <- b:
	default:
	}
}

// errIntegrity has no place among verdicts: the machine, the compiler or a
// fast path is broken, so nothing that this process says can be relied on.
type errIntegrity struct{ text string }

func (e errIntegrity) Error() string { return e.text }

// ExitCode is 3: could not tell.
func (errIntegrity) ExitCode() int { return 3 }

// Verify sets Valid of every check. An error says that a fast path accepted
// what the standard library refuses: no verdict of this process counts then.
func (e *Engine) Verify(checks []Check) error {
	b := e.take()
	defer e.put(b)
	for i := range checks {
		checks[i].Valid = false
	}
	for _, engine := range b {
		engine.accept(checks)
	}
	var fast, rechecked int64
	for i := range checks {
		c := &checks[i]
		if !c.Valid {
			c.Valid = c.Key.Verify(c.Digest, c.Signature)
			continue
		}
		fast++
		if c.Key.confirmed.Load() && (e.options.Recheck < 0 || rand.IntN(e.options.Recheck) != 0) {
			continue
		}
		rechecked++
		if !c.Key.Verify(c.Digest, c.Signature) {
			return errIntegrity{fmt.Sprintf("a fast path accepted the signature %.64x… over the digest %x, and the standard library refuses it. This machine or this build is broken, so nothing was verified: run it on another machine with AUDIT_SIGNER_FAST_PATHS=none and report this", c.Signature, c.Digest)}
		}
		c.Key.confirmed.Store(true)
	}
	e.counts.fast.Add(fast)
	e.counts.rechecked.Add(rechecked)
	e.counts.library.Add(int64(len(checks)) - fast)
	return nil
}

// Counts sums up the checks of all goroutines so far.
func (e *Engine) Counts() Counts {
	return Counts{Fast: e.counts.fast.Load(), Rechecked: e.counts.rechecked.Load(), Library: e.counts.library.Load()}
}

// HasLanes tells whether this machine has what the Lanes path needs.
func HasLanes() bool { return assembly() != nil }
