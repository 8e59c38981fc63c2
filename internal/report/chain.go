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
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// listed bounds the findings that a summary shows; the JSON report has more.
const listed = 50

// Chain is the summary of a verification.
func Chain(r *chain.Report) string {
	var b strings.Builder
	switch {
	case r.Events == 0 && r.Verdict == chain.Undetermined:
		b.WriteString("## – Audit chain: no events yet, so nothing was verified\n\n")
	case r.Verdict == chain.Verified:
		fmt.Fprintf(&b, "## ✔ Audit chain verified: %s events\n\n", number(r.Events))
	default:
		fmt.Fprintf(&b, "## ✖ Audit chain: verification FAILED, %s finding(s) in %s events\n\n", number(r.FindingsTotal), number(r.Events))
	}
	if r.Head != "" {
		fmt.Fprintf(&b, "Head %s at position %s.", code(r.Head), number(r.Length))
		if len(r.Tips) > 1 {
			fmt.Fprintf(&b, " The chain is forked and has %d ends.", len(r.Tips))
		}
		b.WriteString("\n\n")
	}
	findings(&b, r.Findings, r.FindingsTotal)
	signers(&b, r)
	b.WriteString("**What this does not show.** ")
	if r.TruncationExcluded {
		fmt.Fprintf(&b, "Events after the checkpoint %s could have been cut off since. ", code(r.Checkpoint.From))
	} else {
		b.WriteString("Without a checkpoint, events cut off the end would not be noticed (set checkpoint-path). ")
	}
	fmt.Fprintf(&b, "No digest covers the columns %s: whoever can write to the table can change them unseen.\n", code(strings.Join(r.UnauthenticatedColumns, ", ")))
	return b.String()
}

func signers(b *strings.Builder, r *chain.Report) {
	if len(r.Signers) == 0 {
		return
	}
	ids := slices.SortedFunc(maps.Keys(r.Signers), func(x, y string) int {
		return cmp.Or(cmp.Compare(r.Signers[x].FirstPosition, r.Signers[y].FirstPosition), cmp.Compare(x, y))
	})
	var rows [][]string
	for _, id := range ids {
		u := r.Signers[id]
		rows = append(rows, []string{code(id), text(u.State), number(u.Events), number(u.FirstPosition), number(u.LastPosition), moment(u.LastCreatedAt)})
	}
	b.WriteString("### Signers, in order of appearance\n\n")
	table(b, []string{"signer id in the rows", "state", "events", "first position", "last position", "last event (its own claim)"}, rows)
}

func moment(t *time.Time) string {
	if t == nil {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// findings lists findings, worst first.
func findings(b *strings.Builder, fs []finding.Finding, total int64) {
	if len(fs) == 0 {
		return
	}
	b.WriteString("### Findings\n\n")
	var rows [][]string
	for _, f := range fs[:min(len(fs), listed)] {
		mark := map[finding.Severity]string{finding.Error: "✖", finding.Warning: "⚠", finding.Note: "ℹ"}[f.Severity]
		rows = append(rows, []string{mark + " " + code(f.Rule), code(f.Where()), text(f.Message)})
	}
	table(b, []string{"rule", "where", "what, and what to do"}, rows)
	if total > int64(len(rows)) {
		fmt.Fprintf(b, "… and %s more; the JSON report (report-path) lists up to 1,000 of each rule.\n\n", number(total-int64(len(rows))))
	}
}

// Registry is the summary of a validation.
func Registry(fs []finding.Finding, signers, retired int, digest string) string {
	var b strings.Builder
	if n := finding.Count(fs, finding.Error); n > 0 {
		fmt.Fprintf(&b, "## ✖ Signer registry refused: %d error(s)\n\n", n)
	} else {
		fmt.Fprintf(&b, "## ✔ Signer registry is sound: %d signer(s), %d archived\n\n", signers, retired)
	}
	if digest != "" {
		fmt.Fprintf(&b, "SHA-256 of the file: %s\n\n", code(digest))
	}
	findings(&b, fs, int64(len(fs)))
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

// FindingsFile is validate-registry's report file.
type FindingsFile struct {
	Version        int               `json:"version"`
	Verdict        string            `json:"verdict"`
	Signers        int               `json:"signers"`
	RegistrySHA256 string            `json:"registrySha256"`
	ArchiveSHA256  string            `json:"archiveSha256,omitempty"`
	Findings       []finding.Finding `json:"findings"`
}

// Findings is the report file of a validation.
func Findings(verdict string, f *registry.Files, fs []finding.Finding) FindingsFile {
	return FindingsFile{1, verdict, len(f.Registry.Signers), f.Registry.SHA256(), f.Archive.SHA256(), append([]finding.Finding{}, fs...)}
}

// Closed is the summary of a deployment that must not go ahead.
func Closed(fs []finding.Finding) string {
	var b strings.Builder
	b.WriteString("## ✖ Do not deploy\n\n")
	findings(&b, fs, int64(len(fs)))
	return b.String()
}
