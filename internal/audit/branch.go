package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
)

// checkpointFile is where a branch holds the checkpoint of its one chain.
const checkpointFile = "checkpoint.json"

// Branch is a branch that holds nothing but one chain's checkpoints, each a
// commit on its predecessor's.
type Branch struct {
	Name string
	repo *pullrequest.Repo
	tip  string // as read, "" before the first checkpoint
}

// ReadBranch reads the newest checkpoint, nil if there is no such branch: that
// is how a chain's first verification begins. A branch without its file is a
// lost checkpoint, no beginning, and a file that does not continue its
// predecessor was put there by somebody else: both are refused, but for a
// predecessor that a reviewed reset gives up.
func ReadBranch(ctx context.Context, repo *pullrequest.Repo, name string, resets []checkpoint.Reset) (*Branch, *checkpoint.Checkpoint, error) {
	text, tip, found, err := repo.ReadBranchFile(ctx, name, checkpointFile, jsondoc.MaxSize)
	b := &Branch{Name: name, repo: repo, tip: tip}
	if err != nil || tip == "" {
		return b, nil, err
	}
	if !found {
		return nil, nil, gha.Misuse("branch %s exists and holds no %s. A lost checkpoint is no fresh start: restore the file from the branch's history, or name another branch for another chain", name, checkpointFile)
	}
	c, err := checkpoint.Parse(name+":"+checkpointFile, text)
	if err != nil {
		return nil, nil, err
	}
	now := c.Under(resets)
	parent, err := repo.Parent(ctx, tip)
	if err != nil || parent == "" {
		return b, now, err
	}
	before, found, err := repo.ReadFile(ctx, parent, checkpointFile, jsondoc.MaxSize)
	if err != nil || !found {
		return b, now, err
	}
	was, err := checkpoint.Parse(fmt.Sprintf("%s:%s at %.7s", name, checkpointFile, parent), before)
	if err != nil {
		return nil, nil, err
	}
	if why := c.Continues(was); why != "" && c.Continues(was.Under(resets)) != "" {
		return nil, nil, &Broken{finding.Finding{Rule: chain.RuleCheckpointMismatch, Severity: finding.Error, File: checkpointFile,
			Message: fmt.Sprintf("on branch %s, commit %.12s does not continue the checkpoint of its parent %.12s: %s. Only this action writes there; find out who did, and set the branch back to the last good commit", name, tip, parent, why)}}
	}
	return b, now, nil
}

// Exists tells whether the branch was there when it was read.
func (b *Branch) Exists() bool { return b.tip != "" }

// Broken is evidence against the checkpoints themselves.
type Broken struct{ Finding finding.Finding }

func (e *Broken) Error() string { return e.Finding.String() }

// Write commits the next checkpoint onto the one that was read. raced says that
// another run was faster: what it has written must be verified against.
func (b *Branch) Write(ctx context.Context, next *checkpoint.Checkpoint) (raced bool, err error) {
	message := fmt.Sprintf("Checkpoint %d events\n\nHead %s", next.Count, next.Head)
	_, err = b.repo.WriteBranchFile(ctx, b.Name, checkpointFile, next.JSON(), b.tip, message)
	var conflict *pullrequest.Conflict
	if errors.As(err, &conflict) {
		return true, nil
	}
	return false, err
}
