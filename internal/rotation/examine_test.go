package rotation

import (
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// A record that was written holds, whatever became of the rotation; one that was
// touched afterwards does not.
func TestExamine(t *testing.T) {
	leak := record.CompromiseID("a")
	for name, tc := range map[string]struct {
		pull   pull
		id     string
		change func(*testing.T, *pull)
		report func(r *chain.Report) // nil: as it should be
		says   string
		with   bool // only a report tells
	}{
		"opened":      {pull: opens(), id: b},
		"promoted":    {pull: promotes(), id: b},
		"retired":     {pull: retires(), id: b},
		"rolled back": {pull: returns(), id: b},
		"left behind": {pull: leaves(), id: b, change: edit(b, func(m *record.Retire) { m.Cutover.Position = 1 }), report: func(r *chain.Report) {
			r.Signers = map[string]chain.SignerUse{"a": use("a", 7, 1, 17, start), "b": use("b", 2, 8, 9, start)}
		}},
		"withdrawn":                 {pull: withdraws(), id: b},
		"compromised":               {pull: leaks(), id: leak},
		"compromised since":         {pull: leaks(), id: b},
		"nobody like that":          {pull: opens(), id: b, change: edit(b, func(m *record.Open) { m.Replaces.ID = "x" }), says: "signer x is neither in"},
		"another key":               {pull: retires(), id: b, change: edit(b, func(m *record.Retire) { m.Signer.Fingerprint = "x" }), says: "the key of signer a is another one"},
		"another boundary":          {pull: retires(), id: b, change: edit(b, func(m *record.Retire) { m.Boundary.Position = 2 }), says: "up to position 7, the record as retired up to position 2"},
		"another time":              {pull: retires(), id: b, change: edit(b, func(m *record.Retire) { m.At = m.At.Add(hour) }), says: "the archive does not hold signer a under this rotation"},
		"no gates":                  {pull: retires(), id: b, change: edit(b, func(m *record.Retire) { m.Gates = nil }), says: "no gate was judged"},
		"a gate not passed":         {pull: retires(), id: b, change: edit(b, func(m *record.Retire) { m.Gates[0].State = record.Waiting }), says: "gate G1"},
		"a gate of others":          {pull: retires(), id: b, change: edit(b, func(m *record.Retire) { m.Gates = append(m.Gates, record.Gate{ID: "G99", State: record.Passed}) })},
		"a gate of others, against": {pull: retires(), id: b, change: edit(b, func(m *record.Retire) { m.Gates = append(m.Gates, record.Gate{ID: "G99", State: record.Against}) }), says: `gate "G99" is against`},
		"before the overlap":        {pull: retires(), id: b, change: edit(b, func(m *record.Retire) { m.At = m.At.Add(-3 * hour) }), says: "cannot have passed"},
		"a proof of nothing":        {pull: opens(), id: b, change: edit(b, func(m *record.Open) { m.Possession = &pubkey.Possession{} }), says: "possession of the key is not proven"},
		"a later leak":              {pull: leaks(), id: leak, change: edit(leak, func(m *record.Compromise) { m.Boundary.Position = 9 }), says: "up to position 7, the record as compromised up to position 9"},
		"withdrawn at events":       {pull: withdraws(), id: b, change: func(t *testing.T, p *pull) { p.text(t, "archive", `"position": 0`, `"position": 1`) }, says: "up to position 1, the record as retired up to position 0"},
		"a leak as retired":         {pull: leaks(), id: leak, change: func(t *testing.T, p *pull) { p.text(t, "archive", `"compromised"`, `"retired"`) }, says: "as retired up to position 7, the record as compromised"},
		"a failed report":           {pull: retires(), id: b, report: func(r *chain.Report) { r.Verdict = chain.Failed }, says: "does not say that the whole chain is verified", with: true},
		"a resumed report":          {pull: retires(), id: b, report: func(r *chain.Report) { r.Resumed = &chain.Resumption{} }, says: "does not say that the whole chain is verified", with: true},
		"of another registry":       {pull: retires(), id: b, report: func(r *chain.Report) { r.RegistrySHA256 = "" }, says: "another registry or archive", with: true},
		"of another archive":        {pull: retires(), id: b, report: func(r *chain.Report) { r.ArchiveSHA256 = "" }, says: "another registry or archive", with: true},
		"signed on":                 {pull: retires(), id: b, report: func(r *chain.Report) { r.Signers["a"] = use("a", 4, 1, 9, start) }, says: "at position 9, beyond its boundary 7", with: true},
		"signed on, and back":       {pull: returns(), id: b, report: func(r *chain.Report) { r.Signers["a"] = use("a", 4, 1, 9, start) }},
		"a cut-over elsewhere":      {pull: retires(), id: b, report: func(r *chain.Report) { r.Signers["b"] = use("b", 6, 6, 14, start) }, says: "is at position 6, the record says 8", with: true},
		"no events of the new":      {pull: retires(), id: b, report: func(r *chain.Report) { delete(r.Signers, "b") }},
	} {
		t.Run(name, func(t *testing.T) {
			p := tc.pull
			if tc.change != nil {
				tc.change(t, &p)
			}
			r := &chain.Report{
				Verdict: chain.Verified, RegistrySHA256: p.head.Registry.SHA256(), ArchiveSHA256: p.head.Archive.SHA256(),
				Signers: map[string]chain.SignerUse{"a": use("a", 7, 1, 7, start), "b": use("b", 6, 8, 14, start)},
			}
			if tc.report != nil {
				tc.report(r)
			}
			for _, with := range []*chain.Report{nil, r} {
				var said []string
				for _, f := range Examine(*p.head.Record(tc.id), p.head, with) {
					said = append(said, f.Message)
				}
				want := tc.says != "" && (with != nil || !tc.with)
				if want != (len(said) > 0) || want && !strings.Contains(strings.Join(said, "\n"), tc.says) {
					t.Errorf("with a report %v: %q, want %q", with != nil, said, tc.says)
				}
			}
		})
	}
}
