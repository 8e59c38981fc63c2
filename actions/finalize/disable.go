package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// disabled is the KMS state in which nothing is left to be done.
const disabled = "Disabled"

// disable makes the key of an archived signer unusable, one key a run, and only
// where the archive is merged, the key is the archived one, nothing signs with
// it any more as far as chain and CloudTrail tell, and history verifies without
// it. A compromised key is not waited for. Deleting it is nobody's business here.
func (f *finalizer) disable(ctx context.Context, records []record.Record) ([]report.Status, error) {
	client, err := awskms.New(ctx, awskms.Options{})
	if err != nil {
		return nil, err
	}
	var statuses []report.Status
	done := false
	for _, item := range f.state.Archive.Retired {
		i := slices.IndexFunc(records, func(r record.Record) bool { return r.ID == item.Rotation })
		if i < 0 || done || !f.last(item) {
			continue
		}
		rec := records[i]
		a := rotation.Assessment{Phase: f.state.Phase(rec)}
		next, gate, err := f.disableOne(ctx, client, rec, item, &done)
		if err != nil {
			return nil, err
		}
		if gate.ID != "" {
			a.Gates = []record.Gate{gate}
		}
		s := report.NewStatus(rec, a)
		s.Next = next
		statuses = append(statuses, s)
		f.Logf("signer %s: %s", item.ID, next)
	}
	return statuses, nil
}

// last tells whether an archive item is its signer's last word: not back in the
// registry, and not archived again later.
func (f *finalizer) last(item registry.Retired) bool {
	if _, back := f.state.Registry.Find(item.ID); back {
		return false
	}
	latest, ok := f.state.Archive.Find(item.ID)
	return ok && latest.Rotation == item.Rotation && latest.Boundary == item.Boundary
}

func (f *finalizer) disableOne(ctx context.Context, client *awskms.Client, rec record.Record, item registry.Retired, done *bool) (next string, gate record.Gate, err error) {
	switch {
	case item.Algorithm == pubkey.HMACSHA256:
		return "an HMAC key is never disabled: without it no event that it signed could be verified. Take kms:GenerateMac away from the service instead", gate, nil
	case item.KMSKeyID == "":
		return "its entry names no KMS key, so there is nothing to disable here", gate, nil
	}
	key, err := client.Describe(ctx, item.KMSKeyID)
	if err != nil {
		return "", gate, err
	}
	isDisabled := "KMS key " + key.ARN + " is disabled. " + deletion(key.ARN)
	if key.State == disabled {
		return isDisabled, gate, nil
	}
	// A run that was faster makes this one's questions fail.
	byNow := func() bool {
		again, err := client.Describe(ctx, key.ARN)
		return err == nil && again.State == disabled
	}
	public, err := client.PublicKey(ctx, key.ARN)
	if err != nil && byNow() {
		return isDisabled, gate, nil
	}
	if err != nil {
		return "", gate, err
	}
	if public.Fingerprint() != item.Key.Fingerprint() {
		return "", rotation.KeyGate(rotation.KeyIsArchived, fmt.Sprintf("KMS key %s has the fingerprint %s, the archived signer %s another one (%s): its kmsKeyId was changed. Nothing was disabled", key.ARN, public.Fingerprint(), item.ID, item.Key.Fingerprint())), nil
	}
	for _, s := range f.state.Registry.Signers {
		if !s.Key.IsZero() && s.Key.Fingerprint() == public.Fingerprint() || s.KMSKeyID == key.ARN || slices.Contains(s.Aliases, key.ARN) {
			return "", rotation.KeyGate(rotation.KeyIsUnused, fmt.Sprintf("signer %s is registered for KMS key %s. Nothing was disabled", s.ID, key.ARN)), nil
		}
	}
	if item.State != registry.StateCompromised {
		if f.report.Verdict != chain.Verified {
			return "", rotation.KeyGate(rotation.ChainVerifies, fmt.Sprintf("%d finding(s), see the report of verify-chain. Nothing was disabled", f.report.FindingsTotal)), nil
		}
		now := published.Clock(f.repo, f.Run)
		trail, err := f.trail(ctx, rec, now)
		if err != nil {
			return "", gate, err
		}
		gate = trail.Quiet(now)
		if gate.State == record.Unproven && byNow() {
			return isDisabled, record.Gate{}, nil
		}
		if gate.State != record.Passed {
			return "it is not yet shown that nothing signs with KMS key " + key.ARN, gate, nil
		}
	}
	*done = true
	if f.inputs.DryRun {
		return "dry run: would disable KMS key " + key.ARN, gate, nil
	}
	if err := client.Disable(ctx, key.ARN); err != nil {
		return "", gate, err
	}
	return "KMS key " + key.ARN + " is disabled now; rollback with enable-kms-key takes that back. " + deletion(key.ARN), gate, nil
}

// deletion is the command that nothing here runs.
func deletion(arn string) string {
	return "Watch CloudTrail for DisabledException before a person deletes it: aws kms schedule-key-deletion --pending-window-in-days 30 --key-id " + arn
}
