package main

import (
	"context"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// remembered is how long after its end a rotation's comment is still looked at:
// long enough for the run that finds it over, and no cost for ever.
const remembered = 30 * 24 * time.Hour

// ended gives the rotations that are over since not long.
func ended(s *published.State, now time.Time) (list []rotation.Record) {
	for _, rec := range s.Records {
		if !rotation.PhaseWithoutChain(rec, s.Registry, s.Archive).Over() || rec.LeftBehind(s.Registry) {
			continue
		}
		at := time.Time{}
		if rec.Rollback != nil {
			at = rec.Rollback.At
		}
		if r := rec.Judged(); r != nil {
			at = r.EvaluatedAt
		}
		if now.Sub(at) < remembered {
			list = append(list, rec)
		}
	}
	return list
}

// comment keeps the phase of a rotation on its add-signer pull request. It is a
// courtesy: where it cannot be written, the log says so and nothing fails.
func (f *finalizer) comment(ctx context.Context, rec rotation.Record, s report.Status) {
	if f.inputs.DryRun {
		return
	}
	p, found, err := f.repo.Find(ctx, published.Addition(f.state.Paths, rec.Incoming).Branch())
	if err == nil && found {
		_, err = f.repo.Comment(ctx, p.Number, "status", report.Comment(s))
	}
	if err != nil {
		f.Logf("note: the status comment of rotation %s was not written: %v", rec.ID, err)
	}
}
