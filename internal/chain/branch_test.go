package chain_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// line goes on from a row with events of one signer, named prefix1, prefix2…
func line(from row, prefix, signer string, n int) (rows []row) {
	for i := range n {
		from = from.after(fmt.Sprintf("%s%d", prefix, i+1), signer, fmt.Sprintf(`{"%s":%d}`, prefix, i+1))
		rows = append(rows, from)
	}
	return rows
}

// Whoever has a retired key cannot go on with the dead branch of a reviewed fork,
// though its positions lie before the signer's boundary. What was there when the
// signer was retired is pinned by the branch's last event.
func TestRetiredSignersBesideTheChain(t *testing.T) {
	first := write("first", "old", `{"n":0}`, nil, noon)
	trunk := append([]row{first}, line(first, "t", "old", 6)...) // boundary: position 7
	trunk = append(trunk, line(trunk[6], "u", "new", 2)...)
	boundary := chain.Anchor{Name: "archive", Signer: "old", Position: 7, Digest: trunk[6].digest}
	branch := line(trunk[1], "b", "old", 5) // positions 3 to 7
	young := line(trunk[1], "y", "new", 5)
	later := line(branch[1], "l", "new", 2) // beside branch[2]
	alias := line(branch[1], "a", "arn", 1)
	fork := func(rows ...row) (list []chain.Exception) {
		for _, r := range append(rows, trunk[2]) {
			list = append(list, excepted(chain.RuleFork, r))
		}
		return list
	}
	for name, tc := range map[string]struct {
		beside     []row
		exceptions []chain.Exception
		want       string
		position   int64
	}{
		"a reviewed rival":                    {branch[:1], fork(branch[0]), "", 0},
		"the retired key goes on there":       {branch[:2], fork(branch[0]), chain.RuleRetiredSignerUsed, 4},
		"up to the boundary's position":       {branch, fork(branch[0]), chain.RuleRetiredSignerUsed, 7},
		"a longer branch, reviewed":           {branch[:3], fork(branch[0], branch[2]), "", 0},
		"which grows":                         {branch[:4], fork(branch[0], branch[2]), chain.RuleRetiredSignerUsed, 6},
		"which ends before what was reviewed": {branch[:2], fork(branch[0], branch[2]), chain.RuleRetiredSignerUsed, 4},
		"another signer goes on":              {slices.Concat(branch[:1], line(branch[0], "v", "new", 3)), fork(branch[0]), "", 0},
		"the retired key after that":          {slices.Concat(branch[:1], line(branch[0], "v", "new", 1), line(line(branch[0], "v", "new", 1)[0], "w", "old", 1)), fork(branch[0]), chain.RuleRetiredSignerUsed, 5},
		"a branch without the retired signer": {young, fork(young[0]), "", 0},
		"pinned by a later event of another":  {slices.Concat(branch[:2], later), fork(branch[0], later[1]), "", 0},
		"which covers what is before it only": {slices.Concat(branch[:3], later), fork(branch[0], later[1]), chain.RuleRetiredSignerUsed, 5},
		"under an alias, pinned at its end":   {slices.Concat(branch[:2], alias), fork(branch[0], alias[0]), "", 0},
		"under an alias, going on":            {slices.Concat(branch[:1], line(branch[0], "a", "arn", 1)), fork(branch[0]), chain.RuleRetiredSignerUsed, 4},
		"a pin of another event's id":         {branch[:2], append(fork(branch[0]), chain.Exception{Rule: chain.RuleFork, EventID: "b1", Digest: branch[1].digest}), chain.RuleRetiredSignerUsed, 4},
	} {
		t.Run(name, func(t *testing.T) {
			rows, o := slices.Concat(trunk, tc.beside), chain.Options{Verifier: aliased(7), Exceptions: tc.exceptions, Anchors: []chain.Anchor{boundary}}
			random := rand.New(rand.NewPCG(3, 3))
			for range 10 {
				r := verify(t, rows, o)
				j, err := joined(t, dealt(rows, random, 3), o)
				if err != nil || j.Verdict != r.Verdict || text(t, j) != text(t, r) && r.Verdict == chain.Verified && !strings.Contains(text(t, j), `name the event (`) {
					t.Fatalf("in shards: %v\n%s\nin one reading\n%s", err, text(t, j), text(t, r))
				}
				switch i := slices.IndexFunc(r.Findings, func(f finding.Finding) bool { return f.Rule == tc.want }); {
				case tc.want == "" && r.Verdict != chain.Verified, tc.want != "" && (r.Verdict != chain.Failed || i < 0 || r.Findings[i].Position != tc.position):
					t.Fatalf("want %q at %d:\n%s", tc.want, tc.position, text(t, r))
				}
				random.Shuffle(len(rows), func(i, k int) { rows[i], rows[k] = rows[k], rows[i] })
			}
		})
	}
}

// The ends of branches that a checkpoint knows cannot be cut off unseen.
func TestBranchEndsAreAnchors(t *testing.T) {
	rows := sound()
	branch := line(rows[2], "b", "new", 3)
	o := chain.Options{Verifier: signers, Exceptions: []chain.Exception{excepted(chain.RuleFork, rows[3]), excepted(chain.RuleFork, branch[0])}, Anchors: []chain.Anchor{
		{Name: "checkpoint", Position: 6, Digest: rows[5].digest, Checkpoint: true}, {Name: "checkpoint", Digest: branch[2].digest, Checkpoint: true},
	}}
	if r := verify(t, slices.Concat(rows, branch), o); r.Verdict != chain.Verified || !r.TruncationExcluded {
		t.Errorf("%s", text(t, r))
	}
	// What is appended instead keeps all counts.
	r := verify(t, slices.Concat(rows, branch[:1], line(rows[5], "e", "new", 2)), o)
	if r.Verdict != chain.Failed || r.TruncationExcluded || r.ByRule[chain.RuleTruncated] != 1 || !strings.Contains(text(t, r), branch[2].digest.String()) {
		t.Errorf("%s", text(t, r))
	}
}

// What people hold to be lost must not be there: behind its restart nothing is held.
func TestGoneAnchors(t *testing.T) {
	rows := sound()
	o := chain.Options{Verifier: signers, Anchors: []chain.Anchor{{Name: "checkpoint", Position: 3, Digest: rows[2].digest, Checkpoint: true}, {Name: "checkpoint that a review has given up", Position: 6, Digest: rows[5].digest, Gone: true}}}
	if r := verify(t, rows[:5], o); r.Verdict != chain.Verified || !r.TruncationExcluded {
		t.Errorf("%s", text(t, r))
	}
	if r := verify(t, rows, o); r.Verdict != chain.Failed || r.ByRule[chain.RuleCheckpointMismatch] != 1 {
		t.Errorf("%s", text(t, r))
	}
}

// A row that is in the chain by review shows nothing about the signer that it
// names: neither that it signs, nor where it stopped.
func TestReviewedRowsAreNobodys(t *testing.T) {
	rows := sound()[:3]
	borrowed := rows[2].after("borrowed", "new", `{"n":4}`)
	borrowed.sign("old")
	unsigned := borrowed.after("unsigned", "new", `{"n":5}`)
	unsigned.Signature = nil
	o := chain.Options{Verifier: signers, Exceptions: []chain.Exception{excepted(chain.RuleBadSignature, borrowed), excepted(chain.RuleUnsigned, unsigned)}}
	r := verify(t, append(rows, borrowed, unsigned), o)
	if r.Verdict != chain.Verified || r.Events != 5 || r.ExceptionsUsed != 2 || r.Use("new").Events != 0 || r.Use("old").Events != 3 {
		t.Errorf("%s", text(t, r))
	}
}

// aliased is retired, with one more id for the old signer's entry.
func aliased(until int64) keyring {
	k := retired(until)
	k["arn"] = speaker{key: key("arn"), until: until, entry: "old"}
	return k
}

// Pins stand before a signer is retired, as its retirement asks for them, and
// after it came back; on a chain without branches they are out of date.
func TestPinsBeforeAndAfterRetirement(t *testing.T) {
	rows := sound()
	branch := line(rows[2], "b", "old", 3)
	pins := []chain.Exception{excepted(chain.RuleFork, rows[3]), excepted(chain.RuleFork, branch[0]), excepted(chain.RuleFork, branch[2])}
	boundary := []chain.Anchor{{Name: "archive", Signer: "old", Position: 3, Digest: rows[2].digest}}
	for name, o := range map[string]chain.Options{
		"before": {Verifier: signers, Exceptions: pins},
		"back":   {Verifier: signers, Exceptions: pins[:2], Anchors: boundary}, // the archive keeps its entry
	} {
		if r := verify(t, slices.Concat(rows, branch), o); r.Verdict != chain.Verified || r.ExceptionsUsed != len(o.Exceptions) {
			t.Errorf("%s: %s", name, text(t, r))
		}
	}
	twice := append([]chain.Anchor{{Name: "archive", Signer: "old", Position: 6, Digest: branch[2].digest}}, boundary...)
	if r := verify(t, slices.Concat(rows, branch), chain.Options{Verifier: retired(6), Exceptions: pins[:2], Anchors: twice}); r.Verdict != chain.Verified {
		t.Errorf("archived twice: %s", text(t, r))
	}
	if r := verify(t, rows, chain.Options{Verifier: signers, Exceptions: pins[:1]}); r.Verdict != chain.Failed {
		t.Errorf("no branch: %s", text(t, r))
	}
}

// A rival as long as the chain does not take its place from the checkpoint's head.
func TestTheCheckpointsHeadStays(t *testing.T) {
	rows := sound()
	for n := range 8 { // some have the lesser digest, some the greater
		rival := rows[4].after("rival", "new", fmt.Sprintf(`{"rival":%d}`, n))
		o := chain.Options{Verifier: signers, Exceptions: []chain.Exception{excepted(chain.RuleFork, rows[5]), excepted(chain.RuleFork, rival)}}
		for _, head := range []row{rows[5], rival} {
			o.Anchors = []chain.Anchor{{Name: "checkpoint", Position: 6, Digest: head.digest, Checkpoint: true}}
			if r := verify(t, append(slices.Clone(rows), rival), o); r.Verdict != chain.Verified || r.Head != head.digest.String() || len(r.Tips) != 2 {
				t.Errorf("%s: %s", head.ID, text(t, r))
			}
		}
	}
}

// Of random trees, in any order and in any shards: an event of a retired signer
// counts if it leads up to its boundary, or to an event that is pinned.
func TestBranchesByAncestry(t *testing.T) {
	random := rand.New(rand.NewPCG(14, 14))
	verdicts := map[chain.Verdict]int{}
	for range 600 {
		rows := []row{write("r0", "old", `{"n":0}`, nil, noon)}
		parent, signer := []int{-1}, []string{"old"}
		for n := 1; n < 12; n++ {
			p := n - 1
			if random.IntN(4) == 0 {
				p = random.IntN(n)
			}
			s := []string{"old", "arn", "new"}[random.IntN(3)]
			rows = append(rows, rows[p].after(fmt.Sprintf("r%d", n), s, fmt.Sprintf(`{"n":%d}`, n)))
			parent, signer = append(parent, p), append(signer, s)
		}
		depth := func(n int) (d int64) {
			for ; n >= 0; n = parent[n] {
				d++
			}
			return d
		}
		o := chain.Options{}
		pinned, branches, generous := map[int]bool{}, false, random.IntN(2) == 0
		for n := range rows {
			rivals := 0
			for k := range rows {
				if parent[k] == parent[n] {
					rivals++
				}
			}
			branches = branches || rivals > 1
			if rivals > 1 || random.IntN(6) == 0 || generous && !slices.Contains(parent, n) {
				pinned[n] = true
				o.Exceptions = append(o.Exceptions, excepted(chain.RuleFork, rows[n]))
			}
		}
		boundary := random.IntN(len(rows))
		for n := range rows {
			if generous && signer[n] != "new" && (signer[boundary] == "new" || depth(n) > depth(boundary)) {
				boundary = n // the signer's last event
			}
		}
		o.Verifier = aliased(depth(boundary))
		o.Anchors = []chain.Anchor{{Name: "archive", Signer: "old", Position: depth(boundary), Digest: rows[boundary].digest}}
		covered := map[int]bool{}
		for n := range rows {
			for k := n; (pinned[n] || n == boundary) && k >= 0; k = parent[k] {
				covered[k] = true
			}
		}
		want := chain.Verified
		for n := range rows {
			if signer[n] != "new" && (depth(n) > depth(boundary) || branches && !covered[n]) {
				want = chain.Failed
			}
		}
		if !branches && len(o.Exceptions) > 0 {
			want = chain.Failed // out of date
		}
		verdicts[want]++
		for n := range 4 {
			r := verify(t, rows, o)
			share := []func([]row, *rand.Rand, int) [][]row{cut, dealt}[n%2]
			j, err := joined(t, share(rows, random, 1+random.IntN(4)), o)
			if err != nil || r.Verdict != want || j.Verdict != want {
				t.Fatalf("%v, %v, want %s, boundary %d, pinned %v, parents %v, signers %v\n%s\n%s", r.Verdict, err, want, boundary, pinned, parent, signer, text(t, r), text(t, j))
			}
			random.Shuffle(len(rows), func(i, k int) { rows[i], rows[k] = rows[k], rows[i] }) // the model is done by now
		}
	}
	if verdicts[chain.Verified] < 60 || verdicts[chain.Failed] < 60 {
		t.Errorf("%v: one side was hardly tried", verdicts)
	}
}
