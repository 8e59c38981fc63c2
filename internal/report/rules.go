package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/docs"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// ruled are the findings of one rule.
type ruled struct {
	rule     string
	severity finding.Severity // the worst
	total    int64            // with those that are not listed
	list     []finding.Finding
	advice   docs.Advice
}

// byRule groups findings by their rule, the worst first; total counts those of
// a rule that the list has no room for, too.
func byRule(fs []finding.Finding, total map[string]int64) []ruled {
	var groups []ruled
	for _, f := range fs {
		i := slices.IndexFunc(groups, func(g ruled) bool { return g.rule == f.Rule })
		if i < 0 {
			i = len(groups)
			advice, _ := docs.Rule(f.Rule)
			groups = append(groups, ruled{rule: f.Rule, severity: f.Severity, advice: advice})
		}
		g := &groups[i]
		g.severity = max(g.severity, f.Severity)
		g.list = append(g.list, f)
	}
	for i := range groups {
		groups[i].total = max(total[groups[i].rule], int64(len(groups[i].list)))
	}
	slices.SortStableFunc(groups, func(a, b ruled) int { return int(b.severity - a.severity) })
	return groups
}

// tally counts what is listed by severity: "2 errors, 1 warning".
func tally(fs []finding.Finding) string {
	var parts []string
	for _, s := range []finding.Severity{finding.Error, finding.Warning, finding.Note} {
		if n := finding.Count(fs, s); n > 0 {
			parts = append(parts, count(int64(n), s.String()))
		}
	}
	return strings.Join(parts, ", ")
}

// howMany says how many findings there are, and how many of them are listed.
func howMany(fs []finding.Finding, total int64) string {
	if total > int64(len(fs)) {
		return fmt.Sprintf("%s findings; the report lists %s of them: %s", number(total), number(int64(len(fs))), tally(fs))
	}
	return tally(fs)
}

var severityMarks = map[finding.Severity]string{finding.Error: "✖", finding.Warning: "⚠", finding.Note: "ℹ"}
