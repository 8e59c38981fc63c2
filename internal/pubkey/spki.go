package pubkey

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
)

// ed25519Prefix is all of an Ed25519 SPKI but the 32 bytes of the point: SEQUENCE
// (42 bytes), AlgorithmIdentifier 1.3.101.112 without parameters, BIT STRING
// without unused bits (RFC 8410 section 4).
const ed25519Prefix = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"

const (
	oidRSA     = "1.2.840.113549.1.1.1"
	oidEd25519 = "1.3.101.112"
)

// otherTypes names the key types that people have at hand and that are refused.
var otherTypes = map[string]string{
	"1.2.840.10045.2.1":       "an elliptic-curve (ECDSA) key",
	"1.2.840.113549.1.1.7":    "an RSA key restricted to OAEP encryption",
	"1.2.840.113549.1.1.10":   "an RSA key restricted to RSASSA-PSS; the audit log is signed with PKCS#1 v1.5",
	"1.2.840.10040.4.1":       "a DSA key",
	"1.3.101.110":             "an X25519 key, which cannot sign",
	"1.3.101.111":             "an X448 key, which cannot sign",
	"1.3.101.113":             "an Ed448 key",
	"2.16.840.1.101.3.4.3.17": "an ML-DSA key",
	"2.16.840.1.101.3.4.3.18": "an ML-DSA key",
	"2.16.840.1.101.3.4.3.19": "an ML-DSA key",
}

// ParseSPKI reads the DER bytes of a SubjectPublicKeyInfo, as AWS KMS's
// GetPublicKey returns them, and applies the whole key policy. The bytes must
// equal the re-encoding of the key: NULL parameters for RSA (RFC 3279 section
// 2.3.1), none for Ed25519 (RFC 8410 section 3), nothing left over anywhere.
// Every error is an *Error.
func ParseSPKI(der []byte) (Key, error) {
	if len(der) > maxText {
		return Key{}, refuse(RuleMalformed, "the public key is longer than 16 KiB: give one SubjectPublicKeyInfo and nothing else")
	}
	if kind := privateDER(der); kind != "" {
		return Key{}, foundSecret(kind)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return Key{}, notSPKI(der)
	}
	switch oid := info.Algorithm.Algorithm.String(); oid {
	case oidRSA:
		return rsaKey(info.PublicKey.Bytes, der)
	case oidEd25519:
		key, err := ed25519Key(info.PublicKey.Bytes)
		if err == nil && !bytes.Equal(key.spki, der) {
			return Key{}, notCanonical
		}
		return key, err
	default:
		name := otherTypes[oid]
		if name == "" {
			name = "of a type that no audit log is signed with"
		}
		return Key{}, refuse(RuleUnsupported, "the key is "+name+": use an RSA key (rsaEncryption) or an Ed25519 key")
	}
}

var notCanonical = refuse(RuleMalformed, "the key is not in its canonical DER form (wrong parameters or bytes left over): export it again, or rewrite it with 'openssl pkey -pubin -in FILE -pubout'")

// pkcs1 is an RSAPublicKey (RFC 8017 appendix A.1.1).
type pkcs1 struct{ N, E *big.Int }

// rsaKey makes a Key of an RSAPublicKey; spki is what its re-encoding must equal.
// Reading the integers takes linear time, so that a modulus of any size is refused
// for its size before anything is computed with it.
func rsaKey(der, spki []byte) (Key, error) {
	var pub pkcs1
	if _, err := asn1.Unmarshal(der, &pub); err != nil {
		return Key{}, refuse(RuleMalformed, "the RSA key is not the pair of modulus and exponent (RFC 8017 appendix A.1.1): export it again")
	}
	if err := checkRSASize(pub.N, pub.E); err != nil {
		return Key{}, err
	}
	key := Key{rsa: &rsa.PublicKey{N: pub.N, E: exponent}}
	var err error
	if key.spki, err = x509.MarshalPKIXPublicKey(key.rsa); err != nil || !bytes.Equal(key.spki, spki) {
		return Key{}, notCanonical
	}
	if err := checkModulus(pub.N); err != nil {
		return Key{}, err
	}
	return key, nil
}

// notSPKI says what bytes are that do not parse as a SubjectPublicKeyInfo, as far
// as that helps.
func notSPKI(der []byte) *Error {
	if _, err := asn1.Unmarshal(der, new(pkcs1)); err == nil {
		return refuse(RuleUnsupported, "this is a bare PKCS#1 RSAPublicKey, not a SubjectPublicKeyInfo: convert it with 'openssl rsa -RSAPublicKey_in -in FILE -pubout'")
	}
	return refuse(RuleMalformed, "this is not the DER form of a public key (SubjectPublicKeyInfo): export it again and copy it whole")
}
