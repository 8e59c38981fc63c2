package gha

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// hostile are texts that a database row, a file or a pull request may hold.
var hostile = []string{
	"a\nb", "a\r\nb", "a\rb", "a%0Ab", "a%0D%0A::error::b",
	"::set-output name=verdict::verified", "\n::set-output name=verdict::verified",
	"  ::error::x", "\t::stop-commands::x", "\u00a0::add-mask::x", "\ufeff::error::x",
	"##[set-output name=verdict]verified", "a ##[error]b", "\n##[group]x",
	"\x1b[2J\x1b[31mred", "\x9b31m", "\x00", "\x7f", "\u0085", "\u2028::error::x",
	"\u202eevil", "\u2066x\u2069", "\u200b", "\U000e0041",
	"${{ secrets.TOKEN }}", "$(id) `id`", "\xff\xfe", "\xed\xa0\x80",
	strings.Repeat("long", 5000),
}

// commands matches what a runner obeys: "::command::" at the start of a line
// after any white space, and "##[command]" anywhere in it.
var commands = regexp.MustCompile(`(?m)^[\s\x{00a0}\x{feff}]*::|##\[`)

// harmless says what is wrong with printed text.
func harmless(text string) error {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if !utf8.ValidString(line) {
			return fmt.Errorf("%q is not UTF-8", line)
		}
		if i := strings.IndexFunc(line, func(c rune) bool { return !strconv.IsGraphic(c) || unicode.In(c, unicode.Cf, unicode.Bidi_Control) }); i >= 0 {
			return fmt.Errorf("byte %d of %q is no plain text", i, line)
		}
		if len(line) > maxLine+400 {
			return fmt.Errorf("a line of %d bytes", len(line))
		}
	}
	return nil
}

func TestLogf(t *testing.T) {
	for _, text := range hostile {
		for _, hosted := range []bool{false, true} {
			r := (&runner{hosted: hosted}).run(t, func(_ context.Context, r *Run, _ inputs) error {
				r.Logf("%s", text)
				r.Logf("event %s, %v", text, errors.New(text))
				return nil
			})
			got := r.stderr
			if hosted {
				got = r.stdout
			}
			if strings.Count(got, "\n") != 2 || r.stdout+r.stderr != got {
				t.Errorf("%q: printed %q and %q, want two lines", text, r.stdout, r.stderr)
			}
			if err := harmless(got); err != nil {
				t.Errorf("%q: %v", text, err)
			}
			if commands.MatchString(got) {
				t.Errorf("%q became a command: %q", text, got)
			}
		}
	}
}

func TestLogfKeepsPlainText(t *testing.T) {
	r := (&runner{}).run(t, func(_ context.Context, r *Run, _ inputs) error {
		r.Logf("dial tcp [::1]:%d: naïve – 100%% 密 %s", 5432, `C:\new`)
		return nil
	})
	if want := "dial tcp [::1]:5432: naïve – 100% 密 C:\\new\n"; r.stderr != want {
		t.Errorf("printed %q, want %q", r.stderr, want)
	}
}

func TestFindingsLocally(t *testing.T) {
	r := (&runner{}).run(t, func(_ context.Context, r *Run, _ inputs) error {
		r.Findings([]finding.Finding{
			{Rule: "duplicate-id", Severity: finding.Error, File: "signers.json", Line: 3, Col: 5, Message: "the id a is there twice"},
			{Rule: "fork", Severity: finding.Warning, Position: 7, EventID: "e\n::x", Message: "two rows"},
		})
		return Failed
	})
	want := "signers.json:3:5: error: the id a is there twice [duplicate-id]\n" +
		`position 7, event e\n::x: warning: two rows [fork]` + "\n"
	if r.stdout != want || r.stderr != "" || r.code != 1 {
		t.Errorf("exit code %d, printed %q and %q, want %q", r.code, r.stdout, r.stderr, want)
	}
}

func TestFindingsAsAnnotations(t *testing.T) {
	r := (&runner{hosted: true, env: []string{"GITHUB_WORKSPACE=/home/runner/r"}}).run(t, func(_ context.Context, r *Run, _ inputs) error {
		r.Findings([]finding.Finding{
			{Rule: "duplicate-id", Severity: finding.Error, File: "a,b:c.json", Line: 3, Col: 5, Message: "100% wrong: a, b"},
			{Rule: "weak-key", Severity: finding.Warning, File: "/home/runner/r/kernel/signers.json", Line: 1, Message: "m"},
			{Rule: "fork", Severity: finding.Note, Position: 7, EventID: "e", Message: "two rows"},
			{Rule: "x", Severity: finding.Error, File: "/elsewhere/signers.json", Message: "m"},
		})
		return Failed
	})
	want := `::error col=5,file=a%2Cb%3Ac.json,line=3,title=duplicate-id::100%25 wrong: a, b
::warning file=kernel/signers.json,line=1,title=weak-key::m
::notice title=fork::position 7, event e: two rows
::error file=/elsewhere/signers.json,title=x::m
`
	if r.stdout != want {
		t.Errorf("printed\n%s\nwant\n%s", r.stdout, want)
	}
}

func TestHostileFindings(t *testing.T) {
	for _, text := range hostile {
		r := (&runner{hosted: true}).run(t, func(_ context.Context, r *Run, _ inputs) error {
			r.Findings([]finding.Finding{
				{Rule: "r", Severity: finding.Error, File: text, Line: 1, Message: text},
				{Rule: "r", Severity: finding.Error, EventID: text, Message: text},
			})
			return Failed
		})
		lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
		if len(lines) != 2 {
			t.Errorf("%q: %d lines, want 2: %q", text, len(lines), r.stdout)
		}
		for _, line := range lines {
			if !strings.HasPrefix(line, "::error ") || strings.Contains(line, "##[") {
				t.Errorf("%q became another command: %q", text, line)
			}
			if text := strings.ReplaceAll(line, "%25", "%"); len(text) < 2*maxLine {
				if err := harmless(strings.NewReplacer("%3A", ":", "%2C", ",").Replace(text[:min(len(text), maxLine)])); err != nil {
					t.Errorf("%v", err)
				}
			}
		}
	}
}

func TestAnnotationLimit(t *testing.T) {
	many := func(n int, s finding.Severity) (fs []finding.Finding) {
		for i := range n {
			fs = append(fs, finding.Finding{Rule: "r", Severity: s, Message: fmt.Sprint(i)})
		}
		return fs
	}
	say := func(_ context.Context, r *Run, _ inputs) error {
		r.Findings(append(many(12, finding.Error), many(11, finding.Warning)...))
		r.Findings(many(1, finding.Error))
		return Failed
	}
	r := (&runner{hosted: true}).run(t, say)
	for text, n := range map[string]int{"::error ": 10, "::warning ": 10, "and 3 more (see the summary)\n": 1, "and 1 more (see the summary)\n": 1} {
		if got := strings.Count(r.stdout, text); got != n {
			t.Errorf("%q stands there %d times, want %d:\n%s", text, got, n, r.stdout)
		}
	}
	local := (&runner{}).run(t, say)
	if got := strings.Count(local.stdout, "\n"); got != 24 {
		t.Errorf("a terminal shows %d of 24 findings", got)
	}
}

var outputFile = regexp.MustCompile(`\Averdict<<([0-9a-f]{32})\nverified\n([0-9a-f]{32})\nhead<<([0-9a-f]{32})\n\n([0-9a-f]{32})\n\z`)

func TestOutput(t *testing.T) {
	run := func(_ context.Context, r *Run, _ inputs) error {
		r.Output("verdict", "verified")
		r.Output("head", "")
		r.Summary("# Verified\n")
		r.Summary("all of it\n")
		return nil
	}
	hosted := (&runner{hosted: true}).run(t, run)
	m := outputFile.FindStringSubmatch(hosted.outputs)
	if m == nil || m[1] != m[2] || m[3] != m[4] || m[1] == m[3] {
		t.Errorf("the output file holds %q", hosted.outputs)
	}
	if hosted.summary != "# Verified\nall of it\n\n" || hosted.stdout != "" {
		t.Errorf("summary %q, printed %q", hosted.summary, hosted.stdout)
	}
	local := (&runner{}).run(t, run)
	if local.stdout != "verdict=verified\nhead=\n" || local.stderr != "" {
		t.Errorf("printed %q and %q", local.stdout, local.stderr)
	}
}

func TestOutputRefused(t *testing.T) {
	for _, value := range []string{"a\nb", "a\rb", "a\n" + "verdict=verified", "é", "\x1b[0m", "\x7f", "\x00"} {
		r := (&runner{hosted: true}).run(t, func(_ context.Context, r *Run, _ inputs) error {
			r.Output("verdict", "verified")
			r.Output("head", value)
			return nil
		})
		if r.code != 3 || !strings.Contains(r.stdout, "could not tell: the output head would hold") {
			t.Errorf("%q: exit code %d, printed %q", value, r.code, r.stdout)
		}
		if strings.Contains(r.outputs, "verified") || !strings.Contains(r.outputs, "\nundetermined\n") {
			t.Errorf("%q: outputs %q", value, r.outputs)
		}
		failed := (&runner{}).run(t, func(_ context.Context, r *Run, _ inputs) error {
			r.Output("head", value)
			return Failed
		})
		if failed.code != 1 || !strings.Contains(failed.stderr, "besides, the output head") {
			t.Errorf("%q beside findings: exit code %d, printed %q", value, failed.code, failed.stderr)
		}
	}
	undeclared := (&runner{}).run(t, func(_ context.Context, r *Run, _ inputs) error {
		r.Output("haed", "x")
		return nil
	})
	if undeclared.code != 3 || !strings.Contains(undeclared.stderr, "does not declare the output haed") {
		t.Errorf("exit code %d, printed %q", undeclared.code, undeclared.stderr)
	}
}

// A run that could not tell leaves no success behind, whatever it had said
// before; one that tells so itself publishes what it wants.
func TestWhatAFailedRunPublishes(t *testing.T) {
	tests := []struct {
		err              error
		outputs, summary string
	}{
		{errors.New("connection reset"), "undetermined", ""},
		{Misuse("no such table"), "undetermined", ""},
		{Undecided, "mine", "mine\n\n"},
		{Failed, "mine", "mine\n\n"},
		{nil, "mine", "mine\n\n"},
	}
	for _, test := range tests {
		run := func(_ context.Context, r *Run, _ inputs) error {
			r.Output("verdict", "mine")
			r.Summary("mine\n")
			return test.err
		}
		r := (&runner{hosted: true}).run(t, run)
		if !strings.Contains(r.outputs, "\n"+test.outputs+"\n") || strings.Count(r.outputs, "verdict<<") != 1 || r.summary != test.summary {
			t.Errorf("%v: outputs %q, summary %q", test.err, r.outputs, r.summary)
		}
		if local := (&runner{}).run(t, run); strings.Contains(local.stdout, "verdict=mine") != (test.outputs == "mine") {
			t.Errorf("%v: printed %q", test.err, local.stdout)
		}
	}
}

// A success that could not be told is taken back.
func TestUnwritableRunnerFiles(t *testing.T) {
	say := func(_ context.Context, r *Run, _ inputs) error {
		r.Output("verdict", "verified")
		r.Summary("verified")
		return nil
	}
	nowhere := filepath.Join(t.TempDir(), "none", "file")
	r := (&runner{hosted: true, env: []string{"GITHUB_OUTPUT=" + nowhere}}).run(t, say)
	if r.code != 3 || !strings.Contains(r.stdout, "could not tell: the runner took no outputs") || r.summary != "" {
		t.Errorf("no outputs: exit code %d, printed %q, summary %q", r.code, r.stdout, r.summary)
	}
	r = (&runner{hosted: true, env: []string{"GITHUB_STEP_SUMMARY=" + nowhere}}).run(t, say)
	last := strings.Split(strings.TrimSpace(r.outputs), "\n")
	if r.code != 3 || len(last) < 2 || last[len(last)-2] != "undetermined" {
		t.Errorf("no summary: exit code %d, outputs %q", r.code, r.outputs)
	}
	r = (&runner{hosted: true, env: []string{"GITHUB_OUTPUT=" + nowhere}}).run(t, func(_ context.Context, r *Run, _ inputs) error {
		r.Output("verdict", "failed")
		return Failed
	})
	if r.code != 1 || !strings.Contains(r.stdout, "besides, the runner took no outputs") {
		t.Errorf("findings: exit code %d, printed %q", r.code, r.stdout)
	}
}

func TestSummaryIsCut(t *testing.T) {
	line := strings.Repeat("é", 100) + "\n"
	r := (&runner{hosted: true}).run(t, func(_ context.Context, r *Run, _ inputs) error {
		for range 10000 {
			r.Summary(line)
		}
		return nil
	})
	body, ok := strings.CutSuffix(r.summary, summaryCut+"\n")
	if !ok || len(r.summary) > maxSummary+1 || len(body) < maxSummary-2000 {
		t.Fatalf("a summary of %d bytes ends in %q", len(r.summary), r.summary[len(r.summary)-100:])
	}
	if strings.ReplaceAll(body, line, "") != "" {
		t.Error("the summary is not cut at the end of a line")
	}
}

// Nothing but outputs and summary is ever written: a step that could set
// GITHUB_ENV or GITHUB_PATH could take over the steps after it.
func TestEnvAndPathStayEmpty(t *testing.T) {
	dir := t.TempDir()
	r := (&runner{hosted: true, env: []string{"GITHUB_ENV=" + dir + "/env", "GITHUB_PATH=" + dir + "/path", "GITHUB_STATE=" + dir + "/state"}}).run(t,
		func(_ context.Context, r *Run, _ inputs) error {
			r.Output("verdict", "verified")
			r.Summary("x")
			r.Logf("x")
			return Failed
		})
	if files, err := os.ReadDir(dir); r.code != 1 || err != nil || len(files) != 0 {
		t.Errorf("exit code %d, written: %v, %v", r.code, files, err)
	}
}

func TestOutputJSON(t *testing.T) {
	for _, text := range append(hostile[:len(hostile)-1], "plain", "é", "密", "😀", "\U0010ffff", `"\`, "<&>") {
		want := strings.ToValidUTF8(text, "\ufffd")
		if text == "\xff\xfe" || text == "\xed\xa0\x80" {
			want = strings.Repeat("\ufffd", len(text)) // one for each byte
		}
		r := (&runner{}).run(t, func(_ context.Context, r *Run, _ inputs) error {
			r.OutputJSON("head", map[string]any{"text": text, "n": 1})
			return nil
		})
		line, ok := strings.CutPrefix(r.stdout, "head=")
		var got struct{ Text string }
		if err := json.Unmarshal([]byte(line), &got); !ok || err != nil || got.Text != want {
			t.Errorf("%q: printed %q, which reads as %q, %v", text, r.stdout, got.Text, err)
		}
	}
	r := (&runner{}).run(t, func(_ context.Context, r *Run, _ inputs) error {
		r.OutputJSON("head", make(chan int))
		return nil
	})
	if r.code != 3 || !strings.Contains(r.stderr, "the output head cannot be JSON") {
		t.Errorf("exit code %d, printed %q", r.code, r.stderr)
	}
}

// The end of a log can be pasted into a ticket: aligned, without what is empty,
// and in colours only where a person looks at a terminal and wants them.
func TestTicket(t *testing.T) {
	lines := [][2]string{{"verdict", "✖ refused"}, {"signer", ""}, {"next", "repair it"}}
	const plain = "\nverdict  ✖ refused\nnext     repair it\nexit     1\n"
	for name, tc := range map[string]struct {
		terminal bool
		environ  []string
		want     string
	}{
		"in a log":           {false, nil, plain},
		"on a terminal":      {true, []string{"TERM=xterm"}, strings.Replace(plain, "verdict  ✖ refused", "\x1b[1;31mverdict  ✖ refused\x1b[0m", 1)},
		"without colours":    {true, []string{"NO_COLOR=1"}, plain},
		"on a dumb terminal": {true, []string{"TERM=dumb"}, plain},
		"on a runner":        {true, []string{"GITHUB_ACTIONS=true", "GITHUB_REPOSITORY=acme/kernel", "GITHUB_RUN_ID=7"}, plain + "run      https://github.com/acme/kernel/actions/runs/7\n"},
	} {
		var out strings.Builder
		code := Exec(t.Context(), []byte(spec), Process{Stdout: &out, Stderr: &out, Environ: tc.environ, Terminal: tc.terminal}, func(_ context.Context, r *Run, _ inputs) error {
			r.Ticket(lines)
			return Failed
		})
		if code != 1 || out.String() != tc.want {
			t.Errorf("%s: %d, %q, want %q", name, code, out.String(), tc.want)
		}
	}
	// A run that broke off has no verdict to paste; a hostile text is one line.
	for _, text := range hostile {
		var out strings.Builder
		Exec(t.Context(), []byte(spec), Process{Stdout: &out, Stderr: &out, Terminal: true}, func(_ context.Context, r *Run, _ inputs) error {
			r.Ticket([][2]string{{text, text}})
			return nil
		})
		if got := out.String(); strings.Count(got, "\n") != 3 || harmless(got) != nil || commands.MatchString(got) {
			t.Errorf("%q: %q", text, got)
		}
		out.Reset()
		Exec(t.Context(), []byte(spec), Process{Stdout: &out, Stderr: &out}, func(_ context.Context, r *Run, _ inputs) error {
			r.Ticket(lines)
			return errors.New("no connection")
		})
		if strings.Contains(out.String(), "verdict") {
			t.Errorf("a run that broke off has a verdict: %q", out.String())
		}
	}
}

// A summary that is cut ends with the note in plain sight: not in a code block,
// not in what is folded.
func TestCutSummaryClosesWhatIsOpen(t *testing.T) {
	long := strings.Repeat("| a row |\n", maxSummary/9)
	for name, open := range map[string]string{"plain": "", "folded": "<details><summary>more</summary>\n\n", "a block": "```mermaid\n", "both": "<details><summary>more</summary>\n\n```\n"} {
		got := cutSummary(open + long)
		if len(got) > maxSummary || !strings.HasSuffix(got, summaryCut) {
			t.Errorf("%s: %d bytes, ends with %q", name, len(got), got[len(got)-200:])
		}
		if strings.Count(got, "<details>") != strings.Count(got, "</details>") || strings.Count(got, "```")%2 != 0 {
			t.Errorf("%s: something stays open: %q", name, got[len(got)-200:])
		}
	}
}
