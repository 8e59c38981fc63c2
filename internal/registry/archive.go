package registry

import (
	"slices"
	"strconv"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
)

// State is how a signer left the registry.
type State string

// A retired signer's events count up to its boundary because nothing speaks
// against them; a compromised one's because they were seen before the
// compromise.
const (
	StateRetired     State = "retired"
	StateCompromised State = "compromised"
)

// Boundary is the last event that a signer may have signed: its place in the
// chain, never a time. Position 0 says that the signer signed none.
type Boundary struct {
	Position int64
	Digest   chain.Digest
}

// Retired is one item of the archive.
type Retired struct {
	Signer
	RetiredAt time.Time
	Reason    string
	Rotation  string
	State     State
	Boundary  Boundary

	item string // the item's text, moved to column 0
}

// Archive is a parsed archive file. The zero value is the archive of a
// repository that has none yet.
type Archive struct {
	Name    string
	Retired []Retired

	doc   *jsondoc.Document
	items *jsondoc.Value
}

// SHA256 is the digest of the file's bytes in hex, "" if there is no file.
func (a *Archive) SHA256() string {
	if a.doc == nil {
		return ""
	}
	return digestOf(a.doc.Bytes())
}

// Find gives the retired signer that has id as its own or as an alias; of one
// that was retired, brought back and retired again, the latest item.
func (a *Archive) Find(id string) (Retired, bool) {
	for _, s := range slices.Backward(a.Retired) {
		if slices.Contains(s.IDs(), id) {
			return s, true
		}
	}
	return Retired{}, false
}

// ParseArchive reads an archive as Parse reads a registry.
func ParseArchive(name string, src []byte) (*Archive, []finding.Finding, error) {
	doc, err := jsondoc.Parse(name, src)
	if err != nil {
		return nil, nil, err
	}
	a := &Archive{Name: name, doc: doc}
	c := newChecker(doc)
	a.items = doc.Root.Member("retired")
	version := doc.Root.Member("version")
	switch {
	case doc.Root.Kind != jsondoc.Object || a.items == nil || a.items.Kind != jsondoc.Array:
		c.find(RuleShape, doc.Root.Start, "an archive is an object with \"version\": 1 and an array \"retired\"")
		return a, c.findings, nil
	case version == nil || version.Kind != jsondoc.Number || version.Text != "1":
		c.find(RuleShape, doc.Root.Start, "\"version\" must be 1; an archive of another version needs a newer release of this tool")
	case len(a.items.Elements) > MaxSigners:
		c.find(RuleTooManySigners, a.items.Start, "%d items, more than the limit of %d", len(a.items.Elements), MaxSigners)
		return a, c.findings, nil
	}
	for _, m := range doc.Root.Members {
		if m.Name != "version" && m.Name != "retired" && m.Name != "$schema" && !extension(m.Name) {
			c.find(RuleUnknownMember, m.NameStart, "member %s is not known in an archive", Quote(m.Name))
		}
	}
	for _, v := range a.items.Elements {
		if item, ok := c.item(v); ok {
			a.Retired = append(a.Retired, item)
		}
	}
	return a, c.findings, nil
}

// item reads one retired signer.
func (c *checker) item(v *jsondoc.Value) (r Retired, ok bool) {
	before := len(c.findings)
	entry := v.Member("entry")
	if v.Kind != jsondoc.Object || entry == nil || entry.Kind != jsondoc.Object {
		c.find(RuleArchiveItem, v.Start, "an archived signer is an object with \"entry\", \"retiredAt\", \"reason\", \"rotation\", \"state\" and \"boundary\"")
		return r, false
	}
	var member *jsondoc.Member
	for _, m := range v.Members {
		switch m.Name {
		case "id": // of an entry that came from a map, which does not name it
			if m.Value.Kind != jsondoc.String {
				c.find(RuleArchiveItem, m.Value.Start, "\"id\" must be a string")
			}
			member = &jsondoc.Member{Name: m.Value.Text, NameStart: m.Value.Start, Value: entry}
		case "entry", "retiredAt", "reason", "rotation", "state", "boundary":
		default:
			c.find(RuleUnknownMember, m.NameStart, "member %s is not known in an archived signer", Quote(m.Name))
		}
	}
	r.Signer = c.entry(entry, member)
	r.item = c.doc.Verbatim(v)
	if at, ok := c.text(v, "retiredAt"); ok {
		var err error
		if r.RetiredAt, err = time.Parse(time.RFC3339, at); err != nil {
			c.find(RuleDate, v.Start, "\"retiredAt\" must be an RFC 3339 time such as \"2026-01-02T15:04:05Z\"")
		}
	}
	r.Reason, _ = c.text(v, "reason")
	r.Rotation, _ = c.text(v, "rotation")
	if state, ok := c.text(v, "state"); ok && State(state) != StateRetired && State(state) != StateCompromised {
		c.find(RuleArchiveItem, v.Start, "\"state\" must be %q or %q", StateRetired, StateCompromised)
	} else {
		r.State = State(state)
	}
	c.boundary(&r, v)
	return r, len(c.findings) == before || r.ID != ""
}

func (c *checker) text(v *jsondoc.Value, name string) (string, bool) {
	m := v.Member(name)
	if m == nil || m.Kind != jsondoc.String {
		c.find(RuleArchiveItem, v.Start, "%q is missing or no string", name)
		return "", false
	}
	return m.Text, true
}

func (c *checker) boundary(r *Retired, item *jsondoc.Value) {
	v := item.Member("boundary")
	if v == nil || v.Kind != jsondoc.Object || v.Member("position") == nil || v.Member("digest") == nil || len(v.Members) != 2 {
		c.find(RuleArchiveItem, item.Start, "\"boundary\" must be {\"position\": …, \"digest\": …}, the last event that the signer signed")
		return
	}
	position, digest := v.Member("position"), v.Member("digest")
	n, err := strconv.ParseInt(position.Text, 10, 64)
	if position.Kind != jsondoc.Number || err != nil || n < 0 {
		c.find(RuleArchiveItem, position.Start, "a boundary's position must be a whole number, 0 or more")
	}
	d, ok := chain.ParseDigest([]byte(digest.Text))
	if digest.Kind != jsondoc.String || !ok {
		c.find(RuleArchiveItem, digest.Start, "a boundary's digest must be 64 lower-case hex digits")
	}
	r.Boundary = Boundary{n, d}
}
