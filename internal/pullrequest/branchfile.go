package pullrequest

import "context"

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

// Parent returns the first parent of a commit, "" if it has none.
func (r *Repo) Parent(ctx context.Context, commit string) (string, error) {
	c, _, err := r.client.Git.GetCommit(ctx, r.owner, r.name, commit)
	switch {
	case err != nil:
		return "", r.explain("cannot read commit "+short(commit), err)
	case c.GetSHA() != commit:
		return "", remote("cannot read commit %s: GitHub answered with another one; run again", short(commit))
	case len(c.Parents) == 0:
		return "", nil
	}
	return c.Parents[0].GetSHA(), nil
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
	if tree, err = r.writeTree(ctx, tree, []edit{{path, content}}); err != nil {
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
