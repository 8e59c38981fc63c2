package auditdbtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agent-manager/audit-signer-rotation/internal/canonical"
)

// Signer signs digests under a signer id.
type Signer struct {
	KID string
	// Sign returns the raw signature. Where it is nil the row is stored with
	// signature NULL, as agent-manager does when signing fails.
	Sign func(ctx context.Context, digest [32]byte) ([]byte, error)
}

// Event is what a service asks its audit log to keep.
type Event struct {
	Payload string // JSON text
	Type    string
	Actor   string // not stored by the kernel
	// At is the row's time. If it is zero the row gets the server's clock, or
	// a microsecond more than the newest row where that is later. The newest
	// row is the next one's predecessor, so going back in time makes a fork.
	At time.Time
}

// Writer appends events to an audit table as the audited services do: the
// predecessor is the row with the greatest time, read without a lock, and
// agent-manager computes the predecessor's digest anew from what is stored.
// Two writers at work at once fork the chain, as theirs do.
type Writer struct {
	conn   *pgx.Conn
	table  string
	kernel bool
}

// NewWriter opens a table, whose name is SQL, and takes its dialect from its
// columns.
func NewWriter(ctx context.Context, url, table string) (*Writer, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // tests alter tables
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	w := &Writer{conn: conn, table: table}
	err = conn.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'signer_id'", table).Scan(&w.kernel)
	if err != nil {
		w.Close(ctx)
		return nil, err
	}
	return w, nil
}

// Close closes the writer's connection.
func (w *Writer) Close(ctx context.Context) error { return w.conn.Close(ctx) }

// Append signs the events one after the other, each linked to the one before,
// stores them in one go, and returns the digest of the last.
func (w *Writer) Append(ctx context.Context, s Signer, events ...Event) (head [32]byte, err error) {
	prev, last, now, err := w.newest(ctx)
	if err != nil {
		return head, err
	}
	var buf bytes.Buffer
	for _, e := range events {
		if e.At.IsZero() {
			e.At = now
			if !now.After(last) {
				e.At = last.Add(time.Microsecond)
			}
		}
		last = e.At
		if head, err = digest([]byte(e.Payload), prev); err != nil {
			return head, err
		}
		var signature *string
		if s.Sign != nil {
			raw, err := s.Sign(ctx, head)
			if err != nil {
				return head, err
			}
			signature = text(base64.StdEncoding.EncodeToString(raw))
		}
		w.row(&buf, s, e, prev, head, signature)
		prev = bytes.Clone(head[:])
	}
	return head, copyIn(ctx, w.conn, w.table, w.columns(), &buf)
}

// newest returns what the next row links to, nil for an empty table, the time
// of the newest row, and the server's clock.
func (w *Writer) newest(ctx context.Context) (digestBytes []byte, last, now time.Time, err error) {
	sql := "SELECT payload::text, prev_hash, NULL, created_at FROM " + w.table + " ORDER BY created_at DESC LIMIT 1"
	if w.kernel {
		sql = "SELECT payload::text, prev_hash, hash, ts FROM " + w.table + " ORDER BY ts DESC LIMIT 1"
	}
	if err = w.conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return nil, last, now, err
	}
	var payload, prev, stored *string
	err = w.conn.QueryRow(ctx, sql).Scan(&payload, &prev, &stored, &last)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, last, now, nil
	case err != nil:
		return nil, last, now, err
	case stored != nil:
		return unhex(stored), last, now, nil
	case payload == nil:
		payload = text("null")
	}
	d, err := digest([]byte(*payload), unhex(prev))
	return d[:], last, now, err
}

// unhex decodes as much as is hex, like the JavaScript of agent-manager.
func unhex(s *string) []byte {
	if s == nil {
		return nil
	}
	raw, _ := hex.DecodeString(*s)
	return raw
}

// digest is SHA-256(canonical(payload) || prev).
func digest(payload, prev []byte) (d [32]byte, err error) {
	form, _, err := canonical.Append(nil, payload)
	if err != nil {
		return d, fmt.Errorf("payload: %w", err)
	}
	return sha256.Sum256(append(form, prev...)), nil
}

func (w *Writer) columns() []string {
	if w.kernel {
		return []string{"id", "event_type", "payload", "signature", "signer_id", "prev_hash", "ts", "hash"}
	}
	return []string{"id", "event_type", "payload", "signature", "signer_kid", "prev_hash", "created_at", "actor_id"}
}

// row writes an event in the order of columns.
func (w *Writer) row(buf *bytes.Buffer, s Signer, e Event, prev []byte, digest [32]byte, signature *string) {
	link := text(hex.EncodeToString(prev))
	fields := []*string{text(newID()), text(e.Type), text(e.Payload), signature, text(s.KID), link, text(e.At.UTC().Format(time.RFC3339Nano))}
	if w.kernel {
		fields = append(fields, text(hex.EncodeToString(digest[:])))
	} else {
		if len(prev) == 0 {
			fields[5] = nil
		}
		fields = append(fields, text(e.Actor))
	}
	for i, field := range fields {
		appendField(buf, i, field)
	}
	buf.WriteByte('\n')
}

func text(s string) *string { return &s }

// newID is a random UUID, version 4.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
