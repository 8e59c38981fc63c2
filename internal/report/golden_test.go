package report

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// what people read, each in a file of testdata that reads as GitHub shows it.
func texts(t *testing.T) map[string]string {
	t.Helper()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	later := noon.Add(49 * time.Hour)
	digest, ok := chain.ParseDigest([]byte(strings.Repeat("ab", 32)))
	if !ok {
		t.Fatal("no digest")
	}
	head := strings.Repeat("cd", 32)
	columns := chain.UnauthenticatedColumns
	signers := map[string]chain.SignerUse{
		"arn:aws:kms:eu-west-1:111122223333:key/1": {Events: 1200, FirstPosition: 1, LastPosition: 1216, LastCreatedAt: &noon, Entry: "v1", State: "retired"},
		"v2":         {Events: 36, FirstPosition: 1190, LastPosition: 1236, LastCreatedAt: &later, Entry: "v2", State: "active"},
		"who | ever": {Events: 1, State: "unknown"},
	}
	bad := []finding.Finding{
		{Rule: "bad-signature", Severity: finding.Error, Position: 7, EventID: "e-7", Message: `the signature is not one of signer "v1" over this row's digest`},
		{Rule: "lossy-number", Severity: finding.Warning, Position: 9, EventID: "<img src=x> | `x`", Message: "@everyone: see #12 at https://evil.example | GH-12 **now**"},
		{Rule: "fork", Severity: finding.Note, Position: 3, Message: "excepted by review"},
	}
	record := rotation.Record{
		Version: 1, ID: "rotate-v2-fb04dcb6", CreatedAt: noon, Actor: "release-captain", Reason: "the yearly rotation, see <incident> #12",
		Outgoing:   &rotation.Signer{ID: "v1", Algorithm: "rsa-sha256", Fingerprint: strings.Repeat("01", 32), KMSKeyARN: "arn:aws:kms:eu-west-1:111122223333:key/1"},
		Incoming:   rotation.Signer{ID: "v2", Algorithm: "ed25519", Fingerprint: strings.Repeat("23", 32), KMSKeyARN: "arn:aws:kms:eu-west-1:111122223333:key/2"},
		Possession: &pubkey.Possession{}, Policy: rotation.Policy{Overlap: rotation.Duration(48 * time.Hour), Propagation: rotation.Duration(5 * time.Minute)},
	}
	gates := func(states ...rotation.GateState) []rotation.Gate {
		var all []rotation.Gate
		for i, s := range states {
			all = append(all, rotation.Gate{ID: "G" + string(rune('1'+i)), Name: "gate " + string(rune('1'+i)), State: s, Detail: "because of " + string(s)})
		}
		return all
	}
	waiting := NewStatus(record, rotation.Assessment{Phase: rotation.Retiring, Gates: gates(rotation.Waiting, rotation.Passed, rotation.Waiting, rotation.Off, rotation.Unproven)})
	against := NewStatus(record, rotation.Assessment{Phase: rotation.Active, Gates: gates(rotation.Waiting, rotation.Against, rotation.Waiting)})
	unproven := NewStatus(record, rotation.Assessment{Phase: rotation.Active, Gates: gates(rotation.Passed, rotation.Passed, rotation.Waiting, rotation.Unproven)})
	ready := NewStatus(record, rotation.Assessment{Phase: rotation.Finalizable, Gates: gates(rotation.Passed, rotation.Passed, rotation.Passed, rotation.Off)})
	ready.PullRequest, ready.Next = "https://github.com/acme/kernel/pull/2", "The pull request is open: review and merge it."
	over := NewStatus(record, rotation.Assessment{Phase: rotation.RolledBack})

	settings := rotation.DeploySettings(record.Incoming)
	add := Proposal{Record: record, BaseCommit: strings.Repeat("4", 40), RegistryBefore: strings.Repeat("45", 32), RegistryAfter: strings.Repeat("67", 32),
		Settings: settings, Contacts: []string{"on-call", "security@example.com"}, RunURL: "https://github.com/acme/kernel/actions/runs/77"}
	first := add
	first.Record.Outgoing, first.Record.Possession, first.RunURL = nil, nil, ""
	first.Record.Incoming = rotation.Signer{ID: "v1", Algorithm: "hmac-sha256", KMSKeyARN: "arn:aws:kms:eu-west-1:111122223333:key/3"}
	short := add
	short.Record.Policy = rotation.Policy{Overlap: rotation.Duration(time.Hour), ShortAllowed: true}
	retire := add
	retire.Record.Retirement = &rotation.Retirement{EvaluatedAt: later, Boundary: rotation.Mark{Position: 1216, Digest: digest}, Evidence: rotation.Evidence{Events: 1236, Head: head}, Gates: ready.Gates}
	back := add
	back.Record.Rollback = &rotation.Rollback{Reason: "the new key is refused, fixes #3"}
	back.Settings, back.Verdict = rotation.SettingsBack(*record.Outgoing), "signer v1 never left the registry: deploy its settings again"
	burnt := add
	burnt.Record.Rollback = &rotation.Rollback{At: later, Actor: "on-call", Reason: "the key stood in a log", Mode: rotation.ModeCompromise, Compromised: record.Outgoing, Boundary: &rotation.Mark{Position: 1200, Digest: digest}}
	burnt.Settings, burnt.Deploy = settings, record.Incoming.ID
	mac := burnt
	mac.Record.Rollback = &rotation.Rollback{At: later, Actor: "on-call", Reason: "the role was taken", Mode: rotation.ModeCompromise, Compromised: &first.Record.Incoming, Boundary: burnt.Record.Rollback.Boundary}

	trusting := []finding.Finding{{Rule: "stale-verifier", Severity: finding.Error, Message: "verifier https://v.example does not serve the published files"}}

	return map[string]string{
		"chain-verified": Chain(&chain.Report{Verdict: chain.Verified, Events: 1236, Length: 1236, Head: head, TruncationExcluded: true,
			Checkpoint: chain.CheckpointRange{From: "1200:" + head}, Signers: signers, UnauthenticatedColumns: columns}),
		"chain-failed": Chain(&chain.Report{Verdict: chain.Failed, Events: 1237, Length: 1236, Head: head, Signers: signers, Findings: bad, FindingsTotal: 2345, UnauthenticatedColumns: columns}),
		"chain-forked": Chain(&chain.Report{Verdict: chain.Failed, Events: 70, Length: 40, Head: head, Tips: []string{head, head}, Findings: bad[:1], FindingsTotal: 1, UnauthenticatedColumns: columns}),
		"chain-empty":  Chain(&chain.Report{Verdict: chain.Undetermined, UnauthenticatedColumns: columns}),

		"ticket-chain":    lines(ChainTicket(&chain.Report{Verdict: chain.Failed, Events: 1237, Length: 1236, Head: head, Findings: bad, FindingsTotal: 3, RegistrySHA256: head, Checkpoint: chain.CheckpointRange{From: "1200:" + head}})),
		"ticket-gates":    lines(GatesTicket([]Status{unproven, ready}, nil)),
		"ticket-trusting": lines(GatesTicket(nil, trusting)),
		"ticket-registry": lines(FindingsTicket("the registry is sound", "the registry is refused", bad[:2])),

		"gates-none":     Gates(nil, nil),
		"gates-trusting": Gates(nil, trusting),
		"gates-waiting":  Gates([]Status{waiting}, nil),
		"gates-against":  Gates([]Status{against}, nil),
		"gates-unproven": Gates([]Status{unproven}, nil),
		"gates-ready":    Gates([]Status{ready, over}, nil),

		"add-signer":       AddSigner(add),
		"add-first-signer": AddSigner(first),
		"add-short":        AddSigner(short),
		"finalize":         Finalize(retire),
		"rollback":         Rollback(back),
		"compromise":       Compromise(burnt, bad[:1], 1, ""),
		"compromise-mac":   Compromise(mac, nil, 0, ""),
		"closed":           Closed(bad[:1]),
		"registry-sound":   Registry(nil, 2, 1, head, strings.Repeat("1", 40), strings.Repeat("2", 40)),
		"registry-refused": Registry([]finding.Finding{{Rule: "key-changed", Severity: finding.Error, File: "kernel/tools/signers.json", Line: 3, Col: 5, Message: "the key changes"}}, 2, 0, "", "", ""),
	}
}

func lines(ticket [][2]string) string {
	var b strings.Builder
	for _, l := range ticket {
		b.WriteString("- " + l[0] + ": " + l[1] + "\n")
	}
	return b.String()
}

// The texts are goldens: make golden rewrites them, and the difference is
// reviewed as a reader of the pull request would see it.
func TestGoldens(t *testing.T) {
	all := texts(t)
	for name, text := range all {
		file := filepath.Join("testdata", name+".md")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%v; make golden writes it", err)
		} else if !bytes.Equal(want, []byte(text)) {
			t.Errorf("%s is not what is rendered now:\n%s", file, text)
		}
	}
	files, err := filepath.Glob("testdata/*.md")
	if err != nil || len(files) != len(all) {
		t.Errorf("%d golden files for %d texts: %v", len(files), len(all), err)
	}
}

// A bar in a code span ends a table's cell, unless a backslash stands before
// it; a backslash before that one takes the protection away.
func TestCodeInTables(t *testing.T) {
	for in, want := range map[string]string{
		"":         "–",
		"a":        "`a`",
		"a|b":      "`a\\|b`",
		`a\|b`:     "`a\\u007cb`",
		`a\\|b`:    "`a\\\\u007cb`",
		`a\`:       "`a\\`",
		"`":        "`` ` ``",
		"a`b``c":   "```a`b``c```",
		"`a":       "`` `a ``",
		"a\nb":     "`a\\u000ab`",
		"\u2066a":  "`\\u2066a`",
		"a\ufffdb": "`a\\ufffdb`",
	} {
		if got := code(in); got != want {
			t.Errorf("code(%q) is %q, want %q", in, got, want)
		}
	}
}

// Links are only those that look like ones.
func TestLink(t *testing.T) {
	for in, want := range map[string]string{
		"https://github.com/acme/kernel/pull/2": "<https://github.com/acme/kernel/pull/2>",
		"http://127.0.0.1:8080/x":               "<http://127.0.0.1:8080/x>",
		"":                                      "",
		"javascript:alert(1)":                   "javascript:alert(1)",
		"https://x/> @everyone":                 "https&#58;//x/&gt; @&#8203;everyone",
		"https://x/\u202e":                      `https&#58;//x/\\u202e`,
	} {
		if got := link(in); got != want {
			t.Errorf("link(%q) is %q, want %q", in, got, want)
		}
	}
}
