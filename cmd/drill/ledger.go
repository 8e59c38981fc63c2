package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
	"github.com/agent-manager/audit-signer-rotation/internal/canonical"
)

type signFunc func(ctx context.Context, digest [32]byte) ([]byte, error)

// ledger is where events are appended to: a table, or, where there is no
// PostgreSQL, an export of one.
type ledger interface {
	append(ctx context.Context, kid string, n int, sign signFunc) error
	// inputs point the actions at the events.
	inputs() map[string]string
	// forge appends an event to a copy, and gives the inputs that point there.
	forge(ctx context.Context, kid string, sign signFunc) (map[string]string, error)
	// cut takes the newest events off a copy, and gives the inputs that point
	// there.
	cut(ctx context.Context, n int) (map[string]string, error)
	close()
}

func openLedger(ctx context.Context, asFile bool) (ledger, string, error) {
	f := &file{path: filepath.Join(out, "events.ndjson")}
	if asFile {
		return f, "a file, as asked", nil
	}
	bin, ok := auditdbtest.Find()
	if !ok {
		return f, "NO POSTGRESQL FOUND, so the events are a file; " + auditdbtest.Install, nil
	}
	l, err := openTable(ctx)
	return l, "a throw-away PostgreSQL cluster (" + bin + ")", err
}

// payload is what the n-th event says.
func payload(n int) string {
	return fmt.Sprintf(`{"seq": %d, "agent": "agent-%d", "action": {"name": "deploy", "cost": %d.25, "tags": ["a", "é", "😀"]}}`, n, n%7, n)
}

// table is audit_events in a throw-away cluster.
type table struct {
	cluster *auditdbtest.Cluster
	url     string
	count   int
}

func openTable(ctx context.Context) (*table, error) {
	cluster, err := auditdbtest.Start(ctx, "")
	if err != nil {
		return nil, err
	}
	t := &table{cluster: cluster}
	if t.url, err = cluster.Database(ctx, "audit"); err == nil {
		err = auditdbtest.CreateTable(ctx, t.url, auditdbtest.AgentManager)
	}
	return t, err
}

func (t *table) close() { t.cluster.Stop() }

func (t *table) append(ctx context.Context, kid string, n int, sign signFunc) error {
	return t.appendTo(ctx, "audit_events", kid, n, sign)
}

func (t *table) appendTo(ctx context.Context, name, kid string, n int, sign signFunc) error {
	w, err := auditdbtest.NewWriter(ctx, t.url, name)
	if err != nil {
		return err
	}
	defer w.Close(ctx)
	events := make([]auditdbtest.Event, n)
	for i := range events {
		events[i] = auditdbtest.Event{Payload: payload(t.count + i), Type: "agent_action", Actor: "drill"}
	}
	t.count += n
	_, err = w.Append(ctx, auditdbtest.Signer{KID: kid, Sign: sign}, events...)
	return err
}

func (t *table) inputs() map[string]string { return map[string]string{"INPUT_DATABASE_URL": t.url} }

func (t *table) forge(ctx context.Context, kid string, sign signFunc) (map[string]string, error) {
	if _, err := auditdbtest.Exec(ctx, t.url, "CREATE TABLE forged (LIKE audit_events INCLUDING ALL); INSERT INTO forged SELECT * FROM audit_events"); err != nil {
		return nil, err
	}
	inputs := t.inputs()
	inputs["INPUT_TABLE"] = "forged"
	return inputs, t.appendTo(ctx, "forged", kid, 1, sign)
}

func (t *table) cut(ctx context.Context, n int) (map[string]string, error) {
	_, err := auditdbtest.Exec(ctx, t.url, fmt.Sprintf("CREATE TABLE cut (LIKE audit_events INCLUDING ALL); INSERT INTO cut SELECT * FROM audit_events ORDER BY created_at LIMIT (SELECT count(*) - %d FROM audit_events)", n))
	inputs := t.inputs()
	inputs["INPUT_TABLE"] = "cut"
	return inputs, err
}

// file is an export in NDJSON.
type file struct {
	path  string
	count int
	head  []byte
}

func (f *file) close() {}

func (f *file) append(ctx context.Context, kid string, n int, sign signFunc) error {
	out, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	for range n {
		text := payload(f.count)
		f.count++
		form, _, err := canonical.Append(nil, []byte(text))
		if err != nil {
			return err
		}
		digest := sha256.Sum256(append(form, f.head...))
		signature, err := sign(ctx, digest)
		if err != nil {
			return err
		}
		row := map[string]any{
			"id": fmt.Sprintf("00000000-0000-4000-8000-%012d", f.count), "actor_id": "drill", "event_type": "agent_action", "payload": json.RawMessage(text),
			"signature": base64.StdEncoding.EncodeToString(signature), "signer_kid": kid, "prev_hash": nil, "created_at": time.Now().UTC().Format(time.RFC3339Nano),
		}
		if f.head != nil {
			row["prev_hash"] = hex.EncodeToString(f.head)
		}
		f.head = digest[:]
		line, err := json.Marshal(row)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) inputs() map[string]string { return map[string]string{"INPUT_EVENTS_PATH": abs(f.path)} }

func (f *file) forge(ctx context.Context, kid string, sign signFunc) (map[string]string, error) {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	copied := file{path: filepath.Join(out, "forged.ndjson"), count: f.count, head: f.head}
	if err := os.WriteFile(copied.path, text, 0o644); err != nil {
		return nil, err
	}
	return copied.inputs(), copied.append(ctx, kid, 1, sign)
}

func (f *file) cut(_ context.Context, n int) (map[string]string, error) {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	lines := strings.SplitAfter(string(text), "\n")
	short := file{path: filepath.Join(out, "cut.ndjson")}
	return short.inputs(), os.WriteFile(short.path, []byte(strings.Join(lines[:len(lines)-1-n], "")), 0o644)
}

func abs(path string) string {
	full, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return full
}
