package report

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// hostile are texts that rows, files and inputs may hold.
var hostile = []string{
	"<script>alert(1)</script>", "@everyone", "a | b", "**bold**", "[click](https://evil.example)", "https://evil.example/x", "www.evil.example",
	"`code`", "``", "line\nbreak", "\x1b[31mred", "\u202eright to left", "\u200bzero width", "![img](x)", "# head", "~~~", "$x$", "&lt;", "\xff\xfe", strings.Repeat("x", 5000),
}

func with(p Proposal, r rotation.Record) Proposal {
	p.Record = r
	return p
}

// Nothing that is put into a text can act as more than text.
func TestHostileTexts(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, bad := range hostile {
		rec := rotation.Record{ID: bad, Actor: bad, Reason: bad, CreatedAt: at, Outgoing: &rotation.Signer{ID: bad}, Incoming: rotation.Signer{ID: bad, KMSKeyARN: bad},
			Retirement: &rotation.Retirement{Gates: []rotation.Gate{{ID: "G1", Name: bad, State: rotation.Passed, Detail: bad}}}, Rollback: &rotation.Rollback{Reason: bad}}
		undone := rec
		undone.Rollback = &rotation.Rollback{Reason: bad, Actor: bad, Mode: bad, Compromised: &rotation.Signer{ID: bad, Fingerprint: bad, KMSKeyARN: bad}, Boundary: &rotation.Mark{}}
		rec.Rollback = nil
		p := Proposal{Record: rec, Deploy: bad, Contacts: []string{bad}, RunURL: "https://github.example/run/1", Verdict: bad, BaseCommit: bad}
		rep := &chain.Report{Verdict: chain.Failed, Events: 1, Signers: map[string]chain.SignerUse{bad: {Events: 1, State: bad}},
			Findings: []finding.Finding{{Rule: bad, Severity: finding.Error, File: bad, Line: 1, EventID: bad, Message: bad}}, FindingsTotal: 1, UnauthenticatedColumns: []string{bad}}
		for name, text := range map[string]string{
			"chain":    Chain(rep),
			"registry": Registry(rep.Findings, 1, 0, bad, bad, bad),
			"gates":    Gates([]Status{NewStatus(rec, rotation.Assessment{Gates: rec.Retirement.Gates})}, nil),
			"add":      AddSigner(p),
			"finalize": Finalize(p),
			"rollback": Rollback(with(p, undone)), "compromise": Compromise(with(p, undone), rep.Findings, 1, ""), "unread": Affected(nil, 0, bad),
			"comment": Comment(Status{Rotation: bad, Phase: rotation.Phase(bad), Gates: rec.Retirement.Gates, Next: bad, PullRequest: "https://github.example/pull/1", Refused: true}),
			"closed":  Closed(rep.Findings),
		} {
			for _, c := range text {
				if c < ' ' && c != '\n' || c == '\u202e' || c == '\u200b' || c == 0x7f {
					t.Errorf("%s holds %U of %q", name, c, bad)
				}
			}
			outside := outsideOfCode(text)
			for _, acts := range []string{"<script", "@everyone", "](https:", "https://evil", "www.evil", "![", "**bold"} {
				if strings.Contains(outside, acts) {
					t.Errorf("%s lets %q act, of %q", name, acts, bad)
				}
			}
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "|") && strings.Count(line, "|")-strings.Count(line, `\|`) > 8 {
					t.Errorf("%s: a cell breaks its row: %q", name, line)
				}
				if len(line) > 20000 {
					t.Errorf("%s: a line of %d bytes", name, len(line))
				}
			}
		}
	}
}

// outsideOfCode is a text without its code spans and fences, in which nothing
// acts.
func outsideOfCode(text string) string {
	var b strings.Builder
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") && !strings.Contains(strings.TrimPrefix(line, "```"), "`") {
			fenced = !fenced
			continue
		}
		if fenced {
			continue
		}
		for i := 0; i < len(line); {
			if line[i] == '\\' && i+1 < len(line) {
				b.WriteByte(line[i])
				b.WriteByte(line[i+1])
				i += 2
				continue
			}
			if line[i] != '`' {
				b.WriteByte(line[i])
				i++
				continue
			}
			ticks := len(line[i:]) - len(strings.TrimLeft(line[i:], "`"))
			end := strings.Index(line[i+ticks:], strings.Repeat("`", ticks))
			if end < 0 {
				b.WriteString(line[i:])
				break
			}
			i += 2*ticks + end
		}
	}
	return b.String()
}

// A summary says first what the verdict is, and never "verified" of anything
// that is not.
func TestChainVerdicts(t *testing.T) {
	for verdict, head := range map[chain.Verdict]string{
		chain.Verified: "## ✔ Audit chain verified: 1,234,567 events", chain.Failed: "## ✖ Audit chain: verification FAILED",
	} {
		text := Chain(&chain.Report{Verdict: verdict, Events: 1234567, Length: 1234567, Head: "ab", UnauthenticatedColumns: chain.UnauthenticatedColumns})
		if !strings.HasPrefix(text, head) || !strings.Contains(text, "created_at") || !strings.Contains(text, "Without a checkpoint") {
			t.Errorf("%s: %s", verdict, text)
		}
	}
	for _, r := range []*chain.Report{{Verdict: chain.Failed}, {Verdict: chain.Undetermined}} {
		first, _, _ := strings.Cut(Chain(r), "\n")
		if strings.Contains(first, "✔") || strings.Contains(first, "chain verified") {
			t.Errorf("%s reads as a success: %s", r.Verdict, first)
		}
	}
	with := Chain(&chain.Report{Verdict: chain.Verified, Events: 1, TruncationExcluded: true, Checkpoint: chain.CheckpointRange{From: "1:ab"}})
	if strings.Contains(with, "Without a checkpoint") || !strings.Contains(with, "1:ab") {
		t.Error(with)
	}
}

// Only the worst findings are listed; the rest is counted.
func TestManyFindings(t *testing.T) {
	fs := make([]finding.Finding, 200)
	for i := range fs {
		fs[i] = finding.Finding{Rule: "fork", Severity: finding.Error, Message: "m"}
	}
	text := Chain(&chain.Report{Verdict: chain.Failed, Findings: fs, FindingsTotal: 4321})
	if strings.Count(text, "| – | m |") != listed+folded || !strings.Contains(text, "and 140 more") || !strings.Contains(text, "4,321 findings in") {
		t.Error(text)
	}
}

// The report files are what their schemas promise.
func TestReportFiles(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	rec := rotation.Record{ID: "rotate-x", CreatedAt: at}
	status := NewStatus(rec, rotation.Assessment{Phase: rotation.Active, DueAt: at, Boundary: rotation.Mark{Position: 4},
		Gates: []rotation.Gate{{ID: "G1", Name: "n", State: rotation.Unproven, Detail: "d"}}})
	for name, file := range map[schemas.Name]any{
		schemas.Gates: Rotations{Version: 1, Rotations: []Status{status, NewStatus(rec, rotation.Assessment{Phase: rotation.Archived})}},
		schemas.Report: &chain.Report{Version: 1, Verdict: chain.Failed, Signers: map[string]chain.SignerUse{"k": {State: "unknown"}},
			Findings: []finding.Finding{{Rule: "fork", Severity: finding.Error, Message: "m"}}, UnauthenticatedColumns: chain.UnauthenticatedColumns},
	} {
		text := JSON(file)
		violations, err := schemas.Violations(name, text)
		if err != nil || len(violations) > 0 || !json.Valid(text) {
			t.Errorf("%s: %v %v\n%s", name, err, violations, text)
		}
	}
}

func TestEnvFileHasOneLineASetting(t *testing.T) {
	text := EnvFile([][2]string{{"A", "1\nB=2"}, {"C", "3"}})
	if strings.Count(text, "\n") != 2 || strings.Contains(text, "\nB=") {
		t.Errorf("%q", text)
	}
}

func TestNumber(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := number(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// A rotation that is over says so, also where its record still holds the gates;
// what is judged of it afterwards comes first.
func TestHeadlineOfWhatIsOver(t *testing.T) {
	gate := func(s rotation.GateState) []rotation.Gate { return []rotation.Gate{{ID: "G5", State: s}} }
	for _, tc := range []struct {
		phase rotation.Phase
		gates []rotation.Gate
		mark  string
	}{
		{rotation.Archived, nil, "–"}, {rotation.Archived, gate(rotation.Passed), "–"}, {rotation.Archived, gate(rotation.Off), "–"},
		{rotation.Archived, gate(rotation.Against), "✖"}, {rotation.Archived, gate(rotation.Unproven), "?"}, {rotation.RolledBack, gate(rotation.Waiting), "…"},
		{rotation.Active, gate(rotation.Passed), "?"}, {rotation.Finalizable, gate(rotation.Passed), "✔"}, {rotation.Compromised, nil, "⚠"},
	} {
		if got := headlineOf(Status{Phase: tc.phase, Gates: tc.gates}); got.Mark != tc.mark {
			t.Errorf("%s with %v: %+v, want %s", tc.phase, tc.gates, got, tc.mark)
		}
	}
}
