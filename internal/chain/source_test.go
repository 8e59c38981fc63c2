package chain_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

var errBroken = errors.New("the line is dead")

// anyone is a Verifier to whom every signature is good, until one batch.
type anyone struct {
	batches atomic.Int64
	fail    int64 // number of the batch that cannot be judged
}

func (a *anyone) Judge(ctx context.Context, claims []chain.Claim, out []chain.Judgement) error {
	if a.batches.Add(1) == a.fail {
		return errBroken
	}
	for i := range out {
		out[i] = chain.Judgement{Signer: "a", State: "active"}
	}
	return nil
}

// long is a sound chain of n events, made as it is read; err ends it before
// event number at.
func long(n, at int, err error) iter.Seq2[chain.Event, error] {
	return func(yield func(chain.Event, error) bool) {
		r := row{}
		for i := range n {
			if i == at && err != nil {
				yield(chain.Event{}, err)
				return
			}
			r = unsigned(fmt.Appendf(nil, "%d", i), r)
			if !yield(r.Event, nil) {
				return
			}
		}
		if at >= n && err != nil {
			yield(chain.Event{}, err)
		}
	}
}

// settled waits until no more goroutines run than before.
func settled(t *testing.T, before int) {
	t.Helper()
	for range 2000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// Whatever ends a verification early, the reason comes out, there is no
// report, and nothing keeps running.
func TestErrorsComeOut(t *testing.T) {
	const rows = 20_000
	before := runtime.NumGoroutine()
	for _, at := range []int{0, 1, 255, 256, 257, rows / 2, rows - 1, rows} {
		for _, workers := range []int{0, 1, 4} {
			r, err := chain.Verify(t.Context(), long(rows, at, errBroken), chain.Options{Verifier: &anyone{}, Workers: workers})
			if r != nil || !errors.Is(err, errBroken) {
				t.Errorf("source fails at %d: %v %v", at, r, err)
			}
		}
	}
	for _, batch := range []int64{1, 2, 17, 78, 79} {
		for _, workers := range []int{1, 4} {
			r, err := chain.Verify(t.Context(), long(rows, 0, nil), chain.Options{Verifier: &anyone{fail: batch}, Workers: workers})
			if r != nil || !errors.Is(err, errBroken) {
				t.Errorf("batch %d cannot be judged: %v %v", batch, r, err)
			}
		}
	}
	settled(t, before)
}

func TestCancellation(t *testing.T) {
	before := runtime.NumGoroutine()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := chain.Verify(done, long(10, 0, nil), chain.Options{Verifier: &anyone{}}); r != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v %v", r, err)
	}
	during, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := chain.Options{Verifier: &anyone{}, Workers: 2, Progress: func(events int64) {
		if events > 5000 {
			cancel()
		}
	}}
	if r, err := chain.Verify(during, long(1_000_000, 0, nil), o); r != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled on the way: %v %v", r, err)
	}
	settled(t, before)
}

func TestManyRows(t *testing.T) {
	const rows = 100_000
	var last int64
	r, err := chain.Verify(t.Context(), long(rows, 0, nil), chain.Options{Verifier: &anyone{}, Workers: 3, Progress: func(n int64) {
		if n <= last {
			t.Errorf("progress from %d to %d", last, n)
		}
		last = n
	}})
	if err != nil || r.Verdict != chain.Verified || r.Length != rows || last != rows {
		t.Errorf("%+v %v", r, err)
	}
}

// A chain that is broken is read again. What is then read must be the same, or
// there is no verdict.
func TestSourceThatChanges(t *testing.T) {
	broken := without(sound(), 2)
	for name, again := range map[string][]row{
		"nothing":  nil,
		"repaired": sound(),
		"cut":      broken[:4],
		"edited":   append(slices.Clone(broken[:4]), other("x", 1)...),
	} {
		reads := 0
		changing := func(yield func(chain.Event, error) bool) {
			reads++
			rows := broken
			if reads == 2 {
				rows = again
			}
			source(rows)(yield)
		}
		r, err := chain.Verify(t.Context(), changing, chain.Options{Verifier: signers})
		if err == nil || r != nil || reads != 2 || !strings.Contains(err.Error(), "read again") {
			t.Errorf("%s: %v %v after %d readings", name, r, err, reads)
		}
	}
	if r, err := chain.Verify(t.Context(), long(1000, 0, nil), chain.Options{Verifier: &anyone{fail: 5}}); err != nil || r.Verdict != chain.Verified {
		t.Errorf("a sound chain is read once: %v", err)
	}
	// The second reading may fail for its own reasons.
	reads := 0
	failing := func(yield func(chain.Event, error) bool) {
		if reads++; reads == 2 {
			yield(chain.Event{}, errBroken)
			return
		}
		source(broken)(yield)
	}
	if _, err := chain.Verify(t.Context(), failing, chain.Options{Verifier: signers}); !errors.Is(err, errBroken) {
		t.Error(err)
	}
}

func TestPayloadTooDeep(t *testing.T) {
	rows := edit(4, func(r *row) { r.Payload = []byte(strings.Repeat("[", 600) + strings.Repeat("]", 600)) })
	_, err := chain.Verify(t.Context(), source(rows), chain.Options{Verifier: signers})
	var unreadable *chain.SourceError
	if !errors.As(err, &unreadable) || unreadable.ExitCode() != 2 || !strings.Contains(err.Error(), `row 5 (event "e5")`) {
		t.Error(err)
	}
}
