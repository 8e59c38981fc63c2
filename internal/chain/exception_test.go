package chain_test

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

func excepted(rule string, r row) chain.Exception {
	return chain.Exception{Rule: rule, EventID: string(r.ID), Digest: r.digest, Reason: "reviewed", ApprovedBy: "ann", ApprovedAt: noon}
}

// An exception makes a note of exactly the row that it pins.
func TestExceptions(t *testing.T) {
	s := sound()
	f4, g4 := s[2].after("f4", "new", "0"), s[2].after("g4", "new", "1")
	unsigned := edit(3, func(r *row) { r.Signature = nil })
	malformed := edit(5, func(r *row) { r.Payload = []byte(`{"a":1,"a":2}`) })
	stored := sha256.New()
	stored.Write(malformed[5].Payload)
	stored.Write([]byte{0})
	stored.Write(malformed[5].Prev)
	pin := malformed[5]
	pin.digest = chain.Digest(stored.Sum(nil))
	fork := []chain.Exception{excepted(chain.RuleFork, s[3]), excepted(chain.RuleFork, f4)}
	changed := edit(3, func(r *row) { r.Signature = nil })
	changed[3] = write("e4", "new", "0", s[2].name(), s[3].CreatedAt)
	changed[3].Signature = nil

	for name, tc := range map[string]struct {
		rows       []row
		exceptions []chain.Exception
		used       int
		want       []string
	}{
		"unsigned":        {unsigned, []chain.Exception{excepted(chain.RuleUnsigned, s[3])}, 1, []string{"note unsigned 4 e4"}},
		"bad signature":   {edit(3, func(r *row) { r.sign("old") }), []chain.Exception{excepted(chain.RuleBadSignature, s[3])}, 1, []string{"note bad-signature 4 e4"}},
		"malformed event": {malformed, []chain.Exception{excepted(chain.RuleMalformedEvent, pin)}, 1, []string{"note malformed-event 0 e6"}},
		"fork":            {with(f4), fork, 2, []string{"note fork 4 e4"}},
		"fork of three": {with(f4, g4), append(slices.Clone(fork), excepted(chain.RuleFork, g4)), 3,
			[]string{"note fork 4 e4"}},
		"two rows with one id": {
			edit(3, func(r *row) { r.ID, r.Signature = []byte("e3"), nil }),
			[]chain.Exception{{Rule: chain.RuleUnsigned, EventID: "e3", Digest: s[3].digest}}, 1, []string{"note unsigned 4 e3"}},

		"only one rival of a fork":    {with(f4), fork[:1], 1, []string{"error fork 4 e4"}},
		"one more rival":              {with(f4, g4), fork, 2, []string{"error fork 4 e4"}},
		"a rival gone":                {s, fork, 0, []string{"error fork 0 e4", "error fork 0 f4"}},
		"stale":                       {s, []chain.Exception{excepted(chain.RuleUnsigned, s[3])}, 0, []string{"error unsigned 0 e4"}},
		"for another row":             {unsigned, []chain.Exception{excepted(chain.RuleUnsigned, s[2])}, 0, []string{"error unsigned 0 e3", "error unsigned 4 e4"}},
		"for another rule":            {unsigned, []chain.Exception{excepted(chain.RuleBadSignature, s[3])}, 0, []string{"error bad-signature 0 e4", "error unsigned 4 e4"}},
		"the row has changed":         {changed[:4], []chain.Exception{excepted(chain.RuleUnsigned, s[3])}, 0, []string{"error unsigned 0 e4", "error unsigned 4 e4"}},
		"a rule that is never waived": {edit(3, func(r *row) { r.Signer = []byte("who") }), []chain.Exception{excepted(chain.RuleUnknownSigner, s[3])}, 0, []string{"error unknown-signer 0 e4", "error unknown-signer 4 e4"}},
		"a cut tail":                  {s, []chain.Exception{excepted(chain.RuleTruncated, s[3])}, 0, []string{"error truncated 0 e4"}},
		"every row malformed, excepted": {malformed[5:], []chain.Exception{excepted(chain.RuleMalformedEvent, pin)}, 1,
			[]string{"error missing-genesis 0 ", "note malformed-event 0 e6"}},
		"same id, other digest": {unsigned, []chain.Exception{excepted(chain.RuleUnsigned, s[3]), {Rule: chain.RuleUnsigned, EventID: "e4", Digest: chain.Digest{1}}}, 1,
			[]string{"error unsigned 0 e4", "note unsigned 4 e4"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := verifyInAnyOrder(t, tc.rows, chain.Options{Exceptions: tc.exceptions}, 100)
			expect(t, r, tc.want...)
			if r.ExceptionsUsed != tc.used {
				t.Errorf("%d exceptions used, want %d", r.ExceptionsUsed, tc.used)
			}
			for _, f := range r.Findings {
				if strings.HasPrefix(string(f.Severity.String()), "note") && !strings.HasPrefix(f.Message, "excepted by ") {
					t.Errorf("the note does not say why: %s", f.Message)
				}
			}
		})
	}
}

// An exception whose row is one of two copies covers both; the copy is its own
// finding.
func TestExceptionOfACopiedRow(t *testing.T) {
	rows := edit(3, func(r *row) { r.Signature = nil })
	rows = append(rows, rows[3])
	r := verifyInAnyOrder(t, rows, chain.Options{Exceptions: []chain.Exception{excepted(chain.RuleUnsigned, rows[3])}}, 20)
	expect(t, r, "error duplicate-event 4 e4", "note unsigned 4 e4", "note unsigned 4 e4")
}
