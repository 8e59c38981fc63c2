package auditdbtest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// stored is a row as the tests look at it.
type stored struct{ payload, signature, signer, prev, hash string }

func rows(t *testing.T, url, sql string) []stored {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	result, _ := conn.Query(t.Context(), sql)
	all, err := pgx.CollectRows(result, func(row pgx.CollectableRow) (s stored, err error) {
		err = row.Scan(&s.payload, &s.signature, &s.signer, &s.prev, &s.hash)
		return s, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func newWriter(t *testing.T, url string) *Writer {
	t.Helper()
	w, err := NewWriter(t.Context(), url, "audit_events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(context.Background()) })
	return w
}

func events(n int) []Event {
	list := make([]Event, n)
	for i := range list {
		list[i] = Event{Payload: fmt.Sprintf(`{"n": %d.0, "a\\b": "é\t\"x\""}`, i), Type: "test", Actor: "a"}
	}
	return list
}

// The expected digests are computed here from canonical bytes that are written
// out, so that a fault of the writer and of its canonical form would show.
func TestWriterChains(t *testing.T) {
	public, private, _ := ed25519.GenerateKey(nil)
	signer := Signer{KID: "k1", Sign: func(_ context.Context, d [32]byte) ([]byte, error) { return ed25519.Sign(private, d[:]), nil }}
	for dialect, sql := range map[string]string{
		AgentManager: "SELECT payload::text, decode(signature, 'base64')::text, signer_kid, coalesce(prev_hash, 'NULL'), '' FROM audit_events ORDER BY created_at",
		Kernel:       "SELECT payload::text, decode(signature, 'base64')::text, signer_id, prev_hash, hash FROM audit_events ORDER BY ts",
	} {
		t.Run(dialect, func(t *testing.T) {
			url := New(t)
			if err := CreateTable(t.Context(), url, dialect); err != nil {
				t.Fatal(err)
			}
			w := newWriter(t, url)
			all := events(6)
			var head [32]byte
			for _, batch := range [][]Event{all[:1], all[1:2], all[2:]} {
				var err error
				if head, err = w.Append(t.Context(), signer, batch...); err != nil {
					t.Fatal(err)
				}
			}
			var prev []byte
			got := rows(t, url, sql)
			if len(got) != len(all) {
				t.Fatalf("%d rows, want %d", len(got), len(all))
			}
			for i, row := range got {
				want := sha256.Sum256(fmt.Appendf(nil, `{"a\\b":"é\t\"x\"","n":%d}%s`, i, prev))
				link := hex.EncodeToString(prev)
				if i == 0 && dialect == AgentManager {
					link = "NULL"
				}
				signature, _ := hex.DecodeString(strings.TrimPrefix(row.signature, `\x`))
				if row.prev != link || row.signer != "k1" || !ed25519.Verify(public, want[:], signature) {
					t.Fatalf("row %d: prev %s want %s, signer %s, or the signature is not over the digest", i, row.prev, link, row.signer)
				}
				if dialect == Kernel && row.hash != hex.EncodeToString(want[:]) {
					t.Errorf("row %d: hash %s", i, row.hash)
				}
				prev = want[:]
			}
			if string(prev) != string(head[:]) {
				t.Errorf("Append returned the head %x, want %x", head, prev)
			}
		})
	}
}

func TestWriterFollowsWhatIsStored(t *testing.T) {
	url := New(t)
	if err := CreateTable(t.Context(), url, AgentManager); err != nil {
		t.Fatal(err)
	}
	w := newWriter(t, url)
	if _, err := w.Append(t.Context(), Signer{KID: "k"}, events(2)...); err != nil {
		t.Fatal(err)
	}
	if n, err := Exec(t.Context(), url, `UPDATE audit_events SET payload = '{"evil": true}' WHERE payload->>'n' = $1`, "1.0"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if _, err := w.Append(t.Context(), Signer{KID: "k"}, Event{Payload: "null", Type: "t", At: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	got := rows(t, url, "SELECT payload::text, coalesce(signature, 'NULL'), signer_kid, coalesce(prev_hash, ''), '' FROM audit_events ORDER BY created_at")
	before, _ := hex.DecodeString(got[1].prev)
	want := sha256.Sum256(append([]byte(`{"evil":true}`), before...))
	if got[2].prev != hex.EncodeToString(want[:]) {
		t.Errorf("prev_hash %s is not the digest of the altered row", got[2].prev)
	}
	if got[2].signature != "NULL" {
		t.Errorf("a signer that cannot sign stored the signature %s", got[2].signature)
	}
}

func TestWriterRefuses(t *testing.T) {
	url := New(t)
	if _, err := NewWriter(t.Context(), url, "audit_events"); err == nil {
		t.Error("opened a table that does not exist")
	}
	if err := CreateTable(t.Context(), url, "other"); err == nil {
		t.Error("created a table of an unknown dialect")
	}
	if err := CreateTable(t.Context(), url, AgentManager); err != nil {
		t.Fatal(err)
	}
	w := newWriter(t, url)
	for name, e := range map[string]Event{"payload": {Payload: "{", Type: "t"}, "time": {Payload: "{}", Type: "t", At: time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC)}} {
		if _, err := w.Append(t.Context(), Signer{KID: "k"}, e); err == nil {
			t.Errorf("stored an event with a bad %s", name)
		}
	}
	fails := Signer{KID: "k", Sign: func(context.Context, [32]byte) ([]byte, error) { return nil, context.Canceled }}
	if _, err := w.Append(t.Context(), fails, events(1)...); err != context.Canceled {
		t.Errorf("the signer's error became %v", err)
	}
	if n, err := Exec(t.Context(), url, "DELETE FROM audit_events"); n != 0 || err != nil {
		t.Errorf("%d rows were stored, %v", n, err)
	}
}

func TestLoad(t *testing.T) {
	url := New(t)
	if err := CreateTable(t.Context(), url, AgentManager); err != nil {
		t.Fatal(err)
	}
	const line = `{"id":"636895d5-18ae-457c-b902-0dcbfaf958c%d","actor_id":null,"event_type":"x\\y\tz","payload":%s,"signature":"c2ln","signer_kid":"k","prev_hash":null,"created_at":"2026-11-23T01:02:23.582462Z"}` + "\n"
	payloads := []string{`{"a": "\\ \n \"\u00e9\""}`, `null`, `1e400`}
	var ndjson strings.Builder
	for i, p := range payloads {
		fmt.Fprintf(&ndjson, line, i, p)
	}
	if n, err := Load(t.Context(), url, "audit_events", strings.NewReader(ndjson.String())); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	got := rows(t, url, `SELECT payload::text, signature, event_type, coalesce(prev_hash, 'NULL'), coalesce(actor_id, 'NULL') FROM audit_events ORDER BY id`)
	want := []stored{
		{`{"a": "\\ \n \"é\""}`, "c2ln", "x\\y\tz", "NULL", "NULL"},
		{"null", "c2ln", "x\\y\tz", "NULL", "NULL"},
		{"1" + strings.Repeat("0", 400), "c2ln", "x\\y\tz", "NULL", "NULL"},
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("row %d is %q, want %q", i, got[i], want[i])
		}
	}
	for name, bad := range map[string]string{
		"not JSON":       "{",
		"fewer columns":  `{"id":"1","payload":1}` + `{"id":"2"}`,
		"other columns":  `{"id":"1","payload":1}` + `{"id":"2","p":1}`,
		"unknown column": `{"nothing":"1"}`,
	} {
		if _, err := Load(t.Context(), url, "audit_events", strings.NewReader(bad)); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestProxyCuts(t *testing.T) {
	url := New(t)
	p, err := NewProxy(url)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	try := func() error {
		_, err := Exec(t.Context(), p.URL(url), "SELECT 1")
		return err
	}
	p.CutAfterMessages(1<<30, 1)
	if err := try(); err != nil {
		t.Fatal(err)
	}
	all := p.Messages()
	if all < 10 || p.Connections() != 1 {
		t.Fatalf("a whole session took %d messages over %d connections", all, p.Connections())
	}
	for name, cut := range map[string]func(n, times int){"after messages": p.CutAfterMessages, "reset": p.ResetAfterMessages, "after bytes": p.CutAfterBytes} {
		for _, n := range []int{0, 1, all - 1} {
			cut(n, 1)
			if try() == nil {
				t.Errorf("%s, %d: not cut", name, n)
			}
			if err := try(); err != nil {
				t.Errorf("%s, %d: cut twice: %v", name, n, err)
			}
		}
	}
	p.CutAfterMessages(2, -1)
	first, second := try(), try()
	if first == nil || second == nil || p.Connections() != 2 || p.Messages() != 4 {
		t.Errorf("%d connections, %d messages", p.Connections(), p.Messages())
	}
}

func TestClusterOfItsOwn(t *testing.T) {
	if _, ok := Find(); !ok {
		Shared(t) // fails or skips
	}
	parent, err := os.MkdirTemp("", "cluster")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(parent)
	if os.Geteuid() == 0 {
		if _, err := Start(t.Context(), parent); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
			t.Errorf("in a folder that only root may enter: %v", err)
		}
		if err := os.Chmod(parent, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Start(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir(), "data", "PG_VERSION")); err != nil {
		t.Error(err)
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := Exec(t.Context(), c.URL("postgres"), "SELECT 1"); err == nil {
		t.Error("a stopped cluster answers")
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("Stop left %v behind", left)
	}
}

func TestFind(t *testing.T) {
	if _, ok := Find(); !ok {
		Shared(t) // fails or skips
	}
	dir := t.TempDir()
	t.Setenv("PGBIN", dir)
	if bin, ok := Find(); ok {
		t.Errorf("found a server in the empty folder %s", bin)
	}
	if _, err := Start(t.Context(), dir); err == nil || err.Error() != Install {
		t.Errorf("Start without a server: %v", err)
	}
}

func TestVersion(t *testing.T) {
	for dir, want := range map[string]int{"/usr/lib/postgresql/15/bin": 15, "/usr/pgsql-9.6/bin": 9, "/opt/homebrew/opt/postgresql@17/bin": 17, "/opt/homebrew/opt/postgresql/bin": 0} {
		if got := version(dir); got != want {
			t.Errorf("%s has version %d, want %d", dir, got, want)
		}
	}
}
