package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// Status is a rotation with its gates, as finalize found it.
type Status struct {
	Rotation    string         `json:"rotation"`
	Phase       record.Phase   `json:"phase"`
	DueAt       time.Time      `json:"dueAt,omitzero"`
	Gates       []record.Gate  `json:"gates"`
	Boundary    *record.Mark   `json:"boundary,omitempty"`
	PullRequest string         `json:"pullRequest,omitempty"`
	Next        string         `json:"-"` // what is to be done next, where that is known better than from the gates
	Refused     bool           `json:"-"` // a person has closed the pull request or taken over its branch
	record      *record.Record // for texts only
}

// NewStatus is the status of one rotation.
func NewStatus(r record.Record, a rotation.Assessment) Status {
	s := Status{Rotation: r.ID, Phase: a.Phase, DueAt: a.DueAt, Gates: a.Gates, record: &r}
	if s.Gates == nil {
		s.Gates = []record.Gate{}
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

var gateMarks = map[record.GateState]string{
	record.Passed: "✔ passed", record.Waiting: "… waiting", record.Against: "✖ against", record.Unproven: "? not proven", record.Off: "– off",
}

// gateMark is a state as people read it; a state that is not known here never
// reads as passed.
func gateMark(s record.GateState) string {
	if m, ok := gateMarks[s]; ok {
		return m
	}
	return "? " + visible(string(s))
}

// Gates is the summary of finalize; trusting names verifiers that may trust a
// compromised key.
func Gates(statuses []Status, trusting []finding.Finding) string {
	var b strings.Builder
	b.WriteString(Trusting(trusting))
	if len(statuses)+len(trusting) == 0 {
		return "## ✔ No rotation is in flight\n\nNothing to do.\n"
	}
	for _, s := range statuses {
		h := headlineOf(s)
		fmt.Fprintf(&b, "## %s Rotation %s: %s\n\n", h.Mark, code(s.Rotation), text(h.Text))
		if s.record != nil && s.record.State().Outgoing != nil {
			is, by := s.record.State(), s.record.Opening().Made()
			fmt.Fprintf(&b, "From signer %s to %s, opened %s by %s.\n\n", code(is.Outgoing.ID), code(is.Incoming.ID), stamp(by.At), code(by.Actor))
		}
		if next := advise(s); next != "" {
			fmt.Fprintf(&b, "**What to do next.** %s", text(next))
			if s.PullRequest != "" {
				b.WriteString(" " + link(s.PullRequest))
			}
			b.WriteString("\n\n")
		}
		gates(&b, s.Gates)
	}
	return b.String()
}

func gates(b *strings.Builder, list []record.Gate) {
	if len(list) == 0 {
		return
	}
	var rows [][]string
	for _, g := range list {
		rows = append(rows, []string{text(g.ID + " " + g.Name), text(gateMark(g.State)), text(g.Detail)})
	}
	table(b, []string{"gate", "state", "evidence"}, rows)
}

// headlineOf says in a few words how far a rotation is.
func headlineOf(s Status) headline {
	a, phase := rotation.Assessment{Gates: s.Gates}, visible(string(s.Phase))
	switch {
	case s.Phase == record.CompromisedPhase:
		return headline{"⚠", "open", phase}
	case a.Count(record.Against) > 0:
		return headline{"✖", "bad", "evidence against retiring the old signer"}
	case !a.Due():
		return headline{"…", "open", phase + ", waiting"}
	case a.Count(record.Unproven) > 0:
		return headline{"?", "open", "not proven"}
	case s.Phase == rotation.Proposed:
		return headline{"…", "open", phase + ", to be reviewed"}
	case s.Phase.Over():
		return headline{"–", "quiet", phase}
	case s.Phase != rotation.Finalizable:
		return headline{"?", "open", phase + ", not judged to the end"}
	}
	return headline{"✔", "ok", "the old signer can be retired"}
}

// advise says what somebody has to do next, if anybody has to.
func advise(s Status) string {
	if s.Next != "" {
		return s.Next
	}
	return rotation.Advise(s.Gates)
}

// Proposal is what every pull request text names.
type Proposal struct {
	Record     record.Record
	BaseCommit string
	// The registry as it is and as it would be, SHA-256 in hex.
	RegistryBefore, RegistryAfter string
	// Settings are the deploy settings; none where the step changes none.
	Settings [][2]string
	Contacts []string
	RunURL   string
	// Verdict is a rollback's; Deploy is the signer to deploy after it, or the one
	// that takes over from a compromised one.
	Verdict, Deploy string
}

// AddSigner is the text of the pull request that publishes or promotes a signer.
func AddSigner(p Proposal) string {
	var b strings.Builder
	is, by := p.Record.State(), p.Record.Last().Made()
	in := *is.Incoming
	if p.Record.Last().Kind() == record.Promoted {
		fmt.Fprintf(&b, "Lets signer %s, which is published already, replace signer %s. The registry stays as it is; the record begins the rotation.\n\n", code(in.ID), code(is.Outgoing.ID))
	} else {
		fmt.Fprintf(&b, "Publishes signer %s. Nothing signs with it yet: publish before use, so that no verifier meets an unknown signer.\n\n", code(in.ID))
	}
	rows := [][]string{{"new signer", code(in.ID)}, {"algorithm", code(string(in.Algorithm))}}
	if in.Fingerprint != "" {
		rows = append(rows, []string{"fingerprint (SHA-256 of SPKI)", code(in.Fingerprint)})
	}
	if in.KMSKeyARN != "" {
		rows = append(rows, []string{"KMS key", code(in.KMSKeyARN)})
	}
	if out := is.Outgoing; out != nil {
		rows = append(rows, []string{"replaces", code(out.ID)})
	}
	proof := "not given; compare the fingerprint with its owner before you approve"
	open := record.Find[*record.Open](p.Record)
	switch {
	case open != nil && open.Possession != nil && in.Fingerprint != "":
		proof = "✔ the key signed a challenge, checked with the public key above"
	case open != nil && open.Possession != nil:
		proof = "✔ KMS made and checked a MAC of a challenge"
	}
	rows = append(rows, []string{"proof of possession", proof}, []string{"reason", text(by.Reason)}, []string{"opened by", code(by.Actor)})
	table(&b, []string{"", ""}, rows)
	checklist(&b, p)
	plan(&b, p)
	if len(p.Contacts) > 0 {
		fmt.Fprintf(&b, "Contacts: %s\n\n", text(strings.Join(p.Contacts, ", ")))
	}
	settings(&b, p.Settings)
	footer(&b, p)
	return b.String()
}

// checklist is what only a person can judge.
func checklist(b *strings.Builder, p Proposal) {
	b.WriteString("### Before you approve\n\n")
	if p.Record.State().Incoming.Fingerprint != "" {
		b.WriteString("- [ ] The fingerprint is that of the key which its owner, or the KMS console, shows.\n")
	} else {
		b.WriteString("- [ ] The KMS key is the one that its owner means: an HMAC key has no fingerprint to compare.\n")
	}
	b.WriteString("- [ ] Reason, time and overlap suit, and the contacts know.\n- [ ] The registry gate (`validate-registry`) is green on this very commit.\n\n")
}

func plan(b *strings.Builder, p Proposal) {
	is := p.Record.State()
	overlap := time.Duration(is.Policy.Overlap)
	b.WriteString("### Plan\n\n")
	b.WriteString("1. Review and merge this pull request (rollback point: close it, nothing has changed).\n")
	b.WriteString("2. Deploy with the settings below; `guard-deploy` refuses the deployment while the signer is not published")
	if wait := time.Duration(is.Policy.Propagation); wait > 0 && p.Record.Last().Kind() == record.Opened {
		fmt.Fprintf(b, ", and for %s after the merge, in which it reaches the verifiers", duration(wait))
	}
	b.WriteString(".\n")
	b.WriteString("3. Smoke test: `verify-chain` with `expect-signer`.\n")
	if is.Outgoing == nil {
		b.WriteByte('\n')
		return
	}
	fmt.Fprintf(b, "4. Overlap of %s from the last event of the old signer; deployed right now, that ends at %s or later.\n", duration(overlap), stamp(p.Record.Last().Made().At.Add(overlap)))
	b.WriteString("5. `finalize` opens the pull request that archives the old signer once its gates are passed. Until then, and after it, `rollback` goes back.\n\n")
	if least := is.Policy.Least(); overlap < least {
		fmt.Fprintf(b, "> ⚠ The overlap is shorter than %s (allow-short-overlap).\n\n", duration(least))
	}
}

func settings(b *strings.Builder, list [][2]string) {
	if len(list) == 0 {
		return
	}
	b.WriteString("### Deploy settings\n\n```\n" + EnvFile(list) + "```\n\n")
	if list[0][0] != "AUDIT_SIGNING_KEY_SOURCE" {
		b.WriteString("Where its key is, neither record nor registry say: take `AUDIT_SIGNING_KEY_SOURCE` and `AUDIT_SIGNING_KMS_KEY_ID` from the deployment that used it.\n\n")
	}
}

// Trusting is the head of a summary where verifiers may trust a compromised key
// still.
func Trusting(fs []finding.Finding) string {
	if len(fs) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", trustingText(fs))
	findings(&b, fs, int64(len(fs)), nil)
	return b.String()
}

func trustingText(fs []finding.Finding) string {
	verifiers := count(int64(len(fs)), "verifier")
	if finding.Count(fs, finding.Error) == 0 {
		return "? not proven: whether " + verifiers + " gave up a compromised key"
	}
	return "✖ " + verifiers + " may trust a compromised key"
}

// Reminders is the end of a summary: what nobody has done in time.
func Reminders(list []string) string {
	var b strings.Builder
	for _, r := range list {
		b.WriteString("\n> ⏰ " + text(r) + "\n")
	}
	return b.String()
}

// Comment is the text of the comment on the add-signer pull request that is kept
// up to date. It holds no count and no time that moves by itself, so that it
// changes only when something has changed.
func Comment(s Status) string {
	var b strings.Builder
	h := headlineOf(s)
	fmt.Fprintf(&b, "### %s Rotation %s: %s\n\n", h.Mark, code(s.Rotation), text(h.Text))
	for _, g := range s.Gates {
		fmt.Fprintf(&b, "- %s: %s\n", text(g.ID+" "+g.Name), text(gateMark(g.State)))
	}
	next := advise(s)
	if s.PullRequest != "" && !s.Refused {
		next = "Review and merge the pull request that archives the signer:" // however a run has found it
	}
	if next != "" {
		fmt.Fprintf(&b, "\n**What to do next.** %s%s\n", text(next), after(s.PullRequest))
	}
	b.WriteString("\nThe run's summary has the evidence for each gate.\n")
	return b.String()
}

// Finalize is the text of the pull request that archives a signer.
func Finalize(p Proposal) string {
	var b strings.Builder
	is, ret := p.Record.State(), record.Find[*record.Retire](p.Record)
	out, in := is.Leaving, is.Staying
	fmt.Fprintf(&b, "Moves signer %s from the registry to the archive. Its events keep verifying up to position %s; anything that it signs after that is an alarm.\n\n", code(out.ID), number(ret.Boundary.Position))
	table(&b, []string{"", ""}, [][]string{
		{"retires", code(out.ID)}, {"stays", code(in.ID)},
		{"cut-over", "position " + number(ret.Cutover.Position)},
		{"boundary", fmt.Sprintf("position %s, digest %s", number(ret.Boundary.Position), code(ret.Boundary.Digest.String()))},
		{"chain when evaluated", fmt.Sprintf("%s events, head %s", number(ret.Evidence.Events), code(ret.Evidence.Head))},
		{"evaluated", stamp(ret.At)},
	})
	b.WriteString("### Gates\n\n")
	gates(&b, ret.Gates)
	b.WriteString("### Before you approve\n\n- [ ] Every gate is ✔, and each – off is one that you can do without.\n- [ ] Nobody needs the old signer for new events: no queue, no standby, no other region.\n- [ ] The registry gate (`validate-registry`) is green on this very commit.\n\n")
	b.WriteString("Rollback point: close this pull request, nothing has changed; after the merge, `rollback` brings the entry back byte for byte. Disable the old KMS key only after the merge, in a job of its own.\n\n")
	footer(&b, p)
	return b.String()
}

// Rollback is the text of the pull request that undoes a rotation.
func Rollback(p Proposal) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Goes back to signer %s: %s.\n\n", code(p.Deploy), text(p.Verdict))
	fmt.Fprintf(&b, "Reason: %s\n\n", text(p.Record.Last().Made().Reason))
	b.WriteString("### What to do\n\n1. Merge this pull request. No gate stands in the way.\n2. Deploy with the settings below, cause an event, and run `verify-chain`: in its table of signers the last position must be this signer's. (`expect-signer` is for one that has never signed.)\n3. Leave the entry of the other signer as this pull request leaves it: its events must still be judged.\n\n")
	settings(&b, p.Settings)
	footer(&b, p)
	return b.String()
}

// Compromise is the text of the pull request that takes a compromised signer
// out at once; affected are the findings about what it signed beyond its
// boundary, unread says why they are not known.
func Compromise(p Proposal, affected []finding.Finding, total int64, unread string) string {
	var b strings.Builder
	back := record.Find[*record.Compromise](p.Record)
	fmt.Fprintf(&b, "**The key of signer %s is in the wrong hands.** Its events count up to position %s; everything that it signed or signs after that is an alarm. Signer %s takes over.\n\n",
		code(back.Signer.ID), number(back.Boundary.Position), code(p.Deploy))
	table(&b, []string{"", ""}, [][]string{
		{"declared by", code(back.Actor) + " " + stamp(back.At)}, {"reason", text(back.Reason)}, {"fingerprint", code(back.Signer.Fingerprint)}, {"KMS key", code(back.Signer.KMSKeyARN)},
		{"boundary of trust", fmt.Sprintf("position %s, digest %s", number(back.Boundary.Position), code(back.Boundary.Digest.String()))},
	})
	b.WriteString("### What to do\n\n1. Merge this pull request now. No gate stands in the way.\n2. Deploy with the settings below.\n")
	switch key := back.Signer; {
	case key.Fingerprint == "":
		b.WriteString("3. Let nobody make another MAC: take `kms:GenerateMac` for the key away from every role. Never disable or destroy an HMAC key, or its history cannot be verified any more.\n")
	case key.KMSKeyARN == "":
		b.WriteString("3. Take the key away from whatever signs with it.\n")
	default:
		b.WriteString("3. Disable the KMS key: `finalize` with `disable-kms-key`, or in the AWS console.\n")
	}
	b.WriteString("4. Refresh every verifier that caches the registry: until then it trusts the key without a bound.\n5. Explain the events below, one by one.\n\n")
	b.WriteString(Affected(affected, total, unread))
	settings(&b, p.Settings)
	footer(&b, p)
	return b.String()
}

// Affected lists the events that a compromised signer signed beyond its
// boundary.
func Affected(affected []finding.Finding, total int64, unread string) string {
	var b strings.Builder
	b.WriteString("### Events that are not trusted any more\n\n")
	switch {
	case unread != "":
		fmt.Fprintf(&b, "Not known: %s. Run `verify-chain` once this is merged; it names them.\n\n", text(unread))
		return b.String()
	case total == 0:
		b.WriteString("None: the signer has signed nothing beyond its boundary.\n\n")
		return b.String()
	}
	var rows [][]string
	for _, f := range affected[:min(len(affected), folded)] {
		rows = append(rows, []string{number(f.Position), code(f.EventID)})
	}
	fmt.Fprintf(&b, "%s.\n\n<details><summary>The first of them</summary>\n\n", count(total, "event"))
	table(&b, []string{"position", "event"}, rows)
	b.WriteString("</details>\n\n")
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
