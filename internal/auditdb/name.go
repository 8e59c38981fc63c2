package auditdb

import (
	"regexp"
	"strings"
)

// name is a relation's name as the user gave it, folded as PostgreSQL folds
// it; schema is empty where the search path decides.
type name struct{ schema, relation string }

const ident = `([A-Za-z_][A-Za-z0-9_$]*|"(?:[^"\x00]|"")+")`

var namePattern = regexp.MustCompile(`^(?:` + ident + `\.)?` + ident + `$`)

// parseName reads ident or ident.ident; see
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html for what an
// identifier is. Letters outside ASCII need quotes here.
func parseName(s string) (name, error) {
	m := namePattern.FindStringSubmatch(s)
	if m == nil {
		return name{}, misuse("the table name %q is not name or schema.name: use letters, digits and underscores, or write each part in double quotes", s)
	}
	n := name{schema: unquote(m[1]), relation: unquote(m[2])}
	// PostgreSQL would cut a longer identifier and read another table.
	if len(n.schema) > 63 || len(n.relation) > 63 {
		return name{}, misuse("the table name %q has a part of more than 63 bytes, which no PostgreSQL identifier has: check the table input", s)
	}
	return n, nil
}

func unquote(ident string) string {
	if strings.HasPrefix(ident, `"`) {
		return strings.ReplaceAll(ident[1:len(ident)-1], `""`, `"`)
	}
	return strings.ToLower(ident)
}

func quote(ident string) string {
	return `"` + strings.ReplaceAll(ident, `"`, `""`) + `"`
}

// sql is the name in quotes.
func (n name) sql() string {
	if n.schema == "" {
		return quote(n.relation)
	}
	return quote(n.schema) + "." + quote(n.relation)
}
