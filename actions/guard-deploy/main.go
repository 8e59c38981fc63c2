// Command guard-deploy stands before the step that deploys a signer. It fails
// unless the signer is published on the default branch, verifiers have had the
// time to hear of it (or say that they have), and the KMS key that will be
// configured is the very key that is published; then it prints the four
// settings, and sets them as variables of an environment where it is asked to.
//
// What it compares are keys, not names: GetPublicKey of the key that will
// sign against the registry that verifiers read.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/readiness"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
)

//go:embed action.yml
var spec []byte

var now = time.Now

func main() { os.Exit(gha.Main(spec, now, run)) }

type inputs struct {
	SignerID     string        `input:"signer-id"`
	KMSKeyID     string        `input:"kms-key-id"`
	VerifierURLs []string      `input:"verifier-urls"`
	WaitFor      time.Duration `input:"wait-for"`
	CheckSigning bool          `input:"check-signing"`
	Environment  string        `input:"environment"`
	EnvFilePath  string        `input:"env-file-path"`
	RegistryPath string        `input:"registry-path"`
	ArchivePath  string        `input:"archive-path"`
	Token        gha.Secret    `input:"token"`
	BaseBranch   string        `input:"base-branch"`
	DryRun       bool          `input:"dry-run"`
	ReportPath   string        `input:"report-path"`
	RetryBudget  time.Duration `input:"retry-budget"`
}

func run(ctx context.Context, r *gha.Run, in inputs) error {
	switch {
	case in.SignerID == "" || in.KMSKeyID == "":
		return gha.Misuse("set signer-id and kms-key-id to what is about to be deployed (AUDIT_SIGNER_KID and AUDIT_SIGNING_KMS_KEY_ID)")
	case in.WaitFor < 0:
		return gha.Misuse("wait-for %s is negative: give the longest time to wait, such as 10m", in.WaitFor)
	}
	if err := readiness.Check(in.VerifierURLs); err != nil {
		return err
	}
	ctx, err := gha.Within(ctx, in.RetryBudget)
	if err != nil {
		return err
	}
	repo, err := published.Repository(r, in.Token)
	if err != nil {
		return err
	}
	g := guard{r, in, repo}
	state, err := g.look(ctx)
	if err != nil {
		return err
	}
	d, against, err := deployment(ctx, in, state)
	if err != nil {
		return err
	}
	ready := ""
	if len(against) == 0 {
		if ready, against, err = g.ready(ctx, d, state); err != nil {
			return err
		}
	}
	reminders := report.Reminders(rotation.Reminders(state.Files, r.Now()))
	step := report.NewStepFile("guard-deploy", in.DryRun, state.Commit, state.Files)
	step.Signer = in.SignerID
	if len(against) > 0 {
		step.Verdict, step.Findings = "closed", against
		if err := g.keep(step); err != nil {
			return err
		}
		return closed(r, against, reminders)
	}
	settings := rotation.DeploySettings(record.Signer{ID: in.SignerID, Algorithm: d.Algorithm, KMSKeyARN: in.KMSKeyID})
	if in.EnvFilePath != "" && !in.DryRun {
		if err := r.WriteFile("env-file-path", in.EnvFilePath, []byte(report.EnvFile(settings))); err != nil {
			return err
		}
	}
	if err := g.set(ctx, settings); err != nil {
		return err
	}
	trusting, err := g.trusting(ctx, state)
	if err != nil {
		return err
	}
	step.Verdict, step.Next, step.Settings, step.Findings = "open", ready, report.Settings(settings), append(step.Findings, trusting...)
	if err := g.keep(step); err != nil {
		return err
	}
	r.Output("verdict", "open")
	r.OutputJSON("deploy-env", report.Settings(settings))
	r.Ticket(report.FindingsTicket("deploy signer "+in.SignerID+" with KMS key "+in.KMSKeyID, "", nil))
	r.Logf("open: signer %s is published, and KMS key %s is its key; %s", in.SignerID, in.KMSKeyID, ready)
	r.Summary(report.Trusting(trusting) + report.Open(in.SignerID, ready, settings) + reminders)
	return nil
}

// guard is one run's view of GitHub.
type guard struct {
	*gha.Run
	in   inputs
	repo *pullrequest.Repo
}

// keep writes the report, where one is asked for.
func (g guard) keep(step report.StepFile) error {
	if g.in.ReportPath == "" {
		return nil
	}
	return g.WriteFile("report-path", g.in.ReportPath, report.JSON(step))
}

// look reads what is published now.
func (g guard) look(ctx context.Context) (*published.State, error) {
	return published.Base(ctx, g.repo, g.in.BaseBranch, signerfiles.PathsFor(g.in.RegistryPath, g.in.ArchivePath, ""), false)
}

// set sets the settings as variables of the environment that was named.
func (g guard) set(ctx context.Context, settings [][2]string) error {
	if g.in.Environment == "" {
		return nil
	}
	if g.in.DryRun {
		g.Logf("dry run: would set %d variables of environment %s", len(settings), g.in.Environment)
		return nil
	}
	changed, err := g.repo.SetVariables(ctx, g.in.Environment, report.Settings(settings))
	if err != nil {
		half := ""
		if len(changed) > 0 {
			half = fmt.Sprintf(" %s are set already, so the environment holds the settings of two signers until this has run again: deploy nothing from it before.", strings.Join(changed, ", "))
		}
		return fmt.Errorf("environment %q: %w. It takes a token with the permission environments: write, which GITHUB_TOKEN never has: give the token input a GitHub App token, or leave environment empty and take the output deploy-env.%s Do not deploy on the strength of this run", g.in.Environment, err, half)
	}
	g.Logf("environment %s: %d of %d variables set anew", g.in.Environment, len(changed), len(settings))
	return nil
}

func closed(r *gha.Run, against []finding.Finding, reminders string) error {
	r.Findings(against)
	r.Output("verdict", "closed")
	r.Summary(report.Closed(against) + reminders)
	r.Ticket(report.FindingsTicket("", "do not deploy", against))
	return gha.Failed
}
