package readiness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// parse reads the body of an answer.
func parse(body []byte) Answer {
	text := bytes.TrimSpace(body)
	if digest, ok := digestOf(string(text)); ok {
		return Answer{RegistrySHA256: digest}
	}
	if len(text) == 0 {
		return Answer{Problem: "its answer is empty"}
	}
	if !json.Valid(text) || text[0] != '{' && text[0] != '[' {
		return Answer{Problem: "its answer is neither a registry file, nor JSON with registrySha256, nor a SHA-256 in hex; is this the right address?"}
	}
	if told, ok := status(text); ok {
		return told
	}
	sum := sha256.Sum256(body) // the bytes as they came: white space counts
	return Answer{RegistrySHA256: hex.EncodeToString(sum[:])}
}

// status reads JSON that tells digests; ok is false for any other JSON. A
// registry in the form of a map may have a signer named registrySha256, whose
// value is an object.
func status(text []byte) (a Answer, ok bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil || members["registrySha256"] == nil || members["registrySha256"][0] == '{' {
		return Answer{}, false
	}
	var known bool
	if a.RegistrySHA256, known = member(members["registrySha256"]); !known {
		return Answer{Problem: "its registrySha256 is not a SHA-256 in hex"}, true
	}
	archive := members["archiveSha256"]
	if archive == nil || string(archive) == `""` || string(archive) == "null" { // there may be none
		return a, true
	}
	if a.ArchiveSHA256, known = member(archive); !known {
		return Answer{Problem: "its archiveSha256 is not a SHA-256 in hex"}, true
	}
	return a, true
}

// member reads a digest that stands in JSON.
func member(raw json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return "", false
	}
	return digestOf(text)
}

// digestOf reads 64 hex digits, in either case.
func digestOf(text string) (string, bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != sha256.Size {
		return "", false
	}
	return hex.EncodeToString(raw), true
}
