package pullrequest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"
)

// errRaced sends Ensure back to its first look: what it had read is no longer
// so, because another run was faster.
var errRaced = errors.New("another run was faster")

// turns is how often Ensure looks again after losing a race.
const turns = 5

// foreignComment has no changing part, so that it is left once.
const foreignComment = `The last commit of this branch was not made by audit-signer, so audit-signer leaves the branch and this description alone from now on.

To hand it back, remove that commit from the branch, or close this pull request and delete the branch. Merging it as it stands is fine too.`

// ensuring is one call of Ensure.
type ensuring struct {
	*Repo
	c      Change
	branch string
	did    []string // what was written so far, for the error that may follow
}

// Propose brings the branch and the pull request of a change about, or finds that
// they are there. step fills in the change by what is in its branch already, and is
// taken again, after a pause, when a parallel run was faster. A change without files
// proposes nothing.
//
// Somebody who may push can block a branch name: by a branch above or below it, by
// commits of his own, or by a pull request from it into another branch. Then the
// change gets another name, and what was in the way is told. A later run goes on with
// the pull request that is there. The last name is one that nobody can foresee: only
// there can runs in parallel open two pull requests.
func (r *Repo) Propose(ctx context.Context, c Change, step func(Change) (Change, error)) (p Proposal, _ Change, err error) {
	var random [4]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	names := []string{c.second(), c.second() + "-2", c.second() + "-3", c.second() + "-" + hex.EncodeToString(random[:])}
	for {
		err = r.anew(ctx, c.Branch(), func() error {
			now, err := step(c)
			if err != nil || len(now.Files) == 0 {
				return err
			}
			p, err = r.Ensure(ctx, now)
			return err
		})
		blocked, is := errors.AsType[*Blocked](err)
		switch {
		case is && blocked.use != "":
			c.Name, names = blocked.use, nil
		case is && len(names) > 0:
			c.Name, names = names[0], names[1:]
		default:
			return p, c, err
		}
		if r.http.tell != nil {
			r.http.tell(blocked.Error())
		}
	}
}

// Ensure is one try of Propose. It decides on what it reads, so that it can be
// repeated and run in parallel: creating the branch is the lock, moving it never
// forces, and a pull request is looked up by its head before one is opened.
//
// A merged or closed pull request of this branch, and an open one whose branch ends
// in somebody else's commit, stop it; see State. A branch of ours is kept as long
// as it holds the wanted files, and nothing else, and the base has not changed
// them since; otherwise a commit is added, which also merges the base where that
// has moved.
//
// When Base no longer holds what Files were computed from, it is a *Conflict; so
// it is when another run has put other files into the branch since Tip. A name that
// cannot be used is a *Blocked.
func (r *Repo) Ensure(ctx context.Context, c Change) (Proposal, error) {
	if err := c.check(); err != nil {
		return Proposal{}, err
	}
	e := &ensuring{Repo: r, c: c, branch: c.Branch()}
	for turn := 1; ; turn++ {
		p, err := e.turn(ctx)
		if errors.Is(err, errRaced) && turn < turns {
			err = r.http.wait(ctx, backoff(turn), 0, "shows another run at work on "+e.branch)
			if err == nil {
				continue
			}
		}
		if _, blocked := errors.AsType[*Blocked](err); blocked {
			return Proposal{}, err
		}
		if err != nil {
			return Proposal{}, e.account(err)
		}
		return p, nil
	}
}

// anew takes a step, and takes it again, after a pause, when a parallel run was
// faster on the branch. It gives up after five turns, with the *Conflict.
func (r *Repo) anew(ctx context.Context, branch string, step func() error) error {
	for turn := 1; ; turn++ {
		err := step()
		raced, ok := errors.AsType[*Conflict](err)
		if !ok || raced.Branch != branch || turn == turns {
			return err
		}
		if err := r.http.wait(ctx, backoff(turn), 0, "shows another run at work on "+branch); err != nil {
			return err
		}
	}
}

// account adds to an error what was done before it.
func (e *ensuring) account(err error) error {
	if errors.Is(err, errRaced) {
		err = remote("cannot settle branch %s: other runs kept changing it; run again later", e.branch)
	}
	err = e.explain("cannot bring about branch "+e.branch, err)
	if own, ok := errors.AsType[*Error](err); ok && len(e.did) > 0 {
		return &Error{code: own.code, cause: own.cause, text: own.text +
			"; done so far: " + strings.Join(e.did, ", ") + "; running the same action again goes on from there"}
	}
	return err
}

// turn looks once and does what is missing.
func (e *ensuring) turn(ctx context.Context) (Proposal, error) {
	pr, other, err := e.find(ctx, e.branch, e.c.Base)
	if err != nil {
		return Proposal{}, err
	}
	if pr != nil && pr.GetState() != "open" {
		return proposal(e.branch, pr), nil
	}
	if pr == nil && other != nil {
		return Proposal{}, &Blocked{Branch: e.branch, By: fmt.Sprintf("pull request #%d leads from it to branch %s, not to %s", other.GetNumber(), clip(other.GetBase().GetRef()), e.c.Base)}
	}
	base, err := e.Head(ctx, e.c.Base)
	if err != nil {
		return Proposal{}, err
	}
	same, err := e.sameFiles(ctx, e.c.BaseCommit, base)
	if err != nil {
		return Proposal{}, err
	}
	if !same {
		return Proposal{}, &Conflict{Branch: e.c.Base, Want: e.c.BaseCommit, Have: base}
	}
	edits, err := e.edits(ctx, base)
	if err != nil {
		return Proposal{}, err
	}
	if len(edits) == 0 {
		p := proposal(e.branch, pr)
		p.State = Unchanged
		return p, nil
	}
	if pr == nil && e.c.Name == "" {
		other, err := e.elsewhere(ctx, e.c)
		if err != nil {
			return Proposal{}, err
		}
		if other != nil {
			return Proposal{}, &Blocked{Branch: e.branch, By: fmt.Sprintf("pull request #%d proposes the same, from branch %s", other.GetNumber(), other.GetHead().GetRef()), use: other.GetHead().GetRef()}
		}
	}
	head, state, err := e.settle(ctx, base, edits)
	if err != nil {
		return Proposal{}, err
	}
	if state == Foreign {
		return e.leave(ctx, pr, head)
	}
	return e.present(ctx, pr, head, state)
}

// settle makes the branch hold the edits on top of the base. The state is
// Created, Updated, Unchanged or Foreign, and speaks of the branch.
func (e *ensuring) settle(ctx context.Context, base string, edits []edit) (commit *github.Commit, state State, err error) {
	tip, exists, err := e.ref(ctx, e.branch)
	if err != nil {
		return nil, "", err
	}
	if !exists {
		if commit, err = e.commit(ctx, base, []string{base}, edits); err != nil {
			return nil, "", err
		}
		if err = e.createRef(ctx, e.branch, commit.GetSHA()); err != nil {
			return nil, "", e.blocked(ctx, raced(err))
		}
		e.did = append(e.did, "branch "+e.branch+" was created at "+short(commit.GetSHA()))
		return commit, Created, nil
	}
	head, _, err := e.client.Git.GetCommit(ctx, e.owner, e.name, tip)
	if err != nil {
		return nil, "", e.explain("cannot read commit "+short(tip), err)
	}
	made, ours := readProvenance(head.GetMessage(), e.branch, head.GetTree().GetSHA())
	if !ours {
		return head, Foreign, nil
	}
	held := made.files == e.c.digest()
	if held {
		if held, err = e.holds(ctx, tip, made.base, base, e.c.paths(), e.c.Files, e.c.Clear); err != nil {
			return nil, "", err
		}
	}
	if held {
		same, err := e.sameFiles(ctx, made.base, base)
		if err != nil || same {
			return head, Unchanged, err
		}
	} else if tip != e.c.Tip {
		return nil, "", &Conflict{Branch: e.branch, Want: e.c.Tip, Have: tip}
	}
	parents := []string{tip}
	if made.base != base {
		parents = append(parents, base)
	}
	if commit, err = e.commit(ctx, base, parents, edits); err != nil {
		return nil, "", err
	}
	if err = e.moveRef(ctx, e.branch, tip, commit.GetSHA()); err != nil {
		return nil, "", raced(err)
	}
	e.did = append(e.did, "branch "+e.branch+" was moved to "+short(commit.GetSHA()))
	return commit, Updated, nil
}

// raced turns a lost race for our own branch into another turn.
func raced(err error) error {
	if _, lost := errors.AsType[*Conflict](err); lost {
		return errRaced
	}
	return err
}

// elsewhere finds the pull request of a change under another name than its first:
// of the second one whatever its state, else an open one.
func (r *Repo) elsewhere(ctx context.Context, c Change) (*github.PullRequest, error) {
	pr, _, err := r.find(ctx, c.second(), c.Base)
	if err != nil || pr != nil {
		return pr, err
	}
	return r.openPull(ctx, c.Base, func(branch string) bool { return strings.HasPrefix(branch, c.second()+"-") })
}

// openPull finds the newest open pull request into base from a branch of this
// repository that is wanted, among the newest few hundred.
func (r *Repo) openPull(ctx context.Context, base string, wanted func(branch string) bool) (found *github.PullRequest, err error) {
	opts := &github.PullRequestListOptions{State: "open", Base: base, ListOptions: github.ListOptions{PerPage: 100}}
	for range proposedPages {
		page, res, err := r.client.PullRequests.List(ctx, r.owner, r.name, opts)
		if err != nil {
			return nil, r.explain("cannot list the open pull requests", err)
		}
		for _, pr := range page {
			if wanted(pr.GetHead().GetRef()) && pr.GetBase().GetRef() == base && r.owns(pr) {
				return pr, nil
			}
		}
		if opts.Page = res.NextPage; opts.Page == 0 {
			break
		}
	}
	return nil, nil
}

// owns reports whether a pull request is from a branch of this repository.
func (r *Repo) owns(pr *github.PullRequest) bool {
	return strings.EqualFold(pr.GetHead().GetRepo().GetFullName(), r.owner+"/"+r.name)
}

// blocked finds out whether a branch could not be created because of another
// branch: git has room for one of a/b and a/b/c only.
func (e *ensuring) blocked(ctx context.Context, err error) error {
	if status(err) != http.StatusUnprocessableEntity {
		return err
	}
	for at := e.branch; ; {
		i := strings.LastIndexByte(at, '/')
		if i < 0 {
			break
		}
		at = at[:i]
		if _, exists, err := e.ref(ctx, at); err != nil {
			return err
		} else if exists {
			return &Blocked{Branch: e.branch, By: "branch " + at + " is in the way"}
		}
	}
	if strings.Contains(err.Error(), "already exists") {
		return errRaced // by a run whose branch is too new to be read
	}
	below, _, failed := e.client.Git.ListMatchingRefs(ctx, e.owner, e.name, &github.ReferenceListOptions{Ref: "heads/" + e.branch + "/"})
	if failed != nil && status(failed) != http.StatusNotFound {
		return e.explain("cannot look for branches below "+e.branch, failed)
	}
	by := "a branch below it is in the way, or a rule of the repository"
	if len(below) > 0 {
		by = "branch " + clip(strings.TrimPrefix(below[0].GetRef(), "refs/heads/")) + " is in the way"
	}
	return &Blocked{Branch: e.branch, By: by + " (GitHub: " + e.clean(err.Error()) + ")"}
}

// leave says once that the branch of an open pull request is a person's now. A
// branch without one is blocked.
func (e *ensuring) leave(ctx context.Context, pr *github.PullRequest, head *github.Commit) (Proposal, error) {
	if pr == nil {
		return Proposal{}, &Blocked{Branch: e.branch, By: "it ends in a commit that is not ours (" + short(head.GetSHA()) + ")"}
	}
	p := proposal(e.branch, pr)
	p.State, p.Commit = Foreign, head.GetSHA()
	_, err := e.Comment(ctx, pr.GetNumber(), "foreign", foreignComment)
	return p, err
}

// proposal describes a pull request; pr may be nil.
func proposal(branch string, pr *github.PullRequest) Proposal {
	p := Proposal{Branch: branch}
	if pr == nil {
		return p
	}
	p.Number, p.URL, p.Commit = pr.GetNumber(), pr.GetHTMLURL(), pr.GetHead().GetSHA()
	p.Base = pr.GetBase().GetRef()
	switch {
	case pr.MergedAt != nil:
		p.State, p.MergedAt = Merged, pr.GetMergedAt().Time
	case pr.GetState() == "closed":
		p.State = Closed
	default:
		p.State = Proposed
	}
	return p
}

// Find looks up the pull request of a change, under whatever name of its branch, and
// whatever its state: an open one before a merged one before a closed one.
func (r *Repo) Find(ctx context.Context, c Change) (p Proposal, found bool, err error) {
	pr, _, err := r.find(ctx, c.Branch(), c.Base)
	if err == nil && pr == nil && c.Name == "" {
		pr, err = r.elsewhere(ctx, c)
	}
	if err != nil || pr == nil {
		return Proposal{}, false, err
	}
	return proposal(pr.GetHead().GetRef(), pr), true, nil
}

// find looks up the pull request from a branch into base, and an open one from it
// into another branch. It never matches by commit, and never a fork's branch of the
// same name.
func (r *Repo) find(ctx context.Context, branch, base string) (best, other *github.PullRequest, err error) {
	rank := func(pr *github.PullRequest) int {
		switch {
		case pr.GetState() == "open":
			return 3
		case pr.MergedAt != nil:
			return 2
		}
		return 1
	}
	opts := &github.PullRequestListOptions{Head: r.owner + ":" + branch, State: "all", ListOptions: github.ListOptions{PerPage: 100}}
	for {
		page, res, err := r.client.PullRequests.List(ctx, r.owner, r.name, opts)
		if err != nil {
			return nil, nil, r.explain("cannot look up the pull request of branch "+branch, err)
		}
		for _, pr := range page {
			ours := pr.GetHead().GetRef() == branch && r.owns(pr)
			if ours && pr.GetBase().GetRef() != base {
				if pr.GetState() == "open" {
					other = pr
				}
				continue
			}
			if ours && (best == nil || rank(pr) > rank(best) || rank(pr) == rank(best) && pr.GetNumber() > best.GetNumber()) {
				best = pr
			}
		}
		if res.NextPage == 0 {
			return best, other, nil
		}
		opts.Page = res.NextPage
	}
}

// OpenProposals lists the open pull requests of an operation, the newest first, from
// this repository's own branches; where some hundreds are open, among the newest.
func (r *Repo) OpenProposals(ctx context.Context, operation string) ([]Proposal, error) {
	var list []Proposal
	opts := &github.PullRequestListOptions{State: "open", ListOptions: github.ListOptions{PerPage: 100}}
	for range proposedPages {
		page, res, err := r.client.PullRequests.List(ctx, r.owner, r.name, opts)
		if err != nil {
			return nil, r.explain("cannot list the open pull requests", err)
		}
		for _, pr := range page {
			if branch := pr.GetHead().GetRef(); (strings.HasPrefix(branch, branches+operation+"/") || strings.HasPrefix(branch, elsewhere+operation+"-")) && r.owns(pr) {
				list = append(list, proposal(branch, pr))
			}
		}
		if opts.Page = res.NextPage; opts.Page == 0 {
			break
		}
	}
	return list, nil
}

// proposedPages bounds what OpenProposals asks for.
const proposedPages = 5

// write carries out one change of state. An answer that leaves open whether it
// was applied (5xx, a cut connection, half a body) is followed by a pause and
// by applied, which reads the state again; only when it says no is the change
// sent once more. applied may be nil where the change is content-addressed.
func (r *Repo) write(ctx context.Context, change func() error, applied func() (bool, error)) error {
	for attempt := 1; ; attempt++ {
		begun := time.Now()
		err := change()
		if err == nil || ctx.Err() != nil || !ambiguous(err, attempt) {
			return err
		}
		why := "cuts the connection or gives half an answer"
		if code := status(err); code != 0 {
			why = fmt.Sprintf("answers %d", code)
		}
		if err := r.http.wait(ctx, backoff(attempt), time.Since(begun), why); err != nil {
			return err
		}
		if applied == nil {
			continue
		}
		if done, err := applied(); done || err != nil {
			return err
		}
	}
}

// ambiguous tells whether an error leaves open what happened.
func ambiguous(err error, attempt int) bool {
	if _, own := errors.AsType[*Error](err); own {
		return false // the budget is used up
	}
	switch code := status(err); {
	case code == http.StatusConflict || code == http.StatusRequestTimeout:
		return attempt < conflictTries
	case code != 0:
		return code >= 500
	}
	return !permanent(err)
}
