package rotation

import (
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	. "github.com/agent-manager/audit-signer-rotation/internal/record/recordtest"
)

// What the chain shows decides whether a rollback withdraws the new signer; a chain
// that was not read to its end and found sound shows nothing. Whatever point a
// rotation has reached, there is a way back.
func TestGoBack(t *testing.T) {
	signed := func(n int64) *chain.Report {
		r := &chain.Report{Verdict: chain.Verified, Signers: map[string]chain.SignerUse{"a": use("a", 5, 1, 5, start)}}
		if n > 0 {
			r.Signers["b"] = use("b", n, 6, 5+n, start)
		}
		return r
	}
	failed, resumed := signed(0), signed(0)
	failed.Verdict = chain.Failed
	resumed.Resumed = &chain.Resumption{}
	c := record.IDFor("c")
	third := Apply(opens().head, In(c, Open(hour, "c", "")))
	newLeaked := Apply(third, In(record.CompromiseID("b"), Compromise(2*hour, "b", 7)))
	for name, tc := range map[string]struct {
		files  record.Files
		report *chain.Report
		kind   record.Kind
		says   string
	}{
		"no chain":                 {opens().head, nil, record.RolledBack, "never left the registry: deploy its settings again; signer b stays registered, so that its events keep verifying"},
		"a failed one":             {opens().head, failed, record.RolledBack, "stays registered, so that"},
		"part of one":              {opens().head, resumed, record.RolledBack, "stays registered, so that"},
		"nothing signed":           {opens().head, signed(0), record.Withdrawn, "has signed 0 events and is withdrawn"},
		"one event":                {opens().head, signed(1), record.RolledBack, "it has signed 1 event(s), at positions 6 to 6"},
		"four events":              {opens().head, signed(4), record.RolledBack, "it has signed 4 event(s), at positions 6 to 9"},
		"promoted":                 {promotes().head, signed(0), record.Withdrawn, "is withdrawn"},
		"after the archive":        {retires().head, signed(4), record.RolledBack, "signer a returns to the registry as it was; signer b stays registered: it has signed 4"},
		"after it, nothing signed": {retires().head, signed(0), record.RolledBack, "it has signed 0 event(s)"},
		"the new one leaked":       {newLeaked, signed(4), record.RolledBack, "signer b has been archived since (compromised, rotation compromise-b"},
	} {
		rec := tc.files.Record(b)
		m, says, err := GoBack(tc.files, *rec, By(100*hour), tc.report)
		if err != nil || m.Kind() != tc.kind || !strings.Contains(says, tc.says) {
			t.Errorf("%s: %v %q, %v; want %s, %q", name, m, says, err, tc.kind, tc.says)
			continue
		}
		if _, err := tc.files.Apply(b, m); err != nil {
			t.Errorf("%s: the move cannot be made: %v", name, err)
		}
		if back, is := m.(*record.RollBack); is && (back.Window != nil) != (tc.report != nil && tc.report != failed && tc.report != resumed) {
			t.Errorf("%s: window %+v", name, back.Window)
		}
	}
	if _, _, err := GoBack(opensAlone().head, *opensAlone().head.Record(b), By(hour), nil); err == nil || !strings.Contains(err.Error(), "replaced no signer") {
		t.Errorf("a standby: %v", err)
	}
	m, _, err := GoBack(leaks().head, *leaks().head.Record(b), By(2*hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaks().head.Apply(b, m); err == nil || !strings.Contains(err.Error(), "never comes back") {
		t.Errorf("back to a key that leaked: %v", err)
	}
}

// Who signs instead of a compromised signer: the other one of its newest rotation,
// else the last one of the registry.
func TestSuccessor(t *testing.T) {
	c, d := record.IDFor("c"), record.IDFor("d")
	third := Apply(opens().head, In(c, Open(hour, "c", "")))
	next := Apply(retires().head, In(c, Open(60*hour, "c", "b")))
	for name, tc := range map[string]struct {
		f        record.Files
		id, want string
	}{
		"the new one leaks":        {third, "b", "a"},
		"the old one leaks":        {third, "a", "b"},
		"one of no rotation leaks": {third, "c", "b"},
		"its newest rotation":      {next, "b", "c"},
		"a standby is last":        {Apply(retires().head, In(d, Open(60*hour, "d", ""))), "b", "d"},
		"nobody is left":           {First("a"), "a", ""},
		"it is gone already":       {leaks().head, "a", "b"},
	} {
		got := ""
		if s := Successor(tc.f, tc.id); s != nil {
			got = s.ID
		}
		if got != tc.want {
			t.Errorf("%s: %q takes over from %s, want %q", name, got, tc.id, tc.want)
		}
	}
}

// The last checkpoint that a retirement passed through; one that the archive does
// not show counts for nothing.
func TestCheckpoint(t *testing.T) {
	at := func(p pull, text string) record.Files {
		edit(b, func(m *record.Retire) { m.Evidence.Checkpoint = text })(t, &p)
		return p.head
	}
	seven, nine := "7:"+strings.Repeat("ab", 32), "9:"+strings.Repeat("cd", 32)
	again := func(first, second string) record.Files {
		p := leaves()
		p.head.Records = at(p, second).Records
		p.head.Records[0].Moves[1].(*record.Retire).Evidence.Checkpoint = first
		return p.head
	}
	unseen := at(retires(), seven)
	unseen.Archive = opens().head.Archive
	for name, tc := range map[string]struct {
		f    record.Files
		want string
	}{
		"none finished":      {opens().head, ""},
		"finished without":   {retires().head, ""},
		"one":                {at(retires(), seven), seven},
		"no checkpoint":      {at(retires(), "7:x"), ""},
		"the later of two":   {again(seven, nine), nine},
		"the greater of two": {again(nine, seven), nine},
		"not in the archive": {unseen, ""},
	} {
		got := ""
		if c := Checkpoint(tc.f); c != nil {
			got = c.String()
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
