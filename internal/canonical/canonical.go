// Package canonical turns the JSON text of an event's payload into the bytes
// that the audited service hashes: member names sorted by UTF-16 code units,
// no white space, numbers as ECMAScript prints them, only the escapes that
// JSON.stringify writes. For every I-JSON value that is RFC 8785 (JCS).
//
// It refuses text that is not JSON, duplicate names, lone surrogates,
// ill-formed UTF-8 and nesting beyond MaxDepth: the service could not have
// written such a row. It works in one pass over the text, without building
// the value and, with a reused Encoder, without allocating. The form loses
// the difference between some numbers; Notes says when that happens.
package canonical

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// MaxDepth bounds the nesting of arrays and objects.
const MaxDepth = 512

// Notes are facts about a payload that its canonical form hides.
type Notes uint8

const (
	// Lossy: some number's exact value differs from what ECMAScript prints
	// for it, so an edit of its last digits could go unseen.
	Lossy Notes = 1 << iota
	// OutOfRange: some number is beyond the double range; it prints as null.
	OutOfRange
	// NotObject: the payload is a scalar or an array.
	NotObject
)

// Error is a reason why the text has no canonical form.
type Error struct {
	// Offset is the byte of the payload at which the trouble was seen.
	Offset  int
	Message string
	// TooDeep: a limit of this package, not of JSON.
	TooDeep bool
}

func (e *Error) Error() string { return fmt.Sprintf("byte %d: %s", e.Offset, e.Message) }

// Append appends the canonical form of payload to dst. A nil or empty payload
// is no JSON; the caller decides what SQL NULL means. On error dst is returned
// as it was.
func Append(dst, payload []byte) ([]byte, Notes, error) {
	var e Encoder
	return e.Append(dst, payload)
}

// Encoder holds the scratch space of one worker. The zero value is ready.
//
// Where it stands in the text and what it has emitted go from method to method
// as arguments and results: that keeps them in registers.
type Encoder struct {
	src     []byte
	notes   Notes
	depth   int
	members []member // of all objects that are open, innermost last
	ranks   []rank
	scratch []byte
}

// member is one emitted `"name":value`, as offsets into dst.
type member struct {
	start, nameEnd, end int
	escaped             bool // the name holds a backslash
	prefix              uint64
}

// rank is a member's place in the order: what is compared first, and where in
// the object's members it stands.
type rank struct {
	prefix uint64
	at     int
}

// Append is the package's Append with the encoder's scratch space.
func (e *Encoder) Append(dst, payload []byte) ([]byte, Notes, error) {
	e.src, e.notes, e.depth = payload, 0, 0
	e.members = e.members[:0]
	if !utf8.Valid(payload) {
		return dst, 0, &Error{Offset: invalidAt(payload), Message: "not UTF-8"}
	}
	pos := e.space(0)
	if pos < len(payload) && payload[pos] != '{' {
		e.notes |= NotObject
	}
	form, pos, err := e.value(dst, pos)
	if err != nil {
		return dst, 0, err
	}
	if pos = e.space(pos); pos != len(payload) {
		return dst, 0, fail(pos, "text after the value")
	}
	return form, e.notes, nil
}

func invalidAt(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

func fail(pos int, message string) error { return &Error{Offset: pos, Message: message} }

// space gives the first position from pos on that holds no white space.
func (e *Encoder) space(pos int) int {
	for pos < len(e.src) && e.src[pos] <= ' ' && 1<<e.src[pos]&(1<<' '|1<<'\t'|1<<'\n'|1<<'\r') != 0 {
		pos++
	}
	return pos
}

// peek gives the byte at pos, 0 at the end (which no JSON text contains outside
// of strings).
func (e *Encoder) peek(pos int) byte {
	if pos < len(e.src) {
		return e.src[pos]
	}
	return 0
}

// value emits the value at pos to dst and gives the position behind it.
func (e *Encoder) value(dst []byte, pos int) ([]byte, int, error) {
	switch c := e.peek(pos); {
	case c == '"':
		dst, pos, _, err := e.text(dst, pos)
		return dst, pos, err
	case c == '{':
		return e.object(dst, pos)
	case c == '[':
		return e.array(dst, pos)
	case c == '-' || c >= '0' && c <= '9':
		return e.number(dst, pos)
	case c == 't':
		return e.literal(dst, pos, "true")
	case c == 'f':
		return e.literal(dst, pos, "false")
	case c == 'n':
		return e.literal(dst, pos, "null")
	}
	if pos == len(e.src) {
		return dst, pos, fail(pos, "the text ends where a value is needed")
	}
	return dst, pos, fail(pos, "no JSON value starts here")
}

func (e *Encoder) literal(dst []byte, pos int, word string) ([]byte, int, error) {
	if !bytes.HasPrefix(e.src[pos:], []byte(word)) {
		return dst, pos, fail(pos, "no JSON value starts here")
	}
	return append(dst, word...), pos + len(word), nil
}

// enter emits the bracket at pos, if another level is allowed.
func (e *Encoder) enter(dst []byte, pos int) ([]byte, int, error) {
	if e.depth++; e.depth > MaxDepth {
		return dst, pos, &Error{pos, fmt.Sprintf("nested deeper than %d levels", MaxDepth), true}
	}
	return append(dst, e.src[pos]), e.space(pos + 1), nil
}

func (e *Encoder) array(dst []byte, pos int) ([]byte, int, error) {
	dst, pos, err := e.enter(dst, pos)
	if err != nil {
		return dst, pos, err
	}
	if e.peek(pos) != ']' {
		for {
			if dst, pos, err = e.value(dst, pos); err != nil {
				return dst, pos, err
			}
			if pos = e.space(pos); e.peek(pos) != ',' {
				break
			}
			dst, pos = append(dst, ','), e.space(pos+1)
		}
		if e.peek(pos) != ']' {
			return dst, pos, fail(pos, "',' or ']' is needed here")
		}
	}
	e.depth--
	return append(dst, ']'), pos + 1, nil
}

func (e *Encoder) object(dst []byte, pos int) ([]byte, int, error) {
	start := pos
	dst, pos, err := e.enter(dst, pos)
	if err != nil {
		return dst, pos, err
	}
	if e.peek(pos) != '}' {
		first, sorted := len(e.members), true
		for {
			if e.peek(pos) != '"' {
				return dst, pos, fail(pos, "a member name is needed here")
			}
			at, from, start := len(e.members), pos+1, len(dst)
			var escaped bool
			if dst, pos, escaped, err = e.text(dst, pos); err != nil {
				return dst, pos, err
			}
			e.members = append(e.members, member{})
			m := &e.members[at]
			m.start, m.nameEnd, m.escaped = start, len(dst), escaped
			if n := pos - 1 - from; n == m.nameEnd-start-2 && !escaped { // no escape at all: each is longer than what it stands for
				m.prefix = prefix(e.src[from:], n)
			}
			if sorted && at > first {
				sorted = compare(dst, &e.members[at-1], m) < 0
			}
			if pos = e.space(pos); e.peek(pos) != ':' {
				return dst, pos, fail(pos, "':' is needed here")
			}
			if dst, pos, err = e.value(append(dst, ':'), e.space(pos+1)); err != nil {
				return dst, pos, err
			}
			e.members[at].end = len(dst)
			if pos = e.space(pos); e.peek(pos) != ',' {
				break
			}
			dst, pos = append(dst, ','), e.space(pos+1)
		}
		if e.peek(pos) != '}' {
			return dst, pos, fail(pos, "',' or '}' is needed here")
		}
		if !sorted && !e.sort(dst, e.members[first:]) {
			return dst, pos, fail(start, "an object has two members of the same name")
		}
		e.members = e.members[:first]
	}
	e.depth--
	return append(dst, '}'), pos + 1, nil
}

// sort brings the members of the innermost object into order, false if two
// have the same name.
func (e *Encoder) sort(dst []byte, ms []member) bool {
	ranks := e.ranks[:0]
	for i := range ms {
		ranks = append(ranks, rank{ms[i].prefix, i})
	}
	e.ranks = ranks
	order := func(a, b rank) int {
		if a.prefix != b.prefix && a.prefix != 0 && b.prefix != 0 {
			return cmp.Compare(a.prefix, b.prefix)
		}
		return compare(dst, &ms[a.at], &ms[b.at])
	}
	if len(ms) <= 16 {
		for i, r := range ranks {
			for ; i > 0 && order(r, ranks[i-1]) < 0; i-- {
				ranks[i] = ranks[i-1]
			}
			ranks[i] = r
		}
	} else {
		slices.SortFunc(ranks, order)
	}
	e.scratch = e.scratch[:0]
	for i, r := range ranks {
		if i > 0 {
			if order(ranks[i-1], r) == 0 {
				return false
			}
			e.scratch = append(e.scratch, ',')
		}
		e.scratch = append(e.scratch, dst[ms[r.at].start:ms[r.at].end]...)
	}
	copy(dst[ms[0].start:], e.scratch)
	return true
}

// prefix is what tells most names apart: the first eight bytes of a name of n,
// most significant first, zeros behind a shorter one. It is 0 for one in which
// a character beyond ASCII comes early, or at the very end of the text: those
// take a full comparison, as do names with an escape. It is read from the text,
// since what has just been emitted is slow to read back.
func prefix(name []byte, n int) uint64 {
	if n == 0 || len(name) < 8 {
		return 0
	}
	p := binary.BigEndian.Uint64(name)
	if n < 8 {
		p = p >> (64 - 8*uint(n)) << (64 - 8*uint(n))
	}
	if p&highs != 0 {
		return 0
	}
	return p
}

// compare orders two emitted names by UTF-16 code units (ECMA-262, the
// default of Array.prototype.sort). That is the order of the UTF-8 bytes but
// for one case: a character beyond U+FFFF sorts as its surrogates, before
// U+E000 to U+FFFF.
func compare(dst []byte, a, b *member) int {
	if a.prefix != b.prefix && a.prefix != 0 && b.prefix != 0 {
		return cmp.Compare(a.prefix, b.prefix)
	}
	x, y := dst[a.start+1:a.nameEnd-1], dst[b.start+1:b.nameEnd-1]
	if a.escaped || b.escaped {
		return compareEscaped(x, y)
	}
	n := min(len(x), len(y))
	for i := 0; i < n; i++ {
		if x[i] != y[i] {
			return compareUnit(x[i], y[i])
		}
	}
	return len(x) - len(y)
}

func compareUnit(x, y byte) int {
	switch {
	case x >= 0xF0 && (y == 0xEE || y == 0xEF):
		return -1
	case y >= 0xF0 && (x == 0xEE || x == 0xEF):
		return 1
	}
	return int(x) - int(y)
}

// compareEscaped compares names in which canonical escapes stand; each stands
// for one ASCII character.
func compareEscaped(x, y []byte) int {
	for len(x) > 0 && len(y) > 0 {
		var p, q byte
		p, x = unescape(x)
		q, y = unescape(y)
		if p != q {
			return compareUnit(p, q)
		}
	}
	return len(x) - len(y)
}

func unescape(s []byte) (byte, []byte) {
	if s[0] != '\\' {
		return s[0], s[1:]
	}
	switch s[1] {
	case 'b':
		return '\b', s[2:]
	case 'f':
		return '\f', s[2:]
	case 'n':
		return '\n', s[2:]
	case 'r':
		return '\r', s[2:]
	case 't':
		return '\t', s[2:]
	case 'u':
		return unhex(s[4])<<4 | unhex(s[5]), s[6:]
	}
	return s[1], s[2:]
}

// ones and highs are the lowest and the highest bit of each byte of a word.
const ones, highs = 0x0101010101010101, 0x8080808080808080

// text emits the string at pos, quotes included. Plain characters, which are
// all but quote, backslash and controls, are looked for and copied a word at a
// time; the word that ends them is stored whole, and what was too much of it is
// overwritten.
func (e *Encoder) text(dst []byte, pos int) (_ []byte, _ int, escaped bool, _ error) {
	src := e.src
	dst, pos = append(dst, '"'), pos+1
	for {
		if room := len(src) - pos + 8; cap(dst)-len(dst) < room {
			dst = slices.Grow(dst, room)
		}
		n := len(dst)
		dst = dst[:cap(dst)]
		special := uint64(0)
		for ; pos+8 <= len(src); pos, n = pos+8, n+8 {
			w := binary.LittleEndian.Uint64(src[pos:])
			binary.LittleEndian.PutUint64(dst[n:], w)
			// A byte's high bit is set in the difference if the byte is below 0x20
			// or a quote, the only ones that the bit 2 turned brings below 0x21, or
			// a backslash. The lowest set bit is always exact.
			low, slash := (w^(ones*2))-ones*0x21, (w^(ones*'\\'))-ones
			special = (low | slash) &^ w & highs
			if special != 0 {
				k := bits.TrailingZeros64(special) / 8
				pos, n = pos+k, n+k
				break
			}
		}
		if special == 0 {
			for pos < len(src) && src[pos] >= 0x20 && src[pos] != '"' && src[pos] != '\\' {
				dst[n] = src[pos]
				pos, n = pos+1, n+1
			}
		}
		dst = dst[:n]
		switch c := e.peek(pos); {
		case pos == len(src):
			return dst, pos, false, fail(pos, "a string is not closed")
		case c == '"':
			return append(dst, '"'), pos + 1, escaped, nil
		case c == '\\':
			var err error
			if dst, pos, err = e.escape(dst, pos); err != nil {
				return dst, pos, false, err
			}
			escaped = escaped || dst[n] == '\\'
		default:
			return dst, pos, false, fail(pos, "a control character must be escaped in a string")
		}
	}
}

// escape reads one escape and emits what the canonical form has for it.
func (e *Encoder) escape(dst []byte, pos int) ([]byte, int, error) {
	if pos+1 >= len(e.src) {
		return dst, pos, fail(pos, "a string is not closed")
	}
	c := e.src[pos+1]
	switch c {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		return append(dst, '\\', c), pos + 2, nil
	case '/':
		return append(dst, '/'), pos + 2, nil
	case 'u':
		return e.escapeUnicode(dst, pos)
	}
	return dst, pos, fail(pos, "no such escape in JSON")
}

func (e *Encoder) escapeUnicode(dst []byte, pos int) ([]byte, int, error) {
	r, ok := hex4(e.src[pos+2:])
	if !ok {
		return dst, pos, fail(pos, `\u needs four hex digits`)
	}
	if r >= 0xD800 && r <= 0xDFFF {
		next := e.src[pos+6:]
		low, ok := rune(0), len(next) >= 2 && next[0] == '\\' && next[1] == 'u'
		if ok {
			low, ok = hex4(next[2:])
		}
		if r >= 0xDC00 || !ok || low < 0xDC00 || low > 0xDFFF {
			return dst, pos, fail(pos, "a lone surrogate is no character")
		}
		return utf8.AppendRune(dst, (r-0xD800)<<10+(low-0xDC00)+0x10000), pos + 12, nil
	}
	switch {
	case r == '"' || r == '\\':
		dst = append(dst, '\\', byte(r))
	case r >= 0x20:
		dst = utf8.AppendRune(dst, r)
	case controlEscapes[r] != 0:
		dst = append(dst, '\\', controlEscapes[r])
	default:
		const hex = "0123456789abcdef"
		dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
	}
	return dst, pos + 6, nil
}

var controlEscapes = [0x20]byte{'\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			r = r<<4 | rune(unhex(c))
		default:
			return 0, false
		}
	}
	return r, true
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
