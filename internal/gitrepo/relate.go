package gitrepo

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// Event is what a runner says about the commits of a run.
type Event struct {
	// Name is such as pull_request, merge_group, push or schedule.
	Name string
	// Base and Head are the commits before and after the change, as the event's
	// payload names them. Tip is the ref that the base's branch has in the checkout.
	Base, Head, Tip string
	// SHA is GITHUB_SHA, "" where there is none.
	SHA string
	// Created and Forced are a push's.
	Created, Forced bool
}

// Pair is what is compared: the change leads from Base to Head. An empty Base says
// that there is nothing before.
type Pair struct{ Base, Head string }

// Relate says which commits an event compares, in the checkout at dir. It is the
// one place that relates HEAD, the commits of the event, GITHUB_SHA and the base;
// a relation that is not listed here is an error, because a check would be attached
// to a commit that nobody has judged.
//
//   - pull_request: HEAD is the merge of the event's head onto its base, as GitHub
//     makes it, or that head itself, which then must contain the base.
//   - merge_group and push: HEAD is the event's head and contains its base. A push
//     that creates its branch has no base.
func Relate(ctx context.Context, dir string, e Event) (Pair, error) {
	refuse := func(format string, args ...any) (Pair, error) {
		if is, err := shallow(ctx, dir); err != nil || is {
			format += ". This checkout is shallow, so its history is not here: check out with fetch-depth: 0"
		}
		return Pair{}, &Error{"the event " + e.Name + " and the checkout do not fit, so nothing was judged: " + fmt.Sprintf(format, args...)}
	}
	head, err := Commit(ctx, dir, "HEAD")
	if err != nil {
		return Pair{}, err
	}
	switch {
	case e.Forced:
		return refuse("this push was forced, and the commit that it replaced is not before it any more. Compare by hand, with base-ref")
	case !idForm.MatchString(e.Head) || e.Base == "" && !e.Created:
		return refuse("the payload does not name the commits before and after the change. Leave GITHUB_EVENT_PATH to the runner, or give base-ref")
	case e.Created && e.Name == "push" && head == e.Head:
		return Pair{Head: head}, nil
	case e.Created:
		return refuse("HEAD (%.12s) is not the commit that was pushed (%.12s)", head, e.Head)
	case !idForm.MatchString(e.Base):
		return refuse("the payload names the base %.60q, which is no commit id", e.Base)
	case e.SHA != "" && head != e.SHA && head != e.Head:
		return refuse("HEAD (%.12s) is neither GITHUB_SHA (%.12s) nor the head of the event (%.12s): let actions/checkout choose the commit", head, e.SHA, e.Head)
	}
	base := e.Base
	if e.Name == "pull_request" && head != e.Head {
		parents, err := parents(ctx, dir, head)
		if err != nil {
			return Pair{}, err
		}
		if len(parents) != 2 || parents[1] != e.Head {
			return refuse("HEAD (%.12s) is not the merge of the head that the event names (%.12s); GitHub's merge of an earlier head was checked out. Run it again", head, e.Head)
		}
		if base, err = Commit(ctx, dir, parents[0]); err != nil {
			return Pair{}, err
		}
		if ok, err := Ancestor(ctx, dir, e.Base, base); err != nil || !ok {
			if err != nil {
				return Pair{}, err
			}
			return refuse("HEAD merges onto %.12s, which does not contain the base that the event names (%.12s). Run it again", base, e.Base)
		}
		return Pair{base, head}, nil
	}
	if head != e.Head {
		return refuse("HEAD (%.12s) is not the head that the event names (%.12s)", head, e.Head)
	}
	for _, b := range []string{e.Base, e.Tip} {
		if b == "" {
			continue
		}
		if b, err = Commit(ctx, dir, b); err != nil {
			return Pair{}, err
		}
		if ok, err := Ancestor(ctx, dir, b, head); err != nil {
			return Pair{}, err
		} else if !ok {
			return refuse("HEAD (%.12s) is behind its base: it does not contain %.12s. Update the branch, or check out the merge commit (no ref in actions/checkout)", head, b)
		}
	}
	if base, err = Commit(ctx, dir, base); err != nil {
		return Pair{}, err
	}
	return Pair{base, head}, nil
}

func parents(ctx context.Context, dir, commit string) ([]string, error) {
	out, err := git(ctx, dir, "rev-list", "--parents", "--max-count=1", "--end-of-options", commit, "--")
	ids := strings.Fields(string(out))
	if err != nil || len(ids) == 0 {
		return nil, &Error{fmt.Sprintf("git cannot read the parents of commit %.12s: %v", commit, err)}
	}
	return ids[1:], nil
}

// Ancestor reports whether one commit is in the history of another, or is that one.
func Ancestor(ctx context.Context, dir, old, commit string) (bool, error) {
	if _, err := Commit(ctx, dir, old); err != nil {
		return false, err
	}
	out, err := git(ctx, dir, "rev-list", "--max-count=1", "--end-of-options", old, "^"+commit, "--")
	if err != nil {
		return false, &Error{fmt.Sprintf("git cannot relate the commits %.12s and %.12s: %v", old, commit, err)}
	}
	return len(out) == 0, nil
}

// FullRevision reports whether a revision can mean one commit only: an id, a ref by
// its full name, or HEAD and those before it. A short name is whatever tag or branch
// the repository has.
func FullRevision(revision string) bool {
	return idForm.MatchString(revision) || strings.HasPrefix(revision, "refs/") || headForm.MatchString(revision)
}

var headForm = regexp.MustCompile(`^HEAD([~^][0-9]*)*$`)

// Has reports whether the checkout has a ref, by its full name.
func Has(ctx context.Context, dir, ref string) (bool, error) {
	if ref == "" {
		return false, nil
	}
	out, err := git(ctx, dir, "for-each-ref", "--count=1", "--format=%(refname)", "--", ref)
	if err != nil {
		return false, &Error{fmt.Sprintf("git cannot look for %s: %v", ref, err)}
	}
	return strings.TrimSpace(string(out)) == ref, nil
}
