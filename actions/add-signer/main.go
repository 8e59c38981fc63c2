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
	ReportPath        string        `input:"report-path"`
}

func run(ctx context.Context, r *gha.Run, in inputs) error {
	policy := rotation.Policy{
		Overlap: rotation.Duration(in.Overlap), Propagation: rotation.Duration(in.Propagation), Drain: rotation.Duration(in.Drain),
		ShortAllowed: in.AllowShortOverlap,
	}
	if err := check(in, policy); err != nil {
		return err
	}
	ctx, err := gha.Within(ctx, in.RetryBudget)
	if err != nil {
		return err
	}
	repo, state, err := in.Open(ctx, r, true)
	if err != nil {
		return err
	}
	at := published.Clock(repo, r).UTC().Truncate(time.Second)
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
	record := rotation.Record{
		Version: 1, ID: k.rotation, CreatedAt: at,
		Actor: published.Actor(r), Reason: in.Reason, RunURL: r.Origin().RunURL,
		Outgoing: out, Incoming: k.signer, Policy: policy,
	}
	if out != nil && state.Files().Located(*out).KMSKeyARN == "" {
		r.Logf("note: the entry of signer %s names no KMS key, so finalize cannot ask CloudTrail about it and rollback cannot name all of its settings; if its key is in KMS, give the entry its kmsKeyId, in a pull request of its own", out.ID)
	}
	if in.DryRun {
		r.Logf("dry run: would add signer %s (%s) for rotation %s to %s on %s", record.Incoming.ID, cmp.Or(in.KeySpec, string(record.Incoming.Algorithm)), record.ID, state.Paths.Registry, state.Branch)
		return tell(r, in, state, record, pullrequest.Proposal{})
	}
	proposal, record, err := propose(ctx, in, repo, state, k, record)
	if err != nil {
		return err
	}
	return tell(r, in, state, record, proposal)
}

// check refuses inputs that do not go together, before anything is asked.
func check(in inputs, policy rotation.Policy) error {
	given := 0
	for _, v := range []string{in.KMSKeyID, in.KeySpec, in.PublicKeyPath} {
		if v != "" {
			given++
		}
	}
	switch why := registry.CheckID(in.SignerID); {
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
func tell(r *gha.Run, in inputs, s *published.State, rec rotation.Record, p pullrequest.Proposal) error {
	settings := rotation.DeploySettings(rec.Incoming)
	r.Output("rotation-id", rec.ID)
	r.Output("signer-id", rec.Incoming.ID)
	r.Output("fingerprint", rec.Incoming.Fingerprint)
	r.Output("kms-key-arn", rec.Incoming.KMSKeyARN)
	next := published.Outcome(p)
	switch p.State {
	case pullrequest.Merged:
		next = "Nothing new: the signer is published. Deploy it."
	case pullrequest.Closed:
		next += " Or choose another signer-id."
	}
	if in.ReportPath != "" {
		step := report.NewStepFile("add-signer", in.DryRun, s.Commit, s.Files())
		step.Verdict, step.Next, step.Rotation, step.Signer, step.PullRequest = string(p.State), next, rec.ID, rec.Incoming.ID, p.URL
		if in.DryRun {
			step.Verdict = "dry run"
		} else {
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
	r.Summary(report.Published(rec.Incoming.ID, next, p.URL, settings) + report.Reminders(rotation.Reminders(s.Files(), r.Now())))
	r.Ticket([][2]string{{"signer", rec.Incoming.ID}, {"fingerprint", rec.Incoming.Fingerprint}, {"rotation", rec.ID}, {"next", next}, {"pull request", p.URL}})
	for _, note := range p.Notes {
		r.Logf("note: %s", note)
	}
	return nil
}
