package sigverify

import (
	"bytes"
	"crypto/rsa"
	"math/big"

	"filippo.io/bigmod"
)

// exponent is the one public exponent that the fast paths know.
const exponent = 65537

// modulus is an RSA modulus with what is computed from it once. Everything
// here is public, so time may depend on it.
type modulus struct {
	n     *big.Int
	bytes []byte          // of n, big-endian, as long as a signature
	fast  *bigmod.Modulus // nil where math/big is faster
}

// newModulus gives nil for a key that is left to the library.
func newModulus(public *rsa.PublicKey) *modulus {
	if digitsOf(public) == 0 {
		return nil
	}
	m := &modulus{n: public.N, bytes: public.N.FillBytes(make([]byte, public.Size()))}
	if public.N.BitLen() == 2048 { // bigmod has assembly for this length alone
		var err error
		if m.fast, err = bigmod.NewModulus(m.bytes); err != nil {
			return nil
		}
	}
	return m
}

// digitsOf tells how many digits of 52 bits the lanes need for a key, a
// multiple of 4 such that 4N < 2^(52·digits); 0 is a key that no fast path
// takes.
func digitsOf(public *rsa.PublicKey) int {
	if public.E != exponent || public.N.Bit(0) == 0 {
		return 0
	}
	switch public.N.BitLen() {
	case 2048:
		return 40
	case 3072:
		return 60
	case 4096:
		return 80
	}
	return 0
}

// below tells whether a signature has the length of the modulus and is less:
// without that s + N would pass where it fits.
func below(signature, n []byte) bool {
	return len(signature) == len(n) && bytes.Compare(signature, n) < 0
}

// digestInfo is DER up to the digest of SHA-256 (RFC 8017 section 9.2, note 1).
const digestInfo = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"

// encode writes the encoded message of EMSA-PKCS1-v1_5 (RFC 8017 section 9.2)
// into em, all of it.
func encode(em []byte, digest *[32]byte) {
	info := len(em) - len(digest) - len(digestInfo)
	em[0], em[1] = 0, 1
	for i := 2; i < info-1; i++ {
		em[i] = 0xff
	}
	em[info-1] = 0
	copy(em[info:], digestInfo)
	copy(em[len(em)-len(digest):], digest[:])
}

// power is the engine of the Modulus path: s^65537 mod N, compared as a whole
// with the encoded message.
type power struct {
	base, result  *bigmod.Nat
	x, square, q  big.Int
	got, expected [512]byte
}

func newPower() *power { return &power{base: bigmod.NewNat(), result: bigmod.NewNat()} }

func (p *power) accept(checks []Check) {
	for i := range checks {
		c := &checks[i]
		if c.Valid || c.Key == nil || c.Key.rsa == nil {
			continue
		}
		m := c.Key.modulus()
		if m == nil || !below(c.Signature, m.bytes) {
			continue
		}
		em := p.expected[:len(m.bytes)]
		encode(em, &c.Digest)
		c.Valid = bytes.Equal(p.raise(c.Signature, m), em)
	}
}

// raise gives s^65537 mod N, nil if that failed.
func (p *power) raise(s []byte, m *modulus) []byte {
	if m.fast != nil {
		if _, err := p.base.SetBytes(s, m.fast); err != nil {
			return nil
		}
		return p.result.ExpShortVarTime(p.base, exponent, m.fast).Bytes(m.fast)
	}
	var base big.Int
	base.SetBytes(s)
	p.x.Set(&base)
	for range 16 {
		p.square.Mul(&p.x, &p.x)
		p.q.QuoRem(&p.square, m.n, &p.x)
	}
	p.square.Mul(&p.x, &base)
	p.q.QuoRem(&p.square, m.n, &p.x)
	return p.x.FillBytes(p.got[:len(m.bytes)])
}
