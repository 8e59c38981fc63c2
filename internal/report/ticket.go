package report

import (
	"fmt"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// A ticket is the end of a log: lines of a name and a text that can be pasted
// into a ticket, the verdict first. Its texts are not escaped; package gha
// escapes what it prints.
type ticket = [][2]string

// ticketRules bounds the rules that a ticket names.
const ticketRules = 6

// ChainTicket is the ticket of a verification.
func ChainTicket(r *chain.Report) [][2]string {
	v := verdictOf(r)
	t := ticket{{"verdict", v.Mark + " " + v.Text}}
	t = appendFindings(t, byRule(r.Findings, r.ByRule))
	if r.Head != "" {
		t = append(t, [2]string{"head", fmt.Sprintf("%s at position %d", r.Head, r.Length)})
	}
	if r.Checkpoint.From != "" {
		t = append(t, [2]string{"checkpoint", r.Checkpoint.From})
	}
	if r.RegistrySHA256 != "" {
		t = append(t, [2]string{"registry", "sha256 " + r.RegistrySHA256})
	}
	if r.ArchiveSHA256 != "" {
		t = append(t, [2]string{"archive", "sha256 " + r.ArchiveSHA256})
	}
	return t
}

// GatesTicket is the ticket of finalize; trusting names verifiers that may trust
// a compromised key.
func GatesTicket(statuses []Status, trusting []finding.Finding) [][2]string {
	var t ticket
	if len(trusting) > 0 {
		t = appendFindings(ticket{{"verdict", trustingText(trusting)}}, byRule(trusting, nil))
	}
	if len(statuses)+len(trusting) == 0 {
		return ticket{{"verdict", "✔ no rotation is in flight"}}
	}
	for _, s := range statuses {
		h := headlineOf(s)
		t = append(t, [2]string{"verdict", fmt.Sprintf("%s %s: %s", h.Mark, s.Rotation, h.Text)})
		for _, g := range s.Gates {
			t = append(t, [2]string{g.ID, fmt.Sprintf("%s, %s: %s", gateMark(g.State), g.Name, g.Detail)})
		}
		if next := advise(s); next != "" {
			t = append(t, [2]string{"next", next})
		}
		if s.PullRequest != "" {
			t = append(t, [2]string{"pull request", s.PullRequest})
		}
	}
	return t
}

// FindingsTicket is the ticket of a check of files or of a deployment: what it
// says of itself without and with errors.
func FindingsTicket(sound, unsound string, fs []finding.Finding) [][2]string {
	verdict := "✔ " + sound
	if n := finding.Count(fs, finding.Error); n > 0 {
		verdict = fmt.Sprintf("✖ %s, %s", unsound, count(int64(n), "error"))
	}
	return appendFindings(ticket{{"verdict", verdict}}, byRule(fs, nil))
}

// appendFindings names the rules that were broken, each with its first place.
func appendFindings(t ticket, groups []ruled) ticket {
	for _, g := range groups[:min(len(groups), ticketRules)] {
		f := g.list[0]
		where := f.Where()
		if where != "" {
			where += ": "
		}
		if g.total > 1 {
			where = fmt.Sprintf("%s times, first at %s", number(g.total), where)
		}
		t = append(t, [2]string{g.rule, fmt.Sprintf("%s %s%s", severityMarks[g.severity], where, f.Message)})
	}
	if left := len(groups) - ticketRules; left > 0 {
		t = append(t, [2]string{"…", fmt.Sprintf("%s more", count(int64(left), "rule"))})
	}
	if len(groups) > 0 {
		t = append(t, [2]string{"what to do", "docs/rules.md explains " + groups[0].rule})
	}
	return t
}
