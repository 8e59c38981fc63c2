package rotation

import (
	"fmt"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// Checkpoint is the last one that a retirement passed through, nil if there is
// none. A retirement counts where the archive shows it.
func Checkpoint(f record.Files) (last *checkpoint.Checkpoint) {
	for _, r := range f.Records {
		for _, m := range r.Moves {
			ret, is := m.(*record.Retire)
			if !is || !archivedBy(f, r.ID, ret) {
				continue
			}
			if c := checkpoint.Recorded(f.Path(r.ID), ret.Evidence.Checkpoint); c != nil && (last == nil || c.Count > last.Count) {
				last = c
			}
		}
	}
	return last
}

func archivedBy(f record.Files, id string, ret *record.Retire) bool {
	for _, item := range f.Archive.Retired {
		if item.Rotation == id && item.ID == ret.Signer.ID && record.Mark(item.Boundary) == ret.Boundary {
			return true
		}
	}
	return false
}

// GoBack chooses the move that undoes a rotation, and says what it means. The new
// signer stays in the registry, so that what it signed keeps verifying, until
// finalize archives it; only if r, a verification of the whole chain (nil if there
// is none), shows that it has signed nothing, it is withdrawn. No gate can hold that
// up; Apply refuses a key that is known to be compromised.
func GoBack(f record.Files, rec record.Record, by record.By, r *chain.Report) (m record.Move, verdict string, err error) {
	s := rec.State()
	if s.Outgoing == nil {
		return nil, "", fmt.Errorf("rotation %s replaced no signer, so there is nothing to go back to: deploy the settings of the signer that you want, or name another rotation", rec.ID)
	}
	old := *s.Outgoing
	entry, registered := f.Registered(old.ID)
	verdict = fmt.Sprintf("signer %s never left the registry: deploy its settings again", old.ID)
	if was, archived := f.Archive.Find(old.ID); !registered && archived {
		entry, verdict = was.Signer, fmt.Sprintf("signer %s returns to the registry as it was", old.ID)
	}
	if now := record.SignerOf(entry); now.SameKey(old) {
		old = now
	}
	in := s.Incoming.ID
	seen := window(r, in)
	newer, active := f.Registered(in)
	was, archived := f.Archive.Find(in)
	switch {
	case active && registered && s.Stage == record.Replacing && seen != nil && seen.Events == 0:
		return &record.Withdraw{By: by, Signer: record.SignerOf(newer)}, verdict + fmt.Sprintf("; signer %s has signed 0 events and is withdrawn", in), nil
	case active && seen != nil:
		verdict += fmt.Sprintf("; signer %s stays registered: it has signed %d event(s), at positions %d to %d, which keep verifying", in, seen.Events, seen.FirstPosition, seen.LastPosition)
	case active:
		verdict += fmt.Sprintf("; signer %s stays registered, so that its events keep verifying", in)
	case archived:
		verdict += fmt.Sprintf("; signer %s has been archived since (%s, rotation %s), and keeps verifying up to its boundary", in, was.State, was.Rotation)
	default:
		verdict += fmt.Sprintf("; signer %s is not registered: if it has signed events, bring its entry back from the repository's history, or they do not verify", in)
	}
	return &record.RollBack{By: by, Signer: old, Window: seen}, verdict, nil
}

// window is what the chain says about a signer, nil if it was not read to its
// end and found sound: then nothing is known.
func window(r *chain.Report, id string) *record.Window {
	if r == nil || r.Verdict != chain.Verified || r.Resumed != nil {
		return nil
	}
	u := r.Use(id)
	return &record.Window{Events: u.Events, FirstPosition: u.FirstPosition, LastPosition: u.LastPosition}
}

// Successor is who signs instead of a compromised signer: the other one of its
// newest rotation, else the one that is last in the registry; nil if there is none.
func Successor(f record.Files, id string) *record.Signer {
	var candidates []string
	var newest time.Time
	for _, r := range f.Records {
		s := r.State()
		if s.Leaving != nil && s.Staying != nil && (s.Leaving.ID == id || s.Staying.ID == id) && s.Since.After(newest) {
			newest, candidates = s.Since, []string{s.Staying.ID, s.Leaving.ID}
		}
	}
	for _, s := range slices.Backward(f.Registry.Signers) {
		candidates = append(candidates, s.ID)
	}
	for _, c := range candidates {
		if s, ok := f.Registered(c); ok && s.ID != id {
			signer := record.SignerOf(s)
			return &signer
		}
	}
	return nil
}
