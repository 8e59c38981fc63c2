package pullrequest

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-github/v60/github"
)

// unfinished ends the text of a pull request whose reviewers, assignees and
// labels are not all asked for yet. It is removed as the last step, so that a
// run that was killed in between is finished by the next one, and nobody is
// asked twice.
const unfinished = "\n\n<!-- audit-signer:unfinished -->"

// workflowToken is who GITHUB_TOKEN acts as.
const workflowToken = "github-actions[bot]"

// present makes the pull request of a branch show the change. state is what
// happened to the branch.
func (e *ensuring) present(ctx context.Context, pr *github.PullRequest, head *github.Commit, state State) (Proposal, error) {
	opened := false
	if pr == nil {
		var err error
		if pr, opened, err = e.open(ctx); err != nil {
			return Proposal{}, err
		}
	}
	var notes []string
	text := normal(pr.GetBody())
	if strings.HasSuffix(text, normal(unfinished)) {
		var err error
		if notes, err = e.invite(ctx, pr); err != nil {
			return Proposal{}, err
		}
	}
	rewritten := pr.GetTitle() != e.c.Title || text != normal(e.c.Body)
	if rewritten {
		if err := e.rewrite(ctx, pr.GetNumber()); err != nil {
			return Proposal{}, err
		}
	}
	p := proposal(e.branch, pr)
	p.Commit, p.Notes = head.GetSHA(), notes
	switch {
	case opened:
		p.State = Created
	case state != Unchanged || rewritten:
		p.State = Updated
	default:
		p.State = Unchanged
		return p, nil
	}
	// https://docs.github.com/actions/concepts/security/github_token
	if pr.GetUser().GetLogin() == workflowToken || head.GetAuthor().GetName() == workflowToken {
		p.Notes = append(p.Notes, "no workflow starts by itself for what GITHUB_TOKEN opens or changes, so required checks stay absent: close and reopen the pull request, or give the token input a GitHub App token")
	}
	return p, nil
}

// normal is a text as GitHub may give it back.
func normal(text string) string {
	return strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
}

// open opens the pull request. opened is false when another run was faster.
func (e *ensuring) open(ctx context.Context) (pr *github.PullRequest, opened bool, err error) {
	body := e.c.Body
	if len(e.c.Labels)+len(e.c.Reviewers)+len(e.c.TeamReviewers)+len(e.c.Assignees) > 0 {
		body += unfinished
	}
	want := &github.NewPullRequest{
		Title: &e.c.Title, Body: &body, Head: &e.branch, Base: &e.c.Base,
	}
	look := func() (bool, error) {
		pr, _, err = e.find(ctx, e.branch, e.c.Base)
		if err == nil && pr != nil && pr.GetState() != "open" {
			err = errRaced // somebody has closed it meanwhile
		}
		return pr != nil, err
	}
	for try := 1; ; try++ {
		failed := e.write(ctx, func() (err error) {
			pr, _, err = e.client.PullRequests.Create(ctx, e.owner, e.name, want)
			if err == nil && pr.GetNumber() == 0 {
				return errNoID
			}
			return err
		}, look)
		if failed == nil {
			e.did = append(e.did, "pull request "+pr.GetHTMLURL()+" is open")
			return pr, true, nil
		}
		if status(failed) != http.StatusUnprocessableEntity {
			return nil, false, e.explain("cannot open the pull request", failed)
		}
		// One exists already, or GitHub has not seen the new branch yet.
		found, err := look()
		if found || err != nil {
			return pr, false, err
		}
		if try == conflictTries {
			return nil, false, e.explain("cannot open the pull request", failed)
		}
		if err := e.http.wait(ctx, backoff(try), 0, "does not know the new branch yet"); err != nil {
			return nil, false, err
		}
	}
}

// rewrite sets title and body; setting them twice does no harm.
func (e *ensuring) rewrite(ctx context.Context, number int) error {
	text := &github.PullRequest{Title: &e.c.Title, Body: &e.c.Body}
	err := e.write(ctx, func() error {
		_, _, err := e.client.PullRequests.Edit(ctx, e.owner, e.name, number, text)
		return err
	}, nil)
	return e.explain("cannot update title and text of the pull request", err)
}

// invite asks for reviewers, assignees and labels, as far as they are missing.
// What GitHub refuses becomes a note: the pull request stands without it.
func (e *ensuring) invite(ctx context.Context, pr *github.PullRequest) (notes []string, err error) {
	number := pr.GetNumber()
	for _, step := range []struct {
		what string
		want []string
		have func(*github.PullRequest) []string
		send func(missing []string) error
	}{
		{"request the reviewers", e.c.Reviewers, reviewersOf, func(missing []string) error {
			_, _, err := e.client.PullRequests.RequestReviewers(ctx, e.owner, e.name, number, github.ReviewersRequest{Reviewers: missing})
			return err
		}},
		{"request the reviewing teams", e.c.TeamReviewers, teamsOf, func(missing []string) error {
			_, _, err := e.client.PullRequests.RequestReviewers(ctx, e.owner, e.name, number, github.ReviewersRequest{TeamReviewers: missing})
			return err
		}},
		{"assign", e.c.Assignees, assigneesOf, func(missing []string) error {
			_, _, err := e.client.Issues.AddAssignees(ctx, e.owner, e.name, number, missing)
			return err
		}},
		{"add the labels", e.c.Labels, labelsOf, func(missing []string) error { // go-github would send a bare array
			return e.send(ctx, http.MethodPost, e.path("issues/%d/labels", number), map[string][]string{"labels": missing}, nil)
		}},
	} {
		missing := without(step.want, step.have(pr))
		if len(missing) == 0 {
			continue
		}
		err := e.write(ctx, func() error { return step.send(missing) }, func() (bool, error) {
			now, _, err := e.client.PullRequests.Get(ctx, e.owner, e.name, number)
			return err == nil && len(without(missing, step.have(now))) == 0, err
		})
		switch status(err) {
		case http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity:
			err = e.explain("could not "+step.what+" "+clip(strings.Join(missing, ", ")), err)
			notes = append(notes, err.Error())
		default:
			if err != nil {
				return nil, e.explain("cannot "+step.what, err)
			}
		}
	}
	return notes, nil
}

func reviewersOf(pr *github.PullRequest) []string {
	return names(pr.RequestedReviewers, (*github.User).GetLogin)
}

func teamsOf(pr *github.PullRequest) []string {
	return names(pr.RequestedTeams, (*github.Team).GetSlug)
}

func assigneesOf(pr *github.PullRequest) []string {
	return names(pr.Assignees, (*github.User).GetLogin)
}

func labelsOf(pr *github.PullRequest) []string { return names(pr.Labels, (*github.Label).GetName) }

func names[T any](all []T, name func(T) string) []string {
	var out []string
	for _, one := range all {
		out = append(out, name(one))
	}
	return out
}

// without returns what of want is not in have; GitHub ignores case in names.
func without(want, have []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(name string) bool {
		return slices.ContainsFunc(have, func(h string) bool { return strings.EqualFold(h, name) })
	})
}
