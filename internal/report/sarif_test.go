package report

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// What code scanning asks for is there, for every rule and for none, and
// nothing in a message is a link.
func TestSARIF(t *testing.T) {
	fs := []finding.Finding{
		{Rule: "key-changed", Severity: finding.Error, File: "kernel/tools/signers ü.json", Line: 3, Col: 5, Message: "the key changes"},
		{Rule: "key-changed", Severity: finding.Error, File: "kernel/tools/signers ü.json", Line: 9, Col: 5, Message: "the key changes"},
		{Rule: "no-such-rule", Severity: finding.Note, Message: "see [here](https://example.org/x) \u202e\x1b[31m\\"},
		{Rule: "no-such-rule", Severity: finding.Warning, File: "/tmp/a:b.json", Message: "w"},
		{Rule: "path-twin", Severity: finding.Error, File: "a:b.json", Line: 1, Message: "m"},
	}
	log := SARIF(fs, "signers.json")
	text := JSON(log)
	if v, err := schemas.Violations(schemas.SARIF, text); err != nil || len(v) > 0 {
		t.Fatalf("%v %v\n%s", err, v, text)
	}
	run := log.Runs[0]
	if len(run.Tool.Driver.Rules) != 3 || len(run.Results) != 5 {
		t.Fatalf("%d rules, %d results", len(run.Tool.Driver.Rules), len(run.Results))
	}
	prints := map[string]bool{}
	for i, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != fs[i].Rule || r.RuleID != fs[i].Rule || r.Level != fs[i].Severity {
			t.Errorf("%+v", r)
		}
		prints[r.Fingerprints["primaryLocationLineHash"]] = true
	}
	if len(prints) != len(fs) {
		t.Errorf("fingerprints repeat: %v", prints)
	}
	// Where a line moves, the alert is the same.
	fs[0].Line = 4
	if again := SARIF(fs, "signers.json"); again.Runs[0].Results[0].Fingerprints["primaryLocationLineHash"] != run.Results[0].Fingerprints["primaryLocationLineHash"] {
		t.Error("a fingerprint depends on the line")
	}
	for i, want := range []string{"kernel/tools/signers%20%C3%BC.json", "", "signers.json", "file:///tmp/a:b.json", "./a:b.json"} {
		if got := run.Results[i].Locations[0].Physical.Artifact.URI; want != "" && got != want {
			t.Errorf("result %d is at %s, want %s", i, got, want)
		}
	}
	if m := run.Results[2].Message.Text; m != `see \[here\](https://example.org/x) \\u202e\\u001b\[31m\\` {
		t.Errorf("%s", m)
	}
	if r := run.Tool.Driver.Rules[0]; !strings.Contains(r.Help.Markdown, "**What to do.** ") || strings.Contains(r.Help.Text, "**") || r.ShortDescription.Text == r.ID || r.Default.Level != finding.Error {
		t.Errorf("%+v", r)
	}
	if r := run.Tool.Driver.Rules[1]; r.Default.Level != finding.Warning || r.Properties.Severity != "5.0" {
		t.Errorf("%+v", r)
	}
	empty := JSON(SARIF(nil, "signers.json"))
	if v, err := schemas.Violations(schemas.SARIF, empty); err != nil || len(v) > 0 || !json.Valid(empty) || !strings.Contains(string(empty), `"results": []`) {
		t.Errorf("%v %v\n%s", err, v, empty)
	}
}
