package report

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// hostile are texts that rows, files and inputs may hold.
var hostile = []string{
	"<script>alert(1)</script>", "@everyone", "a | b", "**bold**", "[click](https://evil.example)", "https://evil.example/x", "www.evil.example",
	"`code`", "``", "line\nbreak", "\x1b[31mred", "\u202eright to left", "\u200bzero width", "![img](x)", "# head", "~~~", "$x$", "&lt;", "\xff\xfe", strings.Repeat("x", 5000),
}

func with(p Proposal, r record.Record) Proposal {
	p.Record = r
	return p
}

// hostileMoves has one move of each kind, with one text wherever it has a text.
func hostileMoves(bad string) (open, promote, retire, withdraw, rollBack, compromise record.Move) {
	by := record.By{At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Actor: bad, Reason: bad, RunURL: bad}
	s := record.Signer{ID: bad, Algorithm: pubkey.Algorithm(bad), Fingerprint: bad, KMSKeyARN: bad}
	proof := &pubkey.Possession{Challenge: bad, Digest: bad, Signature: bad}
	return &record.Open{By: by, Signer: s, Replaces: &s, Possession: proof},
		&record.Promote{By: by, Signer: s, Replaces: s},
		&record.Retire{By: by, Signer: s, PublishedIn: 1,
			Gates:    []record.Gate{{ID: bad, Name: bad, State: record.GateState(bad), Detail: bad}},
			Evidence: record.Evidence{Events: 1, Head: bad, RegistrySHA256: bad, ArchiveSHA256: bad, Checkpoint: bad, ReportSHA256: bad}},
		&record.Withdraw{By: by, Signer: s},
		&record.RollBack{By: by, Signer: s, Window: &record.Window{Events: 1}},
		&record.Compromise{By: by, Signer: s}
}

// Nothing that is put into a text can act as more than text.
func TestHostileTexts(t *testing.T) {
	for _, bad := range hostile {
		open, promote, retire, withdraw, rollBack, compromise := hostileMoves(bad)
		p := Proposal{Deploy: bad, Contacts: []string{bad}, RunURL: "https://github.example/run/1", Verdict: bad, BaseCommit: bad,
			Settings: [][2]string{{"AUDIT_SIGNER_KID", bad}}}
		of := func(moves ...record.Move) Proposal { return with(p, record.Record{ID: bad, Moves: moves}) }
		judged := []record.Gate{{ID: "G1", Name: bad, State: record.Passed, Detail: bad}}
		rep := &chain.Report{Verdict: chain.Failed, Events: 1, Signers: map[string]chain.SignerUse{bad: {Events: 1, State: bad}},
			Findings: []finding.Finding{{Rule: bad, Severity: finding.Error, File: bad, Line: 1, EventID: bad, Message: bad}}, FindingsTotal: 1, UnauthenticatedColumns: []string{bad}}
		for name, text := range map[string]string{
			"chain":      Chain(rep),
			"registry":   Registry(rep.Findings, 1, 0, bad, bad, bad),
			"gates":      Gates([]Status{NewStatus(of(open).Record, rotation.Assessment{Gates: judged})}, nil),
			"strange":    Gates([]Status{NewStatus(of(open).Record, rotation.Assessment{Gates: retire.(*record.Retire).Gates})}, nil),
			"add":        AddSigner(of(open)),
			"promote":    AddSigner(of(open, promote)),
			"finalize":   Finalize(of(open, retire)),
			"rollback":   Rollback(of(open, rollBack)),
			"withdraw":   Rollback(of(open, withdraw)),
			"compromise": Compromise(of(compromise), rep.Findings, 1, ""),
			"unread":     Affected(nil, 0, bad),
			"comment":    Comment(Status{Rotation: bad, Phase: record.Phase(bad), Gates: judged, Next: bad, PullRequest: "https://github.example/pull/1", Refused: true}),
			"closed":     Closed(rep.Findings),
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
	rec := record.Record{ID: "rotate-x", Moves: []record.Move{&record.Open{By: record.By{At: at}}}}
	status := NewStatus(rec, rotation.Assessment{Phase: rotation.Active, DueAt: at, Boundary: record.Mark{Position: 4},
		Gates: []record.Gate{{ID: "G1", Name: "n", State: record.Unproven, Detail: "d"}}})
	for name, file := range map[schemas.Name]any{
		schemas.Gates: Rotations{Version: 1, Rotations: []Status{status, NewStatus(rec, rotation.Assessment{Phase: record.Archived})}},
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

// A rotation that is over says so, also where gates are shown that were judged when it
// ended; what is judged of it afterwards comes first.
func TestHeadlineOfWhatIsOver(t *testing.T) {
	open := &record.Open{}
	rec := record.Record{ID: "rotate-x", Moves: []record.Move{open}}
	gate := func(id string, s record.GateState) []record.Gate { return []record.Gate{{ID: id, State: s}} }
	for name, tc := range map[string]struct {
		phase record.Phase
		gates []record.Gate
		want  string
	}{
		"archived":                            {record.Archived, nil, "–"},
		"archived, its key is quiet":          {record.Archived, gate("G5", record.Passed), "–"},
		"archived, the trail is switched off": {record.Archived, gate("G5", record.Off), "–"},
		"archived, its key still signs":       {record.Archived, gate("G5", record.Against), "✖"},
		"archived, the trail says nothing":    {record.Archived, gate("G5", record.Unproven), "?"},
		"archived, the trail is late":         {record.Archived, gate("G5", record.Waiting), "…"},
		"archived, as its record says":        {record.Archived, gate("G8", record.Waiting), "–"},
		"withdrawn":                           {record.WithdrawnPhase, nil, "–"},
		"rolled back":                         {record.RolledBackPhase, nil, "–"},
		"rolled back, the new signer waits":   {record.RolledBackPhase, gate("G5", record.Waiting), "…"},
		"published, replaces nobody":          {record.Standby, nil, "–"},
		"proposed":                            {rotation.Proposed, nil, "…"},
		"under way":                           {rotation.Active, gate("G5", record.Passed), "?"},
		"to be archived":                      {rotation.Finalizable, gate("G5", record.Passed), "✔"},
		"to be archived by a merge":           {rotation.Finalizable, gate("G8", record.Waiting), "✔"},
		"compromised":                         {record.CompromisedPhase, nil, "⚠"},
		"compromised, its key still signs":    {record.CompromisedPhase, gate("G5", record.Against), "⚠"},
	} {
		if got := headlineOf(NewStatus(rec, rotation.Assessment{Phase: tc.phase, Gates: tc.gates})); got.Mark != tc.want {
			t.Errorf("%s: got %s %q, want %s", name, got.Mark, got.Text, tc.want)
		}
	}
}
