package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

const (
	oldARN = "arn:aws:kms:eu-west-1:111122223333:key/0a1b2c3d-0001-4000-8000-000000000001"
	newARN = "arn:aws:kms:eu-west-1:111122223333:key/0a1b2c3d-0002-4000-8000-000000000002"
	edKey  = `-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAOXHIX7yZowa39yGX/d/xwMz1jrII0AT8HQxDzMslb3g=\n-----END PUBLIC KEY-----\n`
)

// files are a registry with audit-2027, and an archive with audit-2026 in a
// state, frozen at position 1216.
func files(t *testing.T, state registry.State, reason string) *registry.Files {
	t.Helper()
	reg := `[{"signerId": "audit-2027", "algorithm": "ed25519", "publicKey": "` + edKey + `"}]`
	archive := fmt.Sprintf(`{"version": 1, "retired": [{"entry": {"signerId": "audit-2026", "algorithm": "hmac-sha256", "kmsKeyId": %q}, "retiredAt": "2026-03-04T12:00:00Z",
		"reason": %q, "rotation": "rotate-audit-2027-fb04dcb6", "state": %q, "boundary": {"position": 1216, "digest": "%s"}}]}`, oldARN, reason, state, strings.Repeat("ab", 32))
	f, err := registry.Load("kernel/tools/signers.json", []byte(reg), "kernel/tools/signers.archive.json", []byte(archive))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// evidences are the pages that are looked at, each in a golden by structure.
func evidences(t *testing.T) map[string]Evidence {
	t.Helper()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	later := noon.Add(49 * time.Hour)
	head := strings.Repeat("cd", 32)
	digest, _ := chain.ParseDigest([]byte(strings.Repeat("ab", 32)))
	f := files(t, registry.StateRetired, "the yearly rotation")
	verified := &chain.Report{
		Verdict: chain.Verified, TruncationExcluded: true, Events: 12360, Length: 12360, Genesis: strings.Repeat("01", 32), Head: head,
		Signers: map[string]chain.SignerUse{
			oldARN: {Events: 1196, FirstPosition: 1, LastPosition: 1216, FirstCreatedAt: &noon, LastCreatedAt: &later, Entry: "audit-2026", State: "retired"},
			newARN: {Events: 11164, FirstPosition: 1177, LastPosition: 12360, FirstCreatedAt: &noon, LastCreatedAt: &later, Entry: "audit-2027", State: "active"},
		},
		UnauthenticatedColumns: chain.UnauthenticatedColumns, RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: f.Archive.SHA256(),
		Checkpoint: chain.CheckpointRange{From: "1200:" + head, To: "12360:" + head}, Source: map[string]any{"table": "audit_events", "estimatedRows": 12000, "serverTime": later},
		ToolVersion: "v0.1.0", StartedAt: later, Duration: "1.52s",
	}
	origin := Origin{"release-captain", "acme/kernel", strings.Repeat("4", 40), "https://github.com/acme/kernel/actions/runs/77"}
	inputs := []Input{{Name: "database-url", Secret: "INPUT_DATABASE_URL"}, {Name: "table", Value: "public.audit events"}, {Name: "checkpoint-path", Value: "checkpoint.json"}, {Name: "html-path", Value: "evidence.html"}}
	old := record.Signer{ID: "audit-2026", Algorithm: "hmac-sha256", KMSKeyARN: oldARN}
	fresh := record.Signer{ID: "audit-2027", Algorithm: "ed25519", Fingerprint: strings.Repeat("23", 32), KMSKeyARN: newARN}
	by := func(at time.Time, actor, reason string) record.By {
		return record.By{At: at, Actor: actor, Reason: reason, RunURL: origin.RunURL}
	}
	open := &record.Open{By: by(noon, "release-captain", "the yearly rotation, see <incident> #12"), Signer: fresh, Replaces: &old,
		Policy: record.Policy{Overlap: record.Duration(48 * time.Hour)}}
	of := func(moves ...record.Move) record.Record {
		return record.Record{ID: "rotate-audit-2027-fb04dcb6", Moves: moves}
	}
	boundary := record.Mark{Position: 1216, Digest: digest}
	gates := []record.Gate{
		{ID: "G1", Name: "the overlap has passed", State: record.Passed, Detail: "48h0m0s since 2026-03-01 12:00:00 UTC"},
		{ID: "G2", Name: "the outgoing signer is quiet, the incoming one signs", State: record.Passed, Detail: "last event by audit-2026 at position 1216"},
		{ID: "G3", Name: "the chain verifies after the merge", State: record.Passed, Detail: "12360 events"},
		{ID: "G5", Name: "KMS: the old key is quiet, the new one is seen", State: record.Off, Detail: "switched off by cloudtrail: off"},
	}
	status := NewStatus(of(open), rotation.Assessment{Phase: rotation.Finalizable, Gates: gates, Boundary: boundary})
	status.PullRequest, status.Next = "https://github.com/acme/kernel/pull/2", "The pull request is open: review and merge it."

	tampered := *verified
	tampered.Verdict, tampered.TruncationExcluded, tampered.Checkpoint.To = chain.Failed, false, ""
	tampered.Findings = []finding.Finding{
		{Rule: "bad-signature", Severity: finding.Error, Position: 700, EventID: "00000000-0000-4000-8000-000000000700", Message: `the signature is not one of signer "audit-2026" over this row's digest`},
		{Rule: "missing-link", Severity: finding.Error, Position: 701, EventID: "00000000-0000-4000-8000-000000000701", Message: "no row has the digest that this row names as its predecessor"},
		{Rule: "truncated", Severity: finding.Error, Message: "the chain ends before the checkpoint"},
		{Rule: "lossy-number", Severity: finding.Warning, Position: 9000, EventID: "e-9000", Message: "9007199254740993 is rounded"},
	}
	tampered.FindingsTotal = 4

	burnt := files(t, registry.StateCompromised, "the key leaked")
	compromised := *verified
	compromised.Verdict, compromised.ArchiveSHA256, compromised.Checkpoint.To = chain.Failed, burnt.Archive.SHA256(), ""
	compromised.Signers = map[string]chain.SignerUse{
		oldARN:     {Events: 1300, FirstPosition: 1, LastPosition: 4000, FirstCreatedAt: &noon, LastCreatedAt: &later, Entry: "audit-2026", State: "compromised"},
		newARN:     {Events: 11059, FirstPosition: 1217, LastPosition: 12360, FirstCreatedAt: &noon, LastCreatedAt: &later, Entry: "audit-2027", State: "active"},
		"stranger": {Events: 1, FirstPosition: 5000, LastPosition: 5000, State: "unknown"},
	}
	compromised.Findings = []finding.Finding{{Rule: "unknown-signer", Severity: finding.Error, Position: 5000, EventID: "e-5000", Message: "stranger stands in no registry"}}
	for n := range 60 {
		compromised.Findings = append(compromised.Findings, finding.Finding{Rule: "retired-signer-used", Severity: finding.Error, Position: int64(1300 + 45*n), EventID: fmt.Sprintf("e-%d", 1300+45*n), Message: "signed by the compromised signer audit-2026 beyond its boundary, position 1216"})
	}
	compromised.FindingsTotal, compromised.ByRule = 105, map[string]int64{"retired-signer-used": 104, "unknown-signer": 1}
	declared := record.Record{ID: record.CompromiseID(old.ID), Moves: []record.Move{
		&record.Compromise{By: by(later, "on-call", "the key leaked"), Signer: old, Boundary: boundary}}}

	proven := *open
	proven.Possession = &pubkey.Possession{}
	retired := of(&proven, &record.Retire{By: by(later, "audit-signer[bot]", open.Reason), Signer: old, Boundary: boundary, Gates: gates, PublishedIn: 1,
		Cutover: record.Cutover{Position: 1177}, Evidence: record.Evidence{Events: 12360, Head: head, RegistrySHA256: f.Registry.SHA256()}})
	rolledBack := of(append(slices.Clone(retired.Moves), &record.RollBack{By: by(later, "on-call", "the new key is refused"), Signer: old})...)
	withdrawn := of(&proven, &record.Withdraw{By: by(later, "on-call", "nobody needs it"), Signer: fresh})
	rolledBack.ID, withdrawn.ID = "rotate-audit-2028-0a1b2c3d", "rotate-audit-2029-0a1b2c3d"

	resumed := *verified
	resumed.Resumed = &chain.Resumption{From: "12000:" + head, New: 360, FullAt: "2026-03-02T04:23:00Z"}
	resumed.Checkpoint.From = resumed.Resumed.From
	resumed.Signatures = chain.SignatureChecks{Fast: 350, Rechecked: 12, Library: 10}
	resumed.Signers = map[string]chain.SignerUse{newARN: {Events: 361, FirstPosition: 12000, LastPosition: 12360, Entry: "audit-2027", State: "active"}}

	return map[string]Evidence{
		"resumed":     {Chain: &resumed, Registry: f.Registry, Archive: f.Archive, Origin: origin, Inputs: inputs},
		"verified":    {Chain: verified, Registry: f.Registry, Archive: f.Archive, Origin: origin, Inputs: inputs},
		"rotate":      {Chain: verified, Registry: f.Registry, Archive: f.Archive, Origin: origin, Inputs: inputs, Rotations: []Status{status}},
		"tampered":    {Chain: &tampered, Registry: f.Registry, Archive: f.Archive, Origin: origin, Inputs: inputs},
		"compromised": {Chain: &compromised, Registry: burnt.Registry, Archive: burnt.Archive, Origin: origin, Rotations: []Status{NewStatus(declared, rotation.Assessment{Phase: record.CompromisedPhase})}},
		"over": {Chain: verified, Registry: f.Registry, Archive: f.Archive, Origin: origin, Rotations: []Status{
			NewStatus(retired, rotation.Assessment{Phase: record.Archived}),
			NewStatus(rolledBack, rotation.Assessment{Phase: record.RolledBackPhase}),
			NewStatus(withdrawn, rotation.Assessment{Phase: record.WithdrawnPhase}),
		}},
		"empty":   {Chain: &chain.Report{Verdict: chain.Undetermined}},
		"nothing": {},
		"drill": {Chain: verified, Registry: f.Registry, Archive: f.Archive, Files: []File{{"report-after.json", "the report of the last verification"}}, Rehearsal: &Rehearsal{Took: "12.3s", Parts: []Part{
			{"Publish the new signer", []Step{{true, "0.2s", "add-signer: new key, pull request", "#1"}, {true, "0.3s", "guard-deploy refuses: not published yet", ""}}},
		}}},
		"drill-failed": {Rehearsal: &Rehearsal{Took: "1s", Failed: `step "x": exit status 3`, Parts: []Part{{"Publish", []Step{{false, "0.2s", "x", "exit status 3"}}}}}},
	}
}

// The pages are goldens by structure: what a screen reader, a crawler or a
// printer finds in them, one element a line, without looks.
func TestPageGoldens(t *testing.T) {
	for name, e := range evidences(t) {
		got := outline(t, Page(e))
		file := filepath.Join("testdata", "page-"+name+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		} else if got != string(want) {
			t.Errorf("%s: the page's structure has changed; look at the page, then run make golden:\n%s", name, got)
		}
	}
}

// element is a start tag, or text.
type element struct {
	depth int
	name  string
	attr  map[string]string
	text  string
}

// elements reads a page. It is written as well-formed XML with HTML's empty
// elements, and anything else is an error.
func elements(t *testing.T, html []byte) []element {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(html))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var list []element
	depth := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			e := element{depth: depth, name: x.Name.Local, attr: map[string]string{}}
			for _, a := range x.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			list = append(list, e)
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			if s := strings.Join(strings.Fields(string(x)), " "); s != "" {
				list = append(list, element{depth: depth, text: s})
			}
		}
	}
	if depth != 0 {
		t.Errorf("the page ends at depth %d", depth)
	}
	return list
}

// outline is a page without its style.
func outline(t *testing.T, html []byte) string {
	t.Helper()
	var b strings.Builder
	styled := false
	for _, e := range elements(t, html) {
		indent := strings.Repeat("  ", e.depth)
		if e.text != "" {
			if !styled {
				fmt.Fprintf(&b, "%s%s\n", indent, e.text)
			}
			styled = false
			continue
		}
		styled = e.name == "style"
		b.WriteString(indent + e.name)
		for _, name := range []string{"class", "id", "role", "aria-label", "aria-labelledby", "href", "scope", "x", "x1", "width"} {
			if v, ok := e.attr[name]; ok && !(e.name == "svg" && name == "width") {
				fmt.Fprintf(&b, " %s=%q", name, v)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// A page loads nothing, runs nothing, and lets a browser do neither.
func TestPageLoadsAndRunsNothing(t *testing.T) {
	for name, e := range evidences(t) {
		html := Page(e)
		policy := false
		for _, el := range elements(t, html) {
			if slices.Contains([]string{"script", "img", "link", "iframe", "object", "embed", "form", "base", "audio", "video", "image", "use", "foreignObject", "animate", "set"}, el.name) {
				t.Errorf("%s holds <%s>", name, el.name)
			}
			if el.name == "meta" && el.attr["http-equiv"] == "Content-Security-Policy" {
				policy = strings.HasPrefix(el.attr["content"], "default-src 'none'; style-src 'sha256-") && !strings.Contains(el.attr["content"], "unsafe")
			}
			for a, v := range el.attr {
				if a == "style" || strings.HasPrefix(a, "on") || a == "src" || a == "srcset" || a == "srcdoc" || a == "xlink" {
					t.Errorf("%s: <%s %s=%q>", name, el.name, a, v)
				}
				if a == "href" && (el.name != "a" || !strings.HasPrefix(v, "#") && !strings.HasPrefix(v, "https://") && strings.Contains(v, ":")) {
					t.Errorf("%s: <%s href=%q>", name, el.name, v)
				}
			}
		}
		if !policy {
			t.Errorf("%s: no policy, or a lax one", name)
		}
		style := string(html[bytes.Index(html, []byte("<style>")):bytes.Index(html, []byte("</style>"))])
		if strings.Contains(style, "@import") || strings.Count(style, "url(") != strings.Count(style, "url(#") {
			t.Errorf("%s: the style loads something", name)
		}
	}
}

// Whatever rows, files and inputs hold, a page shows it as text.
func TestHostilePage(t *testing.T) {
	plain := elementNames(elements(t, Page(hostilePage("x"))))
	for _, bad := range append(slices.Clone(hostile), `"><img src=x onerror=alert(1)>`, "javascript:alert(1)", "https://x/\"><script>", "</style><script>", "{{.}}", "-->", "<!--", "]]>", "'; rm -rf ~ #") {
		html := Page(hostilePage(bad))
		for _, c := range string(html) {
			if c < ' ' && c != '\n' || c == '\u202e' || c == '\u200b' || c == 0x7f || c == 0xfffd {
				t.Errorf("the page holds %U of %q", c, bad)
			}
		}
		all := elements(t, html)
		if got := elementNames(all); !slices.Equal(got, plain) {
			t.Errorf("%q changes the structure of the page", bad)
		}
		for _, e := range all {
			if h := e.attr["href"]; h != "" && h != "file" && !strings.HasPrefix(h, "#") && !strings.HasPrefix(h, "https://") {
				t.Errorf("%q becomes the link %q", bad, h)
			}
		}
	}
}

// However much there is to list, a page stays one that a browser can open.
func TestPageIsBounded(t *testing.T) {
	e := evidences(t)["tampered"]
	r := *e.Chain
	r.Findings = nil
	r.Signers = map[string]chain.SignerUse{}
	for n := range 50_000 {
		r.Findings = append(r.Findings, finding.Finding{Rule: fmt.Sprintf("rule-%d", n%40), Severity: finding.Error, Position: int64(n%12000 + 1), EventID: strings.Repeat("e", 2000), Message: strings.Repeat("m", 2000)})
		r.Signers[fmt.Sprintf("%d-%s", n, strings.Repeat("s", 200))] = chain.SignerUse{Events: 1, FirstPosition: int64(n%12000 + 1), LastPosition: int64(n%12000 + 1), State: "unknown"}
	}
	r.FindingsTotal = 50_000
	e.Chain = &r
	if html := Page(e); len(html) > 16<<20 || !strings.Contains(string(html), "50,000 findings") {
		t.Errorf("a page of %d bytes", len(html))
	}
}

func elementNames(all []element) []string {
	var names []string
	for _, e := range all {
		if e.name != "" && e.name != "a" && e.name != "bdi" && e.name != "code" { // a text may look like an address, an id may be its entry's
			names = append(names, e.name)
		}
	}
	return names
}

// hostilePage has one text wherever a page shows text that is not ours.
func hostilePage(bad string) Evidence {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	open, promote, retire, withdraw, rollBack, compromise := hostileMoves(bad)
	of := func(moves ...record.Move) Status {
		return NewStatus(record.Record{ID: bad, Moves: moves}, rotation.Assessment{Phase: record.Phase(bad)})
	}
	s := NewStatus(record.Record{ID: bad, Moves: []record.Move{open}}, rotation.Assessment{Phase: record.Phase(bad), Gates: retire.(*record.Retire).Gates})
	s.PullRequest, s.Next = bad, bad
	return Evidence{
		Chain: &chain.Report{Verdict: chain.Failed, Events: 2, Length: 2, Genesis: bad, Head: bad, RegistrySHA256: bad, ArchiveSHA256: bad, ToolVersion: bad, Duration: bad, StartedAt: at,
			Signers: map[string]chain.SignerUse{bad: {Events: 1, FirstPosition: 1, LastPosition: 1, State: bad, Entry: "y" + bad}}, Checkpoint: chain.CheckpointRange{From: "1:" + bad, To: bad},
			Findings: []finding.Finding{{Rule: "x" + bad, Severity: finding.Error, Position: 1, EventID: bad, Message: bad}}, FindingsTotal: 1, UnauthenticatedColumns: []string{bad}, Source: map[string]any{"file": bad}},
		Registry: &registry.Registry{}, Archive: &registry.Archive{Name: bad, Retired: []registry.Retired{{Signer: registry.Signer{ID: bad}, State: registry.State(bad), Reason: bad, Rotation: bad}}},
		Rotations: []Status{s, of(open, promote), of(open, retire, rollBack), of(open, withdraw), of(compromise)}, Origin: Origin{bad, bad, bad, bad}, Inputs: []Input{{Name: "table", Value: bad}, {Name: "database-url", Secret: bad}},
		Files: []File{{"file", bad}}, Rehearsal: &Rehearsal{Took: bad, Failed: bad, Parts: []Part{{bad, []Step{{true, bad, bad, bad}}}}},
	}
}
