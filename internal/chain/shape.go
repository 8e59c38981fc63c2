package chain

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// settleRest settles the marks of segments that hang on an event inside
// another segment, and of those that hang on nothing (position 0).
func (v *verification) settleRest() {
	for _, s := range v.segments {
		base, ok := v.base(s)
		for _, m := range slices.Concat(s.marks, s.late) {
			switch {
			case m.site != nil:
			case ok:
				v.settle(base+s.position(m.at), m)
			case m.finding != nil:
				v.settle(0, m)
			}
		}
	}
}

// judgeShape finds what keeps the segments from being one chain.
func (v *verification) judgeShape() {
	if v.census.rows == 0 {
		severity := finding.Error
		if v.AllowEmpty {
			severity = finding.Note
		}
		v.tally.add(finding.Finding{Rule: RuleEmptyChain, Severity: severity,
			Message: "there is not one event. Check the table, the database and the role's row-level rights; a chain that is truly new passes with allow-empty: true"})
		return
	}
	if v.trunk == nil {
		v.tally.add(finding.Finding{Rule: RuleMissingGenesis, Severity: finding.Error,
			Message: "not one row has a place in a chain: every payload or prev_hash is malformed"})
		return
	}
	v.findHead()
	v.judgeRoots()
	for prev, parent := range v.second.sites {
		if parent.found {
			v.judgeSuccessors(prev, parent)
		}
	}
	v.judgeClocks()
}

// judgeRoots wants one genesis, and no other event without a predecessor.
func (v *verification) judgeRoots() {
	var roots []*segment
	for _, s := range v.segments {
		if at := v.placeOf(s); at.root == s.first && at.depth == 0 {
			roots = append(roots, s)
		}
	}
	slices.SortFunc(roots, func(a, b *segment) int {
		return cmp.Or(bytes.Compare(a.first[:], b.first[:]), strings.Compare(a.firstID, b.firstID))
	})
	first := map[Digest]string{} // ids
	for _, s := range roots {
		if _, ok := first[s.first]; !ok {
			first[s.first] = s.firstID
		}
	}
	for i, s := range roots {
		f := finding.Finding{Severity: finding.Error, EventID: s.firstID}
		if s.genesis {
			f.Position = 1
		}
		following := ""
		if n := v.trees[s.first].rows - 1; n > 0 {
			following = fmt.Sprintf(" (with %d more that hang on it)", n)
		}
		switch {
		case i > 0 && roots[i-1].first == s.first:
			f.Rule = RuleDuplicateEvent
			f.Message = fmt.Sprintf("this row repeats event %s: same payload, same predecessor (digest %s)", first[s.first], s.first)
		case s.first == v.trunk.root && s.genesis:
			continue
		case s.first == v.trunk.root:
			f.Rule = RuleMissingGenesis
			f.Message = fmt.Sprintf("no row starts the chain (prev_hash NULL or empty). Its longest part starts with this event%s and names the predecessor %s: the rows before it were removed or not read.%s", following, s.prev, v.foreign())
		case s.genesis:
			f.Rule = RuleSecondGenesis
			f.Message = fmt.Sprintf("this event%s starts a second chain; the longer one starts with event %s. A chain has one first event", following, first[v.trunk.root])
		case v.apart:
			f.Rule = RuleMissingLink
			f.Message = fmt.Sprintf("this event%s names the predecessor %s, and follows no event of any shard that could be told: a row was removed or changed, or was updated while the shards were read and so read twice, or two rivals for one place were read in two shards. Read the chain with mode verify, which tells which", following, s.prev)
		case len(v.segments) > v.maxPieces:
			f.Rule = RuleMissingLink
			f.Message = fmt.Sprintf("this event names the predecessor %s, and does not follow it; the rows fall into %d pieces, too many to tell for each whether its predecessor is missing or has a rival successor", s.prev, len(v.segments))
		default:
			f.Rule = RuleMissingLink
			f.Message = fmt.Sprintf("this event%s names the predecessor %s, and no row has that digest: a row was removed or changed, or was not read", following, s.prev)
		}
		v.tally.add(f)
	}
}

// foreign is a hint for tables in which nothing fits together.
func (v *verification) foreign() string {
	if v.trunk.height > 1 || v.census.rows == 1 {
		return ""
	}
	return " No two rows fit together at all: the table may be written with another digest scheme than SHA256(canonical(payload) || prev_hash)."
}

// judgeSuccessors names what hangs on one event beside its one successor:
// copies of it, and rivals.
func (v *verification) judgeSuccessors(prev Digest, parent *site) {
	position := int64(0)
	if at := v.placeOf(parent.on.of); at.genesis {
		position = at.depth + parent.on.of.position(parent.at) + 1
	}
	var rivals []child
	for i, c := range parent.children {
		if i == 0 || c.digest != parent.children[i-1].digest {
			rivals = append(rivals, c)
			continue
		}
		v.tally.add(finding.Finding{Rule: RuleDuplicateEvent, Severity: finding.Error, Position: position, EventID: c.id,
			Message: fmt.Sprintf("this row repeats event %s: same payload, same predecessor (digest %s)", rivals[len(rivals)-1].id, c.digest)})
	}
	if len(rivals) < 2 && parent.more == 0 {
		return
	}
	slices.SortFunc(rivals, func(a, b child) int { return strings.Compare(a.id, b.id) })
	ids, excepted := make([]string, len(rivals)), 0
	f := finding.Finding{Rule: RuleFork, Severity: finding.Error, Position: position, EventID: rivals[0].id}
	for i, c := range rivals {
		ids[i] = c.id
		note := finding.Finding{Rule: RuleFork, Severity: finding.Error, EventID: c.id}
		if v.except(&note, func() Digest { return c.digest }); note.Severity == finding.Note {
			excepted++
		}
	}
	if parent.more > 0 {
		ids = append(ids, fmt.Sprintf("and %d more", parent.more))
	}
	event := "event " + parent.id
	if parent.id == "" { // the last one of a shard
		event = "the event"
	}
	f.Message = fmt.Sprintf("%d events name %s (%s) as their predecessor: %s. Writers that append without a lock do this, and so does whoever inserts events; take a lock when appending, and review these rows",
		int64(len(rivals))+parent.more, event, prev, strings.Join(ids, ", "))
	if excepted == len(rivals) && parent.more == 0 {
		f.Severity = finding.Note
		f.Message = "excepted by review: " + f.Message
	}
	v.tally.add(f)
}

// findHead picks the tip with the greatest position and lists all tips.
func (v *verification) findHead() {
	if !v.trunk.genesis {
		return
	}
	for _, s := range v.segments {
		at := v.placeOf(s)
		if at.root != v.trunk.root {
			continue
		}
		if end := v.second.sites[s.last]; end == nil || len(end.children) == 0 {
			v.tips = append(v.tips, s.last.String())
		}
		if at.depth+s.events() == v.trunk.height && (v.length == 0 || v.rather(s.last, v.head)) {
			v.head, v.length = s.last, v.trunk.height
		}
	}
	slices.Sort(v.tips)
	v.tips = slices.Compact(v.tips)
}

// rather chooses between two tips of one position: the one that is the checkpoint's
// head stays it, or the next checkpoint would contradict the one before.
func (v *verification) rather(tip, head Digest) bool {
	checkpoint := func(d Digest) bool {
		return slices.ContainsFunc(v.Anchors, func(a Anchor) bool { return a.Checkpoint && a.Position > 0 && a.Digest == d })
	}
	if is, was := checkpoint(tip), checkpoint(head); is != was {
		return is
	}
	return bytes.Compare(tip[:], head[:]) < 0
}

// judgeClocks reports, once, that the rows' own times run backward. Copies of
// an event may claim different times, so nothing is said where there are any.
func (v *verification) judgeClocks() {
	if v.tally.byRule[RuleDuplicateEvent] > 0 {
		return
	}
	backward, first := int64(0), int64(0)
	add := func(n, position int64) {
		if n > 0 && (backward == 0 || position < first) {
			first = position
		}
		backward += n
	}
	for _, s := range v.segments {
		base, ok := v.base(s)
		if !ok {
			continue
		}
		add(s.clock.backward, base+s.position(s.clock.at))
		if !s.genesis && ranBackward(v.second.sites[s.prev].createdAt, s.clock.first) {
			add(1, base+1)
		}
	}
	if f, ok := ranBackwardAt(backward, first); ok {
		v.tally.add(f)
	}
}

// ranBackwardAt says that the rows' own times run backward, first at a position.
func ranBackwardAt(times, first int64) (finding.Finding, bool) {
	return finding.Finding{Rule: RuleTimestampOrder, Severity: finding.Warning, Position: first,
		Message: fmt.Sprintf("created_at runs backward at %d place(s) along the chain, here for the first time. No digest covers that column and the order does not depend on it; concurrent writers and clock changes do this", times)}, times > 0
}

// sitesOf are the digests that the first pass looks for.
func sitesOf(o Options) map[Digest]*site {
	sites := map[Digest]*site{}
	for _, a := range slices.Concat(o.Anchors, o.Looked) {
		sites[a.Digest] = &site{}
	}
	for _, x := range o.Exceptions {
		if x.Rule == RuleFork {
			sites[x.Digest] = &site{}
		}
	}
	return sites
}

// anchored tells whether the chain passes through a.
func (v *verification) anchored(a Anchor) bool {
	site := v.joiner.sites[a.Digest]
	if !site.found || v.trunk == nil || !v.trunk.genesis {
		return false
	}
	at := v.placeOf(site.on.of)
	return at.root == v.trunk.root && (a.Position == 0 || at.depth+site.on.of.position(site.at) == a.Position)
}

// judgeAnchors wants every anchor in its place. Of those with one name the first
// that is not there speaks for the rest.
func (v *verification) judgeAnchors() {
	missed := map[string]bool{}
	for _, a := range v.Anchors {
		if missed[a.Name] {
			continue
		}
		site := v.joiner.sites[a.Digest]
		f := finding.Finding{Severity: finding.Error, Position: a.Position}
		switch {
		case a.Gone && !v.anchored(a):
			continue
		case a.Gone:
			f.Rule = RuleCheckpointMismatch
			f.Message = fmt.Sprintf("the chain passes through the %s (digest %s), so it is not lost, and all that stands behind its restart could be cut off unseen: take that reset out; where the end of a branch is lost, name it in the reset's tips", a.Name, a.Digest)
		case v.anchored(a):
			continue
		case !site.found && a.Position == 0:
			f.Rule = RuleTruncated
			f.Message = fmt.Sprintf("the %s knows a branch that ends with the digest %s, and no event has it: somebody removed rows of that branch, or this is an older copy of the table", a.Name, a.Digest)
		case !site.found && a.Position > v.length:
			f.Rule = RuleTruncated
			f.Message = fmt.Sprintf("the %s knows %d events, the chain has %d: the last %d are gone. Somebody removed rows, or this is an older copy of the table", a.Name, a.Position, v.length, a.Position-v.length)
		case !site.found:
			f.Rule = RuleCheckpointMismatch
			f.Message = fmt.Sprintf("the %s says that event %d has the digest %s, and no event has it: history before it was rewritten, or this is another table", a.Name, a.Position, a.Digest)
		default:
			f.Rule = RuleCheckpointMismatch
			f.EventID = site.id
			f.Message = fmt.Sprintf("the %s says that this event (digest %s) stands at position %d of the chain, and it does not: events before it were added or removed", a.Name, a.Digest, a.Position)
		}
		missed[a.Name] = true
		v.tally.add(f)
	}
}

// countSigners sums up who signed what, and where.
func (v *verification) countSigners(r *Report) {
	var sum load
	for _, s := range v.segments {
		base, ok := v.base(s)
		for _, u := range s.uses {
			if ok {
				u.first, u.last = base+s.position(u.first), base+s.position(u.last)
				u.notBefore = max(u.notBefore, v.placeOf(s).newest)
			} else {
				u = use{kid: u.kid, events: u.events, first: math.MaxInt64}
			}
			sum.merge(u)
		}
	}
	for _, u := range sum.uses {
		e := v.joiner.entries[u.kid]
		signer := SignerUse{Events: u.events, Entry: e.entry, State: cmp.Or(e.state, "unknown")}
		if u.last > 0 {
			if v.tally.byRule[RuleDuplicateEvent] == 0 { // copies of an event may claim different times
				signer.LastNotBefore = stamp(u.notBefore)
			}
			signer.FirstPosition, signer.FirstCreatedAt = u.first, stamp(u.firstAt)
			signer.LastPosition, signer.LastCreatedAt, signer.LastDigest = u.last, stamp(u.lastAt), u.lastDigest
		}
		r.Signers[v.joiner.kids[u.kid]] = signer
	}
}
