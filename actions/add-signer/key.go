package main

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// key is the key that is to be published, and who can make it sign.
type key struct {
	rotation string
	signer   record.Signer
	public   pubkey.Key     // zero for HMAC
	kms      *awskms.Client // nil for a key kept elsewhere
}

// The names of a KMS key that signer-id may ask for instead of an id.
const (
	asARN   = "kms-key-arn"
	asKeyID = "kms-key-id"
)

// name derives the rotation's id, which a key that is made is found by again.
func name(in inputs, at time.Time) *key {
	id := in.SignerID
	if id == "" {
		id = ofDay(at)
	}
	k := &key{rotation: record.IDFor(id), signer: record.Signer{ID: id}}
	if id == asARN || id == asKeyID { // one rotation a day, until the key is known
		k.rotation = record.IDFor(ofDay(at))
	}
	return k
}

// fits holds the new signer against what is published, and gives the signer
// that it replaces, nil if none. It is asked before a key is made for nothing,
// and again once the key is known.
func (k *key) fits(in inputs, s *published.State) (*record.Signer, error) {
	if err := k.free(in, s); err != nil {
		return nil, err
	}
	var current []registry.Signer
	for _, x := range s.Registry.Signers {
		if x.ID != k.signer.ID && x.Rotation != k.rotation {
			current = append(current, x)
		}
	}
	var out registry.Signer
	switch {
	case in.Replaces == "none" || in.Replaces == "" && len(current) == 0:
		return nil, nil
	case in.Replaces != "":
		var found bool
		if out, found = s.Registry.Find(in.Replaces); !found {
			return nil, gha.Misuse("replaces: the registry has no signer %q: name one that it has, or none", in.Replaces)
		}
		if out.ID == k.signer.ID {
			return nil, gha.Misuse("replaces: signer %q cannot replace itself: a new key needs a new id, so choose another signer-id", out.ID)
		}
	case len(current) > 1:
		return nil, gha.Misuse("the registry has %d signers: say by replaces which one the new signer replaces, or none", len(current))
	default:
		out = current[0]
	}
	// At any time it must be clear which signer to expect.
	open := slices.DeleteFunc(s.InFlight(), func(id string) bool { return id == k.rotation || id == record.IDFor(k.signer.ID) })
	if len(open) > 0 {
		return nil, gha.Misuse("rotation %s is in flight: finish it (finalize) or go back (rollback) before the next one", open[0])
	}
	signer := record.SignerOf(out)
	return &signer, nil
}

// free refuses an id that is another key's, now or in the archive; one that is
// published already may be asked for again.
func (k *key) free(in inputs, s *published.State) error {
	x, isPublished := s.Registered(k.signer.ID)
	if isPublished && (in.KeySpec == "" || x.Rotation == k.rotation) {
		return nil
	}
	if why := s.Taken(k.signer.ID); why != "" {
		return gha.Misuse("%s", why)
	}
	return nil
}

// take finds or makes the key. A dry run makes none, and asks no service about
// a key that does not exist yet.
func (k *key) take(ctx context.Context, r *gha.Run, in inputs) error {
	if in.PublicKeyPath != "" {
		if k.signer.ID == asARN || k.signer.ID == asKeyID {
			return gha.Misuse("signer-id %s needs a KMS key, and public-key-path names a file: choose an id of your own", k.signer.ID)
		}
		return k.read(r, in.PublicKeyPath)
	}
	if in.DryRun && in.KeySpec != "" {
		return nil
	}
	var err error
	if k.kms, err = awskms.New(ctx, awskms.Options{}); err != nil {
		return err
	}
	found, err := k.find(ctx, r, in)
	if err != nil {
		return err
	}
	if unfit := found.Check(in.AllowedAccounts); len(unfit) > 0 {
		return gha.Misuse("KMS key %s cannot sign audit events: %s", found.ARN, strings.Join(unfit, "; "))
	}
	if k.signer.ID == asARN || k.signer.ID == asKeyID {
		k.signer.ID = map[string]string{asARN: found.ARN, asKeyID: found.ID}[k.signer.ID]
		if in.KMSKeyID != "" {
			k.rotation = record.IDFor(k.signer.ID)
		}
	}
	k.signer.KMSKeyARN, k.signer.Algorithm = found.ARN, found.Algorithm()
	if k.signer.Algorithm == pubkey.HMACSHA256 {
		return nil
	}
	if k.public, err = k.kms.PublicKey(ctx, found.ARN); err != nil {
		return err
	}
	k.signer.Fingerprint = k.public.Fingerprint()
	return nil
}

// find gives the KMS key that was named, or the rotation's own.
func (k *key) find(ctx context.Context, r *gha.Run, in inputs) (awskms.Key, error) {
	if in.KMSKeyID != "" {
		return k.kms.Describe(ctx, in.KMSKeyID)
	}
	made, err := k.kms.Create(ctx, awskms.Creation{Spec: in.KeySpec, RotationID: k.rotation, Description: "audit signing, rotation " + k.rotation})
	if err != nil {
		return awskms.Key{}, err
	}
	if made.New {
		r.Logf("created KMS key %s (%s), alias %s", made.Key.ARN, in.KeySpec, made.Alias)
	} else {
		r.Logf("this rotation's KMS key is there already: %s", made.Key.ARN)
	}
	for _, orphan := range made.Orphans {
		r.Logf("note: KMS key %s carries this rotation's tag too and is not used; an earlier or a parallel run left it. Nothing here deletes keys", orphan)
	}
	return made.Key, nil
}

// read takes a public key from a file.
func (k *key) read(r *gha.Run, path string) error {
	text, err := r.ReadFile("public-key-path", path, 1<<16)
	if err != nil {
		return err
	}
	if k.public, err = pubkey.Parse(strings.TrimSpace(string(text))); err != nil {
		return gha.Misuse("public-key-path %q: %w", path, err)
	}
	k.signer.Algorithm, k.signer.Fingerprint = k.public.Algorithm(), k.public.Fingerprint()
	return nil
}

// proven tells whether a proof of possession is one by this key. An HMAC key's is
// asked of KMS again, or not taken over.
func (k *key) proven(ctx context.Context, in inputs, p *pubkey.Possession) (bool, error) {
	switch {
	case p == nil:
		return false, nil
	case !k.public.IsZero():
		return p.Check(k.rotation, k.public) == nil, nil
	case k.kms == nil || !in.ProvePossession:
		return false, nil
	}
	digest, mac, err := p.Claim(k.rotation, k.signer.KMSKeyARN)
	if err != nil {
		return false, nil
	}
	return k.kms.VerifyMAC(ctx, k.signer.KMSKeyARN, digest, mac)
}

// prove lets the key sign a challenge and checks the answer by the verifier's
// own rule; nil where no key service can be asked or proof was declined.
func (k *key) prove(ctx context.Context, in inputs) (*pubkey.Possession, error) {
	if k.kms == nil || !in.ProvePossession {
		return nil, nil
	}
	identity := k.signer.Fingerprint
	if identity == "" {
		identity = k.signer.KMSKeyARN
	}
	var nonce [32]byte
	rand.Read(nonce[:]) // never fails (crypto/rand)
	p, err := k.kms.Prove(ctx, k.signer.KMSKeyARN, k.signer.Algorithm, k.rotation, identity, nonce)
	if err != nil {
		return nil, err
	}
	if !k.public.IsZero() {
		if err := p.Check(k.rotation, k.public); err != nil {
			return nil, err
		}
	}
	return &p, nil
}
