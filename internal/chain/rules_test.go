package chain_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

// damaged is a chain with something wrong; the findings it must give, in all
// orders of its rows.
type damaged struct {
	name    string
	rows    []row
	options chain.Options
	want    []string
}

// edit gives the sound chain with one row changed.
func edit(i int, change func(*row)) []row {
	rows := sound()
	change(&rows[i])
	return rows
}

func with(more ...row) []row { return slices.Concat(sound(), more) }

func withHash(change func(*row)) []row {
	rows := sound()
	for i := range rows {
		rows[i].HasHash, rows[i].Hash = true, rows[i].name()
	}
	change(&rows[2])
	return rows
}

func checkpoint(position int64, d chain.Digest) chain.Options {
	return chain.Options{Anchors: []chain.Anchor{{Name: "checkpoint", Position: position, Digest: d, Checkpoint: true}}}
}

func damages() []damaged {
	s := sound()
	e := func(n int) row { return s[n-1] }
	var cases []damaged
	add := func(name string, rows []row, want ...string) {
		cases = append(cases, damaged{name, rows, chain.Options{}, want})
	}
	given := func(o chain.Options, name string, rows []row, want ...string) {
		cases = append(cases, damaged{name, rows, o, want})
	}
	add("the sound chain", s)
	add("one event", s[:1])
	given(chain.Options{StrictNumbers: true}, "the sound chain, strict numbers", s)

	// Signatures.
	add("signature over another digest", edit(2, func(r *row) { r.Signature = e(2).Signature }), "error bad-signature 3 e3")
	add("signature by another key", edit(2, func(r *row) { r.sign("new") }), "error bad-signature 3 e3")
	add("no signature", edit(2, func(r *row) { r.Signature = nil }), "error unsigned 3 e3")
	add("empty signature", edit(5, func(r *row) { r.Signature = []byte{} }), "error unsigned 6 e6")
	add("unknown signer", edit(0, func(r *row) { r.Signer = []byte("who") }), "error unknown-signer 1 e1")
	add("no signer", edit(2, func(r *row) { r.Signer = nil }), "error unknown-signer 3 e3")
	add("signature that is no text", edit(2, func(r *row) { r.Signature = []byte("&") }), "error malformed-signature 3 e3")
	add("signature of another length", edit(2, func(r *row) { r.Signature = []byte("AAAA") }), "error algorithm-mismatch 3 e3")
	given(chain.Options{Verifier: retired(3)}, "retired at its last event", s)
	given(chain.Options{Verifier: retired(2)}, "retired one event too early", s, "error retired-signer-used 3 e3")
	given(chain.Options{Verifier: retired(3)}, "retired, and back later", with(e(6).after("e7", "old", "7")), "error retired-signer-used 7 e7")
	given(chain.Options{Verifier: retired(1)}, "retired, bad signature later", edit(2, func(r *row) { r.sign("new") }),
		"error retired-signer-used 2 e2", "error bad-signature 3 e3")
	given(chain.Options{Verifier: retired(2)}, "retired, on a branch", with(e(2).after("f3", "old", "0")),
		"error fork 3 e3", "error retired-signer-used 3 e3", "error retired-signer-used 3 f3")

	// Rows that have no digest.
	add("prev_hash in upper case", edit(5, func(r *row) { r.Prev = []byte(strings.ToUpper(string(r.Prev))) }), "error malformed-prev-hash 0 e6")
	add("prev_hash cut off", edit(5, func(r *row) { r.Prev = r.Prev[:63] }), "error malformed-prev-hash 0 e6")
	add("prev_hash too long", edit(5, func(r *row) { r.Prev = append(r.name(), '0') }), "error malformed-prev-hash 0 e6")
	add("prev_hash that is no hex", edit(5, func(r *row) { r.Prev = []byte(strings.Repeat("z", 64)) }), "error malformed-prev-hash 0 e6")
	add("prev_hash malformed in the middle", edit(2, func(r *row) { r.Prev = []byte("x") }),
		"error malformed-prev-hash 0 e3", "error missing-link 0 e4")
	add("prev_hash of zeros", edit(5, func(r *row) { r.Prev = []byte(strings.Repeat("0", 64)) }), "error bad-signature 0 e6", "error missing-link 0 e6")
	add("payload with a doubled name", edit(5, func(r *row) { r.Payload = []byte(`{"a":1,"a":2}`) }), "error malformed-event 0 e6")
	add("payload that is no JSON", edit(5, func(r *row) { r.Payload = []byte(`{`) }), "error malformed-event 0 e6")
	add("payload empty", edit(5, func(r *row) { r.Payload = []byte{} }), "error malformed-event 0 e6")
	add("not one row with a digest", edit(0, func(r *row) { r.Payload = []byte(`{`) })[:1],
		"error missing-genesis 0 ", "error malformed-event 0 e1")

	// The shape.
	add("no first event", s[1:], "error missing-genesis 0 e2")
	add("no first event, a later gap", slices.Concat(s[1:3], s[4:]), "error missing-genesis 0 e2", "error missing-link 0 e5")
	add("a shorter second chain", with(write("g1", "new", "1", nil, noon)), "error second-genesis 1 g1")
	add("a longer second chain", slices.Concat(s[:2], other("g", 3)), "error second-genesis 1 e1")
	add("second chain as long as the first", slices.Concat(s[:1], other("a", 1)), "error second-genesis 1 "+greater(s[0], other("a", 1)[0]))
	add("a gap", without(s, 2), "error missing-link 0 e4")
	add("a gap before the last event", without(s, 4), "error missing-link 0 e6")
	add("an event of another chain", with(other("x", 2)[1]), "error missing-link 0 x2")
	add("bad signature after a gap", without(edit(4, func(r *row) { r.sign("old") }), 2), "error missing-link 0 e4", "error bad-signature 0 e5")
	add("two rivals", with(e(3).after("f4", "new", "0")), "error fork 4 e4")
	add("three rivals", with(e(3).after("f4", "new", "0"), e(3).after("d4", "new", "1")), "error fork 4 d4")
	add("rivals for the second place", with(e(1).after("f2", "old", "0")), "error fork 2 e2")
	add("rivals at the end", with(e(5).after("f6", "new", "0")), "error fork 6 e6")
	add("a branch with a gap behind a fork", slices.Concat(branch(e(3), 1), branch(e(3), 4)[2:], s), "error missing-link 0 b3", "error fork 4 b1")
	add("a fork on a branch", slices.Concat(s, branch(e(2), 3), []row{branch(e(2), 3)[1].after("c3", "new", "0")}), "error fork 3 b1", "error fork 5 b3")
	add("a fork on a piece that hangs nowhere", slices.Concat(s[:2], s[3:], []row{e(4).after("f5", "new", "0")}), "error missing-link 0 e4", "error fork 0 e5")
	add("a row copied", with(again(e(3), "c3")), "error duplicate-event 3 e3")
	add("a row copied with its id", with(e(3)), "error duplicate-event 3 e3")
	add("a row copied twice", with(again(e(3), "f3"), again(e(3), "g3")), "error duplicate-event 3 f3", "error duplicate-event 3 g3")
	add("the last row copied", with(again(e(6), "f6")), "error duplicate-event 6 f6")
	add("the first row copied", with(again(e(1), "f1")), "error duplicate-event 1 f1")
	// Each copy has one successor: what follows a copied row is looked at once
	// the copy is gone.
	add("a copy with a rival behind it", with(again(e(3), "f3"), e(3).after("f4", "new", "0")), "error duplicate-event 3 f3")
	add("a copy with two rivals behind it", with(again(e(3), "f3"), e(3).after("f4", "new", "0"), e(3).after("g4", "new", "1")), "error duplicate-event 3 f3", "error fork 4 e4")
	add("a run copied", with(s[2:5]...), "error duplicate-event 3 e3")
	add("a copy and a rival of one event", with(again(e(3), "f3"), e(2).after("g3", "new", "0")), "error fork 3 e3", "error duplicate-event 3 f3")
	add("copies with no predecessor", slices.Concat(s[2:], s[2:3]), "error duplicate-event 0 e3", "error missing-genesis 0 e3")
	add("a copy in another name", with(again(e(3), strings.Repeat("long ", 100))), "error duplicate-event 3 "+strings.Repeat("long ", 51)+"l…")

	// The stored digest.
	add("hash column right", withHash(func(*row) {}))
	add("hash column wrong", withHash(func(r *row) { r.Hash = e(1).name() }), "error hash-column-mismatch 3 e3")
	add("hash column NULL", withHash(func(r *row) { r.Hash = nil }), "error hash-column-mismatch 3 e3")
	add("hash column empty", withHash(func(r *row) { r.Hash = []byte{} }), "error hash-column-mismatch 3 e3")
	add("hash column in upper case", withHash(func(r *row) { r.Hash = []byte(strings.ToUpper(string(r.Hash))) }), "error hash-column-mismatch 3 e3")

	// Anchors.
	given(checkpoint(6, e(6).digest), "checkpoint at the head", s)
	given(checkpoint(1, e(1).digest), "checkpoint at the first event", s)
	given(checkpoint(6, e(6).digest), "the last event removed", s[:5], "error truncated 6 ")
	given(checkpoint(6, e(6).digest), "everything removed", nil, "error empty-chain 0 ", "error truncated 6 ")
	given(checkpoint(2, e(3).digest), "checkpoint elsewhere", s, "error checkpoint-mismatch 2 e3")
	given(checkpoint(4, chain.Digest{1}), "checkpoint of another table", s, "error checkpoint-mismatch 4 ")
	given(checkpoint(4, e(4).digest), "everything rewritten", other("x", 6), "error checkpoint-mismatch 4 ")
	given(checkpoint(4, e(4).digest), "checkpoint behind a gap", without(s, 1), "error missing-link 0 e3", "error checkpoint-mismatch 4 e4")
	given(checkpoint(1, other("x", 1)[0].digest), "checkpoint in a second chain", slices.Concat(s, other("x", 1)),
		"error checkpoint-mismatch 1 x1", "error second-genesis 1 x1")
	given(chain.Options{Anchors: []chain.Anchor{{Name: "boundary of old", Position: 3, Digest: e(3).digest}, {Name: "boundary of new", Position: 9, Digest: chain.Digest{2}}}},
		"two boundaries, one of them beyond the end", s, "error truncated 9 ")
	history := func(at ...int64) (o chain.Options) {
		for _, n := range at {
			o.Anchors = append(o.Anchors, chain.Anchor{Name: "history", Position: n, Digest: e(int(n)).digest})
		}
		return o
	}
	given(history(6, 4, 2), "every place of a history", s)
	given(history(6, 5, 2), "places of a history are gone, the first says so", s[:4], "error truncated 6 ")
	given(chain.Options{Anchors: append(history(6).Anchors, chain.Anchor{Name: "history", Position: 4, Digest: chain.Digest{1}})},
		"an older place of a history is another's", s, "error checkpoint-mismatch 4 ")

	// The rest.
	add("empty", nil, "error empty-chain 0 ")
	given(chain.Options{AllowEmpty: true}, "empty and allowed", nil, "note empty-chain 0 ")
	lossy, beyond := numbers(s, `9007199254740993`, `9007199254740992`), numbers(s, `1e999`, `null`)
	add("a number doubles cannot hold", lossy, "warning lossy-number 7 e7")
	given(chain.Options{StrictNumbers: true}, "a number doubles cannot hold, strict", lossy, "error lossy-number 7 e7")
	add("a number out of range", beyond, "warning number-out-of-range 7 e7")
	given(chain.Options{StrictNumbers: true}, "a number out of range, strict", beyond, "error number-out-of-range 7 e7")
	add("clock runs back", edit(3, func(r *row) { r.CreatedAt = noon.Add(-time.Hour) }), "warning timestamp-order 4 ")
	add("clock stands still", edit(3, func(r *row) { r.CreatedAt = e(3).CreatedAt }))
	add("clock runs back across an event without a time", edit(3, func(r *row) { r.CreatedAt = time.Time{} }))
	add("clock runs back on a branch", with(write("f4", "new", "0", e(3).name(), noon)), "error fork 4 e4", "warning timestamp-order 4 ")
	return cases
}

// other is a chain of its own.
func other(prefix string, n int) []row {
	rows := []row{write(prefix+"1", "new", `"`+prefix+`"`, nil, noon)}
	return append(rows, branch2(rows[0], prefix, n-1)...)
}

// branch is a run of n events that hangs on r.
func branch(r row, n int) []row {
	rows := []row{r.after("b1", "new", `"b1"`)}
	for i := 2; i <= n; i++ {
		id := fmt.Sprintf("b%d", i)
		rows = append(rows, rows[i-2].after(id, "new", `"`+id+`"`))
	}
	return rows
}

func branch2(r row, prefix string, n int) []row {
	var rows []row
	for i := range n {
		id := fmt.Sprintf("%s%d", prefix, i+2)
		r = r.after(id, "new", `"`+id+`"`)
		rows = append(rows, r)
	}
	return rows
}

// again is a row inserted a second time under another id.
func again(r row, id string) row {
	r.ID = []byte(id)
	return r
}

// numbers adds an event whose payload is stored as text and hashed as
// canonical.
func numbers(rows []row, text, canonical string) []row {
	last := rows[len(rows)-1].after("e7", "new", canonical)
	last.Payload = []byte(text)
	return append(slices.Clone(rows), last)
}

// greater gives the id of the row with the greater digest.
func greater(a, b row) string {
	if a.digest.String() > b.digest.String() {
		return string(a.ID)
	}
	return string(b.ID)
}

// Every rule fires where it should and nowhere else, whatever order the rows
// come in.
func TestRules(t *testing.T) {
	fired := map[string]bool{}
	for _, tc := range damages() {
		t.Run(tc.name, func(t *testing.T) {
			r := verifyInAnyOrder(t, tc.rows, tc.options, 200)
			expect(t, r, tc.want...)
			for rule, n := range r.ByRule {
				fired[rule] = true
				if want := int64(strings.Count("\n"+found(r), " "+rule+" ")); n != want {
					t.Errorf("ByRule counts %d of %s, %d are listed", n, rule, want)
				}
			}
			if r.Events != int64(len(tc.rows)) {
				t.Errorf("%d events, want %d", r.Events, len(tc.rows))
			}
			for _, f := range r.Findings {
				if f.Message == "" || strings.Contains(f.Message, "\n") {
					t.Errorf("message %q", f.Message)
				}
			}
		})
	}
	text, err := os.ReadFile("rules.go")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`Rule\w+ += "([a-z-]+)"`).FindAllStringSubmatch(string(text), -1)
	if len(rules) != 20 {
		t.Errorf("%d rules, want 20", len(rules))
	}
	for _, rule := range rules {
		if !fired[rule[1]] {
			t.Errorf("no chain here breaks rule %s", rule[1])
		}
	}
}

func TestReportOfASoundChain(t *testing.T) {
	s := sound()
	r := verifyInAnyOrder(t, s, checkpoint(6, s[5].digest), 50)
	if r.Version != 1 || r.Verdict != chain.Verified || !r.TruncationExcluded || r.Events != 6 || r.Length != 6 ||
		r.Genesis != s[0].digest.String() || r.Head != s[5].digest.String() || r.Tips != nil || r.Findings == nil || r.FindingsTotal != 0 {
		t.Errorf("%+v", r)
	}
	for id, want := range map[string][2]int64{"old": {1, 3}, "new": {4, 6}} {
		u := r.Signers[id]
		if u.Events != 3 || u.FirstPosition != want[0] || u.LastPosition != want[1] || u.Entry != id || u.State != "active" ||
			!u.FirstCreatedAt.Equal(s[want[0]-1].CreatedAt) || !u.LastCreatedAt.Equal(s[want[1]-1].CreatedAt) || u.LastDigest != s[want[1]-1].digest {
			t.Errorf("%s: %+v", id, u)
		}
	}
	if len(r.Signers) != 2 || len(r.UnauthenticatedColumns) != 5 || r.NonObjectPayloads != 0 {
		t.Errorf("%+v", r)
	}
	if r := verify(t, s, checkpoint(7, chain.Digest{})); r.TruncationExcluded {
		t.Error("truncation is called excluded though the checkpoint was not met")
	}
	if r := verify(t, s, chain.Options{Anchors: []chain.Anchor{{Name: "boundary", Position: 3, Digest: s[2].digest}}}); r.TruncationExcluded || r.Verdict != chain.Verified {
		t.Error("a boundary is no checkpoint")
	}
}

// The longest branch is the chain; a second chain's branches are not.
func TestHeadAndTips(t *testing.T) {
	s := sound()
	for name, tc := range map[string]struct {
		rows []row
		head row
		tips []row
	}{
		"fork":                 {slices.Concat(s, branch(s[1], 2)), s[5], []row{s[5], branch(s[1], 2)[1]}},
		"fork, longer branch":  {slices.Concat(s, branch(s[1], 9)), branch(s[1], 9)[8], []row{s[5], branch(s[1], 9)[8]}},
		"copy":                 {with(again(s[2], "x")), s[5], nil},
		"copy of the first":    {with(again(s[0], "x")), s[5], nil},
		"copy of the last":     {with(again(s[5], "x")), s[5], nil},
		"second chain, forked": {slices.Concat(s, other("x", 3), branch2(other("x", 1)[0], "y", 4)), s[5], nil},
		"copied run":           {slices.Concat(s, s[2:5]), s[5], nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := verifyInAnyOrder(t, tc.rows, chain.Options{}, 100)
			var tips []string
			for _, tip := range tc.tips {
				tips = append(tips, tip.digest.String())
			}
			slices.Sort(tips)
			if r.Head != tc.head.digest.String() || !slices.Equal(r.Tips, tips) || r.Genesis != s[0].digest.String() {
				t.Errorf("head %s, tips %q, want %s, %q", r.Head, r.Tips, tc.head.digest, tips)
			}
		})
	}
	tie := with(s[4].after("f6", "new", "0"))
	if r := verifyInAnyOrder(t, tie, chain.Options{}, 100); r.Length != 6 || r.Head != r.Tips[0] || len(r.Tips) != 2 {
		t.Errorf("of two heads the lesser digest is taken: %s of %q", r.Head, r.Tips)
	}
}

func TestPayloadsThatAreNoObjects(t *testing.T) {
	rows := []row{write("e1", "old", `{}`, nil, noon)}
	for i, payload := range []string{`null`, `[1]`, `"x"`, `true`, `0.5`} {
		rows = append(rows, rows[i].after(fmt.Sprint("p", i), "old", payload))
	}
	rows[1].Payload = nil // SQL NULL has the digest of null
	if r := verify(t, rows, chain.Options{}); r.NonObjectPayloads != 5 || r.Verdict != chain.Verified {
		t.Errorf("%+v", r)
	}
}

// A claim of a time that JSON cannot hold must not cost the report.
func TestTimesThatNoReportCanWrite(t *testing.T) {
	for _, at := range []time.Time{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -3600*5))} {
		r := verify(t, []row{write("e1", "old", "1", nil, at)}, chain.Options{})
		if text(t, r); r.Signers["old"].FirstCreatedAt != nil || r.Verdict != chain.Verified {
			t.Errorf("%v: %+v", at, r.Signers)
		}
	}
}

func TestSignersPerEntry(t *testing.T) {
	ring := keyring{"old": {key: key("old"), until: 3}, "arn:old": {key: key("old"), until: 3, entry: "old"}, "new": {key: key("new")}}
	s := sound()
	s[1].Signer = []byte("arn:old")
	unplaced := other("x", 2)[1]
	unplaced.Signer = []byte("arn:new")
	r := verifyInAnyOrder(t, slices.Concat(s, []row{unplaced}), chain.Options{Verifier: ring}, 20)
	if u := r.Use("old"); u.Events != 3 || u.FirstPosition != 1 || u.LastPosition != 3 || u.LastDigest != s[2].digest || u.State != "retired" || u.Entry != "old" ||
		!u.FirstCreatedAt.Equal(s[0].CreatedAt) || !u.LastCreatedAt.Equal(s[2].CreatedAt) {
		t.Errorf("%+v", u)
	}
	if u := r.Signers["arn:new"]; u.Events != 1 || u.FirstPosition != 0 || u.State != "unknown" || u.Entry != "" {
		t.Errorf("%+v", u)
	}
	if u := r.Use("nobody"); u != (chain.SignerUse{}) {
		t.Errorf("%+v", u)
	}
}
