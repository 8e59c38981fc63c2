package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// compromise takes a signer out at once.
func (u undoing) compromise(ctx context.Context) error {
	entry, registered := u.state.Registry.Find(u.in.SignerID)
	was, archived := u.state.Archive.Find(u.in.SignerID)
	switch {
	case !registered && archived && was.State == registry.StateCompromised:
		return u.declared(was)
	case !registered && archived:
		return gha.Misuse("signer %s is archived (%s) and counts up to position %d only; whoever holds its key can add nothing that verifies. Leave it as it is", was.ID, was.State, was.Boundary.Position)
	case !registered:
		return gha.Misuse("%s has no signer %s; give the id or an alias of a registered one", u.state.Registry.Name, u.in.SignerID)
	}
	next := rotation.Successor(u.state.Files, entry.ID)
	if next == nil {
		return gha.Misuse("signer %s is the only one in %s. Publish its successor first (add-signer, with an overlap as short as you like: allow-short-overlap), deploy it, then run this again", entry.ID, u.state.Registry.Name)
	}
	boundary, err := u.boundary(ctx)
	if err != nil {
		return err
	}
	d := done{id: record.CompromiseID(entry.ID), move: &record.Compromise{By: u.by, Signer: record.SignerOf(entry), Boundary: boundary}, deploy: *next,
		title:   published.Title("Compromised audit signer", entry.ID),
		verdict: fmt.Sprintf("signer %s is compromised: it counts up to position %d and not beyond; signer %s takes over", entry.ID, boundary.Position, next.ID)}
	var beyond affected
	p, err := u.propose(ctx, "compromise", entry.ID, d, func(after record.Files) (err error) {
		beyond, err = u.affected(ctx, after, boundary)
		return err
	}, func(p report.Proposal) string { return report.Compromise(p, beyond.list, beyond.total, beyond.unread) })
	if err != nil {
		return err
	}
	u.found = beyond.list
	u.Findings(beyond.list)
	return u.tell(d, p, "\n", report.Affected(beyond.list, beyond.total, beyond.unread))
}

// affected are the events of a compromised signer beyond its boundary: the first
// of them, and how many there are, or why the chain could not be read.
type affected struct {
	list   []finding.Finding
	total  int64
	unread string
}

// declared is the case of what a merged pull request has declared already.
func (u undoing) declared(was registry.Retired) error {
	d := done{id: was.Rotation, move: &record.Compromise{By: u.by, Signer: record.SignerOf(was.Signer)},
		verdict: fmt.Sprintf("signer %s is archived as compromised: it counts up to position %d and not beyond", was.ID, was.Boundary.Position)}
	next := rotation.Successor(u.state.Files, was.ID)
	if next == nil {
		return gha.Misuse("%s has no other signer than %s", u.state.Registry.Name, was.ID)
	}
	d.deploy = *next
	return u.tell(d, pullrequest.Proposal{State: pullrequest.Merged})
}

// boundary is the last event up to which the signer stays trusted.
func (u undoing) boundary(ctx context.Context) (record.Mark, error) {
	switch position, digest, ok := strings.Cut(u.in.TrustedUntil, ":"); {
	case u.in.TrustedUntil == "head":
		r, why := u.chain(ctx, u.state.Registry, u.state.Archive)
		if r == nil {
			return record.Mark{}, fmt.Errorf("trusted-until: head, but %s", why)
		}
		if r.Verdict != chain.Verified {
			u.Findings(r.Findings)
			return record.Mark{}, gha.Misuse("trusted-until: head, but the chain does not verify as it is (see the findings): name the last event that you trust as <position>:<digest>")
		}
		head, _ := chain.ParseDigest([]byte(r.Head))
		return record.Mark{Position: r.Length, Digest: head}, nil
	case u.in.TrustedUntil != "":
		n, err := strconv.ParseInt(position, 10, 64)
		d, hex := chain.ParseDigest([]byte(digest))
		if !ok || err != nil || n < 1 || !hex {
			return record.Mark{}, gha.Misuse("trusted-until %q is not <position>:<digest>, nor head; give it as a report names a checkpoint", u.in.TrustedUntil)
		}
		return record.Mark{Position: n, Digest: d}, nil
	case u.in.CheckpointBranch != "":
		_, c, err := u.in.Branch(ctx, u.Run, u.repo, nil)
		if err == nil && c == nil {
			err = gha.Misuse("there is no branch %s with a checkpoint; name the last event that you trust by trusted-until", u.in.CheckpointBranch)
		}
		if err != nil {
			return record.Mark{}, err
		}
		return record.Mark{Position: c.Count, Digest: c.Head}, nil
	}
	c, err := u.in.Checkpoint(u.Run)
	if err != nil {
		return record.Mark{}, err
	}
	return record.Mark{Position: c.Count, Digest: c.Head}, nil
}

// noEvent says that a boundary is no event of the chain.
type noEvent struct {
	boundary record.Mark
	why      string
}

func (e *noEvent) Error() string {
	return fmt.Sprintf("the chain has no event %s at position %d: %s. Name the last event that you trust as the last good report names it", e.boundary.Digest, e.boundary.Position, e.why)
}

// ExitCode is 2: the input names it.
func (*noEvent) ExitCode() int { return 2 }

// affected lists what the signer has signed beyond its boundary, by a
// verification with the files as they will be. A boundary that the chain does
// not have would make every later verification fail, so it is refused; a chain
// that cannot be read holds nothing up.
func (u undoing) affected(ctx context.Context, after record.Files, boundary record.Mark) (beyond affected, err error) {
	r, unread := u.chain(ctx, after.Registry, after.Archive)
	if r == nil {
		return affected{unread: unread}, nil
	}
	for _, f := range r.Findings {
		switch {
		case f.Rule == chain.RuleRetiredSignerUsed:
			f.Severity = finding.Warning // what this run finds, not what it fails for
			beyond.list = append(beyond.list, f)
		case (f.Rule == chain.RuleCheckpointMismatch || f.Rule == chain.RuleTruncated) && f.Position == boundary.Position:
			return beyond, &noEvent{boundary, f.Message}
		}
	}
	beyond.total = r.ByRule[chain.RuleRetiredSignerUsed]
	return beyond, nil
}
