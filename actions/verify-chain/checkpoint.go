package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// fromBranch reads the checkpoint that the branch holds.
// Where the branch is gone, it is the last one that a rotation's record names.
func fromBranch(ctx context.Context, r *gha.Run, in inputs, files record.Files) (*audit.Branch, *checkpoint.Checkpoint, error) {
	repo, err := published.Repository(r, in.Token)
	if err != nil {
		return nil, nil, err
	}
	branch, c, err := in.Branch(ctx, r, repo, rotation.Checkpoint(files))
	var broken *audit.Broken
	switch {
	case errors.As(err, &broken):
		r.Output("verdict", string(chain.Failed))
		r.Summary(report.Unverified([]finding.Finding{broken.Finding}))
	case err == nil && !branch.Exists() && in.RequireCheckpoint:
		return nil, nil, gha.Misuse("require-checkpoint is true, and there is no branch %s. A lost checkpoint is no fresh start: restore the branch, or leave require-checkpoint out for the first run and say so in review", in.CheckpointBranch)
	}
	return branch, c, err
}

// lost warns of a branch that is gone, as a rotation's record shows.
func lost(in inputs, rep *chain.Report, recorded *checkpoint.Checkpoint) {
	audit.Note(rep, finding.Finding{Rule: checkpoint.RuleMissing, Severity: finding.Warning, Message: fmt.Sprintf(
		"branch %s does not exist, and there was a checkpoint %s, as the record of a rotation shows: the branch was deleted, or has another name. The chain was held against that one; events that followed it could have been cut off. Bring the branch back, or compare with a backup", in.CheckpointBranch, recorded)})
}

// remember makes the next checkpoint of a chain that is verified.
func remember(r *gha.Run, in inputs, rep *chain.Report, previous *checkpoint.Checkpoint, table checkpoint.Table) (*checkpoint.Checkpoint, error) {
	if in.ExpectSigner != "" && rep.Use(in.ExpectSigner).Events == 0 {
		audit.Fail(rep, missing(in, rep))
	}
	if in.NextCheckpointPath == "" && in.CheckpointBranch == "" || rep.Verdict != chain.Verified || rep.Length == 0 {
		return nil, nil
	}
	next, err := checkpoint.Next(previous, table, rep, r.Now())
	if err == nil {
		rep.Checkpoint.To = next.String()
	}
	return next, err
}
