// Package trust answers which key speaks for a signer id, and over which
// stretch of the chain: the registry's signers without bound, the archive's
// up to their boundary, HMAC signers through a secret or through KMS.
//
// It refuses a claim by an unknown id, one whose signature is not in the key's
// exact form, and one that the key does not verify; it never takes an
// algorithm or a key from the row. It is the one chain.Verifier.
package trust

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/sigverify"
)

// StateActive is the state of a signer that stands in the registry; archived
// ones have the archive's state.
const StateActive = "active"

// MAC asks a key service whether mac is the HMAC-SHA-256 of digest under
// keyID. An error means that it could not be asked.
type MAC func(ctx context.Context, keyID string, digest [32]byte, mac []byte) (bool, error)

// Options say how HMAC signatures are checked; without them an event that an
// HMAC signer signed ends a verification with an error.
type Options struct {
	// Secrets are HMAC keys by signer id.
	Secrets map[string][]byte
	// MAC is asked for HMAC signers whose secret is not at hand. At most
	// MACCalls questions are open at once.
	MAC      MAC
	MACCalls int
	// Unknown, if set, keeps the rows by signers that nobody knows.
	Unknown *Claims
	// Without names the fast paths of sigverify that are not taken.
	Without sigverify.Paths
}

// noSecret says that events of an HMAC signer cannot be checked with what was
// given.
type noSecret string

func (e noSecret) Error() string { return string(e) }

// ExitCode is 2: used wrongly.
func (e noSecret) ExitCode() int { return 2 }

// Set is everybody whose signatures count somewhere.
type Set struct {
	speakers []speaker
	byID     map[string]int
	options  Options
	engine   *sigverify.Engine
	desks    chan *desk
	tries    atomic.Int64 // of keys, to name whose signature a refused one is
}

// desk is the space that one Judge at a time works in.
type desk struct {
	checks []sigverify.Check
	claims []int  // of the checks
	raw    []byte // their signatures
}

// maxDesks bounds the desks that are kept for later.
const maxDesks = 256

// speaker is one entry with its key made ready.
type speaker struct {
	registry.Signer
	key   *sigverify.Key // nil for an HMAC signer without a secret
	state string
	until int64 // last position, 0 unbounded
	never bool  // archived without ever having signed
}

// New makes the set of a valid registry and archive.
func New(r *registry.Registry, a *registry.Archive, o Options) *Set {
	s := &Set{
		byID: map[string]int{}, options: o, desks: make(chan *desk, maxDesks),
		engine: sigverify.NewEngine(sigverify.Options{Without: o.Without}),
	}
	if s.options.MACCalls < 1 {
		s.options.MACCalls = 8
	}
	// The last word counts: a later retirement over an earlier one, and the
	// registry, into which a rollback brings a signer back, over both.
	for _, was := range a.Retired {
		s.add(speaker{Signer: was.Signer, state: string(was.State), until: was.Boundary.Position, never: was.Boundary.Position == 0})
	}
	for _, signer := range r.Signers {
		s.add(speaker{Signer: signer, state: StateActive})
	}
	for id := range o.Secrets {
		if _, known := s.byID[id]; !known {
			s.add(speaker{Signer: registry.Signer{ID: id, Algorithm: pubkey.HMACSHA256}, state: StateActive})
		}
	}
	return s
}

func (s *Set) add(p speaker) {
	if p.Algorithm == pubkey.HMACSHA256 {
		for _, id := range p.IDs() {
			if secret, ok := s.options.Secrets[id]; ok {
				p.key = sigverify.NewHMAC(secret)
			}
		}
	} else {
		p.key = sigverify.New(p.Key)
	}
	for _, id := range p.IDs() {
		s.byID[id] = len(s.speakers)
	}
	s.speakers = append(s.speakers, p)
}

// Speaker is the entry that speaks for a signer id, "" if none does, and its
// state.
func (s *Set) Speaker(id string) (entry, state string) {
	index, known := s.byID[id]
	if !known {
		return "", "unknown"
	}
	return s.speakers[index].ID, s.speakers[index].state
}

// Anchors are the boundaries of the archive: events that the chain must hold
// at their positions.
func Anchors(a *registry.Archive) []chain.Anchor {
	var anchors []chain.Anchor
	for _, was := range a.Retired {
		if was.Boundary.Position > 0 {
			anchors = append(anchors, chain.Anchor{Name: "archive (boundary of " + was.ID + ")", Position: was.Boundary.Position, Digest: was.Boundary.Digest, Signer: was.ID})
		}
	}
	return anchors
}

// Signatures says who has decided about the signatures so far.
func (s *Set) Signatures() sigverify.Counts { return s.engine.Counts() }

// Judge is chain.Verifier's. Claims whose signature can be read are checked
// together: that is many times faster.
func (s *Set) Judge(ctx context.Context, claims []chain.Claim, out []chain.Judgement) error {
	var d *desk
	select {
	case d = <-s.desks:
	default:
		d = new(desk)
	}
	d.checks, d.claims, d.raw = d.checks[:0], d.claims[:0], d.raw[:0]
	var remote []question
	for i := range claims {
		c := &claims[i]
		index, known := s.byID[string(c.Signer)]
		if !known {
			out[i] = chain.Judgement{Rule: chain.RuleUnknownSigner, State: "unknown", Message: s.unknown(c)}
			continue
		}
		p := &s.speakers[index]
		out[i] = chain.Judgement{Signer: p.ID, State: p.state, Until: p.until}
		size := p.key.Size()
		if size == 0 {
			size = sigverify.MACSize
		}
		signature, err := sigverify.Decode(d.space(size), c.Signature, size)
		switch {
		case err != nil:
			out[i].Rule, out[i].Message = chain.RuleMalformedSignature, fmt.Sprintf("the signature of signer %.80q cannot be read: %v", c.Signer, err)
			if other := s.fitting(c, index); other != "" {
				out[i].Rule, out[i].Message = chain.RuleAlgorithmMismatch, fmt.Sprintf("the row names signer %.80q (%s), but the signature is one of signer %q: the writer's signer id and key do not belong together", c.Signer, p.Algorithm, other)
			}
		case p.never && p.key == nil: // nobody is asked about an HMAC key that has nothing to say
			out[i].Rule, out[i].Message = chain.RuleRetiredSignerUsed, s.never(c.Signer)
		case p.key == nil:
			remote = append(remote, question{i, p.KMSKeyID, c.Digest, append([]byte(nil), signature...)})
		default:
			d.raw = d.raw[:len(d.raw)+size]
			d.checks = append(d.checks, sigverify.Check{Key: p.key, Digest: c.Digest, Signature: signature})
			d.claims = append(d.claims, i)
		}
	}
	if err := s.engine.Verify(d.checks); err != nil {
		return err
	}
	for k, i := range d.claims {
		switch index := s.byID[string(claims[i].Signer)]; {
		case !d.checks[k].Valid:
			out[i].Rule, out[i].Message = chain.RuleBadSignature, s.bad(&claims[i], index)
		case s.speakers[index].never:
			out[i].Rule, out[i].Message = chain.RuleRetiredSignerUsed, s.never(claims[i].Signer)
		}
	}
	select {
	case s.desks <- d:
	default:
	}
	return s.ask(ctx, remote, claims, out)
}

func (s *Set) never(signer []byte) string {
	return fmt.Sprintf("signer %.80q was retired without ever having signed, yet the row names it", signer)
}

// space gives room for a signature of size bytes, and for the two that
// sigverify.Decode wants beyond it. What was given before stays as it is.
func (d *desk) space(size int) []byte {
	if cap(d.raw)-len(d.raw) < size+2 {
		d.raw = make([]byte, 0, max(2*cap(d.raw), 1<<14))
	}
	return d.raw[len(d.raw):]
}

type question struct {
	claim  int
	keyID  string
	digest [32]byte
	mac    []byte
}

// ask puts the questions to the key service, several at once.
func (s *Set) ask(ctx context.Context, questions []question, claims []chain.Claim, out []chain.Judgement) error {
	if len(questions) == 0 {
		return nil
	}
	if s.options.MAC == nil {
		id := claims[questions[0].claim].Signer
		return noSecret(fmt.Sprintf("signer %.80q is an HMAC signer, whose events only its secret can check: give it by hmac-secrets-path, or name its KMS key in the registry", id))
	}
	errs := make([]error, len(questions))
	slots := make(chan struct{}, s.options.MACCalls)
	var wg sync.WaitGroup
	for k, q := range questions {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ok, err := s.options.MAC(ctx, q.keyID, q.digest, q.mac)
			if errs[k] = err; err == nil && !ok {
				out[q.claim].Rule = chain.RuleBadSignature
				out[q.claim].Message = fmt.Sprintf("KMS says that the signature is not one of signer %.80q over this row's digest", claims[q.claim].Signer)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// unpublished is what to do about a signer of which nothing is known.
const unpublished = "publish its entry before it signs (add-signer), or restore the entry that was removed (rollback)"

func (s *Set) unknown(c *chain.Claim) string {
	if len(c.Signer) == 0 {
		return "the row has a signature and names no signer"
	}
	hint := unpublished
	if other := s.fitting(c, -1); other != "" {
		hint = fmt.Sprintf("the signature is one of signer %q: Agent Manager writes the configured KMS key id as signer_kid, so register %.120q as an alias of that entry", other, c.Signer)
	} else {
		s.options.Unknown.add(c)
	}
	return missing(c.Signer, hint)
}

// missing names ids that an entry can have (registry.CheckID) in full, and no two
// of them alike: Explain goes by what it says.
func missing[T string | []byte](id T, hint string) string {
	cut := ""
	if len(id) > 256 {
		cut = fmt.Sprintf(" (cut from %d bytes)", len(id))
	}
	return fmt.Sprintf("neither registry nor archive has a signer %.256q%s; %s", id, cut, hint)
}

// Explain puts better advice, by signer id, into the findings about signers
// that nobody knows and whose key is nobody's: messages change, and nothing else.
func Explain(findings []finding.Finding, advice map[string]string) {
	better := map[string]string{}
	for id, hint := range advice {
		better[missing(id, unpublished)] = missing(id, hint)
	}
	for i := range findings {
		f := &findings[i]
		if message, ok := better[f.Message]; ok && f.Rule == chain.RuleUnknownSigner {
			f.Message = message
		}
	}
}

func (s *Set) bad(c *chain.Claim, index int) string {
	if other := s.fitting(c, index); other != "" {
		return fmt.Sprintf("the row names signer %.80q, but the signature is one of signer %q: the writer's signer id and key do not belong together", c.Signer, other)
	}
	return fmt.Sprintf("the signature is not one of signer %.80q over this row's digest: payload, prev_hash or signature was changed after signing, or another key signed", c.Signer)
}

// maxTries costs some seconds at most.
const maxTries = 20_000

// fitting names another signer whose key verifies the claim, "" if none does.
// It runs for refused claims only, and no more once a hostile table has used up
// the tries: the findings stay, without the hint.
func (s *Set) fitting(c *chain.Claim, except int) string {
	for i := range s.speakers {
		p := &s.speakers[i]
		if i == except || p.key == nil {
			continue
		}
		if s.tries.Add(1) > maxTries {
			return ""
		}
		if signature, err := sigverify.Decode(nil, c.Signature, p.key.Size()); err == nil && p.key.Verify(c.Digest, signature) {
			return p.ID
		}
	}
	return ""
}

// ParseSecrets reads {"<signer id>": "<text>" | {"base64": "…"}}: a text's
// UTF-8 bytes are the key, never decoded. No error holds a byte of a secret.
func ParseSecrets(name string, src []byte) (map[string][]byte, error) {
	doc, err := jsondoc.Parse(name, src)
	if err != nil {
		return nil, err
	}
	bad := func(at int, message string) error {
		line, col := doc.Position(at)
		return &jsondoc.Error{File: name, Line: line, Col: col, Message: message}
	}
	if doc.Root.Kind != jsondoc.Object {
		return nil, bad(doc.Root.Start, "HMAC secrets are an object from signer id to secret: write {\"<signer id>\": \"<secret>\"}")
	}
	secrets := map[string][]byte{}
	for _, m := range doc.Root.Members {
		if why := registry.CheckID(m.Name); why != "" {
			return nil, bad(m.NameStart, "this is no signer id: "+why)
		}
		switch encoded := m.Value.Member("base64"); {
		case m.Value.Kind == jsondoc.String && m.Value.Text != "":
			secrets[m.Name] = []byte(m.Value.Text)
		case m.Value.Kind == jsondoc.Object && len(m.Value.Members) == 1 && encoded != nil && encoded.Kind == jsondoc.String && encoded.Text != "":
			// The decoder skips line breaks; a secret has one spelling.
			if strings.ContainsAny(encoded.Text, "\r\n") {
				return nil, bad(encoded.Start, "the secret is not canonical base64: it holds a line break")
			}
			if secrets[m.Name], err = base64.StdEncoding.Strict().DecodeString(encoded.Text); err != nil {
				return nil, bad(encoded.Start, "the secret is not canonical base64")
			}
		default:
			return nil, bad(m.Value.Start, `a secret is a text, or {"base64": "…"} for a binary one; an empty one is refused`)
		}
	}
	return secrets, nil
}
