package schemas_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// Each schema accepts a sound document and refuses its broken twins, saying
// where.
func TestSchemas(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	entry := `{"signerId":"a","algorithm":"ed25519","publicKey":"k"}`
	for name, tc := range map[schemas.Name]struct {
		good   string
		broken map[string]string // what is replaced by what
	}{
		schemas.Signers: {`{"signers":[` + entry + `]}`, map[string]string{`"a"`: `"a b"`, `"ed25519"`: `"dsa"`, `"publicKey"`: `"pubKey"`, `[` + entry + `]`: `[]`, `"signerId"`: `"name"`}},
		schemas.Archive: {fmt.Sprintf(`{"version":1,"retired":[{"entry":%s,"retiredAt":"2026-01-01T00:00:00Z","reason":"r","rotation":"x","state":"retired","boundary":{"position":1,"digest":"%s"}}]}`, entry, hex),
			map[string]string{`"version":1`: `"version":2`, `"retired",`: `"asleep",`, `"position":1`: `"position":-1`, hex: "abcd", `"reason"`: `"why"`}},
		schemas.Rotation: {`{"version":1,"id":"r","createdAt":"2026-01-01T00:00:00Z","actor":"a","reason":"r","incoming":{"id":"a","algorithm":"ed25519"},"policy":{"overlap":"48h"}}`,
			map[string]string{`"id":"r"`: `"id":"a/b"`, `"overlap"`: `"time"`, `"actor":"a",`: ``, `"2026-01-01T00:00:00Z"`: `"soon"`}},
		schemas.Checkpoint: {fmt.Sprintf(`{"count":1,"head":"%s"}`, hex), map[string]string{`"count":1`: `"count":0`, hex: strings.ToUpper(hex)}},
		schemas.Exceptions: {fmt.Sprintf(`{"version":1,"exceptions":[{"rule":"fork","eventId":"e","digest":"%s","reason":"r","approvedBy":"a","approvedAt":"2026-01-01T00:00:00Z"}]}`, hex),
			map[string]string{`"fork"`: `"truncated"`, `"eventId":"e"`: `"eventId":""`, `"reason":"r",`: ``}},
		schemas.Report: {`{"version":1,"verdict":"failed","truncationExcluded":false,"events":1,"signers":{},"findings":[{"rule":"fork","severity":"error","message":"m"}],"findingsTotal":1,"unauthenticatedColumns":["id"]}`,
			map[string]string{`"failed"`: `"ok"`, `"error"`: `"fatal"`, `"events":1`: `"events":-1`, `"truncationExcluded":false,`: ``}},
		schemas.Findings: {`{"version":1,"verdict":"passed","signers":1,"findings":[]}`, map[string]string{`"passed"`: `"verified"`, `"signers":1`: `"signers":"1"`}},
		schemas.Gates: {`{"version":1,"rotations":[{"rotation":"r","phase":"active","gates":[{"id":"G1","name":"n","state":"waiting","detail":"d"}]}]}`,
			map[string]string{`"waiting"`: `"maybe"`, `"phase"`: `"stage"`}},
	} {
		if violations, err := schemas.Violations(name, []byte(tc.good)); err != nil || len(violations) > 0 {
			t.Errorf("%s refuses a sound document: %v %v", name, err, violations)
		}
		for part, other := range tc.broken {
			text := strings.Replace(tc.good, part, other, 1)
			violations, err := schemas.Violations(name, []byte(text))
			if err != nil || len(violations) == 0 || text == tc.good {
				t.Errorf("%s accepts %s for %s: %v", name, other, part, err)
				continue
			}
			if s := violations[0].String(); !strings.HasPrefix(s, "/") || !strings.Contains(s, ": ") {
				t.Errorf("%s says %q", name, s)
			}
		}
	}
	if _, err := schemas.Violations("none", []byte("{}")); err == nil {
		t.Error("an unknown schema has an opinion")
	}
	if _, err := schemas.Violations(schemas.Gates, []byte("{")); err == nil {
		t.Error("no JSON was judged")
	}
}
