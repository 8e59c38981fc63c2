package chain_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// joined has each share of the rows examined as a shard, sends the parts
// through JSON, and joins them in another order.
func joined(t testing.TB, shares [][]row, o chain.Options) (*chain.Report, error) {
	t.Helper()
	if o.Verifier == nil {
		o.Verifier = signers
	}
	var parts []*chain.Part
	for i, rows := range shares {
		o.Workers = 1 + i%2
		p, err := chain.Shard(t.Context(), source(rows), o)
		if err != nil {
			return nil, err
		}
		p.Shard = fmt.Sprintf("%d/%d", i+1, len(shares))
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		p = new(chain.Part)
		if err := json.Unmarshal(text, p); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	rand.New(rand.NewPCG(uint64(len(shares)), 5)).Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return chain.Join(parts, o)
}

// cut makes shares of neighbouring rows, some of them empty.
func cut(rows []row, r *rand.Rand, n int) [][]row {
	shares := make([][]row, n)
	for i := range shares[:n-1] {
		k := r.IntN(len(rows) + 1)
		shares[i], rows = rows[:k], rows[k:]
	}
	shares[n-1] = rows
	return shares
}

// dealt gives each row to any share.
func dealt(rows []row, r *rand.Rand, n int) [][]row {
	shares := make([][]row, n)
	for _, row := range rows {
		k := r.IntN(n)
		shares[k] = append(shares[k], row)
	}
	return shares
}

// However the rows are shared out, the joined verdict is that of one reading;
// for what is sound, warnings and all, the whole report is.
func TestJoinIsVerify(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, d := range damages() {
		t.Run(d.name, func(t *testing.T) {
			o := d.options
			if o.Verifier == nil {
				o.Verifier = signers
			}
			want, wantErr := chain.Verify(t.Context(), source(d.rows), o)
			for round := range 16 {
				share := cut
				if round%2 == 1 {
					share = dealt
				}
				shares := share(d.rows, random, 1+random.IntN(6))
				got, err := joined(t, shares, o)
				if (err != nil) != (wantErr != nil) {
					t.Fatalf("%v, in one reading %v", err, wantErr)
				}
				if err != nil {
					continue
				}
				if got.Verdict != want.Verdict || got.Events != want.Events {
					t.Fatalf("%d shards: %s, in one reading %s\n%s\n%s", len(shares), got.Verdict, want.Verdict, text(t, got), text(t, want))
				}
				if want.Verdict != chain.Failed && text(t, got) != text(t, want) {
					t.Fatalf("%d shards:\n%s\nin one reading\n%s", len(shares), text(t, got), text(t, want))
				}
			}
		})
	}
}

// overlapping is a chain whose signer old is retired in the middle of it.
func overlapping(n int) []row {
	rows := []row{write("e1", "old", `{"n":1}`, nil, noon)}
	for i := 2; i <= n; i++ {
		signer, payload := "old", fmt.Sprintf(`{"n":%d}`, i)
		if i > n/2 {
			signer = "new"
		}
		r := rows[i-2].after(fmt.Sprintf("e%d", i), signer, payload)
		if i%97 == 0 {
			r.CreatedAt = noon.Add(-time.Hour) // a warning
		}
		rows = append(rows, r)
	}
	return rows
}

// A row that is missing, there twice, put elsewhere or put in, at any boundary
// of shards, is found.
func TestShardBoundaries(t *testing.T) {
	const shards, each = 8, 50
	rows := overlapping(shards * each)
	o := chain.Options{Verifier: retired(shards * each / 2), Anchors: []chain.Anchor{anchorAt(rows, 170)}}
	share := func(rows []row) (shares [][]row) {
		for i := range shards {
			from, to := i*each, (i+1)*each
			if i == shards-1 {
				to = len(rows) // the last shard is open
			}
			shares = append(shares, rows[min(from, len(rows)):min(to, len(rows))])
		}
		return shares
	}
	whole := verify(t, rows, o)
	r, err := joined(t, share(rows), o)
	if err != nil || text(t, r) != text(t, whole) || r.Verdict != chain.Verified || !r.TruncationExcluded || r.ByRule[chain.RuleTimestampOrder] != 1 {
		t.Fatalf("%v\n%s\n%s", err, text(t, r), text(t, whole))
	}
	withEmpty := append(share(rows), nil)
	if r, err = joined(t, append([][]row{nil}, withEmpty...), o); err != nil || text(t, r) != text(t, whole) {
		t.Errorf("with empty shards: %v %s", err, text(t, r))
	}
	refused := func(name string, shares [][]row) {
		t.Helper()
		if r, err := joined(t, shares, o); err != nil || r.Verdict != chain.Failed {
			t.Errorf("%s: %v %+v", name, err, r)
		}
	}
	forged := rows[200].after("x", "new", `{"n":"forged"}`)
	for b := 1; b < shards; b++ {
		for _, at := range []int{b*each - 1, b * each} {
			name := fmt.Sprintf("row %d", at)
			refused(name+" removed", share(without(rows, at)))
			s := share(rows)
			s[b] = append([]row{rows[at]}, s[b]...)
			refused(name+" twice", s)
			s = share(rows)
			s[b] = append([]row{forged}, s[b]...)
			refused(name+" with another one beside it", s)
			refused(name+" lost between shards", func() [][]row {
				s := share(rows)
				if at < b*each {
					s[b-1] = s[b-1][:each-1]
				} else {
					s[b] = s[b][1:]
				}
				return s
			}())
		}
		s := share(rows) // a row that stands in its neighbour's range is no harm: order follows from digests
		s[b-1], s[b] = s[b-1][:each-1], append([]row{rows[b*each-1]}, s[b]...)
		if r, err := joined(t, s, o); err != nil || text(t, r) != text(t, whole) {
			t.Errorf("row %d in the next shard: %v", b*each-1, err)
		}
		s = share(rows)
		if b < shards-1 { // of the last one only the plan knows
			refused("a whole shard left out", append(s[:b:b], s[b+1:]...))
		}
	}
	refused("the head removed, below the checkpoint", share(rows[:169]))
	late := retired(shards*each/2 - 1)
	o.Verifier = late
	if r, err = joined(t, share(rows), o); err != nil || r.ByRule[chain.RuleRetiredSignerUsed] != 1 || text(t, r) != text(t, verify(t, rows, o)) {
		t.Errorf("a retired signer's late event: %v %s", err, text(t, r))
	}
}

// A fork that people have excepted is one for shards, too, wherever the
// boundaries run.
func TestJoinKnowsForks(t *testing.T) {
	rows := sound()
	rival := rows[2].after("rival", "old", `{"n":"rival"}`)
	forked := slices.Insert(slices.Clone(rows), 4, rival) // e1 e2 e3 e4 rival e5 e6
	var exceptions []chain.Exception
	for _, r := range []row{rows[3], rival} {
		exceptions = append(exceptions, chain.Exception{Rule: chain.RuleFork, EventID: string(r.ID), Digest: r.digest, Reason: "r", ApprovedBy: "a", ApprovedAt: noon})
	}
	o := chain.Options{Verifier: signers, Exceptions: exceptions}
	whole := verify(t, forked, o)
	if whole.Verdict != chain.Verified || len(whole.Tips) != 2 {
		t.Fatalf("%+v", whole)
	}
	same := 0
	for first := 0; first <= len(forked); first++ {
		for second := first; second <= len(forked); second++ {
			shares := [][]row{forked[:first], forked[first:second], forked[second:]}
			r, err := joined(t, shares, o)
			if err != nil {
				t.Fatal(err)
			}
			// Of an event at the end of a shard the id is not known.
			like := r.Verdict == chain.Verified && r.Head == whole.Head && slices.Equal(r.Tips, whole.Tips) && len(r.Findings) == len(whole.Findings) && r.ExceptionsUsed == whole.ExceptionsUsed
			switch {
			case text(t, r) == text(t, whole):
				same++
			case like && (first == 3 || second == 3):
			default:
				t.Errorf("cut at %d and %d:\n%s\nin one reading\n%s", first, second, text(t, r), text(t, whole))
			}
			o := o
			o.Exceptions = exceptions[:1]
			if r, err := joined(t, shares, o); err != nil || r.Verdict != chain.Failed {
				t.Errorf("cut at %d and %d, one rival not excepted: %v %+v", first, second, err, r)
			}
		}
	}
	if same < 20 {
		t.Errorf("%d of 36 cuts give the same report", same)
	}
}

// Whatever becomes of a chain, with every fork of it excepted: what one reading
// refuses every join refuses, and what it accepts every join accepts, with the
// same head and tips.
func TestJoinOfForksIsVerify(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 9))
	accepted, refused, forked := 0, 0, 0
	for range 1500 {
		rows := sound()
		o := chain.Options{Verifier: signers}
		if random.IntN(2) == 0 { // a signer is retired, at an event that may be moved yet
			k := 2 + random.IntN(2)
			o.Verifier, o.Anchors = retired(int64(k)), []chain.Anchor{{Name: "archive", Signer: "old", Position: int64(k), Digest: rows[k-1].digest}}
		}
		for range random.IntN(4) {
			at := random.IntN(len(rows))
			switch random.IntN(4) {
			case 0:
				rows = without(rows, at)
			case 1:
				rows = slices.Insert(rows, random.IntN(len(rows)+1), rows[at])
			case 2:
				copied := rows[at]
				copied.ID = []byte("copy")
				rows = slices.Insert(rows, random.IntN(len(rows)+1), copied)
			default:
				rows = slices.Insert(rows, random.IntN(len(rows)+1), rows[at].after(fmt.Sprintf("r%d", random.IntN(1000)), "old", fmt.Sprintf(`{"r":%d}`, random.IntN(1000))))
			}
		}
		for _, r := range rows {
			o.Exceptions = append(o.Exceptions, chain.Exception{Rule: chain.RuleFork, EventID: string(r.ID), Digest: r.digest, Reason: "r", ApprovedBy: "a", ApprovedAt: noon})
		}
		// Exceptions that match nothing are errors: keep those that one reading uses.
		for range 2 {
			unused := map[string]bool{}
			for _, f := range verify(t, rows, o).Findings {
				if f.Severity == finding.Error && strings.Contains(f.Message, "matches no such finding") {
					unused[f.EventID] = true
				}
			}
			o.Exceptions = slices.DeleteFunc(o.Exceptions, func(x chain.Exception) bool { return unused[x.EventID] })
		}
		want := verify(t, rows, o)
		for n := 1; n < 5; n++ {
			share := cut
			if n%2 == 0 {
				share = dealt
			}
			r, err := joined(t, share(rows, random, n), o)
			switch {
			case err != nil:
				t.Fatal(err)
			case r.Verdict != want.Verdict || want.Verdict != chain.Failed && (r.Head != want.Head || r.Length != want.Length || !slices.Equal(r.Tips, want.Tips) || r.ExceptionsUsed != want.ExceptionsUsed):
				t.Fatalf("%d shards: %s\nin one reading\n%s", n, text(t, r), text(t, want))
			case want.Verdict == chain.Failed:
				refused++
			case len(want.Tips) > 1:
				forked++
			default:
				accepted++
			}
		}
	}
	if accepted < 200 || refused < 200 || forked < 200 {
		t.Errorf("%d accepted, %d refused, %d forks accepted: one side was hardly tried", accepted, refused, forked)
	}
}

// A part of rows in order has the same size for any number of them, also where
// each waits for its position.
func TestPartsAreSmall(t *testing.T) {
	rows := overlapping(4000)
	size := func(n int) int {
		p, err := chain.Shard(t.Context(), source(rows[1:1+n]), chain.Options{Verifier: retired(5000), Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(p)
		if err != nil || len(p.Segments) != 1 {
			t.Fatalf("%d segments, %v", len(p.Segments), err)
		}
		return len(text)
	}
	if few, many := size(1500), size(3900); many > few+few/10 {
		t.Errorf("%d bytes for 1500 rows, %d for 3900", few, many)
	}
}

// Parts that do not belong together, or contradict themselves, are refused.
func TestJoinRefuses(t *testing.T) {
	rows := sound()
	o := chain.Options{Verifier: signers}
	for name, change := range map[string]func(*chain.Part){
		"another registry":    func(p *chain.Part) { p.Terms = strings.Repeat("0", 64) },
		"another release":     func(p *chain.Part) { p.ToolVersion = "v2" },
		"a later version":     func(p *chain.Part) { p.Version = 2 },
		"no events":           func(p *chain.Part) { p.Segments[0].Events = 0 },
		"more than it read":   func(p *chain.Part) { p.Segments[0].Events = 100 },
		"less than it read":   func(p *chain.Part) { p.Segments[0].Events = 2 },
		"a genesis that has":  func(p *chain.Part) { p.Segments[0].Genesis = !p.Segments[0].Genesis },
		"an end at its start": func(p *chain.Part) { p.Segments[0].Last = p.Segments[0].Prev },
		"a circle": func(p *chain.Part) {
			a, b := p.Segments[0], p.Segments[0]
			a.Prev, a.Last, b.Prev, b.Last = chain.Digest{1}, chain.Digest{2}, chain.Digest{2}, chain.Digest{1}
			p.Segments, p.Events = []chain.Piece{a, b}, 6
		},
		"counts of nothing": func(p *chain.Part) { p.ByRule = map[string]int64{"fork": 1}; p.FindingsTotal = 1 },
	} {
		var parts []*chain.Part
		for _, share := range [][]row{rows[:3], rows[3:]} {
			p, err := chain.Shard(t.Context(), source(share), o)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, p)
		}
		change(parts[1])
		var coded interface{ ExitCode() int }
		if r, err := chain.Join(parts, o); !errors.As(err, &coded) || coded.ExitCode() != 2 {
			t.Errorf("%s: %v %+v", name, err, r)
		}
	}
	if _, err := chain.Join([]*chain.Part{{Version: 1}}, o); err == nil {
		t.Error("a part without terms was joined")
	}
}
