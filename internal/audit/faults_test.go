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

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
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

// The connection to PostgreSQL is cut at every message, once and for good:
// each time the verdict is the undisturbed one, or there is none.
func TestDatabaseCutAtEveryMessage(t *testing.T) {
	url := auditdbtest.New(t)
	if err := auditdbtest.CreateTable(t.Context(), url, auditdbtest.AgentManager); err != nil {
		t.Fatal(err)
	}
	w, err := auditdbtest.NewWriter(t.Context(), url, "audit_events")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close(t.Context())
	files, k := signer(t)
	var events []auditdbtest.Event
	for n := range 40 {
		events = append(events, auditdbtest.Event{Payload: fmt.Sprintf(`{"n": %d}`, n), Type: "t"})
	}
	head, err := w.Append(t.Context(), k, events...)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := auditdbtest.NewProxy(url)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	terms := audit.Terms{Registry: files.Registry, Archive: files.Archive}
	verify := func() (*chain.Report, error) {
		r, _, err := audit.Verify(t.Context(), audit.Source{DatabaseURL: proxy.URL(url), Table: "audit_events", Pause: 1}, terms)
		return r, err
	}
	sound := func(r *chain.Report) bool {
		return r.Verdict == chain.Verified && r.Events == 40 && r.Head == chain.Digest(head).String()
	}
	r, err := verify()
	if err != nil || !sound(r) {
		t.Fatalf("undisturbed: %v %+v", err, r)
	}
	messages := proxy.Messages()
	if messages < 50 {
		t.Fatalf("only %d messages were counted for 40 rows", messages)
	}
	same, none := 0, 0
	for n := range messages + 1 {
		for _, times := range []int{1, -1} {
			proxy.CutAfterMessages(n, times)
			r, err := verify()
			var coded interface{ ExitCode() int }
			switch {
			case err == nil && sound(r):
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
