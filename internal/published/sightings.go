package published

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// The bounds of what is asked for the sake of advice.
const (
	sightingTime  = time.Minute
	sightingPulls = 10
)

// Explain looks where the signers stand that a verification did not know, and
// lets its findings say what to do: a registry that is stale is refreshed, a
// pull request merged, an entry that was removed restored. files are those of
// the verification and rows what it has kept of such signers, nil where it was made
// elsewhere; p is where the repository has the files. No verdict depends on
// it, so whatever cannot be read is an error that only explains why the
// findings say less.
func Explain(ctx context.Context, repo *pullrequest.Repo, p signerfiles.Paths, branch string, files record.Files, r *chain.Report, rows *trust.Claims) (err error) {
	unknown := unknownTo(r)
	if len(unknown) == 0 {
		return nil
	}
	advice := map[string]string{}
	for _, id := range unknown {
		if rec := files.Naming(id); rec != nil {
			advice[id] = fmt.Sprintf("the record of rotation %s names it, so its entry has stood there: restore it from the repository's history", rec.ID)
		}
	}
	if repo != nil {
		ctx, cancel := context.WithTimeout(ctx, sightingTime)
		defer cancel()
		err = sight(ctx, repo, p, branch, unknown, r, rows, advice)
	}
	trust.Explain(r.Findings, advice)
	return err
}

// unknownTo are the signer ids of the rows for which no entry speaks.
func unknownTo(r *chain.Report) (ids []string) {
	if r.ByRule[chain.RuleUnknownSigner] == 0 {
		return nil
	}
	for id, use := range r.Signers {
		if use.Entry == "" && id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// early says what a pull request that would publish a signer means for the rows
// under its id, and whether it is that they are genuine. An id is anybody's to
// write: the rows must be signed by the proposed key.
func early(ctx context.Context, pr pullrequest.Proposal, proposed *State, id string, events int64, rows *trust.Claims) (advice string, genuine bool) {
	pull := fmt.Sprintf("pull request #%d (%s) would publish ", pr.Number, pr.URL)
	signed, kept, err := rows.Signed(ctx, id, trust.New(proposed.Registry, proposed.Archive, trust.Options{}))
	switch {
	case err != nil || kept == 0:
		pull += "a signer of this id, and whether its key has signed this row is not known here"
	case signed == events:
		return pull + "it, is not merged, and its key has signed this row: it was deployed too early. Review that pull request and merge it before anything else, then verify again; if nobody means to merge it, treat the row as forged", true
	case signed == 0 && kept == events:
		return pull + "a signer of this id, but its key has not signed this row: treat the row as forged until somebody shows otherwise, and merge nothing for its sake", false
	default:
		pull += fmt.Sprintf("a signer of this id, and its key has signed %d of the %d rows under it", signed, events)
	}
	return pull + ": before anybody merges it, verify the chain with the files of that pull request, and treat a row that fails with them as forged", false
}

// sight looks for signers on the branch, and in the pull requests that would
// publish them there.
func sight(ctx context.Context, repo *pullrequest.Repo, p signerfiles.Paths, branch string, ids []string, r *chain.Report, rows *trust.Claims, advice map[string]string) (why error) {
	if branch == "" {
		var err error
		if branch, err = repo.DefaultBranch(ctx); err != nil {
			return err
		}
	}
	commit, err := repo.Head(ctx, branch)
	if err != nil {
		return err
	}
	s, err := readSigners(ctx, commitTree{repo, commit}, p, false)
	if err != nil {
		return err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool {
		known := s.knows(id)
		if known {
			advice[id] = fmt.Sprintf("branch %s has it (commit %.12s), so the registry or archive that this verification was given is stale: take the files of that branch and verify again", branch, commit)
		}
		return known
	})
	if len(ids) == 0 {
		return nil
	}
	open, err := repo.OpenProposals(ctx, "add-signer")
	if err != nil {
		return err
	}
	genuine := map[string]bool{}
	for _, pr := range open[:min(len(open), sightingPulls)] {
		if pr.Base != branch {
			continue
		}
		proposed, err := readSigners(ctx, commitTree{repo, pr.Commit}, p, false)
		if err != nil {
			why = err
			continue
		}
		for _, id := range ids {
			if proposed.knows(id) && !genuine[id] {
				advice[id], genuine[id] = early(ctx, pr, proposed, id, r.Signers[id].Events, rows)
			}
		}
	}
	return why
}

func (s *State) knows(id string) bool {
	_, registered := s.Registry.Find(id)
	_, archived := s.Archive.Find(id)
	return registered || archived
}
