package docs

import (
	"strings"
	"testing"
)

// Every section explains its rule, in words that fit a table cell and a page.
func TestEveryRuleSaysWhatItMeansAndWhatToDo(t *testing.T) {
	sections := strings.Count(text, "\n## ")
	if len(all()) != sections || sections < 40 {
		t.Errorf("%d of %d sections have advice", len(all()), sections)
	}
	for name, a := range all() {
		if a.What == "" || a.Means == "" || a.Do == "" {
			t.Errorf("%s: %+v", name, a)
		}
		if strings.ContainsAny(a.Means+a.Do, "|<>") || strings.Count(a.Means, "`")%2+strings.Count(a.Do, "`")%2 != 0 {
			t.Errorf("%s: a bar, an angle bracket or half a code span: %+v", name, a)
		}
	}
	if _, ok := Rule("no-such-rule"); ok {
		t.Error("a rule that does not exist has advice")
	}
}
