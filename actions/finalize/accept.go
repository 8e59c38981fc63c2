package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// accept takes a report of verify-chain instead of reading the chain: of one that
// many jobs have read, say. Everything is judged as of the moment in which that
// reading began, so evidence is no younger than it is.
func (f *finalizer) accept(ctx context.Context) (err error) {
	name := f.inputs.VerifyReportPath
	text, err := f.ReadFile("verify-report-path", name, jsondoc.MaxSize)
	if err != nil {
		return err
	}
	if f.report, err = rotation.ParseReport(name, text); err != nil {
		return err
	}
	if why := rotation.Unfit(f.report, f.state.Files, gha.Version, published.Clock(f.repo, f.Run), f.inputs.MaxEvidenceAge); why != "" {
		return fmt.Errorf("the report %s is no evidence of what is published now, so nothing was judged: %s", name, why)
	}
	if db, ok := audit.DatabaseOf(f.report); ok && db.Table != f.inputs.Table && !strings.HasSuffix(db.Table, "."+f.inputs.Table) {
		return fmt.Errorf("the report %s is about table %s, and the input table says %s: give the report of that table", name, db.Table, f.inputs.Table)
	}
	switch {
	case f.inputs.CheckpointBranch != "" && f.inputs.CheckpointPath != "":
		return gha.Misuse("both checkpoint-path and checkpoint-branch are set: choose the place in which the checkpoint is kept")
	case f.inputs.CheckpointBranch != "":
		_, f.terms.Checkpoint, err = f.inputs.Branch(ctx, f.Run, f.repo, nil)
	case f.inputs.CheckpointPath != "":
		f.terms.Checkpoint, err = f.inputs.Checkpoint(f.Run)
	}
	if err != nil {
		return err
	}
	// The next checkpoint of the report itself may be the last one by now.
	if c := f.terms.Checkpoint; c != nil && (f.report.Checkpoint.From == "" || c.String() != f.report.Checkpoint.From && c.String() != f.report.Checkpoint.To) {
		return fmt.Errorf("the report %s does not pass through the last checkpoint, so nothing was judged: that is %s, the report begins at %q; run verify-chain again, with the checkpoint of now", name, c, f.report.Checkpoint.From)
	}
	sum := sha256.Sum256(text)
	f.readAt, f.reportSum = f.report.StartedAt, hex.EncodeToString(sum[:])
	return nil
}
