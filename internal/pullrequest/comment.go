package pullrequest

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-github/v60/github"
)

var markerForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// path is an API path below this repository.
func (r *Repo) path(format string, args ...any) string {
	return fmt.Sprintf("repos/%s/%s/", r.owner, r.name) + fmt.Sprintf(format, args...)
}

// Comment keeps one comment of a pull request up to date. The comment begins
// with a hidden line that holds the marker, and is edited in place; an equal
// one is not written. Only a comment of a bot, or of the pull request's own
// author, is taken for it: a person who quotes the marker keeps their words.
func (r *Repo) Comment(ctx context.Context, number int, marker, body string) (changed bool, err error) {
	if !markerForm.MatchString(marker) {
		return false, usage("comment marker %q is not a lower-case word; use one such as status", clip(marker))
	}
	body = "<!-- audit-signer:" + marker + " -->\n" + body
	if len([]rune(body)) > largestBody {
		return false, usage("the comment has more than the %d characters that GitHub takes; shorten it", largestBody)
	}
	what := fmt.Sprintf("cannot comment on pull request %d", number)
	old, err := r.ownComment(ctx, number, marker)
	if err != nil {
		return false, r.explain(what, err)
	}
	if old != nil && normal(old.GetBody()) == normal(body) {
		return false, nil
	}
	comment := &github.IssueComment{Body: &body}
	if old != nil {
		err = r.write(ctx, func() error {
			_, _, err := r.client.Issues.EditComment(ctx, r.owner, r.name, old.GetID(), comment)
			return err
		}, nil)
	} else {
		err = r.write(ctx, func() error {
			_, _, err := r.client.Issues.CreateComment(ctx, r.owner, r.name, number, comment)
			return err
		}, func() (bool, error) {
			made, err := r.ownComment(ctx, number, marker)
			return made != nil, err
		})
	}
	return err == nil, r.explain(what, err)
}

// ownComment finds the oldest comment that carries the marker and is ours.
func (r *Repo) ownComment(ctx context.Context, number int, marker string) (*github.IssueComment, error) {
	pr, _, err := r.client.PullRequests.Get(ctx, r.owner, r.name, number)
	if err != nil {
		return nil, err
	}
	opts := &github.IssueListCommentsOptions{ListOptions: github.ListOptions{PerPage: 100}}
	for {
		page, res, err := r.client.Issues.ListComments(ctx, r.owner, r.name, number, opts)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			ours := c.GetUser().GetType() == "Bot" || c.GetUser().GetLogin() == pr.GetUser().GetLogin()
			first, _, _ := strings.Cut(normal(c.GetBody()), "\n")
			if ours && first == "<!-- audit-signer:"+marker+" -->" {
				return c, nil
			}
		}
		if res.NextPage == 0 {
			return nil, nil
		}
		opts.Page = res.NextPage
	}
}
