package chain

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
)

// loyal judges every signature good, by a signer who counts up to until.
type loyal struct{ until int64 }

func (l loyal) Judge(_ context.Context, claims []Claim, out []Judgement) error {
	for i := range out {
		out[i] = Judgement{Signer: string(claims[i].Signer), State: "retired", Until: l.until}
	}
	return nil
}

// events makes a sound chain of n events signed by a.
func events(n int) []Event {
	list := make([]Event, n)
	var prev []byte
	for i := range list {
		payload := fmt.Appendf(nil, "%d", i)
		list[i] = Event{Row: int64(i + 1), ID: payload, Payload: payload, Prev: prev, Signature: []byte("s"), Signer: []byte("a")}
		text := payload
		if prev != nil {
			d, _ := ParseDigest(prev)
			text = append(append([]byte{}, payload...), d[:]...)
		}
		prev = []byte(Digest(sha256.Sum256(text)).String())
	}
	return list
}

func inOrder(list []Event, order func(i int) int) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for i := range list {
			if !yield(list[order(i)], nil) {
				return
			}
		}
	}
}

func forward(i int) int { return i }

// What is kept grows with disorder, not with length.
func TestMemoryStaysFlat(t *testing.T) {
	const n = 200_000
	chain := func(yield func(Event, error) bool) {
		var prev []byte
		var buf []byte
		for i := range n {
			payload := fmt.Appendf(nil, "%d", i)
			if !yield(Event{ID: payload, Payload: payload, Prev: prev, Signature: []byte("s"), Signer: []byte("a")}, nil) {
				return
			}
			buf = append(buf[:0], payload...)
			if prev != nil {
				d, _ := ParseDigest(prev)
				buf = append(buf, d[:]...)
			}
			prev = []byte(Digest(sha256.Sum256(buf)).String())
		}
	}
	v := newVerification(Options{Verifier: loyal{n}, Workers: 2}, most)
	v.Progress = func(int64) {
		if j := v.joiner; j.open != 1 || j.pending != 0 || len(j.byLast)+len(j.byFirst)+len(j.current.marks)+len(j.current.late) != 0 || len(j.roots) != 1 || len(j.current.uses) != 1 {
			t.Errorf("%d open, %d pending, %d and %d listed", j.open, j.pending, len(j.byLast), len(j.byFirst))
		}
	}
	r, err := v.run(t.Context(), chain)
	if err != nil || r.Verdict != Verified || r.Length != n {
		t.Errorf("%v %v", r, err)
	}
}

// In any order, every segment is findable by both ends, and nothing is left
// when all are joined.
func TestJoinerKeepsItsBooks(t *testing.T) {
	list := events(300)
	for seed := range uint64(30) {
		order := rand.New(rand.NewPCG(seed, 3)).Perm(len(list))
		j := newJoiner(most, nil)
		j.settle = func(int64, mark) {}
		var h hasher
		for _, i := range order {
			var o outcome
			if err := h.digest(&list[i], &o); err != nil {
				t.Fatal(err)
			}
			if err := j.add(&list[i], &o); err != nil {
				t.Fatal(err)
			}
			listed := map[*segment]bool{j.current: true}
			for d, s := range j.byLast {
				for ; s != nil; s = s.right {
					if s.last != d || s.of != s || listed[s] {
						t.Fatal("byLast is wrong")
					}
					listed[s] = true
				}
			}
			waiting := len(j.roots)
			for d, s := range j.byFirst {
				for ; s != nil; s = s.sibling {
					if s.prev != d || !listed[s] {
						t.Fatal("byFirst is wrong")
					}
					waiting++
				}
			}
			if waiting != j.open || len(listed) != j.open {
				t.Fatalf("%d open, %d listed by their last, %d by their first", j.open, len(listed), waiting)
			}
		}
		if j.open != 1 || len(j.byFirst)+len(j.byLast) != 0 || j.finish()[0].events() != 300 {
			t.Fatalf("%d open", j.open)
		}
	}
}

func TestMaxGaps(t *testing.T) {
	list := events(64)
	odd := func(i int) int { return (2*i + 1) % 65 % 64 } // 1 3 5 … 63 0 2 4 …
	o := Options{Verifier: loyal{100}}
	if r, err := newVerification(o, limits{maxGaps: 33, maxMarks: 1, maxPieces: 1}).run(t.Context(), inOrder(list, odd)); err != nil || r.Verdict != Verified {
		t.Errorf("33 gaps: %v %v", r, err)
	}
	_, err := newVerification(o, limits{maxGaps: 31, maxMarks: 1, maxPieces: 1}).run(t.Context(), inOrder(list, odd))
	var unreadable *SourceError
	if !errors.As(err, &unreadable) || unreadable.ExitCode() != 2 || !strings.Contains(err.Error(), "more than 31 gaps") {
		t.Error(err)
	}
}

// Marks beyond the limit are not kept one by one, and the verdict is the same:
// of a retired signer's events the last one decides.
func TestMaxMarks(t *testing.T) {
	const n = 500
	list := events(n)
	backward := func(i int) int { return n - 1 - i }
	for until, want := range map[int64]Verdict{n: Verified, n - 1: Failed, 1: Failed} {
		for _, marks := range []int{0, 1, 10, n} {
			for name, order := range map[string]func(int) int{"forward": forward, "backward": backward} {
				v := newVerification(Options{Verifier: loyal{until}}, limits{maxGaps: 10, maxMarks: marks, maxPieces: 1})
				v.Progress = func(int64) {
					if v.joiner.pending > marks {
						t.Errorf("%d marks wait, at most %d may", v.joiner.pending, marks)
					}
				}
				r, err := v.run(t.Context(), inOrder(list, order))
				if err != nil || r.Verdict != want {
					t.Errorf("%s until %d, %d marks: %v %v", name, until, marks, r, err)
					continue
				}
				exact := n - until
				if got := r.ByRule[RuleRetiredSignerUsed]; got > exact || exact > 0 && got == 0 || (marks == n || name == "forward") && got != exact {
					t.Errorf("%s until %d, %d marks: %d events named, %d came too late", name, until, marks, got, exact)
				}
				if exact > 0 && r.Findings[len(r.Findings)-1].Position != n {
					t.Errorf("%s until %d, %d marks: the last event is not named: %v", name, until, marks, r.Findings)
				}
			}
		}
	}
}

// Findings beyond the limit lose their position and still count.
func TestMaxMarksOfFindings(t *testing.T) {
	const n = 100
	list := events(n)
	for i := range list {
		list[i].Signature = nil
	}
	v := newVerification(Options{Verifier: loyal{}}, limits{maxGaps: 10, maxMarks: 20, maxPieces: 1})
	r, err := v.run(t.Context(), inOrder(list, func(i int) int { return n - 1 - i }))
	if err != nil || r.ByRule[RuleUnsigned] != n {
		t.Fatalf("%v %v", r, err)
	}
	placed := 0
	for _, f := range r.Findings {
		if f.Position > 0 {
			placed++
		}
	}
	if placed != 21 || v.joiner.pending != 0 {
		t.Errorf("%d findings have a position, want 20 and the first event's; %d pending", placed, v.joiner.pending)
	}
}

// A table in very many pieces is not read again: it has failed already.
func TestMaxPieces(t *testing.T) {
	list := events(100)
	var pieces []Event
	for i := 0; i < len(list); i += 2 {
		pieces = append(pieces, list[i])
	}
	reads := 0
	counted := func(yield func(Event, error) bool) {
		reads++
		inOrder(pieces, forward)(yield)
	}
	for _, most := range []int{49, 50} {
		reads = 0
		r, err := newVerification(Options{Verifier: loyal{100}}, limits{maxGaps: 100, maxPieces: most}).run(t.Context(), counted)
		if err != nil || r.Verdict != Failed || r.ByRule[RuleMissingLink] != 49 || r.FindingsTotal != 49 || r.Length != 1 {
			t.Errorf("%v %v", r, err)
		}
		if named := strings.Contains(r.Findings[0].Message, "50 pieces"); named != (most == 49) || reads != 1+most-49 {
			t.Errorf("%d readings: %s", reads, r.Findings[0].Message)
		}
	}
}

// Rows in reverse order, each with a mark, must not cost the square of their
// number: a mark moves over at most as often as the load it is in doubles.
func TestLoadsMoveRarely(t *testing.T) {
	const n = 4096
	list := events(n)
	j := newJoiner(most, nil)
	settled := 0
	j.settle = func(int64, mark) { settled++ }
	var h hasher
	heavy := (*load)(nil)
	changes := 0
	for i := n - 1; i >= 0; i-- {
		var o outcome
		if err := h.digest(&list[i], &o); err != nil {
			t.Fatal(err)
		}
		o.judged = Judgement{Signer: "a", State: "retired", Until: n}
		if err := j.add(&list[i], &o); err != nil {
			t.Fatal(err)
		}
		if j.current.load != heavy {
			heavy, changes = j.current.load, changes+1
		}
	}
	// The first event's segment starts with a genesis and settles all.
	if changes > 3 || settled != n {
		t.Errorf("the growing load changed hands %d times; %d marks settled", changes, settled)
	}
}

func TestClip(t *testing.T) {
	for _, name := range []string{"", "x", strings.Repeat("x", 256), strings.Repeat("é", 128)} {
		if got := clip([]byte(name)); got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
	for name, want := range map[string]string{
		strings.Repeat("x", 257):       strings.Repeat("x", 256) + "…",
		"x" + strings.Repeat("é", 128): "x" + strings.Repeat("é", 127) + "…",
	} {
		if got := clip([]byte(name)); got != want {
			t.Errorf("%q became %q", name, got)
		}
	}
}
