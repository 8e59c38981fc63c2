package published

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// Proposed is a rotation that is not published yet.
type Proposed struct {
	Record      record.Record
	PullRequest pullrequest.Proposal
}

// Proposed reads the rotations that open pull requests would publish on the
// branch, the newest first; only those whose id is wanted, nil for all. What a
// branch holds that is no record is not one, and of very many files not all are
// read: a branch is anybody's to write.
func (s *State) Proposed(ctx context.Context, repo *pullrequest.Repo, wanted func(id string) bool) (list []Proposed, err error) {
	open, err := repo.OpenProposals(ctx, "add-signer")
	if err != nil {
		return nil, err
	}
	for _, pr := range open[:min(len(open), sightingPulls)] {
		if pr.Base != s.Branch {
			continue
		}
		names, err := repo.ReadDir(ctx, pr.Commit, s.Paths.Rotations)
		if err != nil && !gha.IsMisuse(err) {
			return nil, err
		}
		ids := slices.DeleteFunc(names, func(name string) bool {
			id, isRecord := strings.CutSuffix(name, ".json")
			return !isRecord || s.Record(id) != nil || wanted != nil && !wanted(id)
		})
		for _, name := range ids[:min(len(ids), proposedRecords)] {
			file := path.Join(s.Paths.Rotations, name)
			text, found, err := repo.ReadFile(ctx, pr.Commit, file, jsondoc.MaxSize)
			if err != nil && !gha.IsMisuse(err) {
				return nil, err
			}
			if rec, wrong := record.Parse(file, text); err == nil && found && wrong == nil && rec.ID+".json" == name {
				list = append(list, Proposed{rec, pr})
			}
		}
	}
	return list, nil
}

// proposedRecords bounds how many records of one pull request are read.
const proposedRecords = 20
