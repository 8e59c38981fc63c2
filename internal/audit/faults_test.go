package audit_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

func TestMain(m *testing.M) { os.Exit(auditdbtest.Main(m)) }

// signer is a fresh Ed25519 key, its registry and a way to sign with it.
func signer(t *testing.T) (*registry.Files, auditdbtest.Signer) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	files, err := registry.Load("signers.json", fmt.Appendf(nil, `[{"signerId":"k","algorithm":"ed25519","publicKey":%q}]`, base64.StdEncoding.EncodeToString(der)), "", nil)
	if err != nil || len(files.Findings) > 0 {
		t.Fatal(err, files.Findings)
	}
	return files, auditdbtest.Signer{KID: "k", Sign: func(_ context.Context, digest [32]byte) ([]byte, error) {
		return ed25519.Sign(private, digest[:]), nil
	}}
}

// table is a database with an empty audit table, and who writes there.
func table(t *testing.T) (url string, w *auditdbtest.Writer) {
	t.Helper()
	url = auditdbtest.New(t)
	if err := auditdbtest.CreateTable(t.Context(), url, auditdbtest.AgentManager); err != nil {
		t.Fatal(err)
	}
	w, err := auditdbtest.NewWriter(t.Context(), url, "audit_events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(context.WithoutCancel(t.Context())) })
	return url, w
}

// The connection to PostgreSQL is cut at every message, once and for good:
// each time the verdict is the undisturbed one, or there is none.
func TestDatabaseCutAtEveryMessage(t *testing.T) {
	url, w := table(t)
	files, k := signer(t)
	var events []auditdbtest.Event
	for n := range 40 {
		events = append(events, auditdbtest.Event{Payload: fmt.Sprintf(`{"n": %d}`, n), Type: "t"})
	}
	head, err := w.Append(t.Context(), k, events...)
	if err != nil {
		t.Fatal(err)
	}
	half := checkpointOf(t, url, files)
	more, err := w.Append(t.Context(), k, events[:10]...)
	if err != nil {
		t.Fatal(err)
	}
	tamper := func(sql string) {
		if _, err := auditdbtest.Exec(t.Context(), url, sql); err != nil {
			t.Fatal(err)
		}
	}
	terms := audit.Terms{Registry: files.Registry, Archive: files.Archive, Checkpoint: half}
	resumed := terms
	resumed.Resume = true
	tip := chain.Digest(more).String()
	for _, tc := range []struct {
		name, before string
		terms        audit.Terms
		same         func(*chain.Report) bool
	}{
		{"sound", "", terms, func(r *chain.Report) bool {
			return r.Verdict == chain.Verified && r.Events == 50 && r.Head == tip && r.Resumed == nil
		}},
		{"sound, incremental", "", resumed, func(r *chain.Report) bool {
			return r.Verdict == chain.Verified && r.Head == tip && r.Resumed != nil && r.Resumed.New == 10
		}},
		// The row is changed among the new ones, so that both must see it.
		{"tampered, incremental", `UPDATE audit_events SET payload = '{"n": 777}' WHERE prev_hash = '` + chain.Digest(head).String() + `'`, resumed, func(r *chain.Report) bool {
			return r.Verdict == chain.Failed && r.Resumed == nil && r.ByRule[chain.RuleMissingLink] == 1 && r.ByRule[chain.RuleBadSignature] == 1
		}},
		{"tampered", "", terms, func(r *chain.Report) bool {
			return r.Verdict == chain.Failed && r.ByRule[chain.RuleMissingLink] == 1 && r.ByRule[chain.RuleBadSignature] == 1
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.before != "" {
				tamper(tc.before)
			}
			cutEverywhere(t, url, tc.terms, tc.same)
		})
	}
}

// checkpointOf verifies the table as it is and gives the checkpoint.
func checkpointOf(t *testing.T, url string, files *registry.Files) *checkpoint.Checkpoint {
	t.Helper()
	r, table, err := audit.Verify(t.Context(), audit.Source{DatabaseURL: url, Table: "audit_events"}, audit.Terms{Registry: files.Registry, Archive: files.Archive})
	if err != nil || r.Verdict != chain.Verified {
		t.Fatalf("%+v %v", r, err)
	}
	next, err := checkpoint.Next(nil, table, r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Parse("checkpoint.json", next.JSON())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func cutEverywhere(t *testing.T, url string, terms audit.Terms, expected func(*chain.Report) bool) {
	proxy, err := auditdbtest.NewProxy(url)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	verify := func() (*chain.Report, error) {
		r, _, err := audit.Verify(t.Context(), audit.Source{DatabaseURL: proxy.URL(url), Table: "audit_events", Pause: 1}, terms)
		return r, err
	}
	r, err := verify()
	if err != nil || !expected(r) {
		t.Fatalf("undisturbed: %v %+v", err, r)
	}
	messages := proxy.Messages()
	if messages < 50 {
		t.Fatalf("only %d messages were counted for 50 rows", messages)
	}
	same, none := 0, 0
	for n := range messages + 1 {
		for _, times := range []int{1, -1} {
			proxy.CutAfterMessages(n, times)
			r, err := verify()
			var coded interface{ ExitCode() int }
			switch {
			case err == nil && expected(r):
				same++
			case err == nil:
				t.Fatalf("cut after message %d (%d times): %+v", n, times, r)
			default:
				if coded, _ = err.(interface{ ExitCode() int }); coded == nil || coded.ExitCode() != 3 {
					t.Fatalf("cut after message %d (%d times): %v has not exit code 3", n, times, err)
				}
				none++
			}
		}
	}
	if same == 0 || none == 0 {
		t.Errorf("%d runs with the same verdict, %d without: both must occur", same, none)
	}
	t.Logf("%d messages: %d runs with the undisturbed verdict, %d without one, none with another", messages, same, none)
}
