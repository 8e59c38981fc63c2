package gha

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sethvargo/go-githubactions"

	"github.com/agent-manager/audit-signer-rotation/internal/actionspec"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// Limits of the runner's display: ten annotations of a level for each step,
// and 1 MiB of summary, above which the whole summary is dropped
// (docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands).
const (
	maxAnnotations = 10
	maxSummary     = 900 << 10
	maxLine        = 4000
)

const summaryCut = "\n\n*The summary was cut here, because a runner shows no more than 1 MiB.*\n"

// levels names the annotations by severity.
var levels = map[finding.Severity]string{finding.Note: "notice", finding.Warning: "warning", finding.Error: "error"}

// Logf prints one line. Line ends, control and invisible characters in it are
// escaped, and it can be no workflow command.
func (r *Run) Logf(format string, args ...any) {
	r.erase()
	fmt.Fprintln(r.log, r.clean(fmt.Sprintf(format, args...)))
}

// Terminal tells whether a status line can be drawn: a person looks at a
// terminal that knows how to erase a line, and no runner keeps a log.
func (r *Run) Terminal() bool { return r.terminal }

// Status draws a line that stays until the next one, or until anything else is
// printed. Without a terminal it does nothing.
func (r *Run) Status(text string) {
	if !r.terminal {
		return
	}
	fmt.Fprint(r.log, eraseLine+r.clean(text))
	r.drawn = true
}

// eraseLine is ECMA-48's EL behind a carriage return.
const eraseLine = "\r\x1b[K"

func (r *Run) erase() {
	if r.drawn {
		fmt.Fprint(r.log, eraseLine)
		r.drawn = false
	}
}

// Ticket sets the last lines of the log, each a name and a text: what somebody
// pastes into a ticket. They are printed when the run has ended, together with
// where it ran; a run that broke off ends with its error instead.
func (r *Run) Ticket(lines [][2]string) { r.ticket = lines }

// printTicket prints the ticket. On a terminal the first line of a verdict is
// coloured by its mark, unless NO_COLOR asks for none (no-color.org).
func (r *Run) printTicket(code int) {
	if len(r.ticket) == 0 {
		return
	}
	lines := append(slices.Clone(r.ticket), [2]string{"exit", strconv.Itoa(code)})
	if o := r.Origin(); o.RunURL != "" {
		lines = append(lines, [2]string{"run", o.RunURL})
	}
	lines = slices.DeleteFunc(lines, func(l [2]string) bool { return l[1] == "" })
	width := 0
	for _, l := range lines {
		width = max(width, utf8.RuneCountInString(l[0]))
	}
	r.Logf("")
	for _, l := range lines {
		text := r.clean(fmt.Sprintf("%-*s  %s", width, l[0], l[1]))
		if colour := colours[firstRune(l[1])]; colour != "" && l[0] == "verdict" && r.terminal && r.env["NO_COLOR"] == "" {
			text = colour + text + "\x1b[0m"
		}
		fmt.Fprintln(r.log, text)
	}
}

// colours of verdicts: green, red; what is open stays plain.
var colours = map[rune]string{'✔': "\x1b[1;32m", '✖': "\x1b[1;31m"}

func firstRune(s string) rune {
	c, _ := utf8.DecodeRuneInString(s)
	return c
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// clean makes one harmless line of text: without secrets, in printable UTF-8,
// not endless, and neither "::command::" nor "##[command]", the two forms that
// a runner would obey.
func (r *Run) clean(text string) string {
	text = r.hide.Replace(text)
	var line strings.Builder
	for len(text) > 0 {
		if line.Len() >= maxLine {
			fmt.Fprintf(&line, "… (%d bytes more)", len(text))
			break
		}
		c, size := utf8.DecodeRuneInString(text)
		switch {
		case c == utf8.RuneError && size == 1:
			fmt.Fprintf(&line, `\x%02x`, text[0])
		case strconv.IsPrint(c):
			line.WriteRune(c)
		default:
			line.WriteString(strings.Trim(strconv.QuoteRuneToASCII(c), "'"))
		}
		text = text[size:]
	}
	safe := strings.ReplaceAll(line.String(), "##[", `#\x23[`)
	if trimmed := strings.TrimLeft(safe, " "); strings.HasPrefix(trimmed, "::") {
		safe = `\x3a` + trimmed[1:]
	}
	return safe
}

// annotate shows a message at a level (notice, warning or error), as an
// annotation where a runner listens.
func (r *Run) annotate(level string, at githubactions.CommandProperties, message string) {
	r.erase()
	if !r.hosted {
		fmt.Fprintln(r.log, r.clean(level+": "+message))
		return
	}
	for name, value := range at {
		at[name] = r.clean(value)
	}
	r.actions.IssueCommand(&githubactions.Command{Name: level, Properties: at, Message: r.clean(message)})
}

// Findings shows findings in the order given. On a runner only the first ten
// errors and the first ten warnings (and notes) of the whole run become
// annotations, as it displays no more; the summary is the place for the rest.
func (r *Run) Findings(fs []finding.Finding) {
	r.erase()
	more := 0
	for _, f := range fs {
		level := levels[f.Severity]
		switch {
		case !r.hosted:
			fmt.Fprintln(r.stdout, r.clean(f.String()))
		case r.shown[level] == maxAnnotations:
			more++
		default:
			r.shown[level]++
			r.annotate(level, r.place(f), message(f))
		}
	}
	if more > 0 {
		r.Logf("and %d more (see the summary)", more)
	}
}

// message carries the place of a finding that has no file to be shown in.
func message(f finding.Finding) string {
	if f.File == "" && f.Where() != "" {
		return f.Where() + ": " + f.Message
	}
	return f.Message
}

// place gives an annotation its title and, in the repository, its line.
func (r *Run) place(f finding.Finding) githubactions.CommandProperties {
	at := githubactions.CommandProperties{"title": f.Rule}
	if f.File == "" {
		return at
	}
	at["file"] = f.File
	if rel, ok := strings.CutPrefix(f.File, r.Getenv("GITHUB_WORKSPACE")+"/"); ok && rel != "" && filepath.IsAbs(f.File) {
		at["file"] = rel
	}
	if f.Line > 0 {
		at["line"] = strconv.Itoa(f.Line)
	}
	if f.Col > 0 {
		at["col"] = strconv.Itoa(f.Col)
	}
	return at
}

// placeOf is where an error is that knows its line.
func (r *Run) placeOf(err error) githubactions.CommandProperties {
	var placed interface {
		error
		Place() (file string, line, col int)
	}
	if !errors.As(err, &placed) {
		return nil
	}
	file, line, col := placed.Place()
	if line == 0 {
		return nil
	}
	at := r.place(finding.Finding{File: file, Line: line, Col: col})
	delete(at, "title")
	return at
}

type output struct{ name, value string }

// Output sets an output that action.yml declares, to one line of ASCII. It is
// published when the run has ended: with 0, with Failed or with Undecided.
// A run that ends with any other error publishes no output but, where there
// is one of that name, verdict=undetermined. A value that cannot be written
// safely makes the run end with 3.
func (r *Run) Output(name, value string) {
	if !r.declares(name) {
		panic("action.yml does not declare the output " + name)
	}
	if i := strings.IndexFunc(value, func(c rune) bool { return c < ' ' || c > '~' }); i >= 0 {
		if r.fault == nil {
			r.fault = fmt.Errorf("the output %s would hold %q at byte %d: an output is one line of ASCII", name, value[i:i+1], i+1)
		}
		return
	}
	r.outputs = append(r.outputs, output{name, value})
}

func (r *Run) declares(name string) bool {
	return slices.ContainsFunc(r.spec.Outputs, func(o actionspec.Output) bool { return o.Name == name })
}

// Summary adds Markdown to the job summary, as package report has escaped it.
// It is published together with the outputs; without a runner it goes nowhere.
func (r *Run) Summary(markdown string) {
	r.summary.WriteString(markdown)
}

// publish writes what was held back; of a run that broke off, only that it
// has no verdict.
func (r *Run) publish(whole bool) (err error) {
	r.erase()
	// The library panics where it cannot write.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the runner took no outputs: %v", v)
		}
	}()
	outputs, file := r.outputs, r.Getenv("GITHUB_OUTPUT") != ""
	if !whole {
		outputs = nil
		if file && r.declares("verdict") {
			outputs = []output{{"verdict", "undetermined"}}
		}
	}
	for _, o := range outputs {
		value := r.hide.Replace(o.value)
		if !file {
			fmt.Fprintf(r.stdout, "%s=%s\n", o.name, value)
			continue
		}
		// Nobody can write a value that ends before its end.
		end := delimiter()
		r.actions.IssueFileCommand(&githubactions.Command{
			Name:    "output",
			Message: o.name + "<<" + end + "\n" + value + "\n" + end,
		})
	}
	if whole && r.summary.Len() > 0 && r.Getenv("GITHUB_STEP_SUMMARY") != "" {
		r.actions.AddStepSummary(cutSummary(r.hide.Replace(r.summary.String())))
	}
	return nil
}

func delimiter() string {
	var random [16]byte
	rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

// cutSummary keeps the whole lines that fit, and closes what they leave open,
// so that the note does not end up in a block that nobody sees.
func cutSummary(markdown string) string {
	if len(markdown) <= maxSummary {
		return markdown
	}
	const reserve = 1 << 10
	kept := markdown[:maxSummary-reserve-len(summaryCut)]
	kept = kept[:strings.LastIndexByte(kept, '\n')+1]
	fenced, folds := false, 0
	for line := range strings.Lines(kept) {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case !fenced && strings.HasPrefix(line, "<details>"):
			folds++
		case !fenced && strings.HasPrefix(line, "</details>"):
			folds--
		}
	}
	if fenced {
		kept += "```\n"
	}
	return kept + strings.Repeat("\n</details>\n", min(max(folds, 0), reserve/16)) + summaryCut
}
