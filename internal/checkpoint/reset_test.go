package checkpoint_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

func place(t *testing.T, count int64, head string) checkpoint.Place {
	t.Helper()
	d, ok := chain.ParseDigest([]byte(head))
	if !ok {
		t.Fatal(head)
	}
	return checkpoint.Place{Count: count, Head: d}
}

// A reset gives up the very checkpoint that it names, and no other.
func TestUnder(t *testing.T) {
	last, err := checkpoint.Next(nil, table, verified(10), at)
	if err != nil {
		t.Fatal(err)
	}
	old := parse(t, string(last.JSON()))
	restart := strings.Repeat("cd", 32)
	reset := checkpoint.Reset{Checkpoint: place(t, 10, head), Restart: place(t, 7, restart), Reason: "restored", ApprovedBy: "lead", ApprovedAt: at}
	for name, other := range map[string]checkpoint.Reset{
		"none":          {},
		"another count": {Checkpoint: place(t, 9, head), Restart: reset.Restart},
		"another head":  {Checkpoint: place(t, 10, restart), Restart: reset.Restart},
	} {
		if got := old.Under([]checkpoint.Reset{other}); got != old {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, told := old.Finding(); told {
		t.Error("a checkpoint that stands tells of a reset")
	}

	now := old.Under([]checkpoint.Reset{{}, reset})
	if a := now.Anchor(); a.Position != 7 || a.Digest.String() != restart || !a.Checkpoint {
		t.Errorf("%+v", a)
	}
	if f, told := now.Finding(); !told || f.Rule != checkpoint.RuleReset || !strings.Contains(f.Message, "10:"+head) || !strings.Contains(f.Message, "7:"+restart+": so decided lead on 2026-03-01 (restored)") {
		t.Errorf("%+v", f)
	}
	if now.Resumable(old.RegistrySHA256, old.ArchiveSHA256, "") == "" {
		t.Error("a verification resumes from an event that nobody has verified")
	}
	// A cluster that was restored has another identity, and signers fewer events.
	if fs := now.Check(checkpoint.Table{SystemIdentifier: "8", Table: "public.audit_events"}, verified(8)); len(fs) != 0 {
		t.Error(fs)
	}

	if _, err := checkpoint.Next(now, table, verified(6), at); err == nil {
		t.Error("the new lineage begins before the event that was reviewed")
	}
	next, err := checkpoint.Next(now, table, verified(8), at)
	if err != nil {
		t.Fatal(err)
	}
	text := next.JSON()
	if v, err := schemas.Violations(schemas.Checkpoint, text); err != nil || len(v) > 0 {
		t.Errorf("%v %v", v, err)
	}
	read := parse(t, string(text))
	if read.Reset == nil || !reflect.DeepEqual(*read.Reset, reset) && read.Reset.Reason != "restored" || read.Continues(now) != "" || read.Continues(old) == "" {
		t.Errorf("%s: %q, %q", text, read.Continues(now), read.Continues(old))
	}
	// That it tells of a reset itself is nobody's review.
	if _, told := read.Finding(); told || read.Under(nil) != read {
		t.Error("a checkpoint reviews itself")
	}
	after, err := checkpoint.Next(read, table, verified(9), at)
	if err != nil || after.Reset != nil {
		t.Errorf("%+v, %v", after, err)
	}
}

func TestRecorded(t *testing.T) {
	if c := checkpoint.Recorded("r.json", "10:"+head); c == nil || c.String() != "10:"+head || c.Anchor().Position != 10 {
		t.Errorf("%+v", c)
	}
	for _, text := range []string{"", "10", "10:", ":" + head, "0:" + head, "-1:" + head, "10:x", "x:" + head, "10:" + head + ":"} {
		if c := checkpoint.Recorded("r.json", text); c != nil {
			t.Errorf("%q: %+v", text, c)
		}
	}
}

// The member has one spelling, like the others.
func TestResetIsReadStrictly(t *testing.T) {
	good := `{"count": 1, "head": "` + head + `", "reset": {"checkpoint": {"count": 2, "head": "` + head + `"}, "restart": {"count": 1, "head": "` + head + `"}, "reason": "r", "approvedBy": "a", "approvedAt": "2026-03-01T00:00:00Z"}}`
	parse(t, good)
	for _, bad := range []string{strings.Replace(good, `"reset"`, `"Reset"`, 1), strings.Replace(good, `"reason": "r", `, "", 1), strings.Replace(good, `"count": 2`, `"count": 0`, 1)} {
		if !json.Valid([]byte(bad)) {
			t.Fatal(bad)
		}
		if _, err := checkpoint.Parse("c.json", []byte(bad)); err == nil {
			t.Error(bad)
		}
	}
}

// held counts the places of the history that the chain must pass through.
func held(c *checkpoint.Checkpoint) int {
	return len(slices.DeleteFunc(c.Anchors(), func(a chain.Anchor) bool { return a.Checkpoint || a.Gone }))
}

// A restart is given up like any other checkpoint; decisions that run in a circle
// end.
func TestUnderSeveralResets(t *testing.T) {
	place := func(count int64, digit string) checkpoint.Place {
		d, _ := chain.ParseDigest([]byte(strings.Repeat(digit, 64)))
		return checkpoint.Place{Count: count, Head: d}
	}
	a5, b8, c10 := place(5, "a"), place(8, "b"), place(10, "c")
	text, _ := json.Marshal(c10)
	for name, tc := range map[string]struct {
		resets []checkpoint.Reset
		want   checkpoint.Place
	}{
		"one":         {[]checkpoint.Reset{{Checkpoint: c10, Restart: b8}}, b8},
		"two":         {[]checkpoint.Reset{{Checkpoint: c10, Restart: b8}, {Checkpoint: b8, Restart: a5, ApprovedBy: "bob"}}, a5},
		"in a circle": {[]checkpoint.Reset{{Checkpoint: c10, Restart: b8}, {Checkpoint: b8, Restart: c10}}, c10},
	} {
		c := parse(t, string(text)).Under(tc.resets)
		if got := (checkpoint.Place{Count: c.Count, Head: c.Head}); got != tc.want || c.Reset.Checkpoint != c10 {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
		if beyond := c.Follows([]checkpoint.Said{{Place: a5}}, tc.resets); beyond != nil || tc.want == a5 && held(c) != 1 {
			t.Errorf("%s: falls behind %v, held against %v", name, beyond, c.Anchors())
		}
	}
}

// The end of a branch stays asked for, whoever leaves it out, until a reset names it;
// what was said of others stays with it.
func TestTipsOfTheHistory(t *testing.T) {
	digest := func(digit string) chain.Digest {
		d, _ := chain.ParseDigest([]byte(strings.Repeat(digit, 64)))
		return d
	}
	c10, b6 := checkpoint.Place{Count: 10, Head: digest("c")}, checkpoint.Place{Count: 6, Head: digest("b")}
	one, two := digest("1"), digest("2")
	file := `{"count": 10, "head": "` + strings.Repeat("c", 64) + `", "tips": ["` + two.String() + `"]}`
	for name, tc := range map[string]struct {
		earlier []checkpoint.Said
		resets  []checkpoint.Reset
		want    []chain.Digest
		gone    bool
	}{
		"its own":                     {nil, nil, []chain.Digest{two}, false},
		"and those before":            {[]checkpoint.Said{{Place: b6, Tips: []chain.Digest{one}}}, nil, []chain.Digest{one, two}, false},
		"said again":                  {[]checkpoint.Said{{Place: c10, Tips: []chain.Digest{two}}, {Place: b6, Tips: []chain.Digest{two}}}, nil, []chain.Digest{two}, false},
		"one is lost":                 {[]checkpoint.Said{{Place: b6, Tips: []chain.Digest{one}}}, []checkpoint.Reset{{Checkpoint: c10, Restart: c10, Tips: []chain.Digest{one}}}, []chain.Digest{two}, false},
		"the other is":                {[]checkpoint.Said{{Place: c10, Tips: []chain.Digest{two}}, {Place: b6, Tips: []chain.Digest{one}}}, []checkpoint.Reset{{Checkpoint: c10, Restart: c10, Tips: []chain.Digest{two}}}, []chain.Digest{one}, false},
		"all behind b6 is":            {[]checkpoint.Said{{Place: c10, Tips: []chain.Digest{two}}, {Place: b6, Tips: []chain.Digest{one}}}, []checkpoint.Reset{{Checkpoint: c10, Restart: b6}}, []chain.Digest{one}, true},
		"what was said after a reset": {[]checkpoint.Said{{Place: c10, Tips: []chain.Digest{two}}, {Place: c10, Tips: []chain.Digest{one}}}, []checkpoint.Reset{{Checkpoint: c10, Restart: b6}}, []chain.Digest{two}, true},
	} {
		c := parse(t, file).Under(tc.resets)
		if beyond := c.Follows(tc.earlier, tc.resets); beyond != nil {
			t.Errorf("%s: falls behind %v", name, beyond)
		}
		var got []chain.Digest
		gone := false
		for _, a := range c.Anchors() {
			gone = gone || a.Gone && a.Position == 10 && a.Digest == c10.Head
			if a.Position == 0 && a.Checkpoint {
				got = append(got, a.Digest)
			}
		}
		if !slices.Equal(got, tc.want) || gone != tc.gone {
			t.Errorf("%s: %v, want %v; gone %t", name, got, tc.want, gone)
		}
		if c.Resumable("", "", "") == "" {
			t.Errorf("%s: resumable", name)
		}
	}
}

// No commit of a branch takes away what an earlier one has said; a reviewed reset
// does, from where it was first taken on, and only once.
func TestFollows(t *testing.T) {
	place := func(count int64, digit string) checkpoint.Place {
		d, _ := chain.ParseDigest([]byte(strings.Repeat(digit, 64)))
		return checkpoint.Place{Count: count, Head: d}
	}
	a4, b6, c10, d8, e8 := place(4, "a"), place(6, "b"), place(10, "c"), place(8, "d"), place(8, "e")
	reset := []checkpoint.Reset{{Checkpoint: c10, Restart: b6}}
	for name, tc := range map[string]struct {
		line   []checkpoint.Place // the newest first, the tip among them
		resets []checkpoint.Reset
		beyond *checkpoint.Place
		held   int // places of the history
	}{
		"the first":                   {[]checkpoint.Place{a4}, nil, nil, 1},
		"grows":                       {[]checkpoint.Place{c10, b6, a4}, nil, nil, 3},
		"says it again":               {[]checkpoint.Place{b6, b6, a4}, nil, nil, 2},
		"shrinks":                     {[]checkpoint.Place{b6, c10, a4}, nil, &c10, 0},
		"shrinks behind another":      {[]checkpoint.Place{d8, b6, c10, a4}, nil, &c10, 0},
		"another head":                {[]checkpoint.Place{d8, e8}, nil, &e8, 0},
		"another head between":        {[]checkpoint.Place{c10, d8, e8}, nil, nil, 3}, // the chain cannot pass through both
		"given up now":                {[]checkpoint.Place{c10, d8, a4}, reset, nil, 2},
		"given up, said twice":        {[]checkpoint.Place{c10, c10, a4}, reset, nil, 2},
		"given up before":             {[]checkpoint.Place{d8, b6, c10, c10, e8, a4}, reset, nil, 3},
		"given up, and shrinks again": {[]checkpoint.Place{b6, d8, b6, c10, a4}, reset, &d8, 0},
		"given up a second time":      {[]checkpoint.Place{c10, d8, b6, c10, a4}, reset, &c10, 0},
		"replayed in between":         {[]checkpoint.Place{b6, c10, d8, b6, c10, a4}, reset, &c10, 0},
	} {
		text, _ := json.Marshal(tc.line[0])
		c := parse(t, string(text)).Under(tc.resets)
		var earlier []checkpoint.Said
		for _, p := range tc.line[1:] {
			earlier = append(earlier, checkpoint.Said{Place: p})
		}
		beyond := c.Follows(earlier, tc.resets)
		if (beyond == nil) != (tc.beyond == nil) || beyond != nil && *beyond != *tc.beyond {
			t.Errorf("%s: falls behind %v, want %v", name, beyond, tc.beyond)
		}
		if got := held(c); beyond == nil && got != tc.held {
			t.Errorf("%s: held against %d places of the history, want %d", name, got, tc.held)
		}
	}
}
