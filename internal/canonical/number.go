package canonical

import (
	"math"
	"strconv"
	"unsafe"
)

// number emits the number at pos as ECMA-262 Number::toString(10) prints the
// nearest double: plain digits for 1e-6 <= |x| < 1e21, else an exponent
// without padding; -0 prints 0; beyond the double range null.
func (e *Encoder) number(dst []byte, pos int) ([]byte, int, error) {
	start := pos
	if e.peek(pos) == '-' {
		pos++
	}
	from := pos
	pos = e.digits(pos)
	integer := pos - from
	if integer == 0 || integer > 1 && e.src[from] == '0' {
		return dst, from, fail(from, "no JSON number")
	}
	fraction, exponent := 0, false
	if e.peek(pos) == '.' {
		from, pos = pos+1, e.digits(pos+1)
		if fraction = pos - from; fraction == 0 {
			return dst, pos, fail(pos, "a digit is needed after the decimal point")
		}
	}
	if c := e.peek(pos); c == 'e' || c == 'E' {
		exponent = true
		pos++
		if c := e.peek(pos); c == '+' || c == '-' {
			pos++
		}
		if from, pos = pos, e.digits(pos); pos == from {
			return dst, pos, fail(pos, "a digit is needed in the exponent")
		}
	}
	text := e.src[start:pos]
	if !exponent && shortest(text, integer, fraction) {
		return append(dst, text...), pos, nil
	}
	return e.double(dst, text), pos, nil
}

// digits gives the first position from pos on that holds no digit.
func (e *Encoder) digits(pos int) int {
	for pos < len(e.src) && e.src[pos]-'0' <= 9 {
		pos++
	}
	return pos
}

// shortest tells of a number in plain notation that it already is the
// shortest decimal of its double: at most 15 significant digits survive the
// round trip (DBL_DIG), no zero ends the fraction, and it is neither -0 nor
// below 1e-6.
func shortest(text []byte, integer, fraction int) bool {
	if integer+fraction > 15 {
		return false
	}
	if fraction == 0 {
		return text[0] != '-' || text[1] != '0'
	}
	if text[len(text)-1] == '0' {
		return false
	}
	if fraction < 6 || text[len(text)-1-fraction-1] != '0' || integer > 1 {
		return true
	}
	for _, c := range text[len(text)-fraction : len(text)-fraction+6] {
		if c != '0' {
			return true
		}
	}
	return false
}

// double emits the general case, through the nearest double.
func (e *Encoder) double(dst, text []byte) []byte {
	from := decimalOf(text)
	exact := text
	if len(text) > longExponent {
		exact = from.normal(text[0] == '-')
	}
	// ParseFloat keeps no reference to its argument but in an error, which
	// carries a copy.
	f, err := strconv.ParseFloat(unsafe.String(&exact[0], len(exact)), 64)
	if err != nil { // the grammar has been checked: only a range error is left
		e.notes |= OutOfRange
		return append(dst, "null"...)
	}
	if f == 0 {
		if !from.zero() {
			e.notes |= Lossy
		}
		return append(dst, '0')
	}
	var buf [32]byte
	printed := strconv.AppendFloat(buf[:0], math.Abs(f), 'e', -1, 64)
	if !from.equal(decimalOf(printed)) {
		e.notes |= Lossy
	}
	if f < 0 {
		dst = append(dst, '-')
	}
	return appendES(dst, printed)
}

// longExponent is the length from which on zeros may stand against an exponent that
// strconv.ParseFloat stops reading at its fifth digit.
const longExponent = 9_000

// normal spells a decimal as [-]0.<digits>e<exponent>, so that nothing stands
// against its exponent.
func (d decimal) normal(negative bool) []byte {
	var text []byte
	if negative {
		text = append(text, '-')
	}
	text = append(text, '0', '.')
	text = append(d.appendDigits(text), 'e')
	if d.zero() {
		text = append(text[:len(text)-1], '0', 'e')
	}
	return strconv.AppendInt(text, int64(d.exponent), 10)
}

// appendES lays out the shortest digits d[.ddd]e±dd as ECMA-262 does.
func appendES(dst, printed []byte) []byte {
	d := decimalOf(printed)
	var buf [20]byte
	digits := d.appendDigits(buf[:0])
	k, n := len(digits), d.exponent // value = 0.digits × 10^n
	switch {
	case k <= n && n <= 21:
		dst = append(dst, digits...)
		for range n - k {
			dst = append(dst, '0')
		}
	case 0 < n && n <= 21:
		dst = append(dst, digits[:n]...)
		dst = append(dst, '.')
		dst = append(dst, digits[n:]...)
	case -6 < n && n <= 0:
		dst = append(dst, '0', '.')
		for range -n {
			dst = append(dst, '0')
		}
		dst = append(dst, digits...)
	default:
		dst = append(dst, digits[0])
		if k > 1 {
			dst = append(dst, '.')
			dst = append(dst, digits[1:]...)
		}
		dst = append(dst, 'e')
		if n > 0 {
			dst = append(dst, '+')
		}
		dst = strconv.AppendInt(dst, int64(n-1), 10)
	}
	return dst
}

// decimal is the exact absolute value of a number's text: 0.d1d2d3… × 10^exponent,
// with the digits d1… being those of text without the zeros at either end.
type decimal struct {
	text     []byte // from the first to the last non-zero digit, maybe with a point inside
	exponent int
}

// maxExponent saturates exponents: text of 16 MiB cannot bring a number with
// such an exponent back into the double range.
const maxExponent = 1 << 40

func decimalOf(text []byte) decimal {
	if text[0] == '-' {
		text = text[1:]
	}
	first, last, point, end := -1, -1, -1, len(text)
	exponent := 0
scan:
	for i, c := range text {
		switch {
		case c == '.':
			point = i
		case c == 'e' || c == 'E':
			end = i
			exponent = atoi(text[i+1:])
			break scan
		case c != '0':
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return decimal{}
	}
	if point < 0 {
		point = end
	}
	if first > point {
		exponent -= first - point - 1
	} else {
		exponent += point - first
	}
	return decimal{text[first : last+1], exponent}
}

func atoi(s []byte) int {
	n, negative := 0, false
	for i, c := range s {
		switch {
		case i == 0 && (c == '-' || c == '+'):
			negative = c == '-'
		case n < maxExponent:
			n = n*10 + int(c-'0')
		}
	}
	if negative {
		return -n
	}
	return n
}

func (d decimal) zero() bool { return len(d.text) == 0 }

func (d decimal) appendDigits(dst []byte) []byte {
	for _, c := range d.text {
		if c != '.' {
			dst = append(dst, c)
		}
	}
	return dst
}

func (d decimal) equal(o decimal) bool {
	if d.exponent != o.exponent {
		return false
	}
	i, j := 0, 0
	for {
		if i < len(d.text) && d.text[i] == '.' {
			i++
		}
		if j < len(o.text) && o.text[j] == '.' {
			j++
		}
		switch {
		case i == len(d.text) || j == len(o.text):
			return i == len(d.text) && j == len(o.text)
		case d.text[i] != o.text[j]:
			return false
		}
		i++
		j++
	}
}
