package chain

import (
	"context"
	"iter"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// Resumption says what a resumed verification rests on.
type Resumption struct {
	// From is "<count>:<head>" of the checkpoint: its events were not read again.
	From string `json:"from"`
	// New is the number of events after it, each of which was verified.
	New int64 `json:"new"`
	// TableRows is the table's own count of rows, 0 of an export: those up to
	// the checkpoint and the new ones together, or the run is no resumed one.
	TableRows int64 `json:"tableRows,omitempty"`
	// FullAt is when the whole chain was last read, as the checkpoint has it.
	FullAt string `json:"fullAt,omitempty"`
}

// Resume continues a verification behind from, the last event of one that was
// sound under the same trust. events hold that event, all after it, and any
// number of those before. It accepts or has no opinion: the report is nil when
// anything is not as it should be (the event is not there, a finding of
// severity error, a row that neither follows it nor leads up to it), and only
// Verify can tell what is wrong then. Positions count from genesis on; the
// report's signers are those of the new events.
//
// Why that is safe: each digest covers the one before, so the digest of from
// stands for every event up to it. What resuming cannot see are rows before
// from that were changed, added or removed since. rows is the table's own
// count, 0 for a source that has none: if it is not that of the chain, there is
// something to be seen.
func Resume(ctx context.Context, events iter.Seq2[Event, error], rows int64, from Anchor, o Options) (*Report, error) {
	o.Anchors, o.Exceptions = nil, nil
	v := newVerification(o, most)
	v.from = &from
	v.joiner.offset = from.Position - 1
	if err := scan(ctx, events, max(1, v.Workers), v.examine, v.place); err != nil {
		return nil, err
	}
	root := v.continued(v.joiner.finish())
	if root == nil {
		return nil, nil
	}
	v.segments = []*segment{root}
	v.second = newJoiner(v.limits, nil)
	if f, ok := ranBackwardAt(root.clock.backward, root.position(root.clock.at)); ok {
		v.tally.add(f)
	}
	if v.tally.failed {
		return nil, nil
	}
	r := v.report()
	r.Head, r.Length, r.TruncationExcluded = root.last.String(), root.offset+root.events(), true
	if rows != 0 && rows != r.Length {
		return nil, nil
	}
	r.Resumed = &Resumption{From: from.String(), New: root.events() - 1, TableRows: rows}
	return r, nil
}

// continued gives the one segment that starts with the event to resume from,
// if all that is beside it leads up to that event without a flaw.
func (v *verification) continued(segments []*segment) (root *segment) {
	var before *segment
	for _, s := range segments {
		switch {
		case s.first == v.from.Digest && root == nil:
			root = s
		case before == nil:
			before = s
		default:
			return nil
		}
	}
	switch {
	case root == nil, (root.prev == Digest{}) != (v.from.Position == 1):
		return nil
	case before == nil:
		return root
	case before.last != root.prev, before.genesis && before.events() != root.offset:
		return nil
	}
	for _, m := range before.marks {
		if m.finding != nil && m.finding.Severity == finding.Error {
			return nil
		}
	}
	return root
}
