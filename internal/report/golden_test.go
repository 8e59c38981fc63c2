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
	"github.com/agent-manager/audit-signer-rotation/internal/record"
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
	by := func(at time.Time, actor, reason string) record.By {
		return record.By{At: at, Actor: actor, Reason: reason}
	}
	captain := by(noon, "release-captain", "the yearly rotation, see <incident> #12")
	v1 := record.Signer{ID: "v1", Algorithm: "rsa-sha256", Fingerprint: strings.Repeat("01", 32), KMSKeyARN: "arn:aws:kms:eu-west-1:111122223333:key/1"}
	v2 := record.Signer{ID: "v2", Algorithm: "ed25519", Fingerprint: strings.Repeat("23", 32), KMSKeyARN: "arn:aws:kms:eu-west-1:111122223333:key/2"}
	mac := record.Signer{ID: "v1", Algorithm: "hmac-sha256", KMSKeyARN: "arn:aws:kms:eu-west-1:111122223333:key/3"}
	policy := record.Policy{Overlap: record.Duration(48 * time.Hour), Propagation: record.Duration(5 * time.Minute)}
	standby := &record.Open{By: captain, Signer: v2, Policy: policy, Possession: &pubkey.Possession{}}
	open := &record.Open{By: captain, Signer: v2, Replaces: &v1, Policy: policy, Possession: &pubkey.Possession{}}
	of := func(moves ...record.Move) record.Record { return record.Record{ID: "rotate-v2-fb04dcb6", Moves: moves} }
	rotated := of(open)
	gates := func(states ...record.GateState) []record.Gate {
		var all []record.Gate
		for i, s := range states {
			all = append(all, record.Gate{ID: "G" + string(rune('1'+i)), Name: "gate " + string(rune('1'+i)), State: s, Detail: "because of " + string(s)})
		}
		return all
	}
	status := func(phase record.Phase, states ...record.GateState) Status {
		return NewStatus(rotated, rotation.Assessment{Phase: phase, Gates: gates(states...)})
	}
	waiting := status(rotation.Retiring, record.Waiting, record.Passed, record.Waiting, record.Off, record.Unproven)
	against := status(rotation.Active, record.Waiting, record.Against, record.Waiting)
	unproven := status(rotation.Active, record.Passed, record.Passed, record.Waiting, record.Unproven)
	ready := status(rotation.Finalizable, record.Passed, record.Passed, record.Passed, record.Off)
	ready.PullRequest, ready.Next = "https://github.com/acme/kernel/pull/2", "The pull request is open: review and merge it."
	over := status(record.RolledBackPhase)

	settings := rotation.DeploySettings(v2)
	add := Proposal{Record: rotated, BaseCommit: strings.Repeat("4", 40), RegistryBefore: strings.Repeat("45", 32), RegistryAfter: strings.Repeat("67", 32),
		Settings: settings, Contacts: []string{"on-call", "security@example.com"}, RunURL: "https://github.com/acme/kernel/actions/runs/77"}
	first := with(add, of(&record.Open{By: captain, Signer: mac, Policy: policy}))
	first.RunURL = ""
	short := with(add, of(&record.Open{By: captain, Signer: v2, Replaces: &v1, Possession: &pubkey.Possession{},
		Policy: record.Policy{Overlap: record.Duration(time.Hour), ShortAllowed: true}}))
	promote := with(add, of(standby, &record.Promote{By: by(later, "on-call", "v1 is worn out"), Signer: v2, Replaces: v1, Policy: policy}))
	promote.RegistryAfter = promote.RegistryBefore
	retire := with(add, of(open, &record.Retire{By: by(later, "audit-signer[bot]", captain.Reason), Signer: v1,
		Boundary: record.Mark{Position: 1216, Digest: digest}, Evidence: record.Evidence{Events: 1236, Head: head}, Gates: ready.Gates}))
	back := with(add, of(open, &record.RollBack{By: by(later, "on-call", "the new key is refused, fixes #3"), Signer: v1}))
	back.Settings, back.Deploy, back.Verdict = rotation.SettingsBack(v1), "v1", "signer v1 never left the registry: deploy its settings again"
	withdraw := with(back, of(open, &record.Withdraw{By: by(later, "on-call", "nobody needs it"), Signer: v2}))
	withdraw.Verdict += "; signer v2 has signed 0 events and is withdrawn"
	stolen := func(s record.Signer, why string) Proposal {
		boundary := record.Mark{Position: 1200, Digest: digest}
		p := with(add, record.Record{ID: record.CompromiseID(s.ID), Moves: []record.Move{
			&record.Compromise{By: by(later, "on-call", why), Signer: s, Boundary: boundary}}})
		p.Settings, p.Deploy = settings, "v2"
		return p
	}

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
		"promote-signer":   AddSigner(promote),
		"finalize":         Finalize(retire),
		"rollback":         Rollback(back),
		"withdraw":         Rollback(withdraw),
		"compromise":       Compromise(stolen(v1, "the key stood in a log"), bad[:1], 1, ""),
		"compromise-mac":   Compromise(stolen(mac, "the role was taken"), nil, 0, ""),
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
