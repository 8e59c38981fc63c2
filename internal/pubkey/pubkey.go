// Package pubkey reads the public keys of a signer registry, names their
// algorithms, and holds the key policy.
//
// It accepts RSA keys of 2048, 3072 and 4096 bits with the exponent 65537 and
// Ed25519 keys, written as PEM or base64 of a SubjectPublicKeyInfo, or as base64
// of the raw 32 Ed25519 bytes, each in one spelling (line ends of PEM apart). It
// refuses every other key type, every second encoding of a key, keys whose private half can be
// computed (small factors, close primes, the ROCA generator, small-order
// points), and pasted private keys, of which no byte reaches an error.
//
// It is safe because a Key exists only after the whole policy has passed, sizes
// are checked before any mathematics, and the accepted bytes are compared with
// the re-encoding of what was understood: nothing is ignored.
package pubkey

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"strconv"
	"strings"
)

// Algorithm is the name of a signature algorithm, as a registry writes it.
type Algorithm string

// The closed list of algorithms.
const (
	RSASHA256  Algorithm = "rsa-sha256"  // RSASSA-PKCS1-v1_5 over the SHA-256 digest (RFC 8017)
	Ed25519    Algorithm = "ed25519"     // pure Ed25519 whose message is the 32 digest bytes (RFC 8032)
	HMACSHA256 Algorithm = "hmac-sha256" // HMAC over the 32 digest bytes; has no public key
)

// ParseAlgorithm reads the name of an algorithm, whatever the case of its ASCII
// letters; lower tells whether it stood in lower case already. Any other name is
// an *Error with RuleAlgorithm, whose message lists the three names.
func ParseAlgorithm(name string) (alg Algorithm, lower bool, err error) {
	folded := strings.Map(lowerASCII, name)
	switch alg := Algorithm(folded); alg {
	case RSASHA256, Ed25519, HMACSHA256:
		return alg, folded == name, nil
	}
	return "", false, refuse(RuleAlgorithm, "the algorithm is not one this tool knows: write rsa-sha256, ed25519 or hmac-sha256")
}

// lowerASCII folds A to Z only: Unicode folding would take U+212A, the Kelvin
// sign, for a k.
func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// Key is one public key that has passed the key policy. Parse and ParseSPKI make
// it; the zero Key is no key. A Key is never changed, and may be used by several
// goroutines at once.
type Key struct {
	spki []byte
	rsa  *rsa.PublicKey
	ed   ed25519.PublicKey
}

// IsZero tells whether k is the zero Key, which an hmac-sha256 signer has.
func (k Key) IsZero() bool { return k.spki == nil }

// Algorithm returns RSASHA256 or Ed25519, or "" for the zero Key.
func (k Key) Algorithm() Algorithm {
	switch {
	case k.rsa != nil:
		return RSASHA256
	case k.ed != nil:
		return Ed25519
	}
	return ""
}

// RSA returns the RSA key, or nil when k is no RSA key. It must not be changed.
func (k Key) RSA() *rsa.PublicKey { return k.rsa }

// Ed25519 returns the 32 bytes of the Ed25519 key, or nil when k is no Ed25519
// key. They must not be changed.
func (k Key) Ed25519() ed25519.PublicKey { return k.ed }

// Bits returns the length of the RSA modulus in bits, 256 for Ed25519, or 0 for
// the zero Key.
func (k Key) Bits() int {
	switch {
	case k.rsa != nil:
		return k.rsa.N.BitLen()
	case k.ed != nil:
		return 256
	}
	return 0
}

// Spec returns the AWS KMS key spec of such a key: RSA_2048, RSA_3072, RSA_4096
// or ECC_NIST_EDWARDS25519 (AWS KMS developer guide, "Key spec reference"), or ""
// for the zero Key.
func (k Key) Spec() string {
	switch {
	case k.rsa != nil:
		return "RSA_" + strconv.Itoa(k.Bits())
	case k.ed != nil:
		return "ECC_NIST_EDWARDS25519"
	}
	return ""
}

// SPKI returns the DER bytes of the SubjectPublicKeyInfo (RFC 5280 section
// 4.1.2.7), the form in which AWS KMS hands out a key. They must not be changed.
func (k Key) SPKI() []byte { return k.spki }

// PEM returns the canonical PEM text, the form in which this project writes keys:
// lines of 64 characters, line feeds, one final line feed (RFC 7468 section 13).
// It returns "" for the zero Key.
func (k Key) PEM() string {
	if k.IsZero() {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.spki}))
}

// Fingerprint returns the SHA-256 of the SPKI as 64 lower-case hexadecimal
// digits, or "" for the zero Key. Two keys are equal when their fingerprints are.
func (k Key) Fingerprint() string {
	if k.IsZero() {
		return ""
	}
	sum := sha256.Sum256(k.spki)
	return hex.EncodeToString(sum[:])
}
