package main

import (
	"context"
	"fmt"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// plan is the move of this run, in the record with this id, and the pull request
// that makes it. Done says that it was made before, or that the signer is published
// already and nothing is left to do.
type plan struct {
	id     string
	move   record.Move
	change pullrequest.Change
	done   bool
}

// planned chooses the move: a signer that is not published is opened; one that is,
// and that replaces nobody yet, is promoted where it is to replace another signer.
func planned(in inputs, s *published.State, k *key, by record.By, out *record.Signer, policy record.Policy) (plan, error) {
	open := &record.Open{By: by, Signer: k.signer, Replaces: out, Policy: policy, Key: k.public}
	p := plan{id: k.rotation, move: open, change: in.Change(s, published.Addition(s.Paths, k.signer))}
	p.change.Title = published.Title("Publish audit signer", k.signer.ID)
	entry, isPublished := s.Registered(k.signer.ID)
	if !isPublished {
		return p, nil
	}
	is := record.SignerOf(entry)
	if !is.SameKey(k.signer) {
		return p, gha.Misuse("signer id %q is published with another key (%s); an id is one key for ever, choose another", is.ID, is.Fingerprint)
	}
	r := s.Publishing(is.ID)
	if p.id = record.IDFor(is.ID); r != nil {
		p.id = r.ID
	}
	p.done = r != nil && r.State().Stage != record.Standing // it has replaced a signer
	if out == nil || p.done && r.Opening().Kind() == record.Opened {
		p.done = true
		return p, nil
	}
	p.move = &record.Promote{By: by, Signer: is, Replaces: *out, Policy: policy}
	p.change = in.Change(s, published.Promotion(s.Paths, is, *out))
	p.change.Title = published.Title("Let the standby replace the audit signer:", is.ID)
	return p, nil
}

// propose brings the pull request about, or finds that it is there.
func (p plan) propose(ctx context.Context, in inputs, repo *pullrequest.Repo, s *published.State, k *key) (pr pullrequest.Proposal, err error) {
	if p.done {
		pr, found, err := repo.Find(ctx, p.change)
		if err == nil && !found {
			pr = pullrequest.Proposal{State: pullrequest.Merged, Branch: p.change.Branch()}
		}
		return pr, err
	}
	pr, _, err = repo.Propose(ctx, p.change, func(change pullrequest.Change) (pullrequest.Change, error) {
		was, err := s.Earlier(ctx, repo, &change, p.id, p.move, 0, nil)
		if err != nil {
			return change, err
		}
		if err := p.possession(ctx, in, k, was); err != nil {
			return change, err
		}
		after, files, err := s.Apply(p.id, p.move, p.move.Made().At, rotation.EvidenceAge)
		if err != nil {
			return change, err
		}
		change.Files = files
		// The reason stays out of the message, where "[skip ci]" or "fixes #1" would
		// be obeyed.
		change.Message = fmt.Sprintf("%s\n\nReason and proof are in %s.", change.Title, s.Paths.Record(p.id))
		change.Body = report.AddSigner(report.Proposal{
			Record: *after.Record(p.id), BaseCommit: s.Commit, RegistryBefore: s.Registry.SHA256(), RegistryAfter: after.Registry.SHA256(),
			Settings: rotation.DeploySettings(p.move.Subject()), Contacts: in.Contacts, RunURL: p.move.Made().RunURL,
		})
		return change, nil
	})
	return pr, err
}

// possession lets the key prove that it can sign. A proof that an earlier run has
// put into the branch is taken where it verifies.
func (p plan) possession(ctx context.Context, in inputs, k *key, was record.Move) error {
	open, is := p.move.(*record.Open)
	if !is {
		return nil
	}
	if w, is := was.(*record.Open); is {
		if proven, err := k.proven(ctx, in, w.Possession); err != nil {
			return err
		} else if proven {
			open.Possession = w.Possession
			return nil
		}
	}
	var err error
	open.Possession, err = k.prove(ctx, in)
	return err
}

// write makes the move in the files of the working directory, without GitHub.
func (p plan) write(ctx context.Context, r *gha.Run, in inputs, s *published.State, k *key) error {
	if p.done {
		return nil
	}
	if err := p.possession(ctx, in, k, nil); err != nil {
		return err
	}
	_, files, err := s.Apply(p.id, p.move, p.move.Made().At, rotation.EvidenceAge)
	if err != nil {
		return err
	}
	return s.Write(r, files)
}
