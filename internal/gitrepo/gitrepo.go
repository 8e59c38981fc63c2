// Package gitrepo reads files of a commit out of the checked-out repository,
// with the git command: no network, no token, nothing written.
//
// It refuses commits that the checkout does not hold (a shallow one has only
// the newest), paths that git would read as options or revisions, and
// everything but regular files. Configuration that the checkout brings along
// cannot make git run another program: hooks, filters and pagers play no part
// in cat-file.
package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// Error says what git could not do; its exit code is 2.
type Error struct{ text string }

func (e *Error) Error() string { return e.text }

// ExitCode is 2: the checkout or an input must change.
func (e *Error) ExitCode() int { return 2 }

var (
	commitForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._/^~-]{0,199}$`)
	treeLine   = regexp.MustCompile(`^(\d{6}) (blob|tree|commit) ([0-9a-f]+)\t`)
)

// Commit resolves a revision to a commit id in the repository at dir.
func Commit(ctx context.Context, dir, revision string) (string, error) {
	if !commitForm.MatchString(revision) || strings.Contains(revision, "..") {
		return "", &Error{fmt.Sprintf("%.80q is no commit; give a commit id, a branch or a tag", revision)}
	}
	out, err := git(ctx, dir, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil && err.Error() != "" { // a missing commit is met with silence
		return "", &Error{fmt.Sprintf("git cannot look up commit %s: %v; run this in the checkout, owned by this user", revision, err)}
	}
	if err != nil {
		return "", &Error{fmt.Sprintf("the checkout does not hold commit %s: check out with fetch-depth: 2 (or 0), or give base-ref", revision)}
	}
	return strings.TrimSpace(string(out)), nil
}

// MergeBase is what a pull request's head was merged onto: the first parent of
// HEAD if head is its second, as the merge commit that GitHub makes for
// pull_request has them. It is "" for any other HEAD, above all for a merge
// commit that the pull request itself brings along, whose first parent its
// author has chosen.
func MergeBase(ctx context.Context, dir, head string) string {
	out, err := git(ctx, dir, "rev-parse", "--verify", "--quiet", "HEAD^2")
	if err != nil || head == "" || strings.TrimSpace(string(out)) != head {
		return ""
	}
	if out, err = git(ctx, dir, "rev-parse", "--verify", "--quiet", "HEAD^1"); err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// ReadFile gives a file of a commit; found is false if the commit has none of
// that path. commit is an id that Commit returned.
func ReadFile(ctx context.Context, dir, commit, path string, limit int64) (content []byte, found bool, err error) {
	path = strings.TrimPrefix(path, "./")
	out, err := git(ctx, dir, "ls-tree", "-z", commit, "--", ":(literal)"+path)
	if err != nil {
		return nil, false, &Error{fmt.Sprintf("git cannot list %q of commit %.12s: %v", path, commit, err)}
	}
	if len(out) == 0 {
		return nil, false, nil
	}
	m := treeLine.FindSubmatch(out)
	if m == nil || string(m[1]) != "100644" && string(m[1]) != "100755" {
		return nil, false, &Error{fmt.Sprintf("%q is no regular file in commit %.12s; links and submodules are refused", path, commit)}
	}
	size, err := git(ctx, dir, "cat-file", "-s", string(m[3]))
	var n int64
	if err == nil {
		_, err = fmt.Sscan(string(size), &n)
	}
	if err != nil || n > limit {
		return nil, false, &Error{fmt.Sprintf("%q of commit %.12s is larger than %d bytes or cannot be read", path, commit, limit)}
	}
	if content, err = git(ctx, dir, "cat-file", "blob", string(m[3])); err != nil {
		return nil, false, &Error{fmt.Sprintf("git cannot read %q of commit %.12s: %v", path, commit, err)}
	}
	return content, true, nil
}

func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"--no-pager", "--no-replace-objects"}, args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("git is not installed")
	}
	if err != nil {
		return nil, errors.New(strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
