package report

import (
	"cmp"
	"maps"
	"slices"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// stretch is the part of a chain that one signer has signed, from its first to
// its last event; between them others may have signed, too.
type stretch struct {
	id          string // of its entry, or as the rows write it where none speaks for it
	state       string
	events      int64
	first, last int64 // positions
	// boundary is the last position at which an archived signer may speak, 0
	// where nothing bounds it.
	boundary int64
	// beyond is where it first signed after its boundary, as far as findings
	// tell; 0 where it did not.
	beyond int64
}

// stretches lists who has signed what, in order of appearance; events without
// a place in the chain are left out.
func stretches(r *chain.Report, archive *registry.Archive) []stretch {
	var all []stretch
	seen := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(r.Signers)) {
		use := r.Signers[id]
		if use.Entry != "" {
			if seen[use.Entry] {
				continue
			}
			seen[use.Entry] = true
			id, use = use.Entry, r.Use(use.Entry)
		}
		if use.FirstPosition == 0 {
			continue
		}
		s := stretch{id: id, state: use.State, events: use.Events, first: use.FirstPosition, last: use.LastPosition}
		if archive != nil && s.ended() {
			if was, ok := archive.Find(id); ok {
				s.boundary, s.beyond = was.Boundary.Position, beyond(r, was.Boundary.Position, s.last)
			}
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b stretch) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.id, b.id)) })
	return all
}

// beyond is the first position after a boundary at which a retired signer is
// found, or the one next to the boundary if the findings name none.
func beyond(r *chain.Report, boundary, last int64) int64 {
	if last <= boundary {
		return 0
	}
	first := int64(0)
	for _, f := range r.Findings {
		if f.Rule == chain.RuleRetiredSignerUsed && f.Position > boundary && f.Position <= last && (first == 0 || f.Position < first) {
			first = f.Position
		}
	}
	return max(first, boundary+1)
}

// ended tells whether the signer must sign no more.
func (s stretch) ended() bool {
	return s.state == string(registry.StateRetired) || s.state == string(registry.StateCompromised)
}

// span is a range of positions, both ends in it.
type span struct{ from, to int64 }

// handover is the change from one signer to the next.
type handover struct {
	from, to stretch
	// overlap is where both have signed; empty (to < from) after a clean cut.
	overlap span
}

// handovers lists the changes between signers that somebody speaks for.
func handovers(all []stretch) []handover {
	var list []handover
	known := slices.DeleteFunc(slices.Clone(all), func(s stretch) bool { return s.state == "unknown" || s.state == "" })
	for i := 1; i < len(known); i++ {
		a, b := known[i-1], known[i]
		end := min(a.last, b.last)
		if a.boundary > 0 {
			end = min(end, a.boundary)
		}
		list = append(list, handover{a, b, span{b.first, end}})
	}
	return list
}

func (h handover) overlaps() bool { return h.overlap.to >= h.overlap.from }
