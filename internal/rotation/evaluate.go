package rotation

import (
	"cmp"
	"fmt"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Phase is where a rotation stands.
type Phase string

// The phases, in the order of a rotation that goes well.
const (
	Proposed    Phase = "proposed"    // its pull request is not merged
	Published   Phase = "published"   // the entry is on the default branch, unused
	Ready       Phase = "ready"       // and verifiers have it: it may sign
	Active      Phase = "active"      // the incoming signer signs, and old writers may still deliver
	Draining    Phase = "draining"    // the newest event is the outgoing signer's
	Retiring    Phase = "retired"     // the outgoing signer is quiet: the overlap runs, or a gate is open
	Finalizable Phase = "finalizable" // every gate is passed
	Archived    Phase = "archived"
	Compromised Phase = "compromised"
	RolledBack  Phase = "rolled-back"
	Withdrawn   Phase = "withdrawn"
)

// Over tells whether nothing is left to be done for a rotation in phase p.
func (p Phase) Over() bool {
	return p == Archived || p == Compromised || p == RolledBack || p == Withdrawn
}

// GateState is what the evidence says about a gate.
type GateState string

// Missing evidence is Unproven, never Passed. Off gates were switched off by
// an input that the report names.
const (
	Passed   GateState = "passed"
	Waiting  GateState = "waiting"
	Against  GateState = "against"
	Unproven GateState = "unproven"
	Off      GateState = "off"
)

// Gate is one condition of retirement.
type Gate struct {
	ID     string    `json:"id"`
	Name   string    `json:"name"`
	State  GateState `json:"state"`
	Detail string    `json:"detail"`
}

// Facts are everything that a rotation's state follows from.
type Facts struct {
	Record   Record
	Registry *registry.Registry
	Archive  *registry.Archive
	// InFlight are the ids of other rotations that are not over.
	InFlight []string
	// Report is a verification of the whole chain with Registry and Archive.
	Report *chain.Report
	// CheckpointGiven says that Report was made with a checkpoint. LostCheckpoint
	// says where one should have been and is none, "" if none was asked for.
	CheckpointGiven bool
	LostCheckpoint  string
	// Trail is what is known of the use of both KMS keys.
	Trail Trail
	// MergedAt is when the add-signer pull request was merged, zero if nobody
	// knows; see Publication.
	MergedAt time.Time
	// Verifiers are what the listed verifiers serve.
	Verifiers []Verifier
	// Now is the caller's clock, GitHub's where there is one.
	Now time.Time
	// ReadAt is when the reading of the chain began, if that was some time ago:
	// what has been signed since Report does not show. Zero is now.
	ReadAt time.Time
	// Until is the latest time that an event of an export claims: what has been
	// signed since nobody can tell from it, whenever it was read. It is zero if
	// none claims any, and nil for a table, which shows all up to its reading.
	Until *time.Time
}

// AsOf is the time that the facts are of.
func (f Facts) AsOf() time.Time {
	if f.ReadAt.IsZero() || f.ReadAt.After(f.Now) {
		return f.Now
	}
	return f.ReadAt
}

// seen is up to when the chain was looked at.
func (f Facts) seen() time.Time {
	if f.Until == nil || f.Until.After(f.AsOf()) {
		return f.AsOf()
	}
	return *f.Until
}

// Trail is CloudTrail's evidence.
type Trail struct {
	// Off names the input that switched the gate off, "" if it is on.
	Off string
	// Early says why it is too soon to ask, "" if it is not.
	Early string
	// Problem says why the trail proves nothing, "" if it was read.
	Problem string
	// OldUses counts signatures by the outgoing key since the boundary, NewUses
	// those by the incoming key, in the window up to To: the newest, there may be
	// more of either. The last one by the outgoing key has the id LastOldEvent, and
	// was made by LastOldUser.
	OldUses, NewUses          int
	To                        time.Time
	LastOldEvent, LastOldUser string
}

// TrailDelay is how long CloudTrail may take to deliver an event; a window
// that ended later proves nothing about its end.
const TrailDelay = 20 * time.Minute

// MaxSkew is how far two clocks may differ before times mean nothing.
const MaxSkew = 5 * time.Minute

// Assessment is what the facts come to.
type Assessment struct {
	Phase Phase
	Gates []Gate
	// Cutover is the incoming signer's first event, Boundary the outgoing
	// signer's last.
	Cutover  Cutover
	Boundary Mark
	// DueAt is when the overlap ends if the outgoing signer stays quiet.
	DueAt time.Time
}

// Count tells how many gates are in a state.
func (a Assessment) Count(s GateState) int {
	n := 0
	for _, g := range a.Gates {
		if g.State == s {
			n++
		}
	}
	return n
}

// PhaseWithoutChain is the phase as far as the files tell.
func PhaseWithoutChain(r Record, reg *registry.Registry, arch *registry.Archive) Phase {
	in, inRegistry := reg.Find(r.Incoming.ID)
	was, inArchive := arch.Find(r.Incoming.ID)
	switch {
	case r.Rollback != nil && r.Rollback.Mode == ModeCompromise:
		return Compromised
	case r.Rollback != nil && inArchive && !inRegistry && was.Boundary.Position == 0:
		return Withdrawn
	case r.Rollback != nil:
		return RolledBack
	case inArchive && !inRegistry:
		return Archived // a later rotation has retired the incoming signer too
	case in.ID != r.Incoming.ID: // or none
		return Withdrawn
	case r.Outgoing == nil:
		return Archived // nothing is replaced
	}
	if _, still := reg.Find(r.Outgoing.ID); still {
		return Published
	}
	if was, _ := arch.Find(r.Outgoing.ID); was.State == registry.StateCompromised {
		return Compromised
	}
	return Archived
}

// Evaluate derives phase and gates. Gate G3, that the chain verifies with the
// files as they would be after the merge, needs a second verification: it is
// Waiting here until the others are passed, and Prove settles it.
func Evaluate(f Facts) Assessment {
	a := Assessment{Phase: PhaseWithoutChain(f.Record, f.Registry, f.Archive)}
	undone := f.Record.LeftBehind(f.Registry)
	if a.Phase.Over() && !undone {
		return a
	}
	leaving, staying, since := f.Record.Roles()
	old, fresh := f.Report.Use(leaving.ID), f.Report.Use(staying.ID)
	a.Boundary = Mark{old.LastPosition, old.LastDigest}
	begun := fresh.FirstCreatedAt
	if undone {
		begun = nil // the signer that stays was there before
	}
	quietFrom := latest(old.LastCreatedAt, old.LastNotBefore, begun, &since, &f.MergedAt)
	a.DueAt = quietFrom.Add(time.Duration(f.Record.Policy.Overlap))
	if fresh.Events > 0 {
		a.Cutover = Cutover{fresh.FirstPosition}
	}
	switch {
	case undone:
	case fresh.Events == 0 && f.reach().State == Passed:
		a.Phase = Ready
	case fresh.Events == 0:
		a.Phase = Published
	case old.LastPosition > fresh.LastPosition:
		a.Phase = Draining
	case f.seen().Before(drained(f, fresh)):
		a.Phase = Active
	default:
		a.Phase = Retiring
	}
	a.Gates = []Gate{
		overlap(f, a, quietFrom),
		quiet(f, old, fresh),
		{"G3", "the chain verifies after the merge", Waiting, "checked once every other gate is passed"},
		anchored(f),
		f.Trail.Quiet(f.Now),
		everywhere(f),
		alone(f),
		{"G8", "a person approves", Passed, "by merging the pull request; this tool never merges"},
	}
	if f.Report.Verdict != chain.Verified {
		a.Gates[2].State = Against
		a.Gates[2].Detail = fmt.Sprintf("the chain does not even verify with the files as they are: %d finding(s), see the report of verify-chain", f.Report.FindingsTotal)
	}
	return a
}

// Ready tells whether every gate but G3 is passed or off.
func (a Assessment) Ready() bool {
	for _, g := range a.Gates {
		if g.ID != "G3" && g.State != Passed && g.State != Off {
			return false
		}
	}
	return len(a.Gates) > 0 && a.Gates[2].State == Waiting
}

// Due tells whether nothing is waited for any more: what is missing then will
// not come by itself. G3 waits for the others.
func (a Assessment) Due() bool {
	for _, g := range a.Gates {
		if g.ID != "G3" && g.State == Waiting {
			return false
		}
	}
	return true
}

// Prove settles gate G3 with a verification made with the files as they would
// be after the merge.
func (a *Assessment) Prove(after *chain.Report) {
	g := &a.Gates[2]
	if after.Verdict != chain.Verified {
		g.State, g.Detail = Against, fmt.Sprintf("%d finding(s) with the files as they would be after the merge", after.FindingsTotal)
		return
	}
	g.State, g.Detail = Passed, fmt.Sprintf("%d events, head %s", after.Events, after.Head)
	a.Phase = Finalizable
}

// Infer settles gate G3 with a verification made with the files as they are,
// where the caller has seen that those after the merge let every event keep the
// key that verified it.
func (a *Assessment) Infer(before *chain.Report) {
	if a.Prove(before); a.Phase == Finalizable {
		a.Gates[2].Detail += "; follows from the report, since every event keeps the key that verified it"
	}
}

func latest(times ...*time.Time) time.Time {
	var t time.Time
	for _, u := range times {
		if u != nil && u.After(t) {
			t = *u
		}
	}
	return t
}

func overlap(f Facts, a Assessment, from time.Time) Gate {
	g := Gate{ID: "G1", Name: "the overlap has passed"}
	length := time.Duration(f.Record.Policy.Overlap)
	switch {
	case from.After(f.AsOf().Add(MaxSkew)):
		g.State, g.Detail = Unproven, fmt.Sprintf("the chain's clock (%s) is more than %s ahead of this run's (%s); times prove nothing until one of them is right", stamp(from), MaxSkew, stamp(f.AsOf()))
	case f.AsOf().Before(a.DueAt):
		g.State, g.Detail = Waiting, fmt.Sprintf("until %s (%s from %s, when the outgoing signer was last seen or the incoming one first)", stamp(a.DueAt), length, stamp(from))
	case f.Until != nil && f.Until.IsZero():
		g.State, g.Detail = Unproven, "no event of this export says when it was written, so it may be of any age; export created_at too, or read the database"
	case f.seen().Before(a.DueAt):
		g.State, g.Detail = Waiting, fmt.Sprintf("the overlap was over at %s, and the newest event of this export is of %s: what was signed in between it does not show. Export the chain again, with an event of after that time, or read the database", stamp(a.DueAt), stamp(f.seen()))
	default:
		g.State, g.Detail = Passed, fmt.Sprintf("%s since %s", length, stamp(from))
	}
	return g
}

func quiet(f Facts, old, fresh chain.SignerUse) Gate {
	g := Gate{ID: "G2", Name: "the outgoing signer is quiet, the incoming one signs"}
	leaving, staying, _ := f.Record.Roles()
	switch {
	case fresh.Events == 0:
		g.State, g.Detail = Waiting, fmt.Sprintf("no event by %s yet; deploy it. Signer ids seen: %s", staying.ID, SignersSeen(f.Report))
		if !f.MergedAt.IsZero() && f.Now.Sub(f.MergedAt) > unused {
			g.Detail += fmt.Sprintf(". It is published since %s: if nobody means to deploy it, roll the rotation back", stamp(f.MergedAt))
		}
	case old.LastPosition > fresh.LastPosition:
		g.State, g.Detail = Waiting, fmt.Sprintf("the newest event (position %d) is by the outgoing signer %s: some writer still uses it", old.LastPosition, leaving.ID)
		if over := drained(f, fresh); !over.IsZero() && over.Before(f.Now) {
			g.Detail += fmt.Sprintf(", though its drain was to be over at %s; find that writer", stamp(over))
		}
	default:
		g.State = Passed
		g.Detail = fmt.Sprintf("last event by %s at position %d, %d event(s) by %s, the last at position %d", leaving.ID, old.LastPosition, fresh.Events, staying.ID, fresh.LastPosition)
	}
	return g
}

// unused is how long a signer may stand published before the report asks
// whether somebody has forgotten it.
const unused = 7 * 24 * time.Hour

// drained is when the last writer should have switched to the signer that
// stays, zero where nobody has planned it.
func drained(f Facts, staying chain.SignerUse) time.Time {
	if f.Record.Policy.Drain == 0 || f.Record.Rollback != nil || staying.FirstCreatedAt == nil {
		return time.Time{}
	}
	return staying.FirstCreatedAt.Add(time.Duration(f.Record.Policy.Drain))
}

func anchored(f Facts) Gate {
	g := Gate{ID: "G4", Name: "consistent with the last checkpoint", State: Passed, Detail: f.Report.Checkpoint.From}
	switch {
	case f.LostCheckpoint != "":
		g.State, g.Detail = Unproven, f.LostCheckpoint+" holds no checkpoint, so a tail that was cut off would not be noticed"
	case !f.CheckpointGiven:
		g.State, g.Detail = Off, "no checkpoint is given, so a tail that was cut off would not be noticed"
	case !f.Report.TruncationExcluded:
		g.State, g.Detail = Against, "the chain does not pass through the checkpoint"
	}
	return g
}

// Quiet is gate G5. A key may be disabled only when it is Passed.
func (t Trail) Quiet(now time.Time) Gate {
	g := Gate{ID: "G5", Name: "KMS: the old key is quiet, the new one is seen"}
	switch {
	case t.Off != "":
		g.State, g.Detail = Off, t.Off
	case t.Early != "":
		g.State, g.Detail = Waiting, t.Early
	case t.Problem != "":
		g.State, g.Detail = Unproven, t.Problem
	case t.OldUses > 0:
		g.State, g.Detail = Against, fmt.Sprintf("at least %d signature(s) with the old key after the boundary, the last by %s (CloudTrail event %s): some system still signs with it", t.OldUses, cmp.Or(t.LastOldUser, "a user without a name"), t.LastOldEvent)
	case now.Sub(t.To) < TrailDelay:
		g.State, g.Detail = Unproven, fmt.Sprintf("the window ends at %s, and CloudTrail delivers up to %s late", stamp(t.To), TrailDelay)
	case t.NewUses == 0:
		g.State, g.Detail = Unproven, "not one signature with the new key is in the trail, so its silence about the old one proves nothing; does the trail record KMS events?"
	default:
		g.State, g.Detail = Passed, fmt.Sprintf("at least %d signature(s) with the new key, none with the old one, up to %s", t.NewUses, stamp(t.To))
	}
	return g
}

func alone(f Facts) Gate {
	g := Gate{ID: "G7", Name: "no other rotation is in flight", State: Passed, Detail: "none"}
	if len(f.InFlight) > 0 {
		g.State, g.Detail = Waiting, "finish or roll back first: "+join(f.InFlight)
	}
	return g
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
