package rotation

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// change is a pull request: what the base holds, and what it makes of it.
type change struct{ base, head Files }

func folder(t *testing.T, reg, arch string, records ...Record) Files {
	t.Helper()
	f := files(t, reg, arch)
	return Files{f.Registry, f.Archive, records, "rotations"}
}

// named is a record whose signers are those of entryOf.
func named(t *testing.T, id, outgoing string, out byte, incoming string, in byte) Record {
	t.Helper()
	f := files(t, "["+entryOf(outgoing, out)+","+entryOf(incoming, in)+"]", "").Registry.Signers
	r := record()
	old := SignerOf(f[0])
	r.ID, r.Outgoing, r.Incoming = id, &old, SignerOf(f[1])
	return r
}

// judged is a day and an hour after the overlap of record().
var judged = start.Add(49 * time.Hour)

// retirement is finalize's: signer old leaves for signer new on full evidence.
func retirement(t *testing.T) change {
	t.Helper()
	old, fresh := entryOf("old", 1), entryOf("new", 2)
	rec := named(t, "rotate-new-1", "old", 1, "new", 2)
	base := folder(t, "["+old+","+fresh+"]", "", rec)
	r := Retirement{EvaluatedAt: judged, Boundary: Mark{Position: 3}, Evidence: Evidence{Events: 9, RegistrySHA256: base.Registry.SHA256()}}
	for _, id := range allGates {
		r.Gates = append(r.Gates, Gate{id, "name of " + id, Passed, "detail"})
	}
	f := Facts{Record: rec, Registry: base.Registry, Archive: base.Archive}
	m, err := Retire(f, Assessment{Boundary: r.Boundary}, r)
	if err != nil {
		t.Fatal(err)
	}
	return change{base, folder(t, string(m.Registry), string(m.Archive), m.Record)}
}

// comesBack brings signer old back: what rollback does after retirement.
func comesBack(t *testing.T) change {
	t.Helper()
	base := retirement(t).head
	m, err := Undo(base.Records[0], base.Registry, base.Archive, Rollback{At: judged, Actor: "a", Reason: "r", Mode: "rollback"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return change{base, folder(t, string(m.Registry), string(base.Archive.Bytes()), m.Record)}
}

// compromise archives signer old at once.
func compromise(t *testing.T) change {
	t.Helper()
	base := opens(t).head
	m, err := Compromise("old", Mark{Position: 3}, Rollback{At: judged, Actor: "a", Reason: "leaked"}, base)
	if err != nil {
		t.Fatal(err)
	}
	return change{base, folder(t, string(m.Registry), string(m.Archive), m.Record)}
}

// withdraws takes signer new back, which has signed nothing.
func withdraws(t *testing.T) change {
	t.Helper()
	base := opens(t).head
	m, err := Undo(base.Records[0], base.Registry, base.Archive, Rollback{At: judged, Actor: "a", Reason: "r", Mode: "rollback"}, &chain.Report{Verdict: chain.Verified})
	if err != nil {
		t.Fatal(err)
	}
	return change{base, folder(t, string(m.Registry), string(m.Archive), m.Record)}
}

// leaves archives signer new after its rotation was rolled back.
func leaves(t *testing.T) change {
	t.Helper()
	rec := opens(t).head.Records[0]
	rec.Rollback = &Rollback{At: start, Actor: "a", Reason: "r", Mode: "rollback"}
	base := folder(t, "["+entryOf("old", 1)+","+entryOf("new", 2)+"]", "", rec)
	r := Retirement{EvaluatedAt: judged, Boundary: Mark{Position: 3}, Evidence: Evidence{Events: 9, RegistrySHA256: base.Registry.SHA256()}}
	for _, id := range allGates {
		r.Gates = append(r.Gates, Gate{id, "name of " + id, Passed, "detail"})
	}
	m, err := Retire(Facts{Record: rec, Registry: base.Registry, Archive: base.Archive}, Assessment{Boundary: r.Boundary}, r)
	if err != nil {
		t.Fatal(err)
	}
	return change{base, folder(t, string(m.Registry), string(m.Archive), m.Record)}
}

// opens starts a rotation: signer new is added.
func opens(t *testing.T) change {
	t.Helper()
	old, fresh := entryOf("old", 1), entryOf("new", 2)
	return change{folder(t, "["+old+"]", ""), folder(t, "["+old+","+fresh+"]", "", named(t, "rotate-new-1", "old", 1, "new", 2))}
}

// second opens a rotation while another is under way.
func second(t *testing.T) change {
	t.Helper()
	base := opens(t).head
	reg := strings.TrimSuffix(string(base.Registry.Bytes()), "]") + "," + entryOf("third", 3) + "]"
	return change{base, folder(t, reg, "", base.Records[0], named(t, "rotate-third-1", "new", 2, "third", 3))}
}

// metadata touches nothing that counts.
func metadata(t *testing.T) change {
	t.Helper()
	base := opens(t).head
	return change{base, base}
}

func TestJudge(t *testing.T) {
	head := func(f func(r *Record)) func(c *change) { return func(c *change) { f(&c.head.Records[0]) } }
	gate := func(id string, s GateState) func(c *change) {
		return head(func(r *Record) {
			i := slices.IndexFunc(r.Retirement.Gates, func(g Gate) bool { return g.ID == id })
			r.Retirement.Gates[i].State = s
		})
	}
	now := judged.Add(time.Hour)
	for name, tc := range map[string]struct {
		of     func(*testing.T) change
		edit   func(*change)
		at     time.Time // now, unless set
		want   string    // rules
		says   string
		severe finding.Severity
	}{
		"retired on evidence":           {of: retirement},
		"no record":                     {of: retirement, edit: func(c *change) { c.base.Records, c.head.Records = nil, nil }, want: RuleUnproven, says: `there is no record of rotation "rotate-new-1" in rotations;`},
		"a record of another rotation":  {of: retirement, edit: func(c *change) { c.base.Records[0].ID, c.head.Records[0].ID = "x", "x" }, want: RuleUnproven, says: "there is no record"},
		"no retirement in the record":   {of: retirement, edit: head(func(r *Record) { r.Retirement = nil }), want: RuleUnproven, says: "holds no retirement"},
		"a record that is new":          {of: retirement, edit: func(c *change) { c.base.Records = nil }, want: RuleRecord + " " + RuleRecord, says: "is new and retires"},
		"a record that was used":        {of: retirement, edit: func(c *change) { c.base.Records[0].Retirement = c.head.Records[0].Retirement }, want: RuleUnproven, says: "is over already"},
		"a record that was rolled back": {of: retirement, edit: func(c *change) { r := &Rollback{}; c.base.Records[0].Rollback, c.head.Records[0].Rollback = r, r }, want: RuleUnproven, says: "is over already"},
		"a record that replaces nobody": {of: retirement, edit: func(c *change) { c.base.Records[0].Outgoing, c.head.Records[0].Outgoing = nil, nil }, want: RuleUnproven, says: "does not name it"},
		"a record of another key": {of: retirement, edit: func(c *change) {
			o := *c.base.Records[0].Outgoing
			o.Fingerprint = strings.Repeat("0", 64)
			c.base.Records[0].Outgoing, c.head.Records[0].Outgoing = &o, &o
		}, want: RuleUnproven, says: "does not name it"},
		"a record of another id": {of: retirement, edit: func(c *change) {
			o := *c.base.Records[0].Outgoing
			o.ID = "x"
			c.base.Records[0].Outgoing, c.head.Records[0].Outgoing = &o, &o
		}, want: RuleUnproven, says: "does not name it"},
		"replaced by an alias": {of: retirement, edit: func(c *change) {
			c.head = folder(t, strings.Replace(string(c.head.Registry.Bytes()), `"algorithm"`, `"aliases":["new-2"],"algorithm"`, 1), string(c.head.Archive.Bytes()), c.head.Records...)
			c.base.Records[0].Incoming.ID, c.head.Records[0].Incoming.ID = "new-2", "new-2"
		}, want: registry.RuleAliasAdded + " " + registry.RuleOneOperation + " " + RuleUnproven, says: `signer "new-2", which replaces it, is not in`, severe: -1},
		"another boundary":                {of: retirement, edit: head(func(r *Record) { r.Retirement.Boundary.Position++ }), want: RuleUnproven, says: "position 3 in the archive and position 4"},
		"another digest":                  {of: retirement, edit: head(func(r *Record) { r.Retirement.Boundary.Digest[0]++ }), want: RuleUnproven, says: "digests differ"},
		"the incoming signer gone":        {of: retirement, edit: func(c *change) { c.base.Records[0].Incoming.ID, c.head.Records[0].Incoming.ID = "gone", "gone" }, want: RuleUnproven, says: `signer "gone", which replaces it, is not in`},
		"before the overlap":              {of: retirement, edit: head(func(r *Record) { r.Retirement.EvaluatedAt = start.Add(48*time.Hour - 1) }), at: start.Add(48 * time.Hour), want: RuleUnproven, says: "the overlap of 48h0m0s cannot have passed"},
		"just after the overlap":          {of: retirement, edit: head(func(r *Record) { r.Retirement.EvaluatedAt = start.Add(48 * time.Hour) })},
		"a gate missing":                  {of: retirement, edit: head(func(r *Record) { r.Retirement.Gates = r.Retirement.Gates[1:] }), want: RuleUnproven, says: "gate G1 was not judged"},
		"a gate twice":                    {of: retirement, edit: head(func(r *Record) { r.Retirement.Gates = append(r.Retirement.Gates, r.Retirement.Gates[0]) }), want: RuleUnproven, says: "gate G1 stands twice"},
		"a gate that waits":               {of: retirement, edit: gate("G1", Waiting), want: RuleUnproven, says: "gate G1 (name of G1) is waiting"},
		"a gate with evidence against":    {of: retirement, edit: gate("G5", Against), want: RuleUnproven, says: "is against"},
		"a gate that is not proven":       {of: retirement, edit: gate("G5", Unproven), want: RuleUnproven, says: "is unproven"},
		"a gate that cannot be off":       {of: retirement, edit: gate("G2", Off), want: RuleUnproven, says: "is off"},
		"a gate that may be off":          {of: retirement, edit: gate("G4", Off), want: RuleGateSwitchedOff, says: "G4 name of G4 (detail)", severe: finding.Note},
		"a gate of a newer release":       {of: retirement, edit: head(func(r *Record) { r.Retirement.Gates = append(r.Retirement.Gates, Gate{ID: "G9", State: Passed}) })},
		"a new gate that waits":           {of: retirement, edit: head(func(r *Record) { r.Retirement.Gates = append(r.Retirement.Gates, Gate{ID: "G9", State: Waiting}) }), want: RuleUnproven, says: "gate G9"},
		"evidence of another registry":    {of: retirement, edit: head(func(r *Record) { r.Retirement.Evidence.RegistrySHA256 = strings.Repeat("0", 64) }), want: RuleStaleEvidence, says: "other files"},
		"evidence of another archive":     {of: retirement, edit: head(func(r *Record) { r.Retirement.Evidence.ArchiveSHA256 = strings.Repeat("0", 64) }), want: RuleStaleEvidence, says: "other files"},
		"evidence of a day":               {of: retirement, at: judged.Add(24 * time.Hour)},
		"evidence of more than a day":     {of: retirement, at: judged.Add(24*time.Hour + 1), want: RuleStaleEvidence, says: "older than 24h0m0s"},
		"evidence of tomorrow":            {of: retirement, at: judged.Add(-6 * time.Minute), want: RuleStaleEvidence, says: "is not yet"},
		"clocks a little apart":           {of: retirement, at: judged.Add(-5 * time.Minute)},
		"compromised, on somebody's word": {of: compromise},
		"the compromised incoming signer": {of: compromise, edit: func(c *change) {
			r := named(t, "rotate-new-1", "new", 2, "old", 1)
			r.Rollback = c.head.Records[0].Rollback
			c.head.Records[0] = r
			r.Rollback = nil
			c.base.Records[0] = r
		}},
		"compromised, says nobody":         {of: compromise, edit: head(func(r *Record) { r.Rollback = nil }), want: RuleUnproven, says: "does not say that it is compromised"},
		"compromised, says a rollback":     {of: compromise, edit: head(func(r *Record) { r.Rollback.Mode = "rollback" }), want: RuleUnproven, says: "does not say that it is compromised"},
		"compromised, said before":         {of: compromise, edit: func(c *change) { c.base.Records[0].Rollback = c.head.Records[0].Rollback }, want: RuleUnproven, says: "does not say that it is compromised"},
		"compromised, says another record": {of: compromise, edit: func(c *change) { o := Signer{ID: "x"}; c.base.Records[0].Outgoing, c.head.Records[0].Outgoing = &o, &o }, want: RuleUnproven, says: "does not say that it is compromised"},
		"compromised, a record of nobody":  {of: compromise, edit: func(c *change) { c.base.Records[0].Outgoing, c.head.Records[0].Outgoing = nil, nil }, want: RuleUnproven, says: "does not say that it is compromised"},
		"compromised, a new record":        {of: compromise, edit: func(c *change) { c.base.Records = nil }},
		"compromised, of another signer":   {of: compromise, edit: head(func(r *Record) { r.Rollback.Compromised.ID = "new" }), want: RuleUnproven, says: "does not say that it is compromised"},
		"compromised, up to another event": {of: compromise, edit: head(func(r *Record) { r.Rollback.Boundary.Position = 4 }), want: RuleUnproven, says: "does not say that it is compromised"},
		"compromised, without a boundary":  {of: compromise, edit: head(func(r *Record) { r.Rollback.Boundary = nil }), want: RuleUnproven, says: "does not say that it is compromised"},

		"withdrawn":                    {of: withdraws},
		"withdrawn without a rollback": {of: withdraws, edit: head(func(r *Record) { r.Rollback = nil }), want: RuleUnproven, says: "does not name it, by its key, as the signer that leaves"},
		"withdrawn, and it is another": {of: withdraws, edit: func(c *change) { c.base.Records[0].Incoming.ID, c.head.Records[0].Incoming.ID = "x", "x" }, want: RuleUnproven, says: "withdraws only the incoming signer"},
		"withdrawn with a boundary":    {of: withdraws, edit: func(c *change) { c.head.Archive.Retired[len(c.head.Archive.Retired)-1].Boundary.Position = 1 }, want: RuleUnproven, says: "only if it has signed nothing"},
		"withdrawn as compromised":     {of: withdraws, edit: head(func(r *Record) { r.Rollback.Mode = ModeCompromise }), want: RuleUnproven, says: "withdraws only"},
		"left behind, then archived":   {of: leaves},
		"left behind, after a retirement": {of: leaves, edit: func(c *change) {
			r := &Retirement{}
			c.base.Records[0].Retirement, c.head.Records[0].Retirement = r, r
		}},
		"compromised, nobody named":         {of: compromise, edit: head(func(r *Record) { r.Rollback.Compromised = nil }), want: RuleUnproven, says: "does not say that it is compromised"},
		"left behind, without evidence":     {of: leaves, edit: head(func(r *Record) { r.Rollback.Retirement = nil }), want: RuleUnproven, says: "holds no retirement"},
		"left behind, a gate waits":         {of: leaves, edit: head(func(r *Record) { r.Rollback.Retirement.Gates[1].State = Waiting }), want: RuleUnproven, says: "gate G2"},
		"left behind, archived twice":       {of: leaves, edit: func(c *change) { c.base.Records[0].Rollback = c.head.Records[0].Rollback }, want: RuleUnproven, says: "is over already"},
		"left behind, before the overlap":   {of: leaves, edit: head(func(r *Record) { r.Rollback.Retirement.EvaluatedAt = start.Add(time.Hour) }), at: start.Add(2 * time.Hour), want: RuleUnproven, says: "the overlap of 48h0m0s cannot have passed"},
		"left behind, the rollback changes": {of: leaves, edit: head(func(r *Record) { r.Rollback.Reason = "another" }), want: RuleRecordRewrite, says: "is rewritten"},

		"back by rollback":              {of: comesBack},
		"back without a rollback":       {of: comesBack, edit: head(func(r *Record) { r.Rollback = nil }), want: RuleNoRollback, says: "comes back without a rollback"},
		"back by an earlier rollback":   {of: comesBack, edit: func(c *change) { c.base.Records[0].Rollback = c.head.Records[0].Rollback }, want: RuleNoRollback, says: "comes back without"},
		"back by another's rollback":    {of: comesBack, edit: func(c *change) { o := Signer{ID: "x"}; c.base.Records[0].Outgoing, c.head.Records[0].Outgoing = &o, &o }, want: RuleNoRollback, says: "comes back without"},
		"back by a rollback of nothing": {of: comesBack, edit: func(c *change) { c.base.Records[0].Outgoing, c.head.Records[0].Outgoing = nil, nil }, want: RuleNoRollback, says: "comes back without"},
		"back by a record that is new":  {of: comesBack, edit: func(c *change) { c.base.Records = nil }, want: RuleNoRollback + " " + RuleRecord, says: "comes back without"},
		"back since long":               {of: comesBack, edit: func(c *change) { c.base = c.head }},
		"back under its alias": {of: comesBack, edit: func(c *change) {
			c.base = folder(t, "["+entryOf("new", 2)+"]", archived(strings.Replace(entryOf("old", 1), `"algorithm"`, `"aliases":["older"],"algorithm"`, 1), "retired"), c.base.Records...)
			c.head = folder(t, "["+entryOf("new", 2)+","+entryOf("older", 9)+"]", string(c.base.Archive.Bytes()), c.base.Records...)
		}, want: registry.RuleReturnedSigner, says: "comes back changed"},
		"a rotation opens":              {of: opens},
		"opened by a record of nobody":  {of: opens, edit: head(func(r *Record) { r.Incoming.ID = "x" }), want: RuleRecord, says: "incoming signer x, which is not in"},
		"opened under another key":      {of: opens, edit: head(func(r *Record) { r.Incoming.Fingerprint = "" }), want: RuleRecord, says: "disagree on the key of the incoming signer new"},
		"opened for another algorithm":  {of: opens, edit: head(func(r *Record) { r.Incoming.Algorithm = "rsa-sha256" }), want: RuleRecord, says: "disagree"},
		"opened for nobody's successor": {of: opens, edit: head(func(r *Record) { r.Outgoing.ID = "x" }), want: RuleRecord, says: "outgoing signer x, which is not in"},
		"opened for itself":             {of: opens, edit: head(func(r *Record) { r.Outgoing = &r.Incoming }), want: RuleRecord, says: "by itself"},
		"opened without a predecessor":  {of: opens, edit: head(func(r *Record) { r.Outgoing = nil })},
		"added without a record":        {of: opens, edit: func(c *change) { c.head.Records = nil }},
		"two at once":                   {of: second, want: RuleTwoRotations, says: "rotate-new-1, rotate-third-1"},
		"two that stood there":          {of: second, edit: func(c *change) { c.base = c.head }, want: RuleTwoRotations, says: "2 rotations", severe: finding.Warning},
		"two, while going back": {of: second, edit: func(c *change) {
			r := named(t, "rotate-x", "old", 1, "new", 2)
			c.base.Records = append(c.base.Records, r)
			r.Rollback = &Rollback{}
			c.head.Records = append(c.head.Records, r)
		}, want: RuleTwoRotations, says: "2 rotations", severe: finding.Warning},
		"two, and one that went back": {of: second, edit: func(c *change) {
			r := named(t, "rotate-x", "old", 1, "new", 2)
			r.Rollback = &Rollback{}
			c.base.Records = append(c.base.Records, r)
			c.head.Records = append(c.head.Records, r)
		}, want: RuleTwoRotations, says: "2 rotations"},
		"two, and a new one undone": {of: second, edit: func(c *change) {
			r := named(t, "rotate-x", "old", 1, "new", 2)
			r.Rollback = &Rollback{}
			c.head.Records = append(c.head.Records, r)
		}, want: RuleTwoRotations, says: "2 rotations"},
		"one after another": {of: second, edit: func(c *change) { r := &Rollback{}; c.base.Records[0].Rollback, c.head.Records[0].Rollback = r, r }},
		"an entry without an id": {of: metadata, edit: func(c *change) {
			c.head.Registry, _, _ = registry.Parse("signers.json", []byte("["+entryOf("old", 1)+","+entryOf("new", 2)+`,{"algorithm":"ed25519"}]`))
		}},
		"nothing":                     {of: metadata},
		"a record removed":            {of: metadata, edit: func(c *change) { c.head.Records = nil }, want: RuleRecordRewrite, says: "is removed"},
		"a record rewritten":          {of: metadata, edit: head(func(r *Record) { r.Actor = "somebody else" }), want: RuleRecordRewrite, says: "is rewritten"},
		"a record gains its number":   {of: metadata, edit: head(func(r *Record) { r.PullRequest = 7 })},
		"a record's number changes":   {of: metadata, edit: func(c *change) { c.base.Records[0].PullRequest = 1; c.head.Records[0].PullRequest = 2 }, want: RuleRecordRewrite, says: "is rewritten"},
		"a record gains its rollback": {of: metadata, edit: head(func(r *Record) { r.Rollback = &Rollback{Mode: "rollback"} })},
		"a record loses its rollback": {of: metadata, edit: func(c *change) { c.base.Records[0].Rollback = &Rollback{} }, want: RuleRecordRewrite, says: "is rewritten"},
		"a record's retirement changes": {of: metadata, edit: func(c *change) {
			c.base.Records[0].Retirement, c.head.Records[0].Retirement = &Retirement{}, &Retirement{RunURL: "x"}
		}, want: RuleRecordRewrite, says: "is rewritten"},
		"a record's overlap shrinks":     {of: metadata, edit: head(func(r *Record) { r.Policy.Overlap = Duration(24 * time.Hour) }), want: RuleRecordRewrite, says: "is rewritten"},
		"what registry.Diff speaks of":   {of: opens, edit: func(c *change) { c.base = folder(t, "["+entryOf("old", 9)+"]", "") }, want: registry.RuleKeyChanged, says: "public key"},
		"a new record of a rollback":     {of: opens, edit: head(func(r *Record) { r.Incoming.ID, r.Rollback = "x", &Rollback{} })},
		"a new record with a retirement": {of: opens, edit: head(func(r *Record) { r.Retirement = &Retirement{} }), want: RuleRecord, says: "is new and retires"},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.of(t)
			c.head.Records = slices.Clone(c.head.Records)
			c.base.Records = slices.Clone(c.base.Records)
			for _, list := range [][]Record{c.base.Records, c.head.Records} { // an edit of one is no edit of the other
				for i := range list {
					list[i] = clone(t, list[i])
				}
			}
			if tc.edit != nil {
				tc.edit(&c)
			}
			at := tc.at
			if at.IsZero() {
				at = now
			}
			if tc.severe == finding.Note && tc.want != RuleGateSwitchedOff {
				tc.severe = finding.Error
			}
			var rules []string
			said := tc.says == ""
			for _, f := range Judge(c.base, c.head, at, EvidenceAge) {
				rules = append(rules, f.Rule)
				said = said || strings.Contains(f.Message, tc.says)
				if f.File == "" || f.Line < 1 || f.Severity != tc.severe && tc.severe >= 0 {
					t.Errorf("%+v", f)
				}
			}
			slices.Sort(rules)
			if got := strings.Join(rules, " "); got != tc.want || !said {
				t.Errorf("%q, want %q that says %q:\n%v", got, tc.want, tc.says, Judge(c.base, c.head, at, EvidenceAge))
			}
		})
	}
}

// clone is a deep copy.
func clone(t *testing.T, r Record) Record {
	t.Helper()
	back, err := ParseRecord("r.json", r.JSON())
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// Where the age is no matter, on a push that was merged long after, it is none.
func TestJudgeWithoutAge(t *testing.T) {
	c := retirement(t)
	if fs := Judge(c.base, c.head, judged.Add(1000*time.Hour), 0); len(fs) > 0 {
		t.Error(fs)
	}
}

// HMAC keys have no fingerprint; their KMS key tells them apart.
func TestSame(t *testing.T) {
	a := Signer{ID: "m", Algorithm: "hmac-sha256", KMSKeyARN: "k"}
	b := a
	b.KMSKeyARN = "l"
	if !same(a, a) || same(a, b) {
		t.Error("HMAC keys are told apart by their KMS key")
	}
	a.Algorithm, b.Algorithm = "ed25519", "ed25519"
	if !same(a, b) {
		t.Error("a public key is what it is, whatever KMS calls it")
	}
}

// What the records tell beside their own rotation.
func TestWhatRecordsTell(t *testing.T) {
	aliased := func(entry, alias string) string {
		return strings.Replace(entry, `"algorithm"`, `"aliases":["`+alias+`"],"algorithm"`, 1)
	}
	finished := func(id, checkpoint string) Record {
		r := record()
		r.ID, r.Retirement = id, &Retirement{Evidence: Evidence{Checkpoint: checkpoint}}
		return r
	}
	head := strings.Repeat("ab", 32)
	back := record()
	back.ID, back.Rollback = "back", &Rollback{Mode: ModeRollback, Retirement: &Retirement{Evidence: Evidence{Checkpoint: "9:" + head}}}
	for name, tc := range map[string]struct {
		records []Record
		want    string
	}{
		"none":                  {nil, ""},
		"none finished":         {[]Record{record()}, ""},
		"finished without":      {[]Record{finished("a", "")}, ""},
		"no checkpoint":         {[]Record{finished("a", "7:x")}, ""},
		"one":                   {[]Record{record(), finished("a", "7:"+head), finished("b", "")}, "7:" + head},
		"the last of two":       {[]Record{finished("a", "7:"+head), finished("b", "8:"+head)}, "8:" + head},
		"in another order":      {[]Record{finished("b", "8:"+head), finished("a", "7:"+head)}, "8:" + head},
		"after a rollback, too": {[]Record{finished("b", "8:"+head), back}, "9:" + head},
	} {
		got := ""
		if c := (Files{Records: tc.records}).Checkpoint(); c != nil {
			got = c.String()
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}

	both, alone, other := record(), record(), record()
	both.ID, both.Outgoing, both.Incoming = "both", &Signer{ID: "out", KMSKeyARN: "arn:out"}, Signer{ID: "in", KMSKeyARN: "arn:in"}
	alone.ID, alone.Outgoing, alone.Incoming = "alone", nil, Signer{ID: "first"}
	other.ID, other.Outgoing, other.Incoming = "other", &Signer{ID: "x"}, Signer{ID: "y"}
	named := Files{Records: []Record{alone, other, both}}
	for id, want := range map[string]string{"in": "both", "arn:in": "both", "out": "both", "arn:out": "both", "first": "alone", "x": "other", "z": ""} {
		got := ""
		if r := named.Naming(id); r != nil {
			got = r.ID
		}
		if got != want {
			t.Errorf("%s is named by %q, want %q", id, got, want)
		}
	}

	f := folder(t, "["+entryOf("here", 1)+","+aliased(entryOf("host", 2), "guest")+"]", archived(aliased(entryOf("gone", 3), "shadow"), "retired"))
	for id, want := range map[string]string{"here": "arn:here", "gone": "arn:gone", "guest": "", "shadow": "", "nowhere": ""} {
		if got := f.Located(Signer{ID: id}).KMSKeyARN; got != want {
			t.Errorf("the key of %s is %q, want %q", id, got, want)
		}
	}
	if got := f.Located(Signer{ID: "here", KMSKeyARN: "arn:then"}).KMSKeyARN; got != "arn:then" {
		t.Errorf("what the record says is changed to %q", got)
	}

	undone := record()
	undone.Rollback = &Rollback{Mode: ModeRollback}
	if undone.LeftBehind(files(t, "["+entryOf("old", 1)+","+aliased(entryOf("other", 3), "new")+"]", "").Registry) {
		t.Error("another signer that took the name is left behind")
	}
	if !undone.LeftBehind(files(t, "["+entryOf("old", 1)+","+entryOf("new", 2)+"]", "").Registry) {
		t.Error("the signer is not left behind")
	}
}
