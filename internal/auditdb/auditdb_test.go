package auditdb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/auditdb"
	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

func TestMain(m *testing.M) { os.Exit(auditdbtest.Main(m)) }

func options(url, table string) auditdb.Options {
	return auditdb.Options{URL: url, Table: table, Pause: time.Millisecond}
}

// read returns the rows as text, what the source says of itself, and how often
// the reading was begun. NULL is written NULL, a text in quotes.
func read(t *testing.T, o auditdb.Options) (rows []string, source auditdb.Source, begun int, err error) {
	t.Helper()
	err = auditdb.Read(t.Context(), o, func(ctx context.Context, s *auditdb.Snapshot) error {
		begun++
		source = s.Source()
		rows, err = collect(ctx, s)
		return err
	})
	return rows, source, begun, err
}

func collect(ctx context.Context, s *auditdb.Snapshot) (rows []string, err error) {
	for e, err := range s.Events(ctx) {
		if err != nil {
			return rows, err
		}
		rows = append(rows, show(e))
	}
	return rows, nil
}

func show(e chain.Event) string {
	fields := []string{fmt.Sprint(e.Row), string(e.ID)}
	for _, b := range [][]byte{e.Payload, e.Prev, e.Signature, e.Signer} {
		fields = append(fields, shown(b))
	}
	if e.HasHash {
		fields = append(fields, "hash="+shown(e.Hash))
	}
	if !e.CreatedAt.IsZero() {
		fields = append(fields, e.CreatedAt.Format(time.RFC3339Nano))
	}
	return strings.Join(fields, " ")
}

func shown(b []byte) string {
	if b == nil {
		return "NULL"
	}
	return fmt.Sprintf("%q", b)
}

// exitCode is what a main would exit with.
func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return -1
}

func run(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	if _, err := auditdbtest.Exec(t.Context(), url, sql, args...); err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, dialect string) (url string) {
	t.Helper()
	url = auditdbtest.New(t)
	if err := auditdbtest.CreateTable(t.Context(), url, dialect); err != nil {
		t.Fatal(err)
	}
	return url
}

// fill appends n events with payloads of about size bytes.
func fill(t testing.TB, url string, n, size int) {
	t.Helper()
	w, err := auditdbtest.NewWriter(t.Context(), url, "audit_events")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close(t.Context())
	events := make([]auditdbtest.Event, n)
	for i := range events {
		events[i] = auditdbtest.Event{Type: "test", Payload: fmt.Sprintf(`{"n": %d, "pad": %q}`, i, strings.Repeat("x", size))}
	}
	sign := func(_ context.Context, d [32]byte) ([]byte, error) { return d[:], nil }
	if _, err := w.Append(t.Context(), auditdbtest.Signer{KID: "k", Sign: sign}, events...); err != nil {
		t.Fatal(err)
	}
}

const (
	id1 = "636895d5-18ae-457c-b902-0dcbfaf958cf"
	id2 = "ec0a2c3e-1e1f-44f5-bc7a-086b286a608b"
)

func TestTables(t *testing.T) {
	url := auditdbtest.New(t)
	run(t, url, `CREATE SCHEMA "Audit ""x"".y"; CREATE DOMAIN kid AS text; CREATE DOMAIN doc AS jsonb`)
	for name, test := range map[string]struct {
		sql     string
		table   string
		source  string
		dialect auditdb.Dialect
		want    []string
	}{
		"agent-manager": {
			sql: `CREATE TABLE audit_events (id uuid PRIMARY KEY, actor_id text, event_type text NOT NULL, payload jsonb, signature text, signer_kid text, prev_hash text, created_at timestamptz NOT NULL DEFAULT now());
INSERT INTO audit_events VALUES ('` + id1 + `', 'a', 't', '{"b": 1e3, "a": "é\n😀"}', 'c2ln', 'k', NULL, '2026-11-23 01:02:23.582462+00'),
('` + id2 + `', NULL, 't', NULL, NULL, NULL, '', 'infinity')`,
			table: "audit_events", source: "public.audit_events", dialect: auditdb.AgentManager,
			want: []string{
				`1 ` + id1 + ` "{\"a\": \"é\\n😀\", \"b\": 1000}" NULL "c2ln" "k" 2026-11-23T01:02:23.582462Z`,
				`2 ` + id2 + ` NULL "" NULL NULL`,
			},
		},
		"kernel": {
			sql: `CREATE TABLE kernel (ts timestamptz NOT NULL, hash text NOT NULL, signer_id text NOT NULL, signature text NOT NULL, prev_hash text NOT NULL, payload jsonb NOT NULL, metadata jsonb, id uuid);
INSERT INTO kernel VALUES ('1999-12-31 23:59:59.9+00', 'aa', 'k', 's', '', 'null', NULL, '` + id1 + `')`,
			table: "Kernel", source: "public.kernel", dialect: auditdb.Kernel,
			want: []string{`1 ` + id1 + ` "null" "" "s" "k" hash="aa" 1999-12-31T23:59:59.9Z`},
		},
		"marketplace, bigint and timestamp and varchar": {
			sql: `CREATE TABLE market (id bigserial, payload json, created_at timestamp, hash varchar(64), prev_hash varchar(64), signature text, signer_kid text, dropped int);
ALTER TABLE market DROP COLUMN dropped;
INSERT INTO market VALUES (-7, '{"b":1, "a" :2}', '2026-01-01 00:00:00', NULL, 'pp', 's', 'k'), (8, '1', '-infinity', '', '', '', '')`,
			table: "public.market", source: "public.market", dialect: auditdb.AgentManager,
			want: []string{
				`1 -7 "{\"b\":1, \"a\" :2}" "pp" "s" "k" hash=NULL 2026-01-01T00:00:00Z`,
				`2 8 "1" "" "" "" hash=""`,
			},
		},
		"each column on its own, text payload, domains": {
			sql: `CREATE TABLE mixed (id text, payload text, signer_id kid, signature kid, prev_hash kid, created_at timestamptz);
INSERT INTO mixed VALUES ('a "b"', '{', 'k', 's', 'p', '10000-01-01 00:00:00+00'), ('', '', '', '', '', NULL)`,
			table: "mixed", source: "public.mixed", dialect: auditdb.Kernel,
			want: []string{`1 a "b" "{" "p" "s" "k"`, `2  "" "" "" ""`},
		},
		"quoted names": {
			sql: `CREATE TABLE "Audit ""x"".y"."Select; --" (id uuid, payload doc, signer_kid text, signer_id text, signature text, prev_hash text, ts timestamptz, hash text);
INSERT INTO "Audit ""x"".y"."Select; --" VALUES (NULL, '[]', 'kid', 'id', 's', 'p', '0001-01-01 00:00:00+00 BC', 'h')`,
			table: `"Audit ""x"".y"."Select; --"`, source: `"Audit ""x"".y"."Select; --"`, dialect: auditdb.AgentManager,
			want: []string{`1  "[]" "p" "s" "kid" hash="h"`},
		},
		"partitions": {
			sql: `CREATE TABLE parted (id int, payload jsonb, signer_kid text, signature text, prev_hash text, created_at timestamptz) PARTITION BY RANGE (id);
CREATE TABLE parted1 PARTITION OF parted FOR VALUES FROM (0) TO (10); CREATE TABLE parted2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
INSERT INTO parted (id) VALUES (1), (11), (2); ANALYZE parted`,
			table: "parted", source: "public.parted", dialect: auditdb.AgentManager,
			want: []string{"1 1 NULL NULL NULL NULL", "2 2 NULL NULL NULL NULL", "3 11 NULL NULL NULL NULL"},
		},
		"view": {
			sql:   `CREATE TABLE base (n int); INSERT INTO base VALUES (3); CREATE VIEW "view" AS SELECT n AS id, '{}'::jsonb AS payload, 's' AS signature, 'k'::text AS signer_kid, NULL::text AS prev_hash, now() - now() + '2026-01-01 01:00+01'::timestamptz AS created_at FROM base`,
			table: "view", source: "public.view", dialect: auditdb.AgentManager,
			want: []string{`1 3 "{}" NULL "s" "k" 2026-01-01T00:00:00Z`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, url, test.sql)
			got, source, _, err := read(t, options(url, test.table))
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			if source.Table != test.source || source.Dialect != test.dialect {
				t.Errorf("source %s, dialect %s", source.Table, source.Dialect)
			}
			if name == "partitions" && source.EstimatedRows != 3 {
				t.Errorf("%d rows estimated", source.EstimatedRows)
			}
		})
	}
}

func TestSource(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	rows, s, _, err := read(t, options(url, "audit_events"))
	if err != nil || len(rows) != 0 {
		t.Fatal(rows, err)
	}
	if strings.Join(s.Columns, " ") != "id actor_id event_type payload signature signer_kid prev_hash created_at" {
		t.Errorf("columns %v", s.Columns)
	}
	if len(s.SystemIdentifier) < 10 || s.Timeline != 1 || s.InRecovery || s.EstimatedRows != 0 {
		t.Errorf("%+v", s)
	}
	if strings.Count(s.SnapshotID, ":") != 2 || !strings.Contains(s.ServerVersion, ".") {
		t.Errorf("snapshot %q, version %q", s.SnapshotID, s.ServerVersion)
	}
	if off := time.Since(s.ServerTime).Abs(); off > time.Hour || s.ServerTime.Location() != time.UTC {
		t.Errorf("server time %v", s.ServerTime)
	}
}

func TestRefusesTables(t *testing.T) {
	url := auditdbtest.New(t)
	run(t, url, `CREATE SCHEMA other; CREATE TABLE other.hidden (id int); CREATE SEQUENCE seq; CREATE TYPE pair AS (id int);
CREATE TABLE eval (id uuid, event_type text, payload jsonb, created_at timestamptz);
CREATE TABLE memory (id uuid, event_type text, payload jsonb, hash text, prev_hash text, signature text, created_at timestamptz);
CREATE TABLE bytes (id uuid, payload jsonb, prev_hash bytea, signature text, signer_kid text, created_at timestamptz);
CREATE TABLE dates (id uuid, payload jsonb, prev_hash text, signature text, signer_kid text, created_at text);
CREATE TABLE blobs (id uuid, payload bytea, prev_hash text, signature text, signer_kid text, created_at timestamptz);
CREATE TABLE digests (id uuid, payload json, prev_hash text, signature text, signer_kid text, created_at timestamptz, hash bytea);
CREATE TABLE empty ()`)
	for table, want := range map[string][]string{
		"nothing":                       {`no table "nothing"`, "no schema has"},
		"hidden":                        {"found other.hidden"},
		"nowhere.hidden":                {`"nowhere"."hidden"`, "found other.hidden"},
		`"EVAL"`:                        {`no table "EVAL"`},
		"seq":                           {`no table "seq"`},
		"pair":                          {`no table "pair"`},
		"empty":                         {`no table "empty"`},
		"eval":                          {"public.eval", "not a signed audit chain", "id, event_type, payload, created_at", "lacks prev_hash, signature, signer_kid or signer_id;"},
		"memory":                        {"lacks signer_kid or signer_id;"},
		"bytes":                         {"prev_hash of public.bytes is bytea", "only text"},
		"dates":                         {"created_at of public.dates is text", "only timestamp"},
		"blobs":                         {"payload of public.blobs is bytea", "jsonb, json or text"},
		"digests":                       {"hash of public.digests is bytea"},
		"":                              {`the table name ""`},
		"a.b.c":                         {"not name or schema.name"},
		"audit_events; DROP TABLE eval": {"not name or schema.name"},
		"eval--":                        {"not name or schema.name"},
		`"eval`:                         {"not name or schema.name"},
		`"a"b"`:                         {"not name or schema.name"},
		`""`:                            {"not name or schema.name"},
		"\"a\x00\"":                     {"not name or schema.name"},
		"eval ":                         {"not name or schema.name"},
		"eval\n":                        {"not name or schema.name"},
		"évènements":                    {"not name or schema.name"},
		"1st":                           {"not name or schema.name"},
		strings.Repeat("x", 64):         {"more than 63 bytes"},
	} {
		_, _, begun, err := read(t, options(url, table))
		if exitCode(err) != 2 || begun != 0 {
			t.Errorf("%q: exit code %d, fn called %d times: %v", table, exitCode(err), begun, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v, want %q", table, err, w)
			}
		}
	}
}

func TestRoles(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	fill(t, url, 3, 1)
	run(t, url, `CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN;
REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE ALL ON DATABASE `+database(url)+` FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_control_system, pg_control_checkpoint FROM PUBLIC;
GRANT CONNECT ON DATABASE `+database(url)+` TO reader; GRANT USAGE ON SCHEMA public TO reader; GRANT SELECT ON audit_events TO reader`)
	reader := options(as(url, "reader"), "audit_events")

	rows, source, _, err := read(t, reader)
	if err != nil || len(rows) != 3 {
		t.Fatal(rows, err)
	}
	if source.SystemIdentifier != "" || source.Timeline != 0 || source.ServerVersion == "" {
		t.Errorf("%+v", source)
	}

	refused := func(name string, o auditdb.Options, want ...string) {
		t.Helper()
		_, _, begun, err := read(t, o)
		if exitCode(err) != 3 || begun > 1 {
			t.Errorf("%s: exit code %d, begun %d times: %v", name, exitCode(err), begun, err)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q", name, err, w)
			}
		}
	}
	refused("no CONNECT", options(as(url, "stranger"), "audit_events"), "42501", `GRANT CONNECT ON DATABASE "`+database(url)+`" TO "stranger"`)

	run(t, url, `ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON audit_events USING (payload->>'n' = '1')`)
	refused("row-level security", reader, "row-level security would hide rows")
	if rows, _, _, err := read(t, options(url, "audit_events")); err != nil || len(rows) != 3 {
		t.Errorf("the owner under row-level security: %d rows, %v", len(rows), err)
	}
	run(t, url, `ALTER TABLE audit_events DISABLE ROW LEVEL SECURITY; REVOKE SELECT ON audit_events FROM reader`)
	refused("no SELECT", reader, "permission denied", `GRANT SELECT ON "audit_events" TO "reader"`)
	run(t, url, `REVOKE USAGE ON SCHEMA public FROM reader`)
	reader.Table = "public.audit_events"
	refused("no USAGE", reader, "permission denied", `GRANT SELECT ON "public"."audit_events" TO "reader"`, "GRANT USAGE")
}

// as is a connection string for another role.
func as(url, role string) string { return strings.Replace(url, "postgres@", role+"@", 1) }

func database(url string) string {
	url, _, _ = strings.Cut(url[strings.LastIndexByte(url, '/')+1:], "?")
	return url
}

func TestLimits(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	fill(t, url, 1, 1)
	run(t, url, `CREATE SEQUENCE seq;
CREATE VIEW writes AS SELECT id, jsonb_build_object('n', nextval('seq')) AS payload, prev_hash, signature, signer_kid, created_at FROM audit_events;
CREATE VIEW slow AS SELECT id, payload || jsonb_build_object('x', pg_sleep(20)) AS payload, prev_hash, signature, signer_kid, created_at FROM audit_events;
CREATE VIEW divides AS SELECT id, jsonb_build_object('x', 1 / (n - n)) AS payload, prev_hash, signature, signer_kid, created_at FROM audit_events, generate_series(1, 1) n`)
	for name, test := range map[string]struct {
		options auditdb.Options
		want    string
	}{
		"a view that writes":    {options(url, "writes"), "code 25006"},
		"the statement timeout": {auditdb.Options{URL: url, Table: "slow", StatementTimeout: 50 * time.Millisecond}, "allow more time"},
		"the lock timeout":      {auditdb.Options{URL: url, Table: "audit_events", LockTimeout: 50 * time.Millisecond}, "another session holds the table's lock"},
		"an error in a view":    {options(url, "divides"), "code 22012"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "the lock timeout" {
				defer lock(t, url)()
			}
			_, _, begun, err := read(t, test.options)
			if exitCode(err) != 3 || begun != 1 || !strings.Contains(err.Error(), test.want) {
				t.Errorf("exit code %d, begun %d times: %v", exitCode(err), begun, err)
			}
		})
	}
}

// lock holds the table against readers until the returned function is called.
func lock(t *testing.T, url string) (release func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		auditdbtest.Exec(ctx, url, "BEGIN; LOCK TABLE audit_events; SELECT pg_sleep(20)")
	}()
	for {
		n, err := auditdbtest.Exec(t.Context(), url, "SELECT FROM pg_locks WHERE relation = 'audit_events'::regclass AND mode = 'AccessExclusiveLock' AND granted")
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return func() { cancel(); <-done }
		}
	}
}

func TestRowTooLarge(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	fill(t, url, 2, 10)
	const size = "UPDATE audit_events SET payload = to_jsonb(repeat('x', $1)), id = '" + id1 + "' WHERE prev_hash IS NOT NULL"
	run(t, url, size, auditdb.MaxRow-1000)
	rows, _, _, err := read(t, options(url, "audit_events"))
	if err != nil || len(rows) != 2 || len(rows[1]) < auditdb.MaxRow-1000 {
		t.Fatalf("%d rows below the limit, %v", len(rows), err)
	}
	run(t, url, size, auditdb.MaxRow)
	rows, _, begun, err := read(t, options(url, "audit_events"))
	if exitCode(err) != 2 || begun != 1 || len(rows) != 1 || !strings.Contains(err.Error(), id1) || !strings.Contains(err.Error(), "row 2") {
		t.Errorf("exit code %d, %d rows, begun %d times: %v", exitCode(err), len(rows), begun, err)
	}
}

func TestUnixSocket(t *testing.T) {
	url := create(t, auditdbtest.AgentManager)
	port := url[strings.LastIndexByte(url, ':')+1 : strings.LastIndexByte(url, '/')]
	dsn := fmt.Sprintf("host='%s' port=%s user=postgres dbname=%s", auditdbtest.Shared(t).Dir(), port, database(url))
	if _, _, _, err := read(t, options(dsn, "audit_events")); err != nil {
		t.Error(err)
	}
	_, _, _, err := read(t, options(strings.Replace(dsn, "port="+port, "port=1", 1), "audit_events"))
	if exitCode(err) != 3 || !strings.Contains(err.Error(), "no such socket") {
		t.Error(err)
	}
}

// What is new since a time, and the number of all rows, are of one snapshot.
func TestEventsSince(t *testing.T) {
	for dialect, column := range map[string]string{auditdbtest.AgentManager: "created_at", auditdbtest.Kernel: "ts"} {
		url := create(t, dialect)
		fill(t, url, 20, 10)
		run(t, url, `UPDATE audit_events SET `+column+` = timestamptz '2026-03-01 12:00:00.000001Z' + interval '1 minute' * (payload->>'n')::int`)
		err := auditdb.Read(t.Context(), options(url, "audit_events"), func(ctx context.Context, s *auditdb.Snapshot) error {
			since := time.Date(2026, 3, 1, 13, 15, 0, 1000, time.FixedZone("", 3600)) // 12:15 UTC
			for e, err := range s.EventsSince(ctx, since) {
				if err != nil {
					return err
				}
				if e.CreatedAt.Before(since) || len(e.Payload) == 0 {
					t.Errorf("%+v", e)
				}
				if e.Row == 2 {
					break // the rest of a scan does not disturb the next
				}
			}
			run(t, url, `DELETE FROM audit_events WHERE (payload->>'n')::int < 5`)
			n, err := s.Count(ctx)
			if err != nil || n != 20 {
				t.Errorf("%d rows counted, %v", n, err)
			}
			var rows int64
			for e, err := range s.EventsSince(ctx, since) {
				if err != nil {
					return err
				}
				rows = e.Row
			}
			if rows != 5 {
				t.Errorf("%s: %d rows since", dialect, rows)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
