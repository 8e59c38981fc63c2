package trust_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

func upstreamFiles(t *testing.T, name, archive string) *registry.Files {
	t.Helper()
	text, err := os.ReadFile(upstream + name)
	if err != nil {
		t.Fatal(err)
	}
	var items []byte
	if archive != "" {
		items = []byte(archive)
	}
	files, err := registry.Load("signers.json", text, "signers.archive.json", items)
	if err != nil || len(files.Findings) > 0 {
		t.Fatal(err, files)
	}
	return files
}

// archivedAt archives the RSA signer of the overlap chain at a position.
func archivedAt(t *testing.T, position, digest string) *registry.Files {
	t.Helper()
	return archivedAs(t, registry.StateRetired, position, digest)
}

func archivedAs(t *testing.T, state registry.State, position, digest string) *registry.Files {
	t.Helper()
	both := upstreamFiles(t, "overlap.signers-object.json", "")
	s, _ := both.Registry.Find("audit-rsa-v1")
	return upstreamFiles(t, "overlap.signers-new-only.json", `{"version":1,"retired":[{"entry":`+s.Source+`,"retiredAt":"2026-01-02T03:04:05Z","reason":"r","rotation":"r","state":"`+string(state)+`","boundary":{"position":`+position+`,"digest":"`+digest+`"}}]}`)
}

const beforeLastRSA = "0768df648f183858e1caa936058af5834bc69871796e848b6cdba59574bd4b6e" // its event before that, at position 148

const lastRSA = "582e1f9ef1e33a0a1a18f402718fd5127ebfc2ffedbaec1e7bda4ab0f9f4be6d" // at position 150

// What a change takes from the chain that upstream's code has written, by an
// RSA signer and then by its successor.
func TestReplay(t *testing.T) {
	both := upstreamFiles(t, "overlap.signers-object.json", "")
	only := upstreamFiles(t, "overlap.signers-new-only.json", "")
	for name, tc := range map[string]struct {
		events                     string
		before, after              *registry.Files
		lost, unchecked, elsewhere int64
		says                       string
	}{
		"nothing changes":              {"overlap", both, both, 0, 0, 0, ""},
		"removed, as the runbook does": {"overlap", both, only, 125, 0, 0, `unverifiable-events: this makes 125 event(s) unverifiable: those of signer "audit-rsa-v1"; positions 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 115 more`},
		"archived at its boundary":     {"overlap", both, archivedAt(t, "150", lastRSA), 0, 0, 0, ""},
		"archived too early":           {"overlap", both, archivedAt(t, "148", lastRSA), 1, 0, 0, "signer audit-rsa-v1 is retired: its last genuine event stands at position 148; positions 150"},
		"a boundary of another chain":  {"overlap", both, archivedAt(t, "150", strings.Repeat("0", 64)), 0, 0, 0, "checkpoint-mismatch: "},
		"a boundary not reached yet":   {"overlap", both, archivedAt(t, "900", strings.Repeat("0", 64)), 0, 0, 0, "truncated: "},
		"archived as never used":       {"overlap", both, archivedAt(t, "0", strings.Repeat("0", 64)), 125, 0, 0, "125 event(s)"},
		"back after its retirement":    {"overlap", archivedAt(t, "148", lastRSA), both, 0, 0, 0, ""},
		"gained up to a boundary":      {"overlap", only, archivedAt(t, "148", beforeLastRSA), 0, 0, 0, ""},
		"bounded more tightly":         {"overlap", archivedAt(t, "150", lastRSA), archivedAt(t, "148", beforeLastRSA), 1, 0, 0, "position 148; positions 150"},
		"lost before already":          {"overlap", only, only, 0, 0, 0, ""},
		"gained":                       {"overlap", only, both, 0, 0, 0, ""},
		"bounded as before":            {"overlap", archivedAt(t, "148", lastRSA), archivedAt(t, "148", lastRSA), 0, 0, 0, ""},
		"no base, sound":               {"overlap", nil, both, 0, 0, 0, ""},
		"no base, signers missing":     {"overlap", nil, only, 125, 0, 0, "125 event(s)"},
		"HMAC, unchecked":              {"hmac", upstreamFiles(t, "hmac.signers.json", ""), upstreamFiles(t, "hmac.signers.json", ""), 0, 300, 0, ""},
		"HMAC, removed":                {"hmac", upstreamFiles(t, "hmac.signers.json", ""), only, 300, 0, 0, "audit-hmac-v1"},
		"forks are another matter":     {"fork", both, both, 0, 0, 5, ""},
	} {
		t.Run(name, func(t *testing.T) {
			open := func() (io.ReadCloser, error) {
				return os.Open(upstream + tc.events + ".ndjson")
			}
			r, err := trust.Replay(t.Context(), chain.NDJSON("events", open), tc.before, tc.after, 2)
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			for _, f := range r.Findings {
				said = append(said, f.Rule+": "+f.Message)
			}
			all := strings.Join(said, "\n")
			if r.Lost != tc.lost || r.Unchecked != tc.unchecked || r.Elsewhere != tc.elsewhere || (all == "") != (tc.says == "") || !strings.Contains(all, tc.says) {
				t.Errorf("%d lost, %d unchecked, %d elsewhere of %d: %s\nwant %d, %d, %d: %s", r.Lost, r.Unchecked, r.Elsewhere, r.Events, all, tc.lost, tc.unchecked, tc.elsewhere, tc.says)
			}
		})
	}
}

func TestReplayCannotRead(t *testing.T) {
	both := upstreamFiles(t, "overlap.signers-object.json", "")
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("{\n")), nil }
	if _, err := trust.Replay(t.Context(), chain.NDJSON("events", open), both, both, 1); err == nil {
		t.Error("an export that is none was replayed")
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	file := func() (io.ReadCloser, error) { return os.Open(upstream + "overlap.ndjson") }
	if _, err := trust.Replay(done, chain.NDJSON("events", file), both, both, 1); err == nil {
		t.Error("an interrupted replay has an outcome")
	}
}

// What a change declares compromised is named, and holds nothing up; what it
// loses besides, does.
func TestReplayOfACompromise(t *testing.T) {
	both := upstreamFiles(t, "overlap.signers-object.json", "")
	open := func() (io.ReadCloser, error) { return os.Open(upstream + "overlap.ndjson") }
	for name, tc := range map[string]struct {
		before, after  *registry.Files
		lost, declared int64
	}{
		"declared":          {both, archivedAs(t, registry.StateCompromised, "148", beforeLastRSA), 0, 1},
		"declared already":  {archivedAs(t, registry.StateCompromised, "148", beforeLastRSA), archivedAs(t, registry.StateCompromised, "148", beforeLastRSA), 0, 0},
		"retired too early": {both, archivedAt(t, "148", beforeLastRSA), 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := trust.Replay(t.Context(), chain.NDJSON("events", open), tc.before, tc.after, 2)
			if err != nil {
				t.Fatal(err)
			}
			errs := finding.Count(r.Findings, finding.Error)
			if r.Lost != tc.lost || r.Declared != tc.declared || r.Elsewhere != 0 || (errs > 0) != (tc.lost > 0) || (len(r.Findings) > errs) != (tc.declared > 0) {
				t.Errorf("%d lost, %d declared, %d elsewhere, %v", r.Lost, r.Declared, r.Elsewhere, r.Findings)
			}
		})
	}
}

// An export may name any number of signers: a thousand are told apart.
func TestReplayOfManySigners(t *testing.T) {
	only := upstreamFiles(t, "overlap.signers-new-only.json", "")
	const n = 1200
	events := func(yield func(chain.Event, error) bool) {
		var prev []byte
		for i := range n {
			if i == n-1 {
				i = 0 // who is known stays known
			}
			if !yield(chain.Event{Row: 1, ID: []byte("e"), Payload: []byte("{}"), Prev: prev, Signer: fmt.Append(nil, "s", i), Signature: []byte("x")}, nil) {
				return
			}
			raw, _ := hex.DecodeString(string(prev))
			digest := sha256.Sum256(append([]byte("{}"), raw...))
			prev = []byte(hex.EncodeToString(digest[:]))
		}
	}
	r, err := trust.Replay(t.Context(), events, nil, only, 1)
	if err != nil || r.Lost != n || r.Events != n || len(r.Findings) != 1001 {
		t.Fatalf("%d of %d lost, %d findings, %v", r.Lost, r.Events, len(r.Findings), err)
	}
	if m := r.Findings[0].Message; !strings.Contains(m, "199 event(s)") || !strings.Contains(m, "(others)") {
		t.Error(m)
	}
	if m := r.Findings[1].Message; !strings.Contains(m, "2 event(s)") || !strings.Contains(m, `"s0"`) {
		t.Error(m)
	}
}
