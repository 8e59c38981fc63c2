package chain_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

// grove makes a small random table: mostly one chain, with forks, gaps, copies
// and second beginnings thrown in.
func grove(random *rand.Rand) []row {
	kinds := []int{}
	for _, kind := range []int{1, 2, 3, 4} { // of damage that this one may have
		if random.IntN(3) == 0 {
			kinds = append(kinds, kind)
		}
	}
	at := func() time.Time {
		if random.IntN(6) == 0 {
			return time.Time{}
		}
		return noon.Add(time.Duration(random.IntN(4)) * time.Minute)
	}
	stranger := []string{"new", "new", "new", "who"}[random.IntN(4)]
	signer := func() string { return []string{"old", "new", "new", stranger}[random.IntN(4)] }
	rows := []row{write("r0", signer(), "0", nil, at())}
	for i := 1; i < 2+random.IntN(12); i++ {
		id, payload, kind := fmt.Sprintf("r%d", i), fmt.Sprint(i), 0
		if len(kinds) > 0 && random.IntN(3) == 0 {
			kind = kinds[random.IntN(len(kinds))]
		}
		parent := rows[len(rows)-1]
		switch kind {
		case 1: // a fork
			parent = rows[random.IntN(len(rows))]
		case 2: // a gap
			parent = parent.after("lost", "new", payload)
		case 3: // a copy
			r := again(rows[random.IntN(len(rows))], id)
			if random.IntN(2) == 0 {
				r.CreatedAt = at()
			}
			rows = append(rows, r)
			continue
		case 4: // a beginning
			rows = append(rows, write(id, signer(), payload, nil, at()))
			continue
		}
		rows = append(rows, write(id, signer(), payload, parent.name(), at()))
	}
	return rows
}

// shape is what the simplest reading of a whole table in memory finds.
func shape(rows []row) map[string]int64 {
	copies, children := map[string]int{}, map[string]map[string]bool{}
	for _, r := range rows {
		copies[r.digest.String()]++
		prev := string(r.Prev)
		if children[prev] == nil {
			children[prev] = map[string]bool{}
		}
		children[prev][r.digest.String()] = true
	}
	found := map[string]int64{}
	for prev, next := range children {
		switch {
		case prev == "":
			found[chain.RuleSecondGenesis] = int64(len(next) - 1)
		case copies[prev] == 0:
			found[chain.RuleMissingLink] += int64(len(next))
		case len(next) > 1:
			found[chain.RuleFork]++
		}
	}
	if len(children[""]) == 0 {
		found[chain.RuleMissingGenesis] = 1
		found[chain.RuleMissingLink]--
	}
	for _, n := range copies {
		found[chain.RuleDuplicateEvent] += int64(n - 1)
	}
	return found
}

// Whatever the rows are and whatever order they come in: one chain is
// verified, anything else fails, and the report is the same.
func TestAnyTableInAnyOrder(t *testing.T) {
	verified := 0
	for seed := range uint64(1500) {
		random := rand.New(rand.NewPCG(seed, 11))
		rows := grove(random)
		if random.IntN(8) == 0 {
			rows = without(rows, random.IntN(len(rows)))
		}
		options := chain.Options{Verifier: keyring{"old": {key: key("old"), until: 1 + random.Int64N(30)}, "new": {key: key("new")}}}
		if i := random.IntN(len(rows) + 1); i < len(rows) {
			position := int64(i + 1)
			if random.IntN(4) == 0 {
				position = 1 + random.Int64N(8)
			}
			options.Anchors = []chain.Anchor{{Name: "checkpoint", Position: position, Digest: rows[i].digest, Checkpoint: true}}
		}
		r := verifyInAnyOrder(t, rows, options, 6)

		want, broken := shape(rows), int64(0)
		copied := want[chain.RuleDuplicateEvent] > 0
		for _, rule := range []string{chain.RuleSecondGenesis, chain.RuleMissingLink, chain.RuleFork, chain.RuleMissingGenesis, chain.RuleDuplicateEvent} {
			broken += want[rule]
			switch got := r.ByRule[rule]; {
			case !copied && got != want[rule] && len(rows) > 0:
				t.Fatalf("seed %d: %d of %s, want %d\n%s", seed, got, rule, want[rule], found(r))
			case copied && (got > want[rule] || rule == chain.RuleDuplicateEvent && got == 0):
				t.Fatalf("seed %d: %d of %s, of at most %d\n%s", seed, got, rule, want[rule], found(r))
			}
		}
		if broken > 0 && r.Verdict != chain.Failed {
			t.Fatalf("seed %d: a table with %v is %s", seed, want, r.Verdict)
		}
		signed := func() bool {
			for _, rule := range []string{chain.RuleUnknownSigner, chain.RuleRetiredSignerUsed, chain.RuleCheckpointMismatch, chain.RuleTruncated} {
				if r.ByRule[rule] > 0 {
					return false
				}
			}
			return true
		}()
		if broken == 0 && len(rows) > 0 && (r.Verdict == chain.Verified) != signed {
			t.Fatalf("seed %d: verdict %s\n%s", seed, r.Verdict, found(r))
		}
		if r.Verdict == chain.Verified {
			verified++
		}
	}
	if verified < 100 {
		t.Errorf("only %d tables of 1500 were sound: the test says little", verified)
	}
}

// However many findings there are, the same ones are listed.
func TestFindingsAreBounded(t *testing.T) {
	rows := []row{write("e0", "old", "0", nil, noon)}
	for i := 1; i <= 3500; i++ {
		r := write(fmt.Sprintf("e%d", i), "old", fmt.Sprint(i), rows[i-1].name(), noon)
		r.Signer = []byte("who")
		rows = append(rows, r)
	}
	r := verifyInAnyOrder(t, rows, chain.Options{}, 3)
	if len(r.Findings) != 1000 || r.FindingsTotal != 3500 || r.ByRule[chain.RuleUnknownSigner] != 3500 {
		t.Fatalf("%d findings of %d", len(r.Findings), r.FindingsTotal)
	}
	for i, f := range r.Findings {
		if f.Position != int64(i+2) {
			t.Fatalf("finding %d is about position %d", i, f.Position)
		}
	}
}

// An event with many successors names the first of them, not the first that
// came.
func TestManyRivals(t *testing.T) {
	s := sound()
	rows := slices.Clone(s)
	for i := range 300 {
		rows = append(rows, s[2].after(fmt.Sprintf("f%03d", i), "new", fmt.Sprint(i)))
	}
	r := verifyInAnyOrder(t, rows, chain.Options{}, 20)
	if r.ByRule[chain.RuleFork] != 1 || r.FindingsTotal != 1 || len(r.Tips) != 301 {
		t.Errorf("%v, %d tips", r.ByRule, len(r.Tips))
	}
	if want := "301 events name event e3"; r.Findings[0].Message[:len(want)] != want {
		t.Error(r.Findings[0].Message)
	}
}

// Beyond a thousand signer ids that nobody knows the rest shares a line; a
// known one never does.
func TestManySignerIDs(t *testing.T) {
	rows := []row{write("e0", "new", "0", nil, noon)}
	for i := 1; i <= 1100; i++ {
		r := write(fmt.Sprintf("e%d", i), "new", fmt.Sprint(i), rows[i-1].name(), noon)
		r.Signer = fmt.Appendf(nil, "who-%d", i)
		rows = append(rows, r)
	}
	rows = append(rows, rows[1100].after("last", "old", "0"))
	long := rows[1101].after("long", "new", "1")
	long.Signer = make([]byte, 1<<20)
	rows = append(rows, long)
	r := verify(t, rows, chain.Options{})
	if rest := r.Signers["(more than 1000 unknown signer ids)"]; len(r.Signers) != 1002 || rest.Events != 102 || rest.LastPosition != 1103 || rest.State != "unknown" {
		t.Errorf("%d signers, %+v", len(r.Signers), rest)
	}
	if u := r.Signers["old"]; u.Events != 1 || u.LastPosition != 1102 || u.State != "active" {
		t.Errorf("%+v", u)
	}
	r = verify(t, []row{long}, chain.Options{})
	for id := range maps.Keys(r.Signers) {
		if len(id) > 300 {
			t.Errorf("an id of %d bytes", len(id))
		}
	}
}
