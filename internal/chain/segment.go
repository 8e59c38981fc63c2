package chain

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// segment is a run of events, each naming the digest of the one before it.
// Its events have the coordinates [start, end).
type segment struct {
	genesis     bool  // the first event names no predecessor, or is the one to go on from
	offset      int64 // events before the first, of one to go on from
	prev        Digest
	first       Digest
	last        Digest
	start, end  int64
	firstID     string
	clock       clock
	*load                // what it carries
	sibling     *segment // next segment that waits for the same prev
	left, right *segment // others that end with the same digest
}

func (s *segment) events() int64 { return s.end - s.start }

// load is what a segment carries, by coordinate. Of two segments that meet,
// the lighter load moves over to the other one's coordinates, so that rows in
// any order cost a logarithm more than rows in the right one.
type load struct {
	of    *segment
	uses  []use
	marks []mark
	// late holds, of each retired signer, its last event among those that
	// were too many to keep a mark of each.
	late []mark
	// past is that of the sites among the marks, nil without any.
	past *past
}

// past is what is known of the events before a site: the latest time that any
// of them claims is the latest of this and of all above it. Sites that came to
// one segment from two keep a past each, below a common one.
type past struct {
	newest int64
	above  *past
}

// settled gives that time, when all segments are joined. Asking for each site
// walks each step once.
func (p *past) settled() int64 {
	var path []*past
	for ; p != nil; p = p.above {
		path = append(path, p)
	}
	newest := int64(0)
	for _, p := range slices.Backward(path) {
		newest = max(newest, p.newest)
		p.newest, p.above = newest, nil
	}
	return newest
}

// after lets t follow s.
func (t *load) after(s *segment) *past {
	switch {
	case t.past == nil:
		return s.past
	case t.past.newest < s.clock.newest:
		t.past.newest = s.clock.newest
	}
	if s.past == nil {
		return t.past
	}
	both := new(past)
	s.past.above, t.past.above = both, both
	return both
}

func (l *load) weight() int { return len(l.uses) + len(l.marks) }

// position of a coordinate in a segment that starts with its genesis.
func (s *segment) position(at int64) int64 { return s.offset + at - s.start + 1 }

// move shifts all coordinates.
func (s *segment) move(by int64) {
	s.start += by
	s.end += by
	s.clock.at += by
	for i := range s.uses {
		s.uses[i].first += by
		s.uses[i].last += by
	}
	for i := range s.marks {
		s.marks[i].at += by
		if site := s.marks[i].site; site != nil {
			site.at += by
		}
	}
	for i := range s.late {
		s.late[i].at += by
	}
}

// merge adds a signer's events to what the load has of it. Events in the same
// place, on the branches of a fork, are told apart by digest and time, so that
// the order of the rows decides nothing.
func (l *load) merge(u use) {
	for i := range l.uses {
		have := &l.uses[i]
		if have.kid != u.kid {
			continue
		}
		have.events += u.events
		if cmp.Or(cmp.Compare(u.first, have.first), cmp.Compare(u.firstAt, have.firstAt)) < 0 {
			have.first, have.firstAt = u.first, u.firstAt
		}
		if cmp.Or(cmp.Compare(have.last, u.last), bytes.Compare(u.lastDigest[:], have.lastDigest[:]), cmp.Compare(u.lastAt, have.lastAt)) < 0 {
			have.last, have.lastAt, have.notBefore, have.lastDigest = u.last, u.lastAt, u.notBefore, u.lastDigest
		}
		return
	}
	l.uses = append(l.uses, u)
}

// clock follows the rows' own times, Unix microseconds, 0 unknown.
type clock struct {
	first, last int64 // of the first and the last event
	newest      int64 // the latest of all
	backward    int64 // how often time ran backward from one event to the next
	at          int64 // coordinate of the first such event
}

// then continues c with the times of what follows it, from coordinate at on.
func (c *clock) then(next clock, at int64) {
	if ranBackward(c.last, next.first) {
		next.backward++
		next.at = at
	}
	if c.backward == 0 {
		c.at = next.at
	}
	c.backward += next.backward
	c.last = next.last
	c.newest = max(c.newest, next.newest)
}

func ranBackward(from, to int64) bool { return from != 0 && to != 0 && from > to }

// use is one signer id's part of a segment.
type use struct {
	kid             int32
	events          int64
	first, last     int64 // coordinates
	firstAt, lastAt int64
	notBefore       int64 // the latest time that any event up to its last one claims
	lastDigest      Digest
}

// mark is something to be settled once the position of an event is known.
type mark struct {
	at int64 // coordinate
	// One of: a finding that waits for its position, a signer that counts
	// only up to position until, a digest that was looked for.
	finding *finding.Finding
	until   int64
	kid     int32
	id      string
	site    *site
}
