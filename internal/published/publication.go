package published

import (
	"context"
	"fmt"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/readiness"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
)

// Addition is the change that publishes a signer, as far as its branch depends
// on it: which registry it adds which key to, under which id.
func Addition(p signerfiles.Paths, s record.Signer) pullrequest.Change {
	return pullrequest.Change{
		Operation: "add-signer",
		Key:       fmt.Sprintf("%s\n%s\n%s\n%s", p.Registry, s.ID, s.Fingerprint, s.KMSKeyARN),
	}
}

// Promotion is the change that lets a standby, which is published already,
// replace another signer: its record alone changes.
func Promotion(p signerfiles.Paths, standby, replaced record.Signer) pullrequest.Change {
	return pullrequest.Change{Operation: "promote-signer", Key: fmt.Sprintf("%s\n%s\n%s", p.Registry, standby.ID, replaced.ID)}
}

// FindAddition finds the pull request that publishes a signer, and when it was merged
// into the branch, by GitHub's clock. Its number and that time are zero where
// there is none.
func (s *State) FindAddition(ctx context.Context, repo *pullrequest.Repo, signer record.Signer) (p pullrequest.Proposal, mergedAt time.Time, err error) {
	c := Addition(s.Paths, signer)
	c.Base = s.Branch
	if p, _, err = repo.Find(ctx, c); p.State == pullrequest.Merged {
		mergedAt = p.MergedAt
	}
	return p, mergedAt, err
}

// Verifiers asks the listed verifiers which registry they serve. A list that
// cannot be asked is an error with exit code 2.
func Verifiers(ctx context.Context, urls []string) ([]rotation.Verifier, error) {
	answers, err := readiness.Ask(ctx, urls, readiness.Options{})
	if err != nil {
		return nil, err
	}
	list := make([]rotation.Verifier, len(answers))
	for i, a := range answers {
		list[i] = rotation.Verifier(a)
	}
	return list, nil
}

// publications bounds how many of the latest publications of a registry are read
// to see what a verifier serves.
const publications = 20

// Trusting names the verifiers that may trust a compromised key still. What was
// published since that was declared is read where one serves other files than
// those of now; where it cannot be read, that one is named too, beside the error.
func (s *State) Trusting(ctx context.Context, repo *pullrequest.Repo, list []rotation.Verifier, now time.Time) ([]finding.Finding, error) {
	fs := rotation.Trusting(s.Files, list, nil, now)
	if finding.Count(fs, finding.Error) == 0 {
		return fs, nil
	}
	earlier, err := s.earlier(ctx, repo, rotation.Declared(s.Files))
	return rotation.Trusting(s.Files, list, earlier, now), err
}

// earlier reads what was published since a time, as far as it is sound.
func (s *State) earlier(ctx context.Context, repo *pullrequest.Repo, since time.Time) (list []record.Files, err error) {
	commits, err := repo.History(ctx, s.Commit, s.Paths.Registry, since.Add(-rotation.MaxSkew), publications)
	if err != nil {
		return nil, err
	}
	for _, commit := range commits {
		was, err := readSigners(ctx, commitTree{repo, commit}, s.Paths, false)
		switch {
		case err == nil:
			list = append(list, was.Files)
		case !gha.IsMisuse(err): // of GitHub, not of that commit's files
			return list, err
		}
	}
	return list, nil
}

// Reach tells whether a published signer has reached the verifiers. It asks
// GitHub and them only for what the answer rests on.
func (s *State) Reach(ctx context.Context, repo *pullrequest.Repo, signer record.Signer, urls []string, now time.Time) (r rotation.Readiness, err error) {
	p := rotation.Publication{SignerID: signer.ID, Files: s.Files}
	back := rotation.FallsBackTo(p.Files, signer.ID)
	if r = p.Reach(now); r.State == record.Unproven && (back || len(urls) == 0) { // the time is not known yet
		if p.PublishedAt, err = s.publishedAt(ctx, repo, signer, now.Add(-rotation.Wait(s.Files, signer.ID))); err != nil {
			return r, err
		}
		r = p.Reach(now)
	}
	if len(urls) == 0 || back && r.State == record.Passed {
		return r, nil
	}
	p.Verifiers, err = Verifiers(ctx, urls)
	return p.Reach(now), err
}

// publishedAt is since when the branch has a signer with this key, by the times of
// its first parents, as far back as a time: whatever a record says, and whether
// there is one. It is zero where that is not to be found out.
func (s *State) publishedAt(ctx context.Context, repo *pullrequest.Repo, signer record.Signer, until time.Time) (at time.Time, err error) {
	line, err := repo.FirstParents(ctx, s.Commit, until, maxSteps)
	if err != nil {
		return at, err
	}
	for _, c := range line {
		was, err := readSigners(ctx, commitTree{repo, c.ID}, s.Paths, true)
		if err != nil && !gha.IsMisuse(err) {
			return time.Time{}, err
		}
		if err != nil {
			break
		}
		entry, ok := was.Registered(signer.ID)
		if !ok || !record.SignerOf(entry).SameKey(signer) {
			break
		}
		at = c.At
	}
	return at, nil
}

// maxSteps bounds the merges that publishedAt looks at.
const maxSteps = 50
