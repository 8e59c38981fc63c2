package rotation

import (
	"fmt"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Examine holds a record against registry and archive as they are, and, where it is
// given, against a verification of the chain: what an auditor asks of the evidence
// years later, offline. The keys must be those of the entries, the proof of
// possession must verify, a retirement must rest on the gates that it was judged by
// and name the boundary that the archive holds, and the chain must show the signers
// where the record says they were.
func Examine(rec record.Record, f record.Files, r *chain.Report) []finding.Finding {
	e := &examination{files: f, report: r, rec: rec}
	for i, m := range rec.Moves {
		e.move(record.Record{ID: rec.ID, Moves: rec.Moves[:i]}.State(), m)
	}
	switch {
	case r == nil:
	case r.Verdict != chain.Verified || r.Resumed != nil:
		e.at(RuleRecord, "the report does not say that the whole chain is verified (verdict %s)", r.Verdict)
	case r.RegistrySHA256 != f.Registry.SHA256() || r.ArchiveSHA256 != f.Archive.SHA256():
		e.at(RuleRecord, "the report was made with another registry or archive than these")
	}
	return e.findings
}

type examination struct {
	files    record.Files
	report   *chain.Report
	rec      record.Record
	findings []finding.Finding
}

func (e *examination) at(rule, format string, args ...any) {
	e.findings = append(e.findings, finding.Finding{Rule: rule, Severity: finding.Error, File: e.files.Path(e.rec.ID), Line: 1, Col: 1, Message: fmt.Sprintf(format, args...)})
}

// move examines one move; before is the state that it was made in.
func (e *examination) move(before record.State, m record.Move) {
	key := e.signer(m.Subject())
	switch m := m.(type) {
	case *record.Open:
		if m.Replaces != nil {
			e.signer(*m.Replaces)
		}
		if m.Possession != nil && !key.IsZero() {
			if err := m.Possession.Check(e.rec.ID, key); err != nil {
				e.at(RuleRecord, "%s", err)
			}
		}
	case *record.Promote:
		e.signer(m.Replaces)
	case *record.Retire:
		wrong, _ := judged(m.Gates, false)
		for _, why := range wrong {
			e.at(RuleUnproven, "%s", why)
		}
		if m.At.Before(before.Since.Add(time.Duration(before.Policy.Overlap))) {
			e.at(RuleUnproven, "the overlap of %s cannot have passed at %s", before.Policy.Overlap, stamp(m.At))
		}
		e.archived(m, registry.StateRetired, m.Boundary)
		e.positions(before, m)
	case *record.Withdraw:
		e.archived(m, registry.StateRetired, record.Mark{})
	case *record.Compromise:
		e.archived(m, registry.StateCompromised, m.Boundary)
	}
}

// signer wants an entry, published or archived, to have the key that the record
// names.
func (e *examination) signer(named record.Signer) (key pubkey.Key) {
	entry, ok := e.files.Registered(named.ID)
	if was, archived := e.files.Archive.Find(named.ID); !ok && archived {
		entry, ok = was.Signer, true
	}
	switch {
	case !ok:
		e.at(RuleRecord, "signer %s is neither in %s nor in the archive", named.ID, e.files.Registry.Name)
	case !record.SignerOf(entry).SameKey(named):
		e.at(RuleRecord, "the key of signer %s is another one than the record names (%s)", named.ID, named.Fingerprint)
	}
	return entry.Key
}

// archived wants the archive to hold what the record says of a signer.
func (e *examination) archived(m record.Move, state registry.State, boundary record.Mark) {
	id := m.Subject().ID
	for _, item := range e.files.Archive.Retired {
		if item.ID == id && item.Rotation == e.rec.ID && item.RetiredAt.Equal(m.Made().At) {
			if item.State != state || record.Mark(item.Boundary) != boundary {
				e.at(RuleRecord, "the archive holds signer %s as %s up to position %d, the record as %s up to position %d", id, item.State, item.Boundary.Position, state, boundary.Position)
			}
			return
		}
	}
	e.at(RuleRecord, "the archive does not hold signer %s under this rotation", id)
}

// positions wants the chain to show both signers where the retirement says. A signer
// that came back since may have signed on.
func (e *examination) positions(before record.State, m *record.Retire) {
	if e.report == nil {
		return
	}
	old, fresh := e.report.Use(m.Signer.ID), e.report.Use(before.Staying.ID)
	_, back := e.files.Registered(m.Signer.ID)
	if was, _ := e.files.Archive.Find(m.Signer.ID); !back && was.Rotation == e.rec.ID && old.LastPosition > m.Boundary.Position {
		e.at(RuleRecord, "signer %s signed the event at position %d, beyond its boundary %d", m.Signer.ID, old.LastPosition, m.Boundary.Position)
	}
	if fresh.FirstPosition > 0 && m.Cutover.Position > 0 && fresh.FirstPosition != m.Cutover.Position {
		e.at(RuleRecord, "the first event of signer %s is at position %d, the record says %d", before.Staying.ID, fresh.FirstPosition, m.Cutover.Position)
	}
}
