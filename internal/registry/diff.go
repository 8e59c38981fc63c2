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

// Edits judges a change that makes no move (package record), from the base that it
// is to be merged into. What it may change is listed here, and nothing else may
// change: formatting, the container, the members beside the list; of an entry its
// description, its dates and its x- members, the spelling of member names and the
// encoding of the key; the KMS key of a public key, and one more alias, each with a
// warning. An entry of the base that can verify nothing may be repaired or dropped.
// A base without any signer is the exception: its first registry is a person's.
func Edits(base *Registry, baseArchive *Archive, head *Registry, headArchive *Archive) []finding.Finding {
	d := &differ{head: head, headArchive: headArchive}
	first := len(base.Signers)+len(baseArchive.Retired) == 0
	for _, was := range base.Signers {
		is, kept := head.own(was.ID)
		switch {
		case kept && was.verifies():
			d.kept(was, is)
		case kept:
			d.warn(RuleEntryRepaired, is, "signer %s could verify nothing before this change: review its key like that of a new signer", Quote(was.ID))
		case was.verifies():
			d.add(RuleRemovedSigner, 1, 1, "signer %s is removed and not archived: every event it signed would become unverifiable. Let finalize move it to the archive with its boundary", Quote(was.ID))
		}
	}
	for _, is := range head.Signers {
		if _, old := base.own(is.ID); old || first || is.ID == "" {
			continue
		}
		if was, archived := baseArchive.Find(is.ID); archived {
			d.add(RuleReturnedSigner, is.Line, is.Col, "signer %s was retired by rotation %s and comes back without a move; only the rollback action brings an archived signer back, so that the record says who, when and why", Quote(is.ID), Quote(was.Rotation))
			continue
		}
		d.add(RuleNoRecord, is.Line, is.Col, "signer %s is added without a rotation record, so nobody knows who published it, when and why. Let add-signer publish it; without GitHub: add-signer --public-key-path=<file> --signer-id=%s --reason=<why> --write-files=true, which edits the files of this checkout", Quote(is.ID), Quote(is.ID))
	}
	d.archiveGrows(baseArchive, 0)
	if d.widened > 1 || d.widened == 1 && d.edited > 0 {
		d.add(RuleOneOperation, 1, 1, "the change gives %d more aliases and edits %d entries otherwise; one pull request adds one alias and does nothing else, so that it can be judged and undone alone", d.widened, d.edited)
	}
	return d.findings
}

// Mismatches says where a change differs from what its move makes of the base, by
// value: only formatting is free. Items of the archive that were there before stay
// as they are, byte for byte.
func Mismatches(want *Registry, wantArchive *Archive, head *Registry, headArchive *Archive, gained int) []finding.Finding {
	d := &differ{head: head, headArchive: headArchive}
	d.archiveGrows(wantArchive, gained)
	for _, x := range want.Signers {
		if is, ok := head.own(x.ID); !ok {
			d.add(RuleMoveMismatch, 1, 1, "signer %s is in the registry after the move that the record gains, and it is not here", Quote(x.ID))
		} else if !sameJSON(x.Source, is.Source) {
			d.add(RuleMoveMismatch, is.Line, is.Col, "the entry of signer %s differs from what the move makes of it; edit entries in a change of their own", Quote(x.ID))
		}
	}
	for _, is := range head.Signers {
		if _, ok := want.own(is.ID); !ok {
			d.add(RuleMoveMismatch, is.Line, is.Col, "signer %s is not in the registry after the move that the record gains, and it is here", Quote(is.ID))
		}
	}
	if len(d.findings) == 0 && (want.Container != head.Container || !sameJSON(string(want.Bytes()), string(head.Bytes()))) {
		d.add(RuleMoveMismatch, 1, 1, "the registry differs from what the move makes of it, in the order of its entries or beside them; change that in a pull request of its own")
	}
	if len(d.findings) == 0 && !sameJSON(string(wantArchive.Bytes()), string(headArchive.Bytes())) && len(wantArchive.Bytes())+len(headArchive.Bytes()) > 0 {
		d.inArchive(RuleMoveMismatch, 1, 1, "the archive differs from what the move makes of it; change that in a pull request of its own")
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

// verifies tells whether an entry can verify anything.
func (s Signer) verifies() bool {
	return s.ID != "" && (!s.Key.IsZero() || s.Algorithm == pubkey.HMACSHA256)
}

type differ struct {
	head            *Registry
	headArchive     *Archive
	widened, edited int // aliases added, entries with other metadata
	findings        []finding.Finding
}

func (d *differ) add(rule string, line, col int, format string, args ...any) {
	d.findings = append(d.findings, finding.Finding{Rule: rule, Severity: finding.Error, File: d.head.Name, Line: line, Col: col, Message: fmt.Sprintf(format, args...)})
}

func (d *differ) inArchive(rule string, line, col int, format string, args ...any) {
	d.findings = append(d.findings, finding.Finding{Rule: rule, Severity: finding.Error, File: d.headArchive.Name, Line: line, Col: col, Message: fmt.Sprintf(format, args...)})
}

func (d *differ) warn(rule string, at Signer, format string, args ...any) {
	d.findings = append(d.findings, finding.Finding{Rule: rule, Severity: finding.Warning, File: d.head.Name, Line: at.Line, Col: at.Col, Message: fmt.Sprintf(format, args...)})
}

// kept wants the parts of a kept entry that decide anything to be the same.
func (d *differ) kept(was, is Signer) {
	what := ""
	switch {
	case was.Algorithm != is.Algorithm:
		what = "algorithm"
	case was.Key.Fingerprint() != is.Key.Fingerprint():
		what = "public key"
	case was.Key.IsZero() && KeyID(was.KMSKeyID) != KeyID(is.KMSKeyID):
		what = "KMS key"
	case was.Rotation != is.Rotation:
		what = "rotation"
	}
	if what != "" {
		d.add(RuleKeyChanged, is.Line, is.Col, "the %s of signer %s changes; an id is one key for ever. Add a new signer under a new id instead", what, Quote(was.ID))
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
		d.widened += len(more)
		d.warn(RuleAliasAdded, is, "rows that name %s count from now on if the key of signer %s has signed them; an alias is an id and stays. Approve it if the service writes that id", strings.Join(more, ", "), Quote(was.ID))
	}
	if what == "" && was.KMSKeyID != is.KMSKeyID {
		d.warn(RuleKMSKeyChanged, is, "signer %s now names the KMS key %s (before: %s), and actions will ask, enable and disable that one; its public key stays. Approve it if both hold the same key", Quote(was.ID), Quote(is.KMSKeyID), Quote(was.KMSKeyID))
	}
	if what == "" && len(more) == 0 && !sameJSON(was.Source, is.Source) {
		d.edited++
	}
}

// sameJSON reports whether two texts hold the same value.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// archiveGrows wants the archive to hold the items of want: all but the last
// gained ones byte for byte, those by value, and the entry in them byte for byte.
func (d *differ) archiveGrows(want *Archive, gained int) {
	was, is := want.Retired, d.headArchive.Retired
	for i, item := range was {
		isNew := i >= len(was)-gained
		switch {
		case i >= len(is) && isNew:
			d.inArchive(RuleMoveMismatch, 1, 1, "the move archives signer %s, and the archive does not gain it", Quote(item.ID))
		case i >= len(is) || !isNew && is[i].item != item.item:
			d.inArchive(RuleArchiveRewrite, 1, 1, "archive item %d (%s) is changed, moved or removed; the archive only grows", i+1, Quote(item.ID))
			return
		case isNew && (is[i].Source != item.Source || !sameJSON(is[i].item, item.item)):
			d.inArchive(RuleMoveMismatch, is[i].Line, is[i].Col, "the item of signer %s is not the one that the move makes: boundary %d (%s), state %s, time, reason, rotation and entry are the record's and the registry's", Quote(item.ID), item.Boundary.Position, item.Boundary.Digest, item.State)
		}
	}
	for _, item := range is[min(len(was), len(is)):] {
		d.inArchive(RuleUnarchivedEntry, item.Line, item.Col, "the archive gains signer %s, and no record gains a move that archives it; only finalize, rollback and compromise archive a signer", Quote(item.ID))
	}
}
