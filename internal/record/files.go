package record

import (
	"path"
	"slices"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Files are what one commit says about its signers. Records are in the folder Dir.
type Files struct {
	Registry *registry.Registry
	Archive  *registry.Archive
	Records  []Record
	Dir      string
}

// DirBeside is the folder of the records of a registry, unless another one is
// named.
func DirBeside(registryPath string) string { return path.Join(path.Dir(registryPath), "rotations") }

// Path is the file of a record.
func (f Files) Path(id string) string { return path.Join(f.Dir, id+".json") }

// Record returns the record with an id, nil if there is none.
func (f Files) Record(id string) *Record {
	return f.record(func(r Record) bool { return r.ID == id })
}

// Publishing returns the record that published or promoted a signer, by its own
// id; nil if there is none: then the signer is as old as the registry.
func (f Files) Publishing(signerID string) *Record {
	return f.record(func(r Record) bool {
		in := r.State().Incoming
		return in != nil && in.ID == signerID
	})
}

// Naming returns the first record that names a signer by this id or by this KMS
// key, nil if none does.
func (f Files) Naming(id string) *Record {
	return f.record(func(r Record) bool {
		s := r.State()
		return slices.ContainsFunc([]*Signer{s.Incoming, s.Outgoing, s.Leaving}, func(s *Signer) bool {
			return s != nil && (s.ID == id || s.KMSKeyARN == id)
		})
	})
}

func (f Files) record(is func(Record) bool) *Record {
	i := slices.IndexFunc(f.Records, is)
	if i < 0 {
		return nil
	}
	return &f.Records[i]
}

// Registered returns the registry entry whose own id this is.
func (f Files) Registered(id string) (registry.Signer, bool) {
	s, ok := f.Registry.Find(id)
	if !ok || s.ID != id {
		return registry.Signer{}, false
	}
	return s, true
}

// Located is the signer with the KMS key that registry or archive name by now;
// the record's own where they name none.
func (f Files) Located(s Signer) Signer {
	now, ok := f.Registered(s.ID)
	if was, archived := f.Archive.Find(s.ID); !ok && archived && was.ID == s.ID {
		now = was.Signer
	}
	if now.KMSKeyID != "" {
		s.KMSKeyARN = now.KMSKeyID
	}
	return s
}

// Phase is where a rotation is. The phases of one that is under way depend on the
// chain, too (package rotation).
type Phase string

// The phases that follow from the files alone.
const (
	Standby          Phase = "standby"   // published, and to replace nobody
	Published        Phase = "published" // the new signer is on the default branch, unused
	Archived         Phase = "archived"
	CompromisedPhase Phase = "compromised"
	RolledBackPhase  Phase = "rolled-back"
	WithdrawnPhase   Phase = "withdrawn"
)

// Over reports whether nothing is under way in a phase.
func (p Phase) Over() bool {
	return slices.Contains([]Phase{Standby, Archived, CompromisedPhase, RolledBackPhase, WithdrawnPhase}, p)
}

// Unsettled reports whether a signer of the rotation is still to be archived: one
// leaves, and both are registered.
func (f Files) Unsettled(r Record) bool {
	s := r.State()
	if s.Stage != Replacing && s.Stage != Back {
		return false
	}
	_, leaving := f.Registered(s.Leaving.ID)
	_, staying := f.Registered(s.Staying.ID)
	return leaving && staying
}

// InFlight are the ids of the rotations in which one signer replaces another. One
// that was rolled back holds up no other.
func (f Files) InFlight() (ids []string) {
	for _, r := range f.Records {
		if r.State().Stage == Replacing && f.Unsettled(r) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// EndedAt is when nothing was left to be done for a rotation: the time of its last
// move, or of the one in another record that took one of its signers out; zero for
// one that goes on, and for a standby.
func (f Files) EndedAt(r Record) (at time.Time) {
	s := r.State()
	if f.Unsettled(r) || s.Stage == Standing {
		return at
	}
	if s.Stage != Replacing {
		at = r.Last().Made().At
	}
	if s.Stage != Replacing && s.Stage != Back {
		return at
	}
	for _, item := range f.Archive.Retired {
		if (item.ID == s.Leaving.ID || item.ID == s.Staying.ID) && item.RetiredAt.After(at) {
			at = item.RetiredAt
		}
	}
	return at
}

// Phase follows from the moves, and from what became of the signers since.
func (f Files) Phase(r Record) Phase {
	s := r.State()
	switch {
	case r.Last().Kind() == Compromised:
		return CompromisedPhase
	case r.Last().Kind() == Withdrawn:
		return WithdrawnPhase
	case s.Stage == Back || s.Stage == Ended:
		return RolledBackPhase
	case s.Stage == Standing:
		if _, registered := f.Registered(s.Incoming.ID); registered {
			return Standby
		}
		return f.gone(s.Incoming)
	case s.Stage == Replaced:
		return Archived
	case f.Unsettled(r):
		return Published
	}
	if _, registered := f.Registered(s.Leaving.ID); registered {
		return f.gone(s.Staying)
	}
	return f.gone(s.Leaving)
}

// gone is the phase of a rotation that another one has ended.
func (f Files) gone(s *Signer) Phase {
	if was, _ := f.Archive.Find(s.ID); was.State == registry.StateCompromised {
		return CompromisedPhase
	}
	return Archived
}
