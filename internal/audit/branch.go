package audit

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

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
// lost checkpoint, no beginning.
//
// Whoever may push there can put any file on top, but cannot take a commit away
// from a branch that only goes forward. So nothing is believed of the newest
// commit alone: it must continue its parent's file, and it must not fall behind
// what any commit before it says in its message; through each of those places and
// tips the chain must pass (Checkpoint.Anchors). A commit of somebody else's can only add
// to that. It is refused, but for a checkpoint that a reviewed reset gives up.
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
	line, err := repo.Line(ctx, tip)
	if err != nil {
		return nil, nil, err
	}
	if last := line[len(line)-1]; last.Merge {
		return nil, nil, b.broken("commit %.12s merges something into it", last.ID)
	}
	line = line[1:]
	if len(line) == 0 {
		return b, now, nil
	}
	parent := line[0].ID
	before, found, err := repo.ReadFile(ctx, parent, checkpointFile, jsondoc.MaxSize)
	if err != nil {
		return nil, nil, err
	}
	if !found {
		return nil, nil, b.broken("commit %.12s follows %.12s, which holds no %s", tip, parent, checkpointFile)
	}
	was, err := checkpoint.Parse(fmt.Sprintf("%s:%s at %.7s", name, checkpointFile, parent), before)
	if err != nil {
		return nil, nil, err
	}
	if why := c.Continues(was); why != "" && c.Continues(was.Under(resets)) != "" {
		return nil, nil, b.broken("commit %.12s does not continue the checkpoint of its parent %.12s: %s", tip, parent, why)
	}
	if beyond := now.Follows(said(line), resets); beyond != nil {
		return nil, nil, b.broken("commit %.12s names %d events, and an earlier one named %s: a checkpoint never goes back but by a reviewed reset (exceptions-path)", tip, now.Count, beyond)
	}
	return b, now, nil
}

// broken says what is wrong with the branch.
func (b *Branch) broken(format string, args ...any) *Broken {
	return &Broken{finding.Finding{Rule: chain.RuleCheckpointMismatch, Severity: finding.Error, File: checkpointFile,
		Message: fmt.Sprintf("on branch %s, "+format+". Only this action writes there; find out who did, and set the branch back to the last good commit", append([]any{b.Name}, args...)...)}}
}

// message is a commit's; messageForm reads it again.
func message(c *checkpoint.Checkpoint) string {
	text := fmt.Sprintf("Checkpoint %d events\n\nHead %s", c.Count, c.Head)
	for _, tip := range c.Tips {
		text += "\nTip " + tip.String()
	}
	return text
}

var messageForm = regexp.MustCompile(`^Checkpoint ([0-9]+) events\n\nHead ([0-9a-f]{64})((?:\nTip [0-9a-f]{64})*)\s*$`)

// said is what commits say of their checkpoints in their messages.
func said(line []pullrequest.Step) (list []checkpoint.Said) {
	for _, step := range line {
		if m := messageForm.FindStringSubmatch(step.Message); m != nil {
			count, err := strconv.ParseInt(m[1], 10, 64)
			head, ok := chain.ParseDigest([]byte(m[2]))
			if err == nil && ok {
				was := checkpoint.Said{Place: checkpoint.Place{Count: count, Head: head}}
				for tip := range strings.SplitSeq(strings.TrimPrefix(m[3], "\nTip "), "\nTip ") {
					if d, ok := chain.ParseDigest([]byte(tip)); ok {
						was.Tips = append(was.Tips, d)
					}
				}
				list = append(list, was)
			}
		}
	}
	return list
}

// Exists tells whether the branch was there when it was read.
func (b *Branch) Exists() bool { return b.tip != "" }

// Broken is evidence against the checkpoints themselves. A run that meets it has
// failed, as [Inputs.Branch] has reported.
type Broken struct{ Finding finding.Finding }

func (e *Broken) Unwrap() error { return gha.Failed }

func (e *Broken) Error() string { return e.Finding.String() }

// Write commits the next checkpoint onto the one that was read. raced says that
// another run was faster: what it has written must be verified against.
func (b *Branch) Write(ctx context.Context, next *checkpoint.Checkpoint) (raced bool, err error) {
	_, err = b.repo.WriteBranchFile(ctx, b.Name, checkpointFile, next.JSON(), b.tip, message(next))
	var conflict *pullrequest.Conflict
	if errors.As(err, &conflict) {
		return true, nil
	}
	return false, err
}
