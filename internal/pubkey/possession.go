package pubkey

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Possession proves that somebody can sign with the private half of a key: the
// signature of a challenge that is made for one rotation and one key. It is
// kept in the rotation record and can be checked offline.
type Possession struct {
	// Challenge is the text whose SHA-256 was signed.
	Challenge string `json:"challenge"`
	// Digest is that SHA-256, 64 lower-case hexadecimal digits.
	Digest string `json:"digest"`
	// Signature is the raw signature of the digest, in standard base64.
	Signature string `json:"signature"`
}

// Challenge is the text to sign; identity is the key's fingerprint, or the ARN of
// an HMAC key, nonce 32 random bytes. Its first line keeps the digest from being an
// audit event's: such a digest is SHA-256 over JSON text and the 32 bytes of the
// previous digest, and no JSON text begins with the letter a.
func Challenge(rotationID, identity string, nonce [32]byte) string {
	return "audit-signer-rotation possession v1\n" + rotationID + "\n" + identity + "\n" + hex.EncodeToString(nonce[:])
}

// Check verifies the proof of an asymmetric key by the rule that verifiers of
// audit events apply: that the challenge is one for this rotation and key, and
// that key signed it. An error, with exit code 1, means that possession is not
// proven.
func (p Possession) Check(rotationID string, key Key) error {
	if key.IsZero() {
		return notProven("an HMAC key has no public key to check it with; only KMS can, by VerifyMac")
	}
	digest, signature, err := p.Claim(rotationID, key.Fingerprint())
	if err != nil {
		return err
	}
	switch key.Algorithm() {
	case RSASHA256:
		err = rsa.VerifyPKCS1v15(key.RSA(), crypto.SHA256, digest[:], signature)
	case Ed25519:
		if !ed25519.Verify(key.Ed25519(), digest[:], signature) {
			err = errors.New("ed25519: verification error")
		}
	}
	if err != nil {
		return notProven(fmt.Sprintf("the signature does not verify under %s (%v)", key.Fingerprint(), err))
	}
	return nil
}

// Claim gives the digest and the signature of it that the proof consists of, if
// its challenge is one for this rotation and key; see Challenge for the identity.
// Whether the signature is good is left to the caller.
func (p Possession) Claim(rotationID, identity string) (digest [32]byte, signature []byte, err error) {
	prefix := Challenge(rotationID, identity, [32]byte{})
	prefix = prefix[:len(prefix)-64]
	nonce, ok := strings.CutPrefix(p.Challenge, prefix)
	if raw, err := hex.DecodeString(nonce); !ok || err != nil || len(raw) != 32 || strings.ToLower(nonce) != nonce {
		return digest, nil, notProven("the challenge is not one for this rotation and this key")
	}
	digest = sha256.Sum256([]byte(p.Challenge))
	if p.Digest != hex.EncodeToString(digest[:]) {
		return digest, nil, notProven("the digest is not the challenge's SHA-256")
	}
	if signature, err = base64.StdEncoding.Strict().DecodeString(p.Signature); err != nil {
		return digest, nil, notProven("the signature is not standard base64")
	}
	return digest, signature, nil
}

type notProven string

func (e notProven) Error() string {
	return "possession of the key is not proven: " + string(e) + "; prove it anew, and do not publish this key before"
}

// ExitCode is 1: evidence against.
func (notProven) ExitCode() int { return 1 }
