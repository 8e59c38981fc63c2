// Package checkpoint reads and writes the memory of a verification: how many
// events there were and which one was the last. The next verification must
// find that event at that place, so nobody can cut off or rewrite what came
// before.
//
// It refuses a checkpoint that does not name both, one of another table, and
// a next one that would be shorter than its predecessor. A checkpoint proves
// nothing about events after it, and is worth as much as the place where it is
// kept: outside the database.
package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// Checkpoint is the file's content. Count and Head are always there; the rest
// is checked where present.
type Checkpoint struct {
	Version int                   `json:"version,omitempty"`
	Chain   Table                 `json:"chain,omitzero"`
	Count   int64                 `json:"count"`
	Head    chain.Digest          `json:"head"`
	Signers map[string]SignerPart `json:"signers,omitempty"`
	// Tips are the ends of the branches beside Head that reviewed forks have made.
	Tips           []chain.Digest `json:"tips,omitempty"`
	RegistrySHA256 string         `json:"registrySha256,omitempty"`
	ArchiveSHA256  string         `json:"archiveSha256,omitempty"`
	// TermsSHA256 is the digest of what else the events were held against.
	TermsSHA256 string `json:"termsSha256,omitempty"`
	// PreviousSHA256 is the digest of the predecessor's bytes.
	PreviousSHA256 string    `json:"previousSha256,omitempty"`
	CreatedAt      time.Time `json:"createdAt,omitzero"`
	// HeadCreatedAt is the last event's own claim of its time: where the next
	// verification may start to read. It decides nothing else.
	HeadCreatedAt time.Time `json:"headCreatedAt,omitzero"`
	// FullAt is when the whole chain was last read; verifications since have
	// resumed from a checkpoint.
	FullAt      time.Time `json:"fullAt,omitzero"`
	ToolVersion string    `json:"toolVersion,omitempty"`
	// Reset is the decision by which the predecessor was given up.
	Reset *Reset `json:"reset,omitempty"`

	name    string
	sum     string
	given   bool // by Under, in the place of one that is given up
	earlier []Place
	beside  []chain.Digest // the tips of those before it
}

// Table says which chain a checkpoint is about; "" is not known.
type Table struct {
	SystemIdentifier string `json:"systemIdentifier,omitempty"`
	Table            string `json:"table,omitempty"`
}

// SignerPart is one signer id's part of the events up to the checkpoint.
type SignerPart struct {
	Events       int64 `json:"events"`
	LastPosition int64 `json:"lastPosition,omitempty"`
}

var form = schemas.Form{Schema: schemas.Checkpoint, Is: "a checkpoint", Else: schemas.Restore}

// Parse reads a checkpoint strictly.
func Parse(name string, src []byte) (*Checkpoint, error) {
	doc, err := jsondoc.Parse(name, src)
	if err != nil {
		return nil, err
	}
	if err := spelled(doc); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(src)
	c := &Checkpoint{name: name, sum: hex.EncodeToString(sum[:])}
	if err := form.Decode(name, src, c); err != nil {
		return nil, err
	}
	return c, nil
}

// spelled refuses members that differ from known ones in letter case only:
// some readers take "Count" for "count", others do not.
func spelled(doc *jsondoc.Document) error {
	known := []string{"version", "chain", "count", "head", "tips", "signers", "registrySha256", "archiveSha256", "termsSha256", "previousSha256", "createdAt", "headCreatedAt", "fullAt", "toolVersion", "reset"}
	for _, m := range doc.Root.Members {
		for _, name := range known {
			if m.Name != name && strings.EqualFold(m.Name, name) {
				line, col := doc.Position(m.NameStart)
				return &jsondoc.Error{File: doc.Name, Line: line, Col: col, Message: fmt.Sprintf("not a checkpoint: member %q must be written %q; change that, or restore the file from its history", m.Name, name)}
			}
		}
	}
	return nil
}

// String is the short form that reports use.
func (c *Checkpoint) String() string { return fmt.Sprintf("%d:%s", c.Count, c.Head) }

// Anchor is what the chain must pass through.
func (c *Checkpoint) Anchor() chain.Anchor {
	return chain.Anchor{Name: "checkpoint", Position: c.Count, Digest: c.Head, Checkpoint: true}
}

// distinct sorts digests and leaves each once.
func distinct(list []chain.Digest) []chain.Digest {
	slices.SortFunc(list, func(a, b chain.Digest) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(list)
}

// Anchors are Anchor, the ends of the branches beside it, and the places of the
// checkpoints before it, the newest first, as far as Follows has told of them.
func (c *Checkpoint) Anchors() []chain.Anchor {
	all := []chain.Anchor{c.Anchor()}
	if c.given && !c.Reset.keeps() {
		all = append(all, chain.Anchor{Name: "checkpoint that a review has given up", Position: c.Reset.Checkpoint.Count, Digest: c.Reset.Checkpoint.Head, Gone: true})
	}
	for _, tip := range distinct(slices.Concat(c.Tips, c.beside)) {
		all = append(all, chain.Anchor{Name: "checkpoint, beside its head,", Digest: tip, Checkpoint: true})
	}
	for _, p := range c.earlier {
		all = append(all, chain.Anchor{Name: "history of " + c.name, Position: p.Count, Digest: p.Head})
	}
	return all
}

// Check holds a verified chain against what the checkpoint says beside its
// anchor: the table, and that no signer has fewer events than before.
func (c *Checkpoint) Check(t Table, r *chain.Report) []finding.Finding {
	var fs []finding.Finding
	mismatch := func(format string, args ...any) {
		fs = append(fs, finding.Finding{Rule: chain.RuleCheckpointMismatch, Severity: finding.Error, File: c.name, Message: fmt.Sprintf(format, args...)})
	}
	for _, m := range []struct{ what, was, is string }{
		{"database cluster", c.Chain.SystemIdentifier, t.SystemIdentifier},
		{"table", c.Chain.Table, t.Table},
	} {
		if m.was != "" && m.is != "" && m.was != m.is {
			mismatch("the checkpoint is about %s %q, this is %q. Use the checkpoint of this chain; after a migration start a new one by review", m.what, m.was, m.is)
		}
	}
	for id, part := range c.Signers {
		if now := r.Signers[id].Events; now < part.Events {
			mismatch("the checkpoint counts %d events by signer %q, now there are %d", part.Events, id, now)
		}
	}
	return fs
}

// Resumable says why a verification cannot go on from c and must read the whole
// chain, "" if it can: what was accepted up to c must have been accepted under
// the registry, the archive and the terms of now.
func (c *Checkpoint) Resumable(registrySHA256, archiveSHA256, termsSHA256 string) string {
	switch {
	case len(c.Tips)+len(c.beside) > 0:
		return "there are branches beside the checkpoint"
	case c.TermsSHA256 == "" || c.TermsSHA256 != termsSHA256:
		return "exceptions, strict-numbers, HMAC secrets or the release are others than at the checkpoint"
	case c.RegistrySHA256 == "" || c.RegistrySHA256 != registrySHA256:
		return "the registry is another one than at the checkpoint"
	case c.ArchiveSHA256 != archiveSHA256:
		return "the archive is another one than at the checkpoint"
	}
	return ""
}

// Continue adds, to the report of a verification that resumed from c, the events
// that each signer id had before. speaker gives the entry and the state of a
// signer id.
func (c *Checkpoint) Continue(r *chain.Report, speaker func(id string) (entry, state string)) {
	for id, part := range c.Signers {
		u, ok := r.Signers[id]
		if !ok {
			u.LastPosition = part.LastPosition
			u.Entry, u.State = speaker(id)
		}
		u.Events += part.Events
		u.FirstPosition, u.FirstCreatedAt = 0, nil // before the checkpoint
		r.Signers[id] = u
	}
	if full := c.fullAt(); !full.IsZero() {
		r.Resumed.FullAt = full.Format(time.RFC3339)
	}
}

func (c *Checkpoint) fullAt() time.Time {
	if c.FullAt.IsZero() {
		return c.CreatedAt
	}
	return c.FullAt
}

// Next is the checkpoint of a verified chain; previous may be nil. It refuses
// to go backward.
func Next(previous *Checkpoint, t Table, r *chain.Report, now time.Time) (*Checkpoint, error) {
	switch {
	case r.Verdict != chain.Verified || r.Length == 0:
		return nil, fmt.Errorf("no checkpoint of a chain that is not verified or is empty")
	case previous != nil && r.Length < previous.Count:
		return nil, fmt.Errorf("the chain has %d events, its checkpoint %d: a checkpoint never shrinks", r.Length, previous.Count)
	}
	head, _ := chain.ParseDigest([]byte(r.Head))
	next := &Checkpoint{
		Version: 1, Chain: t, Count: r.Length, Head: head, Signers: map[string]SignerPart{},
		RegistrySHA256: r.RegistrySHA256, ArchiveSHA256: r.ArchiveSHA256, TermsSHA256: r.TermsSHA256, CreatedAt: now.UTC().Truncate(time.Second), ToolVersion: r.ToolVersion,
	}
	for id, use := range r.Signers {
		next.Signers[id] = SignerPart{use.Events, use.LastPosition}
		if use.LastPosition == r.Length && use.LastCreatedAt != nil {
			next.HeadCreatedAt = *use.LastCreatedAt
		}
	}
	for _, tip := range r.Tips {
		if d, ok := chain.ParseDigest([]byte(tip)); ok && d != head {
			next.Tips = append(next.Tips, d)
		}
	}
	next.FullAt = next.CreatedAt
	if previous != nil {
		next.PreviousSHA256 = previous.sum
		if previous.given {
			next.Reset = previous.Reset
		}
		if r.Resumed != nil {
			next.FullAt = previous.fullAt()
		}
		if next.HeadCreatedAt.IsZero() && r.Length == previous.Count {
			next.HeadCreatedAt = previous.HeadCreatedAt
		}
	}
	return next, nil
}

// Continues says why c cannot be the successor of was, "" if it can.
func (c *Checkpoint) Continues(was *Checkpoint) string {
	switch {
	case c.sum == was.sum:
		return ""
	case c.PreviousSHA256 != was.sum:
		return "it names another predecessor"
	case c.Count < was.Count:
		return fmt.Sprintf("it has %d events, its predecessor %d", c.Count, was.Count)
	case c.Count == was.Count && c.Head != was.Head:
		return "it has as many events as its predecessor and another head"
	case was.Chain != (Table{}) && c.Chain != was.Chain:
		return "it is about another table"
	}
	return ""
}

// Said is what is remembered of a checkpoint besides its file.
type Said struct {
	Place
	Tips []chain.Digest
}

// Follows tells c of the checkpoints that were before it, the newest first, and
// gives one that c falls behind, nil if there is none. A reviewed reset gives up,
// where the checkpoint that it names first stood, all that was older and lies
// beyond its restart; naming that checkpoint once more later gives up nothing.
func (c *Checkpoint) Follows(earlier []Said, resets []Reset) (beyond *Place) {
	is := Place{c.Count, c.Head}
	line := append([]Said{{Place: is}}, earlier...)
	if c.given {
		line[0].Place = c.Reset.Checkpoint
	}
	var gone Place
	var beside []Said
	left := resets
	for _, was := range slices.Backward(line) {
		p := was.Place
		if p != gone {
			gone = Place{}
			if r, rest, ok := givenUp(p, left); ok {
				if left = rest; !r.keeps() {
					gone, was.Tips = p, nil
				}
				p = r.Restart
				c.earlier = slices.DeleteFunc(c.earlier, func(q Place) bool { return q.Count > p.Count })
				beside = slices.DeleteFunc(beside, func(q Said) bool { return q.Count > p.Count })
			}
			c.earlier = append(c.earlier, p)
		}
		beside = append(beside, was)
	}
	for _, was := range beside {
		c.beside = append(c.beside, without(was.Tips, resets)...)
	}
	c.earlier = slices.Compact(c.earlier)
	slices.Reverse(c.earlier)
	for _, p := range c.earlier {
		if p.Count > c.Count || p.Count == c.Count && p != is {
			return &p
		}
	}
	return nil
}

// Says tells whether c and d say the same about the chain and the files that it
// was verified with, whenever they were written.
func (c *Checkpoint) Says(d *Checkpoint) bool {
	return c.Count == d.Count && c.Head == d.Head && c.Chain == d.Chain && maps.Equal(c.Signers, d.Signers) &&
		slices.Equal(c.Tips, d.Tips) && c.RegistrySHA256 == d.RegistrySHA256 && c.ArchiveSHA256 == d.ArchiveSHA256 && c.TermsSHA256 == d.TermsSHA256
}

// JSON is the file's text.
func (c *Checkpoint) JSON() []byte {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		panic(err) // plain values only
	}
	return append(text, '\n')
}
