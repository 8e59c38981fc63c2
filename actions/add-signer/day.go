package main

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// ofDay names what has no name of its own.
func ofDay(at time.Time) string { return "audit-rotation-" + at.Format(time.DateOnly) }

var dayForm = regexp.MustCompile(`^rotate-audit-rotation-([0-9]{4}-[0-9]{2}-[0-9]{2})-[0-9a-f]{8}$`)

// dayProposals bounds how many open pull requests are looked at.
const dayProposals = 10

// day is the day that names a rotation without a name of its own: that of an open
// pull request which replaces the same signer, so that a repeat after midnight
// makes no second key and no second pull request, else today. A branch is
// anybody's to write to, and gives a date of the past and nothing else.
func day(ctx context.Context, r *gha.Run, in inputs, repo *pullrequest.Repo, s *published.State, today time.Time) (time.Time, error) {
	if in.SignerID != "" && (in.KeySpec == "" || in.SignerID != asARN && in.SignerID != asKeyID) {
		return today, nil
	}
	replaced := in.Replaces
	if x, ok := s.Registry.Find(replaced); ok {
		replaced = x.ID
	} else if replaced == "" && len(s.Registry.Signers) == 1 {
		replaced = s.Registry.Signers[0].ID
	}
	open, err := repo.Proposed(ctx, "add-signer")
	if err != nil {
		return today, err
	}
	for _, p := range open[:min(len(open), dayProposals)] {
		if p.Base != s.Branch {
			continue
		}
		at, found, err := dayOf(ctx, repo, s, p.Commit, replaced, today)
		var coded interface{ ExitCode() int }
		switch {
		case errors.As(err, &coded) && coded.ExitCode() == 2: // what stands there is no rotation
		case err != nil:
			return today, err
		case found:
			r.Logf("note: going on with the rotation of pull request #%d, which is open; give a signer-id for another one", p.Number)
			return at, nil
		}
	}
	return today, nil
}

// dayOf finds the day in the name of a rotation that a commit would add.
func dayOf(ctx context.Context, repo *pullrequest.Repo, s *published.State, commit, replaced string, today time.Time) (at time.Time, found bool, err error) {
	names, err := repo.ReadDir(ctx, commit, s.Paths.Rotations)
	if err != nil {
		return at, false, err
	}
	for _, name := range names {
		id := strings.TrimSuffix(name, ".json")
		m := dayForm.FindStringSubmatch(id)
		if m == nil || s.Recorded(id) {
			continue
		}
		at, err := time.Parse(time.DateOnly, m[1])
		if err != nil || at.After(today) || rotation.IDFor(ofDay(at)) != id {
			continue
		}
		text, found, err := repo.ReadFile(ctx, commit, s.Paths.Record(id), jsondoc.MaxSize)
		if err != nil {
			return at, false, err
		}
		rec, err := rotation.ParseRecord(name, text)
		if err != nil || !found || rec.ID != id {
			continue
		}
		if rec.Outgoing == nil && (replaced == "none" || replaced == "") || rec.Outgoing != nil && rec.Outgoing.ID == replaced {
			return at, true, nil
		}
	}
	return at, false, nil
}
