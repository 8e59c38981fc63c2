// Command rollback opens the pull request that goes back to the old signer:
// its entry returns to the registry byte for byte, the new signer stays, so
// that what it signed keeps verifying, and the record says who went back and
// why. In mode compromise it takes a signer whose key is in the wrong hands out
// at once, with the last event up to which it stays trusted. It prints the
// settings to deploy with.
//
// It works from every point at which a rotation can stop, and no gate stands
// in its way.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

//go:embed action.yml
var spec []byte

var now = time.Now

func main() { os.Exit(gha.Main(spec, now, run)) }

// chainInputs say where the chain is, which need not be given.
type chainInputs = audit.Inputs

type inputs struct {
	published.Inputs
	chainInputs
	Mode         string `input:"mode"`
	Rotation     string `input:"rotation"`
	SignerID     string `input:"signer-id"`
	TrustedUntil string `input:"trusted-until"`
	Reason       string `input:"reason"`
	EnableKMSKey bool   `input:"enable-kms-key"`
	ReportPath   string `input:"report-path"`
}

func run(ctx context.Context, r *gha.Run, in inputs) error {
	if err := in.check(); err != nil {
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
	u := undoing{Run: r, in: in, repo: repo, state: state, by: rotation.Rollback{
		At: published.Clock(repo, r).UTC().Truncate(time.Second), Actor: published.Actor(r), Reason: in.Reason, RunURL: r.Origin().RunURL, Mode: in.Mode,
	}}
	if in.Mode == rotation.ModeCompromise {
		return u.compromise(ctx)
	}
	return u.back(ctx)
}

// check refuses inputs that do not go together, before anything is asked.
func (in inputs) check() error {
	if err := published.CheckReason(in.Reason); err != nil {
		return err
	}
	compromise := in.Mode == rotation.ModeCompromise
	switch {
	case in.Mode != rotation.ModeRollback && !compromise:
		return gha.Misuse("mode %q: only rollback and compromise are known, choose one", in.Mode)
	case !compromise && in.Rotation == "":
		return gha.Misuse("set rotation to the id of the rotation to undo")
	case !compromise && in.SignerID+in.TrustedUntil != "":
		return gha.Misuse("signer-id and trusted-until belong to mode: compromise; set that, or leave them out")
	case compromise && in.SignerID == "":
		return gha.Misuse("set signer-id to the signer whose key is in the wrong hands")
	case compromise && in.EnableKMSKey:
		return gha.Misuse("a compromised key is never enabled; leave enable-kms-key out")
	case compromise && in.TrustedUntil == "" && in.CheckpointPath == "" && in.CheckpointBranch == "":
		return gha.Misuse("say up to which event the signer stays trusted: checkpoint-path or checkpoint-branch for the last checkpoint, or trusted-until as <position>:<digest> (a report's checkpoint or head), or trusted-until: head for all that the chain holds now")
	case in.TrustedUntil == "head" && !in.given():
		return gha.Misuse("trusted-until: head needs the chain: set database-url or events-path")
	case in.CheckpointPath != "" && in.CheckpointBranch != "":
		return gha.Misuse("both checkpoint-path and checkpoint-branch are set: choose the place in which the checkpoint is kept")
	}
	return nil
}

// given tells whether there is a chain to read.
func (in inputs) given() bool { return in.DatabaseURL != "" || in.EventsPath != "" }

// undoing is one run: what is published, and who undoes what, when and why.
type undoing struct {
	*gha.Run
	in    inputs
	repo  *pullrequest.Repo
	state *published.State
	by    rotation.Rollback
	// found are the events that a compromised signer signed beyond its boundary.
	found []finding.Finding
}

// chain verifies the whole chain with these files. Going back waits for
// nothing: a chain that cannot be read is nil, with the reason.
func (u undoing) chain(ctx context.Context, reg *registry.Registry, arch *registry.Archive) (*chain.Report, string) {
	if !u.in.given() {
		return nil, "the chain was not given (database-url or events-path)"
	}
	src, terms, done, err := u.in.Read(u.Run)
	defer done()
	if err == nil {
		terms.Registry, terms.Archive, terms.Checkpoint = reg, arch, nil
		var r *chain.Report
		if r, _, err = audit.Verify(ctx, src, terms); err == nil {
			return r, ""
		}
	}
	u.Logf("note: going on without the chain: %v", err)
	return nil, "the chain could not be read: " + err.Error()
}

// back undoes a rotation.
func (u undoing) back(ctx context.Context) error {
	found := u.state.Files().Record(u.in.Rotation)
	if found == nil {
		return gha.Misuse("rotation %q has no record under %s on %s; if its add-signer pull request is still open, close it: nothing has changed yet", u.in.Rotation, u.state.Paths.Rotations, u.state.Branch)
	}
	rec := *found
	var move rotation.Move
	p, err := u.through(ctx, "rollback", rec.ID, rec.ID, func(change pullrequest.Change) (p pullrequest.Proposal, err error) {
		move, p, err = u.undo(ctx, change, rec)
		return p, err
	})
	if err != nil {
		return err
	}
	return u.tell(move, p)
}

// through takes a step that proposes a change, which is named by what it is about.
// No branch that somebody else has taken, and no pull request that was closed for
// another reason, stands in its way: this run's reason names a branch of its own.
func (u undoing) through(ctx context.Context, operation, about, id string, step func(pullrequest.Change) (pullrequest.Proposal, error)) (p pullrequest.Proposal, err error) {
	for _, key := range []string{about, about + "\n" + u.by.Reason} {
		change := u.in.Change(u.state, pullrequest.Change{Operation: operation, Key: u.state.Paths.Registry + "\n" + key})
		err = u.repo.Anew(ctx, change.Branch(), func() error {
			p, err = step(change)
			return err
		})
		if err != nil || refused(p) == "" || p.Number != 0 && u.saidNo(ctx, p, id) {
			break
		}
	}
	return p, err
}

// saidNo tells whether a pull request was for this run's reason.
func (u undoing) saidNo(ctx context.Context, p pullrequest.Proposal, id string) bool {
	path := u.state.Paths.Record(id)
	text, found, err := u.repo.ReadFile(ctx, p.Commit, path, jsondoc.MaxSize)
	if err != nil || !found {
		return false
	}
	rec, err := rotation.ParseRecord(path, text)
	return err == nil && rec.Rollback != nil && rec.Rollback.Reason == u.by.Reason
}

// refused says why nothing was proposed, "" if something was.
func refused(p pullrequest.Proposal) string {
	switch {
	case p.State == pullrequest.Closed:
		return fmt.Sprintf("pull request #%d, which was for the same reason, was closed unmerged, which means no. Reopen it, or run again with another reason", p.Number)
	case p.State == pullrequest.Foreign && p.Number != 0:
		return fmt.Sprintf("somebody else has committed to the branch of pull request #%d. Merge that if it is right as it stands, or run again with another reason", p.Number)
	case p.State == pullrequest.Foreign:
		return fmt.Sprintf("branch %s holds somebody else's commits. Find out whose, delete it, or run again with another reason", p.Branch)
	case p.State == pullrequest.Merged && p.Number != 0:
		return fmt.Sprintf("pull request #%d is merged, and the files as they were read do not have it. Run again; if it was reverted, with another reason", p.Number)
	}
	return ""
}

// undo looks, decides and proposes.
func (u undoing) undo(ctx context.Context, change pullrequest.Change, rec rotation.Record) (move rotation.Move, p pullrequest.Proposal, err error) {
	by, tip := u.earlier(ctx, change, rec.ID)
	change.Tip = tip
	var seen *chain.Report
	if rec.Rollback != nil {
		by = *rec.Rollback // merged already: only the settings are left to be told
	} else {
		seen, _ = u.chain(ctx, u.state.Registry, u.state.Archive)
	}
	if move, err = rotation.Undo(rec, u.state.Registry, u.state.Archive, by, seen); err != nil {
		return move, p, gha.Misuse("%w", err)
	}
	if u.in.EnableKMSKey {
		if err := u.enable(ctx, rec); err != nil {
			return move, p, err
		}
	}
	p.State = pullrequest.Merged
	if rec.Rollback == nil {
		change.Title = published.Title("Go back to audit signer", move.Deploy.ID)
		p, err = u.propose(ctx, change, move, report.Rollback)
	}
	return move, p, err
}

// earlier takes over what an earlier run wrote into the branch, so that this one
// writes the same: its time, and the boundary that lies first of all that stood
// there. It gives the branch's tip, too.
func (u undoing) earlier(ctx context.Context, change pullrequest.Change, id string) (by rotation.Rollback, tip string) {
	by, path := u.by, u.state.Paths.Record(id)
	versions, tip, err := u.repo.Earlier(ctx, change, path, jsondoc.MaxSize, path, u.state.Paths.Registry, u.state.Paths.Archive)
	if err != nil {
		return by, tip
	}
	for i, text := range versions {
		rec, err := rotation.ParseRecord(path, text)
		if err != nil || rec.Rollback == nil {
			continue
		}
		was := rec.Rollback
		if was.Mode != by.Mode || was.Actor != u.by.Actor || was.Reason != by.Reason {
			continue
		}
		if i == 0 && !was.At.After(by.At) {
			by.At, by.RunURL = was.At, was.RunURL
		}
		if was.Boundary != nil && (by.Boundary == nil || was.Boundary.Position < by.Boundary.Position) {
			by.Boundary = was.Boundary
		}
	}
	return by, tip
}

func (u undoing) enable(ctx context.Context, rec rotation.Record) error {
	arn := u.state.Files().Located(*rec.Outgoing).KMSKeyARN
	if arn == "" {
		return gha.Misuse("enable-kms-key is true, but neither the record nor the entry of signer %s names its KMS key: leave enable-kms-key out, and enable the key by hand", rec.Outgoing.ID)
	}
	if u.in.DryRun {
		u.Logf("dry run: would enable KMS key %s", arn)
		return nil
	}
	client, err := awskms.New(ctx, awskms.Options{})
	if err != nil {
		return err
	}
	return client.Enable(ctx, arn)
}

// propose opens the pull request of a move. The reason stays out of the message,
// where "[skip ci]" or "fixes #1" would be obeyed.
func (u undoing) propose(ctx context.Context, change pullrequest.Change, move rotation.Move, body func(report.Proposal) string) (pullrequest.Proposal, error) {
	s := u.state
	change.Files = map[string][]byte{s.Paths.Record(move.Record.ID): move.Record.JSON()}
	after := s.Registry.SHA256()
	if move.Registry != nil {
		change.Files[s.Paths.Registry] = move.Registry
		parsed, _, err := registry.Parse(s.Paths.Registry, move.Registry)
		if err != nil {
			return pullrequest.Proposal{}, err
		}
		after = parsed.SHA256()
	}
	if move.Archive != nil {
		change.Files[s.Paths.Archive] = move.Archive
	}
	if err := s.Judge(change.Files, published.Clock(u.repo, u.Run), rotation.EvidenceAge); err != nil {
		return pullrequest.Proposal{}, err
	}
	if u.in.DryRun {
		return pullrequest.Proposal{}, nil
	}
	change.Message = change.Title + "\n\nThe reason stands in " + s.Paths.Record(move.Record.ID) + "."
	change.Body = body(report.Proposal{
		Record: move.Record, BaseCommit: s.Commit, RegistryBefore: s.Registry.SHA256(), RegistryAfter: after,
		Settings: rotation.SettingsBack(s.Files().Located(*move.Deploy)), Verdict: move.Verdict, Deploy: move.Deploy.ID, RunURL: move.Record.Rollback.RunURL,
	})
	return u.repo.Ensure(ctx, change)
}

// tell reports the outcome in every form; more is added to the summary. Where
// nothing was proposed, nothing is to be deployed, and the run has failed.
func (u undoing) tell(move rotation.Move, p pullrequest.Proposal, more ...string) error {
	next := published.Outcome(p)
	if u.in.DryRun {
		next = "Dry run: nothing was written."
	}
	settings := rotation.SettingsBack(u.state.Files().Located(*move.Deploy))
	back, why := "back to", refused(p)
	if why != "" {
		back, settings = "not back to", nil
		next, move.Verdict = "Nothing was proposed, so deploy nothing.", "nothing was proposed: "+why
	} else {
		u.OutputJSON("deploy-env", report.Settings(settings))
	}
	u.Output("verdict", move.Verdict)
	if p.Number != 0 {
		u.Output("pull-request-number", strconv.Itoa(p.Number))
		u.Output("pull-request-url", p.URL)
	}
	u.Ticket([][2]string{{back, move.Deploy.ID}, {"because", move.Verdict}, {"next", next}, {"pull request", p.URL}})
	for _, note := range p.Notes {
		u.Logf("note: %s", note)
	}
	if u.in.ReportPath != "" {
		step := report.NewStepFile("rollback", u.in.DryRun, u.state.Commit, u.state.Files())
		step.Verdict, step.Next, step.Rotation, step.Signer, step.Settings, step.PullRequest = move.Verdict, next, move.Record.ID, move.Deploy.ID, report.Settings(settings), p.URL
		step.Findings = append(step.Findings, u.found...)
		if err := u.WriteFile("report-path", u.in.ReportPath, report.JSON(step)); err != nil {
			return err
		}
	}
	u.Summary(report.Back(move.Deploy.ID, move.Verdict, next, p.URL, settings) + strings.Join(more, "") + report.Reminders(rotation.Reminders(u.state.Files(), u.Now())))
	if why != "" {
		return gha.Failed
	}
	return nil
}
