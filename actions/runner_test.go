package actions_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// pin is the commit by which the examples name this repository.
const (
	own = "agent-manager/audit-signer-rotation"
	pin = "0123456789abcdef0123456789abcdef01234567"
)

// runner is act, the runner on one machine, with what it needs: built once.
var runner struct {
	sync.Once
	act    string // the program
	own    string // this repository, as far as a consumer's job needs it
	played map[string]bool
	mu     sync.Mutex
	err    error
}

// TestRunner plays the consumer workflows of examples/ and the reusable ones of
// .github/workflows under act in host mode, against the same GitHub, KMS and
// PostgreSQL as all stories. Actions of other people are replaced by the stubs
// of testdata/runner; ours are built from this checkout by run.sh.
func TestRunner(t *testing.T) {
	runner.Do(func() { runner.err = buildRunner(t) })
	if runner.err != nil {
		t.Fatalf("%v\n(act comes from tools/act; go -C tools/act mod download fetches it)", runner.err)
	}
	t.Run("stories", func(t *testing.T) {
		words := maps.Clone(commands)
		words["workflow"], words["load"], words["quickstart"], words["reader"] = workflow, load, quickstart, reader
		testscript.Run(t, testscript.Params{
			Dir:                "testdata/runner",
			Setup:              func(env *testscript.Env) error { return setUp(t, env) },
			Cmds:               words,
			RequireUniqueNames: true,
		})
	})
	if strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return // some stories only
	}
	for _, pattern := range []string{"../examples/*.yml", "../.github/workflows/*.yml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			name = strings.TrimPrefix(name, "../")
			if public := strings.HasPrefix(name, "examples/") || bytes.Contains(text, []byte("workflow_call:")); public && !runner.played[name] {
				t.Errorf("no story of testdata/runner plays %s", name)
			}
		}
	}
}

func buildRunner(t *testing.T) error {
	runner.played = map[string]bool{}
	binaries(t) // fills the build cache that run.sh builds from
	runner.act = filepath.Join(made.dir, "runner", "act")
	build := exec.Command("go", "-C", "../tools/act", "build", "-o", runner.act, "github.com/nektos/act")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("act cannot be built: %w\n%s", err, text)
	}
	runner.own = filepath.Join(made.dir, "runner", "own")
	for _, name := range []string{"go.mod", "go.sum", "actions", "docs", "internal", "schemas", ".github/workflows"} {
		if err := export(filepath.Join("..", name), filepath.Join(runner.own, name)); err != nil {
			return err
		}
	}
	return nil
}

// export copies what a consumer's job needs of this repository: no tests. act
// does not know job.workflow_sha and job.workflow_repository, which a runner
// sets to where the called workflow came from, so they are written in.
func export(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rest)
		switch {
		case d.IsDir() && (d.Name() == "testdata" || strings.HasSuffix(d.Name(), "test") && rest != "."):
			return fs.SkipDir
		case d.IsDir() || strings.HasSuffix(d.Name(), "_test.go") || d.Name() == "clock.go":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Name() == "clock_shifted.go" { // in stories days pass
			text = bytes.Replace(text, []byte("//go:build shiftedclock"), nil, 1)
		}
		if strings.HasSuffix(path, ".yml") {
			text = bytes.ReplaceAll(text, []byte("${{ job.workflow_sha }}"), []byte(pin))
			text = bytes.ReplaceAll(text, []byte("${{ job.workflow_repository }}"), []byte(own))
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, text, info.Mode().Perm())
	})
}

var usesLine = regexp.MustCompile(`\buses:\s*["']?([\w.-]+/[\w.-]+)[^\s"'@]*@([0-9a-f]{40})`)

// workflow runs a workflow of the consumer's repository, and wants each of its
// jobs to end as said: workflow FILE EVENT[=N] [NAME=INPUT...] -- JOB=RESULT...
// A job that is not listed must not run.
// FILE is one of examples/ or of the script; with N the checkout is that of the
// pull request.
func workflow(ts *testscript.TestScript, neg bool, args []string) {
	const text = "workflow FILE EVENT[=N] [NAME=INPUT...] -- [JOB=success|failure...]"
	at := slices.Index(args, "--")
	usage(ts, neg || at < 2, text)
	s := stageOf(ts)
	path := filepath.Join("..", args[0])
	if !strings.HasPrefix(args[0], "examples/") {
		path = ts.MkAbs(args[0])
	}
	source, err := os.ReadFile(path)
	ts.Check(err)
	note(args[0], string(source))

	s.workflows++
	dir := filepath.Join(ts.Getenv("WORK"), fmt.Sprintf(".tmp/workflow-%d", s.workflows))
	event, number, _ := strings.Cut(args[1], "=")
	if number == "" {
		number = "main"
	}
	checkout(ts, false, []string{dir, number})
	deploy := "#!/bin/sh\necho \"deployed with $DEPLOY_ENV\"\n"
	ts.Check(os.WriteFile(filepath.Join(dir, "deploy.sh"), []byte(deploy), 0o755)) // the consumer's own
	ts.Check(os.MkdirAll(filepath.Join(dir, ".github/workflows"), 0o755))
	ts.Check(os.WriteFile(filepath.Join(dir, ".github/workflows/run.yml"), source, 0o644))
	ts.Check(ts.Exec("git", "-C", dir, "remote", "set-url", "origin", "https://github.com/acme/kernel"))

	payload := eventPayload(s, event, number, args[2:at])
	payloadFile := dir + ".event.json"
	ts.Check(os.WriteFile(payloadFile, payload, 0o644))
	began := time.Now()
	out, runErr := runAct(ts, s, dir, event, payloadFile, string(source))
	var exit *exec.ExitError
	if runErr != nil && !errors.As(runErr, &exit) {
		ts.Fatalf("act: %v", runErr)
	}
	run := readRun(out)
	ts.Check(os.WriteFile(ts.MkAbs("run.log"), []byte(run.log), 0o644))
	want := map[string]string{}
	for _, w := range args[at+1:] {
		job, result, _ := strings.Cut(w, "=")
		want[job] = result
	}
	took := time.Since(began).Round(100 * time.Millisecond)
	ts.Logf("%-34s %-18s %v in %s", args[0], event, run.jobs, took)
	if !maps.Equal(run.jobs, want) {
		ts.Fatalf("%s: the jobs ended as %v, want %v:\n%s", args[0], run.jobs, want, run.log)
	}
	if form := leak(run.log); form != "" {
		ts.Fatalf("the log of %s holds the secret %q", args[0], form)
	}
	if strings.Contains(run.log, "goroutine ") {
		ts.Fatalf("%s: an action panicked:\n%s", args[0], run.log)
	}
}

// load puts a file into a variable: load VARIABLE FILE.
func load(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "load VARIABLE FILE")
	ts.Setenv(args[0], ts.ReadFile(args[1]))
}

// note remembers which of our workflows were played.
func note(name, source string) {
	runner.mu.Lock()
	defer runner.mu.Unlock()
	runner.played[name] = true
	for _, m := range regexp.MustCompile(own+`/(\.github/workflows/[\w.-]+)@`).FindAllStringSubmatch(source, -1) {
		runner.played[m[1]] = true
	}
}

// eventPayload is what GitHub tells a run about its cause.
func eventPayload(s *stage, event, number string, inputs []string) []byte {
	payload := map[string]any{
		"repository": map[string]any{"default_branch": "main", "fork": false, "full_name": "acme/kernel"},
	}
	switch event {
	case "pull_request":
		var n int
		fmt.Sscan(number, &n)
		p := s.github.Pull(n)
		payload["number"] = n
		payload["pull_request"] = map[string]any{
			"number": n, "base": map[string]string{"sha": s.github.Head("main").ID, "ref": "main"}, "head": map[string]string{"sha": p.Commit, "ref": p.Branch},
		}
	case "push":
		head := s.github.Head("main")
		payload["ref"], payload["before"], payload["after"] = "refs/heads/main", head.Parents[0], head.ID
	}
	given := map[string]string{}
	for _, in := range inputs {
		name, value, _ := strings.Cut(in, "=")
		if name == "fork" {
			payload["repository"].(map[string]any)["fork"] = value == "true"
			continue
		}
		given[name] = value
	}
	if event == "workflow_dispatch" {
		payload["inputs"] = given
	}
	text, _ := json.Marshal(payload) // strings and numbers
	return text
}

// runAct starts act on a workflow file of a checkout.
func runAct(ts *testscript.TestScript, s *stage, dir, event, payload, source string) ([]byte, error) {
	args := []string{
		event, "--json", "--rm", "--no-cache-server", "--use-gitignore=false", "--actor", "release-captain",
		"-P", "ubuntu-latest=-self-hosted", "-W", ".github/workflows/run.yml", "-e", payload,
		"--action-cache-path", dir + ".cache", "--env-file", os.DevNull, "--secret-file", os.DevNull, "--var-file", os.DevNull, "--input-file", os.DevNull,
		"--local-repository", own + "@" + pin + "=" + runner.own,
	}
	stubs, err := filepath.Abs("testdata/runner/stubs")
	ts.Check(err)
	ours, err := filepath.Glob(filepath.Join(runner.own, ".github/workflows/*.yml"))
	ts.Check(err)
	for _, name := range ours {
		text, err := os.ReadFile(name)
		ts.Check(err)
		if strings.Contains(source, filepath.Base(name)+"@") {
			source += string(text)
		}
	}
	for _, m := range usesLine.FindAllStringSubmatch(source, -1) {
		stub := filepath.Join(stubs, filepath.Base(m[1]))
		if _, err := os.Stat(stub); err == nil {
			args = append(args, "--local-repository", m[1]+"@"+m[2]+"="+stub)
		}
	}
	env := map[string]string{
		"GITHUB_API_URL": s.github.URL(), "GOFLAGS": "-mod=readonly", "GOPROXY": "off", "OWN": runner.own, "ARTIFACTS": dir + ".artifacts",
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_NOSYSTEM": "1", "RUNNER_TEMP": ts.Getenv("WORK") + "/.tmp",
		"AUDIT_SIGNER_CLOCK_AHEAD": ts.Getenv("AUDIT_SIGNER_CLOCK_AHEAD"),
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		out, err := exec.Command("go", "env", name).Output()
		ts.Check(err)
		env[name] = strings.TrimSpace(string(out))
	}
	if s.kms != nil {
		for name, value := range s.kms.Env() {
			if strings.HasPrefix(name, "AWS_ENDPOINT") || strings.HasSuffix(name, "_FILE") || strings.HasSuffix(name, "DISABLED") {
				env[name] = value // the credentials are the stub's to give
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		args = append(args, "--env", name+"="+env[name])
	}
	for name, value := range map[string]string{
		"GITHUB_TOKEN": canaryToken, "ROTATION_APP_KEY": canaryToken, "AUDIT_READER_URL": ts.Getenv("INPUT_DATABASE_URL"),
	} {
		args = append(args, "-s", name+"="+value)
	}
	for _, name := range []string{"ADD_SIGNER_ROLE", "DEPLOY_ROLE", "FINALIZE_ROLE", "ROLLBACK_ROLE"} {
		args = append(args, "--var", name+"=arn:aws:iam::111122223333:role/"+strings.ToLower(name))
	}
	args = append(args, "--var", "ROTATION_APP_ID=4711")
	cmd := exec.Command(runner.act, args...)
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !strings.HasPrefix(name, "INPUT_") && !strings.HasPrefix(name, "GITHUB_") && !strings.HasPrefix(name, "ACT") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd.CombinedOutput()
}

// actRun is what act says about a run.
type actRun struct {
	jobs map[string]string // by id; those of a called workflow as CALLER/ID
	log  string
}

// readRun reads act's lines of JSON. A job that was skipped is not mentioned.
func readRun(out []byte) actRun {
	run := actRun{jobs: map[string]string{}}
	var log strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line struct {
			Job, JobID, JobResult, Msg, Command, Arg string
			KVPairs                                  map[string]string `json:"kvPairs"`
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			log.WriteString(lines.Text() + "\n")
			continue
		}
		if line.JobResult != "" {
			parts := strings.Split(line.Job, "/")
			name := strings.TrimSpace(parts[len(parts)-1]) // padded while others run
			if len(parts) == 3 {
				name = parts[0] + "/" + name
			}
			if had := run.jobs[name]; had != "failure" {
				run.jobs[name] = line.JobResult
			}
		}
		switch line.Command {
		case "error", "warning", "notice":
			fmt.Fprintf(&log, "annotation %s %v %s\n", line.Command, line.KVPairs, strings.TrimSpace(line.Arg))
		case "set-output":
			fmt.Fprintf(&log, "%s", line.Msg+"\n")
		default:
			log.WriteString(strings.TrimRight(line.Msg, "\n") + "\n")
		}
	}
	run.log = log.String()
	return run
}
