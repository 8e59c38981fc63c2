package chain_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

func anchorAt(rows []row, position int) chain.Anchor {
	return chain.Anchor{Name: "checkpoint", Position: int64(position), Digest: rows[position-1].digest, Checkpoint: true}
}

// What is resumed is what the whole reading finds, for every place to resume
// from and every number of rows that are read again before it.
func TestResume(t *testing.T) {
	rows := sound()
	for position := 1; position <= len(rows); position++ {
		for skipped := range position {
			for seed := range uint64(4) {
				o := chain.Options{Verifier: signers, Workers: 2}
				whole, err := chain.Verify(t.Context(), source(rows), o)
				if err != nil {
					t.Fatal(err)
				}
				from := anchorAt(rows, position)
				r, err := chain.Resume(t.Context(), source(shuffled(rows[skipped:], seed)), int64(len(rows)), from, o)
				if err != nil || r == nil || r.Verdict != chain.Verified || r.Head != whole.Head || r.Length != whole.Length || !r.TruncationExcluded {
					t.Fatalf("resumed at %d after %d rows: %+v %v", position, skipped, r, err)
				}
				if want := int64(len(rows) - position); r.Resumed.New != want || r.Resumed.From != from.String() || r.Events != int64(len(rows)-skipped) {
					t.Errorf("resumed at %d after %d rows: %+v, %d events read", position, skipped, r.Resumed, r.Events)
				}
				counted := int64(0)
				for id, u := range r.Signers {
					counted += u.Events
					if w := whole.Signers[id]; u.LastPosition != w.LastPosition || u.FirstPosition <= int64(position) {
						t.Errorf("resumed at %d: signer %s %+v, in the whole %+v", position, id, u, w)
					}
				}
				if counted != r.Resumed.New {
					t.Errorf("resumed at %d: %d events by signers", position, counted)
				}
			}
		}
	}
}

// Resuming has no opinion on anything that is not sound, whatever it is.
func TestResumeAcceptsOnly(t *testing.T) {
	s := sound()
	for _, d := range damages() {
		if d.name == "the sound chain" {
			continue
		}
		for position := 1; position <= len(s); position++ {
			from := anchorAt(s, position)
			o := d.options
			if o.Verifier == nil {
				o.Verifier = signers
			}
			r, err := chain.Resume(t.Context(), source(d.rows), int64(len(d.rows)), from, o)
			if err != nil {
				t.Fatalf("%s: %v", d.name, err)
			}
			o.Anchors = append(slices.Clone(o.Anchors), from)
			whole, err := chain.Verify(t.Context(), source(d.rows), o)
			if err != nil {
				t.Fatalf("%s: %v", d.name, err)
			}
			// An anchor beside the one resumed from is the caller's to judge.
			if r != nil && whole.Verdict != chain.Verified && len(d.options.Anchors) == 0 {
				t.Errorf("%s: resumed at %d, and the whole has failed: %v", d.name, position, found(whole))
			}
			if r == nil && whole.Verdict == chain.Verified && whole.ExceptionsUsed == 0 {
				t.Errorf("%s: not resumed at %d, and the whole is verified", d.name, position)
			}
		}
	}
	for name, from := range map[string]chain.Anchor{
		"an unknown event":  {Position: 3, Digest: chain.Digest{1}},
		"a wrong position":  {Position: 4, Digest: s[2].digest},
		"the first as last": {Position: 6, Digest: s[0].digest},
		"the last as first": {Position: 1, Digest: s[5].digest},
	} {
		if r, err := chain.Resume(t.Context(), source(s), 6, from, chain.Options{Verifier: signers}); r != nil || err != nil {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
	if r, err := chain.Resume(t.Context(), source(s[2:]), 7, anchorAt(s, 3), chain.Options{Verifier: signers}); r != nil || err != nil {
		t.Errorf("a row more in the table: %+v %v", r, err)
	}
	if r, err := chain.Resume(t.Context(), source(s[2:]), 0, anchorAt(s, 3), chain.Options{Verifier: signers}); r == nil || err != nil {
		t.Errorf("an export has no count: %v", err)
	}
	if r, err := chain.Resume(t.Context(), source(nil), 0, anchorAt(s, 3), chain.Options{Verifier: signers}); r != nil || err != nil {
		t.Errorf("no rows: %+v %v", r, err)
	}
}

// A random table behind a sound beginning is resumed if, and only if, the whole
// of it verifies.
func TestResumeAgainstWhole(t *testing.T) {
	resumed, refused := 0, 0
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 23))
		rows := grove(random)
		position := 1 + random.IntN(len(rows))
		skipped := random.IntN(position)
		beginning, err := chain.Verify(t.Context(), source(rows[:position]), chain.Options{Verifier: signers})
		if err != nil || beginning.Verdict != chain.Verified {
			continue
		}
		from := anchorAt(rows, position)
		whole, err := chain.Verify(t.Context(), source(rows), chain.Options{Verifier: signers, Anchors: []chain.Anchor{from}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := chain.Resume(t.Context(), source(shuffled(rows[skipped:], seed)), int64(len(rows)), from, chain.Options{Verifier: signers})
		if err != nil {
			t.Fatal(err)
		}
		if (r != nil) != (whole.Verdict == chain.Verified) {
			t.Errorf("seed %d: resumed at %d after %d: %+v, the whole %s", seed, position, skipped, r, whole.Verdict)
		}
		if r == nil {
			refused++
		} else if resumed++; r.Head != whole.Head || r.Length != whole.Length {
			t.Errorf("seed %d: %s at %d, the whole %s at %d", seed, r.Head, r.Length, whole.Head, whole.Length)
		}
	}
	if resumed < 200 || refused < 200 {
		t.Errorf("%d resumed, %d refused: the tables are too much alike", resumed, refused)
	}
}

// Whoever backdates a signer's last event does not make it any older than the
// events before it, in whatever order the rows come.
func TestLastNotBefore(t *testing.T) {
	rows := sound()
	last := rows[2] // the old signer's
	if string(last.Signer) != "old" || string(rows[3].Signer) != "new" {
		t.Fatalf("%s, then %s", last.Signer, rows[3].Signer)
	}
	rows[2].CreatedAt = noon.Add(-1000 * time.Hour)
	for seed := range uint64(50) {
		r, err := chain.Verify(t.Context(), source(shuffled(rows, seed)), chain.Options{Verifier: signers})
		if err != nil {
			t.Fatal(err)
		}
		u := r.Signers["old"]
		if !u.LastCreatedAt.Equal(rows[2].CreatedAt) || u.LastNotBefore == nil || !u.LastNotBefore.Equal(rows[1].CreatedAt) {
			t.Fatalf("seed %d: last at %v, not before %v, want %v", seed, u.LastCreatedAt, u.LastNotBefore, rows[1].CreatedAt)
		}
	}
}

// Nor does a fork, excepted by review, hide what came before the fork.
func TestLastNotBeforeBeyondForks(t *testing.T) {
	rows := []row{write("e1", "old", `{"n":1}`, nil, noon)}
	for i, hours := range []int{54, 1, 2, 3} {
		rows = append(rows, rows[i].after(fmt.Sprintf("e%d", i+2), "new", fmt.Sprintf(`{"n":%d}`, i+2)))
		rows[i+1].CreatedAt = noon.Add(time.Duration(hours) * time.Hour)
	}
	late := rows[4].after("late", "old", `{"late":true}`) // alone on its branch
	late.CreatedAt = noon
	rival := rows[4].after("rival", "new", `{"rival":1}`)
	short := rows[2].after("short", "new", `{"short":1}`)
	var o chain.Options
	for _, r := range []row{rows[3], short, late, rival} {
		o.Exceptions = append(o.Exceptions, chain.Exception{Rule: chain.RuleFork, EventID: string(r.ID), Digest: r.digest, Reason: "r", ApprovedBy: "a", ApprovedAt: noon})
	}
	for seed := range uint64(200) {
		r := verify(t, shuffled(append(slices.Clone(rows), late, rival, short), seed), o)
		if u := r.Signers["old"]; r.Verdict != chain.Verified || u.LastPosition != 6 || u.LastNotBefore == nil || !u.LastNotBefore.Equal(rows[1].CreatedAt) {
			t.Fatalf("seed %d: %s %v, position %d not before %v, want %v", seed, r.Verdict, r.Findings, u.LastPosition, u.LastNotBefore, rows[1].CreatedAt)
		}
	}
}
