package gha

import (
	"encoding/json"
	"fmt"
	"strings"
)

// OutputJSON sets an output to the JSON of v, in one line of ASCII: whatever
// else a string holds is written as \u escapes, which every JSON parser reads.
func (r *Run) OutputJSON(name string, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("the output %s cannot be JSON: %v", name, err))
	}
	var b strings.Builder
	for _, c := range string(text) {
		switch {
		case c < 0x7f:
			b.WriteRune(c)
		case c > 0xffff:
			c -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+c>>10, 0xdc00+c&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	r.Output(name, b.String())
}
