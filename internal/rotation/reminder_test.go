package rotation

import (
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

func TestReminders(t *testing.T) {
	aged := func(deployed string) string {
		return strings.Replace(entryOf("old", 1), `"algorithm"`, `"deployedAt":"`+deployed+`","algorithm"`, 1)
	}
	rec := opened()
	back := wentBack(rec, start)
	standby := record.Record{ID: "x", Moves: []record.Move{&record.Open{By: by(start), Signer: record.Signer{ID: "new"}, Policy: rec.State().Policy}}}
	both := "[" + entryOf("old", 1) + "," + entryOf("new", 2) + "]"
	due := start.Add(48 * time.Hour)
	wrongHands := archived(entryOf("lost", 7), "compromised") // on 2026-01-01
	for name, tc := range map[string]struct {
		reg     string
		records []record.Record
		at      time.Time
		want    string // "" for none
	}{
		"compromised not long ago":    {both, nil, time.Date(2026, 1, 30, 23, 0, 0, 0, time.UTC), "signer lost was declared compromised at 2026-01-01 00:00:00 UTC: a verifier that serves an older registry trusts its key without a bound; finalize with verifier-urls names those until all have caught up"},
		"compromised long ago":        {both, nil, time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC), ""},
		"nothing under way":           {both, nil, due.Add(1000 * time.Hour), ""},
		"the overlap runs":            {both, []record.Record{rec}, due, ""},
		"over since a day":            {both, []record.Record{rec}, due.Add(24 * time.Hour), ""},
		"over since more than a day":  {both, []record.Record{rec}, due.Add(31 * time.Hour), "finalize of rotation rotate-new-1 is overdue by 31 h: its overlap may have been over since 2026-03-03 12:00:00 UTC; finalize says what signer old still waits for"},
		"left behind by a rollback":   {both, []record.Record{back}, due.Add(48 * time.Hour), "overdue by 48 h: its overlap may have been over since 2026-03-03 12:00:00 UTC; finalize says what signer new still waits for"},
		"one of them is gone":         {"[" + entryOf("old", 1) + "]", []record.Record{rec}, due.Add(1000 * time.Hour), ""},
		"archived":                    {"[" + entryOf("new", 2) + "]", []record.Record{rec}, due.Add(1000 * time.Hour), ""},
		"a young key":                 {"[" + aged("2026-01-01T00:00:00Z") + "]", nil, start, ""},
		"a key of eleven months":      {"[" + aged("2025-03-20T12:00:00Z") + "]", nil, start, "signer old is 346 days old: publish its successor (add-signer, replaces: none for a standby) before 2026-03-20"},
		"a key of more than a year":   {"[" + aged("2025-01-01T00:00:00Z") + "]", nil, start, "signer old is 424 days old, more than the 365 of a key's life: rotate it now (add-signer)"},
		"a key that does not say":     {both, nil, start.Add(10000 * time.Hour), ""},
		"a rotation without a victim": {both, []record.Record{standby}, due.Add(1000 * time.Hour), ""},
	} {
		arch := ""
		if strings.HasSuffix(name, "long ago") {
			arch = wrongHands
		}
		got := Reminders(files(t, tc.reg, arch, tc.records...), tc.at)
		if (len(got) == 0) != (tc.want == "") || len(got) > 1 || tc.want != "" && !strings.HasSuffix(got[0], tc.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
