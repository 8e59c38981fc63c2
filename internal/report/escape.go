// Package report renders findings, chain reports, gates and rotation records
// for people: Markdown for job summaries and pull requests, an HTML page, JSON
// and SARIF for files.
//
// It is the one place where text is escaped. Everything that comes from a row,
// a file or an input may be hostile: it is put into code spans or escaped, its
// control and direction characters are spelled out, and it can neither mention
// anybody nor become a link.
package report

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// maxText bounds one untrusted text in runes.
const maxText = 1000

// visible spells out what would not show or would rearrange a line.
func visible(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxText {
			b.WriteString("…")
			break
		}
		switch {
		case r == unicode.ReplacementChar || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// markdown escapes what Markdown would act on. A bare link needs its colon or
// its dot. Mentions and references to issues are looked for in the rendered
// text, where an escape is no longer seen, so a character without width parts
// their sign from their name.
var markdown = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", `*`, `\*`, `_`, `\_`, `[`, `\[`, `]`, `\]`, `|`, `\|`, `~`, `\~`, `!`, `\!`, `$`, `\$`,
	`<`, `&lt;`, `>`, `&gt;`, `&`, `&amp;`, `@`, `@&#8203;`, `#`, `\#&#8203;`, `GH-`, `GH-&#8203;`, `gh-`, `gh-&#8203;`,
	`://`, `&#58;//`, `www.`, `www&#46;`, `WWW.`, `WWW&#46;`,
)

// text escapes s for running Markdown text and for table cells.
func text(s string) string { return markdown.Replace(visible(s)) }

// link renders an address that GitHub or the runner gave; anything that does
// not look like one is plain text.
func link(url string) string {
	if !plainAddress(url) {
		return text(url)
	}
	return "<" + url + ">"
}

// plainAddress tells whether a text looks like an address, and like no more.
func plainAddress(url string) bool {
	return (strings.HasPrefix(url, "https://") || strings.HasPrefix(url, "http://")) && !strings.ContainsAny(url, " <>()[]\"`|") && visible(url) == url
}

// code puts s into a code span, in which nothing is a link or a mention. In a
// table a bar ends the span unless a backslash stands before it, and two
// backslashes do not protect it.
func code(s string) string {
	s = strings.NewReplacer(`\|`, `\u007c`, `|`, `\|`).Replace(visible(s))
	if s == "" {
		return "–"
	}
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		s = " " + s + " "
	}
	return fence + s + fence
}

// table renders rows under a head; cells are escaped already.
func table(b *strings.Builder, head []string, rows [][]string) {
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, r := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(r, " | "))
	}
	b.WriteByte('\n')
}

// JSON renders a report file.
func JSON(v any) []byte {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic(err) // reports are plain values
	}
	return []byte(b.String())
}
