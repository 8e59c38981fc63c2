// Package finding holds the value that every check in this project produces:
// a rule that was broken, how badly, and where.
//
// A finding says something about the audited system. An error, in contrast,
// says that the tool itself could not do its work. Findings are collected as
// plain values and rendered last, by package report and package gha; nothing
// here escapes text, so Message may hold bytes that an attacker chose.
package finding

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity orders findings by what they do to a verdict.
type Severity int

// Notes and warnings leave a verdict alone; one error makes it "failed".
const (
	Note Severity = iota
	Warning
	Error
)

var severityNames = [...]string{Note: "note", Warning: "warning", Error: "error"}

// String gives the lower-case name: "note", "warning" or "error".
func (s Severity) String() string { return severityNames[s] }

// MarshalText writes the name of s into JSON reports.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a name that MarshalText wrote.
func (s *Severity) UnmarshalText(text []byte) error {
	i := slices.Index(severityNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("severity %q is none of note, warning, error", text)
	}
	*s = Severity(i)
	return nil
}

// Finding is one broken rule. A finding about a file has File and, as far as
// known, Line and Col (from 1); one about the chain has Position (from 1,
// genesis is 1; 0 where the event hangs on no known position) and EventID.
type Finding struct {
	// Rule is the kebab-case id under which docs/rules.md explains it.
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`
	Col      int      `json:"col,omitempty"`
	Position int64    `json:"position,omitempty"`
	EventID  string   `json:"eventId,omitempty"`
	// Message is one sentence for a person: what, why, what to do next.
	Message string `json:"message"`
}

// Where is the place as people write it: "file:line:col", "position 7, event
// <id>", or empty.
func (f Finding) Where() string {
	switch {
	case f.File != "" && f.Line > 0:
		return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Col)
	case f.File != "":
		return f.File
	}
	var at []string
	if f.Position > 0 {
		at = append(at, fmt.Sprintf("position %d", f.Position))
	}
	if f.EventID != "" {
		at = append(at, "event "+f.EventID)
	}
	return strings.Join(at, ", ")
}

// String is the one-line text form, in the manner of compilers.
func (f Finding) String() string {
	where := f.Where()
	if where != "" {
		where += ": "
	}
	return fmt.Sprintf("%s%s: %s [%s]", where, f.Severity, f.Message, f.Rule)
}

// Sort orders findings as a reader wants them: errors first, then by place.
func Sort(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(b.Severity, a.Severity),
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Position, b.Position),
			cmp.Compare(a.EventID, b.EventID),
			cmp.Compare(a.Rule, b.Rule),
		)
	})
}

// Count counts the findings of one severity.
func Count(fs []Finding, s Severity) int {
	n := 0
	for _, f := range fs {
		if f.Severity == s {
			n++
		}
	}
	return n
}
