package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// Bounds of what a summary lists of one rule: at once, and folded. The JSON
// report has more.
const (
	listed       = 10
	folded       = 50
	listedSigner = 50
)

// Chain is the summary of a verification.
func Chain(r *chain.Report) string {
	var b strings.Builder
	verdict := verdictOf(r)
	fmt.Fprintf(&b, "## %s %s\n\n%s\n\n", verdict.Mark, verdict.Text, meaning(r))
	if r.Head != "" {
		fmt.Fprintf(&b, "Head %s at position %s.", code(r.Head), number(r.Length))
		if len(r.Tips) > 1 {
			fmt.Fprintf(&b, " The chain is forked and has %d ends.", len(r.Tips))
		}
		b.WriteString("\n\n")
	}
	findings(&b, r.Findings, r.FindingsTotal, r.ByRule)
	signers(&b, r)
	checks(&b, r.Signatures)
	b.WriteString("**What this does not show.** " + strings.Join(limits(r), " ") + "\n")
	return b.String()
}

// signerIDs are the signer ids of the rows, in order of appearance.
func signerIDs(r *chain.Report) []string {
	return slices.SortedFunc(maps.Keys(r.Signers), func(x, y string) int {
		return cmp.Or(cmp.Compare(r.Signers[x].FirstPosition, r.Signers[y].FirstPosition), cmp.Compare(x, y))
	})
}

func signers(b *strings.Builder, r *chain.Report) {
	if len(r.Signers) == 0 {
		return
	}
	ids := signerIDs(r)
	var rows [][]string
	for _, id := range ids[:min(len(ids), listedSigner)] {
		u := r.Signers[id]
		rows = append(rows, []string{code(id), text(u.State), number(u.Events), place(u.FirstPosition), place(u.LastPosition), moment(u.LastCreatedAt)})
	}
	b.WriteString("### Signers, in order of appearance\n\n")
	gantt(b, stretches(r, nil))
	table(b, []string{"signer id in the rows", "state", "events", "first position", "last position", "last event (its own claim)"}, rows)
	if len(ids) > len(rows) {
		fmt.Fprintf(b, "… and %s more, in the JSON report.\n\n", count(int64(len(ids)-len(rows)), "signer id"))
	}
}

// checks says who decided about the signatures.
func checks(b *strings.Builder, s chain.SignatureChecks) {
	if s.Fast > 0 {
		fmt.Fprintf(b, "Fast paths accepted %s, of which %s were checked again by the standard library, with the same result; it alone decided about %s.\n\n",
			count(s.Fast, "signature"), number(s.Rechecked), number(s.Library))
	}
}

// gantt draws who signed which positions, where there is more than one to be
// compared. Mermaid counts in seconds, which are positions here.
func gantt(b *strings.Builder, all []stretch) {
	if len(all) < 2 {
		return
	}
	b.WriteString("```mermaid\n%%{init: {\"gantt\": {\"leftPadding\": 190}}}%%\ngantt\n  title Who signed what, by position in the chain\n  dateFormat X\n  axisFormat %s\n")
	tags := map[string]string{"active": "active, ", "retired": "done, ", "compromised": "crit, ", "unknown": "crit, "}
	for _, s := range all[:min(len(all), maxLanes)] {
		fmt.Fprintf(b, "  section %s\n  %s, %s to %s :%s%d, %d\n", label(s.id), label(s.state), number(s.first), number(s.last), tags[s.state], s.first, s.last+1)
	}
	b.WriteString("```\n\n")
}

// label is what is left of a text in a Mermaid diagram, where colons, hashes
// and semicolons mean something.
func label(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(" ._/-…", c) {
			return c
		}
		return '_'
	}, short(s, 28))
}

// place is a position, a dash where it is not known.
func place(position int64) string {
	if position == 0 {
		return "–"
	}
	return number(position)
}

func moment(t *time.Time) string {
	if t == nil {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// findings lists findings by their rule, the worst first, each with what it
// means and what to do.
func findings(b *strings.Builder, fs []finding.Finding, total int64, perRule map[string]int64) {
	if len(fs) == 0 {
		return
	}
	fmt.Fprintf(b, "### Findings: %s\n\n", howMany(fs, total))
	for _, g := range byRule(fs, perRule) {
		fmt.Fprintf(b, "#### %s %s: %s\n\n", severityMarks[g.severity], code(g.rule), count(g.total, "finding"))
		if g.advice.Do != "" {
			fmt.Fprintf(b, "- **What it means.** %s\n- **What to do.** %s\n\n", g.advice.Means, g.advice.Do)
		}
		var rows [][]string
		for _, f := range g.list[:min(len(g.list), listed+folded)] {
			rows = append(rows, []string{code(f.Where()), text(f.Message)})
		}
		head := []string{"where", "what was found"}
		table(b, head, rows[:min(len(rows), listed)])
		if more := rows[min(len(rows), listed):]; len(more) > 0 {
			fmt.Fprintf(b, "<details><summary>Show %d more</summary>\n\n", len(more))
			table(b, head, more)
			b.WriteString("</details>\n\n")
		}
		if left := g.total - int64(len(rows)); left > 0 {
			fmt.Fprintf(b, "… and %s more; the JSON report (report-path) lists up to 1,000 of each rule.\n\n", number(left))
		}
	}
}

// Registry is the summary of a validation; base and head are the commits that
// were compared, "" where files were.
func Registry(fs []finding.Finding, signers, retired int, digest, base, head string) string {
	var b strings.Builder
	if n := finding.Count(fs, finding.Error); n > 0 {
		fmt.Fprintf(&b, "## ✖ Signer registry refused: %s\n\nDo not merge: repair what is named below, at its line.\n\n", count(int64(n), "error"))
	} else {
		fmt.Fprintf(&b, "## ✔ Signer registry is sound: %s, %d archived\n\n", count(int64(signers), "signer"), retired)
	}
	if digest != "" {
		fmt.Fprintf(&b, "SHA-256 of the file: %s\n\n", code(digest))
	}
	if base != "" {
		fmt.Fprintf(&b, "Compared with commit %s", code(base))
		if head != "" {
			fmt.Fprintf(&b, ", as of commit %s", code(head))
		}
		b.WriteString(".\n\n")
	}
	findings(&b, fs, int64(len(fs)), nil)
	return b.String()
}

// number groups digits by thousands.
func number(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count says how many there are of a thing.
func count(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return number(n) + " " + thing
}

// FindingsFile is validate-registry's report file.
type FindingsFile struct {
	Version        int               `json:"version"`
	Verdict        string            `json:"verdict"`
	Signers        int               `json:"signers"`
	RegistrySHA256 string            `json:"registrySha256"`
	ArchiveSHA256  string            `json:"archiveSha256,omitempty"`
	BaseCommit     string            `json:"baseCommit,omitempty"`
	HeadCommit     string            `json:"headCommit,omitempty"`
	Findings       []finding.Finding `json:"findings"`
}

// Findings is the report file of a validation.
func Findings(verdict string, f record.Files, fs []finding.Finding) FindingsFile {
	return FindingsFile{
		Version: 1, Verdict: verdict, Signers: len(f.Registry.Signers), RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: f.Archive.SHA256(),
		Findings: append([]finding.Finding{}, fs...),
	}
}

// Unverified is the summary of a verification that found evidence before it
// read an event.
func Unverified(fs []finding.Finding) string {
	var b strings.Builder
	b.WriteString("## ✖ Audit chain: verification FAILED before an event was read\n\n")
	findings(&b, fs, int64(len(fs)), nil)
	return b.String()
}
