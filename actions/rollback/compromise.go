package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// compromise takes a signer out at once.
func (u undoing) compromise(ctx context.Context) error {
	if done, ok := u.declared(); ok {
		return u.tell(done, pullrequest.Proposal{State: pullrequest.Merged})
	}
	boundary, err := u.boundary(ctx)
	if err != nil {
		return err
	}
	files := u.state.Files()
	move, err := rotation.Compromise(u.in.SignerID, boundary, u.by, files)
	if err != nil {
		return gha.Misuse("%w", err)
	}
	id, signer := move.Record.ID, move.Record.Rollback.Compromised.ID
	var beyond affected
	p, err := u.through(ctx, "compromise", signer, id, func(change pullrequest.Change) (p pullrequest.Proposal, err error) {
		change.Title = published.Title("Compromised audit signer", signer)
		was, tip := u.earlier(ctx, change, id)
		change.Tip = tip
		if move, beyond, err = u.declare(ctx, boundary, was, files); err != nil {
			return p, err
		}
		return u.propose(ctx, change, move, func(p report.Proposal) string {
			return report.Compromise(p, beyond.list, beyond.total, beyond.unread)
		})
	})
	if err != nil {
		return err
	}
	u.found = beyond.list
	u.Findings(beyond.list)
	return u.tell(move, p, "\n", report.Affected(beyond.list, beyond.total, beyond.unread))
}

// affected are the events of a compromised signer beyond its boundary: the first
// of them, and how many there are, or why the chain could not be read.
type affected struct {
	list   []finding.Finding
	total  int64
	unread string
}

// declare looks and decides; was is what an earlier run has declared. A run after
// this one writes the same, also when the chain has grown: it keeps the time of the
// run before it, and its boundary where the chain has it and this run's does not
// lie before it.
func (u undoing) declare(ctx context.Context, boundary rotation.Mark, was rotation.Rollback, files rotation.Files) (move rotation.Move, beyond affected, err error) {
	boundaries := []rotation.Mark{boundary}
	if was.Boundary != nil && (u.in.TrustedUntil == "head" && was.Boundary.Position < boundary.Position || *was.Boundary == boundary) {
		boundaries = []rotation.Mark{*was.Boundary, boundary}
	}
	for i, boundary := range boundaries {
		if move, err = rotation.Compromise(u.in.SignerID, boundary, was, files); err != nil {
			return move, beyond, gha.Misuse("%w", err)
		}
		after, err := registry.Load(u.state.Paths.Registry, move.Registry, u.state.Paths.Archive, move.Archive)
		if err != nil {
			return move, beyond, err
		}
		beyond, err = u.affected(ctx, after, *move.Record.Rollback.Boundary)
		if err == nil {
			break
		}
		if _, missing := errors.AsType[*noEvent](err); !missing || i == len(boundaries)-1 {
			return move, beyond, err
		}
		u.Logf("note: the branch of an earlier run names a boundary that the chain does not have; it is not taken over")
	}
	return move, beyond, nil
}

// declared finds what a merged pull request has declared already.
func (u undoing) declared() (rotation.Move, bool) {
	was, archived := u.state.Archive.Find(u.in.SignerID)
	_, registered := u.state.Registry.Find(u.in.SignerID)
	rec := u.state.Files().Record(was.Rotation)
	if registered || !archived || was.State != registry.StateCompromised || rec == nil {
		return rotation.Move{}, false
	}
	m := rotation.Move{Record: *rec, Verdict: fmt.Sprintf("signer %s is archived as compromised: it counts up to position %d and not beyond", was.ID, was.Boundary.Position)}
	m.Deploy = u.state.Files().Successor(was.ID, m.Record)
	return m, m.Deploy != nil
}

// boundary is the last event up to which the signer stays trusted.
func (u undoing) boundary(ctx context.Context) (rotation.Mark, error) {
	switch position, digest, ok := strings.Cut(u.in.TrustedUntil, ":"); {
	case u.in.TrustedUntil == "head":
		r, why := u.chain(ctx, u.state.Registry, u.state.Archive)
		if r == nil {
			return rotation.Mark{}, fmt.Errorf("trusted-until: head, but %s", why)
		}
		if r.Verdict != chain.Verified {
			u.Findings(r.Findings)
			return rotation.Mark{}, gha.Misuse("trusted-until: head, but the chain does not verify as it is (see the findings): name the last event that you trust as <position>:<digest>")
		}
		head, _ := chain.ParseDigest([]byte(r.Head))
		return rotation.Mark{Position: r.Length, Digest: head}, nil
	case u.in.TrustedUntil != "":
		n, err := strconv.ParseInt(position, 10, 64)
		d, hex := chain.ParseDigest([]byte(digest))
		if !ok || err != nil || n < 1 || !hex {
			return rotation.Mark{}, gha.Misuse("trusted-until %q is not <position>:<digest>, nor head; give it as a report names a checkpoint", u.in.TrustedUntil)
		}
		return rotation.Mark{Position: n, Digest: d}, nil
	case u.in.CheckpointBranch != "":
		_, c, err := u.in.Branch(ctx, u.Run, u.repo, nil)
		if err == nil && c == nil {
			err = gha.Misuse("there is no branch %s with a checkpoint; name the last event that you trust by trusted-until", u.in.CheckpointBranch)
		}
		if err != nil {
			return rotation.Mark{}, err
		}
		return rotation.Mark{Position: c.Count, Digest: c.Head}, nil
	}
	c, err := u.in.Checkpoint(u.Run)
	if err != nil {
		return rotation.Mark{}, err
	}
	return rotation.Mark{Position: c.Count, Digest: c.Head}, nil
}

// noEvent says that a boundary is no event of the chain.
type noEvent struct {
	boundary rotation.Mark
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
func (u undoing) affected(ctx context.Context, after *registry.Files, boundary rotation.Mark) (beyond affected, err error) {
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
