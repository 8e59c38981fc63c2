package pubkey

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"
)

// What only one side of a condition sees: taking that side out of the source
// makes one of these fail.
func TestEdges(t *testing.T) {
	for _, text := range []string{"AA-A", "AA_A"} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), "URL alphabet") {
			t.Errorf("%s: %v", text, err)
		}
	}
	// The 64 bytes of an Ed25519 private key in the URL alphabet, with each of
	// its two special characters.
	for _, special := range []string{"-", "_"} {
		found := false
		for seed := byte(0); !found; seed++ {
			private := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed%128)), ed25519.SeedSize)))
			text := base64.RawURLEncoding.EncodeToString(private)
			if strings.Trim(text, "-_") != text || !strings.Contains(text, special) || strings.Contains(text, map[string]string{"-": "_", "_": "-"}[special]) {
				continue
			}
			if kind, ok := Secret(text); !ok || kind != "Ed25519 private key" {
				t.Errorf("with %s: %q, %v", special, kind, ok)
			}
			found = true
		}
	}
	// A small structure that begins with the number 3 is no key store.
	if kind, ok := Secret(base64.StdEncoding.EncodeToString([]byte("\x30\x06\x02\x01\x03\x02\x01\x01"))); ok {
		t.Errorf("two numbers are taken for a %s", kind)
	}
	// The long key of an EC private key is no number.
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if kind, ok := Secret(base64.StdEncoding.EncodeToString(der)); !ok || kind != "EC private key" {
		t.Errorf("%q, %v", kind, ok)
	}
}
