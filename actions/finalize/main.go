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
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/readiness"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

//go:embed action.yml
var spec []byte

var now = time.Now

func main() { os.Exit(gha.Main(spec, now, run)) }

// chainInputs say what to verify.
type chainInputs = audit.Inputs

type inputs struct {
	published.Inputs
	chainInputs
	Rotation         string        `input:"rotation"`
	CloudTrail       string        `input:"cloudtrail"`
	VerifierURLs     []string      `input:"verifier-urls"`
	MaxEvidenceAge   time.Duration `input:"max-evidence-age"`
	DisableKMSKey    bool          `input:"disable-kms-key"`
	VerifyReportPath string        `input:"verify-report-path"`
	ReportPath       string        `input:"report-path"`
	HTMLPath         string        `input:"html-path"`
}

func run(ctx context.Context, r *gha.Run, in inputs) error {
	switch {
	case in.CloudTrail != "required" && in.CloudTrail != "off":
		return gha.Misuse("cloudtrail %q: only required and off are known, choose one", in.CloudTrail)
	case in.DisableKMSKey && in.CloudTrail == "off":
		return gha.Misuse("disable-kms-key needs cloudtrail: required, because the chain alone cannot tell who else uses a key; leave cloudtrail out")
	case in.VerifyReportPath != "" && (in.DatabaseURL != "" || in.EventsPath != "" || in.HMACSecretsPath != ""):
		return gha.Misuse("verify-report-path stands for a verification that was made elsewhere: leave database-url, events-path and hmac-secrets-path out, or leave it out")
	case in.VerifyReportPath != "" && in.DisableKMSKey:
		return gha.Misuse("disable-kms-key takes a key away for good reasons of now, so it reads the chain itself: set database-url or events-path instead of verify-report-path")
	}
	if err := readiness.Check(in.VerifierURLs); err != nil {
		return err
	}
	ctx, err := gha.Within(ctx, in.RetryBudget)
	if err != nil {
		return err
	}
	repo, state, err := in.Open(ctx, r, false)
	if err != nil {
		return err
	}
	now := published.Clock(repo, r)
	if ahead := now.Sub(r.Now()); ahead.Abs() > rotation.MaxSkew {
		return fmt.Errorf("GitHub's clock is %s ahead of this machine's, and times prove nothing until one of them is right: nothing was judged; set the clock right and run again", ahead.Round(time.Second))
	}
	unsettled, settled, err := choose(in, state)
	if err != nil {
		return err
	}
	f := finalizer{Run: r, inputs: in, repo: repo, state: state}
	if err := f.ask(ctx); err != nil {
		return err
	}
	if len(unsettled) > 0 || in.DisableKMSKey {
		done, err := f.verify(ctx)
		defer done()
		if err != nil {
			return err
		}
	}
	var statuses []report.Status
	var proposal pullrequest.Proposal
	for _, rec := range unsettled {
		addition, mergedAt, err := state.FindAddition(ctx, repo, *rec.State().Incoming)
		if err != nil {
			return err
		}
		published := 0
		if !mergedAt.IsZero() {
			published = addition.Number
		}
		status, p, err := f.step(ctx, rec, mergedAt, published)
		if err != nil {
			return err
		}
		f.comment(ctx, addition, status)
		statuses = append(statuses, status)
		if p.Number != 0 {
			proposal, f.first = p, rec.ID
		}
	}
	if in.DisableKMSKey {
		if statuses, err = f.disable(ctx, settled); err != nil {
			return err
		}
	} else {
		for _, rec := range settled {
			statuses = append(statuses, f.over(rec))
		}
		if len(unsettled) == 0 && in.Rotation == "all" {
			statuses = f.proposed(ctx)
		}
		for _, rec := range ended(state, now) {
			if rec.State().Incoming == nil {
				continue // nobody was published
			}
			addition, _, err := state.FindAddition(ctx, repo, *rec.State().Incoming)
			if err != nil {
				f.Logf("note: the status comment of rotation %s was not written: %v", rec.ID, err)
			}
			f.comment(ctx, addition, f.over(rec))
		}
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
	return f.tell(statuses, proposal)
}

// ask asks the verifiers what they serve. Those that may trust a compromised key
// are named before anything else is done, and in every run until none is left.
func (f *finalizer) ask(ctx context.Context) (err error) {
	if f.verifiers, err = published.Verifiers(ctx, f.inputs.VerifierURLs); err != nil {
		return err
	}
	if f.trusting, err = f.state.Trusting(ctx, f.repo, f.verifiers, published.Clock(f.repo, f.Run)); err != nil {
		return err
	}
	f.Findings(f.trusting)
	return nil
}

// proposed are the rotations that wait for a review. They are shown where nothing
// else is, as a courtesy: where they cannot be read, the log says so.
func (f *finalizer) proposed(ctx context.Context) (list []report.Status) {
	proposals, err := f.state.Proposed(ctx, f.repo, nil)
	if err != nil {
		f.Logf("note: whether a rotation is proposed is not known: %v", err)
	}
	for _, p := range proposals {
		s := report.NewStatus(p.Record, rotation.Assessment{Phase: rotation.Proposed})
		s.PullRequest, s.Next = p.PullRequest.URL, fmt.Sprintf("Review pull request #%d, and merge or close it.", p.PullRequest.Number)
		list = append(list, s)
	}
	return list
}

// over is the status of a rotation of which nothing is left to be judged.
func (f *finalizer) over(rec record.Record) report.Status {
	s := report.NewStatus(rec, rotation.Assessment{Phase: f.state.Phase(rec)})
	if s.Phase == record.CompromisedPhase && len(f.verifiers) > 0 {
		s.Next = fmt.Sprintf("All %d verifiers serve the files that bound the compromised key.", len(f.verifiers))
		if n := len(f.trusting); n > 0 {
			s.Next = fmt.Sprintf("Refresh the verifiers: %d of %d may trust the compromised key still. The run's summary names them.", n, len(f.verifiers))
		}
	}
	return s
}

// verify reads the whole chain from the primary: a standby may lag behind, and
// show a signer quiet that is not. done removes what was put aside.
func (f *finalizer) verify(ctx context.Context) (done func(), err error) {
	if f.inputs.VerifyReportPath != "" {
		done, err = func() {}, f.accept(ctx)
	} else {
		done, err = f.read(ctx)
	}
	if err != nil {
		return done, err
	}
	if db, ok := audit.DatabaseOf(f.report); ok {
		ahead := time.Duration(db.ClockAheadMS) * time.Millisecond
		switch {
		case db.InRecovery:
			return done, gha.Misuse("database-url leads to a standby, which may lag behind: finalize needs the primary (target_session_attrs=read-write)")
		case ahead.Abs() > rotation.MaxSkew:
			return done, fmt.Errorf("the database's clock is %s ahead of this machine's, and times prove nothing until one of them is right: nothing was judged; set the clock right and run again", ahead.Round(time.Second))
		}
	}
	if err := published.Explain(ctx, f.repo, f.state.Paths, f.state.Branch, f.state.Files, f.report, f.terms.Unknown); err != nil {
		f.Logf("note: the findings do not say where an unknown signer may stand: %v", err)
	}
	if f.report.Verdict != chain.Verified {
		f.Findings(f.report.Findings)
	}
	return done, nil
}

// read reads the chain.
func (f *finalizer) read(ctx context.Context) (done func(), err error) {
	if f.source, f.terms, done, err = f.inputs.Read(f.Run); err != nil {
		return done, err
	}
	if f.inputs.CheckpointBranch != "" {
		if _, f.terms.Checkpoint, err = f.inputs.Branch(ctx, f.Run, f.repo, nil); err != nil {
			return done, err
		}
	}
	f.terms.Registry, f.terms.Archive, f.terms.Unknown = f.state.Registry, f.state.Archive, new(trust.Claims)
	f.report, _, err = audit.Verify(ctx, f.source, f.terms)
	return done, err
}

// choose gives the rotations to look at: those of which a signer is still to be
// archived, and, asked for by name or for their keys, those that are over.
func choose(in inputs, s *published.State) (unsettled, settled []record.Record, err error) {
	found := false
	for _, rec := range s.Records {
		if in.Rotation != "all" && rec.ID != in.Rotation {
			continue
		}
		found = true
		switch {
		case in.DisableKMSKey:
			settled = append(settled, rec)
		case s.Unsettled(rec):
			unsettled = append(unsettled, rec)
		case in.Rotation != "all":
			settled = append(settled, rec)
		}
	}
	if !found && in.Rotation != "all" {
		return nil, nil, gha.Misuse("rotation %q has no record under %s on %s; is its add-signer pull request merged?", in.Rotation, s.Paths.Rotations, s.Branch)
	}
	return unsettled, settled, nil
}

// tell reports the outcome in every form; the exit code follows from the
// gates: evidence against one is 1; a missing proof is 3, once nothing else is
// waited for; waiting is 0. A verifier that may trust a compromised key counts
// like a gate, unless it has been silent for so long that it is a note.
func (f *finalizer) tell(statuses []report.Status, p pullrequest.Proposal) error {
	r, in := f.Run, f.inputs
	phase, id, gates := "none", "", map[string]record.GateState{}
	against, unproven := 0, 0
	for _, s := range statuses {
		phase, id = string(s.Phase), s.Rotation
		r.Logf("rotation %s: %s", s.Rotation, s.Phase)
		for _, g := range s.Gates {
			gates[g.ID] = g.State
			r.Logf("  %s %-9s %s: %s", g.ID, g.State, g.Name, g.Detail)
		}
		a := rotation.Assessment{Gates: s.Gates}
		against += a.Count(record.Against)
		if a.Due() {
			unproven += a.Count(record.Unproven)
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
	r.Summary(report.Gates(statuses, f.trusting) + report.Reminders(rotation.Reminders(f.state.Files, r.Now())))
	r.Ticket(report.GatesTicket(statuses, f.trusting))
	if in.ReportPath != "" {
		if err := r.WriteFile("report-path", in.ReportPath, report.JSON(report.Rotations{Version: 1, Rotations: append([]report.Status{}, statuses...)})); err != nil {
			return err
		}
	}
	switch {
	case against > 0 || finding.Count(f.trusting, finding.Error) > 0:
		return gha.Failed
	case unproven > 0 || finding.Count(f.trusting, finding.Warning) > 0:
		return gha.Undecided
	}
	return nil
}
