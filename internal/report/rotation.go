package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// Status is a rotation with its gates, as finalize found it.
type Status struct {
	Rotation    string           `json:"rotation"`
	Phase       rotation.Phase   `json:"phase"`
	DueAt       time.Time        `json:"dueAt,omitzero"`
	Gates       []rotation.Gate  `json:"gates"`
	Boundary    *rotation.Mark   `json:"boundary,omitempty"`
	PullRequest string           `json:"pullRequest,omitempty"`
	Next        string           `json:"-"` // what is to be done with the pull request
	record      *rotation.Record // for texts only
}

// NewStatus is the status of one rotation.
func NewStatus(r rotation.Record, a rotation.Assessment) Status {
	s := Status{Rotation: r.ID, Phase: a.Phase, DueAt: a.DueAt, Gates: a.Gates, record: &r}
	if s.Gates == nil {
		s.Gates = []rotation.Gate{}
	}
	if len(a.Gates) > 0 && a.Boundary.Position > 0 {
		s.Boundary = &a.Boundary
	}
	return s
}

// Rotations is finalize's report file.
type Rotations struct {
	Version   int      `json:"version"`
	Rotations []Status `json:"rotations"`
}

var gateMarks = map[rotation.GateState]string{
	rotation.Passed: "✔ passed", rotation.Waiting: "… waiting", rotation.Against: "✖ against", rotation.Unproven: "? not proven", rotation.Off: "– off",
}

// Gates is the summary of finalize.
func Gates(statuses []Status) string {
	var b strings.Builder
	if len(statuses) == 0 {
		return "## ✔ No rotation is in flight\n"
	}
	for _, s := range statuses {
		fmt.Fprintf(&b, "## Rotation %s: %s\n\n", code(s.Rotation), headline(s))
		if s.record != nil && s.record.Outgoing != nil {
			fmt.Fprintf(&b, "From signer %s to %s, opened %s by %s.\n\n", code(s.record.Outgoing.ID), code(s.record.Incoming.ID), stamp(s.record.CreatedAt), code(s.record.Actor))
		}
		gates(&b, s.Gates)
		if s.PullRequest != "" {
			fmt.Fprintf(&b, "%s %s\n\n", text(s.Next), link(s.PullRequest))
		}
	}
	return b.String()
}

func gates(b *strings.Builder, list []rotation.Gate) {
	if len(list) == 0 {
		return
	}
	var rows [][]string
	for _, g := range list {
		rows = append(rows, []string{g.ID + " " + text(g.Name), gateMarks[g.State], text(g.Detail)})
	}
	table(b, []string{"gate", "state", "evidence"}, rows)
}

// headline says in a few words what happens next.
func headline(s Status) string {
	a := rotation.Assessment{Gates: s.Gates}
	switch {
	case s.Phase.Over():
		return string(s.Phase)
	case a.Count(rotation.Against) > 0:
		return "✖ evidence against retiring the old signer"
	case !a.Due():
		return "… " + string(s.Phase) + ", waiting"
	case a.Count(rotation.Unproven) > 0:
		return "? not proven"
	}
	return "✔ the old signer can be retired"
}

// Proposal is what every pull request text names.
type Proposal struct {
	Record     rotation.Record
	BaseCommit string
	// Registry and archive as they are and as they would be, SHA-256 in hex.
	RegistryBefore, RegistryAfter string
	// Settings are the deploy settings; none where the step changes none.
	Settings [][2]string
	Contacts []string
	RunURL   string
	// Gates are those of a finalize.
	Gates []rotation.Gate
	// Verdict is a rollback's.
	Verdict string
}

// AddSigner is the text of the pull request that publishes a signer.
func AddSigner(p Proposal) string {
	var b strings.Builder
	in := p.Record.Incoming
	fmt.Fprintf(&b, "Publishes signer %s. Nothing signs with it yet: publish before use, so that no verifier meets an unknown signer.\n\n", code(in.ID))
	rows := [][]string{{"new signer", code(in.ID)}, {"algorithm", code(string(in.Algorithm))}}
	if in.Fingerprint != "" {
		rows = append(rows, []string{"fingerprint (SHA-256 of SPKI)", code(in.Fingerprint)})
	}
	if in.KMSKeyARN != "" {
		rows = append(rows, []string{"KMS key", code(in.KMSKeyARN)})
	}
	if out := p.Record.Outgoing; out != nil {
		rows = append(rows, []string{"replaces", code(out.ID)})
	}
	proof := "not given; compare the fingerprint with its owner before you approve"
	switch {
	case p.Record.Possession != nil && in.Fingerprint != "":
		proof = "✔ the key signed a challenge, checked with the public key above"
	case p.Record.Possession != nil:
		proof = "✔ KMS made and checked a MAC of a challenge"
	}
	rows = append(rows, []string{"proof of possession", proof}, []string{"reason", text(p.Record.Reason)}, []string{"opened by", code(p.Record.Actor)})
	table(&b, []string{"", ""}, rows)
	plan(&b, p)
	if len(p.Contacts) > 0 {
		fmt.Fprintf(&b, "Contacts: %s\n\n", text(strings.Join(p.Contacts, ", ")))
	}
	settings(&b, p.Settings)
	footer(&b, p)
	return b.String()
}

func plan(b *strings.Builder, p Proposal) {
	overlap := time.Duration(p.Record.Policy.Overlap)
	b.WriteString("### Plan\n\n")
	b.WriteString("1. Review and merge this pull request (rollback point: close it, nothing has changed).\n")
	b.WriteString("2. Deploy with the settings below; `guard-deploy` refuses the deployment while the signer is not published.\n")
	b.WriteString("3. Smoke test: `verify-chain` with `expect-signer`.\n")
	if p.Record.Outgoing == nil {
		b.WriteByte('\n')
		return
	}
	fmt.Fprintf(b, "4. Overlap of %s from the last event of the old signer; deployed right now, that ends at %s or later.\n", overlap, stamp(p.Record.CreatedAt.Add(overlap)))
	b.WriteString("5. `finalize` opens the pull request that archives the old signer once its gates are passed. Until then, and after it, `rollback` goes back.\n\n")
	if p.Record.Policy.ShortAllowed && overlap < rotation.MinOverlap {
		fmt.Fprintf(b, "> ⚠ The overlap is shorter than %s (allow-short-overlap).\n\n", rotation.MinOverlap)
	}
}

func settings(b *strings.Builder, list [][2]string) {
	if len(list) == 0 {
		return
	}
	b.WriteString("### Deploy settings\n\n```\n" + EnvFile(list) + "```\n\n")
}

// EnvFile renders settings as NAME=value lines. Values hold no line ends: ids
// and ARNs are checked before.
func EnvFile(list [][2]string) string {
	var b strings.Builder
	for _, kv := range list {
		fmt.Fprintf(&b, "%s=%s\n", kv[0], visible(kv[1]))
	}
	return b.String()
}

// Finalize is the text of the pull request that archives a signer.
func Finalize(p Proposal) string {
	var b strings.Builder
	out, ret := p.Record.Outgoing, p.Record.Retirement
	fmt.Fprintf(&b, "Moves signer %s from the registry to the archive. Its events keep verifying up to position %s; anything that it signs after that is an alarm.\n\n", code(out.ID), number(ret.Boundary.Position))
	table(&b, []string{"", ""}, [][]string{
		{"retires", code(out.ID)}, {"stays", code(p.Record.Incoming.ID)},
		{"boundary", fmt.Sprintf("position %s, digest %s", number(ret.Boundary.Position), code(ret.Boundary.Digest.String()))},
		{"chain when evaluated", fmt.Sprintf("%s events, head %s", number(ret.Evidence.Events), code(ret.Evidence.Head))},
		{"evaluated", stamp(ret.EvaluatedAt)},
	})
	b.WriteString("### Gates\n\n")
	gates(&b, p.Gates)
	b.WriteString("Rollback point: close this pull request, nothing has changed; after the merge, `rollback` brings the entry back byte for byte. Disable the old KMS key only after the merge, in a job of its own.\n\n")
	footer(&b, p)
	return b.String()
}

// Rollback is the text of the pull request that undoes a rotation.
func Rollback(p Proposal) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Goes back to signer %s: %s.\n\n", code(p.Record.Outgoing.ID), text(p.Verdict))
	fmt.Fprintf(&b, "Reason: %s\n\n", text(p.Record.Rollback.Reason))
	settings(&b, p.Settings)
	footer(&b, p)
	return b.String()
}

func footer(b *strings.Builder, p Proposal) {
	b.WriteString("<details><summary>Digests</summary>\n\n")
	rows := [][]string{{"rotation", code(p.Record.ID)}, {"base commit", code(p.BaseCommit)}, {"registry before", code(p.RegistryBefore)}, {"registry after", code(p.RegistryAfter)}}
	if p.RunURL != "" {
		rows = append(rows, []string{"run", link(p.RunURL)})
	}
	table(b, []string{"", ""}, rows)
	b.WriteString("</details>\n\n")
	b.WriteString("Checks: a pull request opened with the workflow's own GITHUB_TOKEN starts no `pull_request` workflows. If the checks stay absent, close and reopen it, or open it with a GitHub App token.\n")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
