package registry

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// maxErrors bounds the errors that are listed for a file: nobody reads more,
// and looking up their places takes time.
const maxErrors = 200

// checker collects findings about one document.
type checker struct {
	doc      *jsondoc.Document
	keys     map[string]parsedKey
	findings []finding.Finding
	errors   int
}

type parsedKey struct {
	key pubkey.Key
	err error
}

// newChecker reads the public keys of a document and looks for secrets in all
// of it.
func newChecker(doc *jsondoc.Document) *checker {
	c := &checker{doc: doc, keys: map[string]parsedKey{}}
	c.parseKeys()
	walk(doc.Root, "", c.secret)
	return c
}

// Secrets names what looks like a private key or a credential in any JSON
// document. The error is as Parse's.
func Secrets(name string, src []byte) ([]finding.Finding, error) {
	doc, err := jsondoc.Parse(name, src)
	if err != nil {
		return nil, err
	}
	return newChecker(doc).findings, nil
}

func (c *checker) find(rule string, offset int, format string, args ...any) {
	if c.errors++; c.errors <= maxErrors {
		c.report(rule, finding.Error, offset, fmt.Sprintf(format, args...))
	}
}

func (c *checker) report(rule string, severity finding.Severity, offset int, message string) {
	line, col := c.doc.Position(offset)
	c.findings = append(c.findings, finding.Finding{
		Rule: rule, Severity: severity, File: c.doc.Name, Line: line, Col: col, Message: message,
	})
}

// walk visits every value with the name of the member that holds it.
func walk(v *jsondoc.Value, name string, visit func(name string, v *jsondoc.Value)) {
	visit(name, v)
	for _, m := range v.Members {
		walk(m.Value, m.Name, visit)
	}
	for _, e := range v.Elements {
		walk(e, name, visit)
	}
}

// parseKeys reads whatever stands where a public key may stand, all keys at
// once: the policy costs a large RSA key some twenty milliseconds.
func (c *checker) parseKeys() {
	var texts []string
	walk(c.doc.Root, "", func(name string, v *jsondoc.Value) {
		if v.Kind == jsondoc.String && slices.Contains(keyNames, name) {
			texts = append(texts, v.Text)
		}
	})
	slices.Sort(texts)
	texts = slices.Compact(texts)
	parsed := make([]parsedKey, len(texts))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for i, text := range texts {
		slots <- struct{}{}
		all.Go(func() {
			parsed[i].key, parsed[i].err = pubkey.Parse(text)
			<-slots
		})
	}
	all.Wait()
	for i, text := range texts {
		c.keys[text] = parsed[i]
	}
}

// parse gives what parseKeys made of a text.
func (c *checker) parse(text string) (pubkey.Key, error) {
	if p, done := c.keys[text]; done {
		return p.key, p.err
	}
	return pubkey.Parse(text)
}

// secret names a private key or credential, in a value or as a name. A sound
// public key is none, whatever its base64 happens to spell.
func (c *checker) secret(name string, v *jsondoc.Value) {
	for _, m := range v.Members {
		if kind, found := pubkey.Secret(m.Name); found {
			c.find(pubkey.RuleSecret, m.NameStart, "a member's name looks like a secret (%s). Take it out and revoke it", kind)
		}
	}
	if v.Kind != jsondoc.String {
		return
	}
	if slices.Contains(keyNames, name) {
		var e *pubkey.Error
		if _, err := c.parse(v.Text); errors.As(err, &e) && e.Rule == pubkey.RuleSecret {
			c.find(e.Rule, v.Start, "%s", e.Message)
		}
		return
	}
	if kind, found := pubkey.Secret(v.Text); found {
		c.find(pubkey.RuleSecret, v.Start, "member %s holds what looks like a secret (%s). Take it out, revoke it, and rewrite the history that it was pushed with", Quote(name), kind)
	}
}
