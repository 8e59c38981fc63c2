package rotation

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// A record that was written holds, whatever became of the rotation; one that
// was touched afterwards does not.
func TestExamine(t *testing.T) {
	report := func(c change) *chain.Report {
		return &chain.Report{
			Verdict: chain.Verified, RegistrySHA256: c.head.Registry.SHA256(), ArchiveSHA256: c.head.Archive.SHA256(),
			Signers: map[string]chain.SignerUse{"old": use("old", 3, 1, 3, start), "new": use("new", 6, 4, 9, start)},
		}
	}
	for name, tc := range map[string]struct {
		of   func(*testing.T) change
		edit func(c *change, rec *Record, r *chain.Report)
		says string
	}{
		"opened":               {of: opens},
		"retired":              {of: retirement},
		"rolled back":          {of: comesBack},
		"withdrawn":            {of: withdraws},
		"compromised":          {of: compromise},
		"nobody like that":     {opens, func(_ *change, rec *Record, _ *chain.Report) { rec.Outgoing.ID = "x" }, "signer x stands neither in"},
		"another key":          {retirement, func(_ *change, rec *Record, _ *chain.Report) { rec.Outgoing.Fingerprint = "x" }, "the key of signer old is another one"},
		"another boundary":     {retirement, func(_ *change, rec *Record, _ *chain.Report) { rec.Retirement.Boundary.Position = 2 }, "up to position 3, the record as retired up to position 2"},
		"another rotation":     {retirement, func(_ *change, rec *Record, _ *chain.Report) { rec.ID = "x" }, "the archive does not hold signer old under this rotation"},
		"a gate missing":       {retirement, func(_ *change, rec *Record, _ *chain.Report) { rec.Retirement.Gates = rec.Retirement.Gates[:7] }, "gate G8 was not judged"},
		"a gate not passed":    {retirement, func(_ *change, rec *Record, _ *chain.Report) { rec.Retirement.Gates[0].State = Waiting }, "gate G1"},
		"before the overlap":   {retirement, func(_ *change, rec *Record, _ *chain.Report) { rec.Retirement.EvaluatedAt = start.Add(time.Hour) }, "cannot have passed"},
		"a proof of nothing":   {opens, func(_ *change, rec *Record, _ *chain.Report) { rec.Possession = &pubkey.Possession{} }, "possession of the key is not proven"},
		"a later compromise":   {compromise, func(_ *change, rec *Record, _ *chain.Report) { rec.Rollback.Boundary.Position = 9 }, "up to position 3, the record as compromised up to position 9"},
		"a failed report":      {retirement, func(_ *change, _ *Record, r *chain.Report) { r.Verdict = chain.Failed }, "does not say that the whole chain is verified"},
		"a resumed report":     {retirement, func(_ *change, _ *Record, r *chain.Report) { r.Resumed = &chain.Resumption{} }, "does not say that the whole chain is verified"},
		"of other files":       {retirement, func(_ *change, _ *Record, r *chain.Report) { r.RegistrySHA256 = "" }, "another registry or archive"},
		"signed on":            {retirement, func(_ *change, _ *Record, r *chain.Report) { r.Signers["old"] = use("old", 4, 1, 5, start) }, "at position 5, beyond its boundary 3"},
		"a cut-over elsewhere": {retirement, func(_ *change, rec *Record, _ *chain.Report) { rec.Retirement.Cutover.Position = 7 }, "stands at position 4, the record says 7"},
	} {
		c := tc.of(t)
		rec, r := clone(t, c.head.Records[0]), report(c)
		if tc.edit != nil {
			tc.edit(&c, &rec, r)
		}
		for _, with := range []*chain.Report{nil, r} {
			var said []string
			for _, f := range Examine(rec, c.head, with) {
				said = append(said, f.Message)
			}
			byReport := slices.Contains([]string{"a failed report", "a resumed report", "of other files", "signed on", "a cut-over elsewhere"}, name)
			want := tc.says != "" && (with != nil || !byReport)
			if want != (len(said) > 0) || want && !strings.Contains(strings.Join(said, "\n"), tc.says) {
				t.Errorf("%s, with a report %v: %q", name, with != nil, said)
			}
		}
	}
}

// An archive remembers more than one rotation, and a record may know less than a
// later one would.
func TestExamineAmongOthers(t *testing.T) {
	said := func(rec Record, f Files, r *chain.Report) string {
		var all []string
		for _, x := range Examine(rec, f, r) {
			all = append(all, x.Message)
		}
		return strings.Join(all, "\n")
	}
	c := retirement(t)
	rec := c.head.Records[0]
	report := &chain.Report{Verdict: chain.Verified, RegistrySHA256: c.head.Registry.SHA256(), ArchiveSHA256: c.head.Archive.SHA256(), Signers: map[string]chain.SignerUse{"old": use("old", 3, 1, 3, start)}}
	if got := said(rec, c.head, report); got != "" {
		t.Errorf("a record without a cut-over, a chain without events of the new signer: %s", got)
	}
	rec.Retirement.Cutover.Position = 4
	if got := said(rec, c.head, report); got != "" {
		t.Errorf("a chain without events of the new signer: %s", got)
	}
	rec.Retirement.Cutover.Position = 0
	report.Signers["new"] = use("new", 6, 4, 9, start)
	if got := said(rec, c.head, report); got != "" {
		t.Errorf("a record without a cut-over: %s", got)
	}
	rec.Retirement.Cutover.Position = 4
	if got := said(rec, c.head, report); got != "" {
		t.Errorf("a record with its cut-over: %s", got)
	}
	report.ArchiveSHA256 = ""
	if got := said(rec, c.head, report); !strings.Contains(got, "another registry or archive") {
		t.Errorf("a report with another archive: %q", got)
	}

	// Other items of the archive: the signer in an earlier rotation, another
	// signer in this one.
	one := string(c.head.Archive.Bytes())
	i, j := strings.Index(one, "["), strings.LastIndex(one, "]")
	item := one[i+1 : j]
	earlier := strings.Replace(strings.Replace(item, `"rotate-new-1"`, `"rotate-before"`, 1), `"position": 3`, `"position": 1`, 1)
	if earlier == item || !strings.Contains(earlier, `"position": 1`) {
		t.Fatal(item)
	}
	other := strings.Replace(archived(entryOf("third", 3), "compromised"), `"rotation":"x"`, `"rotation":"rotate-new-1"`, 1)
	other = other[strings.Index(other, "[")+1 : strings.LastIndex(other, "]")]
	for name, first := range map[string]string{"the signer in an earlier rotation": earlier, "another signer of this rotation": other} {
		f := folder(t, string(c.head.Registry.Bytes()), one[:i+1]+first+", "+item+one[j:], rec)
		if got := said(rec, f, nil); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}

	c = compromise(t)
	rec = clone(t, c.head.Records[0])
	rec.Rollback.Boundary = nil
	if got := said(rec, c.head, nil); got != "" {
		t.Errorf("a compromise without a boundary: %s", got)
	}
	rec = clone(t, c.head.Records[0])
	rec.Rollback.Compromised = nil
	if got := said(rec, c.head, nil); got != "" {
		t.Errorf("a boundary of nobody: %s", got)
	}
	first := opens(t).head
	rec = clone(t, first.Records[0])
	rec.Outgoing = nil
	if got := said(rec, first, nil); got != "" {
		t.Errorf("nobody is replaced: %s", got)
	}
	rec = c.head.Records[0]
	softer := strings.Replace(string(c.head.Archive.Bytes()), `"state": "compromised"`, `"state": "retired"`, 1)
	if got := said(rec, folder(t, string(c.head.Registry.Bytes()), softer, rec), nil); !strings.Contains(got, "as retired up to position 3, the record as compromised up to position 3") {
		t.Errorf("a stolen key that is archived as retired: %q", got)
	}
}
