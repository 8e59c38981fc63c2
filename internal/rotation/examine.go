package rotation

import (
	"fmt"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Examine holds a record against registry and archive as they are, and, where
// it is given, against a verification of the chain: what an auditor asks of the
// evidence years later, offline. The keys must be those of the entries, the
// proof of possession must verify, a retirement must rest on every gate and name
// the boundary that the archive holds, and the chain must show the signers where
// the record says they were.
func Examine(rec Record, f Files, r *chain.Report) []finding.Finding {
	j := &judge{head: f}
	at := func(rule, format string, args ...any) {
		j.findings = append(j.findings, finding.Finding{Rule: rule, Severity: finding.Error, File: f.path(rec.ID), Line: 1, Col: 1, Message: fmt.Sprintf(format, args...)})
	}
	for _, named := range []*Signer{rec.Outgoing, &rec.Incoming} {
		if named == nil {
			continue
		}
		entry, ok := f.signer(named.ID)
		if was, archived := f.Archive.Find(named.ID); !ok && archived {
			entry, ok = was.Signer, true
		}
		switch {
		case !ok:
			at(RuleRecord, "signer %s stands neither in %s nor in the archive", named.ID, f.Registry.Name)
		case !same(SignerOf(entry), *named):
			at(RuleRecord, "the key of signer %s is another one than the record names (%s)", named.ID, named.Fingerprint)
		case named == &rec.Incoming:
			j.possession(rec, entry.Key)
		}
	}
	if ret := rec.Judged(); ret != nil {
		leaving, staying, since := rec.Roles()
		j.gates(ret.Gates, rec.ID, at)
		if ret.EvaluatedAt.Before(since.Add(time.Duration(rec.Policy.Overlap))) {
			at(RuleUnproven, "the overlap of %s cannot have passed at %s", rec.Policy.Overlap, stamp(ret.EvaluatedAt))
		}
		j.archived(rec.ID, leaving.ID, registry.StateRetired, registry.Boundary(ret.Boundary), at)
		if r != nil {
			old, fresh := r.Use(leaving.ID), r.Use(staying.ID)
			if old.LastPosition > ret.Boundary.Position {
				at(RuleRecord, "signer %s signed the event at position %d, beyond its boundary %d", leaving.ID, old.LastPosition, ret.Boundary.Position)
			}
			if fresh.FirstPosition > 0 && ret.Cutover.Position > 0 && fresh.FirstPosition != ret.Cutover.Position {
				at(RuleRecord, "the first event of signer %s stands at position %d, the record says %d", staying.ID, fresh.FirstPosition, ret.Cutover.Position)
			}
		}
	}
	if back := rec.Rollback; back != nil && back.Compromised != nil && back.Boundary != nil {
		j.archived(rec.ID, back.Compromised.ID, registry.StateCompromised, registry.Boundary(*back.Boundary), at)
	}
	j.verified(r, at)
	return j.findings
}

// archived wants the archive to hold what the record says of a signer.
func (j *judge) archived(rotation, id string, state registry.State, boundary registry.Boundary, at func(rule, format string, args ...any)) {
	for _, item := range j.head.Archive.Retired {
		if item.ID == id && item.Rotation == rotation {
			if item.State != state || item.Boundary != boundary {
				at(RuleRecord, "the archive holds signer %s as %s up to position %d, the record as %s up to position %d", id, item.State, item.Boundary.Position, state, boundary.Position)
			}
			return
		}
	}
	at(RuleRecord, "the archive does not hold signer %s under this rotation", id)
}

// verified wants a report that was made with these very files.
func (j *judge) verified(r *chain.Report, at func(rule, format string, args ...any)) {
	switch {
	case r == nil:
	case r.Verdict != chain.Verified || r.Resumed != nil:
		at(RuleRecord, "the report does not say that the whole chain is verified (verdict %s)", r.Verdict)
	case r.RegistrySHA256 != j.head.Registry.SHA256() || r.ArchiveSHA256 != j.head.Archive.SHA256():
		at(RuleRecord, "the report was made with another registry or archive than these")
	}
}
