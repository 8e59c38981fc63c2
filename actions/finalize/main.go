// Command finalize looks at every rotation that is not over, derives how far
// it is, and opens the pull request that archives the old signer once every
// gate is passed. It recomputes every gate itself; no input says that one is.
//
// It does at most one step and can run on a schedule: with nothing new it
// writes nothing.
package main

import (
	"context"
	_ "embed"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/readiness"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

//go:embed action.yml
var spec []byte

var now = time.Now

func main() { os.Exit(gha.Main(spec, now, run)) }

// source is what to verify.
type source = audit.Inputs

type inputs struct {
	published.Inputs
	source
	Rotation       string        `input:"rotation"`
	CloudTrail     string        `input:"cloudtrail"`
	VerifierURLs   []string      `input:"verifier-urls"`
	MaxEvidenceAge time.Duration `input:"max-evidence-age"`
	ReportPath     string        `input:"report-path"`
	HTMLPath       string        `input:"html-path"`
}

func run(ctx context.Context, r *gha.Run, in inputs) error {
	if in.CloudTrail != "required" && in.CloudTrail != "off" {
		return gha.Misuse("cloudtrail %q: only required and off are known, choose one", in.CloudTrail)
	}
	if err := readiness.Check(in.VerifierURLs); err != nil {
		return err
	}
	repo, state, err := in.Open(ctx, r, false)
	if err != nil {
		return err
	}
	open, over, err := choose(in.Rotation, state)
	if err != nil {
		return err
	}
	f := finalizer{Run: r, inputs: in, repo: repo, state: state}
	if len(open) > 0 {
		src, terms, done, err := in.Read(r)
		defer done()
		if err != nil {
			return err
		}
		if in.CheckpointBranch != "" {
			if _, terms.Checkpoint, err = audit.ReadBranch(ctx, repo, in.CheckpointBranch); err != nil {
				return err
			}
		}
		f.source, f.terms = src, terms
		f.terms.Registry, f.terms.Archive = state.Registry, state.Archive
		if f.report, _, err = audit.Verify(ctx, f.source, f.terms); err != nil {
			return err
		}
		if f.report.Verdict != chain.Verified {
			r.Findings(f.report.Findings)
		}
		if f.verifiers, err = published.Verifiers(ctx, in.VerifierURLs); err != nil {
			return err
		}
	}
	var statuses []report.Status
	var proposal pullrequest.Proposal
	for _, rec := range open {
		status, p, err := f.step(ctx, rec)
		if err != nil {
			return err
		}
		statuses = append(statuses, status)
		if p.Number != 0 {
			proposal = p
		}
	}
	for _, rec := range over {
		statuses = append(statuses, report.NewStatus(rec, rotation.Assessment{Phase: rotation.PhaseWithoutChain(rec, state.Registry, state.Archive)}))
	}
	if in.HTMLPath != "" {
		page := report.Page(report.Evidence{
			Chain: f.report, Registry: state.Registry, Archive: state.Archive, Rotations: statuses,
			Origin: report.Origin(r.Origin()), Inputs: r.Given(),
		})
		if err := r.WriteFile("html-path", in.HTMLPath, page); err != nil {
			return err
		}
	}
	return tell(r, in, statuses, proposal)
}

// choose gives the rotations to look at, and one that is over if it was asked
// for by name.
func choose(id string, s *published.State) (open, over []rotation.Record, err error) {
	if id == "all" {
		return s.InFlight(""), nil, nil
	}
	i := slices.IndexFunc(s.Records, func(r rotation.Record) bool { return r.ID == id })
	if i < 0 {
		return nil, nil, gha.Misuse("rotation %q has no record under %s on %s; is its add-signer pull request merged?", id, s.Paths.Rotations, s.Branch)
	}
	if rec := s.Records[i]; rotation.PhaseWithoutChain(rec, s.Registry, s.Archive).Over() {
		return nil, []rotation.Record{rec}, nil
	}
	return []rotation.Record{s.Records[i]}, nil, nil
}

// tell reports the outcome in every form; the exit code follows from the
// gates: evidence against one is 1; a missing proof is 3, once nothing else is
// waited for; waiting is 0.
func tell(r *gha.Run, in inputs, statuses []report.Status, p pullrequest.Proposal) error {
	phase, id, gates := "none", "", map[string]rotation.GateState{}
	against, unproven := 0, 0
	for _, s := range statuses {
		phase, id = string(s.Phase), s.Rotation
		r.Logf("rotation %s: %s", s.Rotation, s.Phase)
		for _, g := range s.Gates {
			gates[g.ID] = g.State
			r.Logf("  %s %-9s %s: %s", g.ID, g.State, g.Name, g.Detail)
		}
		a := rotation.Assessment{Gates: s.Gates}
		against += a.Count(rotation.Against)
		if a.Due() {
			unproven += a.Count(rotation.Unproven)
		}
	}
	if len(statuses) > 1 {
		phase, id, gates = "several", "", nil
	}
	r.Output("phase", phase)
	r.Output("rotation-id", id)
	r.OutputJSON("gates", gates)
	if p.Number != 0 {
		r.Output("pull-request-number", strconv.Itoa(p.Number))
		r.Output("pull-request-url", p.URL)
		r.Logf("%s %s", published.Outcome(p), p.URL)
		for _, note := range p.Notes {
			r.Logf("note: %s", note)
		}
	}
	r.Summary(report.Gates(statuses))
	r.Ticket(report.GatesTicket(statuses))
	if in.ReportPath != "" {
		if err := r.WriteFile("report-path", in.ReportPath, report.JSON(report.Rotations{Version: 1, Rotations: append([]report.Status{}, statuses...)})); err != nil {
			return err
		}
	}
	switch {
	case against > 0:
		return gha.Failed
	case unproven > 0:
		return gha.Undecided
	}
	return nil
}
