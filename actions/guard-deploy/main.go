// Command guard-deploy stands before the step that deploys a signer. It fails
// unless the signer is published on the default branch and the KMS key that
// will be configured is the very key that is published; then it prints the
// four settings.
//
// What it compares are keys, not names: GetPublicKey of the key that will
// sign against the registry that verifiers read.
package main

import (
	"context"
	_ "embed"
	"os"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

//go:embed action.yml
var spec []byte

var now = time.Now

func main() { os.Exit(gha.Main(spec, now, run)) }

type inputs struct {
	SignerID     string     `input:"signer-id"`
	KMSKeyID     string     `input:"kms-key-id"`
	CheckSigning bool       `input:"check-signing"`
	EnvFilePath  string     `input:"env-file-path"`
	RegistryPath string     `input:"registry-path"`
	ArchivePath  string     `input:"archive-path"`
	Token        gha.Secret `input:"token"`
	BaseBranch   string     `input:"base-branch"`
}

func run(ctx context.Context, r *gha.Run, in inputs) error {
	if in.SignerID == "" || in.KMSKeyID == "" {
		return gha.Misuse("set signer-id and kms-key-id to what is about to be deployed (AUDIT_SIGNER_KID and AUDIT_SIGNING_KMS_KEY_ID)")
	}
	repo, err := published.Repository(r, in.Token)
	if err != nil {
		return err
	}
	state, err := published.Base(ctx, repo, in.BaseBranch, published.PathsFor(in.RegistryPath, in.ArchivePath, ""), false)
	if err != nil {
		return err
	}
	d, unfit, err := deployment(ctx, in)
	if err != nil {
		return err
	}
	if len(unfit) > 0 {
		return closed(r, unfit)
	}
	if why := rotation.Guard(d, state.Registry, state.Archive); len(why) > 0 {
		return closed(r, why)
	}
	settings := rotation.DeploySettings(rotation.Signer{ID: in.SignerID, Algorithm: d.Algorithm, KMSKeyARN: in.KMSKeyID})
	if in.EnvFilePath != "" {
		if err := r.WriteFile("env-file-path", in.EnvFilePath, []byte(report.EnvFile(settings))); err != nil {
			return err
		}
	}
	r.Output("verdict", "open")
	r.OutputJSON("deploy-env", report.Settings(settings))
	r.Ticket(report.FindingsTicket("deploy signer "+in.SignerID+" with KMS key "+in.KMSKeyID, "", nil))
	r.Logf("open: signer %s is published, and KMS key %s is its key", in.SignerID, in.KMSKeyID)
	r.Summary(report.Open(in.SignerID, settings))
	return nil
}

// deployment asks KMS what would sign, and why it could not.
func deployment(ctx context.Context, in inputs) (d rotation.Deployment, unfit []string, err error) {
	d = rotation.Deployment{SignerID: in.SignerID, KMSKeyID: in.KMSKeyID}
	client, err := awskms.New(ctx, awskms.Options{})
	if err != nil {
		return d, nil, err
	}
	k, err := client.Describe(ctx, in.KMSKeyID)
	if err != nil {
		return d, nil, err
	}
	for _, why := range k.Check(nil) {
		unfit = append(unfit, "KMS key "+k.ARN+" cannot sign audit events: "+why)
	}
	if len(unfit) > 0 {
		return d, unfit, nil
	}
	d.KMSKeyARN, d.Algorithm = k.ARN, k.Algorithm()
	if d.Algorithm != pubkey.HMACSHA256 {
		if d.Key, err = client.PublicKey(ctx, k.ARN); err != nil {
			return d, nil, err
		}
	}
	if in.CheckSigning {
		err = client.CheckSigning(ctx, in.KMSKeyID, d.Algorithm)
	}
	return d, nil, err
}

func closed(r *gha.Run, why []string) error {
	var fs []finding.Finding
	for _, w := range why {
		fs = append(fs, finding.Finding{Rule: rotation.RuleDeployMismatch, Severity: finding.Error, Message: w})
	}
	r.Findings(fs)
	r.Output("verdict", "closed")
	r.Summary(report.Closed(fs))
	r.Ticket(report.FindingsTicket("", "do not deploy", fs))
	return gha.Failed
}
