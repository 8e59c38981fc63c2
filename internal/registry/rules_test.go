package registry_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

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

// Each rule has a section and each section a rule.
func TestRulesAreDocumented(t *testing.T) {
	documented := slices.Sorted(maps.Keys(sections(t)))
	rules := slices.Concat(constants(t, "../chain"), constants(t, "."), constants(t, "../pubkey"), constants(t, "../rotation"), constants(t, "../trust"), constants(t, "../checkpoint"))
	slices.Sort(rules)
	if rules = slices.Compact(rules); !slices.Equal(documented, rules) {
		t.Errorf("documented\n%q\nin the source\n%q", documented, rules)
	}
}

// inWords are rules whose examples are sentences: nobody wants to read a thousand
// entries, a deployment is no file, and what a move may do has its tests in package
// rotation.
var inWords = []string{
	registry.RuleTooManySigners, registry.RuleOneOperation, registry.RuleMoveMismatch, registry.RuleEntryRepaired,
	rotation.RuleRecord, rotation.RuleRecordRewrite, rotation.RuleUnproven, rotation.RuleStaleEvidence, rotation.RuleTwoRotations, rotation.RuleGateSwitchedOff,
	rotation.RuleShortOverlap, rotation.RuleAuthorsWord, rotation.RuleDeployMismatch, rotation.RuleNotReady, rotation.RuleStaleVerifier, rotation.RuleExpectedSigner,
}

// The documented examples do what the document says.
func TestDocumentedExamples(t *testing.T) {
	all := sections(t)
	for _, rule := range slices.Concat(constants(t, "."), constants(t, "../pubkey"), constants(t, "../rotation")) {
		s := all[rule]
		if slices.Contains(inWords, rule) {
			if len(s) > 0 {
				t.Errorf("%s has examples that nobody tries", rule)
			}
			continue
		}
		judge := run
		if slices.Contains(constants(t, "../rotation"), rule) {
			judge = placed
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
		fs = append(fs, registry.Edits(base.Registry, base.Archive, head.Registry, head.Archive)...)
	}
	return broken(t, fs)
}

func broken(t *testing.T, fs []finding.Finding) (broken []string) {
	t.Helper()
	for _, f := range fs {
		if f.Line < 1 || f.Severity == finding.Note {
			t.Errorf("%+v", f)
		}
		broken = append(broken, f.Rule)
	}
	return broken
}

// placed judges an example that lists changed files, with their modes or without.
func placed(t *testing.T, s section, name string) []string {
	t.Helper()
	p := rotation.Placement{Registry: "kernel/tools/signers.json", Archive: "kernel/tools/signers.archive.json", Rotations: "kernel/tools/rotations"}
	for line := range strings.Lines(s[name]) {
		mode, path, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			mode, path = "100644", mode
		}
		p.Touched = append(p.Touched, rotation.Touched{Path: path, Mode: mode})
	}
	return broken(t, p.Judge())
}

// An example that no reader can read teaches nothing.
func TestDocumentedExamplesAreJSON(t *testing.T) {
	for rule, s := range sections(t) {
		for name, text := range s {
			if rule == rotation.RuleMixedChange || rule == rotation.RulePathTwin || rule == rotation.RuleFileMode || rule == rotation.RuleMisplaced {
				continue // lists of files
			}
			if _, err := jsondoc.Parse(rule+" "+name, []byte(text)); err != nil {
				t.Error(err)
			}
		}
	}
}
