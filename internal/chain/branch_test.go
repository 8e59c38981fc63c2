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
	} {
		t.Run(name, func(t *testing.T) {
			rows, o := slices.Concat(trunk, tc.beside), chain.Options{Verifier: retired(7), Exceptions: tc.exceptions, Anchors: []chain.Anchor{boundary}}
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
