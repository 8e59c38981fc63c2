package published

import (
	"cmp"
	"context"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
)

// Inputs are those of every action that reads the default branch and opens a
// pull request for it.
type Inputs struct {
	RegistryPath  string     `input:"registry-path"`
	ArchivePath   string     `input:"archive-path"`
	RotationsPath string     `input:"rotations-path"`
	Token         gha.Secret `input:"token"`
	BaseBranch    string     `input:"base-branch"`
	Labels        []string   `input:"labels"`
	Reviewers     []string   `input:"reviewers"`
	TeamReviewers []string   `input:"team-reviewers"`
	Assignees     []string   `input:"assignees"`
	DryRun        bool       `input:"dry-run"`
	// RetryBudget is for [gha.Within].
	RetryBudget time.Duration `input:"retry-budget"`
}

// Open reads the state of the base branch. missing lets a repository without
// a registry pass as one with an empty registry.
func (in Inputs) Open(ctx context.Context, r *gha.Run, missing bool) (*pullrequest.Repo, *State, error) {
	repo, err := Repository(r, in.Token)
	if err != nil {
		return nil, nil, err
	}
	s, err := Base(ctx, repo, in.BaseBranch, PathsFor(in.RegistryPath, in.ArchivePath, in.RotationsPath), missing)
	return repo, s, err
}

// Repository is the one that the workflow runs in.
func Repository(r *gha.Run, token gha.Secret) (*pullrequest.Repo, error) {
	name := r.Getenv("GITHUB_REPOSITORY")
	if name == "" {
		return nil, gha.Misuse("GITHUB_REPOSITORY is not set: outside of GitHub Actions, set it to owner/name, and INPUT_TOKEN to a token")
	}
	return pullrequest.Open(pullrequest.Options{
		APIURL: r.Getenv("GITHUB_API_URL"), Token: token.Reveal(), Repository: name,
		Tell: func(what string) { r.Logf("%s", what) },
	})
}

// maxReason is what a description may have (schemas/signers.schema.json).
const maxReason = 4096

// CheckReason refuses a change that nobody gives a reason for.
func CheckReason(reason string) error {
	switch {
	case reason == "":
		return gha.Misuse("reason is empty: say why; it stands in the record and in the pull request")
	case len(reason) > maxReason:
		return gha.Misuse("reason has %d bytes, more than the %d that a description may have; shorten it", len(reason), maxReason)
	}
	return nil
}

// Outcome says in a sentence what has become of a pull request, and what is to
// be done with it.
func Outcome(p pullrequest.Proposal) string {
	switch p.State {
	case pullrequest.Created:
		return "The pull request is open: review and merge it."
	case pullrequest.Updated:
		return "The open pull request was brought up to date: review and merge it."
	case pullrequest.Unchanged, pullrequest.Proposed:
		if p.Number == 0 {
			return "Nothing new: the branch holds it already."
		}
		return "Nothing new: the pull request is open, review and merge it."
	case pullrequest.Merged:
		return "Nothing new: it is merged."
	case pullrequest.Closed:
		return "The pull request was closed unmerged, which means no, and nothing was written. Reopen it there if that was a mistake."
	case pullrequest.Foreign:
		return "Somebody else has committed to the branch; it is left alone, and nothing was written to it."
	}
	return ""
}

// Base reads the state at the tip of a branch, the default branch if it is "".
func Base(ctx context.Context, repo *pullrequest.Repo, branch string, p Paths, missing bool) (*State, error) {
	if branch == "" {
		var err error
		if branch, err = repo.DefaultBranch(ctx); err != nil {
			return nil, err
		}
	}
	commit, err := repo.Head(ctx, branch)
	if err != nil {
		return nil, err
	}
	s, err := Read(ctx, repo, commit, p, missing)
	if err != nil {
		return nil, err
	}
	s.Branch = branch
	return s, nil
}

// Change fills in what all pull requests have in common.
func (in Inputs) Change(s *State, c pullrequest.Change) pullrequest.Change {
	c.Base, c.BaseCommit = s.Branch, s.Commit
	c.Labels, c.Reviewers, c.TeamReviewers, c.Assignees = in.Labels, in.Reviewers, in.TeamReviewers, in.Assignees
	return c
}

// Title is a pull request's: what it does to a signer. GitHub takes 256
// characters, and an id may have as many by itself.
func Title(what, id string) string {
	if len(id) > 200 {
		id = id[:200] + "…"
	}
	return what + " " + id
}

// Clock is GitHub's clock, the machine's where GitHub has said nothing yet.
func Clock(repo *pullrequest.Repo, r *gha.Run) time.Time {
	if t := repo.Now(); !t.IsZero() {
		return t
	}
	return r.Now()
}

// Actor is who started the run.
func Actor(r *gha.Run) string { return cmp.Or(r.Getenv("GITHUB_ACTOR"), "unknown") }
