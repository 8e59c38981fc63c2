package chain

import (
	"fmt"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// ends name a segment in both passes.
type ends struct{ first, last Digest }

// judgeBranches looks for events of retired signers beside the way to their
// boundary. A position says how many events came before, and on another branch of
// a reviewed fork those are others: whoever has the old key could go on there, up
// to the boundary's position. So such a branch counts only up to an event that
// review has pinned as it pins the rivals; its digest covers all before it.
func (v *verification) judgeBranches() {
	if len(v.segments) < 2 {
		return
	}
	for _, a := range v.Anchors {
		if a.Signer == "" || !v.anchored(a) {
			continue
		}
		way := v.wayTo(a)
		for _, s := range v.segments {
			base, ok := v.base(s)
			if !ok {
				continue
			}
			for _, u := range s.uses {
				last, e := base+s.position(u.last), v.joiner.entries[u.kid]
				if e.entry == a.Signer && last > way[ends{s.first, s.last}] && last <= a.Position { // or settle has named it
					v.judgeBranch(u, last, e.state)
				}
			}
		}
	}
}

// wayTo gives, of each segment on the way from genesis to an anchor, the position
// up to which it is on that way.
func (v *verification) wayTo(a Anchor) map[ends]int64 {
	way := map[ends]int64{}
	for at := v.joiner.sites[a.Digest]; at != nil && at.found; {
		s := at.on.of
		base, _ := v.base(s)
		way[ends{s.first, s.last}] = base + s.position(at.at)
		if at = nil; !s.genesis {
			at = v.second.sites[s.prev]
		}
	}
	return way
}

// judgeBranch wants the last event of a retired signer on a branch pinned.
func (v *verification) judgeBranch(u use, position int64, state string) {
	f := finding.Finding{Rule: RuleRetiredSignerUsed, Severity: finding.Error, Position: position,
		Message: fmt.Sprintf("signer %s is %s, and events by it stand on a branch beside the way to its boundary, the last with the digest %s: whoever holds the key may have added them since. If review finds that they were there when it was retired, except that last event (rule fork), which stands for those before it", v.joiner.kids[u.kid], state, u.lastDigest)}
	for _, x := range v.exceptions {
		if x.Rule == RuleFork && x.Digest == u.lastDigest {
			x.used = true
			f.Rule, f.Severity, f.EventID = RuleFork, finding.Note, x.EventID
			f.Message = fmt.Sprintf("excepted by %s: the branch of signer %s, which is %s, beside the way to its boundary, up to this event", x.ApprovedBy, v.joiner.kids[u.kid], state)
		}
	}
	v.tally.add(f)
}
