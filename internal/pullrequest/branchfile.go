package pullrequest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-github/v60/github"
)

// ReadBranchFile returns a file at the tip of a branch, and that tip. Without
// the branch, commit is "" and found is false; see ReadFile for what it refuses.
func (r *Repo) ReadBranchFile(ctx context.Context, branch, path string, limit int64) (content []byte, commit string, found bool, err error) {
	if err := checkBranch(branch); err != nil {
		return nil, "", false, err
	}
	commit, exists, err := r.ref(ctx, branch)
	if err != nil {
		return nil, "", false, err
	}
	if !exists {
		// 404 also means that the token cannot see the repository, which must
		// not read as "there is no checkpoint yet".
		if _, err := r.DefaultBranch(ctx); err != nil {
			return nil, "", false, err
		}
		return nil, "", false, nil
	}
	content, found, err = r.ReadFile(ctx, commit, path, limit)
	return content, commit, found, err
}

// Earlier returns a file as an earlier run has left it at the tip of the branch of a
// change, nil if that is no commit of ours that changes nothing but the given paths,
// and the branch's tip for Change.Tip. Whoever may push can make such a commit, too:
// what is taken from it must be checked, or decide nothing.
func (r *Repo) Earlier(ctx context.Context, c Change, path string, limit int64, paths ...string) (content []byte, tip string, err error) {
	tip, exists, err := r.ref(ctx, c.Branch())
	if err != nil || !exists {
		return nil, "", err
	}
	head, _, err := r.client.Git.GetCommit(ctx, r.owner, r.name, tip)
	if err != nil {
		return nil, tip, r.explain("cannot read commit "+short(tip), err)
	}
	made, ours := readProvenance(head.GetMessage(), c.Branch(), head.GetTree().GetSHA())
	if ours {
		ours, err = r.holds(ctx, tip, made.base, c.BaseCommit, paths, nil, c.Clear)
	}
	if err != nil || !ours {
		return nil, tip, err
	}
	content, _, err = r.ReadFile(ctx, tip, path, limit)
	if own, is := errors.AsType[*Error](err); is && own.code == 2 { // a link, or too large: nothing of ours
		return nil, tip, nil
	}
	return content, tip, err
}

// holds tells whether a commit is another one, base, with files at some paths:
// these files, or any if that is nil. The base must be a commit of the branch
// that has its tip at on. clear is Change.Clear.
func (r *Repo) holds(ctx context.Context, commit, base, on string, paths []string, files map[string][]byte, clear []string) (bool, error) {
	if base != on {
		c, _, err := r.client.Repositories.CompareCommits(ctx, r.owner, r.name, base, on, &github.ListOptions{PerPage: 1})
		if status(err) == http.StatusNotFound {
			return false, nil
		}
		if err != nil {
			return false, r.explain("cannot compare commits "+short(base)+" and "+short(on), err)
		}
		if c.GetMergeBaseCommit().GetSHA() != base {
			return false, nil
		}
	}
	if same, err := r.sameBut(ctx, commit, base, "", paths, clear); err != nil || !same {
		return false, err
	}
	for path, content := range files {
		e, found, err := r.lookup(ctx, commit, path)
		if err != nil || !found || e.id != blobID(content) {
			return false, err
		}
		if was, _, err := r.below(ctx, base, path, clear); err != nil || e != was && e.mode != "100644" {
			return false, err
		}
	}
	return true, nil
}

// sameBut tells whether two trees differ at most at some paths. at is where the
// trees are, "" for the root, else with a slash at its end.
func (r *Repo) sameBut(ctx context.Context, a, b, at string, paths, clear []string) (bool, error) {
	if a == b {
		return true, nil
	}
	inA, err := r.tree(ctx, a)
	if err != nil {
		return false, err
	}
	var inB []entry
	if b != "" {
		if inB, err = r.tree(ctx, b); err != nil {
			return false, err
		}
	}
	left := map[string]entry{}
	for _, e := range inB {
		left[e.name] = e
	}
	for _, e := range inA {
		was, path := left[e.name], at+e.name
		delete(left, e.name)
		if slices.Contains(clear, path) {
			if !e.folder() {
				return false, nil
			}
			if !was.folder() {
				was = entry{}
			}
		}
		switch {
		case e == was || slices.Contains(paths, path) && !slices.Contains(clear, path):
		case e.folder() && (was.folder() || was.id == "") && slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(p, path+"/") }):
			if same, err := r.sameBut(ctx, e.id, was.id, path+"/", paths, clear); err != nil || !same {
				return false, err
			}
		default:
			return false, nil
		}
	}
	return len(left) == 0, nil
}

// Step is a commit as the history of its branch shows it.
type Step struct {
	ID, Message string
	Merge       bool // it has more than one parent
}

// Line lists a commit and everything before it, the newest first, a hundred
// commits a call. It ends early at a merge, which is its last step: a branch that
// nobody merges into is one line. A list with a gap is an error.
func (r *Repo) Line(ctx context.Context, commit string) (line []Step, err error) {
	next := commit
	opts := &github.CommitsListOptions{SHA: commit, ListOptions: github.ListOptions{PerPage: 100}}
	for {
		page, res, err := r.client.Repositories.ListCommits(ctx, r.owner, r.name, opts)
		if err != nil {
			return nil, r.explain("cannot list the commits before "+short(commit), err)
		}
		for _, c := range page {
			if c.GetSHA() != next {
				return nil, remote("cannot list the commits before %s: GitHub names %s where %s is due; run again", short(commit), clip(c.GetSHA()), clip(next))
			}
			line = append(line, Step{ID: next, Message: c.GetCommit().GetMessage(), Merge: len(c.Parents) > 1})
			if len(c.Parents) > 1 {
				return line, nil
			}
			next = ""
			if len(c.Parents) == 1 {
				next = c.Parents[0].GetSHA()
			}
		}
		if opts.Page = res.NextPage; opts.Page == 0 {
			break
		}
	}
	if next != "" {
		return nil, remote("cannot list the commits before %s: GitHub's list ends before %s; run again", short(commit), clip(next))
	}
	return line, nil
}

// WriteBranchFile commits one file to a branch of its own, by compare-and-swap:
// onto is the tip that was read, "" when the branch did not exist, and a branch
// that is no longer there is a *Conflict with nothing overwritten. It returns
// the new tip. The default branch is refused: it changes by pull request only.
func (r *Repo) WriteBranchFile(ctx context.Context, branch, path string, content []byte, onto, message string) (string, error) {
	if err := checkBranch(branch); err != nil {
		return "", err
	}
	if err := checkPath(path); err != nil {
		return "", err
	}
	if onto != "" && !isID(onto) {
		return "", usage("%q is not a full commit id; give the commit that ReadBranchFile returned", clip(onto))
	}
	main, err := r.DefaultBranch(ctx)
	if err != nil {
		return "", err
	}
	if branch == main {
		return "", usage("branch %s is the default branch, which changes by pull request only; name a branch of its own, such as audit-checkpoint", branch)
	}
	at, _, err := r.ref(ctx, branch)
	if err != nil {
		return "", err
	}
	if at != onto {
		return "", &Conflict{Branch: branch, Want: onto, Have: at}
	}
	tree, parents := "", []string(nil)
	if onto != "" {
		under, _, err := r.client.Git.GetCommit(ctx, r.owner, r.name, onto)
		if err != nil {
			return "", r.explain("cannot read commit "+short(onto), err)
		}
		tree, parents = under.GetTree().GetSHA(), []string{onto}
	}
	if tree, err = r.writeTree(ctx, tree, []edit{{path: path, content: content}}); err != nil {
		return "", err
	}
	commit, err := r.writeCommit(ctx, message, tree, parents)
	if err != nil {
		return "", err
	}
	if onto == "" {
		err = r.createRef(ctx, branch, commit.GetSHA())
	} else {
		err = r.moveRef(ctx, branch, onto, commit.GetSHA())
	}
	if err != nil {
		return "", err
	}
	return commit.GetSHA(), nil
}
