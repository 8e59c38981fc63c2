package chain

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"slices"
)

// census tells two readings of the same rows from readings of different ones.
type census struct {
	rows int64
	sum  uint64
}

func (c *census) count(o *outcome) {
	c.rows++
	c.sum += binary.LittleEndian.Uint64(o.digest[:])
}

// locate looks, in a second pass over the rows, for the events at both ends of
// the segments: those that their first ones name as predecessors, and those
// that name their last ones. In a shard it looks for what reviewed forks hang on,
// too: a rival may be in another one. A sound chain is one segment and needs no
// second pass; neither does a table in so many pieces that nobody will look at each.
func (v *verification) locate(ctx context.Context, events iter.Seq2[Event, error]) error {
	v.segments = v.joiner.finish()
	v.second = newJoiner(v.limits, map[Digest]*site{})
	if len(v.segments) < 2 && len(v.forks) == 0 || len(v.segments) > v.maxPieces {
		return nil
	}
	for _, s := range v.segments {
		v.second.sites[s.last] = &site{}
		if !s.genesis {
			v.second.sites[s.prev] = &site{}
		}
	}
	for _, prev := range v.forks {
		v.second.sites[prev] = &site{}
	}
	digests := func(_ context.Context, h *hasher, b *batch) error {
		b.outcomes = grow(b.outcomes, len(b.events))
		for i := range b.events {
			if err := h.digest(&b.events[i], &b.outcomes[i]); err != nil {
				return err
			}
			b.outcomes[i].findings = nil // the first pass has them
		}
		return nil
	}
	var again census
	place := func(b *batch) error {
		for i := range b.events {
			o := &b.outcomes[i]
			again.count(o)
			if o.unlinked {
				continue
			}
			if err := v.second.add(&b.events[i], o); err != nil {
				return err
			}
		}
		return nil
	}
	if err := scan(ctx, events, max(1, v.Workers), digests, place); err != nil {
		return err
	}
	if again != v.census {
		return errors.New("the rows are not one chain, and when they were read again to see where it breaks they were others: verify a file that nobody writes to, and no pipe, which can be read only once")
	}
	return nil
}

// place is where something hangs.
type place struct {
	// root is the first event of the tree that it belongs to; genesis says
	// that this is a first event of the chain, not one whose predecessor is
	// missing.
	root    Digest
	genesis bool
	// depth counts the events from the root to the one it hangs on.
	depth int64
	// newest is the latest time that any of those events claims.
	newest int64
}

// placeOf tells where s hangs. Every site on the way remembers its answer, so
// that all segments together cost one walk.
func (v *verification) placeOf(s *segment) place {
	var path []*site
	at := place{root: s.first, genesis: s.genesis}
	for !s.genesis {
		parent := v.second.sites[s.prev]
		if parent == nil || !parent.found {
			break
		}
		if parent.placed {
			at = parent.place
			break
		}
		path = append(path, parent)
		s = parent.on.of
		at = place{root: s.first, genesis: s.genesis}
	}
	for _, parent := range slices.Backward(path) {
		at.depth += parent.on.of.position(parent.at)
		at.newest = max(at.newest, parent.newest, parent.past.settled())
		parent.place, parent.placed = at, true
	}
	return at
}

// base is the depth at which s hangs below a genesis, none if it hangs
// elsewhere.
func (v *verification) base(s *segment) (depth int64, ok bool) {
	at := v.placeOf(s)
	return at.depth, at.genesis
}

// tree is what hangs on one root.
type tree struct {
	root    Digest
	genesis bool
	rows    int64
	height  int64
}

// plant sums up the trees and picks the trunk: the highest that starts with a
// genesis or, if none does, the highest of all.
func (v *verification) plant() {
	v.trees = map[Digest]*tree{}
	for _, s := range v.segments {
		at := v.placeOf(s)
		t := v.trees[at.root]
		if t == nil {
			t = &tree{root: at.root, genesis: at.genesis}
			v.trees[at.root] = t
		}
		t.rows += s.events()
		t.height = max(t.height, at.depth+s.events())
	}
	for _, t := range v.trees {
		if v.trunk == nil || t.compare(v.trunk) < 0 {
			v.trunk = t
		}
	}
}

func (t *tree) compare(u *tree) int {
	if t.genesis != u.genesis {
		if t.genesis {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(u.height, t.height), cmp.Compare(u.rows, t.rows), bytes.Compare(t.root[:], u.root[:]))
}
