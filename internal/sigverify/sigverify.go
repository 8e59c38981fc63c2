// Package sigverify checks signatures over event digests: RSASSA-PKCS1-v1_5
// with SHA-256 (the digest is the hashed value, it is not hashed again), pure
// Ed25519 over the 32 digest bytes, HMAC-SHA-256 over them.
//
// It refuses every other encoding of a signature than canonical base64 or
// one-case hex of exactly the key's length: a lenient decoder lets one
// signature stand in many spellings. PSS, Ed25519ph, a second hash or a
// missing DigestInfo never verify.
//
// Verdicts are those of the Go standard library (Key.Verify). An Engine checks
// batches many times faster and stays safe by one rule: a fast path may only
// accept. What it does not accept, and every key or signature that is out of
// the ordinary, the library decides. What it accepts is the result of the very
// equation that the library computes, per signature; nothing is combined or
// screened. The first acceptance by each key and a random sample of the others
// go to the library as well.
package sigverify

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// Key is a key that signatures are checked with. It may be used by several
// goroutines at once; nil verifies nothing.
type Key struct {
	rsa    *rsa.PublicKey
	ed     ed25519.PublicKey
	secret []byte
	size   int

	// What the fast paths of RSA keep, made when first needed.
	modulus func() *modulus
	lane    func() *lane
	// seen counts Ed25519 signatures until a table is worth its cost, confirmed
	// says that the library agreed with a fast path once.
	seen      atomic.Int64
	confirmed atomic.Bool
}

// New prepares a public key.
func New(k pubkey.Key) *Key {
	if k.RSA() != nil {
		return newRSA(k.RSA())
	}
	return &Key{ed: k.Ed25519(), size: ed25519.SignatureSize}
}

func newRSA(public *rsa.PublicKey) *Key {
	return &Key{
		rsa: public, size: public.Size(),
		modulus: sync.OnceValue(func() *modulus { return newModulus(public) }),
		lane:    sync.OnceValue(func() *lane { return newLane(public) }),
	}
}

// NewHMAC prepares an HMAC secret; the key is these very bytes.
func NewHMAC(secret []byte) *Key { return &Key{secret: secret, size: MACSize} }

// MACSize is the length of an HMAC-SHA-256 tag in bytes.
const MACSize = sha256.Size

// Size is the length of the key's signatures in bytes, 0 for no key.
func (k *Key) Size() int {
	if k == nil {
		return 0
	}
	return k.size
}

// Verify tells whether signature is the key's over digest, by the standard
// library alone.
func (k *Key) Verify(digest [32]byte, signature []byte) bool {
	switch {
	case k == nil || len(signature) != k.size:
		return false
	case k.rsa != nil:
		return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, digest[:], signature) == nil
	case k.ed != nil:
		return ed25519.Verify(k.ed, digest[:], signature)
	case k.secret != nil:
		return validMAC(k.secret, digest[:], signature)
	}
	return false
}

func validMAC(secret, message, tag []byte) bool {
	mac := hmac.New(sha256.New, secret)
	mac.Write(message)
	return hmac.Equal(mac.Sum(nil), tag)
}

var errEncoding = errors.New("it is neither canonical base64 (standard alphabet, padded, nothing beside it) nor hex in one letter case")

// Decode reads the text of a signature of size bytes into dst, which it may
// grow. The length of the text decides between base64 and hex.
func Decode(dst, text []byte, size int) ([]byte, error) {
	if cap(dst) < size+2 {
		dst = make([]byte, size+2)
	}
	switch len(text) {
	case base64.StdEncoding.EncodedLen(size):
		// Strict refuses spare bits; the decoder skips line breaks, which the
		// exact length forbids to be balanced out, so n tells of them.
		n, err := base64.StdEncoding.Strict().Decode(dst[:size+2], text)
		if err != nil || n != size {
			return nil, errEncoding
		}
		return dst[:size], nil
	case hex.EncodedLen(size):
		if !oneCase(text) {
			return nil, errEncoding
		}
		if _, err := hex.Decode(dst[:size], text); err != nil {
			return nil, errEncoding
		}
		return dst[:size], nil
	}
	return nil, fmt.Errorf("it has %d characters; a signature of this key has %d (base64) or %d (hex)",
		len(text), base64.StdEncoding.EncodedLen(size), hex.EncodedLen(size))
}

func oneCase(text []byte) bool {
	lower, upper := false, false
	for _, c := range text {
		lower = lower || c >= 'a' && c <= 'f'
		upper = upper || c >= 'A' && c <= 'F'
	}
	return !(lower && upper)
}
