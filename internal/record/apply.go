package record

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Refused says why a move cannot be made.
type Refused struct{ Why string }

func (e *Refused) Error() string { return e.Why }

// ExitCode is 2: other inputs are needed.
func (*Refused) ExitCode() int { return 2 }

func refuse(format string, args ...any) error { return &Refused{fmt.Sprintf(format, args...)} }

// Apply returns the files after a move, in the record with this id, or why the
// move cannot be made (a *Refused). It is pure; f stays as it is. The files that
// it returns are sound by the rules of package registry; f must be, too.
func (f Files) Apply(id string, m Move) (Files, error) {
	before := Record{ID: id}
	if r := f.Record(id); r != nil {
		before = *r
	}
	is := before.with(m)
	if err := is.check(); err != nil {
		return f, refuse("rotation %s: %v", id, err)
	}
	e := &editor{Files: f, id: id, before: before.State(), registry: f.Registry.Bytes(), archive: f.Archive.Bytes()}
	if err := m.edit(e); err != nil {
		return f, err
	}
	after, err := registry.Load(f.Registry.Name, e.registry, f.Archive.Name, e.archive)
	if err != nil {
		return f, refuse("the files after this move cannot be read: %v", err)
	}
	for _, x := range append(after.Findings, registry.Validate(after.Registry, after.Archive, m.Made().At)...) {
		if x.Severity == finding.Error {
			return f, refuse("the files after this move would break a rule (change the inputs, or repair the file in a pull request of its own): %s", x)
		}
	}
	out := Files{Registry: after.Registry, Archive: after.Archive, Dir: f.Dir, Records: slices.Clone(f.Records)}
	if i := slices.IndexFunc(out.Records, func(r Record) bool { return r.ID == id }); i >= 0 {
		out.Records[i] = is
	} else {
		out.Records = append(out.Records, is)
	}
	return out, nil
}

// Changed returns the files that differ from before, whole, by path.
func (f Files) Changed(before Files) map[string][]byte {
	files := map[string][]byte{}
	if f.Registry.SHA256() != before.Registry.SHA256() {
		files[f.Registry.Name] = f.Registry.Bytes()
	}
	if f.Archive.SHA256() != before.Archive.SHA256() {
		files[f.Archive.Name] = f.Archive.Bytes()
	}
	for _, r := range f.Records {
		if was := before.Record(r.ID); was == nil || len(was.Moves) != len(r.Moves) {
			files[f.Path(r.ID)] = r.JSON()
		}
	}
	return files
}

// editor is what a move does to the registry and the archive.
type editor struct {
	Files
	id                string
	before            State // of the record
	registry, archive []byte
}

// registered wants a move to name a signer just as its entry does.
func (e *editor) registered(named Signer) (registry.Signer, error) {
	s, ok := e.Registered(named.ID)
	if !ok {
		return s, refuse("rotation %s: signer %s is not in %s", e.id, named.ID, e.Registry.Name)
	}
	return s, e.agree(s, named)
}

func (e *editor) agree(s registry.Signer, named Signer) error {
	switch is := SignerOf(s); {
	case !is.SameKey(named):
		return refuse("rotation %s names another key for signer %s than its entry does (%s %s; the entry: %s %s)",
			e.id, s.ID, named.Algorithm, named.Fingerprint, is.Algorithm, is.Fingerprint)
	case is.KMSKeyARN != named.KMSKeyARN:
		return refuse("rotation %s names another KMS key for signer %s than its entry does (%q; the entry: %q)",
			e.id, s.ID, named.KMSKeyARN, is.KMSKeyARN)
	}
	return nil
}

// alone wants no other rotation to be in flight.
func (e *editor) alone() error {
	others := slices.DeleteFunc(e.InFlight(), func(id string) bool { return id == e.id })
	if len(others) > 0 {
		return refuse("rotation %s is in flight: finish it (finalize) or go back (rollback) before the next one", others[0])
	}
	return nil
}

// unpublished wants no other record to be about the incoming signer.
func (e *editor) unpublished(s Signer) error {
	if r := e.Publishing(s.ID); r != nil && r.ID != e.id {
		return refuse("signer %s has the record %s already", s.ID, r.ID)
	}
	return nil
}

// toArchive moves an entry from the registry into the archive.
func (e *editor) toArchive(m Move, state registry.State, boundary Mark) error {
	entry, err := e.registered(m.Subject())
	switch {
	case err != nil:
		return err
	case len(e.Registry.Signers) < 2:
		return refuse("%s has one signer only, %s; without it there would be none. Publish its successor first (add-signer)", e.Registry.Name, entry.ID)
	}
	if e.registry, err = e.Registry.Retire(entry.ID); err != nil {
		return refuse("%v", err)
	}
	e.archive = e.Archive.Append(registry.Retired{
		Signer: entry, RetiredAt: m.Made().At, Reason: m.Made().Reason, Rotation: e.id, State: state, Boundary: registry.Boundary(boundary),
	})
	return nil
}

func (m *Open) edit(e *editor) error {
	if m.Replaces != nil {
		if _, err := e.registered(*m.Replaces); err != nil {
			return err
		}
		if err := e.alone(); err != nil {
			return err
		}
	}
	if err := e.unpublished(m.Signer); err != nil {
		return err
	}
	s, id := m.Signer, m.Signer.ID
	if why := e.Taken(id); why != "" {
		return refuse("%s", why)
	}
	switch why := registry.CheckID(id); {
	case why != "":
		return refuse("signer id %q: %s", id, why)
	case m.Key.IsZero() != (s.Algorithm == pubkey.HMACSHA256), !m.Key.IsZero() && (m.Key.Algorithm() != s.Algorithm || m.Key.Fingerprint() != s.Fingerprint):
		return refuse("rotation %s: the key of signer %s is not the one that the record names (%s %s)", e.id, id, s.Algorithm, s.Fingerprint)
	case s.KMSKeyARN != "" && !registry.IsKeyARN(s.KMSKeyARN):
		return refuse("rotation %s: %q is not the full ARN of a KMS key (arn:…:key/<id>)", e.id, s.KMSKeyARN)
	}
	if m.Possession != nil && !m.Key.IsZero() {
		if err := m.Possession.Check(e.id, m.Key); err != nil {
			return refuse("rotation %s: %v", e.id, err)
		}
	}
	entry := registry.Entry{
		ID: id, Algorithm: s.Algorithm, Key: m.Key, KMSKeyID: s.KMSKeyARN, DeployedAt: m.At, Description: m.Reason, Rotation: e.id,
	}
	if s.KMSKeyARN != "" && s.KMSKeyARN != id {
		entry.Aliases = []string{s.KMSKeyARN} // what Agent Manager writes as signer_kid
	}
	e.registry = e.Registry.Add(entry)
	return nil
}

// Taken says whose signer id this is already, in whatever letter case, "" if it is
// free.
func (f Files) Taken(id string) string {
	is := func(s registry.Signer) bool {
		return slices.ContainsFunc(s.IDs(), func(other string) bool { return strings.EqualFold(other, id) })
	}
	for _, x := range f.Archive.Retired {
		if is(x.Signer) {
			return fmt.Sprintf("signer id %q was retired before and is never used again; choose another signer-id", id)
		}
	}
	for _, x := range f.Registry.Signers {
		if is(x) {
			return fmt.Sprintf("signer id %q belongs to the published signer %q; an id is one key for ever, so choose another signer-id", id, x.ID)
		}
	}
	return ""
}

func (m *Promote) edit(e *editor) error {
	if e.before.Incoming != nil && !e.before.Incoming.SameKey(m.Signer) {
		return refuse("rotation %s is about signer %s, not about %s", e.id, e.before.Incoming.ID, m.Signer.ID)
	}
	if m.Signer.ID == m.Replaces.ID {
		return refuse("signer %s cannot replace itself", m.Signer.ID)
	}
	for _, s := range []Signer{m.Signer, m.Replaces} {
		if _, err := e.registered(s); err != nil {
			return err
		}
	}
	if err := e.unpublished(m.Signer); err != nil {
		return err
	}
	return e.alone()
}

func (m *Retire) edit(e *editor) error {
	s := e.before
	if !s.Leaving.SameKey(m.Signer) {
		return refuse("in rotation %s signer %s leaves, not %s", e.id, s.Leaving.ID, m.Signer.ID)
	}
	if _, stays := e.Registered(s.Staying.ID); !stays {
		return refuse("signer %s, which replaces %s, is not in %s", s.Staying.ID, m.Signer.ID, e.Registry.Name)
	}
	return e.toArchive(m, registry.StateRetired, m.Boundary)
}

func (m *Withdraw) edit(e *editor) error {
	s := e.before
	if !s.Incoming.SameKey(m.Signer) {
		return refuse("rotation %s published signer %s, not %s", e.id, s.Incoming.ID, m.Signer.ID)
	}
	if _, stays := e.Registered(s.Outgoing.ID); !stays {
		return refuse("signer %s, which goes on, is not in %s", s.Outgoing.ID, e.Registry.Name)
	}
	return e.toArchive(m, registry.StateRetired, Mark{})
}

func (m *RollBack) edit(e *editor) error {
	if !e.before.Outgoing.SameKey(m.Signer) {
		return refuse("rotation %s replaced signer %s, not %s", e.id, e.before.Outgoing.ID, m.Signer.ID)
	}
	if s, stays := e.Registered(m.Signer.ID); stays {
		return e.agree(s, m.Signer)
	}
	was, ok := e.Archive.Find(m.Signer.ID)
	switch {
	case !ok || was.ID != m.Signer.ID:
		return refuse("signer %s is neither in %s nor in the archive; restore it from the repository's history", m.Signer.ID, e.Registry.Name)
	case was.State == registry.StateCompromised:
		return refuse("signer %s was archived as compromised; such a key never comes back. Add a new signer", was.ID)
	}
	e.registry = e.Registry.Restore(was)
	return e.agree(was.Signer, m.Signer)
}

func (m *Compromise) edit(e *editor) error {
	return e.toArchive(m, registry.StateCompromised, m.Boundary)
}
