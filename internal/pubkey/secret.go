package pubkey

import (
	"bytes"
	"crypto/ed25519"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"
)

// Secret tells whether text holds private key material or a credential, and names
// its kind in words of its own: no byte of text is ever returned. It knows the
// PEM labels of private keys, private keys as base64 or hexadecimal without a
// label, JSON Web Keys with a private part, the access keys of AWS, and the
// prefixes by which GitHub, Slack and others mark their tokens.
//
// What has no mark cannot be told from a public key or a digest: a bare 32-byte
// Ed25519 seed, or a password in a sentence. Absence of a find proves nothing.
func Secret(text string) (kind string, found bool) {
	// JSON text may come still escaped; its escapes would glue or split tokens.
	text = unescape.Replace(text)
	if label := privateLabel.FindStringSubmatch(text); label != nil {
		return labelKind(label[1]), true
	}
	for run := range strings.FieldsFuncSeq(text, notBase64Text) {
		if kind := privateBytes(run); kind != "" {
			return kind, true
		}
	}
	for _, c := range credentials {
		if strings.Contains(text, c.mark) && c.shape.MatchString(text) {
			return c.kind, true
		}
	}
	if hasNamedAWSSecret(text) {
		return "AWS secret access key", true
	}
	return "", false
}

func foundSecret(kind string) *Error {
	return refuse(RuleSecret, "this holds a secret ("+kind+"), which anyone who can read the repository now has: remove it, revoke it at its issuer, and give the public key of a new key pair")
}

var unescape = strings.NewReplacer(`\n`, "\n", `\r`, "\n", `\/`, "/", `\"`, `"`)

// privateLabel finds the first line of a private key whatever dashes an editor has
// made of the hyphens, in any case of letters.
var privateLabel = regexp.MustCompile(`(?i)[-\x{2010}-\x{2015}]\s*BEGIN ([A-Z0-9 ]{0,40}?) ?PRIVATE KEY`)

func labelKind(label string) string {
	switch strings.ToUpper(label) {
	case "":
		return "PKCS#8 private key"
	case "RSA":
		return "RSA private key"
	case "EC":
		return "EC private key"
	case "DSA":
		return "DSA private key"
	case "ENCRYPTED":
		return "encrypted private key"
	case "OPENSSH":
		return "OpenSSH private key"
	case "PGP":
		return "PGP private key"
	}
	return "private key"
}

// credentials are recognised by a mark, which is cheap to look for, and a shape,
// which is not. The marks are those that the issuers document for secret scanning.
var credentials = []struct {
	kind, mark string
	shape      *regexp.Regexp
}{
	{"PuTTY private key", "PuTTY-User-Key-File-", regexp.MustCompile(`PuTTY-User-Key-File-\d`)},
	{"age private key", "AGE-SECRET-KEY-", regexp.MustCompile(`AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]{20}`)},
	{"JSON Web Key with a private part", `"kty"`, regexp.MustCompile(`"(d|k)"\s*:\s*"[A-Za-z0-9_=-]{16}`)},
	{"AWS access key id", "AKIA", regexp.MustCompile(`\bAKIA[A-Z0-9]{16}\b`)},
	{"AWS temporary access key id", "ASIA", regexp.MustCompile(`\bASIA[A-Z0-9]{16}\b`)},
	{"AWS session token", "FwoGZXIvYXdz", regexp.MustCompile(`FwoGZXIvYXdz[A-Za-z0-9+/]{40}`)},
	{"AWS session token", "IQoJb3JpZ2lu", regexp.MustCompile(`IQoJb3JpZ2lu[A-Za-z0-9+/]{40}`)},
	{"GitHub token", "gh", regexp.MustCompile(`\bgh[oprsu]_[A-Za-z0-9_.-]{20}`)},
	{"GitHub fine-grained token", "github_pat_", regexp.MustCompile(`github_pat_[A-Za-z0-9_]{20}`)},
	{"GitLab token", "glpat-", regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{20}`)},
	{"Slack token", "xox", regexp.MustCompile(`\bxox[a-z](\.xox[a-z])?-[A-Za-z0-9-]{10}`)},
	{"Slack token", "xapp-", regexp.MustCompile(`\bxapp-\d-[A-Za-z0-9-]{10}`)},
	{"Slack webhook", "hooks.slack.com", regexp.MustCompile(`hooks\.slack\.com/(services|workflows|triggers)/[A-Za-z0-9/]{20}`)},
	{"Google API key", "AIza", regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}`)},
	{"Google access token", "ya29.", regexp.MustCompile(`\bya29\.[A-Za-z0-9_-]{20}`)},
	{"Stripe key", "k_live_", regexp.MustCompile(`\b[rs]k_live_[A-Za-z0-9]{16}`)},
	{"npm token", "npm_", regexp.MustCompile(`\bnpm_[A-Za-z0-9]{36}`)},
	{"PyPI token", "pypi-AgEI", regexp.MustCompile(`pypi-AgEI[A-Za-z0-9_-]{50}`)},
	{"Vault token", "hvs.", regexp.MustCompile(`\bhvs\.[A-Za-z0-9_-]{20}`)},
	{"Azure storage key", "AccountKey=", regexp.MustCompile(`AccountKey=[A-Za-z0-9+/]{80}`)},
	{"JSON Web Token", "eyJ", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16}`)},
	{"URL with a password", "://", regexp.MustCompile(`[a-z]://[^\s/?#:@"]*:[^\s/?#@"]+@`)},
}

// namedAWSSecret finds 40 characters of base64 after the word secret or aws. A
// secret access key has no mark of its own.
var namedAWSSecret = regexp.MustCompile(`(?i:secret|aws)[A-Za-z0-9_. -]{0,40}["']?\s*[:=\s]>?\s*["']?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)`)

// hasNamedAWSSecret passes over 40 characters of one letter case, such as a git
// commit id.
func hasNamedAWSSecret(text string) bool {
	for _, match := range namedAWSSecret.FindAllStringSubmatch(text, -1) {
		if s := match[1]; strings.ToLower(s) != s && strings.ToUpper(s) != s {
			return true
		}
	}
	return false
}

// notBase64Text separates runs of base64 of either alphabet, and of hexadecimal.
// Padding ends a run.
func notBase64Text(r rune) bool {
	return r == '=' || notBase64(r) && r != '-' && r != '_'
}

var standardAlphabet = strings.NewReplacer("-", "+", "_", "/")

// privateBytes returns the kind of private key that run, a stretch of base64 or
// hexadecimal, is or begins with, or "". The beginning suffices to tell, so that a
// key whose lines are wrapped, or that was cut off, is found by its first line.
func privateBytes(run string) string {
	run = standardAlphabet.Replace(run[:min(len(run), 128)])
	// What is decoded before an error counts: a run may end in the middle of a group.
	plain, _ := base64.RawStdEncoding.DecodeString(run)
	unhexed, _ := hex.DecodeString(run)
	for _, b := range [][]byte{plain, unhexed} {
		if kind := privateDER(b); kind != "" {
			return kind
		}
		if bytes.HasPrefix(b, []byte("openssh-key-v1\x00")) {
			return "OpenSSH private key"
		}
		if bytes.HasPrefix(b, []byte("-----BEGIN ")) && privateLabel.Match(b) {
			return "private key"
		}
		// The 64-byte form of NaCl, libsodium and Go: the seed, then the public key
		// that follows from it. A signature has 64 bytes too; it does not pass.
		if len(b) == ed25519.PrivateKeySize && string(ed25519.NewKeyFromSeed(b[:32])) == string(b) {
			return "Ed25519 private key"
		}
	}
	return ""
}

// Object identifiers in DER, as they stand behind the SEQUENCE of an
// AlgorithmIdentifier (RFC 5958 section 2, RFC 8018 appendix A.3 and A.4).
const (
	derOIDRSA        = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
	derOIDEC         = "\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
	derOIDEd25519    = "\x06\x03\x2b\x65\x70"
	derOIDPKCS5      = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05"
	derOIDPKCS12Pbe  = "\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01"
	derVersion0      = "\x02\x01\x00"
	derVersion1      = "\x02\x01\x01"
	derVersionPKCS12 = "\x02\x01\x03"
)

// privateDER returns the kind of private key that the DER bytes, which may be cut
// off, begin with, or "". A SubjectPublicKeyInfo begins with a SEQUENCE that holds
// an object identifier of a key type, a PKCS#1 public key with a long INTEGER; the
// private forms begin with a version number or with an encryption algorithm.
func privateDER(der []byte) string {
	body, ok := enter(string(der), asn1.TagSequence|0x20)
	if !ok {
		return ""
	}
	if algorithm, ok := enter(body, asn1.TagSequence|0x20); ok {
		if strings.HasPrefix(algorithm, derOIDPKCS5) || strings.HasPrefix(algorithm, derOIDPKCS12Pbe) {
			return "encrypted private key"
		}
		return ""
	}
	if rest, ok := strings.CutPrefix(body, derVersionPKCS12); ok && strings.HasPrefix(rest, "\x30") {
		return "PKCS#12 key store"
	}
	rest, ok := strings.CutPrefix(body, derVersion0)
	if !ok {
		if rest, ok = strings.CutPrefix(body, derVersion1); !ok {
			return ""
		}
	}
	if algorithm, ok := enter(rest, asn1.TagSequence|0x20); ok {
		return pkcs8Kind(algorithm)
	}
	switch {
	case len(rest) > 1 && rest[0] == asn1.TagInteger && rest[1] >= 0x40: // 512 bits at least
		return "RSA or DSA private key"
	case len(rest) > 1 && rest[0] == asn1.TagOctetString:
		return "EC private key"
	}
	return ""
}

func pkcs8Kind(algorithm string) string {
	switch {
	case strings.HasPrefix(algorithm, derOIDRSA):
		return "RSA private key"
	case strings.HasPrefix(algorithm, derOIDEC):
		return "EC private key"
	case strings.HasPrefix(algorithm, derOIDEd25519):
		return "Ed25519 private key"
	}
	return "PKCS#8 private key"
}

// enter returns what follows the tag and the length of the element that der begins
// with. The length itself does not matter: der may be cut off.
func enter(der string, tag byte) (content string, ok bool) {
	if len(der) < 2 || der[0] != tag {
		return "", false
	}
	header := 2
	if der[1] >= 0x80 {
		header += int(der[1] & 0x7f)
	}
	if header > len(der) {
		return "", false
	}
	return der[header:], true
}
