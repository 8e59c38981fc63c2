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
type Encoder struct {
	src     []byte
	pos     int
	dst     []byte
	notes   Notes
	depth   int
	members []member // of all objects that are open, innermost last
	scratch []byte
}

// member is one emitted `"name":value`, as offsets into dst.
type member struct {
	start, nameEnd, end int
	escaped             bool // the name holds a backslash
	// prefix is the name's first eight bytes, most significant first, zeros
	// behind a shorter name; 0 if only a full comparison will do.
	prefix uint64
}

// Append is the package's Append with the encoder's scratch space.
func (e *Encoder) Append(dst, payload []byte) ([]byte, Notes, error) {
	e.src, e.pos, e.dst, e.notes, e.depth = payload, 0, dst, 0, 0
	e.members = e.members[:0]
	if !utf8.Valid(payload) {
		return dst, 0, &Error{Offset: invalidAt(payload), Message: "not UTF-8"}
	}
	e.space()
	if e.pos < len(e.src) && e.src[e.pos] != '{' {
		e.notes |= NotObject
	}
	if err := e.value(); err != nil {
		return dst, 0, err
	}
	e.space()
	if e.pos != len(e.src) {
		return dst, 0, e.fail("text after the value")
	}
	return e.dst, e.notes, nil
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

func (e *Encoder) fail(message string) error { return &Error{Offset: e.pos, Message: message} }

func (e *Encoder) space() {
	for e.pos < len(e.src) {
		switch e.src[e.pos] {
		case ' ', '\t', '\n', '\r':
			e.pos++
		default:
			return
		}
	}
}

// peek gives the next byte, 0 at the end (which no JSON text contains outside
// of strings).
func (e *Encoder) peek() byte {
	if e.pos < len(e.src) {
		return e.src[e.pos]
	}
	return 0
}

func (e *Encoder) value() error {
	switch c := e.peek(); {
	case c == '"':
		_, err := e.text()
		return err
	case c == '{':
		return e.object()
	case c == '[':
		return e.array()
	case c == '-' || c >= '0' && c <= '9':
		return e.number()
	case c == 't':
		return e.literal("true")
	case c == 'f':
		return e.literal("false")
	case c == 'n':
		return e.literal("null")
	}
	if e.pos == len(e.src) {
		return e.fail("the text ends where a value is needed")
	}
	return e.fail("no JSON value starts here")
}

func (e *Encoder) literal(word string) error {
	if !bytes.HasPrefix(e.src[e.pos:], []byte(word)) {
		return e.fail("no JSON value starts here")
	}
	e.pos += len(word)
	e.dst = append(e.dst, word...)
	return nil
}

func (e *Encoder) enter() error {
	if e.depth++; e.depth > MaxDepth {
		return &Error{e.pos, fmt.Sprintf("nested deeper than %d levels", MaxDepth), true}
	}
	e.dst = append(e.dst, e.src[e.pos])
	e.pos++
	e.space()
	return nil
}

func (e *Encoder) array() error {
	if err := e.enter(); err != nil {
		return err
	}
	if e.peek() != ']' {
		for {
			if err := e.value(); err != nil {
				return err
			}
			e.space()
			if e.peek() != ',' {
				break
			}
			e.dst = append(e.dst, ',')
			e.pos++
			e.space()
		}
		if e.peek() != ']' {
			return e.fail("',' or ']' is needed here")
		}
	}
	return e.leave(']')
}

func (e *Encoder) leave(close byte) error {
	e.dst = append(e.dst, close)
	e.pos++
	e.depth--
	return nil
}

func (e *Encoder) object() error {
	start := e.pos
	if err := e.enter(); err != nil {
		return err
	}
	if e.peek() == '}' {
		return e.leave('}')
	}
	first, sorted := len(e.members), true
	for {
		if e.peek() != '"' {
			return e.fail("a member name is needed here")
		}
		m := member{start: len(e.dst)}
		var err error
		if m.escaped, err = e.text(); err != nil {
			return err
		}
		m.nameEnd = len(e.dst)
		m.prefix = e.prefix(&m)
		if n := len(e.members); sorted && n > first {
			sorted = e.compare(&e.members[n-1], &m) < 0
		}
		e.space()
		if e.peek() != ':' {
			return e.fail("':' is needed here")
		}
		e.pos++
		e.dst = append(e.dst, ':')
		e.space()
		if err := e.value(); err != nil {
			return err
		}
		m.end = len(e.dst)
		e.members = append(e.members, m)
		e.space()
		if e.peek() != ',' {
			break
		}
		e.dst = append(e.dst, ',')
		e.pos++
		e.space()
	}
	if e.peek() != '}' {
		return e.fail("',' or '}' is needed here")
	}
	if !sorted && !e.sort(e.members[first:]) {
		return &Error{Offset: start, Message: "an object has two members of the same name"}
	}
	e.members = e.members[:first]
	return e.leave('}')
}

// sort brings the members of the innermost object into order, false if two
// have the same name.
func (e *Encoder) sort(ms []member) bool {
	from := ms[0].start
	if len(ms) <= 16 {
		for i := range ms {
			m, at := ms[i], i
			for ; at > 0 && e.compare(&m, &ms[at-1]) < 0; at-- {
				ms[at] = ms[at-1]
			}
			ms[at] = m
		}
	} else {
		slices.SortFunc(ms, func(a, b member) int { return e.compare(&a, &b) })
	}
	e.scratch = e.scratch[:0]
	for i := range ms {
		m := &ms[i]
		if i > 0 {
			if e.compare(&ms[i-1], m) == 0 {
				return false
			}
			e.scratch = append(e.scratch, ',')
		}
		e.scratch = append(e.scratch, e.dst[m.start:m.end]...)
	}
	copy(e.dst[from:], e.scratch)
	return true
}

// prefix is what tells most names apart. Names in which an escape or a
// character beyond ASCII comes early are left to the full comparison.
func (e *Encoder) prefix(m *member) uint64 {
	name := e.dst[m.start+1 : m.nameEnd-1]
	var p uint64
	switch n := len(name); {
	case m.escaped || n == 0:
		return 0
	case n >= 8:
		p = binary.BigEndian.Uint64(name)
	default:
		for _, c := range name {
			p = p<<8 | uint64(c)
		}
		p <<= 8 * uint(8-n)
	}
	if p&0x8080808080808080 != 0 {
		return 0
	}
	return p
}

// compare orders two emitted names by UTF-16 code units (ECMA-262, the
// default of Array.prototype.sort). That is the order of the UTF-8 bytes but
// for one case: a character beyond U+FFFF sorts as its surrogates, before
// U+E000 to U+FFFF.
func (e *Encoder) compare(a, b *member) int {
	if a.prefix != b.prefix && a.prefix != 0 && b.prefix != 0 {
		return cmp.Compare(a.prefix, b.prefix)
	}
	x, y := e.dst[a.start+1:a.nameEnd-1], e.dst[b.start+1:b.nameEnd-1]
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

// text emits the string at pos, quotes included.
func (e *Encoder) text() (escaped bool, err error) {
	e.pos++
	e.dst = append(e.dst, '"')
	for {
		run := e.pos + plain(e.src[e.pos:])
		e.dst = append(e.dst, e.src[e.pos:run]...)
		e.pos = run
		switch c := e.peek(); {
		case run == len(e.src):
			return false, e.fail("a string is not closed")
		case c == '"':
			e.pos++
			e.dst = append(e.dst, '"')
			return escaped, nil
		case c == '\\':
			before := len(e.dst)
			if err := e.escape(); err != nil {
				return false, err
			}
			escaped = escaped || e.dst[before] == '\\'
		default:
			return false, e.fail("a control character must be escaped in a string")
		}
	}
}

// plain counts the leading bytes of s that are copied as they stand: all but
// the quote, the backslash and control characters. Eight at a time.
func plain(s []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// Each term has a byte's high bit set if that byte is special; the
		// lowest set bit is always exact.
		special := ((w - ones*0x20) &^ w) | ((quote - ones) &^ quote) | ((slash - ones) &^ slash)
		if special &= highs; special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// escape reads one escape and emits what the canonical form has for it.
func (e *Encoder) escape() error {
	if e.pos+1 >= len(e.src) {
		return e.fail("a string is not closed")
	}
	c := e.src[e.pos+1]
	switch c {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		e.dst = append(e.dst, '\\', c)
	case '/':
		e.dst = append(e.dst, '/')
	case 'u':
		return e.escapeUnicode()
	default:
		return e.fail("no such escape in JSON")
	}
	e.pos += 2
	return nil
}

func (e *Encoder) escapeUnicode() error {
	r, ok := hex4(e.src[e.pos+2:])
	if !ok {
		return e.fail(`\u needs four hex digits`)
	}
	if r >= 0xD800 && r <= 0xDFFF {
		next := e.src[e.pos+6:]
		low, ok := rune(0), len(next) >= 2 && next[0] == '\\' && next[1] == 'u'
		if ok {
			low, ok = hex4(next[2:])
		}
		if r >= 0xDC00 || !ok || low < 0xDC00 || low > 0xDFFF {
			return e.fail("a lone surrogate is no character")
		}
		e.dst = utf8.AppendRune(e.dst, (r-0xD800)<<10+(low-0xDC00)+0x10000)
		e.pos += 12
		return nil
	}
	e.pos += 6
	switch {
	case r == '"' || r == '\\':
		e.dst = append(e.dst, '\\', byte(r))
	case r >= 0x20:
		e.dst = utf8.AppendRune(e.dst, r)
	case controlEscapes[r] != 0:
		e.dst = append(e.dst, '\\', controlEscapes[r])
	default:
		const hex = "0123456789abcdef"
		e.dst = append(e.dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
	}
	return nil
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
