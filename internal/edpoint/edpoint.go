// Package edpoint says whether 32 bytes are a sound Ed25519 public key: the one
// encoding of a point of prime order on edwards25519.
//
// It refuses what crypto/ed25519 and crypto/x509 accept: second encodings of a
// point (RFC 8032 section 5.1.3 asks for y < p; the libraries reduce it), the
// eight points of small order, under which one signature fits many messages,
// and points with a small-order part, on which verifiers disagree. It is safe
// because each condition is computed from its definition, not looked up in a
// list of known bad encodings.
package edpoint

import (
	"bytes"
	"errors"

	"filippo.io/edwards25519"
)

// Why Check refused a point. Callers tell them apart with errors.Is.
var (
	ErrLength       = errors.New("an Ed25519 public key has exactly 32 bytes")
	ErrNotOnCurve   = errors.New("the 32 bytes are no point on the curve edwards25519")
	ErrNotCanonical = errors.New("the 32 bytes are a second, non-canonical encoding of a point (RFC 8032 section 5.1.3)")
	ErrSmallOrder   = errors.New("the point has small order: signatures can be made without any private key")
	ErrMixedOrder   = errors.New("the point is not of prime order: verifiers disagree about its signatures")
)

// minusOne is L-1, where L is the prime order of the base point. Scalars are
// integers modulo L, so L itself cannot be one: [L]A is computed as [L-1]A + A.
var minusOne = func() *edwards25519.Scalar {
	one, _ := edwards25519.NewScalar().SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...)) // 1 < L: no error
	return one.Negate(one)
}()

// Check returns nil when point is the canonical encoding of a point A on
// edwards25519 such that [8]A is not the identity and [L]A is, and otherwise
// the first of ErrLength, ErrNotOnCurve, ErrNotCanonical, ErrSmallOrder and
// ErrMixedOrder that holds. It takes time that depends on point, which is public.
func Check(point []byte) error {
	if len(point) != 32 {
		return ErrLength
	}
	a, err := new(edwards25519.Point).SetBytes(point)
	if err != nil {
		return ErrNotOnCurve
	}
	if !bytes.Equal(a.Bytes(), point) {
		return ErrNotCanonical
	}
	identity := edwards25519.NewIdentityPoint()
	if new(edwards25519.Point).MultByCofactor(a).Equal(identity) == 1 {
		return ErrSmallOrder
	}
	la := new(edwards25519.Point).ScalarMult(minusOne, a)
	if la.Add(la, a).Equal(identity) != 1 {
		return ErrMixedOrder
	}
	return nil
}
