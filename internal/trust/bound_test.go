package trust_test

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// Where Bounds sees nothing against it, a chain that verified before the change
// verifies after it: shown on the chain that upstream's code has written.
func TestBounds(t *testing.T) {
	digest, _ := chain.ParseDigest([]byte(lastRSA))
	last := registry.Boundary{Position: 150, Digest: digest}
	both := upstreamFiles(t, "overlap.signers-object.json", "")
	only := upstreamFiles(t, "overlap.signers-new-only.json", "")
	altered := func(change func(*registry.Signer)) *registry.Files {
		f := archivedAt(t, "150", lastRSA)
		s := f.Registry.Signers[0]
		change(&s)
		r := *f.Registry
		r.Signers = append([]registry.Signer{s}, r.Signers[1:]...)
		return &registry.Files{Registry: &r, Archive: f.Archive}
	}
	rsa, _ := both.Registry.Find("audit-rsa-v1")
	// The signer had left at position 148, and came back.
	archive := func(positions ...string) string {
		var items []string
		for _, at := range positions {
			where, digest, _ := strings.Cut(at, ":")
			items = append(items, `{"entry":`+rsa.Source+`,"retiredAt":"2026-01-02T03:04:05Z","reason":"r","rotation":"r`+where+`","state":"retired","boundary":{"position":`+where+`,"digest":"`+digest+`"}}`)
		}
		return `{"version":1,"retired":[` + strings.Join(items, ",") + `]}`
	}
	earlier, later, unused := "148:"+beforeLastRSA, "150:"+lastRSA, "0:"+strings.Repeat("0", 64)
	fresh := both.Registry.Signers[1]
	beside := strings.Replace(archive(unused), `"retired":[`, `"retired":[{"entry":`+fresh.Source+`,"retiredAt":"2026-01-02T03:04:05Z","reason":"r","rotation":"r","state":"retired","boundary":{"position":150,"digest":"`+lastRSA+`"}},`, 1)
	came := upstreamFiles(t, "overlap.signers-object.json", archive(earlier))
	again := upstreamFiles(t, "overlap.signers-new-only.json", archive(earlier, later))
	for name, tc := range map[string]struct {
		before, after *registry.Files
		at            registry.Boundary
		why           string // "" for none
	}{
		"the signer is bounded at its last event": {both, archivedAt(t, "150", lastRSA), last, ""},
		"the signer is removed":                   {both, only, last, `nobody would speak for signer "audit-rsa-v1"`},
		"nothing changes":                         {both, both, last, `signer "audit-rsa-v1": it would not be bounded at its last event`},
		"bounded earlier":                         {both, archivedAt(t, "148", beforeLastRSA), last, `signer "audit-rsa-v1": it would not be bounded at its last event`},
		"bounded at another digest":               {both, archivedAt(t, "150", strings.Repeat("0", 64)), last, "the archive would not gain the boundary alone"},
		"bounded as if it had never signed":       {both, archivedAt(t, "0", strings.Repeat("0", 64)), last, `signer "audit-rsa-v1": it would not be bounded at its last event`},
		"it was bounded before":                   {archivedAt(t, "150", lastRSA), archivedAt(t, "150", lastRSA), last, `signer "audit-rsa-v1": it would not be bounded at its last event`},
		"another signer's key changes":            {both, altered(func(s *registry.Signer) { s.Key = rsa.Key }), last, "another key would speak for it"},
		"another signer loses its key":            {both, altered(func(s *registry.Signer) { s.Key = registry.Signer{}.Key }), last, "another key would speak for it"},
		"another signer's KMS key changes":        {both, altered(func(s *registry.Signer) { s.KMSKeyID = "arn:x" }), last, "another key would speak for it"},
		"another signer's algorithm changes":      {both, altered(func(s *registry.Signer) { s.Algorithm = "rsa-sha256" }), last, "another key would speak for it"},
		"an alias comes in":                       {both, altered(func(s *registry.Signer) { s.Aliases = append([]string{"x"}, s.Aliases...) }), last, `signer "x" would be new`},
		"a signer that has signed nothing":        {both, archivedAt(t, "0", strings.Repeat("0", 64)), registry.Boundary{}, ""},
		"it leaves for the second time":           {came, again, last, ""},
		"its first boundary is lost":              {came, upstreamFiles(t, "overlap.signers-new-only.json", archive(later)), last, "a boundary of the archive would be another one"},
		"all of its boundaries are":               {came, upstreamFiles(t, "overlap.signers-new-only.json", archive(unused)), registry.Boundary{}, "a boundary of the archive would be another one"},
		"a boundary comes in beside it":           {both, upstreamFiles(t, "overlap.signers-new-only.json", beside), registry.Boundary{}, "the archive would not gain the boundary alone"},
		"a boundary leaves":                       {archivedAt(t, "148", beforeLastRSA), both, last, `signer "audit-rsa-v1": it would not be bounded at its last event`},
	} {
		why := trust.Bounds(tc.before, tc.after, "audit-rsa-v1", tc.at)
		if (why == "") != (tc.why == "") || !strings.Contains(why, tc.why) {
			t.Errorf("%s: %q, want %q", name, why, tc.why)
		}
		if why == "" && tc.at == last {
			for _, files := range []*registry.Files{tc.before, tc.after} {
				r, err := chain.Verify(t.Context(), chain.NDJSON("events", func() (io.ReadCloser, error) { return os.Open(upstream + "overlap.ndjson") }), chain.Options{Verifier: trust.New(files.Registry, files.Archive, trust.Options{}), Anchors: trust.Anchors(files.Archive)})
				if err != nil || r.Verdict != chain.Verified {
					t.Errorf("%s: %v %+v", name, err, r)
				}
			}
		}
	}
}
