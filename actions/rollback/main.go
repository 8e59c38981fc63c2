// Command rollback opens the pull request that goes back to the old signer:
// its entry returns to the registry byte for byte, the new signer stays, so
// that what it signed keeps verifying, and the record says who went back and
// why. It prints the settings to deploy with.
//
// It works from every point at which a rotation can stop, and no gate stands
// in its way.
package main

import (
	"context"
	_ "embed"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

//go:embed action.yml
var spec []byte

var now = time.Now

func main() { os.Exit(gha.Main(spec, now, run)) }

type inputs struct {
	published.Inputs
	Rotation     string `input:"rotation"`
	Reason       string `input:"reason"`
	EnableKMSKey bool   `input:"enable-kms-key"`
}

// maxReason is what add-signer allows, too.
const maxReason = 4096

func run(ctx context.Context, r *gha.Run, in inputs) error {
	if in.Rotation == "" || in.Reason == "" {
		return gha.Misuse("set rotation (the id of the rotation to undo) and reason (it stands in the record)")
	}
	if len(in.Reason) > maxReason {
		return gha.Misuse("reason has %d bytes, more than %d; shorten it", len(in.Reason), maxReason)
	}
	repo, state, err := in.Open(ctx, r, false)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(state.Records, func(rec rotation.Record) bool { return rec.ID == in.Rotation })
	if i < 0 {
		return gha.Misuse("rotation %q has no record under %s on %s; if its add-signer pull request is still open, close it: nothing has changed yet", in.Rotation, state.Paths.Rotations, state.Branch)
	}
	rec := state.Records[i]
	change := in.Change(state, pullrequest.Change{Operation: "rollback", Key: state.Paths.Registry + "\n" + rec.ID})
	back := earlier(ctx, repo, state, change.Branch(), rec.ID, rotation.Rollback{
		At: published.Clock(repo, r).UTC().Truncate(time.Second), Actor: published.Actor(r), Reason: in.Reason, RunURL: published.RunURL(r), Mode: "rollback",
	})
	if rec.Rollback != nil {
		back = *rec.Rollback // merged already: only the settings are left to be told
	}
	move, err := rotation.Undo(rec, state.Registry, state.Archive, back)
	if err != nil {
		return gha.Misuse("%w", err)
	}
	if in.EnableKMSKey {
		if err := enable(ctx, r, in, rec); err != nil {
			return err
		}
	}
	p := pullrequest.Proposal{State: pullrequest.Merged}
	if rec.Rollback == nil && !in.DryRun {
		if p, err = propose(ctx, r, repo, state, change, move); err != nil {
			return err
		}
	}
	return tell(r, in, rec, move, p)
}

// earlier takes over what an earlier run wrote into the branch.
func earlier(ctx context.Context, repo *pullrequest.Repo, s *published.State, branch, id string, back rotation.Rollback) rotation.Rollback {
	path := s.Paths.Record(id)
	text, _, found, err := repo.ReadBranchFile(ctx, branch, path, jsondoc.MaxSize)
	if err != nil || !found {
		return back
	}
	if was, err := rotation.ParseRecord(path, text); err == nil && was.Rollback != nil && was.Rollback.Reason == back.Reason && was.Rollback.Mode == back.Mode {
		return *was.Rollback
	}
	return back
}

func enable(ctx context.Context, r *gha.Run, in inputs, rec rotation.Record) error {
	if rec.Outgoing == nil || rec.Outgoing.KMSKeyARN == "" {
		return gha.Misuse("enable-kms-key is true, but the record names no KMS key of the old signer")
	}
	if in.DryRun {
		r.Logf("dry run: would enable KMS key %s", rec.Outgoing.KMSKeyARN)
		return nil
	}
	client, err := awskms.New(ctx, awskms.Options{})
	if err != nil {
		return err
	}
	return client.Enable(ctx, rec.Outgoing.KMSKeyARN)
}

func propose(ctx context.Context, r *gha.Run, repo *pullrequest.Repo, s *published.State, change pullrequest.Change, move rotation.Move) (pullrequest.Proposal, error) {
	change.Files = map[string][]byte{s.Paths.Record(move.Record.ID): move.Record.JSON()}
	after := s.Registry.SHA256()
	if move.Registry != nil {
		change.Files[s.Paths.Registry] = move.Registry
		parsed, _, err := registry.Parse(s.Paths.Registry, move.Registry)
		if err != nil {
			return pullrequest.Proposal{}, err
		}
		after = parsed.SHA256()
	}
	if err := s.Judge(change.Files, r.Now(), rotation.EvidenceAge); err != nil {
		return pullrequest.Proposal{}, err
	}
	change.Title = published.Title("Go back to audit signer", move.Record.Outgoing.ID)
	// The reason stays out of the message, where "[skip ci]" or "fixes #1" would
	// be obeyed.
	change.Message = change.Title + "\n\nThe reason stands in " + s.Paths.Record(move.Record.ID) + "."
	change.Body = report.Rollback(report.Proposal{
		Record: move.Record, BaseCommit: s.Commit, RegistryBefore: s.Registry.SHA256(), RegistryAfter: after,
		Settings: rotation.DeploySettings(*move.Record.Outgoing), Verdict: move.Verdict, RunURL: move.Record.Rollback.RunURL,
	})
	return repo.Ensure(ctx, change)
}

func tell(r *gha.Run, in inputs, rec rotation.Record, move rotation.Move, p pullrequest.Proposal) error {
	next := published.Outcome(p)
	if in.DryRun {
		next = "Dry run: nothing was written."
	}
	settings := rotation.DeploySettings(*rec.Outgoing)
	r.Output("verdict", move.Verdict)
	r.OutputJSON("deploy-env", report.Settings(settings))
	if p.Number != 0 {
		r.Output("pull-request-number", strconv.Itoa(p.Number))
		r.Output("pull-request-url", p.URL)
	}
	r.Ticket([][2]string{{"back to", rec.Outgoing.ID}, {"because", move.Verdict}, {"next", next}, {"pull request", p.URL}})
	for _, note := range p.Notes {
		r.Logf("note: %s", note)
	}
	r.Summary(report.Back(rec.Outgoing.ID, move.Verdict, next, p.URL, settings))
	return nil
}
