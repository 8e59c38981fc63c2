package chain

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// Part is what a shard, that is any set of rows, leaves behind for Join: what
// was found in it, and the segments that its rows make. Rows in the order of
// the chain are one segment, however many they are; a Part grows with their
// disorder.
type Part struct {
	Version int `json:"version"`
	// Shard says which part of which plan this is; see package audit.
	Shard string `json:"shard"`
	// Terms is a digest of what the rows were held against; ToolVersion is what
	// read them. Parts join only if they have both in common.
	Terms string `json:"terms"`
	// Anchors is a digest of the checkpoints that the rows were held against,
	// which another run may move meanwhile.
	Anchors     string `json:"anchors,omitempty"`
	ToolVersion string `json:"toolVersion,omitempty"`
	// StartedAt is when the shard was begun: what came later it may not have seen.
	StartedAt time.Time `json:"startedAt,omitzero"`
	// SystemIdentifier names the database that the rows were read from, "" if it
	// was none; InRecovery says that it was a standby.
	SystemIdentifier string `json:"systemIdentifier,omitempty"`
	InRecovery       bool   `json:"inRecovery,omitempty"`

	Events            int64   `json:"events"`
	NonObjectPayloads int64   `json:"nonObjectPayloads,omitempty"`
	Segments          []Piece `json:"segments"`
	// Ends are the events at both ends of the segments, if there are several
	// and not too many to look where they hang, and those that reviewed forks
	// hang on: so these forks are known as such, and one within the shard.
	Ends []End `json:"ends,omitempty"`
	// Findings are those whose position is known or never will be, the first
	// of each rule; the others wait in their segments.
	Findings      []finding.Finding `json:"findings"`
	FindingsTotal int64             `json:"findingsTotal"`
	ByRule        map[string]int64  `json:"byRule,omitempty"`
	// Excepted are the exceptions that matched a row.
	Excepted   []Exception     `json:"excepted,omitempty"`
	Signatures SignatureChecks `json:"signatures,omitzero"`
}

// Piece is a segment: events that each name the one before. Places within it
// count from 1.
type Piece struct {
	Genesis  bool       `json:"genesis,omitempty"`
	Prev     Digest     `json:"prev"` // zeros if Genesis
	First    Digest     `json:"first"`
	Last     Digest     `json:"last"`
	Events   int64      `json:"events"`
	FirstID  string     `json:"firstId"`
	Clock    PieceClock `json:"clock"`
	Signers  []PieceUse `json:"signers"`
	Waiting  []Waiting  `json:"waiting,omitempty"`
	Anchored []Anchored `json:"anchored,omitempty"`
}

// PieceClock follows created_at, in Unix microseconds, 0 unknown.
type PieceClock struct {
	First    int64 `json:"first"`
	Last     int64 `json:"last"`
	Newest   int64 `json:"newest,omitempty"`
	Backward int64 `json:"backward,omitempty"` // how often it ran backward
	At       int64 `json:"at,omitempty"`       // where for the first time
}

// PieceUse is one signer id's part of a segment; times as in PieceClock.
type PieceUse struct {
	Signer     string `json:"signer"`
	Entry      string `json:"entry,omitempty"`
	State      string `json:"state,omitempty"`
	Events     int64  `json:"events"`
	First      int64  `json:"first"`
	Last       int64  `json:"last"`
	FirstAt    int64  `json:"firstAt,omitempty"`
	LastAt     int64  `json:"lastAt,omitempty"`
	NotBefore  int64  `json:"notBefore,omitempty"`
	LastDigest Digest `json:"lastDigest"`
}

// Waiting is a finding, or an event by a signer that counts only up to a
// position, whose position follows from the parts before.
type Waiting struct {
	At      int64            `json:"at"`
	Finding *finding.Finding `json:"finding,omitempty"`
	Until   int64            `json:"until,omitempty"`
	Signer  string           `json:"signer,omitempty"`
	EventID string           `json:"eventId,omitempty"`
}

// Anchored is an event that an anchor or checkpoint names.
type Anchored struct {
	At        int64  `json:"at"`
	Digest    Digest `json:"digest"`
	EventID   string `json:"eventId"`
	CreatedAt int64  `json:"createdAt,omitempty"`
}

// End is an event on which segments may hang.
type End struct {
	Digest Digest `json:"digest"`
	// Segment is the index of the segment that has it, At the place there; At
	// is 0 if no row of the shard is that event.
	Segment   int    `json:"segment,omitempty"`
	At        int64  `json:"at,omitempty"`
	EventID   string `json:"eventId,omitempty"`
	CreatedAt int64  `json:"createdAt,omitempty"`
	// Newest is the latest time that any event of the segment up to it claims.
	Newest int64 `json:"newest,omitempty"`
	// Next are the rows of the shard that name it as their predecessor; More
	// are those beyond the first.
	Next []Next `json:"next,omitempty"`
	More int64  `json:"more,omitempty"`
}

// Next is a row that names an End.
type Next struct {
	Digest  Digest `json:"digest"`
	EventID string `json:"eventId"`
}

// shardPieces is how many segments of a shard are looked at again for where
// they hang.
const shardPieces = 1000

// shardMarks bounds what waits in a part: the first findings, and of each
// retired signer its last event, which alone decides whether any came too late.
const shardMarks = 1000

// Shard examines rows that are some of a chain's. Whether they are in order,
// and all of them there, only Join can tell.
func Shard(ctx context.Context, events iter.Seq2[Event, error], o Options) (*Part, error) {
	limits := most
	limits.maxMarks, limits.maxPieces = shardMarks, shardPieces
	v := newVerification(o, limits)
	v.reviewed = map[Digest]bool{}
	for _, x := range o.Exceptions {
		if x.Rule == RuleFork {
			v.reviewed[x.Digest] = true
		}
	}
	if err := scan(ctx, events, max(1, v.Workers), v.examine, v.place); err != nil {
		return nil, err
	}
	if err := v.locate(ctx, events); err != nil {
		return nil, err
	}
	p := &Part{
		Version: 1, Terms: termsOf(o), Anchors: anchorsOf(o), Events: v.census.rows, NonObjectPayloads: v.notObjects, Segments: []Piece{},
		Findings: v.tally.list(), FindingsTotal: v.tally.total, ByRule: v.tally.byRule,
	}
	for _, x := range v.exceptions {
		if x.used {
			p.Excepted = append(p.Excepted, x.Exception)
		}
	}
	for _, s := range v.segments {
		p.Segments = append(p.Segments, v.joiner.piece(s))
	}
	p.Ends = v.ends()
	return p, nil
}

// ends writes down what locate has found.
func (v *verification) ends() (ends []End) {
	// The second pass has made the same segments; copies of one may stand for
	// each other.
	type shape struct {
		prev, first, last Digest
		events            int64
	}
	index := map[shape]int{}
	for i, s := range v.segments {
		index[shape{s.prev, s.first, s.last, s.events()}] = i
	}
	for d, site := range v.second.sites {
		e := End{Digest: d, More: site.more}
		if site.found {
			of := site.on.of
			e.Segment, e.At = index[shape{of.prev, of.first, of.last, of.events()}], site.at-of.start+1
			e.EventID, e.CreatedAt, e.Newest = site.id, site.createdAt, max(site.newest, site.past.settled())
		}
		for _, c := range site.children {
			e.Next = append(e.Next, Next{c.digest, c.id})
		}
		ends = append(ends, e)
	}
	slices.SortFunc(ends, func(a, b End) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	return ends
}

// List gives all findings that the part holds, also those that wait for their
// position.
func (p *Part) List() []finding.Finding {
	all := slices.Clone(p.Findings)
	for _, s := range p.Segments {
		for _, w := range s.Waiting {
			if w.Finding != nil {
				all = append(all, *w.Finding)
			}
		}
	}
	return all
}

// Failed tells whether the part alone shows that the chain is not sound.
func (p *Part) Failed() bool { return finding.Count(p.List(), finding.Error) > 0 }

// termsOf sums up what decides about a row.
func termsOf(o Options) string {
	return digestOf(slices.DeleteFunc(slices.Clone(o.Anchors), Anchor.movable), o.Exceptions, o.StrictNumbers, o.Terms)
}

// anchorsOf sums up the anchors that come from checkpoints.
func anchorsOf(o Options) string {
	return digestOf(slices.DeleteFunc(slices.Clone(o.Anchors), func(a Anchor) bool { return !a.movable() }))
}

func (a Anchor) movable() bool { return a.Signer == "" }

func digestOf(values ...any) string {
	text, err := json.Marshal(values)
	if err != nil {
		panic(err) // plain values
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// piece writes a segment down.
func (j *joiner) piece(s *segment) Piece {
	p := Piece{
		Genesis: s.genesis, Prev: s.prev, First: s.first, Last: s.last, Events: s.events(), FirstID: s.firstID,
		Clock: PieceClock{First: s.clock.first, Last: s.clock.last, Newest: s.clock.newest, Backward: s.clock.backward}, Signers: []PieceUse{},
	}
	if s.clock.backward > 0 {
		p.Clock.At = s.clock.at - s.start + 1
	}
	for _, u := range s.uses {
		p.Signers = append(p.Signers, PieceUse{
			Signer: j.kids[u.kid], Entry: j.entries[u.kid].entry, State: j.entries[u.kid].state, Events: u.events,
			First: u.first - s.start + 1, Last: u.last - s.start + 1, FirstAt: u.firstAt, LastAt: u.lastAt, NotBefore: u.notBefore, LastDigest: u.lastDigest,
		})
	}
	for _, m := range slices.Concat(s.marks, s.late) {
		at := m.at - s.start + 1
		switch {
		case m.site != nil:
			p.Anchored = append(p.Anchored, Anchored{at, j.digestOf(m.site), m.site.id, m.site.createdAt})
		case m.finding != nil:
			p.Waiting = append(p.Waiting, Waiting{At: at, Finding: m.finding})
		default:
			p.Waiting = append(p.Waiting, Waiting{At: at, Until: m.until, Signer: j.kids[m.kid], EventID: m.id})
		}
	}
	return p
}

// digestOf finds what a site was looked for by.
func (j *joiner) digestOf(s *site) Digest {
	for d, site := range j.sites {
		if site == s {
			return d
		}
	}
	return Digest{}
}

// Join judges the chain whose rows the parts are: all of them, each in one
// part. For a sound chain the report is that of Verify. Where the parts do not
// fit together the verdict is the same, but the rows themselves are not at hand
// to tell a missing event from one with rivals.
func Join(parts []*Part, o Options) (*Report, error) {
	v := newVerification(o, most)
	v.second = newJoiner(most, map[Digest]*site{})
	v.apart = true
	terms := termsOf(o)
	for _, p := range parts {
		switch {
		case p.Version != 1:
			return nil, &SourceError{Message: fmt.Sprintf("shard %.80q: its report has version %d, this release reads version 1", p.Shard, p.Version)}
		case p.Terms != terms:
			return nil, &SourceError{Message: fmt.Sprintf("shard %.80q was held against another registry, archive or list of exceptions, or with other settings: run all shards and the join from one commit with the same inputs", p.Shard)}
		case p.Anchors != anchorsOf(o):
			return nil, fmt.Errorf("shard %.80q was held against another checkpoint than this join: another run has written one in between, or they were given different ones. Run plan, shards and join again, and let no other run write the checkpoint meanwhile", p.Shard)
		case p.ToolVersion != parts[0].ToolVersion:
			return nil, &SourceError{Message: fmt.Sprintf("shard %.80q was read by release %.80q, shard %.80q by %.80q: run all with one release", p.Shard, p.ToolVersion, parts[0].Shard, parts[0].ToolVersion)}
		}
		if err := v.take(p); err != nil {
			return nil, err
		}
	}
	v.segments = v.joiner.finish()
	v.judge()
	r := v.report()
	for _, p := range parts {
		r.Signatures.Fast += p.Signatures.Fast
		r.Signatures.Rechecked += p.Signatures.Rechecked
		r.Signatures.Library += p.Signatures.Library
	}
	return r, nil
}

// Loose lists the last events of segments, in hex, that no segment of any part
// follows: of a sound chain its head.
func Loose(parts []*Part) (ends []string) {
	followed := map[Digest]bool{}
	for _, p := range parts {
		for _, s := range p.Segments {
			followed[s.Prev] = true
		}
	}
	for _, p := range parts {
		for _, s := range p.Segments {
			if !followed[s.Last] {
				ends = append(ends, s.Last.String())
			}
		}
	}
	return ends
}

// take adds a part to what is known.
func (v *verification) take(p *Part) error {
	broken := func(why string) error {
		return &SourceError{Message: fmt.Sprintf("the report of shard %.80q contradicts itself (%s): it was changed, or is no report of a shard", p.Shard, why)}
	}
	linked := int64(0)
	segments := make([]*segment, len(p.Segments)) // as v.second has them
	for i := range p.Segments {
		s := &p.Segments[i]
		if s.Events < 1 || s.Last == s.Prev || s.Genesis && s.Prev != (Digest{}) || s.Events == 1 && s.First != s.Last {
			return broken("a segment has no events or no ends")
		}
		linked += s.Events
		if err := v.joiner.addPiece(s, v.joiner.segment(s)); err != nil {
			return err
		}
		segments[i] = &segment{genesis: s.Genesis, prev: s.Prev, first: s.First, last: s.Last, end: s.Events, firstID: s.FirstID, clock: clock{newest: s.Clock.Newest}}
		segments[i].load = &load{of: segments[i]}
	}
	if why := v.hang(p, segments); why != "" {
		return broken(why)
	}
	for _, s := range segments {
		if err := v.second.addPiece(&Piece{}, s); err != nil {
			return err
		}
	}
	v.census.rows += p.Events
	v.notObjects += p.NonObjectPayloads
	if linked > p.Events {
		return broken("its segments hold more events than it read")
	}
	listed := int64(0)
	for _, f := range p.Findings {
		v.tally.add(f)
		listed++
	}
	if p.FindingsTotal < listed || listed == 0 && (p.FindingsTotal > 0 || len(p.ByRule) > 0 || linked < p.Events) {
		return broken("findings are missing")
	}
	v.tally.total += p.FindingsTotal - listed
	for rule, n := range p.ByRule {
		for _, f := range p.Findings {
			if f.Rule == rule {
				n--
			}
		}
		if n > 0 {
			v.tally.byRule[rule] += n
		}
	}
	for _, x := range p.Excepted {
		if known := v.exceptions[exceptionKey{x.Rule, x.EventID, x.Digest}]; known != nil {
			known.used = true
		}
	}
	return nil
}

// hang notes on what events a part's segments hang, and may have others hang.
// Every row that names such an event is counted once: by the part's Ends, or,
// of a part without them, by the segment that starts with it.
func (v *verification) hang(p *Part, segments []*segment) (broken string) {
	at := func(d Digest) *site {
		s := v.second.sites[d]
		if s == nil {
			s = &site{}
			v.second.sites[d] = s
		}
		return s
	}
	found := func(d Digest, of *segment, position int64, id string, createdAt, newest int64) {
		s := at(d)
		if s.found {
			s.id = min(s.id, id)
			return
		}
		s.find(of, position-1, id, createdAt, newest)
	}
	listed := map[Digest]bool{}
	for _, e := range p.Ends {
		if listed[e.Digest] {
			return "an end stands there twice"
		}
		listed[e.Digest] = true
		if e.At != 0 {
			if e.Segment < 0 || e.Segment >= len(segments) || e.At < 0 || e.At > segments[e.Segment].end {
				return "an end lies beyond its segment"
			}
			found(e.Digest, segments[e.Segment], e.At, e.EventID, e.CreatedAt, e.Newest)
		}
		for _, n := range e.Next {
			at(e.Digest).adopt(child{n.Digest, n.EventID})
		}
		at(e.Digest).more += e.More
	}
	for i, s := range segments {
		if !listed[s.last] {
			found(s.last, s, s.end, "", p.Segments[i].Clock.Last, s.clock.newest)
		}
		if !s.genesis && !listed[s.prev] {
			at(s.prev).adopt(child{s.first, s.firstID})
		}
	}
	return ""
}

// segment reads a piece; what waits in it addPiece brings in.
func (j *joiner) segment(p *Piece) *segment {
	s := &segment{
		genesis: p.Genesis, prev: p.Prev, first: p.First, last: p.Last, end: p.Events, firstID: p.FirstID,
		clock: clock{first: p.Clock.First, last: p.Clock.Last, newest: p.Clock.Newest, backward: p.Clock.Backward, at: p.Clock.At - 1},
	}
	s.load = &load{of: s}
	for _, u := range p.Signers {
		kid := j.kid([]byte(u.Signer), Judgement{Signer: u.Entry, State: u.State})
		s.merge(use{kid, u.Events, u.First - 1, u.Last - 1, u.FirstAt, u.LastAt, u.NotBefore, u.LastDigest})
	}
	return s
}

// addPiece places a segment as add places an event.
func (j *joiner) addPiece(p *Piece, s *segment) error {
	if err := j.begin(s, &Event{}); err != nil {
		return err
	}
	for _, a := range p.Anchored {
		if site := j.sites[a.Digest]; site != nil && !site.found {
			site.find(s, a.At-1, a.EventID, a.CreatedAt, 0) // what hangs on it is asked of v.second
		}
	}
	for _, w := range p.Waiting {
		m := mark{at: w.At - 1, finding: w.Finding, until: w.Until, id: w.EventID}
		if m.finding == nil {
			m.kid = j.kid([]byte(w.Signer), Judgement{})
		}
		j.mark(s, m)
	}
	if before := j.byLast[s.prev]; before != nil && !s.genesis {
		j.list(s)
		j.unlist(before)
		j.join(before)
		s = before
	}
	if j.byFirst[s.last] == s {
		return &SourceError{Message: "the shards' segments run in a circle, which no chain of digests does: their reports were changed"}
	}
	j.join(s)
	j.list(s)
	return nil
}
