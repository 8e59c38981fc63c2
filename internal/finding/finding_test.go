package finding_test

import (
	"encoding/json"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

func TestString(t *testing.T) {
	for _, tc := range []struct {
		f    finding.Finding
		want string
	}{
		{finding.Finding{Rule: "weak-key", Severity: finding.Error, File: "signers.json", Line: 3, Col: 9, Message: "512 bits"},
			"signers.json:3:9: error: 512 bits [weak-key]"},
		{finding.Finding{Rule: "no-signer", Severity: finding.Error, File: "signers.json", Message: "empty"},
			"signers.json: error: empty [no-signer]"},
		{finding.Finding{Rule: "fork", Severity: finding.Warning, Position: 7, EventID: "e7", Message: "two"},
			"position 7, event e7: warning: two [fork]"},
		{finding.Finding{Rule: "empty-chain", Message: "none"}, "note: none [empty-chain]"},
	} {
		if got := tc.f.String(); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

func TestSortPutsErrorsFirstThenPlaces(t *testing.T) {
	fs := []finding.Finding{
		{Rule: "a", Severity: finding.Note, Position: 1},
		{Rule: "b", Severity: finding.Error, Position: 9},
		{Rule: "c", Severity: finding.Error, Position: 2},
		{Rule: "d", Severity: finding.Warning, File: "x", Line: 2},
		{Rule: "e", Severity: finding.Warning, File: "x", Line: 1},
	}
	finding.Sort(fs)
	var got string
	for _, f := range fs {
		got += f.Rule
	}
	if got != "cbeda" {
		t.Errorf("order %q, want cbeda", got)
	}
	if n := finding.Count(fs, finding.Error); n != 2 {
		t.Errorf("%d errors counted, want 2", n)
	}
}

func TestSeverityInJSON(t *testing.T) {
	var f finding.Finding
	if err := json.Unmarshal([]byte(`{"rule":"x","severity":"warning","message":"m"}`), &f); err != nil || f.Severity != finding.Warning {
		t.Errorf("read %v, %v", f, err)
	}
	out, err := json.Marshal(f)
	if err != nil || string(out) != `{"rule":"x","severity":"warning","message":"m"}` {
		t.Errorf("wrote %s, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"severity":"fatal"}`), &f); err == nil {
		t.Error("an unknown severity was read")
	}
}
