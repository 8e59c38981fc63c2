package pubkey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"testing"
)

func TestParseAlgorithm(t *testing.T) {
	for _, test := range []struct {
		name  string
		alg   Algorithm
		lower bool
	}{
		{"rsa-sha256", RSASHA256, true},
		{"ed25519", Ed25519, true},
		{"hmac-sha256", HMACSHA256, true},
		{"RSA-SHA256", RSASHA256, false},
		{"Ed25519", Ed25519, false},
		{"hmac-SHA256", HMACSHA256, false},
	} {
		alg, lower, err := ParseAlgorithm(test.name)
		if alg != test.alg || lower != test.lower || err != nil {
			t.Errorf("ParseAlgorithm(%q) = %q, %v, %v", test.name, alg, lower, err)
		}
	}
	for _, name := range []string{"", "rsa", "RS256", "EdDSA", "rsa-sha256 ", " ed25519", "rsa-sha512", "rsa_sha256",
		"r\u017fa-sha256", "none", "ed25519\x00", "HMAC", "ecdsa"} {
		alg, lower, err := ParseAlgorithm(name)
		if alg != "" || lower {
			t.Errorf("ParseAlgorithm(%q) = %q, %v beside its error", name, alg, lower)
		}
		wantRefusal(t, err, RuleAlgorithm, "rsa-sha256, ed25519 or hmac-sha256")
	}
}

func TestKey(t *testing.T) {
	for _, test := range []struct {
		public    any
		algorithm Algorithm
		bits      int
		spec      string
	}{
		{&rsa2048().PublicKey, RSASHA256, 2048, "RSA_2048"},
		{&rsa3072().PublicKey, RSASHA256, 3072, "RSA_3072"},
		{&rsa4096().PublicKey, RSASHA256, 4096, "RSA_4096"},
		{edPrivate.Public(), Ed25519, 256, "ECC_NIST_EDWARDS25519"},
	} {
		t.Run(test.spec, func(t *testing.T) {
			der := marshal(t, test.public)
			key, err := ParseSPKI(der)
			if err != nil {
				t.Fatal(err)
			}
			if key.IsZero() || key.Algorithm() != test.algorithm || key.Bits() != test.bits || key.Spec() != test.spec {
				t.Errorf("zero %v, %s, %d bits, %s", key.IsZero(), key.Algorithm(), key.Bits(), key.Spec())
			}
			if !bytes.Equal(key.SPKI(), der) {
				t.Error("SPKI differs from the bytes it was read from")
			}
			if want := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})); key.PEM() != want {
				t.Errorf("PEM is\n%swant\n%s", key.PEM(), want)
			}
			if sum := sha256.Sum256(der); key.Fingerprint() != hex.EncodeToString(sum[:]) {
				t.Errorf("fingerprint %s", key.Fingerprint())
			}
			switch public := test.public.(type) {
			case *rsa.PublicKey:
				if !public.Equal(key.RSA()) || key.Ed25519() != nil {
					t.Error("not the same RSA key, or an Ed25519 key beside it")
				}
			case ed25519.PublicKey:
				if !public.Equal(key.Ed25519()) || key.RSA() != nil {
					t.Error("not the same Ed25519 key, or an RSA key beside it")
				}
			}
			// The caller's bytes stay the caller's.
			for i := range der {
				der[i] = 0
			}
			if bytes.Equal(key.SPKI(), der) || key.Algorithm() == Ed25519 && key.Ed25519()[0] == 0 && key.Ed25519()[1] == 0 {
				t.Error("the key shares memory with the bytes it was read from")
			}
		})
	}
}

func TestZeroKey(t *testing.T) {
	var key Key
	if !key.IsZero() || key.Algorithm() != "" || key.Bits() != 0 || key.Spec() != "" || key.SPKI() != nil ||
		key.PEM() != "" || key.Fingerprint() != "" || key.RSA() != nil || key.Ed25519() != nil {
		t.Errorf("the zero key has properties: %+v", key)
	}
}
