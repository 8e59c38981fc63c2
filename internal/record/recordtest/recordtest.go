// Package recordtest makes signers, files and moves for tests. Keys follow from the
// signer's id, so that tests are the same on every run.
package recordtest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Start is when the first move is made.
var Start = time.Date(2026, 1, 3, 12, 0, 0, 0, time.UTC)

// Private is the private key of a signer. An id that begins with mac has none.
func Private(id string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("key of " + id))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Key is the public key of a signer, zero where its id begins with mac.
func Key(id string) pubkey.Key {
	if strings.HasPrefix(id, "mac") {
		return pubkey.Key{}
	}
	der, err := x509.MarshalPKIXPublicKey(Private(id).Public())
	if err != nil {
		panic(err)
	}
	k, err := pubkey.Parse(base64.StdEncoding.EncodeToString(der))
	if err != nil {
		panic(err)
	}
	return k
}

// ARN is the full ARN of a signer's KMS key.
func ARN(id string) string {
	sum := sha256.Sum256([]byte("kms " + id))
	h := hex.EncodeToString(sum[:16])
	return fmt.Sprintf("arn:aws:kms:eu-west-1:111122223333:key/%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

// Signer is a signer with its KMS key.
func Signer(id string) record.Signer {
	k := Key(id)
	s := record.Signer{ID: id, Algorithm: pubkey.HMACSHA256, KMSKeyARN: ARN(id)}
	if !k.IsZero() {
		s.Algorithm, s.Fingerprint = k.Algorithm(), k.Fingerprint()
	}
	return s
}

// Load reads the texts of registry and archive; archive is "" where there is none.
// It panics where they are not sound.
func Load(reg, archive string, records ...record.Record) record.Files {
	var text []byte
	if archive != "" {
		text = []byte(archive)
	}
	files, err := registry.Load("tools/signers.json", []byte(reg), "tools/signers.archive.json", text)
	if err != nil {
		panic(err)
	}
	return record.Files{Registry: files.Registry, Archive: files.Archive, Records: records, Dir: "tools/rotations"}
}

// First is a first registry that a person has written.
func First(ids ...string) record.Files {
	f := Load(registry.New, "")
	for _, id := range ids {
		s := Signer(id)
		f.Registry, _, _ = registry.Parse(f.Registry.Name, f.Registry.Add(registry.Entry{
			ID: id, Algorithm: s.Algorithm, Key: Key(id), KMSKeyID: s.KMSKeyARN, Aliases: []string{s.KMSKeyARN}, DeployedAt: Start.AddDate(0, -1, 0),
		}))
	}
	return f
}

// By is somebody at a time after Start.
func By(after time.Duration) record.By {
	return record.By{At: Start.Add(after), Actor: "octocat", Reason: "yearly rotation", RunURL: "https://github.com/acme/kernel/actions/runs/1"}
}

// Policy is an overlap of two days.
var Policy = record.Policy{Overlap: record.Duration(48 * time.Hour), Propagation: record.Duration(5 * time.Minute), Drain: record.Duration(time.Hour)}

// Open publishes a signer, which replaces another one unless that is "".
func Open(after time.Duration, id, replaces string) *record.Open {
	m := &record.Open{By: By(after), Signer: Signer(id), Policy: Policy, Key: Key(id)}
	if replaces != "" {
		s := Signer(replaces)
		m.Replaces = &s
	}
	return m
}

// Promote lets a signer replace another one.
func Promote(after time.Duration, id, replaces string) *record.Promote {
	return &record.Promote{By: By(after), Signer: Signer(id), Replaces: Signer(replaces), Policy: Policy}
}

// Mark is an event.
func Mark(position int64) record.Mark {
	return record.Mark{Position: position, Digest: chain.Digest(sha256.Sum256(fmt.Appendf(nil, "event %d", position)))}
}

// Retire archives a signer of these files, on evidence gathered for them.
func Retire(after time.Duration, f record.Files, id string, position int64, gates ...record.Gate) *record.Retire {
	if gates == nil {
		gates = []record.Gate{{ID: "G1", Name: "a gate", State: record.Passed, Detail: "detail"}}
	}
	return &record.Retire{
		By: By(after), Signer: Signer(id), Boundary: Mark(position), Cutover: record.Cutover{Position: position + 1}, Gates: gates,
		Evidence: record.Evidence{Events: position + 9, Head: Mark(position + 9).Digest.String(), RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: f.Archive.SHA256()},
	}
}

// Withdraw gives a signer up.
func Withdraw(after time.Duration, id string) *record.Withdraw {
	return &record.Withdraw{By: By(after), Signer: Signer(id)}
}

// RollBack goes back to a signer.
func RollBack(after time.Duration, id string) *record.RollBack {
	return &record.RollBack{By: By(after), Signer: Signer(id)}
}

// Compromise declares a signer compromised.
func Compromise(after time.Duration, id string, position int64) *record.Compromise {
	return &record.Compromise{By: By(after), Signer: Signer(id), Boundary: Mark(position)}
}

// Apply makes moves one after another; it panics where one cannot be made.
func Apply(f record.Files, steps ...Step) record.Files {
	for _, s := range steps {
		after, err := f.Apply(s.ID, s.Move)
		if err != nil {
			panic(fmt.Sprintf("%s %s: %v", s.ID, s.Move.Kind(), err))
		}
		f = after
	}
	return f
}

// Step is a move in a record.
type Step struct {
	ID   string
	Move record.Move
}

// In is a move in the record with this id.
func In(id string, m record.Move) Step { return Step{id, m} }
