// Package rotation judges the replacement of a signer: how far it is, which gates
// are passed, whether a signer may be deployed, and whether a pull request is what
// one move makes of its base. What moves there are is package record's.
//
// It refuses to take a missing piece of evidence for a good one: a gate is passed,
// waiting, contradicted or unproven, and only when all are passed (or were switched
// off by name) may a signer be retired. Time is an argument, and positions decide
// before times do. Nothing is stored that could be derived, so a lost, repeated or
// killed run changes nothing.
package rotation

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// The phases of a rotation that is under way, in the order of one that goes well;
// record.Published is the one before Ready.
const (
	Proposed    record.Phase = "proposed" // its pull request is not merged
	Ready       record.Phase = "ready"    // published, and verifiers have it: it may sign
	Active      record.Phase = "active"   // the incoming signer signs, and old writers may still deliver
	Draining    record.Phase = "draining" // the newest event is the outgoing signer's
	Retiring    record.Phase = "retired"  // the outgoing signer is quiet: the overlap runs, or a gate is open
	Finalizable record.Phase = "finalizable"
)

// Facts are everything that a rotation's state follows from.
type Facts struct {
	Record record.Record
	Files  record.Files
	// Report is a verification of the whole chain with Files.
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
	// those by the incoming key, in the window from From to To: the newest, there may be
	// more of either. The last one by the outgoing key has the id LastOldEvent, and
	// was made by LastOldUser.
	OldUses, NewUses          int
	From, To                  time.Time
	LastOldEvent, LastOldUser string
}

// TrailDelay is how long CloudTrail may take to deliver an event; a window
// that ended later proves nothing about its end.
const TrailDelay = 20 * time.Minute

// MaxSkew is how far two clocks may differ before times mean nothing.
const MaxSkew = 5 * time.Minute

// Assessment is what the facts come to.
type Assessment struct {
	Phase record.Phase
	Gates []record.Gate
	// Cutover is the incoming signer's first event, Boundary the outgoing
	// signer's last.
	Cutover  record.Cutover
	Boundary record.Mark
	// DueAt is when the overlap ends if the outgoing signer stays quiet.
	DueAt time.Time

	quietFrom  time.Time
	old, fresh chain.SignerUse
}

// Count tells how many gates are in a state.
func (a Assessment) Count(s record.GateState) int {
	n := 0
	for _, g := range a.Gates {
		if g.State == s {
			n++
		}
	}
	return n
}

// Evaluate derives phase and gates. That the chain verifies with the files as they
// would be after the merge needs a second verification: that gate waits here until
// the others are passed, and Prove settles it.
func Evaluate(f Facts) Assessment {
	a := Assessment{Phase: f.Files.Phase(f.Record)}
	if !f.Files.Unsettled(f.Record) {
		return a
	}
	s := f.Record.State()
	a.old, a.fresh = f.Report.Use(s.Leaving.ID), f.Report.Use(s.Staying.ID)
	a.Boundary = record.Mark{Position: a.old.LastPosition, Digest: a.old.LastDigest}
	begun := a.fresh.FirstCreatedAt
	if s.Stage == record.Back {
		begun = nil // the signer that stays was there before
	}
	a.quietFrom = latest(a.old.LastCreatedAt, a.old.LastNotBefore, begun, &s.Since, &f.MergedAt)
	a.DueAt = a.quietFrom.Add(time.Duration(s.Policy.Overlap))
	if a.fresh.Events > 0 {
		a.Cutover = record.Cutover{Position: a.fresh.FirstPosition}
	}
	switch {
	case s.Stage == record.Back:
	case a.fresh.Events == 0 && f.reach().State == record.Passed:
		a.Phase = Ready
	case a.fresh.Events == 0:
		a.Phase = record.Published
	case a.old.LastPosition > a.fresh.LastPosition:
		a.Phase = Draining
	case f.seen().Before(drained(f, a.fresh)):
		a.Phase = Active
	default:
		a.Phase = Retiring
	}
	a.Gates = judgeAll(f, a)
	return a
}

// Ready reports whether every gate is passed or off, but for the one that Prove
// settles and the merge.
func (a Assessment) Ready() bool {
	for _, g := range a.Gates {
		if waits(g) || g.State == record.Against || g.State == record.Unproven {
			return false
		}
	}
	return len(a.Gates) > 0
}

// Due reports whether nothing is waited for any more: what is missing then will
// not come by itself.
func (a Assessment) Due() bool { return !slices.ContainsFunc(a.Gates, waits) }

// Prove settles the gate of the chain with a verification made with the files as
// they would be after the merge. inferred says that it was made with the files as
// they are, and that those after the merge let every event keep the key that
// verified it.
func (a *Assessment) Prove(after *chain.Report, inferred bool) {
	i := slices.IndexFunc(a.Gates, func(g record.Gate) bool { return g.ID == chainAfterMerge })
	g := &a.Gates[i]
	if after.Verdict != chain.Verified {
		g.State, g.Detail = record.Against, fmt.Sprintf("%d finding(s) with the files as they would be after the merge", after.FindingsTotal)
		return
	}
	g.State, g.Detail = record.Passed, "with the files after the merge, up to the head that the evidence names"
	if inferred {
		g.Detail = "follows from the report, up to the head that the evidence names, since every event keeps the key that verified it"
	}
	a.Phase = Finalizable
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

func overlap(f Facts, a Assessment) (record.GateState, string) {
	length, from := f.Record.State().Policy.Overlap, a.quietFrom
	switch {
	case from.After(f.AsOf().Add(MaxSkew)):
		return record.Unproven, fmt.Sprintf("the chain's clock (%s) is more than %s ahead of this run's (%s); times prove nothing until one of them is right", stamp(from), MaxSkew, stamp(f.AsOf()))
	case f.AsOf().Before(a.DueAt):
		return record.Waiting, fmt.Sprintf("until %s (%s from %s, when the outgoing signer was last seen or the incoming one first)", stamp(a.DueAt), length, stamp(from))
	case f.Until != nil && f.Until.IsZero():
		return record.Unproven, "no event of this export says when it was written, so it may be of any age; export created_at too, or read the database"
	case f.seen().Before(a.DueAt):
		return record.Waiting, fmt.Sprintf("the overlap was over at %s, and the newest event of this export is of %s: what was signed in between it does not show. Export the chain again, with an event of after that time, or read the database", stamp(a.DueAt), stamp(f.seen()))
	}
	return record.Passed, fmt.Sprintf("%s since %s", length, stamp(from))
}

func quiet(f Facts, a Assessment) (record.GateState, string) {
	s := f.Record.State()
	switch {
	case a.fresh.Events == 0:
		detail := fmt.Sprintf("no event by %s yet; deploy it. Signer ids seen: %s", s.Staying.ID, SignersSeen(f.Report))
		if !f.MergedAt.IsZero() && f.Now.Sub(f.MergedAt) > unused {
			detail += fmt.Sprintf(". It is published since %s: if nobody means to deploy it, roll the rotation back", stamp(f.MergedAt))
		}
		return record.Waiting, detail
	case a.old.LastPosition > a.fresh.LastPosition:
		detail := fmt.Sprintf("the newest event (position %d) is by the outgoing signer %s: some writer still uses it", a.old.LastPosition, s.Leaving.ID)
		if over := drained(f, a.fresh); !over.IsZero() && over.Before(f.Now) {
			detail += fmt.Sprintf(", though its drain was to be over at %s; find that writer", stamp(over))
		}
		return record.Waiting, detail
	}
	return record.Passed, fmt.Sprintf("last event by %s at position %d; %s signs, first at position %d", s.Leaving.ID, a.old.LastPosition, s.Staying.ID, a.fresh.FirstPosition)
}

// unused is how long a signer may be published before the report asks whether
// somebody has forgotten it.
const unused = 7 * 24 * time.Hour

// drained is when the last writer should have switched to the signer that
// stays, zero where nobody has planned it.
func drained(f Facts, staying chain.SignerUse) time.Time {
	s := f.Record.State()
	if s.Policy.Drain == 0 || s.Stage == record.Back || staying.FirstCreatedAt == nil {
		return time.Time{}
	}
	return staying.FirstCreatedAt.Add(time.Duration(s.Policy.Drain))
}

func anchored(f Facts, _ Assessment) (record.GateState, string) {
	switch {
	case f.LostCheckpoint != "":
		return record.Unproven, f.LostCheckpoint + " holds no checkpoint, so a tail that was cut off would not be noticed"
	case !f.CheckpointGiven:
		return record.Off, "no checkpoint is given, so a tail that was cut off would not be noticed"
	case !f.Report.TruncationExcluded:
		return record.Against, "the chain does not pass through the checkpoint"
	}
	return record.Passed, "the chain passes through the checkpoint that the evidence names"
}

// Quiet is what CloudTrail says of the key that leaves. It may be disabled only
// when that is Passed.
func (t Trail) Quiet(now time.Time) record.Gate {
	i := slices.IndexFunc(gates, func(r row) bool { return r.id == trailQuiet })
	g := record.Gate{ID: gates[i].id, Name: gates[i].name}
	g.State, g.Detail = t.judge(now)
	return g
}

func (t Trail) judge(now time.Time) (record.GateState, string) {
	switch {
	case t.Off != "":
		return record.Off, t.Off
	case t.Early != "":
		return record.Waiting, t.Early
	case t.Problem != "":
		return record.Unproven, t.Problem
	case t.OldUses > 0:
		return record.Against, fmt.Sprintf("at least %d signature(s) with the old key after the boundary, the last by %s (CloudTrail event %s): some system still signs with it", t.OldUses, cmp.Or(t.LastOldUser, "a user without a name"), t.LastOldEvent)
	case now.Sub(t.To) < TrailDelay:
		return record.Unproven, fmt.Sprintf("the window ends at %s, and CloudTrail delivers up to %s late", stamp(t.To), TrailDelay)
	case t.NewUses == 0:
		return record.Unproven, "not one signature with the new key is in the trail, so its silence about the old one proves nothing; does the trail record KMS events?"
	}
	return record.Passed, fmt.Sprintf("signatures with the new key are in the trail, and none with the old one since %s, up to %s before this was judged", stamp(t.From), TrailDelay)
}

func alone(f Facts, _ Assessment) (record.GateState, string) {
	others := slices.DeleteFunc(f.Files.InFlight(), func(id string) bool { return id == f.Record.ID })
	if len(others) > 0 {
		return record.Waiting, "finish or roll back first: " + join(others)
	}
	return record.Passed, "none"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
