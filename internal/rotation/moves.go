package rotation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Move is a step that changes what is published.
type Move struct {
	// Registry and Archive are the files afterwards, nil if a file stays as it
	// is.
	Registry, Archive []byte
	Record            Record
	// Deploy is the signer to deploy now, nil if the step changes nothing
	// there.
	Deploy *Signer
	// Verdict is a sentence for people.
	Verdict string
}

// Retire archives the outgoing signer of a rotation; of one that was rolled
// back, the incoming signer.
func Retire(f Facts, a Assessment, r Retirement) (Move, error) {
	m := Move{Record: f.Record}
	leaving, _, _ := f.Record.Roles()
	reason := f.Record.Reason
	if f.Record.Rollback != nil {
		undone := *f.Record.Rollback
		undone.Retirement, reason = &r, undone.Reason
		m.Record.Rollback = &undone
	} else {
		m.Record.Retirement = &r
	}
	err := m.archive(f.Registry, f.Archive, registry.Retired{
		Signer: registry.Signer{ID: leaving.ID}, RetiredAt: r.EvaluatedAt, Reason: reason, Rotation: f.Record.ID,
		State: registry.StateRetired, Boundary: registry.Boundary(a.Boundary),
	})
	return m, err
}

// archive moves the entry with the item's id from the registry into the
// archive.
func (m *Move) archive(reg *registry.Registry, arch *registry.Archive, item registry.Retired) error {
	entry, ok := reg.Find(item.ID)
	switch {
	case !ok:
		return fmt.Errorf("signer %s is not in %s any more", item.ID, reg.Name)
	case len(reg.Signers) < 2:
		return fmt.Errorf("%s has one signer only, %s; without it there would be none. Publish its successor first (add-signer)", reg.Name, entry.ID)
	}
	item.Signer = entry
	var err error
	m.Registry, err = reg.Retire(entry.ID)
	m.Archive = arch.Append(item)
	return err
}

// Undo goes back to the outgoing signer. The incoming one stays in the
// registry, so that what it signed keeps verifying, until finalize archives it;
// only if r, a verification of the whole chain (nil if there is none), shows
// that it has signed nothing, it is withdrawn. No gate stands in the way; only
// a key that is known to be compromised never comes back.
func Undo(rec Record, reg *registry.Registry, arch *registry.Archive, rb Rollback, r *chain.Report) (Move, error) {
	if rec.Outgoing == nil {
		return Move{}, fmt.Errorf("rotation %s replaced no signer, so there is nothing to go back to: deploy the settings of the signer that you want, or name another rotation", rec.ID)
	}
	m := Move{Record: rec, Deploy: rec.Outgoing, Verdict: fmt.Sprintf("signer %s never left the registry: deploy its settings again", rec.Outgoing.ID)}
	m.Record.Rollback = &rb
	_, stays := reg.Find(rec.Outgoing.ID)
	if !stays {
		was, ok := arch.Find(rec.Outgoing.ID)
		if !ok {
			return Move{}, fmt.Errorf("signer %s stands neither in %s nor in the archive; restore it from the repository's history", rec.Outgoing.ID, reg.Name)
		}
		if was.State == registry.StateCompromised {
			return Move{}, fmt.Errorf("signer %s was archived as compromised; such a key never comes back. Add a new signer", was.ID)
		}
		m.Registry = reg.Restore(was)
		m.Verdict = fmt.Sprintf("signer %s returns to the registry as it was", was.ID)
	}
	_, active := reg.Find(rec.Incoming.ID)
	retired, archived := arch.Find(rec.Incoming.ID)
	seen := window(r, rec.Incoming.ID)
	rb.Window = seen
	switch {
	case active && stays && seen != nil && seen.Events == 0:
		m.Verdict += fmt.Sprintf("; signer %s has signed 0 events and is withdrawn", rec.Incoming.ID)
		err := m.archive(reg, arch, registry.Retired{
			Signer: registry.Signer{ID: rec.Incoming.ID}, RetiredAt: rb.At, Reason: rb.Reason, Rotation: rec.ID, State: registry.StateRetired,
		})
		return m, err
	case active && seen != nil:
		m.Verdict += fmt.Sprintf("; signer %s stays registered: it has signed %d event(s), at positions %d to %d, which keep verifying", rec.Incoming.ID, seen.Events, seen.FirstPosition, seen.LastPosition)
	case active:
		m.Verdict += fmt.Sprintf("; signer %s stays registered, so that its events keep verifying", rec.Incoming.ID)
	case archived:
		m.Verdict += fmt.Sprintf("; signer %s has been archived since (%s, rotation %s), and keeps verifying up to its boundary", rec.Incoming.ID, retired.State, retired.Rotation)
	default:
		m.Verdict += fmt.Sprintf("; signer %s is not registered: if it has signed events, bring its entry back from the repository's history, or they do not verify", rec.Incoming.ID)
	}
	return m, nil
}

// window is what the chain says about a signer, nil if it was not read to its
// end and found sound: then nothing is known.
func window(r *chain.Report, id string) *Window {
	if r == nil || r.Verdict != chain.Verified || r.Resumed != nil {
		return nil
	}
	u := r.Use(id)
	return &Window{u.Events, u.FirstPosition, u.LastPosition}
}

// Compromise takes a signer whose key is in the wrong hands out of the
// registry at once: its events count up to boundary, and whatever it signed or
// signs after that is an alarm. The record is that of the rotation in which the
// signer was the outgoing or the incoming one, a new one if there is none.
// Another signer takes over: the rotation's other one, else the one that was
// published last. No gate stands in the way.
func Compromise(id string, boundary Mark, rb Rollback, f Files) (Move, error) {
	signer, ok := f.Registry.Find(id)
	if !ok {
		if was, archived := f.Archive.Find(id); archived {
			return Move{}, fmt.Errorf("signer %s is archived (%s) and counts up to position %d only; whoever holds its key can add nothing that verifies. Leave it as it is", was.ID, was.State, was.Boundary.Position)
		}
		return Move{}, fmt.Errorf("%s has no signer %s; give the id or an alias of a registered one", f.Registry.Name, id)
	}
	m := Move{Record: f.lastOf(signer.ID)}
	if m.Deploy = f.Successor(signer.ID, m.Record); m.Deploy == nil {
		return Move{}, fmt.Errorf("signer %s is the only one in %s. Publish its successor first (add-signer, with an overlap as short as you like: allow-short-overlap), deploy it, then run this again", signer.ID, f.Registry.Name)
	}
	out := SignerOf(signer)
	if m.Record.ID == "" {
		m.Record = Record{
			Version: 1, ID: "compromise-" + strings.TrimPrefix(IDFor(signer.ID), "rotate-"), CreatedAt: rb.At, Actor: rb.Actor, Reason: rb.Reason, RunURL: rb.RunURL,
			Outgoing: &out, Incoming: *m.Deploy, Policy: Policy{Overlap: Duration(MinOverlap)},
		}
	}
	rb.Mode, rb.Compromised, rb.Boundary = ModeCompromise, &out, &boundary
	m.Record.Rollback = &rb
	m.Verdict = fmt.Sprintf("signer %s is compromised: it counts up to position %d and not beyond; signer %s takes over", signer.ID, boundary.Position, m.Deploy.ID)
	err := m.archive(f.Registry, f.Archive, registry.Retired{
		Signer: registry.Signer{ID: signer.ID}, RetiredAt: rb.At, Reason: rb.Reason, Rotation: m.Record.ID, State: registry.StateCompromised, Boundary: registry.Boundary(boundary),
	})
	return m, err
}

// lastOf gives the newest record of a rotation of the signer that was not
// undone, else a zero one.
func (f Files) lastOf(id string) (last Record) {
	for _, r := range f.Records {
		if (r.Incoming.ID == id || r.Outgoing != nil && r.Outgoing.ID == id) && r.Rollback == nil && r.CreatedAt.After(last.CreatedAt) {
			last = r
		}
	}
	return last
}

// Successor is who signs instead of a compromised signer: the other one of its
// rotation, else the one that stands last in the registry; nil if there is none.
func (f Files) Successor(id string, r Record) *Signer {
	candidates := []string{r.Incoming.ID}
	if r.Outgoing != nil {
		candidates = append(candidates, r.Outgoing.ID)
	}
	for _, s := range slices.Backward(f.Registry.Signers) {
		candidates = append(candidates, s.ID)
	}
	for _, c := range candidates {
		if s, ok := f.Registry.Find(c); ok && s.ID != id {
			signer := SignerOf(s)
			return &signer
		}
	}
	return nil
}
