package main

import (
	"context"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
)

// remembered is how long after its end a rotation's comment is still looked at:
// long enough for the run that finds it over, and no cost for ever.
const remembered = 30 * 24 * time.Hour

// ended gives the rotations that are over since not long.
func ended(s *published.State, now time.Time) (list []record.Record) {
	for _, rec := range s.Records {
		if at := s.EndedAt(rec); !at.IsZero() && now.Sub(at) < remembered {
			list = append(list, rec)
		}
	}
	return list
}

// comment keeps the phase of a rotation on its add-signer pull request. It is a
// courtesy: where it cannot be written, the log says so and nothing fails.
func (f *finalizer) comment(ctx context.Context, addition pullrequest.Proposal, s report.Status) {
	if f.inputs.DryRun || addition.Number == 0 {
		return
	}
	if _, err := f.repo.Comment(ctx, addition.Number, "status", report.Comment(s)); err != nil {
		f.Logf("note: the status comment of rotation %s was not written: %v", s.Rotation, err)
	}
}
