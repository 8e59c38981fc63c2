package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// Evidence is everything that an evidence page can show. What is missing is
// left out of the page.
type Evidence struct {
	// Chain is a verification.
	Chain *chain.Report
	// Registry and Archive are the files that it was made with.
	Registry *registry.Registry
	Archive  *registry.Archive
	// Rotations are those that finalize has looked at.
	Rotations []Status
	Origin    Origin
	// Inputs are those that the action was given.
	Inputs []Input
	// Rehearsal are the steps of a drill, Files what lies beside the page.
	Rehearsal *Rehearsal
	Files     []File
}

// Origin says who has run what where; members that are not known are empty.
type Origin struct{ Actor, Repository, Commit, RunURL string }

// Input is an input as it was given; a secret has its variable and no value.
type Input = struct{ Name, Value, Secret string }

// Rehearsal is what a drill has done.
type Rehearsal struct {
	Took   string
	Failed string // why it ended early, "" if it did not
	Parts  []Part
}

// Part is one part of a rehearsal.
type Part struct {
	Heading string
	Steps   []Step
}

// Step is one step of a rehearsal.
type Step struct {
	Passed           bool
	At, Name, Detail string
}

// File lies beside a page; Name is its path from there.
type File struct{ Name, What string }

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string

	pageTemplate = template.Must(template.New("page").Parse(pageHTML))
	// pagePolicy lets a browser load nothing and run nothing; only the one
	// style that the page holds is allowed, by its digest.
	pagePolicy = func() string {
		sum := sha256.Sum256([]byte(pageCSS))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	}()
)

// Bounds of what a page lists; the JSON report has more.
const (
	shownOfRule  = 20
	foldedOfRule = 1000
	foldedInAll  = 3000
	shownSigners = 200
)

// page is Evidence as the template shows it; every text in it is visible.
type page struct {
	Style          template.CSS
	Policy, Kicker string
	Headline       headline
	Meaning        []template.HTML
	Facts          []fact
	Tally          string
	Rules          []rulePart
	Rotations      []rotationPart
	Pictures       []picture
	Legend         []swatch
	Signers        []signerRow
	SignersLeft    string
	Retired        []retiredRow
	Steps          []stepsPart
	Checkpoints    []fact
	Digests        []fact
	Limits         []template.HTML
	Commands       []command
	Files          []File
	Footer         string
}

type (
	// headline is a verdict: a mark, a tone (ok, bad, open, quiet) and a few words.
	headline struct{ Mark, Tone, Text string }
	fact     struct {
		Name, Text, URL string
		Code            bool
	}
	rulePart struct {
		Mark, Tone, Name, Count string
		Means, Do               template.HTML
		Shown, Folded           places
		Left                    string
	}
	places struct {
		Label string
		Rows  []placeRow
	}
	placeRow     struct{ Where, Message string }
	rotationPart struct {
		Number   int // from 1: two parts may be about one rotation
		Headline headline
		ID, Next string
		Facts    []fact
		Gates    []gateRow
	}
	gateRow    struct{ Name, State, Tone, Detail string }
	signerRow  struct{ ID, Entry, State, Events, First, Last, FirstAt, LastAt string }
	retiredRow struct{ ID, State, Boundary, At, Reason, Rotation string }
	stepsPart  struct {
		Heading string
		Rows    []stepRow
	}
	stepRow struct{ Mark, Tone, At, Name, Detail string }
	swatch  struct {
		Class, Label string
		Line         bool
	}
	command struct{ Why, Label, Line string }
)

// Page renders an evidence page: one HTML file that loads nothing and runs
// nothing.
func Page(e Evidence) []byte {
	p := page{Style: template.CSS(pageCSS), Policy: pagePolicy, Kicker: "Audit chain: evidence of a verification"}
	p.Headline = e.headline()
	p.rotations(e.Rotations)
	p.rehearsal(e)
	p.Facts = append(p.Facts, e.Origin.facts()...)
	if e.Chain != nil {
		p.chain(e)
	}
	if e.Archive != nil {
		for _, s := range e.Archive.Retired {
			p.Retired = append(p.Retired, retiredRow{visible(s.ID), visible(string(s.State)), number(s.Boundary.Position), stamp(s.RetiredAt), visible(s.Reason), visible(s.Rotation)})
		}
	}
	p.commands(e)
	for _, f := range e.Files {
		p.Files = append(p.Files, File{visible(f.Name), visible(f.What)})
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		panic(err) // plain values into a buffer
	}
	return b.Bytes()
}

// headline is the verdict of the page: of the rehearsal, else of a chain that
// is not verified, else of the rotation that needs most attention.
func (e Evidence) headline() headline {
	switch {
	case e.Rehearsal != nil && e.Rehearsal.Failed != "":
		return headline{"✖", "bad", "The drill failed"}
	case e.Rehearsal != nil:
		steps := 0
		for _, p := range e.Rehearsal.Parts {
			steps += len(p.Steps)
		}
		return headline{"✔", "ok", fmt.Sprintf("The drill passed: %s in %s", count(int64(steps), "step"), visible(e.Rehearsal.Took))}
	case e.Chain != nil && (len(e.Rotations) == 0 || e.Chain.Verdict != chain.Verified):
		return verdictOf(e.Chain)
	case len(e.Rotations) == 0:
		return headline{"–", "open", "No rotation is in flight, and nothing was verified"}
	}
	tone := func(h headline) int { return slices.Index([]string{"quiet", "ok", "open", "bad"}, h.Tone) }
	worst := headlineOf(e.Rotations[0])
	for _, s := range e.Rotations[1:] {
		if h := headlineOf(s); tone(h) > tone(worst) {
			worst = h
		}
	}
	if n := len(e.Rotations); n > 1 {
		worst.Text = fmt.Sprintf("of %d rotations, one: %s", n, worst.Text)
	}
	return worst
}

// verdictOf is the verdict of a verification in a line.
func verdictOf(r *chain.Report) headline {
	switch {
	case r.Verdict == chain.Verified && r.Resumed != nil:
		return headline{"✔", "ok", fmt.Sprintf("Audit chain: %s verified", count(r.Resumed.New, "new event"))}
	case r.Verdict == chain.Verified:
		return headline{"✔", "ok", fmt.Sprintf("Audit chain verified: %s", count(r.Events, "event"))}
	case r.Verdict == chain.Failed:
		return headline{"✖", "bad", fmt.Sprintf("Audit chain: verification FAILED, %s in %s", count(r.FindingsTotal, "finding"), count(r.Events, "event"))}
	case r.Events == 0:
		return headline{"–", "open", "Audit chain: no events yet, so nothing was verified"}
	}
	return headline{"?", "open", "Audit chain: could not tell"}
}

// meaning is what a verdict allows to conclude.
func meaning(r *chain.Report) string {
	switch {
	case r.Verdict == chain.Verified && r.Resumed != nil:
		return "Every event after the checkpoint was read. Its digest, its link to the event before it and its signature are right, and its signer may speak at that position. The events up to the checkpoint were verified earlier and were not read again."
	case r.Verdict == chain.Verified:
		return "Every event was read once. Its digest, its link to the event before it and its signature are right, and its signer may speak at that position."
	case r.Verdict == chain.Failed:
		return "Do not rely on this log before every error below is explained. Nothing was changed, and no checkpoint was written."
	case r.Events == 0:
		return "An empty table, a wrong database and a role without rights look the same."
	}
	return "This is not a success: something could not be read or asked."
}

func (o Origin) facts() []fact {
	var list []fact
	add := func(name, text string, code bool) {
		if text != "" {
			list = append(list, fact{Name: name, Text: visible(text), Code: code})
		}
	}
	add("run by", o.Actor, false)
	add("repository", o.Repository, false)
	add("commit", o.Commit, true)
	if o.RunURL != "" {
		list = append(list, fact{Name: "run", Text: visible(o.RunURL), URL: address(o.RunURL)})
	}
	return list
}

// chain shows a verification.
func (p *page) chain(e Evidence) {
	r := e.Chain
	verdict := verdictOf(r)
	if p.Headline != verdict {
		p.Facts = append(p.Facts, fact{Name: "chain", Text: verdict.Mark + " " + verdict.Text})
	} else {
		p.Meaning = append(p.Meaning, prose(meaning(r)))
	}
	if !r.StartedAt.IsZero() {
		text := stamp(r.StartedAt)
		if r.Duration != "" {
			text += ", took " + visible(r.Duration)
		}
		p.Facts = append(p.Facts, fact{Name: "verified at", Text: text})
	}
	if r.Head != "" {
		p.Facts = append(p.Facts, fact{Name: "head, at position " + number(r.Length), Text: visible(r.Head), Code: true})
	}
	if len(r.Tips) > 1 {
		p.Facts = append(p.Facts, fact{Name: "the chain is forked", Text: count(int64(len(r.Tips)), "end")})
	}
	if r.Signatures.Fast > 0 {
		p.Facts = append(p.Facts, fact{Name: "signatures", Text: fmt.Sprintf("%s accepted by fast paths (%s checked again by the standard library, with the same result), %s decided by the standard library alone",
			number(r.Signatures.Fast), number(r.Signatures.Rechecked), number(r.Signatures.Library))})
	}
	p.findings(r)
	all := stretches(r, e.Archive)
	p.Pictures = pictures(r, all, positionOf(r.Checkpoint.From))
	p.Legend = legend(p.Pictures)
	p.signers(r)
	if r.Checkpoint.From != "" {
		p.Checkpoints = append(p.Checkpoints, fact{Name: "given", Text: visible(r.Checkpoint.From), Code: true})
		passed := "✔ the chain passes through it"
		if !r.TruncationExcluded {
			passed = "✖ the chain does not pass through it"
		}
		p.Checkpoints = append(p.Checkpoints, fact{Name: "outcome", Text: passed})
	}
	if r.Checkpoint.To != "" {
		p.Checkpoints = append(p.Checkpoints, fact{Name: "next", Text: visible(r.Checkpoint.To), Code: true})
	}
	for _, d := range []fact{
		{Name: "genesis", Text: r.Genesis}, {Name: "head", Text: r.Head}, {Name: "registry, SHA-256", Text: r.RegistrySHA256}, {Name: "archive, SHA-256", Text: r.ArchiveSHA256},
	} {
		if d.Text != "" {
			p.Digests = append(p.Digests, fact{Name: d.Name, Text: visible(d.Text), Code: true})
		}
	}
	p.Digests = append(p.Digests, sourceFacts(r.Source)...)
	for _, l := range limits(r) {
		p.Limits = append(p.Limits, prose(l))
	}
	p.Footer = "audit-signer-rotation " + visible(r.ToolVersion)
}

// limits is what a verification cannot show, in sentences of Markdown.
func limits(r *chain.Report) []string {
	var list []string
	if r.TruncationExcluded {
		list = append(list, "Events after the checkpoint "+code(r.Checkpoint.From)+" could have been cut off since.")
	} else {
		list = append(list, "Without a checkpoint, events cut off the end would not be noticed (set `checkpoint-branch` or `checkpoint-path`).")
	}
	if r.Resumed != nil {
		last := ""
		if r.Resumed.FullAt != "" {
			last = " (it was last read on " + text(r.Resumed.FullAt) + ")"
		}
		list = append(list, "An event up to the checkpoint "+code(r.Resumed.From)+" that was changed since would not be noticed: verify the whole chain"+last+" on a schedule, too.")
	}
	if len(r.UnauthenticatedColumns) > 0 {
		list = append(list, "No digest covers the columns "+code(strings.Join(r.UnauthenticatedColumns, ", "))+": whoever can write to the table can change them unseen.")
	}
	if r.ExceptionsUsed > 0 {
		list = append(list, fmt.Sprintf("%s cannot verify and %s excepted by review; the notes above name them.", count(int64(r.ExceptionsUsed), "event"), map[bool]string{true: "is", false: "are"}[r.ExceptionsUsed == 1]))
	}
	return list
}

func (p *page) findings(r *chain.Report) {
	p.Tally = howMany(r.Findings, r.FindingsTotal) + "."
	tones := map[finding.Severity]string{finding.Error: "bad", finding.Warning: "open", finding.Note: "quiet"}
	room := foldedInAll
	for _, g := range byRule(r.Findings, r.ByRule) {
		part := rulePart{Mark: severityMarks[g.severity], Tone: tones[g.severity], Name: visible(g.rule), Count: count(g.total, "finding"), Means: prose(g.advice.Means), Do: prose(g.advice.Do)}
		rows := make([]placeRow, 0, len(g.list))
		for _, f := range g.list {
			rows = append(rows, placeRow{orDash(visible(f.Where())), visible(f.Message)})
		}
		shown := min(len(rows), shownOfRule)
		folded := min(len(rows), max(shown, min(foldedOfRule, room)))
		room -= folded
		part.Shown = places{"Findings of " + part.Name, rows[:shown]}
		part.Folded = places{fmt.Sprintf("Show %s more of %s", number(int64(folded-shown)), part.Name), rows[shown:folded]}
		if left := g.total - int64(folded); left > 0 {
			part.Left = fmt.Sprintf("%s more are counted, not listed: what they have in common is best seen above.", number(left))
		}
		p.Rules = append(p.Rules, part)
	}
}

func (p *page) signers(r *chain.Report) {
	ids := signerIDs(r)
	if len(ids) > shownSigners {
		p.SignersLeft = fmt.Sprintf("%s more are in the JSON report.", count(int64(len(ids)-shownSigners), "signer id"))
		ids = ids[:shownSigners]
	}
	for _, id := range ids {
		u := r.Signers[id]
		row := signerRow{orDash(visible(id)), "", visible(u.State), number(u.Events), place(u.FirstPosition), place(u.LastPosition), moment(u.FirstCreatedAt), moment(u.LastCreatedAt)}
		if u.Entry != id {
			row.Entry = visible(u.Entry)
		}
		p.Signers = append(p.Signers, row)
	}
}

// legend explains what the pictures hold, and nothing else.
func legend(ps []picture) []swatch {
	there := map[string]bool{}
	for _, p := range ps {
		for _, b := range p.Bands {
			there[b.Class] = true
		}
		for _, l := range p.Lanes {
			for _, b := range l.Bars {
				there[b.Class] = true
			}
		}
		for _, m := range p.Marks {
			there[m.Class] = true
		}
	}
	var list []swatch
	for _, s := range []swatch{
		{"active", "active signer", false}, {"retired", "retired signer", false}, {"compromised", "compromised signer", false}, {"unknown", "unknown signer", false},
		{"beyond", "beyond its boundary: not trusted", false}, {"overlap", "overlap: both sign", false}, {"unread", "verified earlier, not read again", false},
		{"cutover", "cut-over", true}, {"boundary", "boundary", true}, {"checkpoint", "checkpoint", true},
		{"error", "error", true}, {"warning", "warning", true}, {"note", "note", true},
	} {
		if there[s.Class] {
			list = append(list, s)
		}
	}
	return list
}

func (p *page) rotations(all []Status) {
	if len(all) > 0 {
		p.Kicker = "Audit signer rotation: evidence"
	}
	for _, s := range all {
		part := rotationPart{Number: len(p.Rotations) + 1, Headline: headlineOf(s), ID: visible(s.Rotation), Next: visible(advise(s))}
		add := func(name, text string, code bool) {
			if text != "" {
				part.Facts = append(part.Facts, fact{Name: name, Text: visible(text), Code: code})
			}
		}
		add("phase", string(s.Phase), false)
		if rec := s.record; rec != nil {
			is, by := rec.State(), rec.Opening().Made()
			if out := is.Outgoing; out != nil {
				add("outgoing signer", out.ID, true)
				add("its fingerprint", out.Fingerprint, true)
			}
			if in := is.Incoming; in != nil {
				add("incoming signer", in.ID, true)
				add("its algorithm", string(in.Algorithm), false)
				add("its fingerprint", in.Fingerprint, true)
				add("its KMS key", in.KMSKeyARN, true)
			}
			add("who", by.Actor, false)
			add("when", stamp(by.At), false)
			add("why", by.Reason, false)
			if by.RunURL != "" {
				part.Facts = append(part.Facts, fact{Name: "opened by run", Text: visible(by.RunURL), URL: address(by.RunURL)})
			}
			if open := record.Find[*record.Open](*rec); open != nil && open.Possession != nil {
				add("proof of possession", "the record holds a challenge that the key has signed; it can be checked offline", false)
			}
			for _, wait := range []struct {
				name string
				long record.Duration
			}{{"overlap", is.Policy.Overlap}, {"propagation", is.Policy.Propagation}, {"drain", is.Policy.Drain}} {
				if wait.long > 0 {
					add(wait.name, duration(time.Duration(wait.long)), false)
				}
			}
			for _, m := range rec.Moves {
				made := func(what string) {
					add(what+" by", m.Made().Actor+", "+stamp(m.Made().At), false)
					add(what+" because", m.Made().Reason, false)
				}
				switch m := m.(type) {
				case *record.RollBack:
					made("rollback")
				case *record.Withdraw:
					made("withdrawal")
				case *record.Compromise:
					made("compromise")
					add("compromised signer", m.Signer.ID, true)
					add("its fingerprint", m.Signer.Fingerprint, true)
					add("trusted up to", fmt.Sprintf("%d:%s", m.Boundary.Position, m.Boundary.Digest), true)
				case *record.Retire:
					if m.PublishedIn > 0 {
						add("published by pull request", fmt.Sprintf("#%d", m.PublishedIn), false)
					}
					add("retirement judged", fmt.Sprintf("%s, on %s", stamp(m.At), count(m.Evidence.Events, "event")), false)
					add("with head", m.Evidence.Head, true)
					add("with registry", m.Evidence.RegistrySHA256, true)
					if len(s.Gates) == 0 {
						s.Gates = m.Gates
					}
				}
			}
		}
		if !s.DueAt.IsZero() {
			add("overlap ends", stamp(s.DueAt), false)
		}
		if s.Boundary != nil {
			add("boundary", fmt.Sprintf("%d:%s", s.Boundary.Position, s.Boundary.Digest), true)
		}
		if s.PullRequest != "" {
			part.Facts = append(part.Facts, fact{Name: "pull request", Text: visible(s.PullRequest), URL: address(s.PullRequest)})
		}
		for _, g := range s.Gates {
			part.Gates = append(part.Gates, gateRow{visible(g.ID + " " + g.Name), gateMark(g.State), gateTones[g.State], visible(g.Detail)})
		}
		if part.Next != "" && len(all) == 1 {
			p.Meaning = append(p.Meaning, prose(part.Next))
			part.Next = ""
		}
		p.Rotations = append(p.Rotations, part)
	}
}

var gateTones = map[record.GateState]string{
	record.Passed: "ok", record.Waiting: "open", record.Against: "bad", record.Unproven: "open", record.Off: "quiet",
}

func (p *page) rehearsal(e Evidence) {
	if e.Rehearsal == nil {
		return
	}
	p.Kicker = "Audit signer rotation: a rehearsal on one machine"
	if e.Rehearsal.Failed != "" {
		p.Meaning = append(p.Meaning, prose(visible(e.Rehearsal.Failed)))
	}
	for _, part := range e.Rehearsal.Parts {
		section := stepsPart{Heading: visible(part.Heading)}
		for _, s := range part.Steps {
			row := stepRow{"✔", "ok", visible(s.At), visible(s.Name), visible(s.Detail)}
			if !s.Passed {
				row.Mark, row.Tone = "✖", "bad"
			}
			section.Rows = append(section.Rows, row)
		}
		p.Steps = append(p.Steps, section)
	}
}

// verifying are the inputs on which a verdict depends.
var verifying = []string{
	"database-url", "events-path", "table", "registry-path", "archive-path", "hmac-secrets-path", "exceptions-path", "checkpoint-path",
	"require-checkpoint", "allow-empty", "strict-numbers", "expect-signer",
}

// commands say how anybody can come to the same verdict.
func (p *page) commands(e Evidence) {
	if e.Registry != nil {
		line := "sha256sum " + quote(e.Registry.Name)
		if e.Archive != nil && e.Archive.SHA256() != "" {
			line += " " + quote(e.Archive.Name)
		}
		p.Commands = append(p.Commands, command{"Check that you have the same registry and archive: the digests stand above.", "Digests of the files", line})
	}
	if len(e.Inputs) == 0 {
		return
	}
	p.Commands = append(p.Commands, command{"Build the tool from the commit that you have pinned and reviewed, in a checkout of it.", "Build", "go build -o bin/ ./actions/..."})
	var secrets, flags []string
	for _, in := range e.Inputs {
		switch {
		case !slices.Contains(verifying, in.Name):
		case in.Secret != "":
			secrets = append(secrets, visible(in.Secret)+"=…")
		default:
			flags = append(flags, quote("--"+in.Name+"="+in.Value))
		}
	}
	words := slices.Concat(secrets, []string{"bin/verify-chain"}, flags)
	why := "Verify every event again, with the same inputs."
	if e.Chain != nil && e.Chain.Head != "" {
		why += fmt.Sprintf(" The position and digest of the head must be those above, or the chain must have grown since; to hold it against this very state, put {\"count\": %d, \"head\": \"%s\"} into a file and name it with --checkpoint-path.", e.Chain.Length, visible(e.Chain.Head))
	}
	p.Commands = append(p.Commands, command{why, "Verify again", strings.Join(words, " \\\n  ")})
}

// quote makes one word of a POSIX shell of s, shown as it would be read.
func quote(s string) string {
	s = visible(s)
	if s != "" && strings.IndexFunc(s, func(c rune) bool {
		return !(c < 128 && (unicode.IsLetter(c) || unicode.IsDigit(c)) || strings.ContainsRune("-_=./:,@%+", c))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// address is a link's target, "" for what does not look like one.
func address(url string) string {
	if plainAddress(url) {
		return url
	}
	return ""
}

// prose turns the Markdown of our own sentences, which is text and code spans,
// into HTML.
func prose(s string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(s, "`") {
		part = template.HTMLEscapeString(part)
		if i%2 == 1 {
			part = "<code>" + part + "</code>"
		}
		b.WriteString(part)
	}
	return template.HTML(b.String())
}

// sourceFacts lists what a report says about where the events were read.
func sourceFacts(source any) []fact {
	var members map[string]any
	text, err := json.Marshal(source)
	if err != nil || json.Unmarshal(text, &members) != nil {
		return nil
	}
	var list []fact
	for _, name := range slices.Sorted(maps.Keys(members)) {
		value := fmt.Sprint(members[name])
		if n, ok := members[name].(float64); ok {
			value = number(int64(n))
		}
		list = append(list, fact{Name: "source: " + visible(words(name)), Text: visible(value)})
	}
	return list
}

// words parts the words of a camelCase name.
func words(name string) string {
	var b strings.Builder
	for i, c := range name {
		if unicode.IsUpper(c) && i > 0 && !unicode.IsUpper(rune(name[i-1])) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// positionOf is the position in "<count>:<head>", 0 if there is none.
func positionOf(checkpoint string) int64 {
	text, _, _ := strings.Cut(checkpoint, ":")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
