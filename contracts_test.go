package house_test

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/actionspec"
)

const repository = "agent-manager/audit-signer-rotation"

// actions are the names of the actions.
func actions() []string {
	var names []string
	for dir := range rooms {
		if name, ok := strings.CutPrefix(dir, "actions/"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// spec reads an action's action.yml; one that is missing or broken fails the
// test, and leaves an empty Spec.
func spec(t *testing.T, action string) actionspec.Spec {
	t.Helper()
	text, err := os.ReadFile("actions/" + action + "/action.yml")
	if err != nil {
		t.Error(err)
		return actionspec.Spec{}
	}
	s, err := actionspec.Parse(text)
	if err != nil {
		t.Errorf("%s: %v", action, err)
	}
	return s
}

// TestActionContracts holds every action.yml to the one form: one step, which
// is run.sh, and one env line for each input, because a composite step gets no
// INPUT_ variable by itself.
func TestActionContracts(t *testing.T) {
	const fromSource = "build-from-source"
	for _, action := range actions() {
		s := spec(t, action)
		if s.Name == "" {
			continue
		}
		if len(s.Steps) != 1 {
			t.Errorf("%s has %d steps, want one", action, len(s.Steps))
			continue
		}
		step := s.Steps[0]
		want := actionspec.Step{ID: "run", Shell: "bash", Run: `"$GITHUB_ACTION_PATH/../run.sh"`, Env: step.Env}
		if !reflect.DeepEqual(step, want) {
			t.Errorf("%s: the step is %+v, want %+v", action, step, want)
		}
		carried := map[string]bool{}
		for _, in := range s.Inputs {
			env := "INPUT_" + strings.ToUpper(strings.ReplaceAll(in.Name, "-", "_"))
			if in.Name == fromSource {
				env = "AUDIT_SIGNER_BUILD_FROM_SOURCE"
			}
			carried[in.Env] = true
			if in.Env != env {
				t.Errorf("%s: the input %s is carried by %q, want env line %s: ${{ inputs.%s }}", action, in.Name, in.Env, env, in.Name)
			}
			if in.Description == "" {
				t.Errorf("%s: the input %s has no description", action, in.Name)
			}
		}
		if !carried["AUDIT_SIGNER_BUILD_FROM_SOURCE"] {
			t.Errorf("%s: the input %s is missing", action, fromSource)
		}
		for _, v := range step.Env {
			if !carried[v.Name] {
				t.Errorf("%s: the variable %s carries no input", action, v.Name)
			}
		}
		for _, out := range s.Outputs {
			if want := "${{ steps.run.outputs." + out.Name + " }}"; out.Value != want || out.Description == "" {
				t.Errorf("%s: the output %s is %q (%q), want %q and a description", action, out.Name, out.Value, out.Description, want)
			}
		}
	}
}

// TestMainsFitTheirSpecs compares action.yml with the source beside it.
func TestMainsFitTheirSpecs(t *testing.T) {
	all := sources(t)
	for _, action := range actions() {
		dir, embeds, texts := "actions/"+action, false, map[string]bool{}
		for _, s := range all {
			if s.dir != dir || s.test {
				continue
			}
			embeds = embeds || strings.Contains(string(s.text), "\n//go:embed action.yml\n")
			ast.Inspect(s.ast, func(n ast.Node) bool {
				if n, ok := n.(*ast.BasicLit); ok && n.Kind == token.STRING {
					text, _ := strconv.Unquote(n.Value)
					texts[text] = true
				}
				return true
			})
		}
		if !embeds {
			t.Errorf("%s embeds no action.yml", dir)
			continue
		}
		s, tags := spec(t, action), inputTags(t, all, dir, "inputs")
		for _, in := range s.Inputs {
			if i := slices.Index(tags, in.Name); i >= 0 {
				tags = slices.Delete(tags, i, i+1)
			} else if strings.HasPrefix(in.Env, "INPUT_") {
				t.Errorf("%s: no field of inputs is tagged `input:%q`", dir, in.Name)
			}
		}
		if len(tags) > 0 {
			t.Errorf("%s: fields of inputs are tagged with no input of action.yml, or twice: %q", dir, tags)
		}
		for _, out := range s.Outputs {
			if !texts[out.Name] {
				t.Errorf("%s: nothing sets the output %s", dir, out.Name)
			}
		}
	}
}

// inputTags lists the input tags of a struct type, with those of the structs
// that it embeds or stands for, from this or another package.
func inputTags(t *testing.T, all []source, dir, name string) []string {
	t.Helper()
	s, declared := typeSpec(all, dir, name)
	if declared == nil {
		t.Errorf("%s declares no type %s", dir, name)
		return nil
	}
	follow := func(expr ast.Expr) []string {
		switch x := expr.(type) {
		case *ast.Ident:
			return inputTags(t, all, dir, x.Name)
		case *ast.SelectorExpr:
			from := s.names[x.X.(*ast.Ident).Name]
			return inputTags(t, all, strings.TrimPrefix(from, module+"/"), x.Sel.Name)
		}
		return nil
	}
	fields, ok := declared.Type.(*ast.StructType)
	if !ok {
		return follow(declared.Type)
	}
	var tags []string
	for _, field := range fields.Fields.List {
		if field.Tag != nil {
			text, _ := strconv.Unquote(field.Tag.Value)
			if tag, ok := reflect.StructTag(text).Lookup("input"); ok {
				tags = append(tags, tag)
			}
		}
		if len(field.Names) == 0 {
			tags = append(tags, follow(field.Type)...)
		}
	}
	return tags
}

// typeSpec finds a type of a package by name, and the file it stands in.
func typeSpec(all []source, dir, name string) (file source, found *ast.TypeSpec) {
	for _, s := range all {
		if s.dir != dir || s.test {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if declared, ok := n.(*ast.TypeSpec); ok && declared.Name.Name == name {
				file, found = s, declared
			}
			return found == nil
		})
	}
	return file, found
}

func TestScriptsAreExecutable(t *testing.T) {
	for _, name := range append(files(t, ".sh"), ".ci/run") {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("%s cannot be executed: chmod +x it (%v)", name, err)
		}
	}
}

var (
	uses    = regexp.MustCompile(`\buses:\s*["']?([^\s"',}]+[/@][^\s"',}]*)["']?(.*)`)
	pinned  = regexp.MustCompile(`^([^@]+)@[0-9a-f]{40}$`)
	version = regexp.MustCompile(`^[\s}]*#\s*v[0-9]`)
)

// TestUsesArePinned: a tag can be moved, a commit cannot.
func TestUsesArePinned(t *testing.T) {
	for _, name := range files(t, ".yml", ".yaml", ".md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(text), "\n") {
			m := uses.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			if strings.HasPrefix(m[1], "./") {
				if !strings.HasPrefix(name, ".github/") {
					t.Errorf("%s:%d: %s works in this repository only", name, n+1, m[1])
				}
				continue
			}
			pin := pinned.FindStringSubmatch(m[1])
			if pin == nil || !version.MatchString(m[2]) {
				t.Errorf("%s:%d: %s is not pinned: write owner/name@<40 hex> # v1.2.3", name, n+1, m[1])
				continue
			}
			if own, ok := strings.CutPrefix(pin[1], repository+"/"); ok {
				if _, err := os.Stat(own); err != nil {
					t.Errorf("%s:%d: %s is not there: %v", name, n+1, own, err)
				}
			} else if pin[1] == repository {
				t.Errorf("%s:%d: name one of the actions", name, n+1)
			}
		}
	}
}

// TestNoExpressionInRun: what an expression puts into a script, the script
// executes. Inputs come through env.
func TestNoExpressionInRun(t *testing.T) {
	for _, name := range files(t, ".yml", ".yaml") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		block := -1 // indentation of the run: key whose block this is
		for n, line := range strings.Split(string(text), "\n") {
			trimmed := strings.TrimLeft(line, " -")
			indent := len(line) - len(trimmed)
			if block >= 0 && trimmed != "" && indent <= block {
				block = -1
			}
			if strings.HasPrefix(trimmed, "run:") {
				block = indent
			}
			if block >= 0 && strings.Contains(line, "${{") {
				t.Errorf("%s:%d: an expression inside run: hand it over through env", name, n+1)
			}
		}
	}
}

var (
	heading  = regexp.MustCompile(`(?m)^#{2,6} .*$`)
	firstRow = regexp.MustCompile("(?m)^\\| *`([a-z0-9-]+)` *\\|")
)

// TestREADME wants a table with every action, and a section for each whose
// tables name only what its action.yml has.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	var table []string
	for _, m := range regexp.MustCompile("(?m)^\\| *\\[?`([a-z-]+)`").FindAllStringSubmatch(readme, -1) {
		table = append(table, m[1])
	}
	headings := heading.FindAllStringIndex(readme, -1)
	for _, action := range actions() {
		if !slices.Contains(table, action) {
			t.Errorf("no table row of README.md starts with `%s`", action)
		}
		section, found := "", false
		for i, at := range headings {
			if !strings.Contains(readme[at[0]:at[1]], action) {
				continue
			}
			end := len(readme)
			if i+1 < len(headings) {
				end = headings[i+1][0]
			}
			section, found = section+readme[at[1]:end], true
		}
		if !found {
			t.Errorf("no heading of README.md names %s", action)
			continue
		}
		s := spec(t, action)
		for _, m := range firstRow.FindAllStringSubmatch(section, -1) {
			in := slices.ContainsFunc(s.Inputs, func(i actionspec.Input) bool { return i.Name == m[1] })
			out := slices.ContainsFunc(s.Outputs, func(o actionspec.Output) bool { return o.Name == m[1] })
			if !in && !out {
				t.Errorf("README.md lists `%s` under %s, whose action.yml has no such input or output", m[1], action)
			}
		}
	}
}

// TestRulesAreDocumented: every finding can be looked up.
func TestRulesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	found := map[string]bool{}
	for _, s := range sources(t) {
		if s.test || !strings.HasPrefix(s.dir, "internal/") {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, name := range spec.Names {
				if !strings.HasPrefix(name.Name, "Rule") || i >= len(spec.Values) {
					continue
				}
				literal, ok := spec.Values[i].(*ast.BasicLit)
				if !ok {
					continue
				}
				rule, _ := strconv.Unquote(literal.Value)
				found[path.Base(s.dir)] = true
				if !kebab.MatchString(rule) {
					t.Errorf("%s: the rule %s is %q, which is not kebab-case", s.path, name.Name, rule)
				}
				if !strings.Contains(string(text), "`"+rule+"`") {
					t.Errorf("docs/rules.md does not explain `%s` of %s", rule, s.dir)
				}
			}
			return true
		})
	}
	for _, room := range []string{"chain", "registry"} {
		if !found[room] {
			t.Errorf("internal/%s declares no rule as a constant: RuleX = %q", room, "x-y")
		}
	}
}

func TestDecisionsAreShort(t *testing.T) {
	for _, name := range files(t, ".md") {
		if path.Dir(name) != "docs/decisions" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(text), "\n"); lines > 40 {
			t.Errorf("%s has %d lines: a decision takes 40", name, lines)
		}
	}
}

// TestHygiene: the repository stands alone, and its names say something.
func TestHygiene(t *testing.T) {
	forbidden := map[string]*regexp.Regexp{
		"a path of one machine":       regexp.MustCompile(`(^|[^A-Za-z0-9_.])/(work|farm|root|Users)/`),
		"a folder beside this one":    regexp.MustCompile(`\.\./shared`),
		"a package that says nothing": regexp.MustCompile(`(?m)^package (util|utils|common|helper|helpers|types|models|misc)(_test)?$`),
		"an unfinished thought":       regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`),
	}
	for _, name := range files(t, "") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for what, pattern := range forbidden {
			if at := pattern.FindIndex(text); at != nil {
				t.Errorf("%s:%d: %s: %q", name, 1+strings.Count(string(text[:at[0]]), "\n"), what, text[at[0]:at[1]])
			}
		}
	}
}
