package main

import (
	"context"
	"fmt"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// propose brings the pull request about, or finds that it is there. It gives
// the record as it stands in the pull request. A standby that is to replace
// another signer is published already: then the record alone is new.
func propose(ctx context.Context, in inputs, repo *pullrequest.Repo, s *published.State, k *key, rec rotation.Record) (pullrequest.Proposal, rotation.Record, error) {
	change := in.Change(s, published.Addition(s.Paths, rec.Incoming))
	change.Title = published.Title("Publish audit signer", rec.Incoming.ID)
	was, isPublished := s.Registry.Find(rec.Incoming.ID)
	if isPublished {
		if err := sameKey(was, rec.Incoming); err != nil {
			return pullrequest.Proposal{}, rec, err
		}
		promotion := rotation.PromotionOf(rec.Incoming.ID)
		promoted := s.Recorded(promotion)
		if rec.Outgoing == nil || !promoted && !s.Standby(rec.Incoming.ID) {
			return there(ctx, repo, change, rec)
		}
		rec.ID, k.rotation = promotion, promotion
		change = in.Change(s, published.Promotion(s.Paths, rec.Incoming, *rec.Outgoing))
		if promoted {
			return there(ctx, repo, change, rec)
		}
		change.Title = published.Title("Let the standby replace the audit signer:", rec.Incoming.ID)
	}
	var p pullrequest.Proposal
	err := repo.Anew(ctx, change.Branch(), func() (err error) {
		p, rec, err = publish(ctx, in, repo, s, k, change, rec, isPublished)
		return err
	})
	return p, rec, err
}

// publish fills in the change by what stands in its branch already, and brings
// it about.
func publish(ctx context.Context, in inputs, repo *pullrequest.Repo, s *published.State, k *key, change pullrequest.Change, rec rotation.Record, isPublished bool) (pullrequest.Proposal, rotation.Record, error) {
	rec, tip, err := earlier(ctx, repo, s, change, rec)
	if err != nil {
		return pullrequest.Proposal{}, rec, err
	}
	text := s.Registry.Bytes()
	if !isPublished { // under the times of the run that has made the branch
		text = s.Registry.Add(entry(k, rec))
	}
	if proven, err := k.proven(ctx, in, rec.Possession); err != nil {
		return pullrequest.Proposal{}, rec, err
	} else if !proven { // whoever wrote that into the branch
		rec.Possession = nil
	}
	if rec.Possession == nil {
		if rec.Possession, err = k.prove(ctx, in); err != nil {
			return pullrequest.Proposal{}, rec, err
		}
	}
	change.Tip = tip
	change.Files = map[string][]byte{s.Paths.Registry: text, s.Paths.Record(rec.ID): rec.JSON()}
	if err := s.Judge(change.Files, rec.CreatedAt, rotation.EvidenceAge); err != nil {
		return pullrequest.Proposal{}, rec, err
	}
	after, _, err := registry.Parse(s.Paths.Registry, text)
	if err != nil {
		return pullrequest.Proposal{}, rec, err
	}
	// The reason stays out of the message, where "[skip ci]" or "fixes #1" would
	// be obeyed.
	change.Message = fmt.Sprintf("%s\n\nReason and proof stand in %s.", change.Title, s.Paths.Record(rec.ID))
	change.Body = report.AddSigner(report.Proposal{
		Record: rec, BaseCommit: s.Commit, RegistryBefore: s.Registry.SHA256(), RegistryAfter: after.SHA256(),
		Settings: rotation.DeploySettings(rec.Incoming), Contacts: in.Contacts, RunURL: rec.RunURL,
	})
	p, err := repo.Ensure(ctx, change)
	return p, rec, err
}

// entry is what the registry gains.
func entry(k *key, rec rotation.Record) registry.Entry {
	e := registry.Entry{
		ID: rec.Incoming.ID, Algorithm: rec.Incoming.Algorithm, Key: k.public, KMSKeyID: rec.Incoming.KMSKeyARN,
		DeployedAt: rec.CreatedAt, Description: rec.Reason, Rotation: rec.ID,
	}
	if arn := rec.Incoming.KMSKeyARN; arn != "" && arn != rec.Incoming.ID {
		e.Aliases = []string{arn} // what Agent Manager writes as signer_kid
	}
	return e
}

// sameKey refuses an id that is published with another key.
func sameKey(was registry.Signer, s rotation.Signer) error {
	is := rotation.SignerOf(was)
	if is.Algorithm != s.Algorithm || is.Fingerprint != s.Fingerprint || is.Fingerprint == "" && is.KMSKeyARN != s.KMSKeyARN {
		return gha.Misuse("signer id %q is published with another key (%s); an id stands for one key for ever, choose another", was.ID, is.Fingerprint)
	}
	return nil
}

// there is the case of a signer that is published already.
func there(ctx context.Context, repo *pullrequest.Repo, change pullrequest.Change, rec rotation.Record) (pullrequest.Proposal, rotation.Record, error) {
	p, found, err := repo.Find(ctx, change.Branch())
	if err == nil && !found {
		p = pullrequest.Proposal{State: pullrequest.Merged, Branch: change.Branch()}
	}
	return p, rec, err
}

// earlier takes over what an earlier run wrote into the branch, so that this
// one writes the same: its time and its proof, which is checked again. It gives
// the branch's tip, too.
func earlier(ctx context.Context, repo *pullrequest.Repo, s *published.State, change pullrequest.Change, rec rotation.Record) (is rotation.Record, tip string, err error) {
	path := s.Paths.Record(rec.ID)
	versions, tip, err := repo.Earlier(ctx, change, path, jsondoc.MaxSize, path, s.Paths.Registry)
	if err != nil || len(versions) == 0 {
		return rec, tip, err
	}
	was, err := rotation.ParseRecord(path, versions[0])
	if err != nil || was.Incoming != rec.Incoming || was.Actor != rec.Actor || was.CreatedAt.After(rec.CreatedAt) {
		return rec, tip, nil // not ours: Ensure decides what becomes of the branch
	}
	rec.CreatedAt, rec.RunURL, rec.Possession = was.CreatedAt, was.RunURL, was.Possession
	return rec, tip, nil
}
