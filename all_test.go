// Package house_test holds the laws of the house: who may import whom, where a
// library lives, what the packages that know no world must not touch. They are
// tests, so that breaking one is as plain as breaking anything else.
// contracts_test.go holds those about action.yml, workflows and documents.
package house_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/agent-manager/audit-signer-rotation"

// room is a package: its floor, and what else is known of it.
type room struct {
	floor int
	kind  kind
}

type kind int

const (
	// pure rooms know neither files nor network nor the clock.
	pure kind = iota
	// adapters speak to one thing outside, and not to each other.
	adapter
	// lines are what the adapters of one provider have in common.
	line
	// joints put adapters and the domain together, for more than one main.
	joint
	// fakes stand in for what an adapter speaks to, in tests and the drill.
	fake
	// mains put the others together.
	main
)

// rooms is the whole house. A package imports lower floors only.
var rooms = map[string]room{
	"actions/add-signer":        {7, main},
	"actions/finalize":          {7, main},
	"actions/guard-deploy":      {7, main},
	"actions/rollback":          {7, main},
	"actions/validate-registry": {7, main},
	"actions/verify-chain":      {7, main},
	"cmd/bench":                 {7, main},
	"cmd/drill":                 {7, main},
	"cmd/verify-record":         {7, main},
	"tools/mutants":             {7, main},

	"internal/published": {6, joint},
	"internal/report":    {6, pure},

	"internal/audit":       {5, joint},
	"internal/rotation":    {5, pure},
	"internal/signerfiles": {5, joint},

	"internal/record": {4, pure},
	"internal/trust":  {4, pure},

	"internal/auditdb":    {3, adapter},
	"internal/awskms":     {3, adapter},
	"internal/checkpoint": {3, pure},
	"internal/registry":   {3, pure},
	"internal/sigverify":  {3, pure},

	"internal/chain":  {2, pure},
	"internal/gha":    {2, adapter},
	"internal/pubkey": {2, pure},

	"internal/actionspec":  {1, pure},
	"internal/canonical":   {1, pure},
	"internal/awsapi":      {1, line},
	"internal/cloudtrail":  {2, adapter},
	"internal/edpoint":     {1, pure},
	"internal/finding":     {1, pure},
	"internal/gitrepo":     {1, adapter},
	"internal/jsondoc":     {1, pure},
	"internal/pullrequest": {1, adapter},
	"internal/readiness":   {1, adapter},
	"schemas":              {2, pure},

	"internal/patience": {0, pure},

	"docs": {1, pure},

	// A fake may need what its adapter needs, and no shipped action links it.
	"internal/auditdb/auditdbtest":    {5, fake},
	"internal/awskms/kmstest":         {5, fake},
	"internal/pullrequest/githubtest": {5, fake},
	"internal/record/recordtest":      {5, fake},
}

// libraries says which rooms may import what is not ours, in tests too.
var libraries = map[string][]string{
	"filippo.io/bigmod":                               {"internal/sigverify"},
	"filippo.io/edwards25519":                         {"internal/edpoint"},
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail": {"internal/cloudtrail"},
	"github.com/aws/aws-sdk-go-v2/service/kms":        {"internal/awskms"},
	"github.com/aws/aws-sdk-go-v2":                    {"internal/awsapi", "internal/awskms", "internal/cloudtrail"},
	"github.com/aws/smithy-go":                        {"internal/awsapi", "internal/awskms", "internal/cloudtrail"},
	"github.com/getkin/kin-openapi":                   {"internal/pullrequest/githubtest"},
	"github.com/google/go-github/v60":                 {"internal/pullrequest"},
	"github.com/jackc/pgx/v5":                         {"internal/auditdb", "internal/auditdb/auditdbtest"},
	"github.com/klauspost/compress":                   {"internal/audit"}, // where exports are opened
	"github.com/sethvargo/go-githubactions":           {"internal/gha"},
	"github.com/tailscale/hujson":                     {"internal/jsondoc"},
	"github.com/xeipuuv/gojsonschema":                 {"schemas"},
	"go.yaml.in/yaml/v3":                              {"internal/actionspec"},
	"golang.org/x/sys":                                {"internal/sigverify"},
}

// stories runs txtar scripts, from the tests of any room.
const stories = "github.com/rogpeppe/go-internal"

// source is one Go file.
type source struct {
	path, dir string
	test      bool
	text      []byte
	ast       *ast.File
	imports   []string
	names     map[string]string // name in the file → import path
}

// sources parses every Go file of the product's module, for every platform.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, name := range files(t, ".go") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
		if err != nil {
			t.Error(err)
			continue
		}
		s := source{name, path.Dir(name), strings.HasSuffix(name, "_test.go"), text, parsed, nil, map[string]string{}}
		for _, spec := range parsed.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			local := path.Base(imported)
			if spec.Name != nil {
				local = spec.Name.Name
			}
			s.imports = append(s.imports, imported)
			s.names[local] = imported
		}
		all = append(all, s)
	}
	return all
}

// files lists the files of the repository whose names have one of the endings,
// with slashes, without test data and what git ignores.
func files(t *testing.T, endings ...string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "bin", "drill-out", "node_modules", "testdata"}, d.Name()) {
			return fs.SkipDir
		}
		if d.Type().IsRegular() && slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(name, e) }) {
			found = append(found, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// selects reports whether the file uses name of the package with that path.
func (s source) selects(pkg, name string) bool {
	found := false
	ast.Inspect(s.ast, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == name {
			x, ok := sel.X.(*ast.Ident)
			found = found || ok && s.names[x.Name] == pkg
		}
		return !found
	})
	return found
}

// output runs a program and gives its standard output; a failure is loud.
func output(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	command := exec.Command(name, args...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(command.Args, " "), err, out, stderr.Bytes())
	}
	return out
}

func TestEveryRoomIsInTheHouse(t *testing.T) {
	there := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test {
			there[s.dir] = true
		}
	}
	for dir := range there {
		if _, ok := rooms[dir]; !ok {
			t.Errorf("%s has no floor: give it one in rooms, and in docs/architecture.md", dir)
		}
	}
	for dir := range rooms {
		if !there[dir] {
			t.Errorf("%s is missing", dir)
		}
	}
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		here, ok := rooms[s.dir]
		if s.test || !ok {
			continue
		}
		for _, imported := range s.imports {
			name, ours := strings.CutPrefix(imported, module+"/")
			there, known := rooms[name]
			switch {
			case !ours:
			case !known:
				t.Errorf("%s imports %s, which is no room of the house", s.path, name)
			case there.kind == fake && path.Dir(s.dir) == "cmd":
			case there.kind == fake:
				t.Errorf("%s imports the fake %s: only tests and cmd/ may", s.path, name)
			case there.floor >= here.floor:
				t.Errorf("%s (floor %d) imports %s (floor %d): imports point down", s.path, here.floor, name, there.floor)
			case (there.kind == adapter || there.kind == line) && here.kind == pure:
				t.Errorf("%s imports the adapter %s: the domain knows no outside", s.path, name)
			case there.kind == adapter && here.kind == adapter:
				t.Errorf("%s imports %s: adapters do not know each other", s.path, name)
			}
		}
	}
}

func TestPureRoomsTouchNothing(t *testing.T) {
	for _, s := range sources(t) {
		if here, ok := rooms[s.dir]; s.test || !ok || here.kind != pure {
			continue
		}
		for _, imported := range s.imports {
			switch first, _, _ := strings.Cut(imported, "/"); first {
			case "os", "net", "syscall", "log":
				if imported != "net/url" { // only text
					t.Errorf("%s imports %s", s.path, imported)
				}
			}
		}
		for _, clock := range []string{"Now", "Since", "Until", "After", "Sleep", "NewTimer", "NewTicker"} {
			if s.selects("time", clock) {
				t.Errorf("%s calls time.%s: time is an argument", s.path, clock)
			}
		}
	}
}

// Below main nothing exits, reads the environment or prints; and nothing at
// all deletes a key.
func TestOnlyMainsEndAndPrint(t *testing.T) {
	forbidden := map[string][]string{
		"os":  {"Exit", "Getenv", "LookupEnv", "Stdout", "Stderr", "Setenv"},
		"fmt": {"Print", "Printf", "Println"},
		"log": {"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf"},
	}
	for _, s := range sources(t) {
		here, ok := rooms[s.dir]
		if s.test || !ok || here.kind == fake {
			continue
		}
		for _, call := range []string{"ScheduleKeyDeletion", "DeleteImportedKeyMaterial"} {
			if bytes.Contains(s.text, []byte("."+call+"(")) {
				t.Errorf("%s calls %s: key material is never deleted", s.path, call)
			}
		}
		if here.kind == main {
			continue
		}
		for pkg, names := range forbidden {
			for _, name := range names {
				// gha.Main hands its process over to Exec, once.
				handsOver := s.path == "internal/gha/gha.go" && (name == "Stdout" || name == "Stderr")
				if s.selects(pkg, name) && !handsOver {
					t.Errorf("%s uses %s.%s: that is for a main", s.path, pkg, name)
				}
			}
		}
	}
}

func TestOneLibraryOneRoom(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			host, _, _ := strings.Cut(imported, "/")
			if !strings.Contains(host, ".") || strings.HasPrefix(imported, module) {
				continue
			}
			if s.test && within(imported, stories) {
				continue
			}
			library := "" // the longest prefix counts
			for prefix := range libraries {
				if within(imported, prefix) && len(prefix) > len(library) {
					library = prefix
				}
			}
			if !slices.Contains(libraries[library], s.dir) {
				t.Errorf("%s imports %s, which lives in %v", s.path, imported, libraries[library])
			}
		}
	}
}

func within(name, prefix string) bool { return name == prefix || strings.HasPrefix(name, prefix+"/") }

// What an action links is part of what a consumer trusts.
func TestWhatActionsLink(t *testing.T) {
	for dir, r := range rooms {
		if r.kind != main || path.Dir(dir) == "cmd" {
			continue
		}
		if mains, err := filepath.Glob(dir + "/*.go"); err != nil || len(mains) == 0 {
			continue // TestEveryRoomIsInTheHouse says so
		}
		for dep := range strings.Lines(string(output(t, "go", "list", "-deps", "./"+dir))) {
			dep = strings.TrimSpace(dep)
			if name, ours := strings.CutPrefix(dep, module+"/"); ours && rooms[name].kind == fake {
				t.Errorf("%s links the fake %s", dir, name)
			}
			if within(dep, stories) || within(dep, "github.com/getkin/kin-openapi") || dep == "testing" {
				t.Errorf("%s links %s, which is for tests", dir, dep)
			}
			if dir != "actions/validate-registry" {
				continue
			}
			// It runs on strangers' pull requests.
			for _, remote := range []string{"github.com/google/go-github", "github.com/aws", "github.com/jackc"} {
				if strings.HasPrefix(dep, remote) {
					t.Errorf("%s links %s: the gate speaks to nobody", dir, dep)
				}
			}
		}
	}
}

func TestModules(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Replace, Exclude []any
	}
	if err := json.Unmarshal(output(t, "go", "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	if len(direct) > 17 {
		t.Errorf("%d direct modules, and 17 are enough: %v", len(direct), direct)
	}
	if len(mod.Replace)+len(mod.Exclude) > 0 {
		t.Error("go.mod replaces or excludes a module: what a consumer builds must be what it says")
	}
}

// TestTidy needs the module cache or the network, and fails without them.
func TestTidy(t *testing.T) {
	t.Setenv("GOFLAGS", "-mod=mod")
	tools, err := filepath.Glob("tools/*/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(tools, "go.mod") {
		output(t, "go", "-C", filepath.Dir(file), "mod", "tidy", "-diff")
	}
}

func TestGofmt(t *testing.T) {
	for _, s := range sources(t) {
		if formatted, err := format.Source(s.text); err != nil || !bytes.Equal(formatted, s.text) {
			t.Errorf("%s is not formatted: run gofmt -w (%v)", s.path, err)
		}
	}
}
