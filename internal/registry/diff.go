package registry

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// Diff judges what a change does to registry and archive, from the base that
// it is to be merged into: a signer's key is for ever, a signer leaves only
// into the archive, the archive only grows and only by what left, and one
// change does one thing. It judges the change alone: head must pass Parse and
// Validate too. An entry of the base that can verify nothing may be repaired
// or dropped at will.
func Diff(base *Registry, baseArchive *Archive, head *Registry, headArchive *Archive) []finding.Finding {
	d := &differ{base: base, head: head, baseArchive: baseArchive, headArchive: headArchive}
	for _, was := range base.Signers {
		if !was.verifies() {
			continue
		}
		if is, kept := head.own(was.ID); kept {
			d.kept(was, is)
			continue
		}
		d.removed++
		if now, ok := headArchive.Find(was.ID); !ok || now.ID != was.ID {
			d.add(RuleRemovedSigner, 1, 1, "signer %s is removed and not archived: every event it signed would become unverifiable. Let finalize move it to the archive with its boundary", Quote(was.ID))
		}
	}
	for _, is := range head.Signers {
		if was, old := base.own(is.ID); !old || !was.verifies() {
			d.added++
			d.returned(is)
		}
	}
	d.archive()
	if ops := d.added + d.removed + d.widened; ops > 1 || ops == 1 && d.edited > 0 {
		if len(base.Signers)+len(baseArchive.Retired) > 0 {
			d.add(RuleOneOperation, 1, 1, "the change adds %d signer(s), removes %d, gives %d more aliases and edits %d otherwise; one pull request does one of these, so that each step can be judged and undone alone", d.added, d.removed, d.widened, d.edited)
		}
	}
	return d.findings
}

// own gives the signer whose own id is id.
func (r *Registry) own(id string) (Signer, bool) {
	i := slices.IndexFunc(r.Signers, func(s Signer) bool { return s.ID == id })
	if i < 0 {
		return Signer{}, false
	}
	return r.Signers[i], true
}

// verifies tells whether an entry speaks for anything.
func (s Signer) verifies() bool {
	return s.ID != "" && (!s.Key.IsZero() || s.Algorithm == pubkey.HMACSHA256)
}

type differ struct {
	base, head               *Registry
	baseArchive, headArchive *Archive
	added, removed, widened  int
	edited                   int // entries with other metadata
	findings                 []finding.Finding
}

func (d *differ) add(rule string, line, col int, format string, args ...any) {
	d.findings = append(d.findings, finding.Finding{Rule: rule, Severity: finding.Error, File: d.head.Name, Line: line, Col: col, Message: fmt.Sprintf(format, args...)})
}

func (d *differ) warn(rule string, at Signer, format string, args ...any) {
	d.findings = append(d.findings, finding.Finding{Rule: rule, Severity: finding.Warning, File: d.head.Name, Line: at.Line, Col: at.Col, Message: fmt.Sprintf(format, args...)})
}

// kept wants the parts of a kept signer that decide verification to be the
// same. A further alias and another KMS key are allowed and shown; the rest of
// an entry may change.
func (d *differ) kept(was, is Signer) {
	what := ""
	switch {
	case was.Algorithm != is.Algorithm:
		what = "algorithm"
	case was.Key.Fingerprint() != is.Key.Fingerprint():
		what = "public key"
	case was.Key.IsZero() && was.KMSKeyID != "" && was.KMSKeyID != is.KMSKeyID:
		what = "KMS key"
	}
	if what != "" {
		d.add(RuleKeyChanged, is.Line, is.Col, "the %s of signer %s changes; an id stands for one key for ever. Add a new signer under a new id instead", what, Quote(was.ID))
	}
	for _, alias := range was.Aliases {
		if !slices.Contains(is.Aliases, alias) {
			d.add(RuleRemovedSigner, is.Line, is.Col, "alias %s of signer %s is removed; events that name it would become unverifiable", Quote(alias), Quote(was.ID))
		}
	}
	var more []string
	for _, alias := range is.Aliases {
		if !slices.Contains(was.Aliases, alias) {
			more = append(more, Quote(alias))
		}
	}
	if len(more) > 0 {
		d.widened++
		d.warn(RuleAliasAdded, is, "rows that name %s count from now on if the key of signer %s has signed them; an alias is an id and stays. Approve it if the service writes that id", strings.Join(more, ", "), Quote(was.ID))
	}
	if what == "" && was.KMSKeyID != is.KMSKeyID {
		d.warn(RuleKMSKeyChanged, is, "signer %s now names the KMS key %s (before: %s), and actions will ask, enable and disable that one; its public key stays. Approve it if both hold the same key", Quote(was.ID), Quote(is.KMSKeyID), Quote(was.KMSKeyID))
	}
	if what == "" && len(more) == 0 && !sameJSON(was.Source, is.Source) {
		d.edited++
	}
}

// sameJSON tells whether two texts hold the same value.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// returned lets an archived signer come back only as it was. That a
// compromised one never does is for Validate to say.
func (d *differ) returned(is Signer) {
	if was, archived := d.baseArchive.Find(is.ID); archived && (is.ID != was.ID || is.Source != was.Source) {
		d.add(RuleReturnedSigner, is.Line, is.Col, "signer %s was retired by rotation %s and comes back changed; only a rollback brings an archived entry back, byte for byte", Quote(is.ID), Quote(was.Rotation))
	}
}

// archive wants every item of the base to stand in the head, in the same
// order, and every new one to be an entry that this change takes out of the
// registry: an archived key is trusted up to its boundary, so nobody may slip
// one in. A rollback leaves the item where it is: the entry in the registry
// counts for more.
func (d *differ) archive() {
	was, is := d.baseArchive.Retired, d.headArchive.Retired
	report := func(rule string, line, col int, format string, args ...any) {
		d.findings = append(d.findings, finding.Finding{Rule: rule, Severity: finding.Error, File: d.headArchive.Name, Line: line, Col: col, Message: fmt.Sprintf(format, args...)})
	}
	same := 0
	for same < len(was) && same < len(is) && was[same].item == is[same].item {
		same++
	}
	for i, item := range was[same:] {
		report(RuleArchiveRewrite, 1, 1, "archive item %d (%s) is changed, moved or removed; the archive only grows", same+i+1, Quote(item.ID))
	}
	for _, item := range is[same:] {
		from, ok := d.base.own(item.ID)
		_, stays := d.head.own(item.ID)
		switch {
		case !stays && slices.ContainsFunc(was[same:], func(w Retired) bool { return w.ID == item.ID }):
			// archive-rewrite speaks of it
		case !ok || stays:
			report(RuleUnarchivedEntry, item.Line, item.Col, "the archive gains signer %s, which this change does not take out of the registry; an archived key is trusted up to its boundary, so it must have been a registered one", Quote(item.ID))
		case from.Source != item.Source:
			report(RuleUnarchivedEntry, item.Line, item.Col, "the archived entry of signer %s is not the one that was removed, byte for byte", Quote(item.ID))
		}
	}
}
