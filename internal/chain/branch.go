package chain

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// judgeBranches looks for events of retired signers beside the way to their
// boundary. A position says how many events came before, and on another branch of
// a reviewed fork those are others: whoever has the old key could go on there, up
// to the boundary's position. So such a branch counts only up to an event that
// review has pinned, as it pins the rivals; a digest covers all before it.
func (v *verification) judgeBranches() {
	if len(v.segments) < 2 {
		return
	}
	pinned := v.pinned()
	for _, a := range v.Anchors {
		if a.Signer == "" || !v.anchored(a) {
			continue
		}
		covered := maps.Clone(pinned)
		for _, b := range v.Anchors { // it may have been archived twice
			if b.Signer == a.Signer && v.anchored(b) {
				v.cover(covered, v.joiner.sites[b.Digest])
			}
		}
		for _, s := range v.segments {
			base, ok := v.base(s)
			if !ok {
				continue
			}
			for _, u := range s.uses {
				e, last := v.joiner.entries[u.kid], base+s.position(u.last)
				if e.entry == a.Signer && e.state != stateActive && last > covered[ends{s.first, s.last}] && last <= a.Position { // beyond it settle has named it
					v.tally.add(finding.Finding{Rule: RuleRetiredSignerUsed, Severity: finding.Error, Position: last,
						Message: fmt.Sprintf("signer %s is %s, and events by it stand on a branch beside the way to its boundary, the last with the digest %s: whoever holds the key may have added them since. If review finds that they were there when it was retired, except that last event (rule fork), which stands for all before it", v.joiner.kids[u.kid], e.state, u.lastDigest)})
				}
			}
		}
	}
}

// stateActive is what a Verifier says of signers in use; one that was archived
// and came back is one of them.
const stateActive = "active"

// pinned is what leads up to the events of a chain with branches that exceptions
// for forks pin, rivals or not. A pin that no fork has needed is noted, and is in
// use: it may be needed as soon as a signer is retired.
func (v *verification) pinned() reach {
	covered := reach{}
	var xs []*exception
	for _, x := range v.exceptions {
		if x.Rule == RuleFork {
			xs = append(xs, x)
		}
	}
	slices.SortFunc(xs, func(a, b *exception) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	for _, x := range xs {
		s := v.joiner.sites[x.Digest]
		if s == nil || !s.found || s.id != x.EventID {
			continue
		}
		base, ok := v.base(s.on.of)
		if !ok {
			continue
		}
		v.cover(covered, s)
		if !x.used {
			x.used = true
			v.tally.add(finding.Finding{Rule: RuleFork, Severity: finding.Note, Position: base + s.on.of.position(s.at), EventID: x.EventID,
				Message: x.by() + "the branch up to this event"})
		}
	}
	return covered
}

// ends name a segment in both passes.
type ends struct{ first, last Digest }

// reach gives, of each segment, the position up to which something leads.
type reach map[ends]int64

// cover adds an event and all before it, from genesis on.
func (v *verification) cover(r reach, at *site) {
	for at != nil && at.found {
		s := at.on.of
		base, _ := v.base(s)
		position := base + s.position(at.at)
		if r[ends{s.first, s.last}] >= position {
			return // and all before that
		}
		r[ends{s.first, s.last}] = position
		if s.genesis {
			return
		}
		at = v.second.sites[s.prev]
	}
}
