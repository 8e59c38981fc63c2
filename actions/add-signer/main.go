// Command add-signer opens the pull request that publishes a new signer: it
// creates or takes a key, checks it, lets it prove that it can sign, and adds
// its entry to the registry with a record of who rotates what, when and why.
//
// Run again, it finds what it has done: the same key, the same branch, the
// same pull request, and writes nothing.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
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

type inputs struct {
	published.Inputs
	KMSKeyID          string        `input:"kms-key-id"`
	KeySpec           string        `input:"key-spec"`
	PublicKeyPath     string        `input:"public-key-path"`
	SignerID          string        `input:"signer-id"`
	Replaces          string        `input:"replaces"`
	Reason            string        `input:"reason"`
	Overlap           time.Duration `input:"overlap"`
	Propagation       time.Duration `input:"propagation"`
	Drain             time.Duration `input:"drain"`
	AllowShortOverlap bool          `input:"allow-short-overlap"`
	ProvePossession   bool          `input:"prove-possession"`
	AllowedAccounts   []string      `input:"allowed-accounts"`
	Contacts          []string      `input:"contacts"`
	WriteFiles        bool          `input:"write-files"`
	ReportPath        string        `input:"report-path"`
}

func run(ctx context.Context, r *gha.Run, in inputs) error {
	policy := record.Policy{
		Overlap: record.Duration(in.Overlap), Propagation: record.Duration(in.Propagation), Drain: record.Duration(in.Drain),
		ShortAllowed: in.AllowShortOverlap,
	}
	if err := check(in, policy); err != nil {
		return err
	}
	ctx, err := gha.Within(ctx, in.RetryBudget)
	if err != nil {
		return err
	}
	open := in.Open
	if in.WriteFiles {
		open = in.Folder
	}
	repo, state, err := open(ctx, r, true)
	if err != nil {
		return err
	}
	at := published.Clock(repo, r).UTC()
	named, err := day(ctx, r, in, repo, state, at)
	if err != nil {
		return err
	}
	k := name(in, named)
	if in.KeySpec != "" { // before a key is made for nothing
		if _, err := k.fits(in, state); err != nil {
			return err
		}
	}
	if err := k.take(ctx, r, in); err != nil {
		return err
	}
	out, err := k.fits(in, state)
	if err != nil {
		return err
	}
	p, err := planned(in, state, k, published.By(r, at, in.Reason), out, policy)
	if err != nil {
		return err
	}
	if out != nil && out.KMSKeyARN == "" {
		r.Logf("note: the entry of signer %s names no KMS key, so finalize cannot ask CloudTrail about it and rollback cannot name all of its settings; if its key is in KMS, give the entry its kmsKeyId, in a separate pull request", out.ID)
	}
	var pr pullrequest.Proposal
	switch {
	case in.DryRun:
		r.Logf("dry run: would add signer %s (%s) for rotation %s to %s on %s", k.signer.ID, cmp.Or(in.KeySpec, string(k.signer.Algorithm)), p.id, state.Paths.Registry, state.Branch)
	case in.WriteFiles:
		err = p.write(ctx, r, in, state, k)
	default:
		pr, err = p.propose(ctx, in, repo, state, k)
	}
	if err != nil {
		return err
	}
	return tell(r, in, state, p, pr)
}

// check refuses inputs that do not go together, before anything is asked.
func check(in inputs, policy record.Policy) error {
	given := 0
	for _, v := range []string{in.KMSKeyID, in.KeySpec, in.PublicKeyPath} {
		if v != "" {
			given++
		}
	}
	switch why := registry.CheckID(in.SignerID); {
	case in.WriteFiles && in.PublicKeyPath == "":
		return gha.Misuse("write-files edits the files of this checkout, and a KMS key could be made twice that way: use it with public-key-path")
	case given != 1:
		return gha.Misuse("set exactly one of kms-key-id (an existing key), key-spec (create one) and public-key-path (a key kept elsewhere); %d are set", given)
	case in.SignerID != "" && why != "":
		return gha.Misuse("signer-id %q: %s; choose another", in.SignerID, why)
	case in.KeySpec != "" && !slices.Contains(awskms.Specs, in.KeySpec):
		return gha.Misuse("key-spec %q is not known: choose one of %s", in.KeySpec, strings.Join(awskms.Specs, ", "))
	}
	if err := policy.Check(); err != nil {
		return gha.Misuse("%w", err)
	}
	return published.CheckReason(in.Reason)
}

// tell prints the outputs and the settings to deploy with.
func tell(r *gha.Run, in inputs, s *published.State, plan plan, p pullrequest.Proposal) error {
	signer := plan.move.Subject()
	settings := rotation.DeploySettings(signer)
	r.Output("rotation-id", plan.id)
	r.Output("signer-id", signer.ID)
	r.Output("fingerprint", signer.Fingerprint)
	r.Output("kms-key-arn", signer.KMSKeyARN)
	next := published.Outcome(p)
	switch {
	case in.WriteFiles && !plan.done:
		next = "The files of this checkout are changed: commit them, and open a pull request."
	case p.State == pullrequest.Merged || in.WriteFiles:
		next = "Nothing new: the signer is published. Deploy it."
	case p.State == pullrequest.Closed:
		next += " Or choose another signer-id."
	}
	if in.ReportPath != "" {
		step := report.NewStepFile("add-signer", in.DryRun, s.Commit, s.Files)
		step.Verdict, step.Next, step.Rotation, step.Signer, step.PullRequest = string(p.State), next, plan.id, signer.ID, p.URL
		switch {
		case in.DryRun:
			step.Verdict = "dry run"
		case in.WriteFiles:
			step.Verdict, step.Settings = "files", report.Settings(settings)
		default:
			step.Settings = report.Settings(settings)
		}
		if err := r.WriteFile("report-path", in.ReportPath, report.JSON(step)); err != nil {
			return err
		}
	}
	if in.DryRun {
		return nil
	}
	r.OutputJSON("deploy-env", report.Settings(settings))
	r.Output("branch", p.Branch)
	if p.Number != 0 {
		r.Output("pull-request-number", strconv.Itoa(p.Number))
		r.Output("pull-request-url", p.URL)
	}
	r.Summary(report.Published(signer.ID, next, p.URL, settings) + report.Reminders(rotation.Reminders(s.Files, r.Now())))
	r.Ticket([][2]string{{"signer", signer.ID}, {"fingerprint", signer.Fingerprint}, {"rotation", plan.id}, {"next", next}, {"pull request", p.URL}})
	for _, note := range p.Notes {
		r.Logf("note: %s", note)
	}
	return nil
}
