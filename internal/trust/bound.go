package trust

import (
	"fmt"
	"maps"
	"slices"

	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Bounds says why a chain that verifies with before, and whose last event by the
// signer is at the boundary, need not verify with after; "" if it must. It must
// where every signer id is spoken for by the same key, as far as before, but for
// those of the signer, which after bounds at that very event.
func Bounds(before, after *registry.Files, signer string, at registry.Boundary) string {
	was, is := New(before.Registry, before.Archive, Options{}), New(after.Registry, after.Archive, Options{})
	for _, id := range slices.Sorted(maps.Keys(was.byID)) {
		if _, ok := is.byID[id]; !ok {
			return fmt.Sprintf("nobody would speak for signer %q", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(is.byID)) {
		index, ok := was.byID[id]
		if !ok {
			return fmt.Sprintf("signer %q would be new", id)
		}
		if why := differ(was.speakers[index], is.speakers[is.byID[id]], signer, at); why != "" {
			return fmt.Sprintf("signer %q: %s", id, why)
		}
	}
	more := Anchors(after.Archive)
	for _, a := range Anchors(before.Archive) {
		if len(more) == 0 || more[0] != a {
			return "a boundary of the archive would be another one"
		}
		more = more[1:]
	}
	if at.Position == 0 && len(more) == 0 || len(more) == 1 && more[0].Position == at.Position && more[0].Digest == at.Digest {
		return ""
	}
	return "the archive would not gain the boundary alone"
}

// differ says in what else two speakers differ than in the bound of the signer.
func differ(was, is speaker, signer string, at registry.Boundary) string {
	switch {
	case was.ID != is.ID || was.Algorithm != is.Algorithm || was.KMSKeyID != is.KMSKeyID || was.Key.IsZero() != is.Key.IsZero() ||
		!was.Key.IsZero() && was.Key.Fingerprint() != is.Key.Fingerprint():
		return "another key would speak for it"
	case was.ID != signer && (was.state != is.state || was.until != is.until || was.never != is.never):
		return "it would count up to another position"
	case was.ID == signer && (was.state != StateActive || is.until != at.Position || is.never != (at.Position == 0)):
		return "it would not be bounded at its last event"
	}
	return ""
}
