package trust

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// RuleUnverifiable is the rule of events that a change of the registry makes
// unverifiable.
const RuleUnverifiable = "unverifiable-events"

// Replayed is what a change does to a chain.
type Replayed struct {
	// Events is the length of the chain, Lost how many of them verify before
	// the change and not after it.
	Events, Lost int64
	// Declared events are those that the change takes back because it declares
	// their signer compromised. They are named, and hold nothing up.
	Declared int64
	// Unchecked events are of HMAC signers, whose secrets this has not: they
	// count as long as their signer stays.
	Unchecked int64
	// Elsewhere counts findings that the change has nothing to do with.
	Elsewhere int64
	// Report is the chain as the files after the change judge it.
	Report *chain.Report
	// Findings name the lost events by signer and position, and new boundaries
	// that are not the chain's. They carry no file.
	Findings []finding.Finding
}

// Replay reads a chain and says which of its events a change from before to
// after makes unverifiable; a nil before makes that: which do not verify.
func Replay(ctx context.Context, events iter.Seq2[chain.Event, error], before, after *registry.Files, workers int) (*Replayed, error) {
	c := &comparison{lost: map[string]int64{}}
	trusting := Options{MAC: func(context.Context, string, [32]byte, []byte) (bool, error) { return true, nil }}
	anchors := Anchors(after.Archive)
	if before != nil {
		c.before = New(before.Registry, before.Archive, trusting)
		anchors = anchors[min(len(anchors), len(Anchors(before.Archive))):] // the archive only grows
	}
	c.after = New(after.Registry, after.Archive, trusting)
	report, err := chain.Verify(ctx, events, chain.Options{Verifier: c, Anchors: anchors, Workers: workers})
	if err != nil {
		return nil, err
	}
	return c.tell(report), nil
}

// comparison is a chain.Verifier that refuses what the change loses: claims
// that after refuses, or bounds, and before does not.
type comparison struct {
	before, after *Set // before may be nil

	mu        sync.Mutex
	lost      map[string]int64 // by signer id
	unchecked int64
}

// maxLost bounds the signer ids that are told apart.
const maxLost = 1000

// Judge is chain.Verifier's.
func (c *comparison) Judge(ctx context.Context, claims []chain.Claim, out []chain.Judgement) error {
	if err := c.after.Judge(ctx, claims, out); err != nil {
		return err
	}
	was := make([]chain.Judgement, len(claims))
	if c.before != nil {
		if err := c.before.Judge(ctx, claims, was); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range out {
		id := string(claims[i].Signer)
		switch {
		case out[i].Rule == "":
			if c.after.silent(id) {
				c.unchecked++
			}
			if was[i].Rule != "" || was[i].Until != 0 && out[i].Until >= was[i].Until {
				out[i].Until = 0 // bounded as tightly before, or not verified at all
			}
		case was[i].Rule != "":
			out[i] = chain.Judgement{Signer: out[i].Signer, State: out[i].State}
		default:
			if len(c.lost) >= maxLost && c.lost[id] == 0 {
				id = "(others)"
			}
			c.lost[id]++
			// One rule for all, so that retired-signer-used is left to boundaries.
			out[i].Rule, out[i].Message = chain.RuleUnknownSigner, id
		}
	}
	return nil
}

// silent tells whether a known id is that of an HMAC signer without a secret.
func (s *Set) silent(id string) bool {
	return s.speakers[s.byID[id]].key == nil
}

// listedPositions bounds the positions that a message names.
const listedPositions = 10

// tell sums up a report made by a comparison.
func (c *comparison) tell(r *chain.Report) *Replayed {
	out := &Replayed{Report: r, Events: r.Events, Unchecked: c.unchecked, Elsewhere: r.FindingsTotal}
	positions := map[string][]string{}
	beyond := map[string][]string{} // by what is said of the signer
	for _, f := range r.Findings {
		switch f.Rule {
		case chain.RuleUnknownSigner:
			positions[f.Message] = append(positions[f.Message], place(f))
		case chain.RuleRetiredSignerUsed:
			about, _, _ := strings.Cut(f.Message, ", yet")
			beyond[about] = append(beyond[about], place(f))
		case chain.RuleCheckpointMismatch, chain.RuleTruncated:
			out.Elsewhere--
			out.Findings = append(out.Findings, f)
		}
	}
	lose := func(severity finding.Severity, n int64, whose string, at []string) {
		if severity == finding.Error {
			out.Lost += n
		} else {
			out.Declared += n
		}
		out.Findings = append(out.Findings, finding.Finding{Rule: RuleUnverifiable, Severity: severity,
			Message: fmt.Sprintf("this makes %d event(s) unverifiable: %s; positions %s", n, whose, listed(at, n))})
	}
	for _, id := range slices.Sorted(maps.Keys(c.lost)) {
		lose(finding.Error, c.lost[id], fmt.Sprintf("those of signer %.80q", id), positions[id])
	}
	unnamed := r.ByRule[chain.RuleRetiredSignerUsed] // a report names the first of each rule
	for _, at := range beyond {
		unnamed -= int64(len(at))
	}
	abouts := slices.Sorted(maps.Keys(beyond))
	for _, severity := range []finding.Severity{finding.Error, finding.Warning} {
		for _, about := range abouts {
			if (severity == finding.Warning) == declared(r, about) {
				lose(severity, int64(len(beyond[about]))+unnamed, about, beyond[about])
				unnamed = 0
			}
		}
	}
	out.Elsewhere -= out.Lost + out.Declared
	return out
}

// declared tells whether what is said of a signer is that it is compromised.
// Nothing may stand before a change that says so.
func declared(r *chain.Report, about string) bool {
	for id, use := range r.Signers {
		if use.State == string(registry.StateCompromised) && strings.HasPrefix(about, "signer "+id+" is "+use.State+": ") {
			return true
		}
	}
	return false
}

// place is a finding's position, or the row's id where it hangs on none.
func place(f finding.Finding) string {
	if f.Position > 0 {
		return strconv.FormatInt(f.Position, 10)
	}
	return fmt.Sprintf("of row %.80q", f.EventID)
}

// listed shows the first of n places.
func listed(places []string, n int64) string {
	text := strings.Join(places[:min(len(places), listedPositions)], ", ")
	if more := n - int64(min(len(places), listedPositions)); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
