package rotation

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// The rules of a change that take more than registry and archive to judge;
// docs/rules.md explains each.
const (
	RuleRecord          = "rotation-record"
	RuleRecordRewrite   = "record-rewrite"
	RuleUnproven        = "retired-without-proof"
	RuleStaleEvidence   = "stale-evidence"
	RuleNoRollback      = "returned-without-rollback"
	RuleTwoRotations    = "two-rotations"
	RuleGateSwitchedOff = "gate-switched-off"
	RuleMixedChange     = "mixed-change"
	RulePathTwin        = "path-twin"
	RuleFileMode        = "file-mode"
)

// EvidenceAge is how old the evidence of a retirement may be when it is judged.
const EvidenceAge = 24 * time.Hour

// Files are what one commit says about its signers. Records stand in Dir.
type Files struct {
	Registry *registry.Registry
	Archive  *registry.Archive
	Records  []Record
	Dir      string
}

// Located is the signer of a record with its KMS key: where the record names
// none, the one that registry or archive name by now.
func (f Files) Located(s Signer) Signer {
	if s.KMSKeyARN != "" {
		return s
	}
	if now, ok := f.Registry.Find(s.ID); ok && now.ID == s.ID {
		s.KMSKeyARN = now.KMSKeyID
	} else if was, ok := f.Archive.Find(s.ID); ok && was.ID == s.ID {
		s.KMSKeyARN = was.KMSKeyID
	}
	return s
}

// Record gives the record of a rotation, nil if there is none.
func (f Files) Record(id string) *Record {
	i := slices.IndexFunc(f.Records, func(r Record) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &f.Records[i]
}

// Checkpoint is the last one against which a rotation was finished, nil if none
// was.
func (f Files) Checkpoint() (c *checkpoint.Checkpoint) {
	for _, r := range f.Records {
		if j := r.Judged(); j != nil {
			if named := checkpoint.Recorded(f.path(r.ID), j.Evidence.Checkpoint); named != nil && (c == nil || named.Count > c.Count) {
				c = named
			}
		}
	}
	return c
}

// path is where a record stands.
// DirBeside is where the records of a registry stand unless another folder is
// named.
func DirBeside(registryPath string) string { return path.Join(path.Dir(registryPath), "rotations") }

func (f Files) path(id string) string { return path.Join(f.Dir, id+".json") }

// Naming gives the first record that names a signer by this id or by this KMS
// key, nil if none does.
func (f Files) Naming(id string) *Record {
	i := slices.IndexFunc(f.Records, func(r Record) bool {
		return r.Incoming.goesBy(id) || r.Outgoing != nil && r.Outgoing.goesBy(id)
	})
	if i < 0 {
		return nil
	}
	return &f.Records[i]
}

func (s Signer) goesBy(id string) bool { return s.ID == id || s.KMSKeyARN == id }

// signer gives the entry whose own id this is.
func (f Files) signer(id string) (registry.Signer, bool) {
	s, ok := f.Registry.Find(id)
	return s, ok && s.ID == id
}

// Open are the ids of the rotations that are not over.
func (f Files) Open() []string {
	var ids []string
	for _, r := range f.Records {
		if !PhaseWithoutChain(r, f.Registry, f.Archive).Over() {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Judge holds a change against the policy, from the base that it is to be
// merged into: all that registry.Diff asks for, and what the records must show
// for it. A signer retires on the evidence of its rotation, gathered for the
// very files of the base and no longer than age ago (0: however long); it comes
// back by a rollback; a record, once merged, only gains what its rotation still
// lacked; and one rotation is under way at a time. Going back and marking a key
// as compromised need a record and no gate.
func Judge(base, head Files, now time.Time, age time.Duration) []finding.Finding {
	j := &judge{base: base, head: head, now: now, age: age}
	j.findings = registry.Diff(base.Registry, base.Archive, head.Registry, head.Archive)
	j.records()
	j.departures()
	j.returns()
	j.alone()
	return j.findings
}

type judge struct {
	base, head Files
	now        time.Time
	age        time.Duration
	findings   []finding.Finding
}

// about reports something about a record.
func (j *judge) about(rule string, severity finding.Severity, id, format string, args ...any) {
	j.findings = append(j.findings, finding.Finding{Rule: rule, Severity: severity, File: j.head.path(id), Line: 1, Col: 1, Message: fmt.Sprintf(format, args...)})
}

// records wants the merged records to stand, and new ones to speak of signers
// as they are.
func (j *judge) records() {
	for _, was := range j.base.Records {
		switch is := j.head.Record(was.ID); {
		case is == nil:
			j.about(RuleRecordRewrite, finding.Error, was.ID, "the record of rotation %s is removed; records are evidence and stay", was.ID)
		case !grows(was, *is):
			j.about(RuleRecordRewrite, finding.Error, was.ID, "the record of rotation %s is rewritten; once merged it gains its retirement, its rollback and the number of its pull request, each once, and nothing else changes", was.ID)
		}
	}
	for _, is := range j.head.Records {
		if j.base.Record(is.ID) != nil {
			continue
		}
		if is.Retirement != nil {
			j.about(RuleRecord, finding.Error, is.ID, "the record of rotation %s is new and retires a signer already; merge the record with the incoming signer first, or nobody sees the overlap pass", is.ID)
		}
		if is.Rollback != nil {
			continue // going back needs no more
		}
		j.fits(is, is.Incoming, "incoming")
		if is.Outgoing != nil {
			j.fits(is, *is.Outgoing, "outgoing")
		}
		if is.Outgoing != nil && is.Outgoing.ID == is.Incoming.ID {
			j.about(RuleRecord, finding.Error, is.ID, "the record of rotation %s replaces signer %s by itself", is.ID, is.Incoming.ID)
		}
	}
}

// fits wants a new record to name a signer that stands in the registry, by its
// key.
func (j *judge) fits(r Record, named Signer, as string) {
	s, ok := j.head.signer(named.ID)
	switch is := SignerOf(s); {
	case !ok:
		j.about(RuleRecord, finding.Error, r.ID, "the record of rotation %s names the %s signer %s, which is not in %s", r.ID, as, named.ID, j.head.Registry.Name)
	case !same(is, named):
		j.about(RuleRecord, finding.Error, r.ID, "the record of rotation %s and %s disagree on the key of the %s signer %s", r.ID, j.head.Registry.Name, as, named.ID)
	case as == "incoming":
		j.possession(r, s.Key)
	}
}

// possession wants a proof that stands in a record to prove something. The one
// of an HMAC key only KMS can check.
func (j *judge) possession(r Record, key pubkey.Key) {
	if r.Possession == nil || key.IsZero() {
		return
	}
	if err := r.Possession.Check(r.ID, key); err != nil {
		j.about(RuleRecord, finding.Error, r.ID, "in the record of rotation %s, %s", r.ID, err)
	}
}

// same tells whether two descriptions are of one key.
func same(a, b Signer) bool {
	return a.ID == b.ID && a.Algorithm == b.Algorithm && a.Fingerprint == b.Fingerprint && (a.Algorithm != pubkey.HMACSHA256 || a.KMSKeyARN == b.KMSKeyARN)
}

// grows tells whether a record only gains what it lacked.
func grows(was, is Record) bool {
	if was.Retirement == nil {
		is.Retirement = nil
	}
	if was.Rollback == nil {
		is.Rollback = nil
	} else if is.Rollback != nil && was.Rollback.Retirement == nil {
		undone := *is.Rollback
		undone.Retirement = nil
		is.Rollback = &undone
	}
	if was.PullRequest == 0 {
		is.PullRequest = 0
	}
	return bytes.Equal(was.JSON(), is.JSON())
}

// departures wants evidence for every signer that the archive gains.
func (j *judge) departures() {
	for i, item := range j.head.Archive.Retired {
		if i < len(j.base.Archive.Retired) {
			continue // registry.Diff sees to it that it stood there before
		}
		at := func(rule, format string, args ...any) {
			j.findings = append(j.findings, finding.Finding{Rule: rule, Severity: finding.Error, File: j.head.Archive.Name, Line: item.Line, Col: item.Col,
				Message: "signer " + registry.Quote(item.ID) + " is archived, but " + fmt.Sprintf(format, args...)})
		}
		was, rec := j.base.Record(item.Rotation), j.head.Record(item.Rotation)
		if rec == nil {
			at(RuleUnproven, "there is no record of rotation %s in %s; only finalize (or rollback in mode compromise) archives a signer", registry.Quote(item.Rotation), j.head.Dir)
			continue
		}
		is := SignerOf(item.Signer)
		switch {
		case item.State == registry.StateCompromised:
			j.compromised(item, was, rec, at)
		case was == nil: // rotation-record speaks of it
		case was.Rollback == nil && rec.Rollback != nil:
			j.withdrawn(item, rec, at)
		case was.Rollback != nil && (was.Rollback.Mode != ModeRollback || was.Rollback.Retirement != nil), was.Rollback == nil && was.Retirement != nil:
			at(RuleUnproven, "rotation %s is over already; a record serves one retirement", rec.ID)
		default:
			leaving, _, _ := was.Roles()
			if leaving == nil || !same(*leaving, is) {
				at(RuleUnproven, "the record of rotation %s does not name it, by its key, as the signer that leaves", rec.ID)
			} else if rec.Judged() == nil {
				at(RuleUnproven, "the record of rotation %s holds no retirement: no gate was judged", rec.ID)
			} else {
				j.proven(item, rec, at)
			}
		}
	}
}

// withdrawn lets a rollback take back a signer that has signed nothing: if it
// has, its events are alarms from then on, so nothing can hide behind it.
func (j *judge) withdrawn(item registry.Retired, rec *Record, at func(rule, format string, args ...any)) {
	if rec.Rollback.Mode != ModeRollback || !same(rec.Incoming, SignerOf(item.Signer)) || item.Boundary != (registry.Boundary{}) {
		at(RuleUnproven, "the rollback of rotation %s withdraws only the incoming signer, and only if it has signed nothing (boundary 0)", rec.ID)
	}
}

// compromised wants a record that says so, and no gate: there is no time.
func (j *judge) compromised(item registry.Retired, was, rec *Record, at func(rule, format string, args ...any)) {
	named := same(rec.Incoming, SignerOf(item.Signer)) || rec.Outgoing != nil && same(*rec.Outgoing, SignerOf(item.Signer))
	declared := rec.Rollback != nil && rec.Rollback.Mode == ModeCompromise && (was == nil || was.Rollback == nil) &&
		rec.Rollback.Compromised != nil && same(*rec.Rollback.Compromised, SignerOf(item.Signer)) &&
		rec.Rollback.Boundary != nil && registry.Boundary(*rec.Rollback.Boundary) == item.Boundary
	if !named || !declared {
		at(RuleUnproven, "the record of rotation %s does not say that it is compromised: let rollback in mode compromise write it, with the reason", rec.ID)
	}
}

// mayBeOff are the gates that an input can switch off; the others hold always.
var mayBeOff = []string{"G4", "G5", "G6"}

// allGates are the gates of a retirement, in the order of Evaluate.
var allGates = []string{"G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8"}

// gates wants each gate once, passed, or off where that is possible; it gives
// those that are off.
func (j *judge) gates(list []Gate, id string, at func(rule, format string, args ...any)) (off []string) {
	states := map[string]GateState{}
	for _, g := range list {
		was, twice := states[g.ID]
		states[g.ID] = g.State
		switch {
		case twice:
			at(RuleUnproven, "gate %s stands twice in the record of rotation %s (%s and %s)", g.ID, id, was, g.State)
		case g.State == Off && slices.Contains(mayBeOff, g.ID):
			off = append(off, g.ID+" "+g.Name+" ("+g.Detail+")")
		case g.State != Passed:
			at(RuleUnproven, "gate %s (%s) is %s", g.ID, g.Name, g.State)
		}
	}
	for _, gate := range allGates {
		if _, ok := states[gate]; !ok {
			at(RuleUnproven, "gate %s was not judged", gate)
		}
	}
	return off
}

// proven holds the evidence against what is archived and against the base.
func (j *judge) proven(item registry.Retired, rec *Record, at func(rule, format string, args ...any)) {
	r := rec.Judged()
	_, staying, since := rec.Roles()
	if r.Boundary.Position != item.Boundary.Position || r.Boundary.Digest != item.Boundary.Digest {
		at(RuleUnproven, "its boundary is position %d in the archive and position %d in the record of rotation %s, or their digests differ", item.Boundary.Position, r.Boundary.Position, rec.ID)
	}
	off := j.gates(r.Gates, rec.ID, at)
	if len(off) > 0 {
		j.about(RuleGateSwitchedOff, finding.Note, rec.ID, "this retirement rests on fewer gates, by choice: %s", strings.Join(off, "; "))
	}
	if _, stays := j.head.signer(staying.ID); !stays && rec.Rollback == nil {
		at(RuleUnproven, "signer %s, which replaces it, is not in %s", registry.Quote(staying.ID), j.head.Registry.Name)
	}
	if r.EvaluatedAt.Before(since.Add(time.Duration(rec.Policy.Overlap))) {
		at(RuleUnproven, "the overlap of %s cannot have passed: it began at %s at the earliest and was judged at %s", rec.Policy.Overlap, stamp(since), stamp(r.EvaluatedAt))
	}
	switch old := j.now.Sub(r.EvaluatedAt); {
	case r.Evidence.RegistrySHA256 != j.base.Registry.SHA256() || r.Evidence.ArchiveSHA256 != j.base.Archive.SHA256():
		at(RuleStaleEvidence, "its evidence was gathered with other files than the base has now; run finalize again")
	case old < -MaxSkew:
		at(RuleStaleEvidence, "its evidence claims to be of %s, which is not yet", stamp(r.EvaluatedAt))
	case j.age > 0 && old > j.age:
		at(RuleStaleEvidence, "its evidence is of %s, older than %s; run finalize again", stamp(r.EvaluatedAt), j.age)
	}
}

// returns wants a rollback for every signer that comes back.
func (j *judge) returns() {
	for _, s := range j.head.Registry.Signers {
		_, stood := j.base.signer(s.ID)
		was, archived := j.base.Archive.Find(s.ID)
		if stood || !archived || was.ID != s.ID {
			continue
		}
		undone := slices.ContainsFunc(j.head.Records, func(r Record) bool {
			before := j.base.Record(r.ID)
			return r.Outgoing != nil && r.Outgoing.ID == s.ID && r.Rollback != nil && before != nil && before.Rollback == nil
		})
		if !undone {
			j.findings = append(j.findings, finding.Finding{Rule: RuleNoRollback, Severity: finding.Error, File: j.head.Registry.Name, Line: s.Line, Col: s.Col,
				Message: fmt.Sprintf("signer %s was retired by rotation %s and comes back without a rollback; let the rollback action bring it back, so that the record says who, when and why", registry.Quote(s.ID), registry.Quote(was.Rotation))})
		}
	}
}

// alone wants one rotation at a time. What stood before, and what a rollback
// brings about, is shown and stops nobody.
func (j *judge) alone() {
	before, after := j.base.Open(), j.head.Open()
	if len(after) < 2 {
		return
	}
	severity := finding.Warning
	for _, id := range after {
		if !slices.Contains(before, id) && !j.goesBack() {
			severity = finding.Error
		}
	}
	j.about(RuleTwoRotations, severity, after[len(after)-1], "%d rotations would be under way at once (%s), and none of them could be finished; finish one or roll it back first", len(after), join(after))
}

// goesBack tells whether the change undoes a rotation.
func (j *judge) goesBack() bool {
	return slices.ContainsFunc(j.head.Records, func(r Record) bool {
		was := j.base.Record(r.ID)
		return r.Rollback != nil && was != nil && was.Rollback == nil
	})
}
