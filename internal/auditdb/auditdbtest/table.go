package auditdbtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The dialects that CreateTable knows: the audit table of the agent manager,
// and that of the kernel's service.
const (
	AgentManager = "agent-manager"
	Kernel       = "kernel"
)

var tables = map[string]string{
	AgentManager: `CREATE TABLE audit_events (
	id uuid PRIMARY KEY, actor_id text, event_type text NOT NULL, payload jsonb,
	signature text, signer_kid text, prev_hash text, created_at timestamptz NOT NULL DEFAULT now())`,
	Kernel: `CREATE TABLE audit_events (
	id uuid PRIMARY KEY, event_type text NOT NULL, payload jsonb NOT NULL, prev_hash text NOT NULL, hash text NOT NULL,
	signature text NOT NULL, signer_id text NOT NULL, ts timestamptz NOT NULL DEFAULT now(), metadata jsonb)`,
}

// CreateTable creates an empty audit_events as the dialect's service does.
func CreateTable(ctx context.Context, url, dialect string) error {
	sql, ok := tables[dialect]
	if !ok {
		return fmt.Errorf("no dialect is called %q: use %s or %s", dialect, AgentManager, Kernel)
	}
	_, err := Exec(ctx, url, sql)
	return err
}

// Exec runs one statement, or several if there are no arguments, and returns
// the number of rows that the last one changed. It is also how to tamper.
func Exec(ctx context.Context, url, sql string, args ...any) (rows int64, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	tag, err := conn.Exec(ctx, sql, args...)
	return tag.RowsAffected(), err
}

// Load copies rows in NDJSON into a table: one JSON object a line, its members
// named like the columns, the same ones in every line. Payloads keep their
// text; null is NULL everywhere but in payload, where it is JSON's null.
func Load(ctx context.Context, url, table string, ndjson io.Reader) (rows int, err error) {
	var columns []string
	var buf bytes.Buffer
	for dec := json.NewDecoder(ndjson); ; rows++ {
		var row map[string]json.RawMessage
		if err := dec.Decode(&row); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, fmt.Errorf("row %d: %w", rows+1, err)
		}
		if columns == nil {
			for name := range row {
				columns = append(columns, name)
			}
			slices.Sort(columns)
		}
		if len(row) != len(columns) {
			return 0, fmt.Errorf("row %d has other columns than the first", rows+1)
		}
		for i, column := range columns {
			value, ok := row[column]
			if !ok {
				return 0, fmt.Errorf("row %d has no %s, the first has", rows+1, column)
			}
			text, err := loaded(column, value)
			if err != nil {
				return 0, fmt.Errorf("row %d, %s: %w", rows+1, column, err)
			}
			appendField(&buf, i, text)
		}
		buf.WriteByte('\n')
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	return rows, copyIn(ctx, conn, table, columns, &buf)
}

// loaded is a JSON value as a column's text, nil for NULL.
func loaded(column string, value json.RawMessage) (*string, error) {
	text := string(value)
	switch {
	case column == "payload":
	case text == "null":
		return nil, nil
	case text[0] == '"':
		if err := json.Unmarshal(value, &text); err != nil {
			return nil, err
		}
	}
	return &text, nil
}

var copyEscapes = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`)

// appendField writes a field of COPY's text format; see
// https://www.postgresql.org/docs/current/sql-copy.html.
func appendField(buf *bytes.Buffer, i int, text *string) {
	if i > 0 {
		buf.WriteByte('\t')
	}
	if text == nil {
		buf.WriteString(`\N`)
		return
	}
	copyEscapes.WriteString(buf, *text)
}

// copyIn sends rows in COPY's text format. The table's name is SQL.
func copyIn(ctx context.Context, conn *pgx.Conn, table string, columns []string, rows io.Reader) error {
	quoted := make([]string, len(columns))
	for i, column := range columns {
		quoted[i] = pgx.Identifier{column}.Sanitize()
	}
	_, err := conn.PgConn().CopyFrom(ctx, rows, fmt.Sprintf("COPY %s (%s) FROM STDIN", table, strings.Join(quoted, ", ")))
	return err
}
