package chain

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// limits bound what is kept in memory when rows arrive far out of order, or
// are no chain.
type limits struct {
	maxGaps   int // segments that are open at once
	maxMarks  int // marks that wait for a position
	maxPieces int // segments left at the end for which a second pass is made
}

// joiner puts events into order. It holds one segment for each gap in what it
// has seen so far: one for rows in chain order, at most maxGaps. Every
// segment but current is in byLast, every one without a genesis in byFirst.
type joiner struct {
	limits
	open    int
	pending int                 // marks that wait, sites apart
	current *segment            // grew last
	byLast  map[Digest]*segment // by last digest, the rest linked by right
	byFirst map[Digest]*segment // by prev, the rest linked by sibling
	roots   []*segment          // those that start with a genesis event
	sites   map[Digest]*site
	offset  int64 // events before the one that a resumed verification goes on from
	kids    []string
	kidOf   map[string]int32
	entries []entryOf
	// settle is called once for each mark that is no site, as soon as its
	// segment hangs on a genesis and its position is final. A joiner without
	// it keeps no account of anything but the sites.
	settle func(position int64, m mark)
}

// entryOf is what the verifier said about a signer id.
type entryOf struct{ entry, state string }

func newJoiner(most limits, sites map[Digest]*site) *joiner {
	return &joiner{limits: most, byLast: map[Digest]*segment{}, byFirst: map[Digest]*segment{}, sites: sites, kidOf: map[string]int32{}}
}

// maxKids bounds the unknown signer ids that are told apart; a table with more
// is not an audit chain of this kind, and the rest shares one line.
const maxKids = 1000

func (j *joiner) kid(signer []byte, judged Judgement) int32 {
	k, known := j.kidOf[string(signer)]
	if !known {
		return j.newKid(clip(signer), entryOf{judged.Signer, judged.State})
	}
	if j.entries[k].state == "" { // so far only unsigned rows named it
		j.entries[k] = entryOf{judged.Signer, judged.State}
	}
	return k
}

func (j *joiner) newKid(name string, e entryOf) int32 {
	if len(j.kids) >= maxKids && e.entry == "" {
		name = "(more than 1000 unknown signer ids)"
	}
	if k, ok := j.kidOf[name]; ok {
		return k
	}
	k := int32(len(j.kids))
	j.kids, j.entries = append(j.kids, name), append(j.entries, e)
	j.kidOf[name] = k
	return k
}

// add places one event; its marks wait there for its position.
func (j *joiner) add(e *Event, o *outcome) error {
	s := j.grow(e, o)
	if s.events() == 1 {
		if err := j.begin(s, e); err != nil {
			return err
		}
	}
	s.last = o.digest
	if at := s.end - 1; at > s.start {
		s.clock.then(clock{first: o.createdAt, last: o.createdAt, newest: o.createdAt}, at)
	}
	if j.settle != nil {
		j.account(s, e, o)
	}
	if len(j.sites) > 0 {
		j.visit(s, e, o)
	}
	if len(j.byFirst) > 0 {
		j.join(s)
	}
	j.focus(s)
	return nil
}

// account notes who signed the segment's last event, when, and what is to be
// said about it.
func (j *joiner) account(s *segment, e *Event, o *outcome) {
	kid, at := j.kid(e.Signer, o.judged), s.end-1
	if !o.resumed && !o.excepted { // the checkpoint has counted the one
		s.merge(use{kid, 1, at, at, o.createdAt, o.createdAt, s.clock.newest, o.digest})
	}
	for i := range o.findings {
		j.mark(s, mark{at: at, finding: &o.findings[i]})
	}
	if o.judged.Until > 0 {
		j.mark(s, mark{at: at, until: o.judged.Until, kid: kid, id: clip(e.ID)})
	}
}

// grow gives the segment that the event extends, a new one if there is none.
func (j *joiner) grow(e *Event, o *outcome) *segment {
	if !o.genesis && !o.resumed {
		s := j.current
		if s == nil || s.last != o.prev {
			if s = j.byLast[o.prev]; s != nil {
				j.unlist(s)
			}
		}
		if s != nil {
			s.end++
			return s
		}
	}
	s := &segment{genesis: o.genesis || o.resumed, prev: o.prev, first: o.digest, end: 1, firstID: clip(e.ID), clock: clock{first: o.createdAt, last: o.createdAt, newest: o.createdAt}}
	s.load = &load{of: s}
	if o.resumed {
		s.offset = j.offset
	}
	return s
}

// begin registers a segment of one event.
func (j *joiner) begin(s *segment, e *Event) error {
	if j.open++; j.open > j.maxGaps {
		return &SourceError{Message: fmt.Sprintf("row %d: the chain has more than %d gaps, more than are kept in memory: either the rows arrive far out of order, then export them in the order in which they were written (ORDER BY created_at), or most of the table does not belong to one chain", e.Row, j.maxGaps)}
	}
	if s.genesis {
		j.roots = append(j.roots, s)
		return nil
	}
	s.sibling = j.byFirst[s.prev]
	j.byFirst[s.prev] = s
	return nil
}

// focus makes s the segment that is tried first for the next event.
func (j *joiner) focus(s *segment) {
	if c := j.current; c != s {
		if c != nil {
			j.list(c)
		}
		j.current = s
	}
}

// list enters s into byLast.
func (j *joiner) list(s *segment) {
	if s.right = j.byLast[s.last]; s.right != nil {
		s.right.left = s
	}
	j.byLast[s.last] = s
}

// unlist takes s out of byLast.
func (j *joiner) unlist(s *segment) {
	switch {
	case s.left != nil:
		s.left.right = s.right
	case s.right != nil:
		j.byLast[s.last] = s.right
	default:
		delete(j.byLast, s.last)
	}
	if s.right != nil {
		s.right.left = s.left
	}
	s.left, s.right = nil, nil
}

// join appends to s the segment that was waiting for its last digest, if any.
func (j *joiner) join(s *segment) {
	t := j.byFirst[s.last]
	if t == nil {
		return
	}
	if t.sibling == nil {
		delete(j.byFirst, s.last)
	} else {
		j.byFirst[s.last] = t.sibling
	}
	if j.current == t {
		j.current = nil
	} else {
		j.unlist(t)
	}
	j.open--
	for i := range t.uses { // all of t was written after all of s
		t.uses[i].notBefore = max(t.uses[i].notBefore, s.clock.newest)
	}
	past := t.after(s)
	if s.genesis || s.weight() >= t.weight() {
		t.move(s.end - t.start)
	} else {
		s.move(t.start - s.end)
		s.load, t.load = t.load, s.load
		s.load.of = s
	}
	s.clock.then(t.clock, t.start)
	s.end, s.last = t.end, t.last
	j.pour(t.load, s)
	s.past = past
}

// pour adds a load, moved to the coordinates of s, to that of s.
func (j *joiner) pour(from *load, s *segment) {
	for _, u := range from.uses {
		s.merge(u)
	}
	for _, m := range from.marks {
		if m.site != nil {
			m.site.on = s.load
		} else {
			j.pending--
		}
		j.mark(s, m)
	}
	for _, m := range from.late {
		j.mark(s, m)
	}
}

// mark settles m if its position is final, else keeps it. Sites stay: they
// tell what hangs where. Beyond the limit findings go without a position, and
// of a retired signer's events the last one stands for all: it alone decides
// whether any of them came too late.
func (j *joiner) mark(s *segment, m mark) {
	switch {
	case m.site != nil:
		s.marks = append(s.marks, m)
	case s.genesis:
		j.settle(s.position(m.at), m)
	case j.pending < j.maxMarks:
		j.pending++
		s.marks = append(s.marks, m)
	case m.finding != nil:
		j.settle(0, m)
	default:
		for i := range s.late {
			if s.late[i].kid == m.kid {
				if s.late[i].at < m.at {
					s.late[i] = m
				}
				return
			}
		}
		s.late = append(s.late, m)
	}
}

// visit notes what the segment's last event is to the sites.
func (j *joiner) visit(s *segment, e *Event, o *outcome) {
	at := s.end - 1
	if site := j.sites[o.digest]; site != nil {
		if id := clip(e.ID); !site.found {
			site.find(s, at, id, o.createdAt, s.clock.newest)
		} else {
			site.id = min(site.id, id)
		}
	}
	if o.genesis {
		return
	}
	if site := j.sites[o.prev]; site != nil {
		site.adopt(child{o.digest, clip(e.ID)})
	}
}

// finish lists the segments that are left when all rows are in.
func (j *joiner) finish() []*segment {
	all := j.roots
	for _, s := range j.byFirst {
		for ; s != nil; s = s.sibling {
			all = append(all, s)
		}
	}
	j.byFirst, j.byLast, j.current, j.roots = nil, nil, nil, nil
	return all
}

// site is a digest that is looked for, and the events that name it as their
// predecessor.
type site struct {
	found     bool
	on        *load // that carries it
	at        int64
	id        string // of the event with this digest; the least if there are copies
	createdAt int64
	newest    int64 // the latest time claimed up to it, as far as past does not know a later one
	past      *past
	children  []child // by digest and id
	more      int64   // children beyond maxChildren

	place  place // settled when all rows are in
	placed bool
}

// find notes that the site's event stands in s; newest is the latest time that
// any event up to it claims there.
func (s *site) find(on *segment, at int64, id string, createdAt, newest int64) {
	if on.past == nil {
		on.past = new(past)
	}
	s.found, s.id, s.on, s.at, s.createdAt, s.newest, s.past = true, id, on.load, at, createdAt, newest, on.past
	on.marks = append(on.marks, mark{at: at, site: s})
}

type child struct {
	digest Digest
	id     string
}

// maxChildren bounds how many successors of one event are named.
const maxChildren = 64

// adopt keeps the first maxChildren of all children in their order, whatever
// order they come in.
func (s *site) adopt(c child) {
	i, _ := slices.BinarySearchFunc(s.children, c, child.compare)
	s.children = slices.Insert(s.children, i, c)
	if len(s.children) > maxChildren {
		s.children = s.children[:maxChildren]
		s.more++
	}
}

func (c child) compare(d child) int {
	return cmp.Or(bytes.Compare(c.digest[:], d.digest[:]), strings.Compare(c.id, d.id))
}
