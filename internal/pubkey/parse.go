package pubkey

import (
	"encoding/base64"
	"regexp"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/edpoint"
)

// maxText bounds what is read at all: an RSA-4096 key in PEM has 800 characters.
const maxText = 16 << 10

const (
	pemBegin = "-----BEGIN PUBLIC KEY-----"
	pemEnd   = "-----END PUBLIC KEY-----"
)

// Parse reads one public key: a SubjectPublicKeyInfo as PEM or as base64 of its
// DER bytes, or the 32 bytes of an Ed25519 key as base64 (standard alphabet,
// padded, no white space), of 16 KiB at most. It applies the whole key policy.
//
// PEM is one block labelled PUBLIC KEY, without headers and without text around
// it; only the line length, LF or CRLF, and the final line end are free. Every
// error is an *Error; none holds a byte of text.
func Parse(text string) (Key, error) {
	key, err := parse(text)
	if err == nil {
		return key, nil
	}
	// Secrets are looked for in refused text only, so that a sound key whose
	// base64 happens to spell a token prefix is not lost.
	if kind, found := Secret(text); found {
		return Key{}, foundSecret(kind)
	}
	return Key{}, err
}

func parse(text string) (Key, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return Key{}, refuse(RuleMalformed, "the public key is empty: paste the PEM text that begins with "+pemBegin)
	case len(text) > maxText:
		return Key{}, refuse(RuleMalformed, "the public key is longer than 16 KiB: paste one public key and nothing else")
	case strings.Contains(text, "-----"):
		der, err := unwrapPEM(text)
		if err != nil {
			return Key{}, err
		}
		return ParseSPKI(der)
	}
	der, err := decodeBase64(text)
	if err != nil {
		return Key{}, err
	}
	if len(der) == 32 {
		return ed25519Key(der)
	}
	return ParseSPKI(der)
}

// unwrapPEM returns the bytes of the one block that text must consist of. It is
// stricter than encoding/pem, which skips text around the block, reads headers,
// and stops at the first block.
func unwrapPEM(text string) ([]byte, error) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	body, begins := strings.CutPrefix(strings.TrimSuffix(text, "\n"), pemBegin+"\n")
	body, ends := strings.CutSuffix(body, "\n"+pemEnd)
	if !begins || !ends || strings.Contains(body, "-----") {
		return nil, pemProblem(text)
	}
	if strings.Contains("\n"+body+"\n", "\n\n") {
		return nil, refuse(RuleMalformed, "the PEM block holds an empty line: remove it")
	}
	return decodeBase64(strings.ReplaceAll(body, "\n", ""))
}

var pemLabel = regexp.MustCompile(`-----BEGIN ([A-Z0-9 ]*)-----`)

// foreignPEM says, for the labels of other public forms, how to get the one that
// is read here. Labels of private keys never come this far: Secret knows them.
var foreignPEM = map[string]string{
	"RSA PUBLIC KEY":       "this is a PKCS#1 key (BEGIN RSA PUBLIC KEY): convert it with 'openssl rsa -RSAPublicKey_in -in FILE -pubout'",
	"CERTIFICATE":          "this is a certificate, not a public key: extract the key with 'openssl x509 -in FILE -noout -pubkey'",
	"CERTIFICATE REQUEST":  "this is a certificate request, not a public key: extract the key with 'openssl req -in FILE -noout -pubkey'",
	"PGP PUBLIC KEY BLOCK": "this is a PGP key, which no audit log is signed with: paste the public key that the signing key exports as PEM",
}

// pemProblem says what is wrong with a PEM text that is not exactly one PUBLIC KEY
// block. It is asked only then.
func pemProblem(text string) *Error {
	label := pemLabel.FindStringSubmatch(text)
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.Contains(text, `\n`):
		return refuse(RuleMalformed, `the PEM text holds a backslash and an n where a line break belongs: write real line breaks (in JSON one \n escape, not \\n)`)
	case label == nil:
		return refuse(RuleMalformed, "the PEM text has no line "+pemBegin+": copy the whole block with its first and last line")
	case foreignPEM[label[1]] != "":
		return refuse(RuleUnsupported, foreignPEM[label[1]])
	case label[1] != "PUBLIC KEY":
		return refuse(RuleUnsupported, "the PEM label is not PUBLIC KEY: convert the key to a SubjectPublicKeyInfo, as 'openssl pkey -pubin -in FILE -pubout' writes it")
	case !strings.HasPrefix(text, pemBegin):
		return refuse(RuleMalformed, "there is text before the PEM block: keep only the block")
	case strings.Count(text, "-----BEGIN ") > 1:
		return refuse(RuleMalformed, "there is more than one PEM block: one entry holds one public key")
	case !strings.Contains(text, pemEnd):
		return refuse(RuleMalformed, "the PEM block does not end with "+pemEnd+": copy its last line too")
	case !strings.HasSuffix(trimmed, pemEnd):
		return refuse(RuleMalformed, "there is text after the PEM block: keep only the block")
	case len(trimmed) != len(strings.TrimSuffix(text, "\n")):
		return refuse(RuleMalformed, "there is white space after the PEM block: end it with one line break")
	}
	return refuse(RuleMalformed, "the PEM block is damaged: its first and last line stand alone, with base64 lines and nothing else between them")
}

// decodeBase64 reads base64 of the standard alphabet in its one canonical
// spelling (RFC 4648 sections 3.5 and 4).
func decodeBase64(text string) ([]byte, error) {
	switch i := strings.IndexFunc(text, notBase64); {
	case strings.HasPrefix(text, "ssh-") || strings.HasPrefix(text, "ecdsa-"):
		return nil, refuse(RuleUnsupported, "this is a key in OpenSSH form: convert it with 'ssh-keygen -e -m pkcs8 -f FILE'")
	case i < 0:
	case placeholder.MatchString(text):
		return nil, refuse(RuleMalformed, "this is a placeholder, not a key: paste the public key that the signing key exports")
	case strings.ContainsRune(" \t\r\n", rune(text[i])):
		return nil, refuse(RuleMalformed, "there is white space within the base64 text: remove it")
	case text[i] == '-' || text[i] == '_':
		return nil, refuse(RuleMalformed, "this is base64 of the URL alphabet (- and _): write the standard alphabet (+ and /)")
	default:
		return nil, refuse(RuleMalformed, "the text is no base64: paste the PEM block that begins with "+pemBegin+", or base64 of the DER bytes")
	}
	// Strict refuses spare bits that are not zero. The decoder would skip line
	// breaks; the check above has refused them.
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, refuse(RuleMalformed, "this is not canonical base64 (cut off, wrong padding, or spare bits that are not zero): copy the public key again")
	}
	return der, nil
}

// placeholder finds what people leave in an example that they have copied.
var placeholder = regexp.MustCompile(`(?i)\.\.\.|replace_|placeholder|your[_-]|<[a-z _-]+>`)

func notBase64(r rune) bool {
	switch {
	case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '+', r == '/', r == '=':
		return false
	}
	return true
}

// ed25519Key makes a Key of the 32 bytes of an Ed25519 public key.
func ed25519Key(point []byte) (Key, error) {
	switch err := edpoint.Check(point); err {
	case nil:
		return Key{spki: append([]byte(ed25519Prefix), point...), ed: append([]byte(nil), point...)}, nil
	case edpoint.ErrSmallOrder, edpoint.ErrMixedOrder:
		return Key{}, refuse(RuleWeak, "the Ed25519 key is unsafe ("+err.Error()+"): make a new key")
	case edpoint.ErrNotOnCurve: // half of all random bytes end here
		return Key{}, refuse(RuleMalformed, "the Ed25519 key is no public key ("+err.Error()+"): export it again; if this was the private seed, the key is disclosed and must be replaced")
	default:
		return Key{}, refuse(RuleMalformed, "the Ed25519 key is not well-formed ("+err.Error()+"): export it again")
	}
}
