package registry_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

const rulesDoc = "../../docs/rules.md"

// section is what docs/rules.md says about a rule: its examples by name.
type section map[string]string

func sections(t *testing.T) map[string]section {
	t.Helper()
	text, err := os.ReadFile(rulesDoc)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]section{}
	block := regexp.MustCompile("(?ms)^```(?:json|text) ([a-z-]+)\n(.*?)\n```$")
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		rule, body, _ := strings.Cut(part, "\n")
		if all[rule] != nil {
			t.Errorf("two sections about %s", rule)
		}
		s := section{}
		for _, match := range block.FindAllStringSubmatch(body, -1) {
			if _, twice := s[match[1]]; twice {
				t.Errorf("%s: two blocks %q", rule, match[1])
			}
			s[match[1]] = match[2]
		}
		if strings.Count(body, "```") != 2*len(s) {
			t.Errorf("%s: a block that is not read", rule)
		}
		for _, heading := range []string{"**Why it matters.** ", "**What to do.** "} {
			if strings.Count(body, heading) != 1 {
				t.Errorf("%s: %q stands %d times", rule, heading, strings.Count(body, heading))
			}
		}
		all[rule] = s
	}
	return all
}

// constants gives the rules that the source of a package names.
func constants(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`(?m)^(?:\t|const )Rule[A-Z]\w+ += "([a-z-]+)"`).FindAllStringSubmatch(string(text), -1) {
			rules = append(rules, match[1])
		}
	}
	if len(rules) == 0 {
		t.Fatalf("no rule in %s", dir)
	}
	return rules
}

// literals gives the rules that the actions name in place.
func literals(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("../../actions/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`Rule: +"([a-z-]+)"`).FindAllStringSubmatch(string(text), -1) {
			rules = append(rules, match[1])
		}
	}
	if len(rules) == 0 {
		t.Fatal("no rule in the actions")
	}
	return rules
}

// Each rule has a section and each section a rule.
func TestRulesAreDocumented(t *testing.T) {
	documented := slices.Sorted(maps.Keys(sections(t)))
	rules := slices.Concat(constants(t, "../chain"), constants(t, "."), constants(t, "../pubkey"), constants(t, "../rotation"), constants(t, "../trust"), constants(t, "../checkpoint"), literals(t))
	slices.Sort(rules)
	if rules = slices.Compact(rules); !slices.Equal(documented, rules) {
		t.Errorf("documented\n%q\nin the source\n%q", documented, rules)
	}
}

// The documented examples do what the document says.
func TestDocumentedExamples(t *testing.T) {
	all := sections(t)
	for _, rule := range slices.Concat(constants(t, "."), constants(t, "../pubkey"), constants(t, "../rotation")) {
		s := all[rule]
		if rule == registry.RuleTooManySigners || rule == rotation.RuleDeployMismatch || rule == rotation.RuleNotReady || rule == rotation.RuleStaleVerifier || rule == rotation.RuleExpectedSigner {
			continue // in words: nobody wants to read a thousand entries, and a deployment is no file
		}
		judge := run
		switch {
		case rule == rotation.RuleMixedChange || rule == rotation.RulePathTwin:
			judge = alongside
		case rule == rotation.RuleFileMode:
			judge = modes
		case slices.Contains(constants(t, "../rotation"), rule):
			judge = byRecords
		}
		t.Run(rule, func(t *testing.T) {
			if got := judge(t, s, "bad"); !slices.Equal(got, []string{rule}) {
				t.Errorf("the bad example breaks %q", got)
			}
			if got := judge(t, s, "good"); len(got) != 0 {
				t.Errorf("the good example breaks %q", got)
			}
		})
	}
}

// side reads the registry and archive of an example.
func side(t *testing.T, s section, name string) *registry.Files {
	t.Helper()
	archive := []byte(s[name+"-archive"])
	if len(archive) == 0 {
		archive = nil
	}
	text := s[name]
	if text == "" {
		text = list(entry("beside", "beside"))
	}
	files, err := registry.Load("signers.json", []byte(text), "signers.archive.json", archive)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// run judges one example of a section.
func run(t *testing.T, s section, name string) []string {
	t.Helper()
	if s[name] == "" && s[name+"-archive"] == "" {
		t.Fatalf("no example %q", name)
	}
	head := side(t, s, name)
	fs := append(head.Findings, registry.Validate(head.Registry, head.Archive, now)...)
	if s["base"] != "" {
		base := side(t, s, "base")
		if more := append(base.Findings, registry.Validate(base.Registry, base.Archive, now)...); len(more) > 0 {
			t.Fatalf("the base is not sound: %v", more)
		}
		fs = append(fs, registry.Diff(base.Registry, base.Archive, head.Registry, head.Archive)...)
	}
	return broken(t, fs)
}

func broken(t *testing.T, fs []finding.Finding) (broken []string) {
	t.Helper()
	for _, f := range fs {
		if f.Line < 1 || f.Severity == finding.Note && f.Rule != rotation.RuleGateSwitchedOff {
			t.Errorf("%+v", f)
		}
		broken = append(broken, f.Rule)
	}
	return broken
}

// byRecords judges an example that has rotation records.
func byRecords(t *testing.T, s section, name string) []string {
	t.Helper()
	read := func(name string) rotation.Files {
		files := side(t, s, name)
		if s[name] == "" || len(files.Findings) > 0 {
			t.Fatalf("%s: %v", name, files.Findings)
		}
		f := rotation.Files{Registry: files.Registry, Archive: files.Archive, Dir: "rotations"}
		text := s[name+"-record"]
		if text == "" {
			return f
		}
		if text[0] != '[' {
			text = "[" + text + "]"
		}
		var records []json.RawMessage
		if err := json.Unmarshal([]byte(text), &records); err != nil {
			t.Fatal(err)
		}
		for _, text := range records {
			r, err := rotation.ParseRecord(name+"-record", text)
			if err != nil {
				t.Fatal(err)
			}
			f.Records = append(f.Records, r)
		}
		return f
	}
	return broken(t, rotation.Judge(read("base"), read(name), time.Date(2026, 1, 5, 13, 0, 0, 0, time.UTC), rotation.EvidenceAge))
}

// alongside judges an example that lists changed files.
func alongside(t *testing.T, s section, name string) []string {
	t.Helper()
	return broken(t, rotation.Alongside("kernel/tools/signers.json", "kernel/tools/signers.archive.json", "kernel/tools/rotations", strings.Fields(s[name]), false))
}

// modes judges an example that lists changed files with their modes.
func modes(t *testing.T, s section, name string) []string {
	t.Helper()
	var executable []string
	for line := range strings.Lines(s[name]) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "100755 "); ok {
			executable = append(executable, path)
		}
	}
	return broken(t, rotation.Executable("kernel/tools/signers.json", "kernel/tools/signers.archive.json", "kernel/tools/rotations", executable))
}

// An example that no reader can read teaches nothing.
func TestDocumentedExamplesAreJSON(t *testing.T) {
	for rule, s := range sections(t) {
		for name, text := range s {
			if rule == rotation.RuleMixedChange || rule == rotation.RulePathTwin || rule == rotation.RuleFileMode {
				continue // lists of files
			}
			if _, err := jsondoc.Parse(rule+" "+name, []byte(text)); err != nil {
				t.Error(err)
			}
		}
	}
}
