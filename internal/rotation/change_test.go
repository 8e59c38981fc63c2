package rotation

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	. "github.com/agent-manager/audit-signer-rotation/internal/record/recordtest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

const hour = time.Hour

// allPassed are the gates of a sound retirement.
func allPassed() (list []record.Gate) {
	for _, r := range gates {
		g := record.Gate{ID: r.id, Name: r.name, State: record.Passed, Detail: "detail"}
		if r.wanted != "" {
			g.State = r.wanted
		}
		list = append(list, g)
	}
	return list
}

// pull is a pull request: the files of the base, and what it makes of them.
type pull struct{ base, head record.Files }

var b = record.IDFor("b")

func opens() pull       { return move(First("a"), b, Open(0, "b", "a")) }
func opensAlone() pull  { return move(First("a"), b, Open(0, "b", "")) }
func promotes() pull    { return move(opensAlone().head, b, Promote(hour, "b", "a")) }
func promotesOne() pull { return move(First("a", "b"), b, Promote(hour, "b", "a")) }
func retires() pull {
	base := opens().head
	return move(base, b, Retire(50*hour, base, "a", 7, allPassed()...))
}
func withdraws() pull { return move(opens().head, b, Withdraw(hour, "b")) }
func goesBack() pull  { return move(opens().head, b, RollBack(hour, "a")) }
func returns() pull   { return move(retires().head, b, RollBack(60*hour, "a")) }
func leaves() pull {
	base := returns().head
	return move(base, b, Retire(120*hour, base, "b", 9, allPassed()...))
}
func leaks() pull    { return move(opens().head, record.CompromiseID("a"), Compromise(hour, "a", 7)) }
func leaksNew() pull { return move(opens().head, record.CompromiseID("b"), Compromise(hour, "b", 7)) }
func leaksLone() pull {
	return move(First("a", "b"), record.CompromiseID("a"), Compromise(hour, "a", 7))
}
func first() pull { return pull{Load(registry.New, ""), First("a", "b")} }

func move(base record.Files, id string, m record.Move) pull {
	return pull{base, Apply(base, In(id, m))}
}

// judged is what the gate says of it, an hour after the last of its moves.
func (p pull) judged(t *testing.T, set func(*Change)) []finding.Finding {
	t.Helper()
	c := Change{Base: p.base, Head: p.head, Now: Start, Age: EvidenceAge}
	for _, r := range p.head.Records {
		if at := r.Last().Made().At.Add(hour); at.After(c.Now) {
			c.Now = at
		}
	}
	if set != nil {
		set(&c)
	}
	fs, err := c.Judge()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		if f.File == "" || f.Line < 1 || f.Message == "" {
			t.Errorf("a finding without a place: %+v", f)
		}
	}
	return fs
}

func rulesOf(fs []finding.Finding, severity finding.Severity) string {
	var rules []string
	for _, f := range fs {
		if f.Severity == severity {
			rules = append(rules, f.Rule)
		}
	}
	slices.Sort(rules)
	return strings.Join(slices.Compact(rules), " ")
}

// Every move that Apply makes passes; what is said besides is a warning or a note.
func TestMovesPass(t *testing.T) {
	for name, tc := range map[string]struct {
		pull          pull
		warned, noted string
	}{
		"first registry":       {first(), "", ""},
		"first signer":         {move(Load(registry.New, ""), record.IDFor("a"), Open(0, "a", "")), "", ""},
		"open":                 {opens(), "", ""},
		"open a standby":       {opensAlone(), "", ""},
		"open an HMAC signer":  {move(First("a"), record.IDFor("mac1"), Open(0, "mac1", "a")), "", ""},
		"promote a standby":    {promotes(), "", ""},
		"promote a first one":  {promotesOne(), "", ""},
		"retire":               {retires(), "", RuleAuthorsWord},
		"withdraw":             {withdraws(), "", RuleAuthorsWord},
		"roll back":            {goesBack(), "", ""},
		"roll back, archived":  {returns(), "", ""},
		"archive what is left": {leaves(), "", RuleAuthorsWord},
		"compromise the old":   {leaks(), "", RuleAuthorsWord},
		"compromise the new":   {leaksNew(), "", RuleAuthorsWord},
		"compromise a lone":    {leaksLone(), "", RuleAuthorsWord},
		"nothing":              {pull{opens().head, opens().head}, "", ""},
		"a short overlap": {move(First("a"), b, func() record.Move {
			m := Open(0, "b", "a")
			m.Policy = record.Policy{Overlap: record.Duration(hour), ShortAllowed: true}
			return m
		}()), RuleShortOverlap, ""},
		"two rotations, one rolled back into the way of the other": {
			move(Apply(retires().head, In(record.IDFor("c"), Open(60*hour, "c", "b"))), b, RollBack(70*hour, "a")), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			fs := tc.pull.judged(t, nil)
			if e, w, n := rulesOf(fs, finding.Error), rulesOf(fs, finding.Warning), rulesOf(fs, finding.Note); e != "" || w != tc.warned || n != tc.noted {
				t.Errorf("errors %q, warnings %q, notes %q; want %q and %q\n%v", e, w, n, tc.warned, tc.noted, fs)
			}
		})
	}
}

// text changes the text of the head's registry or archive.
func (p *pull) text(t *testing.T, which, old, new string) {
	t.Helper()
	reg, arch := string(p.head.Registry.Bytes()), string(p.head.Archive.Bytes())
	target := map[string]*string{"registry": &reg, "archive": &arch}[which]
	if !strings.Contains(*target, old) {
		t.Fatalf("%q is not in the %s:\n%s", old, which, *target)
	}
	*target = strings.Replace(*target, old, new, 1)
	p.head = Load(reg, arch, p.head.Records...)
}

// edit changes the last move of a record of the head. The type of move is E.
func edit[M record.Move](id string, change func(m M)) func(*testing.T, *pull) {
	return func(t *testing.T, p *pull) {
		t.Helper()
		p.head.Records = slices.Clone(p.head.Records)
		i := slices.IndexFunc(p.head.Records, func(r record.Record) bool { return r.ID == id })
		again, err := record.Parse("r.json", p.head.Records[i].JSON())
		if err != nil {
			t.Fatal(err)
		}
		change(again.Last().(M))
		p.head.Records[i] = again
	}
}

// What must be refused: a row for each way in which a change is not what its move
// makes. The rows without a rule of their own are in the generated test below.
func TestChangesRefused(t *testing.T) {
	type change = func(*testing.T, *pull)
	only := func(records bool) change {
		return func(_ *testing.T, p *pull) {
			if records {
				p.head.Registry, p.head.Archive = p.base.Registry, p.base.Archive
			} else {
				p.head.Records = p.base.Records
			}
		}
	}
	from := func(q pull, parts string) change { // takes parts of another pull request
		return func(_ *testing.T, p *pull) {
			if strings.Contains(parts, "registry") {
				p.head.Registry = q.head.Registry
			}
			if strings.Contains(parts, "archive") {
				p.head.Archive = q.head.Archive
			}
			if strings.Contains(parts, "records") {
				p.head.Records = q.head.Records
			}
		}
	}
	text := func(which, old, new string) change {
		return func(t *testing.T, p *pull) { p.text(t, which, old, new) }
	}
	gate := func(id string, s record.GateState) change {
		return edit(b, func(m *record.Retire) {
			i := slices.IndexFunc(m.Gates, func(g record.Gate) bool { return g.ID == id })
			m.Gates[i].State = s
		})
	}
	c := record.IDFor("c")
	digest := Mark(99).Digest
	wrong := strings.Repeat("0", 64)
	const unproven, mismatch, rewrite, refused = RuleUnproven, registry.RuleMoveMismatch, RuleRecordRewrite, RuleRecord
	withC := Apply(opens().head, In(c, Open(hour, "c", "")))
	for name, tc := range map[string]struct {
		pull   pull
		change change
		rules  string // of the errors
		says   string
	}{
		// Halves.
		"open: the record alone":       {opens(), only(true), refused, "is not the one that the record names"},
		"open: the registry alone":     {opens(), only(false), registry.RuleNoRecord, "--write-files"},
		"retire: the record alone":     {retires(), only(true), mismatch, "the move archives signer"},
		"retire: the files alone":      {retires(), only(false), registry.RuleRemovedSigner + " " + registry.RuleUnarchivedEntry, ""},
		"retire: without the archive":  {retires(), func(_ *testing.T, p *pull) { p.head.Archive = p.base.Archive }, mismatch, "the archive does not gain it"},
		"retire: without the registry": {retires(), func(_ *testing.T, p *pull) { p.head.Registry = p.base.Registry }, mismatch, "is not in the registry after the move"},
		"withdraw: the record alone":   {withdraws(), only(true), mismatch, ""},
		"withdraw: the files alone":    {withdraws(), only(false), registry.RuleRemovedSigner + " " + registry.RuleUnarchivedEntry, ""},
		"roll back: the record alone":  {returns(), only(true), mismatch, `signer "a" is in the registry after the move`},
		"roll back: the files alone":   {returns(), only(false), registry.RuleReturnedSigner, "comes back without a move"},
		"leak: the record alone":       {leaks(), only(true), mismatch, ""},
		"leak: the files alone":        {leaks(), only(false), registry.RuleRemovedSigner + " " + registry.RuleUnarchivedEntry, ""},
		"nothing, and a record":        {pull{First("a", "b"), First("a", "b")}, func(_ *testing.T, p *pull) { p.head.Records = promotesOne().head.Records }, "", ""},

		// Together.
		"open and roll back":     {pull{First("a"), goesBack().head}, nil, registry.RuleOneOperation, `"open" in rotation ` + b + `, "roll back" in rotation ` + b},
		"retire and open":        {pull{opens().head, Apply(retires().head, In(c, Open(60*hour, "c", "b")))}, nil, registry.RuleOneOperation, "makes 2 moves"},
		"two opened":             {pull{First("a"), withC}, nil, registry.RuleOneOperation, ""},
		"two leaks":              {pull{withC, Apply(withC, In(record.CompromiseID("a"), Compromise(hour, "a", 7)), In(record.CompromiseID("b"), Compromise(hour, "b", 8)))}, nil, registry.RuleOneOperation, ""},
		"open, and an alias":     {opens(), text("registry", `"signerId": "a",`, `"signerId": "a", "x-a": 1,`), mismatch, `the entry of signer "a" differs`},
		"retire, and an edit":    {retires(), text("registry", `"description": "yearly rotation"`, `"description": "x"`), mismatch, `the entry of signer "b" differs`},
		"roll back, and an edit": {goesBack(), text("registry", `"description": "yearly rotation"`, `"description": "x"`), mismatch, ""},

		// By the record of something else.
		"a leaver by a new record, rolled back": {pull{First("a", "b"), First("b")}, func(t *testing.T, p *pull) {
			p.head.Archive, p.head.Records = retires().head.Archive, goesBack().head.Records
		}, registry.RuleOneOperation, ""},
		"a return by a leak's record":  {pull{retires().head, returns().head}, from(leaksOfThird(), "records"), "", ""},
		"a leaver by others' rollback": {goesBack(), from(retires(), "registry archive"), mismatch + " " + registry.RuleUnarchivedEntry, ""},
		"a leaver by another signer's": {retires(), edit(b, func(m *record.Retire) { m.Signer = Signer("b") }), refused, "signer a leaves, not b"},
		"a leak by a retirement":       {leaks(), from(retires(), "records"), "", ""},
		"a retirement by a leak":       {retires(), from(leaks(), "records"), mismatch, ""},

		// Records.
		"a record removed":   {pull{opens().head, opens().head}, func(_ *testing.T, p *pull) { p.head.Records = nil }, rewrite, "is removed"},
		"a record's reason":  {pull{opens().head, opens().head}, edit(b, func(m *record.Open) { m.Reason = "x" }), rewrite, "is rewritten"},
		"a record's overlap": {pull{opens().head, opens().head}, edit(b, func(m *record.Open) { m.Policy.Overlap /= 2 }), rewrite, ""},
		"a move taken back":  {pull{retires().head, retires().head}, from(opens(), "records"), rewrite, "is rewritten"},
		"a move replaced":    {pull{goesBack().head, goesBack().head}, from(withdraws(), "records"), rewrite, ""},
		"a record that is changed, and gains": {retires(), func(t *testing.T, p *pull) {
			edit(b, func(m *record.Retire) {})(t, p)
			p.head.Records[0].Moves[0].Made().Actor = "somebody else"
		}, "", "is rewritten"},
		"opened by another key":                     {opens(), edit(b, func(m *record.Open) { m.Signer.Fingerprint = wrong }), refused, "is not the one that the record names"},
		"opened by another KMS key":                 {opens(), edit(b, func(m *record.Open) { m.Signer.KMSKeyARN = ARN("x") }), mismatch, ""},
		"opened for another KMS key":                {opens(), edit(b, func(m *record.Open) { m.Replaces.KMSKeyARN = ARN("x") }), refused, "names another KMS key for signer a"},
		"opened in the future":                      {opens(), edit(b, func(m *record.Open) { m.At = m.At.Add(3 * hour) }), mismatch + " " + RuleStaleEvidence, "which is in the future"},
		"opened at another time":                    {opens(), edit(b, func(m *record.Open) { m.At = m.At.Add(-hour) }), mismatch, ""},
		"opened without the overlap of the runbook": {opens(), edit(b, func(m *record.Open) { m.Policy.Overlap = record.Duration(hour) }), refused, "shorter than 24h0m0s"},

		// Evidence.
		"no gate":                  {retires(), edit(b, func(m *record.Retire) { m.Gates = nil }), unproven, "no gate was judged"},
		"a gate missing":           {retires(), edit(b, func(m *record.Retire) { m.Gates = m.Gates[1:] }), unproven, "gate G1 was not judged"},
		"a gate twice":             {retires(), edit(b, func(m *record.Retire) { m.Gates = append(m.Gates, m.Gates[0]) }), unproven, "gate G1 is there twice"},
		"a gate that nobody knows": {retires(), edit(b, func(m *record.Retire) { m.Gates = append(m.Gates, record.Gate{ID: "G99", State: record.Passed}) }), unproven, `gate "G99" is not known`},
		"a gate by another name":   {retires(), edit(b, func(m *record.Retire) { m.Gates[0].Name = "whatever" }), unproven, "gate G1 is called"},
		"G8 passed":                {retires(), gate("G8", record.Passed), unproven, "gate G8 (a person approves) is passed"},
		"another registry":         {retires(), edit(b, func(m *record.Retire) { m.Evidence.RegistrySHA256 = wrong }), RuleStaleEvidence, "other files"},
		"another archive":          {retires(), edit(b, func(m *record.Retire) { m.Evidence.ArchiveSHA256 = wrong }), RuleStaleEvidence, "other files"},
		"before the overlap":       {retires(), edit(b, func(m *record.Retire) { m.At = m.At.Add(-3 * hour) }), mismatch + " " + unproven, "the overlap of 48h0m0s cannot have passed"},
		"another boundary":         {retires(), edit(b, func(m *record.Retire) { m.Boundary.Position++ }), mismatch, "boundary 8"},
		"another digest":           {retires(), edit(b, func(m *record.Retire) { m.Boundary.Digest = digest }), mismatch, ""},
		"another reason":           {retires(), edit(b, func(m *record.Retire) { m.Reason = "x" }), mismatch, ""},
		"a withdrawal at an event": {withdraws(), text("archive", `"position": 0`, `"position": 1`), mismatch, ""},
		"a leak up to later":       {leaks(), edit(record.CompromiseID("a"), func(m *record.Compromise) { m.Boundary.Position++ }), mismatch, ""},

		// Two rotations at once.
		"a second rotation": {pull{withC, withC}, func(t *testing.T, p *pull) {
			p.head.Records = slices.Clone(p.head.Records)
			i := slices.IndexFunc(p.head.Records, func(r record.Record) bool { return r.ID == c })
			p.head.Records[i] = record.Record{ID: c, Moves: append(slices.Clone(p.head.Records[i].Moves), Promote(2*hour, "c", "b"))}
		}, refused, "is in flight"},

		// A first registry is a person's, and nothing besides.
		"a first registry with an archive": {first(), from(retires(), "archive"), registry.RuleUnarchivedEntry, ""},
		"a first registry with a leak":     {pull{Load(registry.New, ""), leaksLone().head}, nil, refused, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, now := tc.pull, Start
			for _, r := range p.head.Records {
				now = max2(now, r.Last().Made().At.Add(hour))
			}
			if tc.change != nil {
				tc.change(t, &p)
			}
			if name == "nothing, and a record" { // promoting changes the record alone
				if fs := p.judged(t, nil); rulesOf(fs, finding.Error) != "" {
					t.Errorf("%v", fs)
				}
				return
			}
			fs := p.judged(t, func(c *Change) { c.Now = now })
			got := rulesOf(fs, finding.Error)
			said := tc.says == "" || slices.ContainsFunc(fs, func(f finding.Finding) bool { return strings.Contains(f.Message, tc.says) })
			if got == "" || tc.rules != "" && got != tc.rules || !said {
				t.Errorf("got %q, want %q that says %q:\n%v", got, tc.rules, tc.says, fs)
			}
		})
	}
	// Each state that a gate may not have.
	for _, r := range gates {
		for _, s := range []record.GateState{record.Passed, record.Waiting, record.Against, record.Unproven, record.Off, ""} {
			p := retires()
			edit(b, func(m *record.Retire) {
				m.Gates[slices.IndexFunc(m.Gates, func(g record.Gate) bool { return g.ID == r.id })].State = s
			})(t, &p)
			want := unproven
			if s == record.Off && r.mayBeOff || r.wanted == "" && s == record.Passed || r.wanted != "" && s == r.wanted {
				want = ""
			}
			fs := p.judged(t, nil)
			if got := rulesOf(fs, finding.Error); got != want {
				t.Errorf("gate %s is %q: got %q, want %q", r.id, s, got, want)
			}
			if off := strings.Contains(rulesOf(fs, finding.Note), RuleGateSwitchedOff); off != (s == record.Off && r.mayBeOff) {
				t.Errorf("gate %s is %q: told as switched off: %t", r.id, s, off)
			}
		}
	}
}

func max2(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// leaksOfThird declares a third signer compromised where a was archived.
func leaksOfThird() pull {
	base := Apply(retires().head, In(record.IDFor("c"), Open(60*hour, "c", "")))
	return move(base, record.CompromiseID("c"), Compromise(61*hour, "c", 9))
}

// The overlap counts from when the base has the move before the retirement, whatever
// time that claims; evidence grows old; a history that cannot be read is an error.
func TestTimes(t *testing.T) {
	ret := retires().head.Record(b).Last().Made().At
	arrived := func(at time.Time, err error) func(*Change) {
		return func(c *Change) {
			c.Arrived = func(path string) (time.Time, error) {
				if path != "tools/rotations/"+b+".json" {
					t.Errorf("asked about %s", path)
				}
				return at, err
			}
		}
	}
	now := func(at time.Time) func(*Change) { return func(c *Change) { c.Now = at } }
	for name, tc := range map[string]struct {
		set  func(*Change)
		want string
	}{
		"as old as it says":            {arrived(Start, nil), ""},
		"on main before that":          {arrived(Start.Add(-hour), nil), ""},
		"on main two days before":      {arrived(ret.Add(-48*hour), nil), ""},
		"on main a second later":       {arrived(ret.Add(-48*hour+time.Second), nil), RuleUnproven},
		"on main after the evidence":   {arrived(ret.Add(hour), nil), RuleUnproven},
		"judged at once":               {now(ret), ""},
		"judged after a day":           {now(ret.Add(24 * hour)), ""},
		"judged after more than a day": {now(ret.Add(24*hour + 1)), RuleStaleEvidence},
		"clocks a little apart":        {now(ret.Add(-MaxSkew)), ""},
		"clocks further apart":         {now(ret.Add(-MaxSkew - 1)), RuleStaleEvidence},
		"merged long ago":              {func(c *Change) { c.Now, c.Age = ret.Add(9000*hour), 0 }, ""},
	} {
		if got := rulesOf(retires().judged(t, tc.set), finding.Error); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	broken := errors.New("no history")
	c := Change{Base: retires().base, Head: retires().head, Now: ret}
	arrived(time.Time{}, broken)(&c)
	if _, err := c.Judge(); !errors.Is(err, broken) {
		t.Errorf("a history that cannot be read: %v", err)
	}
	if c.Gained == nil || c.Gained.Kind() != record.Retired {
		t.Errorf("the move of the change is %v", c.Gained)
	}
	// After a rollback it counts from that.
	left := leaves()
	if got := rulesOf(left.judged(t, arrived(Start.Add(60*hour), nil)), finding.Error); got != "" {
		t.Errorf("what is left behind: %q", got)
	}
}

// An entry keeps the KMS key that the record of its publication names; one that was
// never in a record may get another, with a warning.
func TestKMSKeys(t *testing.T) {
	for name, tc := range map[string]struct {
		of            pull
		signer, to    string
		errors, warns string
	}{
		"a recorded signer":     {pull{opens().head, opens().head}, "b", ARN("x"), registry.RuleKMSKeyChanged, registry.RuleKMSKeyChanged},
		"a first signer":        {pull{opens().head, opens().head}, "a", ARN("x"), "", registry.RuleKMSKeyChanged},
		"a promoted one":        {pull{promotesOne().head, promotesOne().head}, "b", ARN("x"), registry.RuleKMSKeyChanged, registry.RuleKMSKeyChanged},
		"a recorded one's gone": {pull{opens().head, opens().head}, "b", "", registry.RuleKMSKeyChanged, registry.RuleKMSKeyChanged},
	} {
		p := tc.of
		p.text(t, "registry", `"kmsKeyId": "`+ARN(tc.signer)+`"`, `"kmsKeyId": "`+tc.to+`"`)
		fs := p.judged(t, nil)
		if e, w := rulesOf(fs, finding.Error), rulesOf(fs, finding.Warning); e != tc.errors || w != tc.warns {
			t.Errorf("%s: errors %q, warnings %q; want %q, %q", name, e, w, tc.errors, tc.warns)
		}
	}
}

// A record is held to the gates that it was judged by: one that is added next year
// makes no record of this year fail, and a new retirement needs it.
func TestANewGate(t *testing.T) {
	p := retires()
	before := gates
	defer func() { gates = before }()
	gates = append(slices.Clone(gates), row{id: "G9", name: "added next year"})
	if fs := Examine(*p.head.Record(b), p.head, nil); len(fs) > 0 {
		t.Errorf("the record of this year: %v", fs)
	}
	fs := p.judged(t, nil)
	if got := rulesOf(fs, finding.Error); got != RuleUnproven || !strings.Contains(fs[0].Message, "gate G9 was not judged") {
		t.Errorf("a new retirement without it: %v", fs)
	}
}
