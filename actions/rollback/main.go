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
	"github.com/agent-manager/audit-signer-rotation/internal/record"
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
	repo, state, err := in.OpenAnyway(ctx, r)
	if err != nil {
		return err
	}
	u := undoing{Run: r, in: in, repo: repo, state: state, by: published.By(r, published.Clock(repo, r), in.Reason)}
	if in.Mode == modeCompromise {
		return u.compromise(ctx)
	}
	return u.back(ctx)
}

// The modes.
const (
	modeRollback   = "rollback"
	modeCompromise = "compromise"
)

// check refuses inputs that do not go together, before anything is asked.
func (in inputs) check() error {
	if err := published.CheckReason(in.Reason); err != nil {
		return err
	}
	compromise := in.Mode == modeCompromise
	switch {
	case in.Mode != modeRollback && !compromise:
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
	by    record.By
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
	if u.state.Blocked != "" {
		if err := u.state.Recover(ctx, u.repo, u.in.Rotation); err != nil {
			return err
		}
	}
	rec := u.state.Record(u.in.Rotation)
	if rec == nil {
		return gha.Misuse("rotation %q has no record under %s on %s; if its add-signer pull request is still open, close it: nothing has changed yet", u.in.Rotation, u.state.Paths.Rotations, u.state.Branch)
	}
	last := rec.Last().Kind()
	before := last == record.RolledBack || last == record.Withdrawn
	var seen *chain.Report
	if !before {
		seen, _ = u.chain(ctx, u.state.Registry, u.state.Archive)
	}
	move, verdict, err := rotation.GoBack(u.state.Files, *rec, u.by, seen)
	if err != nil {
		return gha.Misuse("%w", err)
	}
	d := done{id: rec.ID, move: move, verdict: verdict, deploy: u.state.Located(*rec.State().Outgoing)}
	d.title = published.Title("Go back to audit signer", d.deploy.ID)
	if before {
		return u.again(ctx, *rec, d)
	}
	p, err := u.propose(ctx, "rollback", rec.ID, d, func(record.Files) error { return u.enable(ctx, d.deploy) }, report.Rollback)
	if err != nil {
		return err
	}
	return u.tell(d, p)
}

// again is the case of a record that says that the rotation was rolled back
// already: its settings count only if registry and archive say so, too.
func (u undoing) again(ctx context.Context, rec record.Record, d done) error {
	if _, registered := u.state.Registered(d.deploy.ID); !registered {
		return gha.Misuse("the record of rotation %s says that it was rolled back at %s, and signer %s is not in %s: deploy nothing from it. If another rotation has archived that signer since, name that one in rotation; if nobody knows why, restore the record from its history, and run this again", rec.ID, rec.Last().Made().At.Format(time.RFC3339), d.deploy.ID, u.state.Registry.Name)
	}
	if err := u.enable(ctx, d.deploy); err != nil {
		return err
	}
	return u.tell(d, pullrequest.Proposal{State: pullrequest.Merged})
}

// done is what a run does: the move in the record with this id, what it means, the
// title of its pull request, and which signer to deploy.
type done struct {
	id             string
	move           record.Move
	verdict, title string
	deploy         record.Signer
}

// propose makes the move, and brings its pull request about; about names it. No
// branch that somebody else has taken, and no pull request that was closed for
// another reason, can hold it up: this run's reason names a branch of its own. The
// reason stays out of the message, where "[skip ci]" or "fixes #1" would be obeyed.
func (u undoing) propose(ctx context.Context, operation, about string, d done, look func(after record.Files) error, body func(report.Proposal) string) (p pullrequest.Proposal, err error) {
	s := u.state
	for _, key := range []string{about, about + "\n" + u.by.Reason} {
		change := u.in.Change(s, pullrequest.Change{Operation: operation, Key: s.Paths.Registry + "\n" + key})
		if s.Blocked != "" {
			change.Clear = []string{s.Paths.Rotations}
		}
		p, _, err = u.repo.Propose(ctx, change, func(change pullrequest.Change) (pullrequest.Change, error) {
			if _, err := s.Earlier(ctx, u.repo, &change, d.id, d.move, 0, nil); err != nil {
				u.Logf("note: the branch of an earlier run is not looked at: %v", err)
			}
			after, files, err := s.Apply(d.id, d.move, published.Clock(u.repo, u.Run), rotation.EvidenceAge)
			if err != nil {
				return change, err
			}
			if err := look(after); err != nil || u.in.DryRun {
				return change, err
			}
			change.Files, change.Title = files, d.title
			change.Message = change.Title + "\n\nThe reason is in " + s.Paths.Record(d.id) + "."
			change.Body = body(report.Proposal{
				Record: *after.Record(d.id), BaseCommit: s.Commit, RegistryBefore: s.Registry.SHA256(), RegistryAfter: after.Registry.SHA256(),
				Settings: rotation.SettingsBack(d.deploy), Verdict: d.verdict, Deploy: d.deploy.ID, RunURL: u.by.RunURL,
			})
			return change, nil
		})
		if err != nil || refused(p) == "" || p.Number != 0 && u.saidNo(ctx, p, d.id) {
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
	rec, err := record.Parse(path, text)
	return err == nil && rec.Last().Made().Reason == u.by.Reason
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

func (u undoing) enable(ctx context.Context, signer record.Signer) error {
	switch {
	case !u.in.EnableKMSKey:
		return nil
	case signer.KMSKeyARN == "":
		return gha.Misuse("enable-kms-key is true, but neither the record nor the entry of signer %s names its KMS key: leave enable-kms-key out, and enable the key by hand", signer.ID)
	case u.in.DryRun:
		u.Logf("dry run: would enable KMS key %s", signer.KMSKeyARN)
		return nil
	}
	client, err := awskms.New(ctx, awskms.Options{})
	if err != nil {
		return err
	}
	return client.Enable(ctx, signer.KMSKeyARN)
}

// tell reports the outcome in every form; more is added to the summary. Where
// nothing was proposed, nothing is to be deployed, and the run has failed.
func (u undoing) tell(d done, p pullrequest.Proposal, more ...string) error {
	next := published.Outcome(p)
	if u.in.DryRun {
		next = "Dry run: nothing was written."
	}
	settings := rotation.SettingsBack(d.deploy)
	back, why := "back to", refused(p)
	if why != "" {
		back, settings = "not back to", nil
		next, d.verdict = "Nothing was proposed, so deploy nothing.", "nothing was proposed: "+why
	} else {
		u.OutputJSON("deploy-env", report.Settings(settings))
	}
	u.Output("verdict", d.verdict)
	if p.Number != 0 {
		u.Output("pull-request-number", strconv.Itoa(p.Number))
		u.Output("pull-request-url", p.URL)
	}
	u.Ticket([][2]string{{back, d.deploy.ID}, {"because", d.verdict}, {"next", next}, {"pull request", p.URL}})
	for _, note := range p.Notes {
		u.Logf("note: %s", note)
	}
	if u.in.ReportPath != "" {
		step := report.NewStepFile("rollback", u.in.DryRun, u.state.Commit, u.state.Files)
		step.Verdict, step.Next, step.Rotation, step.Signer, step.Settings, step.PullRequest = d.verdict, next, d.id, d.deploy.ID, report.Settings(settings), p.URL
		step.Findings = append(step.Findings, u.found...)
		if err := u.WriteFile("report-path", u.in.ReportPath, report.JSON(step)); err != nil {
			return err
		}
	}
	u.Summary(report.Back(d.deploy.ID, d.verdict, next, p.URL, settings) + strings.Join(more, "") + report.Reminders(rotation.Reminders(u.state.Files, u.Now())))
	if why != "" {
		return gha.Failed
	}
	return nil
}
