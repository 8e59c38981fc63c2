package registry

import (
	"fmt"
	"strconv"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// Entry is a signer to be added.
type Entry struct {
	ID          string
	Aliases     []string
	Algorithm   pubkey.Algorithm
	Key         pubkey.Key // zero for HMAC
	KMSKeyID    string
	DeployedAt  time.Time
	Description string
	Rotation    string
}

// New is the text of a registry without signers, in the form that this
// project writes where there is none yet.
const New = "{\n  \"signers\": []\n}\n"

// NewArchive is the text of an archive without signers.
const NewArchive = "{\n  \"version\": 1,\n  \"retired\": []\n}\n"

// Add gives the file with one entry more, under the member names that its
// last entries use. No other byte changes.
func (r *Registry) Add(e Entry) []byte {
	n := names{idNames[0], algorithmNames[0], keyNames[0]}
	if r.Container == Map {
		n.id = ""
	}
	for _, s := range r.Signers {
		n.id, n.algorithm = s.names.id, s.names.algorithm
		if !s.Key.IsZero() {
			n.key = s.names.key
		}
	}
	var fields []jsondoc.Field
	add := func(name, value string) {
		if name != "" && value != "" {
			fields = append(fields, jsondoc.Field{Name: name, JSON: jsondoc.Quote(value)})
		}
	}
	add(n.id, e.ID)
	add(n.algorithm, string(e.Algorithm))
	if !e.Key.IsZero() {
		add(n.key, e.Key.PEM())
	}
	if len(e.Aliases) > 0 {
		list := "["
		for i, alias := range e.Aliases {
			if i > 0 {
				list += ", "
			}
			list += jsondoc.Quote(alias)
		}
		fields = append(fields, jsondoc.Field{Name: "aliases", JSON: list + "]"})
	}
	add("deployedAt", e.DeployedAt.UTC().Format(time.RFC3339))
	add("description", e.Description)
	add("kmsKeyId", e.KMSKeyID)
	add("rotation", e.Rotation)
	return r.doc.Append(r.entries, e.ID, r.doc.LayoutOf(r.entries).Render(fields))
}

// Retire gives the file without the entry of id.
func (r *Registry) Retire(id string) ([]byte, error) {
	for i, s := range r.Signers {
		if s.ID == id {
			return r.doc.Remove(r.entries, i), nil
		}
	}
	return nil, fmt.Errorf("%s has no signer %s to retire", r.Name, Quote(id))
}

// Restore gives the file with an archived entry back at its end, byte for
// byte but for the indentation of the place.
func (r *Registry) Restore(was Retired) []byte {
	return r.doc.Append(r.entries, was.ID, was.Source)
}

// Append gives the archive with one item more.
func (a *Archive) Append(item Retired) []byte {
	doc, items := a.doc, a.items
	if doc == nil {
		doc, _ = jsondoc.Parse(a.Name, []byte(NewArchive)) // the constant parses
		items = doc.Root.Member("retired")
	}
	var fields []jsondoc.Field
	if item.names.id == "" {
		fields = append(fields, jsondoc.Field{Name: "id", JSON: jsondoc.Quote(item.ID)})
	}
	layout := doc.LayoutOf(items)
	boundary := layout.Render([]jsondoc.Field{
		{Name: "position", JSON: strconv.FormatInt(item.Boundary.Position, 10)},
		{Name: "digest", JSON: jsondoc.Quote(item.Boundary.Digest.String())},
	})
	fields = append(fields,
		jsondoc.Field{Name: "entry", JSON: item.Source},
		jsondoc.Field{Name: "retiredAt", JSON: jsondoc.Quote(item.RetiredAt.UTC().Format(time.RFC3339))},
		jsondoc.Field{Name: "reason", JSON: jsondoc.Quote(item.Reason)},
		jsondoc.Field{Name: "rotation", JSON: jsondoc.Quote(item.Rotation)},
		jsondoc.Field{Name: "state", JSON: jsondoc.Quote(string(item.State))},
		jsondoc.Field{Name: "boundary", JSON: boundary})
	return doc.Append(items, "", layout.Render(fields))
}
