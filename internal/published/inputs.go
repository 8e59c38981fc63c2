package published

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
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
	s, err := Base(ctx, repo, in.BaseBranch, in.paths(), missing)
	return repo, s, err
}

func (in Inputs) paths() signerfiles.Paths {
	return signerfiles.PathsFor(in.RegistryPath, in.ArchivePath, in.RotationsPath)
}

// Folder is Open for the files of the working directory, without GitHub.
func (in Inputs) Folder(ctx context.Context, r *gha.Run, missing bool) (*pullrequest.Repo, *State, error) {
	s, err := readSigners(ctx, signerfiles.Disk{Run: r, Paths: in.paths()}, in.paths(), missing)
	if err == nil {
		s.Branch = "this checkout"
		err = s.readRecords(ctx, signerfiles.Disk{Run: r, Paths: in.paths()})
	}
	return nil, s, err
}

// Write writes files of Apply into the working directory, the records first: a run
// that is killed leaves a record without its entry, which the gate refuses.
func (s *State) Write(r *gha.Run, files map[string][]byte) error {
	names := slices.Sorted(maps.Keys(files))
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Compare(strings.Index(b, s.Paths.Rotations+"/"), strings.Index(a, s.Paths.Rotations+"/"))
	})
	if err := r.MakeFolder("rotations-path", s.Paths.Rotations); err != nil {
		return err
	}
	for _, name := range names {
		if err := r.WriteFile(signerfiles.Disk{Paths: s.Paths}.Input(name), name, files[name]); err != nil {
			return err
		}
	}
	return nil
}

// OpenAnyway is Open for an emergency: where something else is in the place of the
// folder of records, such as a symbolic link, the state has no records and says what
// blocks them.
func (in Inputs) OpenAnyway(ctx context.Context, r *gha.Run) (*pullrequest.Repo, *State, error) {
	repo, s, err := in.Open(ctx, r, false)
	if err == nil || repo == nil || !gha.IsMisuse(err) {
		return repo, s, err
	}
	signers, again := tip(ctx, repo, in.BaseBranch, in.paths(), false)
	if again != nil {
		return nil, nil, err
	}
	if is, again := repo.Link(ctx, signers.Commit, signers.Paths.Rotations); again != nil || !is {
		return nil, nil, err
	}
	signers.Blocked = err.Error()
	r.Logf("note: %s. The pull request of this run puts a folder in its place", signers.Blocked)
	return repo, signers, nil
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
func Base(ctx context.Context, repo *pullrequest.Repo, branch string, p signerfiles.Paths, missing bool) (*State, error) {
	s, err := tip(ctx, repo, branch, p, missing)
	if err != nil {
		return nil, err
	}
	return s, s.readRecords(ctx, commitTree{repo, s.Commit})
}

// tip reads registry and archive at the tip of a branch.
func tip(ctx context.Context, repo *pullrequest.Repo, branch string, p signerfiles.Paths, missing bool) (*State, error) {
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
	s, err := readSigners(ctx, commitTree{repo, commit}, p, missing)
	if err != nil {
		return nil, err
	}
	s.Branch, s.Commit = branch, commit
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
	if repo != nil && !repo.Now().IsZero() {
		return repo.Now()
	}
	return r.Now()
}

// By is this run as the author of a move.
func By(r *gha.Run, at time.Time, reason string) record.By {
	return record.By{At: at.UTC().Truncate(time.Second), Actor: cmp.Or(r.Getenv("GITHUB_ACTOR"), "unknown"), Reason: reason, RunURL: r.Origin().RunURL}
}

// Earlier is when the move of this run was proposed first: the time of the move in
// the branch of the change, if that makes the same move, by the same person and for
// the same reason. Nothing else is taken from a branch, which is anybody's to write:
// whatever else a move says is this run's own. The time is not in the future, and no
// longer ago than age (0: however long). It sets the branch's tip in the change, and
// returns the move that the branch has, nil if it has none. same, if it is not nil,
// reports whether that move is the same one as m in what only its kind knows.
func (s *State) Earlier(ctx context.Context, repo *pullrequest.Repo, c *pullrequest.Change, id string, m record.Move, age time.Duration, same func(was record.Move) bool) (was record.Move, err error) {
	path := s.Paths.Record(id)
	text, tip, err := repo.Earlier(ctx, *c, path, jsondoc.MaxSize, path, s.Paths.Registry, s.Paths.Archive)
	if c.Tip = tip; err != nil || text == nil {
		return nil, err
	}
	rec, wrong := record.Parse(path, text)
	if wrong != nil {
		return nil, nil
	}
	was, by, now := rec.Last(), rec.Last().Made(), m.Made()
	passed := now.At.Sub(by.At)
	if was.Kind() != m.Kind() || was.Subject() != m.Subject() || by.Actor != now.Actor || by.Reason != now.Reason || passed < 0 || age > 0 && passed > age || same != nil && !same(was) {
		return nil, nil
	}
	now.At = by.At
	if runOf(by.RunURL) == runOf(now.RunURL) { // of an earlier run of this repository
		now.RunURL = by.RunURL
	}
	return was, nil
}

// runOf is the address of a run without its number; a text that is no such address
// is itself.
func runOf(url string) string {
	if before, number, ok := strings.Cut(url, "/actions/runs/"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
		return before
	}
	return url
}
