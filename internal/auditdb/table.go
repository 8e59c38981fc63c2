package auditdb

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Dialect names the writer whose table has these columns.
type Dialect string

// The dialects differ in the signer's column; created_at or ts, and the stored
// digest, are recognised on their own.
const (
	AgentManager Dialect = "agent-manager" // signer_kid, created_at, no stored digest
	Kernel       Dialect = "kernel"        // signer_id, ts, hash
)

// table is the audit table as found in the catalog.
type table struct {
	name    string // schema.table, quoted where SQL needs it
	sql     string // schema.table, quoted
	dialect Dialect
	columns []string // every column's name, in the table's order
	needed  []column // those that are read, in the order of kinds; hash, the last, may be missing
}

// kind is what a column must be for its reader.
type kind struct {
	names    []string // the first that the table has
	optional bool
	fits     func(column) bool
	want     string
}

type column struct{ name, base, category, shown string }

func (c column) isText() bool { return c.category == "S" }

// kinds lists the needed columns; the order is that of [Snapshot.Events].
var kinds = []kind{
	{names: []string{"id"}, fits: func(column) bool { return true }},
	{names: []string{"payload"}, want: "jsonb, json or text", fits: func(c column) bool {
		return c.isText() || c.base == "jsonb" || c.base == "json"
	}},
	{names: []string{"prev_hash"}, want: "text", fits: column.isText},
	{names: []string{"signature"}, want: "text", fits: column.isText},
	{names: []string{"signer_kid", "signer_id"}, want: "text", fits: column.isText},
	{names: []string{"created_at", "ts"}, want: "timestamp", fits: func(c column) bool {
		return c.base == "timestamptz" || c.base == "timestamp"
	}},
	{names: []string{"hash"}, want: "text", optional: true, fits: column.isText},
}

// The places of some columns among kinds.
const (
	id        = 0
	payload   = 1
	prev      = 2
	signer    = 4
	createdAt = 5
	hash      = 6
)

const neededText = "id, payload, prev_hash, signature, signer_kid (or signer_id) and created_at (or ts)"

// findTable looks the name up and checks its columns. Functions are qualified
// because a role's search path may put other schemas before the catalog's.
func (s *session) findTable(ctx context.Context) (*table, error) {
	rows, err := s.query(ctx, `SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind,
	a.attname, coalesce(b.typname, t.typname), t.typcategory, pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype
WHERE c.oid = pg_catalog.to_regclass($1::text) ORDER BY a.attnum`, s.wanted.sql())
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !strings.Contains("rpvmf", rows[0][3]) {
		return nil, s.noTable(ctx)
	}
	t := &table{name: rows[0][2], sql: name{rows[0][0], rows[0][1]}.sql()}
	var columns []column
	for _, r := range rows {
		t.columns = append(t.columns, r[4])
		columns = append(columns, column{name: r[4], base: r[5], category: r[6], shown: r[7]})
	}
	return t, t.choose(columns)
}

// choose picks the needed columns, or says which are missing or of a type that
// cannot be read.
func (t *table) choose(columns []column) error {
	var missing []string
	for _, k := range kinds {
		i := -1
		for _, want := range k.names {
			if i < 0 {
				i = slices.IndexFunc(columns, func(c column) bool { return c.name == want })
			}
		}
		switch {
		case i < 0 && k.optional:
		case i < 0:
			missing = append(missing, strings.Join(k.names, " or "))
		case !k.fits(columns[i]):
			return misuse("column %s of %s is %s, but this reads only %s: point the table input at the audit table itself", columns[i].name, t.name, columns[i].shown, k.want)
		default:
			t.needed = append(t.needed, columns[i])
		}
	}
	if missing != nil {
		return misuse("table %s is not a signed audit chain: it has the columns %s, and lacks %s; a chain needs %s: check the table input",
			t.name, strings.Join(t.columns, ", "), strings.Join(missing, ", "), neededText)
	}
	t.dialect = AgentManager
	if t.needed[signer].name == "signer_id" {
		t.dialect = Kernel
	}
	return nil
}

// hasHash says that the table stores digests.
func (t *table) hasHash() bool { return len(t.needed) > hash }

// scan is the statement that reads every row, for results in binary format.
// Text, json and jsonb (after a byte) are text in that format too; having the
// server cast uuid and jsonb to text would cost it a fifth more.
func (t *table) scan() string {
	fields := make([]string, len(t.needed))
	for i, c := range t.needed {
		fields[i] = quote(c.name)
		if i != payload && i != createdAt && c.base != "uuid" {
			fields[i] += "::text"
		}
	}
	return fmt.Sprintf("SELECT %s FROM %s", strings.Join(fields, ", "), t.sql)
}

// largest is the statement that names the row of most text.
func (t *table) largest() string {
	sizes := make([]string, len(t.needed))
	for i, c := range t.needed {
		sizes[i] = "coalesce(pg_catalog.octet_length(" + quote(c.name) + "::text), 0)"
	}
	return fmt.Sprintf("SELECT pg_catalog.left(%s::text, 200) FROM %s ORDER BY %s DESC LIMIT 1", quote(t.needed[id].name), t.sql, strings.Join(sizes, " + "))
}

// noTable says that there is no such table, and where one of that name is.
func (s *session) noTable(ctx context.Context) error {
	rows, err := s.query(ctx, `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = $1::text AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1 LIMIT 5`, s.wanted.relation)
	if err != nil {
		return err
	}
	found := "no schema has a table of that name"
	if len(rows) > 0 {
		found = "found " + strings.Join(slices.Concat(rows...), ", ")
	}
	return misuse("there is no table %s in %s (%s): set the table input to schema.table of the audit table", s.wanted.sql(), s.where, found)
}
