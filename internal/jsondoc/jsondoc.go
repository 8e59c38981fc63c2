// Package jsondoc reads small JSON documents strictly, remembers where every
// value stands, and edits one value without touching any other byte.
//
// It refuses whatever two readers could understand differently: duplicate
// member names, comments and trailing commas, a byte order mark, ill-formed
// UTF-8, lone surrogates, text after the document, and anything beyond the
// size and depth limits. What passes means the same to every JSON parser
// (RFC 8259 section 4 and 8.2 leave those cases open), which is what makes it
// safe to judge a document here and to use it elsewhere. No error holds a byte of
// the document.
package jsondoc

import (
	"bytes"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tailscale/hujson"
)

// MaxSize and MaxDepth bound a document: a registry of a thousand signers is
// smaller than either.
const (
	MaxSize  = 1 << 20
	MaxDepth = 32
)

// Kind is the JSON type of a value.
type Kind int

// The seven kinds of RFC 8259 with the two booleans as one.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

func (k Kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// Value is one JSON value and its place, bytes [Start, End) of the document.
type Value struct {
	Kind       Kind
	Start, End int
	// Text is a string's decoded content, or a number's or boolean's text.
	Text string
	// Members are an object's, in the order of the document.
	Members []Member
	// Elements are an array's.
	Elements []*Value
}

// Member is a name with its value; NameStart is the offset of the name.
type Member struct {
	Name      string
	NameStart int
	Value     *Value
}

// Member finds a member by its exact name, nil if there is none.
func (v *Value) Member(name string) *Value {
	for _, m := range v.Members {
		if m.Name == name {
			return m.Value
		}
	}
	return nil
}

// Document is a parsed file.
type Document struct {
	// Name is the file's name as messages show it.
	Name string
	Root *Value

	src   []byte
	lines []int // offset at which each line starts
}

// Error says where a document is unreadable and why.
type Error struct {
	File      string
	Line, Col int
	Message   string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Message)
}

// Place is where that is; line and col are 0 where it is about the whole file.
func (e *Error) Place() (file string, line, col int) { return e.File, e.Line, e.Col }

// ExitCode is 2: the input cannot be read.
func (e *Error) ExitCode() int { return 2 }

// Parse reads one document. Every error is an *Error.
func Parse(name string, src []byte) (*Document, error) {
	d := &Document{Name: name, src: src}
	if len(src) > MaxSize {
		return nil, &Error{File: name, Message: fmt.Sprintf("the file has %d bytes, more than the limit of %d", len(src), MaxSize)}
	}
	d.lines = append(d.lines, 0)
	for i, b := range src {
		if b == '\n' {
			d.lines = append(d.lines, i+1)
		}
	}
	if err := d.precheck(); err != nil {
		return nil, err
	}
	hv, err := hujson.Parse(src)
	if err != nil {
		return nil, d.syntaxError(err)
	}
	if !hv.IsStandard() {
		return nil, d.errorAt(firstExtension(src), "comments and trailing commas are not JSON; remove them")
	}
	d.Root, err = d.build(&hv)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// precheck refuses what the parser would take or would choke on.
func (d *Document) precheck() error {
	switch {
	case len(bytes.TrimSpace(d.src)) == 0:
		return d.errorAt(0, "the file is empty: give it the JSON document that belongs there")
	case bytes.HasPrefix(d.src, []byte("\xef\xbb\xbf")):
		return d.errorAt(0, "the file starts with a byte order mark; save it as UTF-8 without one")
	case !utf8.Valid(d.src):
		at := 0
		for at < len(d.src) {
			r, n := utf8.DecodeRune(d.src[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		return d.errorAt(at, "the file is not UTF-8")
	}
	depth, inString := 0, false
	for i := 0; i < len(d.src); i++ {
		switch c := d.src[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			if depth++; depth > MaxDepth {
				return d.errorAt(i, fmt.Sprintf("nested deeper than %d levels", MaxDepth))
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return nil
}

var hujsonError = regexp.MustCompile(`^hujson: line (\d+), column (\d+): `)

const repair = "; repair the file there"

// syntaxError says where a document breaks off, and not with which text: that
// may be a secret which somebody has pasted without quotes.
func (d *Document) syntaxError(err error) error {
	e := &Error{File: d.Name, Line: 1, Col: 1}
	if m := hujsonError.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Col, _ = strconv.Atoi(m[2])
	}
	switch text := err.Error(); {
	case strings.Contains(text, "unexpected EOF"):
		e.Message = "not JSON: the file ends in the middle of a value"
	case strings.Contains(text, "after top-level value"):
		e.Message = "not JSON: something follows the document"
	case strings.Contains(text, "invalid literal"):
		e.Message = "not JSON: what starts here is no string, number, true, false or null as JSON writes them"
	default:
		e.Message = "not JSON: another character is needed here (a comma, a colon, a quote, or the end of an object or array)"
	}
	e.Message += repair
	return e
}

// firstExtension finds the comment or trailing comma in text that is valid
// but for such things.
func firstExtension(src []byte) int {
	inString, comma := false, -1
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString, comma = !inString, -1
		case inString || c == ' ' || c == '\t' || c == '\r' || c == '\n':
		case c == '/':
			return i
		case c == ',':
			comma = i
		case (c == ']' || c == '}') && comma >= 0:
			return comma
		default:
			comma = -1
		}
	}
	return 0
}

func (d *Document) build(hv *hujson.Value) (*Value, error) {
	v := &Value{Start: hv.StartOffset, End: hv.EndOffset}
	switch t := hv.Value.(type) {
	case hujson.Literal:
		return v, d.literal(v, t)
	case *hujson.Array:
		v.Kind = Array
		for i := range t.Elements {
			e, err := d.build(&t.Elements[i])
			if err != nil {
				return nil, err
			}
			v.Elements = append(v.Elements, e)
		}
	case *hujson.Object:
		v.Kind = Object
		seen := make(map[string]int, len(t.Members))
		for i := range t.Members {
			name, err := d.build(&t.Members[i].Name)
			if err != nil {
				return nil, err
			}
			if first, dup := seen[name.Text]; dup {
				line, _ := d.Position(first)
				return nil, d.errorAt(name.Start, fmt.Sprintf("this name stands twice in its object (first in line %d); parsers disagree on which one counts, so remove one", line))
			}
			seen[name.Text] = name.Start
			value, err := d.build(&t.Members[i].Value)
			if err != nil {
				return nil, err
			}
			v.Members = append(v.Members, Member{Name: name.Text, NameStart: name.Start, Value: value})
		}
	}
	return v, nil
}

func (d *Document) literal(v *Value, l hujson.Literal) error {
	switch l.Kind() {
	case 'n':
		v.Kind = Null
	case 't', 'f':
		v.Kind, v.Text = Bool, string(l)
	case '0':
		v.Kind, v.Text = Number, string(l)
	case '"':
		if at := loneSurrogate(string(l)); at >= 0 {
			return d.errorAt(v.Start+at, "a lone surrogate escape is no character; parsers replace it differently")
		}
		v.Kind, v.Text = String, l.String()
	}
	return nil
}

// loneSurrogate finds an escape \uD800-\uDFFF in string literal s that has no
// partner, -1 if there is none.
func loneSurrogate(s string) int {
	escape := func(i int) (rune, bool) {
		if i+6 > len(s) || s[i] != '\\' || s[i+1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(s[i+2:i+6], 16, 16)
		return rune(n), err == nil
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		r, ok := escape(i)
		switch {
		case !ok:
			i++
		case r >= 0xD800 && r < 0xDC00:
			if low, ok := escape(i + 6); !ok || low < 0xDC00 || low > 0xDFFF {
				return i
			}
			i += 11
		case r >= 0xDC00 && r <= 0xDFFF:
			return i
		default:
			i += 5
		}
	}
	return -1
}

// Position gives the line and column of an offset, both from 1; columns count
// characters.
func (d *Document) Position(offset int) (line, col int) {
	line = sort.SearchInts(d.lines, offset+1)
	start := d.lines[line-1]
	return line, utf8.RuneCount(d.src[start:min(offset, len(d.src))]) + 1
}

func (d *Document) errorAt(offset int, message string) *Error {
	line, col := d.Position(offset)
	return &Error{File: d.Name, Line: line, Col: col, Message: message}
}

// Source gives the text of a value exactly as it stands in the document.
func (d *Document) Source(v *Value) string { return string(d.src[v.Start:v.End]) }

// Bytes gives the whole document as it was read.
func (d *Document) Bytes() []byte { return d.src }

// Quote renders a JSON string with only the escapes that RFC 8259 demands, so
// that PEM text and ARNs stay readable.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r < 0x20:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
