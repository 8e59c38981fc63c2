package registry

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// The spellings under which verifiers of these files read an entry's members,
// the ones that a new file gets first.
var (
	idNames        = []string{"signerId", "signer_kid", "signer_id", "id"}
	algorithmNames = []string{"algorithm", "alg"}
	keyNames       = []string{"publicKey", "public_key_pem", "public_key", "key"}
	dateNames      = []string{"deployedAt", "createdAt", "notBefore"}
	textNames      = []string{"description", "kmsKeyId", "rotation"}
)

func extension(name string) bool { return strings.HasPrefix(name, "x-") }

var keyARN = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/(?:mrk-)?[0-9a-f-]{1,128}$`)

// IsKeyARN reports whether a text is the full ARN of a KMS key in its one
// spelling (AWS KMS Developer Guide, "Key identifiers"): no alias, no bare id.
func IsKeyARN(text string) bool { return keyARN.MatchString(text) }

// KeyID is the part of a key's ARN that tells keys apart: the members of a
// multi-Region family share it. Of another text it is the text in lower case,
// without spaces.
func KeyID(arn string) string {
	arn = strings.ToLower(strings.TrimSpace(arn))
	return arn[strings.LastIndexByte(arn, '/')+1:]
}

var idGrammar = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}$`)

// CheckID says what is wrong with a signer id, "" if nothing is. Ids may be
// KMS key ARNs and aliases; none may look like a path or a git revision.
func CheckID(id string) string {
	switch {
	case id == "":
		return "it is empty"
	case len(id) > 256:
		return fmt.Sprintf("it has %d characters, at most 256 are allowed", len(id))
	case !idGrammar.MatchString(id):
		return "it must start with a letter or digit and hold only letters, digits and . _ : / @ + - (ASCII)"
	}
	for _, bad := range []string{"..", "//", "@{"} {
		if strings.Contains(id, bad) {
			return fmt.Sprintf("it must not hold %q", bad)
		}
	}
	return ""
}

// random finds what a secret without a mark may look like.
var random = regexp.MustCompile(`[A-Za-z0-9+/=_]{32,}`)

// Quote shows text from a file in a message; a secret is not shown, nor what
// might be one.
func Quote(s string) string {
	if _, found := pubkey.Secret(s); found {
		return "(a secret)"
	}
	for _, run := range random.FindAllString(s, -1) {
		if strings.ContainsAny(run, "0123456789") && strings.ToLower(run) != run && strings.ToUpper(run) != run {
			return fmt.Sprintf("(%d characters that might be a secret)", len(s))
		}
	}
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strconv.QuoteToASCII(s)
}

// entry reads one entry; in a map, member is the one that holds it.
func (c *checker) entry(v *jsondoc.Value, member *jsondoc.Member) Signer {
	s := Signer{Source: c.doc.Verbatim(v), names: names{idNames[0], algorithmNames[0], keyNames[0]}}
	s.Line, s.Col = c.doc.Position(v.Start)
	if v.Kind != jsondoc.Object {
		c.find(RuleShape, v.Start, "an entry must be an object, here it is %s", v.Kind)
		return s
	}
	c.members(v)
	c.identify(&s, v, member)
	algorithm, keyText := c.one(v, algorithmNames, &s.names.algorithm), c.one(v, keyNames, &s.names.key)
	c.metadata(&s, v)
	if algorithm == nil || algorithm.Kind != jsondoc.String || algorithm.Text == "" {
		c.missingAlgorithm(v, algorithm, keyText)
	} else {
		s.Algorithm = c.algorithm(algorithm)
	}
	c.key(&s, v, keyText)
	return s
}

// members refuses what no reader is documented to understand.
func (c *checker) members(v *jsondoc.Value) {
	for _, m := range v.Members {
		known := slices.Contains(idNames, m.Name) || slices.Contains(algorithmNames, m.Name) || slices.Contains(keyNames, m.Name) ||
			slices.Contains(dateNames, m.Name) || slices.Contains(textNames, m.Name) || m.Name == "aliases" || extension(m.Name)
		if known {
			continue
		}
		hint := "names are case-sensitive; names that start with x- are free"
		for _, list := range [][]string{idNames, algorithmNames, keyNames, dateNames, textNames, {"aliases"}} {
			for _, name := range list {
				if strings.EqualFold(name, m.Name) {
					hint = "did you mean " + strconv.Quote(name) + "? Names are case-sensitive"
				}
			}
		}
		c.find(RuleUnknownMember, m.NameStart, "member %s is not known; %s", Quote(m.Name), hint)
	}
}

// one gives the value of a member that has several spellings, nil if there is
// none. Spellings that disagree would be read differently by different
// verifiers.
func (c *checker) one(v *jsondoc.Value, spellings []string, used *string) *jsondoc.Value {
	var first *jsondoc.Value
	for _, m := range v.Members {
		if !slices.Contains(spellings, m.Name) {
			continue
		}
		switch {
		case first == nil:
			first, *used = m.Value, m.Name
		case first.Kind != m.Value.Kind || first.Text != m.Value.Text:
			c.find(RuleMemberConflict, m.NameStart, "%q and %q name the same thing and disagree; keep one", *used, m.Name)
		}
	}
	return first
}

func (c *checker) identify(s *Signer, v *jsondoc.Value, member *jsondoc.Member) {
	id := c.one(v, idNames, &s.names.id)
	switch {
	case id == nil && member == nil:
		c.find(RuleMissingMember, v.Start, "the entry has no signer id; add \"signerId\"")
		return
	case id != nil && id.Kind != jsondoc.String:
		c.find(RuleMemberType, id.Start, "%q must be a string, here it is %s", s.names.id, id.Kind)
		return
	case id != nil && member != nil && id.Text != member.Name:
		c.find(RuleMemberConflict, id.Start, "the entry stands under the id %s but says %s; they must agree", Quote(member.Name), Quote(id.Text))
		return
	}
	var at int
	if id != nil {
		s.ID, at = id.Text, id.Start
	} else {
		s.ID, at, s.names.id = member.Name, member.NameStart, ""
	}
	if why := CheckID(s.ID); why != "" {
		c.find(RuleSignerID, at, "signer id %s: %s", Quote(s.ID), why)
	}
}

func (c *checker) metadata(s *Signer, v *jsondoc.Value) {
	for _, m := range v.Members {
		switch {
		case m.Name == "aliases":
			c.aliases(s, m.Value)
		case slices.Contains(dateNames, m.Name):
			if _, err := time.Parse(time.RFC3339, m.Value.Text); m.Value.Kind != jsondoc.String || err != nil {
				c.find(RuleDate, m.Value.Start, "%q must be an RFC 3339 time such as \"2026-01-02T15:04:05Z\"", m.Name)
			} else if m.Name == "deployedAt" {
				s.DeployedAt = m.Value.Text
			}
		case slices.Contains(textNames, m.Name):
			if m.Value.Kind != jsondoc.String || len(m.Value.Text) > 4096 {
				c.find(RuleMemberType, m.Value.Start, "%q must be a string of at most 4096 bytes", m.Name)
			} else if m.Name == "kmsKeyId" {
				s.KMSKeyID = m.Value.Text
			} else if m.Name == "rotation" {
				s.Rotation = m.Value.Text
			}
		}
	}
}

func (c *checker) aliases(s *Signer, v *jsondoc.Value) {
	if v.Kind != jsondoc.Array {
		c.find(RuleMemberType, v.Start, "\"aliases\" must be an array of signer ids, here it is %s", v.Kind)
		return
	}
	if len(v.Elements) > MaxAliases {
		c.find(RuleTooManySigners, v.Start, "%d aliases, more than the limit of %d", len(v.Elements), MaxAliases)
		return
	}
	for _, e := range v.Elements {
		if e.Kind != jsondoc.String {
			c.find(RuleMemberType, e.Start, "an alias must be a string, here it is %s", e.Kind)
			continue
		}
		if why := CheckID(e.Text); why != "" {
			c.find(RuleSignerID, e.Start, "alias %s: %s", Quote(e.Text), why)
		}
		s.Aliases = append(s.Aliases, e.Text)
	}
}

func (c *checker) algorithm(v *jsondoc.Value) pubkey.Algorithm {
	algorithm, lower, err := pubkey.ParseAlgorithm(v.Text)
	if err != nil {
		c.refused(err, v.Start)
		return ""
	}
	if !lower {
		c.report(RuleAlgorithmCase, finding.Warning, v.Start, fmt.Sprintf("write the algorithm in lower case, %q: some verifiers compare letter by letter", algorithm))
	}
	return algorithm
}

func (c *checker) missingAlgorithm(v, algorithm, keyText *jsondoc.Value) {
	hint := ""
	if keyText != nil && keyText.Kind == jsondoc.String {
		if key, err := c.parse(keyText.Text); err == nil {
			hint = fmt.Sprintf("; the key calls for %q", key.Algorithm())
		}
	}
	if algorithm == nil {
		c.find(RuleMissingMember, v.Start, "the entry has no algorithm%s", hint)
		return
	}
	c.find(RuleMemberType, algorithm.Start, "the algorithm must be one of \"rsa-sha256\", \"ed25519\", \"hmac-sha256\"%s", hint)
}

func (c *checker) key(s *Signer, v, keyText *jsondoc.Value) {
	if s.Algorithm == pubkey.HMACSHA256 {
		if keyText != nil {
			c.find(RuleHMACEntry, keyText.Start, "an HMAC signer has no public key, and its secret must never stand here; name the key by \"kmsKeyId\"")
		} else if s.KMSKeyID == "" {
			c.find(RuleHMACEntry, v.Start, "an HMAC signer needs \"kmsKeyId\", the key that can check its signatures")
		} else if !IsKeyARN(s.KMSKeyID) {
			c.find(RuleKeyARN, v.Start, "the \"kmsKeyId\" of an HMAC signer must be the full ARN of its key, arn:aws:kms:<region>:<account>:key/<id> in lower case: an alias, a bare key id or another spelling may come to mean another key, or hide that it is the same one; %s is none", Quote(s.KMSKeyID))
		}
		return
	}
	switch {
	case keyText == nil:
		c.find(RuleMissingMember, v.Start, "the entry has no public key; add \"publicKey\"")
		return
	case keyText.Kind != jsondoc.String:
		c.find(RuleMemberType, keyText.Start, "the public key must be a string, here it is %s", keyText.Kind)
		return
	}
	key, err := c.parse(keyText.Text)
	if err != nil {
		c.refused(err, keyText.Start)
		return
	}
	if s.Algorithm != "" && key.Algorithm() != s.Algorithm {
		c.find(RuleAlgorithmKey, keyText.Start, "the algorithm says %q, the key is for %q", s.Algorithm, key.Algorithm())
		return
	}
	s.Key = key
}

// refused turns a key's or algorithm's own error into a finding; secrets has
// named those already.
func (c *checker) refused(err error, offset int) {
	var e *pubkey.Error
	if errors.As(err, &e) && e.Rule != pubkey.RuleSecret {
		c.find(e.Rule, offset, "%s", e.Message)
	}
}
