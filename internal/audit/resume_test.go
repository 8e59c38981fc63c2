package audit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
)

// Whatever is held against the rows more strictly than at the checkpoint, an
// incremental verification says what one of the whole chain says.
func TestResumeKeepsToItsTerms(t *testing.T) {
	const old = `UPDATE audit_events SET created_at = created_at - interval '2 days' WHERE payload->>'n' < '4'`
	const named = `UPDATE audit_events SET id = ('00000000-0000-4000-8000-00000000000' || (payload->>'n'))::uuid`
	var second chain.Digest
	for name, tc := range map[string]struct {
		payload       string // of the second event
		sql           string // what is done to the table before the checkpoint
		before, after func(*audit.Terms)
		want          chain.Verdict
		resumed       bool
	}{
		"nothing": {want: chain.Verified, resumed: true},
		"strict-numbers is switched on": {
			payload: `{"n":2,"amount":9007199254740993}`,
			after:   func(terms *audit.Terms) { terms.StrictNumbers = true }, want: chain.Failed,
		},
		"strict-numbers is switched off": {
			before: func(terms *audit.Terms) { terms.StrictNumbers = true },
			after:  func(terms *audit.Terms) { terms.StrictNumbers = false }, want: chain.Verified,
		},
		"an exception is taken back": {
			sql: `UPDATE audit_events SET signature = NULL WHERE payload->>'n' = '2'`,
			before: func(terms *audit.Terms) {
				terms.Exceptions = []chain.Exception{{Rule: chain.RuleUnsigned, EventID: "00000000-0000-4000-8000-000000000002", Digest: second, Reason: "r", ApprovedBy: "a", ApprovedAt: time.Now()}}
			},
			after: func(terms *audit.Terms) { terms.Exceptions = nil }, want: chain.Failed,
		},
		"a secret is taken back": {
			before: func(terms *audit.Terms) { terms.Secrets = map[string][]byte{"mac": []byte("secret")} },
			after:  func(terms *audit.Terms) { terms.Secrets = nil }, want: chain.Verified,
		},
		"the head claims the first hour of all": {
			sql:  `UPDATE audit_events SET created_at = '0001-01-01 00:30:00+00' WHERE payload->>'n' = '5'`,
			want: chain.Verified,
		},
	} {
		t.Run(name, func(t *testing.T) {
			url, w := table(t)
			files, key := signer(t)
			for n := 1; n <= 5; n++ {
				payload := fmt.Sprintf(`{"n":%d}`, n)
				if n == 2 && tc.payload != "" {
					payload = tc.payload
				}
				head, err := w.Append(t.Context(), key, auditdbtest.Event{Type: "e", Payload: payload})
				if err != nil {
					t.Fatal(err)
				}
				if n == 2 {
					second = head
				}
			}
			for _, sql := range []string{named, old, tc.sql} {
				if _, err := auditdbtest.Exec(t.Context(), url, sql); err != nil && sql != "" {
					t.Fatal(err)
				}
			}
			s, terms := audit.Source{DatabaseURL: url, Table: "audit_events", Pause: time.Millisecond}, audit.Terms{Registry: files.Registry, Archive: files.Archive}
			if tc.before != nil {
				tc.before(&terms)
			}
			r, table, err := audit.Verify(t.Context(), s, terms)
			if err != nil || r.Verdict != chain.Verified {
				t.Fatalf("%+v %v", r, err)
			}
			c, err := checkpoint.Next(nil, table, r, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if terms.Checkpoint, err = checkpoint.Parse("c.json", c.JSON()); err != nil {
				t.Fatal(err)
			}
			if tc.after != nil {
				tc.after(&terms)
			}
			for _, terms.Resume = range []bool{false, true} {
				r, _, err := audit.Verify(t.Context(), s, terms)
				if err != nil || r.Verdict != tc.want || (r.Resumed != nil) != (terms.Resume && tc.resumed) {
					t.Errorf("resume %t: %+v %v", terms.Resume, r, err)
				}
			}
		})
	}
}
