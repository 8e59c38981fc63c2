package main

import (
	"context"
	"regexp"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// ofDay names what has no name of its own.
func ofDay(at time.Time) string { return "audit-rotation-" + at.Format(time.DateOnly) }

var dayForm = regexp.MustCompile(`^rotate-audit-rotation-([0-9]{4}-[0-9]{2}-[0-9]{2})-[0-9a-f]{8}$`)

// dayOf is the day in the id of a rotation that was named by one.
func dayOf(rotationID string) (at time.Time, ok bool) {
	m := dayForm.FindStringSubmatch(rotationID)
	if m == nil {
		return at, false
	}
	at, err := time.Parse(time.DateOnly, m[1])
	return at, err == nil && record.IDFor(ofDay(at)) == rotationID
}

// day is the day that names a rotation without a name of its own: that of an open
// pull request which replaces the same signer, so that a repeat after midnight
// makes no second key and no second pull request, else today. A branch is
// anybody's to write to, and gives a date of the past and nothing else.
func day(ctx context.Context, r *gha.Run, in inputs, repo *pullrequest.Repo, s *published.State, today time.Time) (time.Time, error) {
	if in.WriteFiles || in.SignerID != "" && (in.KeySpec == "" || in.SignerID != asARN && in.SignerID != asKeyID) {
		return today, nil
	}
	replaced := in.Replaces
	if x, ok := s.Registry.Find(replaced); ok {
		replaced = x.ID
	} else if replaced == "" && len(s.Registry.Signers) == 1 {
		replaced = s.Registry.Signers[0].ID
	}
	proposed, err := s.Proposed(ctx, repo, func(id string) bool {
		at, ok := dayOf(id)
		return ok && !at.After(today)
	})
	if err != nil {
		return today, err
	}
	for _, p := range proposed {
		old := p.Record.State().Outgoing
		if at, ok := dayOf(p.Record.ID); ok && (old == nil && (replaced == "none" || replaced == "") || old != nil && old.ID == replaced) {
			r.Logf("note: going on with the rotation of pull request #%d, which is open; give a signer-id for another one", p.PullRequest.Number)
			return at, nil
		}
	}
	return today, nil
}
