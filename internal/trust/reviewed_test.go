package trust_test

import (
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

func TestParseReviewed(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	one := `{"rule": "fork", "eventId": "e-1", "digest": "` + digest + `", "reason": "r", "approvedBy": "lead", "approvedAt": "2026-03-01T00:00:00Z"}`
	good := `{"version": 1, "exceptions": [` + one + `]}`
	all, err := trust.ParseReviewed("x.json", []byte(good))
	list := all.Exceptions
	if err != nil || len(list) != 1 || list[0].EventID != "e-1" || list[0].Digest.String() != digest || list[0].ApprovedAt.IsZero() {
		t.Fatalf("%+v, %v", list, err)
	}
	for name, text := range map[string]string{
		"no JSON":           `{`,
		"a bare list":       `[` + one + `]`,
		"no version":        `{"exceptions": []}`,
		"another rule":      strings.Replace(good, "fork", "retired-signer-used", 1),
		"nobody approved":   strings.Replace(good, `"approvedBy": "lead", `, ``, 1),
		"approved by empty": strings.Replace(good, "lead", "", 1),
		"short digest":      strings.Replace(good, digest, digest[1:], 1),
		"no time":           strings.Replace(good, "2026-03-01T00:00:00Z", "in March", 1),
		"a stray member":    strings.Replace(good, `"rule"`, `"until": "2030", "rule"`, 1),
		"in two cases":      strings.Replace(good, `"rule"`, `"Rule": "unsigned", "rule"`, 1),
		"twice":             strings.Replace(good, `"rule"`, `"rule": "unsigned", "rule"`, 1),
	} {
		if list, err := trust.ParseReviewed("x.json", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), "x.json") {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
}
