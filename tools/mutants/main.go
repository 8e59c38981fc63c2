// Command mutants asks whether the tests of the policy packages notice when a
// rule is gone. One at a time it takes a condition, one side of an "and" or
// "or", or the report of a finding out of the source, in an overlay that leaves
// the files alone, and runs the tests of that package. A mutant that no test
// kills is printed, and makes the run fail unless survivors.txt says why it
// changes nothing.
//
//	go run ./tools/mutants [-jobs 2] [package...]
package main

import (
	"context"
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
	"strings"
	"sync"
	"time"
)

// policy are the packages that decide over trust.
var policy = []string{"internal/registry", "internal/pubkey", "internal/trust", "internal/rotation"}

//go:embed survivors.txt
var survivors string

// reports are the functions that report a finding.
var reports = map[string]bool{"find": true, "add": true, "warn": true, "at": true, "report": true, "about": true, "lose": true, "refused": true}

// mutant is one change of one file.
type mutant struct {
	dir, file string
	line      int
	what      string // what is taken out, as source
	source    []byte
}

// key names a mutant wherever its line has moved to.
func (m mutant) key() string { return filepath.ToSlash(m.file) + ": " + m.what }

type outcome int

const (
	killed outcome = iota
	survived
	stillborn // it does not compile
)

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
	var all []mutant
	for _, dir := range dirs {
		more, err := mutants(dir)
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	if list {
		for _, m := range all {
			fmt.Printf("%s:%d: %s\n", m.file, m.line, m.what)
		}
		return nil
	}
	outcomes := make([]outcome, len(all))
	errs := make([]error, len(all))
	slots := make(chan struct{}, jobs)
	var wg sync.WaitGroup
	for i := range all {
		slots <- struct{}{}
		wg.Go(func() {
			outcomes[i], errs[i] = all[i].try()
			<-slots
		})
	}
	wg.Wait()
	return tell(dirs, all, outcomes, errs)
}

// tell prints what survived, and a line for each package.
func tell(dirs []string, all []mutant, outcomes []outcome, errs []error) error {
	excused := map[string]bool{}
	for line := range strings.Lines(survivors) {
		if key, _, ok := strings.Cut(strings.TrimSpace(line), " # "); ok {
			excused[key] = true
		}
	}
	unknown := 0
	for _, dir := range dirs {
		var counts [3]int
		same := 0
		for i, m := range all {
			if m.dir != dir {
				continue
			}
			if errs[i] != nil {
				return errs[i]
			}
			counts[outcomes[i]]++
			switch {
			case outcomes[i] != survived:
			case excused[m.key()]:
				same++
			default:
				unknown++
				fmt.Printf("survived: %s:%d: %s\n", m.file, m.line, m.what)
			}
		}
		fmt.Printf("%s: %d of %d mutants killed, %d change nothing (survivors.txt), %d do not compile\n", dir, counts[killed], counts[killed]+counts[survived], same, counts[stillborn])
	}
	if unknown > 0 {
		return fmt.Errorf("%d mutant(s) survived: write a test for each, or say in tools/mutants/survivors.txt why it changes nothing", unknown)
	}
	return nil
}

// mutants makes all mutants of a package.
func mutants(dir string) ([]mutant, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, src, 0)
		if err != nil {
			return nil, err
		}
		at := func(p token.Pos) int { return fset.Position(p).Offset }
		replace := func(n ast.Node, before, after string) {
			from, to := at(n.Pos()), at(n.End())
			text := string(src[from:to])
			m := mutant{dir: dir, file: name, line: fset.Position(n.Pos()).Line, what: strings.Join(strings.Fields(text), " ")}
			m.source = []byte(string(src[:from]) + before + text + after + string(src[to:]))
			all = append(all, m)
		}
		drop := func(e ast.Expr) { replace(e, "(false && (", "))") }
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.IfStmt:
				drop(n.Cond)
			case *ast.SwitchStmt:
				if n.Tag != nil {
					return true
				}
				for _, c := range n.Body.List {
					for _, e := range c.(*ast.CaseClause).List {
						drop(e)
					}
				}
			case *ast.BinaryExpr:
				switch n.Op {
				case token.LAND:
					replace(n.X, "(true || (", "))")
					replace(n.Y, "(true || (", "))")
				case token.LOR:
					drop(n.X)
					drop(n.Y)
				}
			case *ast.ExprStmt:
				if call, ok := n.X.(*ast.CallExpr); ok && reports[calledName(call)] {
					from, open, to := at(call.Pos()), at(call.Lparen), at(call.End())
					m := mutant{dir: dir, file: name, line: fset.Position(call.Pos()).Line, what: strings.Join(strings.Fields(string(src[from:to])), " ")}
					m.source = []byte(string(src[:from]) + "func(...any) {}" + string(src[open:]))
					all = append(all, m)
				}
			}
			return true
		})
	}
	return all, nil
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

// try runs the tests of the mutant's package. One that never ends is killed.
func (m mutant) try() (outcome, error) {
	tmp, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	original, err := filepath.Abs(m.file)
	if err != nil {
		return 0, err
	}
	mutated, overlay := filepath.Join(tmp, "mutant.go"), filepath.Join(tmp, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutated}})
	if err != nil {
		return 0, err
	}
	for name, content := range map[string][]byte{mutated: m.source, overlay: text} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return 0, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "test", "-overlay="+overlay, "-vet=off", "-failfast", "-timeout=90s", "./"+filepath.ToSlash(m.dir)).CombinedOutput()
	switch {
	case err == nil:
		return survived, nil
	case strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "[setup failed]"):
		return stillborn, nil
	}
	return killed, nil
}
