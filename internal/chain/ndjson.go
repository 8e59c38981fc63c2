package chain

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/canonical"
)

// MaxLine bounds a line of an export, in bytes with its line end.
const MaxLine = 16 << 20

// NDJSON reads an export with one JSON object a line, whose members are the
// table's columns: id, payload and prev_hash must be there, signature,
// signer_kid (or signer_id), hash, created_at (or ts) may be; others are
// checked to be JSON and ignored. Rows come in any order. open is called each
// time the events are ranged over, and must give the same bytes each time. A
// line that two readers could understand differently (a column twice, or in
// another letter case) ends the reading with a *SourceError that names it.
func NDJSON(name string, open func() (io.ReadCloser, error)) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f, err := open()
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer f.Close()
		lines := bufio.NewReaderSize(f, 1<<18)
		var p rowParser
		for number, row := int64(1), int64(0); ; number++ {
			line, err := p.readLine(lines)
			if err == nil || err == io.EOF && len(line) > 0 {
				if len(bytes.Trim(line, " \t\r\n")) > 0 {
					row++
					e, bad := p.parse(line)
					if bad != nil {
						yield(Event{}, &SourceError{Message: fmt.Sprintf("%s:%d: %v", name, number, bad)})
						return
					}
					e.Row = row
					if !yield(e, nil) {
						return
					}
				}
			}
			switch {
			case err == io.EOF:
				return
			case errors.Is(err, errLine):
				yield(Event{}, &SourceError{Message: fmt.Sprintf("%s:%d: the line is longer than %d bytes; check how the export was made: one event a line", name, number, MaxLine)})
				return
			case err != nil:
				yield(Event{}, fmt.Errorf("%s:%d: %w", name, number, err))
				return
			}
		}
	}
}

var errLine = errors.New("line too long")

// rowParser reads one line at a time, reusing its space.
type rowParser struct {
	long []byte // a line that did not fit into the reader's buffer
	line []byte
	pos  int

	checker canonical.Encoder
	scratch []byte
}

func (p *rowParser) readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return line, err
	}
	p.long = append(p.long[:0], line...)
	for err == bufio.ErrBufferFull {
		line, err = r.ReadSlice('\n')
		if len(p.long)+len(line) > MaxLine {
			return nil, errLine
		}
		p.long = append(p.long, line...)
	}
	return p.long, err
}

// columns are the ones that are known; what stands in the two tables under two
// names has two. The last ones are not read.
var columns = [numColumns]string{"id", "payload", "prev_hash", "signature", "signer_kid", "signer_id", "hash", "created_at", "ts", "actor_id", "event_type"}

const (
	colID = iota
	colPayload
	colPrev
	colSignature
	colKid
	colSignerID
	colHash
	colCreated
	colTS
	colActor
	colType
	numColumns
)

func (p *rowParser) parse(line []byte) (e Event, err error) {
	p.line, p.pos = line, 0
	var values [numColumns][]byte
	var seen [numColumns]bool
	if err := p.object(func(name, value []byte) error {
		col, err := columnOf(name)
		if err != nil {
			return err
		}
		if col < 0 || col >= colActor {
			if err := p.wellFormed(value); err != nil {
				return fmt.Errorf("column %.80q holds no well-formed JSON value: %v", name, err)
			}
		}
		if col < 0 {
			return nil
		}
		if seen[col] {
			return fmt.Errorf("column %q stands twice in the row; readers disagree on which one counts", columns[col])
		}
		seen[col], values[col] = true, value
		return nil
	}); err != nil {
		return e, err
	}
	for _, col := range []int{colID, colPayload, colPrev} {
		if !seen[col] {
			return e, fmt.Errorf("the row has no column %q; it needs id, payload and prev_hash", columns[col])
		}
	}
	if seen[colKid] && seen[colSignerID] && !bytes.Equal(values[colKid], values[colSignerID]) {
		return e, errors.New("signer_kid and signer_id disagree")
	}
	if e.Payload = values[colPayload]; string(e.Payload) == "null" {
		e.Payload = nil // JSON null and SQL NULL have one canonical form
	}
	e.HasHash = seen[colHash]
	for _, f := range []struct {
		col  int
		into *[]byte
	}{{colPrev, &e.Prev}, {colSignature, &e.Signature}, {colKid, &e.Signer}, {colSignerID, &e.Signer}, {colHash, &e.Hash}} {
		if seen[f.col] {
			if *f.into, err = p.text(columns[f.col], values[f.col]); err != nil {
				return e, err
			}
		}
	}
	if e.ID, err = p.id(values[colID]); err != nil {
		return e, err
	}
	for _, col := range []int{colCreated, colTS} {
		if seen[col] {
			if e.CreatedAt, err = p.instant(columns[col], values[col]); err != nil {
				return e, err
			}
		}
	}
	return e, nil
}

// columnOf gives the index of a column, -1 for one that is not read.
func columnOf(name []byte) (int, error) {
	for i, c := range columns {
		if string(name) == c {
			return i, nil
		}
	}
	for _, c := range columns {
		if strings.EqualFold(string(name), c) {
			return 0, fmt.Errorf("column %.80q is %q in another letter case; readers disagree on whether it counts", name, c)
		}
	}
	return -1, nil
}

// object visits the members of the object that is the whole line.
func (p *rowParser) object(member func(name, value []byte) error) error {
	if p.space(); p.next() != '{' {
		return errors.New("a row is a JSON object, one on each line")
	}
	if p.space(); p.peek() == '}' {
		p.pos++
	} else {
		for {
			p.space()
			if p.peek() != '"' {
				return p.fail("a column name is needed")
			}
			from := p.pos
			if !p.skipString() {
				return p.fail("a string is not closed")
			}
			name, err := p.text("name of a column", p.line[from:p.pos])
			if err != nil {
				return err
			}
			if p.space(); p.next() != ':' {
				return p.fail("':' is needed")
			}
			p.space()
			from = p.pos
			if !p.skipValue() {
				return p.fail("a value is missing or not closed")
			}
			if err := member(name, p.line[from:p.pos]); err != nil {
				return err
			}
			p.space()
			if c := p.next(); c == '}' {
				break
			} else if c != ',' {
				return p.fail("',' or '}' is needed")
			}
		}
	}
	if p.space(); p.pos != len(p.line) {
		return p.fail("text after the row; one row a line")
	}
	return nil
}

func (p *rowParser) fail(what string) error {
	return fmt.Errorf("not a JSON object: byte %d: %s; check how the export was made: one JSON object a line", min(p.pos, len(p.line)), what)
}

func (p *rowParser) peek() byte {
	if p.pos < len(p.line) {
		return p.line[p.pos]
	}
	return 0
}

func (p *rowParser) next() byte {
	c := p.peek()
	p.pos++
	return c
}

func (p *rowParser) space() {
	for p.pos < len(p.line) && strings.IndexByte(" \t\r\n", p.line[p.pos]) >= 0 {
		p.pos++
	}
}

// skipString moves behind the string at pos.
func (p *rowParser) skipString() bool {
	for p.pos++; ; {
		i := bytes.IndexByte(p.line[p.pos:], '"')
		if i < 0 {
			return false
		}
		escapes := 0
		for k := p.pos + i - 1; k >= p.pos && p.line[k] == '\\'; k-- {
			escapes++
		}
		p.pos += i + 1
		if escapes%2 == 0 {
			return true
		}
	}
}

// skipValue moves behind the value at pos. It finds the end only: what stands
// between is judged by whoever uses the value.
func (p *rowParser) skipValue() bool {
	from := p.pos
	for depth := 0; p.pos < len(p.line); {
		switch c := p.line[p.pos]; c {
		case '"':
			if !p.skipString() {
				return false
			}
			if depth == 0 {
				return true
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return p.pos > from
			}
			if depth--; depth == 0 {
				p.pos++
				return true
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return p.pos > from
			}
		}
		p.pos++
	}
	return false
}

// id takes a string or, of a table that counts its rows, a number.
func (p *rowParser) id(value []byte) ([]byte, error) {
	if value[0] == '"' {
		return p.text("id", value)
	}
	if c := value[0]; c != '-' && (c < '0' || c > '9') || p.wellFormed(value) != nil {
		return nil, errors.New("column id must be a string or a number")
	}
	return value, nil
}

// text decodes a JSON string, or null as nil.
func (p *rowParser) text(column string, value []byte) ([]byte, error) {
	if string(value) == "null" {
		return nil, nil
	}
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return nil, fmt.Errorf("column %s must be a string or null", column)
	}
	inner := value[1 : len(value)-1]
	if !slices.ContainsFunc(inner, func(c byte) bool { return c < 0x20 || c >= 0x80 || c == '\\' || c == '"' }) {
		return inner, nil
	}
	var s string
	if err := cmp.Or(p.wellFormed(value), json.Unmarshal(value, &s)); err != nil {
		return nil, fmt.Errorf("column %s is not a well-formed string: %v", column, err)
	}
	return []byte(s), nil
}

// wellFormed refuses what readers understand differently even within a value:
// text that is not UTF-8, lone surrogates, names that stand twice.
func (p *rowParser) wellFormed(value []byte) (err error) {
	p.scratch, _, err = p.checker.Append(p.scratch[:0], value)
	return err
}

// instant reads a time as PostgreSQL's JSON output and this project's exports
// write it; one without a zone is taken as UTC.
func (p *rowParser) instant(column string, value []byte) (time.Time, error) {
	s, err := p.text(column, value)
	if err != nil || s == nil {
		return time.Time{}, err
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999Z07:00"} {
		if t, err := time.Parse(layout, string(s)); err == nil {
			return t, nil
		}
	}
	if beyondRFC3339.Match(s) {
		return time.Time{}, nil
	}
	return time.Time{}, fmt.Errorf("column %s holds %.80q, which is no RFC 3339 time", column, s)
}

// beyondRFC3339 are the times that PostgreSQL prints and RFC 3339 does not know
// (PostgreSQL, "Date/Time Types": infinity, years before 1 and after 9999, offsets
// with seconds). As in the table itself, such a column claims nothing.
var beyondRFC3339 = regexp.MustCompile(`^-?infinity$|` +
	`^\d{4,6}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d(?::\d\d){0,2})? BC$|` +
	`^\d{5,6}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d(?::\d\d){0,2})?$|` +
	`^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d:\d\d:\d\d$`)
