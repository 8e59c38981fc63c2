// Package registry reads, judges and edits the two files that say whose
// signatures count: the registry (signers.json), which names the signers that
// may sign now, and the archive beside it (signers.archive.json), which keeps
// the retired ones with the last position at which each may speak.
//
// It refuses what would let two readers trust different keys: unknown and
// doubled members, ids that differ in letter case only, one key under two
// ids, keys that are weak or in another than their one encoding, secrets
// anywhere. It accepts every container and member spelling that verifiers of
// these files are known to read. Edits change the bytes of one entry and
// nothing else.
package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// The rules of registry and archive; docs/rules.md explains each with an
// example. A key's own rules are package pubkey's.
const (
	RuleShape           = "registry-shape"
	RuleNoSigner        = "no-signer"
	RuleMapOfStrings    = "map-of-strings"
	RuleUnknownMember   = "unknown-member"
	RuleMissingMember   = "missing-member"
	RuleMemberType      = "member-type"
	RuleMemberConflict  = "member-conflict"
	RuleSignerID        = "signer-id"
	RuleDuplicateID     = "duplicate-id"
	RuleDuplicateKey    = "duplicate-key"
	RuleSharedPrime     = "shared-prime"
	RuleAlgorithmCase   = "algorithm-case"
	RuleAlgorithmKey    = "algorithm-mismatch"
	RuleHMACEntry       = "hmac-entry"
	RuleDate            = "bad-date"
	RuleDateInFuture    = "date-in-future"
	RuleArchiveItem     = "archive-item"
	RuleSchema          = "schema"
	RuleTooManySigners  = "too-many-signers"
	RuleKeyChanged      = "key-changed"
	RuleRemovedSigner   = "removed-signer"
	RuleArchiveRewrite  = "archive-rewrite"
	RuleReturnedSigner  = "returned-signer"
	RuleOneOperation    = "one-operation"
	RuleUnarchivedEntry = "unarchived-entry"
	RuleAliasAdded      = "alias-added"
	RuleKMSKeyChanged   = "kms-key-changed"
	RuleKeyARN          = "kms-key-arn"
	RuleNoRecord        = "signer-without-record"
	RuleEntryRepaired   = "entry-repaired"
	RuleMoveMismatch    = "move-mismatch"
)

// MaxSigners bounds registry and archive, each; MaxAliases bounds an entry.
const (
	MaxSigners = 1000
	MaxAliases = 100
)

// Container is how a registry file holds its entries.
type Container int

// The containers that verifiers of these files read.
const (
	List    Container = iota // [ {…}, … ]
	Wrapped                  // {"signers": [ {…}, … ]}
	Map                      // { id: {…}, … }
)

// Signer is one entry.
type Signer struct {
	ID        string
	Aliases   []string
	Algorithm pubkey.Algorithm
	// Key is zero for an HMAC signer and for an entry that was refused.
	Key      pubkey.Key
	KMSKeyID string
	// DeployedAt and Rotation are the entry's own words, "" if it has none.
	DeployedAt string
	Rotation   string
	// Source is the entry's text, moved to column 0.
	Source string
	// Line and Col are where the entry starts.
	Line, Col int

	names names
}

// names are the spellings that an entry uses for its three main members.
type names struct{ id, algorithm, key string }

// IDs are all ids of the signer, its own first.
func (s Signer) IDs() []string { return append([]string{s.ID}, s.Aliases...) }

// Registry is a parsed registry file.
type Registry struct {
	Name      string
	Container Container
	Signers   []Signer

	doc     *jsondoc.Document
	entries *jsondoc.Value
}

// Bytes are the registry's text.
func (r *Registry) Bytes() []byte { return r.doc.Bytes() }

// SHA256 is the digest of the file's bytes, in hex.
func (r *Registry) SHA256() string { return digestOf(r.doc.Bytes()) }

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Find gives the signer that has id as its own or as an alias.
func (r *Registry) Find(id string) (Signer, bool) {
	i := slices.IndexFunc(r.Signers, func(s Signer) bool { return slices.Contains(s.IDs(), id) })
	if i < 0 {
		return Signer{}, false
	}
	return r.Signers[i], true
}

// Parse reads a registry. The error, if any, is a *jsondoc.Error: the file is
// no JSON document. Everything else that is wrong with it is a finding, and an
// entry with one may be incomplete.
func Parse(name string, src []byte) (*Registry, []finding.Finding, error) {
	doc, err := jsondoc.Parse(name, src)
	if err != nil {
		return nil, nil, err
	}
	r := &Registry{Name: name, doc: doc}
	c := newChecker(doc)
	root := doc.Root
	signers := root.Member("signers")
	switch {
	case root.Kind == jsondoc.Array:
		r.Container, r.entries = List, root
	case root.Kind == jsondoc.Object && signers != nil:
		r.Container, r.entries = Wrapped, signers
		c.wrapper(root)
		if signers.Kind != jsondoc.Array {
			c.find(RuleShape, signers.Start, "%q must be an array of entries, here it is %s", "signers", signers.Kind)
			return r, c.findings, nil
		}
	case root.Kind == jsondoc.Object:
		r.Container, r.entries = Map, root
	default:
		c.find(RuleShape, root.Start, "a registry is an array of entries, an object with an array \"signers\", or an object from signer id to entry; this is %s", root.Kind)
		return r, c.findings, nil
	}
	if n := len(r.entries.Elements) + len(r.entries.Members); n > MaxSigners {
		c.find(RuleTooManySigners, r.entries.Start, "%d entries, more than the limit of %d", n, MaxSigners)
		return r, c.findings, nil
	}
	for _, m := range r.entries.Members {
		if m.Value.Kind == jsondoc.String {
			c.find(RuleMapOfStrings, m.NameStart, "an id mapped to a bare key is read by no current verifier; write {%s: {\"algorithm\": …, \"publicKey\": …}}", Quote(m.Name))
			continue
		}
		r.Signers = append(r.Signers, c.entry(m.Value, &m))
	}
	for _, e := range r.entries.Elements {
		r.Signers = append(r.Signers, c.entry(e, nil))
	}
	if len(r.entries.Members)+len(r.entries.Elements) == 0 {
		c.find(RuleNoSigner, r.entries.Start, "the registry has no signer: every event would be unverifiable")
	}
	return r, c.findings, nil
}

// wrapper checks what stands beside "signers".
func (c *checker) wrapper(root *jsondoc.Value) {
	for _, m := range root.Members {
		switch {
		case m.Name == "signers" || m.Name == "version" || m.Name == "$schema" || m.Name == "description" || m.Name == "updatedAt" || extension(m.Name):
		case m.Value.Kind == jsondoc.String || m.Value.Kind == jsondoc.Object:
			c.find(RuleUnknownMember, m.NameStart, "member %s beside \"signers\" is read by no verifier; if it is a signer, move it into the array", Quote(m.Name))
		default:
			c.find(RuleUnknownMember, m.NameStart, "member %s beside \"signers\" is not known", Quote(m.Name))
		}
	}
}
