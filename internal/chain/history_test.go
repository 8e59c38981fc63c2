package chain_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// keyring is a Verifier over real Ed25519 keys. It stands in for package
// trust, which stands above this one.
type keyring map[string]speaker

type speaker struct {
	key   ed25519.PrivateKey
	until int64
	entry string // of the registry, where the signer id is an alias
}

// key makes the same key from the same name in every run.
func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// checked remembers signatures, because the tests ask for each many times.
var checked sync.Map

func (k keyring) Judge(_ context.Context, claims []chain.Claim, out []chain.Judgement) error {
	for i, c := range claims {
		s, known := k[string(c.Signer)]
		signature, err := base64.StdEncoding.DecodeString(string(c.Signature))
		question := [3]string{string(c.Signer), string(c.Signature), string(c.Digest[:])}
		switch {
		case !known:
			out[i] = chain.Judgement{Rule: chain.RuleUnknownSigner, State: "unknown", Message: "nobody knows it"}
			continue
		case err != nil:
			out[i] = chain.Judgement{Rule: chain.RuleMalformedSignature, Message: "no base64"}
		case len(signature) != ed25519.SignatureSize:
			out[i] = chain.Judgement{Rule: chain.RuleAlgorithmMismatch, Message: "of another algorithm"}
		default:
			good, ok := checked.Load(question)
			if !ok {
				good = ed25519.Verify(s.key.Public().(ed25519.PublicKey), c.Digest[:], signature)
				checked.Store(question, good)
			}
			if !good.(bool) {
				out[i] = chain.Judgement{Rule: chain.RuleBadSignature, Message: "by another key"}
			}
		}
		out[i].Signer, out[i].State, out[i].Until = string(c.Signer), "active", s.until
		if s.entry != "" {
			out[i].Signer = s.entry
		}
		if s.until > 0 {
			out[i].State = "retired"
		}
	}
	return nil
}

var signers = keyring{"old": {key: key("old")}, "new": {key: key("new")}}

// retired gives the keyring with the signer old frozen at a position.
func retired(until int64) keyring {
	return keyring{"old": {key: key("old"), until: until}, "new": {key: key("new")}}
}

// row is an event with the digest that this test computes for it.
type row struct {
	chain.Event
	digest chain.Digest
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// write makes the event that a service with that key appends after prev.
func write(id, signer, payload string, prev []byte, at time.Time) row {
	e := chain.Event{ID: []byte(id), Payload: []byte(payload), Prev: prev, Signer: []byte(signer), CreatedAt: at}
	text := []byte(payload)
	if len(prev) > 0 {
		d, ok := chain.ParseDigest(prev)
		if !ok {
			panic("a writer names digests")
		}
		text = append(text, d[:]...)
	}
	r := row{e, sha256.Sum256(text)}
	r.sign(signer)
	return r
}

func (r *row) sign(signer string) {
	r.Signature = []byte(base64.StdEncoding.EncodeToString(ed25519.Sign(key(signer), r.digest[:])))
}

func (r row) name() []byte { return []byte(r.digest.String()) }

// after makes an event that follows r.
func (r row) after(id, signer, payload string) row {
	return write(id, signer, payload, r.name(), r.CreatedAt.Add(time.Minute))
}

// sound is a chain of six events: three by old, three by new, a minute apart.
func sound() []row {
	rows := []row{write("e1", "old", `{"n":1}`, nil, noon)}
	for n := 2; n <= 6; n++ {
		signer := "old"
		if n > 3 {
			signer = "new"
		}
		rows = append(rows, rows[n-2].after(fmt.Sprintf("e%d", n), signer, fmt.Sprintf(`{"n":%d}`, n)))
	}
	return rows
}

func without(rows []row, i int) []row { return slices.Delete(slices.Clone(rows), i, i+1) }

// source gives rows to Verify, each in space that the next one overwrites, as
// sources do.
func source(rows []row) iter.Seq2[chain.Event, error] {
	return func(yield func(chain.Event, error) bool) {
		space := [6][]byte{{}, {}, {}, {}, {}, {}}
		for i, r := range rows {
			e := r.Event
			e.Row = int64(i + 1)
			for k, field := range []*[]byte{&e.ID, &e.Payload, &e.Prev, &e.Signature, &e.Signer, &e.Hash} {
				if *field != nil {
					space[k] = append(space[k][:0], *field...)
					*field = space[k]
				}
			}
			if !yield(e, nil) {
				return
			}
			for k := range space {
				for j := range space[k] {
					space[k][j] = '#'
				}
			}
		}
	}
}

func shuffled(rows []row, seed uint64) []row {
	rows = slices.Clone(rows)
	rand.New(rand.NewPCG(seed, 7)).Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	return rows
}

func verify(t testing.TB, rows []row, o chain.Options) *chain.Report {
	t.Helper()
	if o.Verifier == nil {
		o.Verifier = signers
	}
	r, err := chain.Verify(t.Context(), source(rows), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// verifyInAnyOrder verifies rows as they stand and in other orders; every
// report must say the same.
func verifyInAnyOrder(t testing.TB, rows []row, o chain.Options, orders int) *chain.Report {
	t.Helper()
	first := verify(t, rows, o)
	want := text(t, first)
	for seed := range orders {
		o.Workers = 1 + seed%3
		if got := text(t, verify(t, shuffled(rows, uint64(seed)), o)); got != want {
			t.Fatalf("seed %d: the order of the rows changes the report\n%s\n%s", seed, want, got)
		}
	}
	return first
}

func text(t testing.TB, r *chain.Report) string {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// found gives a report's findings as "severity rule position event", one a
// line.
func found(r *chain.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %s %d %s\n", f.Severity, f.Rule, f.Position, f.EventID)
	}
	return b.String()
}

func expect(t testing.TB, r *chain.Report, want ...string) {
	t.Helper()
	list := ""
	if len(want) > 0 {
		list = strings.Join(want, "\n") + "\n"
	}
	if got := found(r); got != list || r.FindingsTotal != int64(len(want)) {
		t.Errorf("%d findings\n%swant %d\n%s", r.FindingsTotal, got, len(want), list)
		for _, f := range r.Findings {
			t.Log(f)
		}
	}
	failed := finding.Count(r.Findings, finding.Error) > 0
	if (r.Verdict == chain.Failed) != failed || (r.Verdict == chain.Verified) != (!failed && r.Events > 0) {
		t.Errorf("verdict %s", r.Verdict)
	}
}

// unsigned makes an event that follows r, the first one after the zero row,
// with a signature for a Verifier that does not look at it.
func unsigned(payload []byte, r row) row {
	text := payload
	next := row{Event: chain.Event{ID: payload, Payload: payload, Signature: []byte("s"), Signer: []byte("a")}}
	if r.Payload != nil {
		next.Prev = r.name()
		text = append(slices.Clone(payload), r.digest[:]...)
	}
	next.digest = sha256.Sum256(text)
	return next
}
