package published

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// Proposed is a rotation that is not published yet.
type Proposed struct {
	Record      rotation.Record
	PullRequest pullrequest.Proposal
}

// Proposed reads the rotations that open pull requests would publish on the
// branch, the newest first. What a branch holds that is no record is not one, and
// of very many files not all are read.
func (s *State) Proposed(ctx context.Context, repo *pullrequest.Repo) (list []Proposed, err error) {
	left := 2 * sightingPulls
	open, err := repo.Proposed(ctx, "add-signer")
	if err != nil {
		return nil, err
	}
	for _, pr := range open[:min(len(open), sightingPulls)] {
		if pr.Base != s.Branch {
			continue
		}
		names, err := repo.ReadDir(ctx, pr.Commit, s.Paths.Rotations)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if !strings.HasSuffix(name, ".json") || slices.ContainsFunc(s.Records, func(r rotation.Record) bool { return r.ID+".json" == name }) {
				continue
			}
			if left--; left < 0 {
				return list, nil
			}
			file := path.Join(s.Paths.Rotations, name)
			text, found, err := repo.ReadFile(ctx, pr.Commit, file, jsondoc.MaxSize)
			if err != nil {
				return nil, err
			}
			if rec, err := rotation.ParseRecord(file, text); found && err == nil {
				list = append(list, Proposed{rec, pr})
			}
		}
	}
	return list, nil
}
