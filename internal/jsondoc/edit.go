package jsondoc

import (
	"bytes"
	"strings"
)

// Field is a member to be written: its name and the JSON text of its value.
type Field struct {
	Name string
	JSON string
}

// Layout is how a container writes its entries, read off the file.
type Layout struct {
	// Multiline entries have one member a line, indented by Unit.
	Multiline bool
	Unit      string
	// spaced one-line entries have a blank after ':' and ','.
	spaced bool
}

// Render writes an object in this layout, as text that Append takes.
func (l Layout) Render(fields []Field) string {
	var b strings.Builder
	colon, comma, open, end := ":", ",", "{", "}"
	if l.spaced || l.Multiline {
		colon, comma = ": ", ", "
	}
	inner := "\n"
	if l.Multiline {
		inner += l.Unit
		comma, open, end = ","+inner, "{"+inner, "\n}"
	}
	b.WriteString(open)
	for i, f := range fields {
		if i > 0 {
			b.WriteString(comma)
		}
		b.WriteString(Quote(f.Name) + colon + strings.ReplaceAll(f.JSON, "\n", inner))
	}
	return b.String() + end
}

// children are the values of an array or of an object, with the offset at
// which each one's text starts (an object's at the name).
func (v *Value) children() (starts []int, values []*Value) {
	for _, m := range v.Members {
		starts, values = append(starts, m.NameStart), append(values, m.Value)
	}
	for _, e := range v.Elements {
		starts, values = append(starts, e.Start), append(values, e)
	}
	return starts, values
}

// LayoutOf tells how container writes its entries: like its last one, or,
// when it is empty, as the rest of the file suggests.
func (d *Document) LayoutOf(container *Value) Layout {
	l := Layout{Unit: d.unit()}
	_, values := container.children()
	if len(values) == 0 {
		l.Multiline = bytes.ContainsRune(bytes.TrimSpace(d.src), '\n') || len(bytes.TrimSpace(d.src)) == container.End-container.Start
		l.spaced = true
		return l
	}
	last := d.Source(values[len(values)-1])
	l.Multiline = strings.Contains(last, "\n")
	l.spaced = strings.Contains(last, `": `)
	if lines := strings.Split(last, "\n"); len(lines) > 1 {
		own := d.indentAt(values[len(values)-1].Start)
		if inner := leadingBlank(lines[1]); len(inner) > len(own) && strings.HasPrefix(inner, own) {
			l.Unit = inner[len(own):]
		}
	}
	return l
}

// Append puts an entry at the end of container and returns the new document;
// name is used for objects only. text is the entry's value with "\n" line
// ends and its first column at 0, as Render and Verbatim give it. Every byte
// that stood in the document before still stands, in the same order; one
// comma and the entry are new. (Only white space inside an empty container
// gives way.)
func (d *Document) Append(container *Value, name, text string) []byte {
	l := d.LayoutOf(container)
	starts, values := container.children()
	if container.Kind == Object {
		colon := ":"
		if l.spaced || l.Multiline {
			colon = ": "
		}
		text = Quote(name) + colon + text
	}
	if len(values) == 0 {
		base := d.indentAt(container.Start)
		if !l.Multiline {
			return d.splice(container.Start+1, container.End-1, text)
		}
		block := "\n" + base + l.Unit + strings.ReplaceAll(text, "\n", "\n"+base+l.Unit) + "\n" + base
		return d.splice(container.Start+1, container.End-1, d.eol(block))
	}
	last := len(values) - 1
	gap := d.gapBefore(starts[last])
	if gap == "" && last == 0 && l.spaced {
		gap = " "
	}
	indent := d.indentAt(starts[last])
	return d.splice(values[last].End, values[last].End, ","+gap+d.eol(strings.ReplaceAll(text, "\n", "\n"+indent)))
}

// Remove takes child i out of container, with the comma and the white space
// that belonged to it.
func (d *Document) Remove(container *Value, i int) []byte {
	starts, values := container.children()
	switch {
	case len(values) == 1:
		return d.splice(container.Start+1, container.End-1, "")
	case i == 0:
		return d.splice(starts[0], starts[1], "")
	default:
		return d.splice(values[i-1].End, values[i].End, "")
	}
}

// Verbatim gives a value's text moved to column 0: "\n" line ends, the
// indentation of its first line taken off all lines. Append at the same depth
// brings back the same bytes.
func (d *Document) Verbatim(v *Value) string {
	text := strings.ReplaceAll(d.Source(v), "\r\n", "\n")
	return strings.ReplaceAll(text, "\n"+d.indentAt(v.Start), "\n")
}

func (d *Document) splice(from, to int, text string) []byte {
	out := make([]byte, 0, len(d.src)+len(text))
	out = append(out, d.src[:from]...)
	out = append(out, text...)
	return append(out, d.src[to:]...)
}

// eol gives text the line ends of the document.
func (d *Document) eol(text string) string {
	if i := bytes.IndexByte(d.src, '\n'); i > 0 && d.src[i-1] == '\r' {
		return strings.ReplaceAll(text, "\n", "\r\n")
	}
	return text
}

// unit is the indentation of the first indented line, two blanks if there is
// none.
func (d *Document) unit() string {
	for _, start := range d.lines {
		if blank := leadingBlank(string(d.src[start:])); blank != "" {
			return blank
		}
	}
	return "  "
}

// indentAt is the white space at the start of the line that holds offset.
func (d *Document) indentAt(offset int) string {
	line, _ := d.Position(offset)
	return leadingBlank(string(d.src[d.lines[line-1]:offset]))
}

// gapBefore is the white space between offset and the token before it.
func (d *Document) gapBefore(offset int) string {
	from := offset
	for from > 0 && strings.IndexByte(" \t\r\n", d.src[from-1]) >= 0 {
		from--
	}
	return string(d.src[from:offset])
}

func leadingBlank(s string) string {
	return s[:len(s)-len(strings.TrimLeft(s, " \t"))]
}
