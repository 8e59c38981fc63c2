// Package docs hands rules.md to the reports, so that what a finding means and
// what to do about it is written once.
package docs

import (
	_ "embed"
	"strings"
	"sync"
)

//go:embed rules.md
var text string

// Advice is what rules.md says about one rule, in Markdown of one line each.
type Advice struct{ What, Means, Do string }

// Rule gives the advice on a rule; false for a name that has no section.
func Rule(name string) (Advice, bool) {
	a, ok := all()[name]
	return a, ok
}

var all = sync.OnceValue(func() map[string]Advice {
	rules := map[string]Advice{}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		a := rules[name]
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			name = heading
		} else if _, what, ok := strings.Cut(line, ".* "); ok && strings.HasPrefix(line, "*") && name != "" && a.What == "" {
			a.What = what
			rules[name] = a
		} else if means, ok := strings.CutPrefix(line, "**Why it matters.** "); ok && name != "" {
			a.Means = means
			rules[name] = a
		} else if do, ok := strings.CutPrefix(line, "**What to do.** "); ok && name != "" {
			a.Do = do
			rules[name] = a
		}
	}
	return rules
})
