package pubkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"testing"
)

func pkcs8(t testing.TB, private any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func block(label string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
}

// secrets lists texts and the kind that each must be found as. Tokens are put
// together from parts, so that this file holds none.
func secrets(t testing.TB) []struct{ name, text, kind string } {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	rsaPKCS8, edPKCS8 := pkcs8(t, rsa2048()), pkcs8(t, edPrivate)
	pkcs1 := x509.MarshalPKCS1PrivateKey(rsa2048())
	openSSH := append([]byte("openssh-key-v1\x00\x00\x00\x00\x04none\x00\x00\x00\x04none"), edPrivate...)
	pbes2 := tlv(0x30, tlv(0x30, []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d"), tlv(0x30)), tlv(0x04, rsaPKCS8))
	pbe := tlv(0x30, tlv(0x30, []byte("\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x03"), tlv(0x30)), tlv(0x04, rsaPKCS8))
	pfx := tlv(0x30, []byte(derVersionPKCS12), tlv(0x30, []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"), rsaPKCS8))
	x25519 := tlv(0x30, []byte(derVersion0), tlv(0x30, []byte("\x06\x03\x2b\x65\x6e")), tlv(0x04, tlv(0x04, edPrivate[:32])))
	version1 := tlv(0x30, []byte(derVersion1), tlv(0x30, derEd25519), tlv(0x04, tlv(0x04, edPrivate[:32])), tlv(0x81, []byte{0}, edPrivate[32:]))
	body := strings.Split(block("PRIVATE KEY", rsaPKCS8), "\n")
	run := func(n int) string { return strings.Repeat("aB3dE5gH7j", n/10) }
	awsSecret := "wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYEXAMPLEKEY" // the example of AWS's documentation
	return []struct{ name, text, kind string }{
		{"PEM PKCS#8", block("PRIVATE KEY", rsaPKCS8), "PKCS#8 private key"},
		{"PEM PKCS#1", block("RSA PRIVATE KEY", pkcs1), "RSA private key"},
		{"PEM EC", block("EC PRIVATE KEY", sec1), "EC private key"},
		{"PEM DSA", block("DSA PRIVATE KEY", pkcs1), "DSA private key"},
		{"PEM encrypted", block("ENCRYPTED PRIVATE KEY", pbes2), "encrypted private key"},
		{"PEM OpenSSH", block("OPENSSH PRIVATE KEY", openSSH), "OpenSSH private key"},
		{"PEM PGP", block("PGP PRIVATE KEY BLOCK", rsaPKCS8), "PGP private key"},
		{"PEM SSH2", "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n" + b64(rsaPKCS8), "private key"},
		{"PEM lower case", strings.ToLower(body[0]), "PKCS#8 private key"},
		{"PEM em dashes", strings.ReplaceAll(block("RSA PRIVATE KEY", pkcs1), "-----", "——"), "RSA private key"},
		{"PEM in a sentence", "the key: " + strings.ReplaceAll(block("PRIVATE KEY", edPKCS8), "\n", " "), "PKCS#8 private key"},
		{"PEM escaped twice", strings.ReplaceAll(strings.Join(body[1:3], "\n"), "\n", `\n`), "RSA private key"},
		{"PEM in base64", b64([]byte(block("PRIVATE KEY", edPKCS8))), "private key"},
		{"PEM body only", strings.Join(body[1:len(body)-2], "\n"), "RSA private key"},
		{"PEM first line only", "x=" + body[1], "RSA private key"},
		{"in the PUBLIC KEY label", block("PUBLIC KEY", rsaPKCS8), "RSA private key"},
		{"base64 PKCS#8 RSA", b64(rsaPKCS8), "RSA private key"},
		{"base64 PKCS#8 Ed25519", b64(edPKCS8), "Ed25519 private key"},
		{"base64 PKCS#8 Ed25519, version 1", b64(version1), "Ed25519 private key"},
		{"base64 PKCS#8 EC", b64(pkcs8(t, ec)), "EC private key"},
		{"base64 PKCS#8 X25519", b64(x25519), "PKCS#8 private key"},
		{"base64 PKCS#1", b64(pkcs1), "RSA or DSA private key"},
		{"base64 SEC1", b64(sec1), "EC private key"},
		{"base64 PBES2", b64(pbes2), "encrypted private key"},
		{"base64 PKCS#12 PBE", b64(pbe), "encrypted private key"},
		{"base64 PKCS#12", b64(pfx), "PKCS#12 key store"},
		{"base64 OpenSSH", b64(openSSH), "OpenSSH private key"},
		{"base64 URL alphabet", base64.RawURLEncoding.EncodeToString(rsaPKCS8), "RSA private key"},
		{"base64 of odd length", b64(rsaPKCS8)[:65], "RSA private key"},
		{"hexadecimal PKCS#8", hex.EncodeToString(edPKCS8), "Ed25519 private key"},
		{"raw Ed25519", b64(edPrivate), "Ed25519 private key"},
		{"raw Ed25519, hexadecimal", hex.EncodeToString(edPrivate), "Ed25519 private key"},
		{"raw Ed25519, URL alphabet", base64.RawURLEncoding.EncodeToString(edPrivate), "Ed25519 private key"},
		{"JWK", `{"kty":"OKP","crv":"Ed25519","x":"` + run(40) + `","d":"` + run(40) + `"}`, "JSON Web Key with a private part"},
		{"JWK, escaped", `{\"d\" : \"` + run(40) + `\", \"kty\":\"RSA\"}`, "JSON Web Key with a private part"},
		{"JWK, symmetric", `{"kty":"oct","k":"` + run(40) + `"}`, "JSON Web Key with a private part"},
		{"PuTTY", "PuTTY-User-Key-File-" + "3: ssh-ed25519", "PuTTY private key"},
		{"age", "AGE-SECRET-KEY-" + "1" + strings.ToUpper(run(50)), "age private key"},
		{"AWS key id", "id AKIA" + "IOSFODNN7EXAMPLE.", "AWS access key id"},
		{"AWS temporary key id", "ASIA" + "IOSFODNN7EXAMPLE", "AWS temporary access key id"},
		{"AWS secret", "aws_secret_access_key=" + awsSecret, "AWS secret access key"},
		{"AWS secret, JSON", `"SecretAccessKey": "` + awsSecret + `",`, "AWS secret access key"},
		{"AWS secret, sentence", "our AWS secret is " + awsSecret + ", thanks", "AWS secret access key"},
		{"AWS secret after a commit id", "secret " + strings.Repeat("0a", 20) + "; secret " + awsSecret, "AWS secret access key"},
		{"AWS session token", "IQoJb3JpZ2lu" + run(60), "AWS session token"},
		{"AWS session token, older", "FwoGZXIvYXdz" + run(60), "AWS session token"},
		{"GitHub personal", "ghp_" + run(40), "GitHub token"},
		{"GitHub OAuth", "token gho_" + run(40), "GitHub token"},
		{"GitHub installation", "ghs_" + run(40), "GitHub token"},
		{"GitHub fine-grained", "github_pat_" + run(80), "GitHub fine-grained token"},
		{"GitLab", "glpat-" + run(20), "GitLab token"},
		{"Slack bot", "xoxb-" + "1234567890-" + run(20), "Slack token"},
		{"Slack rotated", "xoxe.xoxb-" + "1-" + run(20), "Slack token"},
		{"Slack app", "xapp-" + "1-A0123456789-" + run(20), "Slack token"},
		{"Slack webhook", "https://hooks.slack.com/services/" + "T01234567/B01234567/" + run(20), "Slack webhook"},
		{"Google key", "AIza" + run(30) + "aB3dE", "Google API key"},
		{"Google token", "ya29." + run(40), "Google access token"},
		{"Stripe", "sk_live_" + run(20), "Stripe key"},
		{"npm", "npm_" + run(40), "npm token"},
		{"PyPI", "pypi-AgEI" + run(60), "PyPI token"},
		{"Vault", "hvs." + run(40), "Vault token"},
		{"Azure", "AccountKey=" + run(90), "Azure storage key"},
		{"JWT", "eyJ" + run(20) + ".eyJ" + run(20) + "." + run(40), "JSON Web Token"},
		{"URL", "postgres://audit:" + "hunter22hunter@db.example/audit", "URL with a password"},
		{"URL without user", "redis://:" + "hunter22hunter@cache.example", "URL with a password"},
	}
}

// TestSecretFound also holds Parse to it, and both to silence: what they say is
// chosen by the kind alone, so no byte of the secret can come back.
func TestSecretFound(t *testing.T) {
	for _, test := range secrets(t) {
		t.Run(test.name, func(t *testing.T) {
			kind, found := Secret(test.text)
			if kind != test.kind || !found {
				t.Errorf("Secret = %q, %v; want %q", kind, found, test.kind)
			}
			if inside, found := Secret("note: " + test.text + "\nend"); inside != test.kind || !found {
				t.Errorf("inside other text: %q, %v; want %q", inside, found, test.kind)
			}
			_, err := Parse(test.text)
			wantRefusal(t, err, RuleSecret, test.kind)
			if err.Error() != foundSecret(test.kind).Error() {
				t.Errorf("the message depends on more than the kind: %q", err)
			}
		})
	}
	_, err := Parse(block("PRIVATE KEY", pkcs8(t, edPrivate)) + strings.Repeat("x", maxText))
	wantRefusal(t, err, RuleSecret, "PKCS#8 private key")
	_, err = ParseSPKI(pkcs8(t, rsa2048()))
	wantRefusal(t, err, RuleSecret, "RSA private key")
}

func TestSecretNotFound(t *testing.T) {
	rsaDER, edDER := marshal(t, &rsa4096().PublicKey), marshal(t, edPrivate.Public())
	signature := strings.Repeat("c2lnbmF0dXJl", 7) + "AA=="
	for _, text := range []string{
		"",
		"audit-rotation-2026-05-01",
		block("PUBLIC KEY", rsaDER),
		block("CERTIFICATE", rsaDER),
		b64(rsaDER),
		b64(edDER),
		b64(edPrivate[32:]),
		hex.EncodeToString(edDER),
		b64(x509.MarshalPKCS1PublicKey(&rsa2048().PublicKey)),
		b64(tlv(0x30, []byte(derVersion0), make([]byte, 60))), // version, then nothing known
		b64(tlv(0x30, []byte(derVersion0), integer(publicE), make([]byte, 60))),
		b64(tlv(0x30, []byte(derVersion0))[:5]) + strings.Repeat("=", 60),
		b64([]byte("-----BEGIN PUBLIC KEY-----, and more of it")),
		b64(append([]byte("\x30\xff"), make([]byte, 60)...)), // a length longer than all of it
		signature,
		hex.EncodeToString(make([]byte, 64)),
		strings.Repeat("0123456789abcdef", 4),
		"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"alias/aws/secretsmanager",
		"the secret access key of the build was exposed, so we rotate; see commit " + strings.Repeat("0a", 20),
		"AWS secret rotation by commit " + strings.Repeat("0a", 20),
		"AWS secret rotation by commit " + strings.Repeat("0A", 20),
		"we begin the private key ceremony on Monday",
		"BEGIN PRIVATE KEY",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDrSdyGeT3AGaf0mJ3KkOe audit@example",
		`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
		`{"d":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, // no key type: not a JWK
		"https://github.com/agent-manager/agent-manager/pull/12#discussion_r1",
		"https://example.com:8443/keys?owner=a@example.com",
		"https://user@example.com/",
		"mail audit@example.com: the high_priority key",
		"xoxo-", "ghp_short", "AKIA", "eyJ.eyJ.", "XAKIAIOSFODNN7EXAMPLE",
	} {
		if kind, found := Secret(text); found || kind != "" {
			t.Errorf("Secret = %q, %v for %q", kind, found, text)
		}
	}
}
