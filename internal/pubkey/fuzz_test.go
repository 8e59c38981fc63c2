package pubkey

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse holds every accepted text to one key and one spelling: PEM, base64 of
// the SPKI and the text itself give the same key, and the text is no other spelling
// than PEM with other line ends.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/badkeys/*.key", "testdata/badkeys-spki/*.pem"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	edPublic := edPrivate.Public().(ed25519.PublicKey)
	for _, der := range [][]byte{marshal(f, edPublic), marshal(f, &rsa2048().PublicKey)} {
		f.Add(b64(der))
		f.Add(pemOf("PUBLIC KEY", der, 64, "\n"))
		f.Add(pemOf("PUBLIC KEY", der, 30, "\r\n"))
	}
	f.Add(b64(edPublic))
	for _, secret := range secrets(f) {
		f.Add(secret.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := Parse(text)
		if err != nil {
			refusal, ok := err.(*Error)
			if !ok || refusal.Message == "" || !key.IsZero() {
				t.Errorf("error %#v beside %+v", err, key)
			}
			return
		}
		for _, again := range []string{key.PEM(), b64(key.SPKI())} {
			same, err := Parse(again)
			if err != nil || same.Fingerprint() != key.Fingerprint() || same.Algorithm() != key.Algorithm() {
				t.Errorf("%q gives %s, %v; the text gave %s", again, same.Fingerprint(), err, key.Fingerprint())
			}
		}
		unfold := strings.NewReplacer("\r\n", "", "\n", "").Replace
		if u := unfold(text); u != unfold(key.PEM()) && u != b64(key.SPKI()) && u != b64(key.Ed25519()) {
			t.Errorf("accepted another spelling of\n%s: %q", key.PEM(), text)
		}
	})
}

// FuzzSecret looks for crashes, and for a kind that is not a constant of ours.
func FuzzSecret(f *testing.F) {
	kinds := map[string]bool{"": true}
	for _, secret := range secrets(f) {
		f.Add(secret.text)
		kinds[secret.kind] = true
	}
	f.Fuzz(func(t *testing.T, text string) {
		kind, found := Secret(text)
		if !kinds[kind] || found != (kind != "") {
			t.Errorf("Secret = %q, %v", kind, found)
		}
	})
}
