// Package chain verifies an audit chain: events that each name the digest of
// the one before, from one genesis to one head.
//
// Every event is read once, in whatever order the source gives it; the order
// of the chain follows from the digests alone. Nothing is sampled. It refuses
// to call a chain verified when any event has no digest, no predecessor, a
// rival successor, or no signature that the Verifier accepts; whatever breaks
// a rule is a finding with its position and row id. It is safe on hostile
// rows: every text is bounded by the source, compared as bytes and never
// interpreted, and memory grows with the disorder of the rows, up to a bound,
// not with their number.
//
// The digest covers payload and predecessor only. What it cannot show is said
// in the report: the UnauthenticatedColumns, and, without a checkpoint, a tail
// that was cut off.
package chain

import (
	"context"
	"crypto/sha256"
	"iter"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// Options are a verification's terms.
type Options struct {
	Verifier Verifier
	// Anchors are events that must stand at their positions.
	Anchors []Anchor
	// Looked are events of which Report.Passed shall tell whether the chain passes
	// through them; nothing else depends on them.
	Looked []Anchor
	// Exceptions are findings that people have reviewed and accepted.
	Exceptions []Exception
	// AllowEmpty lets a chain without events pass.
	AllowEmpty bool
	// StrictNumbers makes lossy numbers errors instead of warnings.
	StrictNumbers bool
	// Terms names what else the Verifier's answers depend on; only Shard and
	// Join look at it, for being the same.
	Terms []string
	// Workers is the number of goroutines that hash and check, at least 1.
	Workers int
	// Progress, if set, is told now and then how many events are done.
	Progress func(events int64)
}

// Anchor is an event known from outside the table. As text it is
// "<position>:<digest>".
type Anchor struct {
	// Name says where it is known from: "checkpoint", "boundary of <signer>".
	Name string
	// Position is 0 for the end of a branch: its digest stands for all before it.
	Position int64
	Digest   Digest
	// Checkpoint anchors exclude truncation up to their position.
	Checkpoint bool
	// Gone is an event that people hold to be lost: the chain must not have it.
	Gone bool
	// Signer is the entry whose last event this is, of a retired signer.
	Signer string
}

func (a Anchor) String() string { return itoa(a.Position) + ":" + a.Digest.String() }

// most are the limits of Verify, together some 200 MB. A table read in random
// order has about a quarter as many gaps as rows.
var most = limits{maxGaps: 1 << 18, maxMarks: 1 << 17, maxPieces: 1 << 16}

// Verify reads events to their end and judges every one of them. It may range
// over events a second time to name the place of a fork or a gap. The report
// says Failed for anything that breaks a rule; an error means that there is no
// verdict.
func Verify(ctx context.Context, events iter.Seq2[Event, error], o Options) (*Report, error) {
	return newVerification(o, most).run(ctx, events)
}

func newVerification(o Options, most limits) *verification {
	v := &verification{Options: o, limits: most, exceptions: indexExceptions(o.Exceptions)}
	v.joiner = newJoiner(most, sitesOf(o))
	v.joiner.settle = v.settle
	return v
}

func (v *verification) run(ctx context.Context, events iter.Seq2[Event, error]) (*Report, error) {
	if err := scan(ctx, events, max(1, v.Workers), v.examine, v.place); err != nil {
		return nil, err
	}
	if err := v.locate(ctx, events); err != nil {
		return nil, err
	}
	v.judge()
	return v.report(), nil
}

// judge looks at the segments when all rows are in.
func (v *verification) judge() {
	v.plant()
	v.settleRest()
	v.judgeShape()
	v.judgeAnchors()
	v.judgeBranches()
	v.judgeExceptions()
}

// verification is the state of one Verify.
type verification struct {
	Options
	limits
	joiner     *joiner
	segments   []*segment // what the joiner could not join further
	second     *joiner    // knows where they hang
	exceptions map[exceptionKey]*exception
	from       *Anchor         // of a resumed verification
	apart      bool            // the rows were read in shards
	reviewed   map[Digest]bool // rivals in reviewed forks, in a shard
	forks      []Digest        // what those of the shard's rows hang on
	tally      tally
	census     census
	notObjects int64
	trees      map[Digest]*tree
	trunk      *tree
	tips       []string
	head       Digest
	length     int64
}

// examine is a worker's part: digests, stored hashes, signatures.
func (v *verification) examine(ctx context.Context, h *hasher, b *batch) error {
	b.outcomes = grow(b.outcomes, len(b.events))
	b.claims, b.claimOf = b.claims[:0], b.claimOf[:0]
	for i := range b.events {
		e, o := &b.events[i], &b.outcomes[i]
		if err := h.digest(e, o); err != nil {
			return err
		}
		if o.unlinked {
			continue
		}
		o.resumed = v.from != nil && o.digest == v.from.Digest
		checkStoredHash(e, o)
		if len(e.Signature) == 0 {
			o.find(RuleUnsigned, e, "the row has no signature; the audited service stores such rows when signing fails and it is not in production mode")
			continue
		}
		b.claims = append(b.claims, Claim{e.Signer, e.Signature, o.digest})
		b.claimOf = append(b.claimOf, i)
	}
	b.judged = grow(b.judged, len(b.claims))
	clear(b.judged)
	if err := v.Verifier.Judge(ctx, b.claims, b.judged); err != nil {
		return err
	}
	for k, i := range b.claimOf {
		e, o := &b.events[i], &b.outcomes[i]
		o.judged = b.judged[k]
		if o.judged.Rule != "" {
			o.find(o.judged.Rule, e, "%s", o.judged.Message)
			o.judged.Until = 0 // what does not count needs no bound
		}
	}
	return nil
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

func checkStoredHash(e *Event, o *outcome) {
	if !e.HasHash {
		return
	}
	if stored, ok := ParseDigest(e.Hash); !ok || stored != o.digest {
		o.find(RuleHashColumnMismatch, e, "the hash column holds %.80q, the row's digest is %s", e.Hash, o.digest)
	}
}

// place is the joiner's part, in the order of the source.
func (v *verification) place(b *batch) error {
	for i := range b.events {
		e, o := &b.events[i], &b.outcomes[i]
		v.census.count(o)
		if o.notObject {
			v.notObjects++
		}
		v.grade(e, o)
		if v.reviewed[o.digest] && !o.unlinked && !o.genesis {
			v.forks = append(v.forks, o.prev)
		}
		if o.unlinked {
			for _, f := range o.findings {
				v.tally.add(f)
			}
			continue
		}
		if err := v.joiner.add(e, o); err != nil {
			return err
		}
	}
	if v.Progress != nil {
		v.Progress(v.census.rows)
	}
	return nil
}

// grade sets the severity of an event's findings: numbers warn, exceptions
// make notes of what they pin.
func (v *verification) grade(e *Event, o *outcome) {
	for i := range o.findings {
		f := &o.findings[i]
		switch f.Rule {
		case RuleLossyNumber, RuleNumberOutOfRange:
			if !v.StrictNumbers {
				f.Severity = finding.Warning
			}
		default:
			v.except(f, pinOf(e, o))
			o.excepted = o.excepted || f.Severity == finding.Note
		}
	}
}

// settle receives what waited for an event's position.
func (v *verification) settle(position int64, m mark) {
	switch {
	case m.finding != nil:
		m.finding.Position = position
		v.tally.add(*m.finding)
	case position > m.until:
		signer, state := v.joiner.kids[m.kid], v.joiner.entries[m.kid].state
		v.tally.add(finding.Finding{
			Rule: RuleRetiredSignerUsed, Severity: finding.Error, Position: position, EventID: m.id,
			Message: "signer " + signer + " is " + state + ": its last genuine event stands at position " + itoa(m.until) +
				", yet it signed this one. Either the old key is still in use somewhere, or somebody who holds it is writing history; find out which before anything else",
		})
	}
}

// report puts the outcome into its public form.
func (v *verification) report() *Report {
	r := &Report{
		Version: 1, Verdict: Verified, Events: v.census.rows, Signers: map[string]SignerUse{},
		Findings: v.tally.list(), FindingsTotal: v.tally.total, ByRule: v.tally.byRule,
		NonObjectPayloads: v.notObjects, UnauthenticatedColumns: UnauthenticatedColumns,
	}
	for _, x := range v.exceptions {
		if x.used {
			r.ExceptionsUsed++
		}
	}
	switch {
	case v.tally.failed:
		r.Verdict = Failed
	case v.census.rows == 0:
		r.Verdict = Undetermined // nothing was verified, allowed as it is
	}
	if v.trunk != nil && v.trunk.genesis {
		r.Genesis, r.Head, r.Length = v.trunk.root.String(), v.head.String(), v.length
		if len(v.tips) > 1 {
			r.Tips = v.tips
		}
	}
	isCheckpoint := func(a Anchor) bool { return a.Checkpoint }
	r.TruncationExcluded = slices.ContainsFunc(v.Anchors, isCheckpoint) &&
		!slices.ContainsFunc(v.Anchors, func(a Anchor) bool { return a.Checkpoint && !v.anchored(a) })
	for _, a := range v.Looked {
		if v.anchored(a) {
			r.Passed = append(r.Passed, a)
		}
	}
	v.countSigners(r)
	return r
}

// stamp is nil for a time that is unknown or that RFC 3339 cannot write.
func stamp(micros int64) *time.Time {
	t := time.UnixMicro(micros).UTC()
	if micros == 0 || t.Year() < 1 || t.Year() > 9999 {
		return nil
	}
	return &t
}

// pinOf gives what an exception pins: the row's digest, or, of a row that
// has none, SHA-256(payload || 0 || prev_hash) of its stored text.
func pinOf(e *Event, o *outcome) func() Digest {
	return func() Digest {
		if !o.unlinked {
			return o.digest
		}
		h := sha256.New()
		h.Write(e.Payload)
		h.Write([]byte{0})
		h.Write(e.Prev)
		return Digest(h.Sum(nil))
	}
}
