package checkpoint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// What a verification says of its checkpoint besides: a chain begins again by
// review, or without one that there was.
const (
	RuleReset   = "checkpoint-reset"
	RuleMissing = "checkpoint-missing"
)

// Reset is a reviewed decision that a chain, which no longer passes through a
// checkpoint, counts from another event on: after a restore from a backup, say.
// It accepts that one checkpoint is gone, and no finding about the chain that is
// there.
type Reset struct {
	// Checkpoint is the one that is given up, Restart the event through which
	// the chain must pass instead.
	Checkpoint Place `json:"checkpoint"`
	Restart    Place `json:"restart"`
	// Tips are ends of branches that are lost. A checkpoint of which nothing else
	// is gone is its own restart.
	Tips       []chain.Digest `json:"tips,omitempty"`
	Reason     string         `json:"reason"`
	ApprovedBy string         `json:"approvedBy"`
	ApprovedAt time.Time      `json:"approvedAt"`
}

// keeps tells whether the checkpoint itself stays, without some of its tips.
func (r Reset) keeps() bool { return r.Restart == r.Checkpoint }

// Place is an event by what a checkpoint says of it.
type Place struct {
	Count int64        `json:"count"`
	Head  chain.Digest `json:"head"`
}

func (p Place) String() string { return fmt.Sprintf("%d:%s", p.Count, p.Head) }

// Recorded is the checkpoint that a record names in the form of String, nil if it
// names none. It knows nothing besides.
func Recorded(name, text string) *Checkpoint {
	count, digest, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(count, 10, 64)
	head, ok := chain.ParseDigest([]byte(digest))
	if err != nil || n < 1 || !ok {
		return nil
	}
	return &Checkpoint{Version: 1, Count: n, Head: head, name: name}
}

// Under is the checkpoint that the chain is held against under reviewed resets:
// c, unless one of them gives c up. The next one names c as its predecessor all
// the same, so the two lineages hang together.
func (c *Checkpoint) Under(resets []Reset) *Checkpoint {
	r, _, ok := givenUp(Place{c.Count, c.Head}, resets)
	if !ok {
		return c
	}
	now := &Checkpoint{Version: 1, Count: r.Restart.Count, Head: r.Restart.Head, Reset: &r, name: c.name, sum: c.sum, given: true}
	if r.keeps() {
		now.Tips = without(c.Tips, resets)
	}
	return now
}

// without leaves out the tips that resets give up.
func without(tips []chain.Digest, resets []Reset) []chain.Digest {
	return slices.DeleteFunc(slices.Clone(tips), func(tip chain.Digest) bool {
		return slices.ContainsFunc(resets, func(r Reset) bool { return slices.Contains(r.Tips, tip) })
	})
}

// givenUp finds the reset that gives a checkpoint up, if there is one. Where its
// restart is given up in turn, the last decision counts. rest are those that were
// not needed.
func givenUp(p Place, resets []Reset) (r Reset, rest []Reset, ok bool) {
	rest = slices.Clone(resets)
	for at := p; ; at = r.Restart {
		i := slices.IndexFunc(rest, func(r Reset) bool { return r.Checkpoint == at })
		if i < 0 {
			r.Checkpoint = p
			return r, rest, ok
		}
		r, ok = rest[i], true
		rest = slices.Delete(rest, i, i+1)
	}
}

// Finding tells of the reset under which the chain is read, if there is one.
func (c *Checkpoint) Finding() (f finding.Finding, ok bool) {
	if !c.given {
		return f, false
	}
	what := fmt.Sprintf("the chain is not held against checkpoint %s any more, but against %s", c.Reset.Checkpoint, c.Reset.Restart)
	if c.Reset.keeps() {
		what = fmt.Sprintf("of checkpoint %s %d end(s) of branches are given up", c.Reset.Checkpoint, len(c.Reset.Tips))
	}
	return finding.Finding{Rule: RuleReset, Severity: finding.Warning, File: c.name,
		Message: fmt.Sprintf("%s: so decided %s on %s (%s)", what, c.Reset.ApprovedBy, c.Reset.ApprovedAt.Format(time.DateOnly), c.Reset.Reason)}, true
}
