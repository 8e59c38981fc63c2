package main

import (
	"context"
	"fmt"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// propose brings the pull request about, or finds that it is there. It gives
// the record as it stands in the pull request.
func propose(ctx context.Context, r *gha.Run, in inputs, repo *pullrequest.Repo, s *published.State, k *key, rec rotation.Record) (pullrequest.Proposal, rotation.Record, error) {
	change := in.Change(s, published.Addition(s.Paths, rec.Incoming))
	if was, ok := s.Registry.Find(rec.Incoming.ID); ok {
		return there(ctx, repo, change, was, rec)
	}
	rec, err := earlier(ctx, repo, s, change.Branch(), rec)
	if err != nil {
		return pullrequest.Proposal{}, rec, err
	}
	if p := rec.Possession; p != nil && !k.public.IsZero() && awskms.Possession(*p).Check(k.rotation, k.public) != nil {
		rec.Possession = nil // whoever wrote that into the branch, it proves nothing
	}
	if rec.Possession == nil {
		if rec.Possession, err = k.prove(ctx, in); err != nil {
			return pullrequest.Proposal{}, rec, err
		}
	}
	entry := registry.Entry{
		ID: rec.Incoming.ID, Algorithm: rec.Incoming.Algorithm, Key: k.public, KMSKeyID: rec.Incoming.KMSKeyARN,
		DeployedAt: rec.CreatedAt, Description: rec.Reason, Rotation: rec.ID,
	}
	if arn := rec.Incoming.KMSKeyARN; arn != "" && arn != rec.Incoming.ID {
		entry.Aliases = []string{arn} // what Agent Manager writes as signer_kid
	}
	text := s.Registry.Add(entry)
	change.Files = map[string][]byte{s.Paths.Registry: text, s.Paths.Record(rec.ID): rec.JSON()}
	if err := s.Judge(change.Files, rec.CreatedAt, rotation.EvidenceAge); err != nil {
		return pullrequest.Proposal{}, rec, err
	}
	after, _, err := registry.Parse(s.Paths.Registry, text)
	if err != nil {
		return pullrequest.Proposal{}, rec, err
	}
	change.Title = published.Title("Publish audit signer", rec.Incoming.ID)
	// The reason stays out of the message, where "[skip ci]" or "fixes #1" would
	// be obeyed.
	change.Message = fmt.Sprintf("Publish audit signer %s\n\nReason and proof stand in %s.", rec.Incoming.ID, s.Paths.Record(rec.ID))
	change.Body = report.AddSigner(report.Proposal{
		Record: rec, BaseCommit: s.Commit, RegistryBefore: s.Registry.SHA256(), RegistryAfter: after.SHA256(),
		Settings: rotation.DeploySettings(rec.Incoming), Contacts: in.Contacts, RunURL: rec.RunURL,
	})
	p, err := repo.Ensure(ctx, change)
	return p, rec, err
}

// there is the case of a signer that is published already: fine if it is this
// very key, and a mistake otherwise.
func there(ctx context.Context, repo *pullrequest.Repo, change pullrequest.Change, was registry.Signer, rec rotation.Record) (pullrequest.Proposal, rotation.Record, error) {
	is := rotation.SignerOf(was)
	if is.Algorithm != rec.Incoming.Algorithm || is.Fingerprint != rec.Incoming.Fingerprint || is.Fingerprint == "" && is.KMSKeyARN != rec.Incoming.KMSKeyARN {
		return pullrequest.Proposal{}, rec, gha.Misuse("signer id %q is published with another key (%s); an id stands for one key for ever, choose another", was.ID, is.Fingerprint)
	}
	p, found, err := repo.Find(ctx, change.Branch())
	if err == nil && !found {
		p = pullrequest.Proposal{State: pullrequest.Merged, Branch: change.Branch()}
	}
	return p, rec, err
}

// earlier takes over what an earlier run wrote into the branch, so that this
// one writes the same: its time and its proof.
func earlier(ctx context.Context, repo *pullrequest.Repo, s *published.State, branch string, rec rotation.Record) (rotation.Record, error) {
	path := s.Paths.Record(rec.ID)
	text, _, found, err := repo.ReadBranchFile(ctx, branch, path, jsondoc.MaxSize)
	if err != nil || !found {
		return rec, err
	}
	was, err := rotation.ParseRecord(path, text)
	if err != nil || was.Incoming != rec.Incoming {
		return rec, nil // not ours: Ensure decides what becomes of the branch
	}
	rec.CreatedAt, rec.Actor, rec.RunURL, rec.Possession = was.CreatedAt, was.Actor, was.RunURL, was.Possession
	return rec, nil
}
