// Command mutants asks whether the tests of the policy packages notice when a
// rule is gone. It compiles each package once with every condition, every side
// of an "and" or "or", and every report of a finding under a switch of its own
// (in an overlay: no file changes), and runs the package's tests with one switch
// thrown after the other. A mutant that no test kills is printed, and makes the
// run fail unless survivors.txt says why it changes nothing.
//
//	go run ./tools/mutants [-jobs 2] [package...]
package main

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// policy are the packages that decide over trust.
var policy = []string{"internal/registry", "internal/pubkey", "internal/trust", "internal/record", "internal/rotation"}

//go:embed survivors.txt
var survivors string

// reports are the functions that report a finding.
var reports = map[string]bool{"find": true, "add": true, "warn": true, "at": true, "report": true, "about": true, "lose": true, "refused": true}

// mutant is one thing taken out of one file.
type mutant struct {
	file, function string
	line           int
	what           string // as source
	nth            int    // of those alike in the function, from 1
}

// key names a mutant wherever its line has moved to.
func (m mutant) key() string {
	return fmt.Sprintf("%s %s %d: %s", filepath.ToSlash(m.file), m.function, m.nth, m.what)
}

func main() {
	jobs := flag.Int("jobs", 2, "mutants at once")
	list := flag.Bool("list", false, "list the mutants and test none")
	flag.Parse()
	dirs := flag.Args()
	if len(dirs) == 0 {
		dirs = policy
	}
	if err := run(dirs, *jobs, *list); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dirs []string, jobs int, list bool) error {
	excused := map[string]bool{}
	for line := range strings.Lines(survivors) {
		if key, _, ok := strings.Cut(strings.TrimSpace(line), " # "); ok {
			excused[key] = true
		}
	}
	unknown := 0
	for _, dir := range dirs {
		p, err := prepare(dir)
		if err != nil {
			return err
		}
		if list {
			for _, m := range p.mutants {
				fmt.Printf("%s:%d: %s\n", m.file, m.line, m.what)
			}
			continue
		}
		survived, err := p.try(jobs)
		if err != nil {
			return err
		}
		same := 0
		for _, m := range survived {
			if excused[m.key()] {
				same++
				continue
			}
			unknown++
			fmt.Printf("survived at line %d: %s\n", m.line, m.key())
		}
		fmt.Printf("%s: %d of %d mutants killed; of the others, %d change nothing (survivors.txt)\n", dir, len(p.mutants)-len(survived), len(p.mutants), same)
	}
	if unknown > 0 {
		return fmt.Errorf("%d mutant(s) survived: write a test for each, or say in tools/mutants/survivors.txt why it changes nothing", unknown)
	}
	return nil
}

// pkg is a package with its mutants.
type pkg struct {
	dir, name string
	mutants   []mutant
	files     map[string]string // name → source with the switches
}

// insertion is text put into a source; at one offset they stand in order.
type insertion struct {
	offset, order int
	text          string
}

// variable holds the number of the mutant that is alive, from 1.
const variable = "mutantAlive"

const declaration = `
import ("os"; "strconv")
var ` + variable + ` = func() int { n, _ := strconv.Atoi(os.Getenv("MUTANT")); return n }()
`

// prepare finds all mutants of a package.
func prepare(dir string) (*pkg, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	p := &pkg{dir: dir, files: map[string]string{}}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if err := p.mutate(name); err != nil {
			return nil, err
		}
	}
	p.files[filepath.Join(dir, "mutant_alive.go")] = "package " + p.name + declaration
	return p, nil
}

func (p *pkg) mutate(name string) error {
	src, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, 0)
	if err != nil {
		return err
	}
	p.name = file.Name.Name
	var all []insertion
	function := ""
	around := func(n ast.Node, before, after string) {
		from, to := fset.Position(n.Pos()), fset.Position(n.End())
		m := mutant{file: name, function: function, line: from.Line, what: strings.Join(strings.Fields(string(src[from.Offset:to.Offset])), " "), nth: 1}
		for _, other := range p.mutants {
			if other.file == m.file && other.function == m.function && other.what == m.what {
				m.nth++
			}
		}
		p.mutants = append(p.mutants, m)
		i := len(p.mutants) // what is seen first stands outside
		all = append(all, insertion{from.Offset, i, fmt.Sprintf(before, i)}, insertion{to.Offset, -i, after})
	}
	never := func(e ast.Expr) { around(e, "("+variable+" != %d && (", "))") }
	always := func(e ast.Expr) { around(e, "("+variable+" == %d || (", "))") }
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			function = n.Name.Name
		case *ast.IfStmt:
			never(n.Cond)
		case *ast.SwitchStmt:
			if n.Tag == nil {
				for _, c := range n.Body.List {
					for _, e := range c.(*ast.CaseClause).List {
						never(e)
					}
				}
			}
		case *ast.BinaryExpr:
			switch n.Op {
			case token.LAND:
				always(n.X)
				always(n.Y)
			case token.LOR:
				never(n.X)
				never(n.Y)
			}
		case *ast.ExprStmt:
			if call, ok := n.X.(*ast.CallExpr); ok && reports[calledName(call)] {
				around(n, "if "+variable+" != %d { ", " }")
			}
		}
		return true
	})
	slices.SortStableFunc(all, func(a, b insertion) int {
		// An end comes before a beginning at the same place.
		if c := cmp.Compare(a.offset, b.offset); c != 0 || (a.order < 0) == (b.order < 0) {
			return cmp.Or(c, cmp.Compare(a.order, b.order))
		}
		return cmp.Compare(a.order, b.order)
	})
	var out strings.Builder
	last := 0
	for _, in := range all {
		out.Write(src[last:in.offset])
		out.WriteString(in.text)
		last = in.offset
	}
	out.Write(src[last:])
	p.files[name] = out.String()
	return nil
}

func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// try runs the tests with each mutant alive, and with none.
func (p *pkg) try(jobs int) (survived []mutant, err error) {
	tmp, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	overlay := map[string]string{}
	for name, text := range p.files {
		original, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		overlay[original] = filepath.Join(tmp, filepath.Base(name))
		if err := os.WriteFile(overlay[original], []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return nil, err
	}
	list, tests := filepath.Join(tmp, "overlay.json"), filepath.Join(tmp, "tests")
	if err := os.WriteFile(list, text, 0o644); err != nil {
		return nil, err
	}
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay="+list, "-o", tests, "./"+filepath.ToSlash(p.dir)).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s with its mutants does not compile: %w\n%s", p.dir, err, out)
	}
	if out, err := p.test(tests, 0); err != nil {
		return nil, fmt.Errorf("the tests of %s fail without a mutant: %w\n%s", p.dir, err, out)
	}
	lives := make([]bool, len(p.mutants))
	slots := make(chan struct{}, jobs)
	var wg sync.WaitGroup
	for i := range p.mutants {
		slots <- struct{}{}
		wg.Go(func() {
			_, err := p.test(tests, i+1)
			lives[i] = err == nil
			<-slots
		})
	}
	wg.Wait()
	for i, m := range p.mutants {
		if lives[i] {
			survived = append(survived, m)
		}
	}
	return survived, nil
}

// test runs the tests with a mutant; one that never ends is killed. The test that
// itself plays mutations of files takes too long to be asked again and again.
func (p *pkg) test(tests string, alive int) ([]byte, error) {
	cmd := exec.Command(tests, "-test.failfast", "-test.timeout=120s", "-test.skip=^TestEveryMutationIsRefused$")
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), fmt.Sprintf("MUTANT=%d", alive))
	return cmd.CombinedOutput()
}
