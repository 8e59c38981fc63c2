package main

import (
	"context"
	"errors"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
)

// fromBranch reads the checkpoint that the branch holds.
func fromBranch(ctx context.Context, r *gha.Run, in inputs) (*audit.Branch, *checkpoint.Checkpoint, error) {
	repo, err := published.Repository(r, in.Token)
	if err != nil {
		return nil, nil, err
	}
	branch, c, err := audit.ReadBranch(ctx, repo, in.CheckpointBranch)
	var broken *audit.Broken
	switch {
	case errors.As(err, &broken):
		fs := []finding.Finding{broken.Finding}
		r.Findings(fs)
		r.Output("verdict", string(chain.Failed))
		r.Summary(report.Unverified(fs))
		return nil, nil, gha.Failed
	case err == nil && c == nil && in.RequireCheckpoint:
		return nil, nil, gha.Misuse("require-checkpoint is true, and there is no branch %s. A lost checkpoint is no fresh start: restore the branch, or leave require-checkpoint out for the first run and say so in review", in.CheckpointBranch)
	}
	return branch, c, err
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
