package rotation

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// The rules of a change; docs/rules.md explains each. What a change does to registry
// and archive has its rules in package registry.
const (
	RuleRecord          = "rotation-record"
	RuleRecordRewrite   = "record-rewrite"
	RuleUnproven        = "retired-without-proof"
	RuleStaleEvidence   = "stale-evidence"
	RuleTwoRotations    = "two-rotations"
	RuleGateSwitchedOff = "gate-switched-off"
	RuleShortOverlap    = "short-overlap"
	RuleAuthorsWord     = "authors-word"
)

// EvidenceAge is how old the evidence of a retirement may be when it is judged.
const EvidenceAge = 24 * time.Hour

// Change is what a pull request makes of the files of its base.
type Change struct {
	Base, Head record.Files
	Now        time.Time
	// Age is how old the evidence of a retirement may be, 0 for however old.
	Age time.Duration
	// Arrived says since when the base has the newest move of the record at a path,
	// by the base's history; nil where there is no history.
	Arrived func(path string) (time.Time, error)
	// Runs is the address that links to runs of this repository begin with, "" if that
	// is not known.
	Runs string
	// Gained is the move that Judge has found, nil if there is none.
	Gained record.Move
}

// Judge refuses a change that is not what one move makes of the base: it finds the
// move that the records of the head gained, applies it to the base, and wants the
// head to say the same. A change without a move may make the edits that
// registry.Edits lists. The error says that the base's history could not be read.
func (c *Change) Judge() ([]finding.Finding, error) {
	j := &judge{Change: c}
	gained := j.gained()
	switch {
	case len(gained) > 1 || len(gained) == 1 && len(gained[0].moves) > 1:
		var list []string
		for _, g := range gained {
			for _, m := range g.moves {
				list = append(list, fmt.Sprintf("%q in rotation %s", m.Kind(), g.id))
			}
		}
		j.about(registry.RuleOneOperation, finding.Error, gained[0].id, "the change makes %d moves (%s); one pull request makes one, so that each can be judged and undone alone", len(list), strings.Join(list, ", "))
	case len(gained) == 0:
		j.findings = append(j.findings, registry.Edits(c.Base.Registry, c.Base.Archive, c.Head.Registry, c.Head.Archive)...)
		j.kmsKeys()
	default:
		if err := j.move(gained[0].id, gained[0].moves[0]); err != nil {
			return nil, err
		}
	}
	if open := c.Head.InFlight(); len(open) > 1 {
		j.about(RuleTwoRotations, finding.Warning, open[len(open)-1], "%d rotations are under way at once (%s), and none of them can be finished; roll one back", len(open), join(open))
	}
	return j.findings, nil
}

type judge struct {
	*Change
	findings []finding.Finding
}

// about reports something about a record.
func (j *judge) about(rule string, severity finding.Severity, id, format string, args ...any) {
	j.findings = append(j.findings, finding.Finding{Rule: rule, Severity: severity, File: j.Head.Path(id), Line: 1, Col: 1, Message: fmt.Sprintf(format, args...)})
}

// gain is what a record has more than in the base.
type gain struct {
	id    string
	moves []record.Move
}

// gained wants the merged moves to stay as they are, and returns the new ones.
func (j *judge) gained() (list []gain) {
	for _, was := range j.Base.Records {
		is := j.Head.Record(was.ID)
		switch {
		case is == nil:
			j.about(RuleRecordRewrite, finding.Error, was.ID, "the record of rotation %s is removed; records are evidence and stay", was.ID)
		case len(is.Moves) < len(was.Moves) || !bytes.Equal(was.JSON(), record.Record{ID: is.ID, Moves: is.Moves[:len(was.Moves)]}.JSON()):
			j.about(RuleRecordRewrite, finding.Error, was.ID, "the record of rotation %s is rewritten; once merged, its moves stay as they are, and it only gains new ones at the end", was.ID)
		case len(is.Moves) > len(was.Moves):
			list = append(list, gain{is.ID, is.Moves[len(was.Moves):]})
		}
	}
	for _, is := range j.Head.Records {
		if j.Base.Record(is.ID) == nil {
			list = append(list, gain{is.ID, is.Moves})
		}
	}
	return list
}

// move applies the move to the base.
func (j *judge) move(id string, m record.Move) error {
	j.Gained = m
	if open, is := m.(*record.Open); is { // the record remembers the key's fingerprint
		entry, _ := j.Head.Registered(open.Signer.ID)
		open.Key = entry.Key
	}
	want, err := j.Base.Apply(id, m)
	if refused, is := errors.AsType[*record.Refused](err); is {
		j.about(RuleRecord, finding.Error, id, "the move %q cannot be made: %s", m.Kind(), refused.Why)
		return nil
	} else if err != nil {
		return err
	}
	gained := len(want.Archive.Retired) - len(j.Base.Archive.Retired)
	j.findings = append(j.findings, registry.Mismatches(want.Registry, want.Archive, j.Head.Registry, j.Head.Archive, gained)...)
	if at := m.Made().At; at.Sub(j.Now) > MaxSkew {
		j.about(RuleStaleEvidence, finding.Error, id, "the move %q claims to be of %s, which is in the future", m.Kind(), stamp(at))
	}
	if url := m.Made().RunURL; j.Runs != "" && url != "" && !strings.HasPrefix(url, j.Runs) {
		j.about(RuleRecord, finding.Error, id, "the move %q links to %s, which is no run of this repository (%s…)", m.Kind(), registry.Quote(url), j.Runs)
	}
	if judge := evidence[m.Kind()]; judge != nil {
		return judge(j, id, m)
	}
	return nil
}

// evidence is what each kind of move must show besides.
var evidence = map[record.Kind]func(j *judge, id string, m record.Move) error{
	record.Opened:      (*judge).timing,
	record.Promoted:    (*judge).timing,
	record.Retired:     (*judge).retirement,
	record.Withdrawn:   (*judge).word,
	record.Compromised: (*judge).word,
}

// timing tells of an overlap that is shorter than the runbook's.
func (j *judge) timing(id string, _ record.Move) error {
	p := j.Head.Record(id).State().Policy
	if overlap := time.Duration(p.Overlap); overlap < p.Least() {
		j.about(RuleShortOverlap, finding.Warning, id, "the overlap of rotation %s is %s, shorter than %s (allow-short-overlap): good for a rehearsal; verifiers that cache the registry and queues that drain late would see gaps", id, overlap, p.Least())
	}
	return nil
}

// word tells what only the author of the change vouches for.
func (j *judge) word(id string, m record.Move) error {
	what := "that the signer has signed nothing"
	if b, ok := boundaryOf(m); ok {
		what = fmt.Sprintf("that the boundary is position %d", b.Position)
	}
	j.about(RuleAuthorsWord, finding.Note, id, "%s is the word of whoever made this change: give the gate an export of the chain (events-path) to check it", what)
	return nil
}

// Contradiction says what the chain has against what only the author of a move vouches for,
// "" if nothing. last is the last event of the move's signer, position 0 if there is
// none. The boundary of a compromise may be any event.
func Contradiction(m record.Move, last record.Mark) string {
	switch m := m.(type) {
	case *record.Retire:
		if m.Boundary != last {
			return fmt.Sprintf("the last event of signer %s in the export is at position %d, and its boundary is position %d", m.Signer.ID, last.Position, m.Boundary.Position)
		}
	case *record.Withdraw:
		if last.Position > 0 {
			return fmt.Sprintf("signer %s is withdrawn as one that has signed nothing, and the export has an event of it at position %d", m.Signer.ID, last.Position)
		}
	}
	return ""
}

func boundaryOf(m record.Move) (record.Mark, bool) {
	switch m := m.(type) {
	case *record.Retire:
		return m.Boundary, true
	case *record.Compromise:
		return m.Boundary, true
	}
	return record.Mark{}, false
}

// retirement wants every gate, evidence of these very files that is young enough,
// and the overlap to have passed since the base has the move before it.
func (j *judge) retirement(id string, m record.Move) error {
	ret, before := m.(*record.Retire), j.Base.Record(id).State()
	unproven := func(format string, args ...any) {
		j.about(RuleUnproven, finding.Error, id, "signer %s is archived, but %s", registry.Quote(ret.Signer.ID), fmt.Sprintf(format, args...))
	}
	wrong, off := judged(ret.Gates, true)
	for _, why := range wrong {
		unproven("%s", why)
	}
	if off != "" {
		j.about(RuleGateSwitchedOff, finding.Note, id, "this retirement rests on fewer gates, by choice: %s", off)
	}
	since := before.Since
	if j.Arrived != nil {
		arrived, err := j.Arrived(j.Base.Path(id))
		if err != nil {
			return err
		}
		since = latest(&since, &arrived)
	}
	if ret.At.Before(since.Add(time.Duration(before.Policy.Overlap))) {
		unproven("the overlap of %s cannot have passed: it began at %s at the earliest and was judged at %s", before.Policy.Overlap, stamp(since), stamp(ret.At))
	}
	stale := func(format string, args ...any) {
		j.about(RuleStaleEvidence, finding.Error, id, "signer %s is archived, but its evidence %s; run finalize again", registry.Quote(ret.Signer.ID), fmt.Sprintf(format, args...))
	}
	switch {
	case ret.Evidence.RegistrySHA256 != j.Base.Registry.SHA256() || ret.Evidence.ArchiveSHA256 != j.Base.Archive.SHA256():
		stale("was gathered with other files than the base has now")
	case j.Age > 0 && j.Now.Sub(ret.At) > j.Age:
		stale("is of %s, older than %s", stamp(ret.At), j.Age)
	}
	return j.word(id, m)
}

// kmsKeys wants an entry to name the KMS key that the record of its publication
// names: that one was described by KMS before.
func (j *judge) kmsKeys() {
	for _, s := range j.Head.Registry.Signers {
		was, kept := j.Base.Registered(s.ID)
		if !kept || was.KMSKeyID == s.KMSKeyID {
			continue
		}
		r := j.Base.Publishing(s.ID)
		if r == nil || r.State().Incoming.KMSKeyARN == "" || r.State().Incoming.KMSKeyARN == s.KMSKeyID {
			continue
		}
		j.findings = append(j.findings, finding.Finding{Rule: registry.RuleKMSKeyChanged, Severity: finding.Error, File: j.Head.Registry.Name, Line: s.Line, Col: s.Col,
			Message: fmt.Sprintf("signer %s was published with the KMS key %s (record %s), and its entry now names %s", registry.Quote(s.ID), registry.Quote(r.State().Incoming.KMSKeyARN), r.ID, registry.Quote(s.KMSKeyID))})
	}
}
