// Package docs_test tries what the documents tell a reader to do.
package docs_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/actionspec"
	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
)

// TestMain goes to the root of the repository, from where documents count.
func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		panic(err)
	}
	os.Exit(auditdbtest.Main(m))
}

// documents are all that a reader may be pointed to.
func documents(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		names = append(names, found...)
	}
	return names
}

// block is a fenced block of a document.
type block struct {
	where, language, text string
}

var fence = regexp.MustCompile("(?ms)^( *)```([^\n`]*)\n(.*?)^ *```$")

// blocks reads the fenced blocks of the documents, by document.
func blocks(t *testing.T) map[string][]block {
	t.Helper()
	all := map[string][]block{}
	for _, name := range documents(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(text), "```")%2 != 0 {
			t.Errorf("%s: a block is not closed", name)
		}
		for _, m := range fence.FindAllSubmatchIndex(text, -1) {
			indent, body := string(text[m[2]:m[3]]), string(text[m[6]:m[7]])
			all[name] = append(all[name], block{
				where:    fmt.Sprintf("%s:%d", name, 1+strings.Count(string(text[:m[0]]), "\n")),
				language: string(text[m[4]:m[5]]),
				text:     strings.ReplaceAll("\n"+body, "\n"+indent, "\n")[1:],
			})
		}
	}
	return all
}

// TestDocumentedBlocks: no command and no YAML stands in a document that is
// not executed or linted. What a reader pastes, this test has pasted before.
func TestDocumentedBlocks(t *testing.T) {
	all := blocks(t)
	bin := filepath.Join(t.TempDir(), "bin") + string(filepath.Separator)
	if out, err := exec.Command("go", "build", "-o", bin, "./actions/...").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	workflows := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var commands, statements []block
		for _, b := range all[name] {
			language, _, _ := strings.Cut(b.language, " ")
			switch language {
			case "sh":
				commands = append(commands, b)
			case "sql":
				statements = append(statements, b)
			case "yaml":
				workflows[b.where] = b.text
			case "json": // the examples of rules.md are judged by internal/registry
				if !json.Valid([]byte(b.text)) {
					t.Errorf("%s: not JSON", b.where)
				}
			case "mermaid":
				if !strings.HasPrefix(b.text, "flowchart ") {
					t.Errorf("%s: a diagram of a kind that is not used here", b.where)
				}
			case "text":
				if m := regexp.MustCompile(`(?m)^(make|go|git|bin/\S+|aws|gh|sudo|curl) `).FindString(b.text); m != "" {
					t.Errorf("%s: %q is a command: make the block sh, so that it is tried", b.where, m)
				}
			default:
				t.Errorf("%s: a block of the language %q is neither executed nor linted", b.where, b.language)
			}
		}
		if len(commands) > 0 {
			t.Run(name+" commands", func(t *testing.T) { execute(t, bin, commands) })
		}
		if len(statements) > 0 {
			t.Run(name+" statements", func(t *testing.T) { query(t, statements) })
		}
	}
	t.Run("YAML", func(t *testing.T) { lint(t, workflows) })
}

// scene is what the documents' commands find: a checkout of this repository
// beside the reader's own, an export to verify, and an aws that knows one key.
const scene = `set -euo pipefail
go() { [ "$*" = 'build -o bin/ ./actions/...' ] && cp -r "$BIN" bin; }
aws() {
  [ "$*" = 'kms get-public-key --key-id arn:aws:kms:eu-west-1:111122223333:key/1 --query PublicKey --output text' ]
  openssl pkey -in "$HERE/actions/testdata/keys/throw-away-ed25519.pem" -pubout -outform DER | base64 -w0
}
NEW_KEY_ARN=arn:aws:kms:eu-west-1:111122223333:key/1
`

// execute runs the commands of one document, in order, in one folder. Targets
// of make are looked up instead: this test is one of them.
func execute(t *testing.T, bin string, commands []block) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	reader := filepath.Join(folder, "kernel")
	if err := os.Mkdir(reader, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(here, filepath.Join(folder, "audit-signer-rotation")); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"overlap.ndjson": "events.ndjson", "overlap.signers-array.json": "signers.json"} {
		text, err := os.ReadFile("testdata/upstream-chains/" + from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(reader, to), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	script := scene
	if !strings.Contains(commands[0].where, "README") { // which says how they are built
		script += "go build -o bin/ ./actions/...\n"
	}
	for _, b := range commands {
		script += "echo " + b.where + "\n"
		for line := range strings.Lines(b.text) {
			if target, ok := strings.CutPrefix(line, "make "); ok {
				target, _, _ = strings.Cut(target, " ")
				if !strings.Contains(string(makefile), "\n"+target+":") {
					t.Errorf("%s: the Makefile has no target %s", b.where, target)
				}
				continue
			}
			script += line
		}
	}
	command := exec.Command("bash", "-c", script)
	command.Dir = reader
	command.Env = append(os.Environ(), "HERE="+here, "BIN="+bin, "AWS_REGION=eu-central-1")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.HasPrefix(commands[0].where, "README.md") {
		copied(t, reader)
	}
}

// copied looks at what README's quick start has left in the reader's repository.
func copied(t *testing.T, reader string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(reader, ".github/workflows/*"))
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob("examples/*.yml")
	if err != nil || len(names) != len(examples) || len(names) == 0 {
		t.Errorf("%d workflows were copied of %d: %v", len(names), len(examples), err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "0123456789abcdef") || strings.Contains(string(text), "eu-west-1") {
			t.Errorf("%s still has a placeholder", name)
		}
		if !strings.Contains(string(readme), "`"+filepath.Base(name)+"`") {
			t.Errorf("README.md does not say what %s needs", filepath.Base(name))
		}
		for _, m := range regexp.MustCompile(`\b(?:vars|secrets)\.([A-Z_]+)`).FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(string(readme), "`"+m[1]+"`") {
				t.Errorf("README.md does not say where %s comes from, which %s uses", m[1], filepath.Base(name))
			}
		}
	}
	if page, err := os.ReadFile(filepath.Join(reader, "evidence.html")); err != nil || !strings.Contains(string(page), "✔ Audit chain verified") {
		t.Errorf("no evidence page of a verified chain: %v", err)
	}
}

// query runs the statements of one document on a real server, and sees that
// the role which they make can verify, and cannot write.
func query(t *testing.T, statements []block) {
	url := auditdbtest.New(t)
	if err := auditdbtest.CreateTable(t.Context(), url, auditdbtest.AgentManager); err != nil {
		t.Fatal(err)
	}
	for _, b := range statements {
		if _, err := auditdbtest.Exec(t.Context(), url, b.text); err != nil {
			t.Fatalf("%s: %v", b.where, err)
		}
	}
	defer func() {
		_, _ = auditdbtest.Exec(t.Context(), url, "DROP OWNED BY audit_reader; DROP ROLE audit_reader")
	}()
	if _, err := auditdbtest.Exec(t.Context(), url, "SET ROLE audit_reader; SELECT * FROM audit_events"); err != nil {
		t.Errorf("the reader cannot read: %v", err)
	}
	if _, err := auditdbtest.Exec(t.Context(), url, "SET ROLE audit_reader; DELETE FROM audit_events"); err == nil {
		t.Error("the reader can write")
	}
}

// lint holds YAML to actionlint; what is no whole workflow is a list of steps.
func lint(t *testing.T, texts map[string]string) {
	folder := filepath.Join(t.TempDir(), ".github", "workflows")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"tool", "-modfile=tools/lint/go.mod", "actionlint", "-shellcheck=", "-pyflakes="}
	whole := map[string]bool{}
	for _, where := range slices.Sorted(maps.Keys(texts)) {
		text := texts[where]
		if strings.Contains(text, "\njobs:") {
			whole[where] = true
		} else {
			text = "name: n\non: push\npermissions: {}\njobs:\n  j:\n    runs-on: ubuntu-latest\n    steps:\n" + regexp.MustCompile(`(?m)^`).ReplaceAllString(strings.TrimSuffix(text, "\n"), "      ") + "\n"
		}
		file := filepath.Join(folder, strings.NewReplacer("/", "-", ":", "-").Replace(where)+".yml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
		inputsExist(t, where, text)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	quoted := 0
	examples, err := filepath.Glob("examples/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, example := range examples {
		text, err := os.ReadFile(example)
		if err != nil {
			t.Fatal(err)
		}
		inputsExist(t, example, string(text))
		for where := range whole {
			if strings.HasPrefix(where, "README.md") && texts[where] == string(text) {
				quoted++
			}
		}
	}
	for where := range whole {
		if strings.HasPrefix(where, "README.md") {
			quoted--
		}
	}
	if quoted != 0 {
		t.Error("a workflow of README.md is not the one that stands in examples/")
	}
}

var (
	ownAction = regexp.MustCompile(`uses: agent-manager/audit-signer-rotation/actions/([a-z-]+)@`)
	quotedOut = regexp.MustCompile(`\$\{\{.*?\}\}|'[^']*'|"[^"]*"`)
	inputKey  = regexp.MustCompile(`(?:[{,]\s*|^\s+)([a-z][a-z0-9-]*):`)
)

// inputsExist wants every input that a workflow gives to one of our actions to
// be one that the action has: a runner only warns.
func inputsExist(t *testing.T, where, text string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		m := ownAction.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		source, err := os.ReadFile("actions/" + m[1] + "/action.yml")
		if err != nil {
			t.Fatal(err)
		}
		s, err := actionspec.Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		inside := false
		for _, next := range lines[i+1:] {
			if strings.HasPrefix(strings.TrimLeft(next, " "), "- ") {
				break
			}
			next = quotedOut.ReplaceAllString(next, "")
			if key, rest, _ := strings.Cut(strings.TrimSpace(next), ":"); key == "with" {
				inside, next = true, rest
			} else if slices.Contains([]string{"id", "env", "if", "name"}, key) {
				inside = false
			}
			for _, k := range inputKey.FindAllStringSubmatch(next, -1) {
				if inside && !slices.ContainsFunc(s.Inputs, func(in actionspec.Input) bool { return in.Name == k[1] }) {
					t.Errorf("%s: %s has no input %s", where, m[1], k[1])
				}
			}
		}
	}
}

// TestDocumentedNames: links lead somewhere, targets of make exist, and what a
// role is said to need is what the code calls.
func TestDocumentedNames(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, pattern := range []string{"internal/awskms/*.go", "internal/cloudtrail/*.go"} {
		sources, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range sources {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, "_test.go") {
				code.Write(text)
			}
		}
	}
	for _, name := range documents(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(path.Join(path.Dir(name), m[1])); err != nil {
				t.Errorf("%s: a link leads nowhere: %v", name, err)
			}
		}
		for _, m := range regexp.MustCompile("`make ([a-z-]+)").FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s: the Makefile has no target %s", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile("`(?:kms|cloudtrail):([A-Za-z]+)`").FindAllStringSubmatch(string(text), -1) {
			// TagResource is what CreateKey with tags needs.
			if m[1] != "TagResource" && !strings.Contains(code.String(), "."+m[1]+"(") && !strings.Contains(code.String(), m[1]+"Paginator(") {
				t.Errorf("%s: %s is never called", name, m[0])
			}
		}
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(readme), "\n"); lines > 250 {
		t.Errorf("README.md has %d lines: 250 are read", lines)
	}
}
