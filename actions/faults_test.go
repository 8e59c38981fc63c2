package actions_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

// fault is one thing that goes wrong with a call, in the way of each service.
type fault struct {
	name    string
	github  githubtest.Fault
	kms     kmstest.Fault
	lasting bool // and with every call after it
	misuse  bool // which may be told as a mistake of the user's: exit 2
	kill    bool // and the process is killed as if by kill -9
}

func status(code int, body string) githubtest.Fault {
	return githubtest.Fault{Status: code, Body: body}
}

// faults are those of the fault matrix. What AWS calls its errors stands in
// "Common Errors" of the AWS KMS API Reference.
var faults = []fault{
	{name: "500", github: status(500, `{"message":"Server Error"}`), kms: kmstest.Fault{Status: 500, Code: "KMSInternalException"}},
	{name: "502", github: status(502, "<html>"), kms: kmstest.Fault{Status: 502}},
	{name: "503", github: status(503, "<html>"), kms: kmstest.Fault{Status: 503}},
	{name: "429 with Retry-After", github: githubtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"5"}}}, kms: kmstest.Fault{Code: "ThrottlingException"}},
	{name: "403 secondary limit", github: status(403, `{"message":"You have exceeded a secondary rate limit."}`), kms: kmstest.Fault{Code: "RequestThrottledException"}},
	{name: "401 expiry", github: status(401, `{"message":"Bad credentials"}`), kms: kmstest.Fault{Code: "ExpiredTokenException"}, lasting: true},
	{name: "409", github: status(409, `{"message":"Conflict"}`), kms: kmstest.Fault{Status: 409, Code: "ConflictException"}},
	{name: "422", github: status(422, `{"message":"Validation Failed"}`), kms: kmstest.Fault{Code: "ValidationException"}, misuse: true},
	{name: "timeout", github: githubtest.Fault{Hang: true}, kms: kmstest.Fault{Delay: time.Hour}},
	{name: "reset before send", github: githubtest.Fault{Close: true}, kms: kmstest.Fault{Drop: true}},
	{name: "reset after apply", github: githubtest.Fault{Close: true, Apply: true}, kms: kmstest.Fault{Drop: true, Applied: true}},
	{name: "truncated body", github: githubtest.Fault{Truncate: true}, kms: kmstest.Fault{Truncate: true}},
	{name: "stale read", github: githubtest.Fault{Stale: true}, kms: kmstest.Fault{Stale: true}},
	{name: "kill -9 before", github: githubtest.Fault{Close: true}, kms: kmstest.Fault{Drop: true}, kill: true},
	{name: "kill -9 after", github: githubtest.Fault{Close: true, Apply: true}, kms: kmstest.Fault{Drop: true, Applied: true}, kill: true},
}

// TestFaults plays the scripts of testdata/faults: each sets a stage and then
// says matrix, or parallel. In the actions that they run, time passes faster.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED, and so not tested: the fault matrix takes minutes")
	}
	t.Cleanup(func() {
		t.Logf("fault matrix: %d calls × %d faults = %d cases, each run again: %d times the faulted run got over it by itself, %d times it said that it could not tell",
			counts.calls.Load(), len(faults), counts.cases.Load(), counts.done.Load(), counts.undecided.Load())
		t.Log("not in this matrix: calls to PostgreSQL, whose connection is cut at every message by TestFaultsAtEveryMessage (internal/auditdb) and TestDatabaseCutAtEveryMessage (internal/audit), and whose own errors are in verify-chain/testdata/failing-database.txtar")
	})
	words := maps.Clone(commands)
	words["matrix"], words["parallel"] = matrix, parallel
	testscript.Run(t, testscript.Params{
		Dir: "testdata/faults",
		Setup: func(env *testscript.Env) error {
			hurried(t)
			return setUp(t, env)
		},
		Cmds:               words,
		RequireUniqueNames: true,
	})
}

var counts struct{ calls, cases, done, undecided atomic.Int64 }

var hurry struct {
	sync.Once
	dir string
	err error
}

// hurried builds the actions with patience.go of each room replaced.
func hurried(t *testing.T) {
	t.Helper()
	binaries(t)
	hurry.Do(func() {
		hurry.dir = filepath.Join(made.dir, "hurried")
		replace := map[string]string{}
		for _, room := range []string{"pullrequest", "awskms", "cloudtrail"} {
			var was, is string
			if was, hurry.err = filepath.Abs("../internal/" + room + "/patience.go"); hurry.err != nil {
				return
			}
			if is, hurry.err = filepath.Abs("testdata/hurry/" + room + ".go"); hurry.err != nil {
				return
			}
			if _, hurry.err = os.Stat(was); hurry.err != nil {
				return
			}
			replace[was] = is
		}
		text, _ := json.Marshal(map[string]any{"Replace": replace})
		overlay := filepath.Join(made.dir, "overlay.json")
		if hurry.err = os.WriteFile(overlay, text, 0o644); hurry.err != nil {
			return
		}
		build := exec.Command("go", "build", "-tags", "shiftedclock", "-ldflags=-s -w", "-overlay", overlay, "-o", hurry.dir+string(filepath.Separator), "./actions/...")
		build.Dir = ".."
		if text, err := build.CombinedOutput(); err != nil {
			hurry.err = fmt.Errorf("go build -overlay: %w\n%s", err, text)
		}
	})
	if hurry.err != nil {
		t.Fatal(hurry.err)
	}
}

// bench is a stage with a moment to go back to.
type bench struct {
	ts     *testscript.TestScript
	s      *stage
	want   map[string]string
	action string
	args   []string
	env    []string

	pulls, keys, aliases int
	branches             []string
	toGitHub             func() error
	toKMS                func()
	runs                 atomic.Int64
}

func newBench(ts *testscript.TestScript, neg bool, args []string) *bench {
	at := slices.Index(args, "--")
	usage(ts, neg || at < 0 || at == len(args)-1, "matrix|parallel [pulls=N] [branches=N] [keys=N] [aliases=N] [disabled=N] [archived=N] [OUTPUT:NAME=VALUE] -- ACTION [ARG...]")
	b := &bench{ts: ts, s: stageOf(ts), want: map[string]string{}, action: args[at+1], args: args[at+2:]}
	for _, w := range args[:at] {
		name, value, _ := strings.Cut(w, "=")
		b.want[name] = value
	}
	if b.s.kms == nil {
		b.s.startKMS(ts, 0)
	}
	ts.Check(ts.Exec("env"))
	without := unset(ts, b.action)
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		line = strings.TrimSuffix(line, "\n")
		if name, _, ok := strings.Cut(line, "="); ok && !slices.Contains(without, name) && name != "GITHUB_OUTPUT" && name != "GITHUB_STEP_SUMMARY" && name != "NEWLINE" {
			b.env = append(b.env, line)
		}
	}
	b.pulls, b.branches, b.keys, b.aliases = len(b.s.github.Pulls()), b.s.github.Branches(), len(b.s.kms.Keys()), len(b.s.kms.Aliases())
	b.toGitHub, b.toKMS = b.s.github.Snapshot(), b.s.kms.Snapshot()
	return b
}

func (b *bench) restore() {
	b.s.github.SetFault(nil)
	b.s.kms.SetFault(nil)
	b.ts.Check(b.toGitHub())
	b.toKMS()
}

// outcome is what one process left behind.
type outcome struct {
	code         int // -1 if it was killed
	log, summary string
	outputs      map[string]string
}

// process prepares a run of the action.
func (b *bench) process() (cmd *exec.Cmd, finish func() outcome) {
	work := b.ts.Getenv("WORK")
	cmd, end := prepare(work, filepath.Join(work, ".tmp", fmt.Sprintf("run-%d", b.runs.Add(1))), b.env, filepath.Join(hurry.dir, b.action), b.args...)
	return cmd, func() outcome {
		o, err := end()
		b.ts.Check(err)
		return o
	}
}

// prepare makes a process of an action's program, whose outputs and summary
// stand in files of the name base until finish has waited for its end.
func prepare(work, base string, env []string, program string, args ...string) (cmd *exec.Cmd, finish func() (outcome, error)) {
	cmd = exec.Command(program, args...)
	cmd.Dir = work
	cmd.Env = append(slices.Clone(env), "GITHUB_OUTPUT="+base+".outputs", "GITHUB_STEP_SUMMARY="+base+".md",
		"GOGC=off") // a quarter of the time of a process that lives so short
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	for _, file := range []string{base + ".outputs", base + ".md"} {
		os.WriteFile(file, nil, 0o644) // else the action says so
	}
	return cmd, func() (outcome, error) {
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return outcome{}, fmt.Errorf("%s: %w", program, err)
		}
		outputs, err1 := os.ReadFile(base + ".outputs")
		summary, err2 := os.ReadFile(base + ".md")
		o := outcome{cmd.ProcessState.ExitCode(), log.String(), string(summary), parseOutputs(string(outputs))}
		return o, errors.Join(err1, err2, os.Remove(base+".outputs"), os.Remove(base+".md"))
	}
}

// masks are lines that the runner takes away.
var masks = regexp.MustCompile(`(?m)^::add-mask::.*$`)

// judge says what no run may do, whatever happens to it.
func (b *bench) judge(o outcome) (bad []string) {
	if strings.Contains(o.log, "goroutine ") || strings.Contains(o.log, "defect of the action") {
		bad = append(bad, "it panicked")
	}
	for what, text := range map[string]string{"log": masks.ReplaceAllString(o.log, ""), "summary": o.summary, "outputs": fmt.Sprint(o.outputs)} {
		if form := leak(text); form != "" {
			bad = append(bad, "the "+what+" holds a secret")
		}
	}
	switch o.code {
	case -1:
	case 0:
		if wrong := b.unsettled(&o); wrong != "" {
			bad = append(bad, "it says that all is well, and "+wrong)
		}
	case 3:
		for name, value := range o.outputs {
			if name == "verdict" && value != "undetermined" || strings.HasPrefix(name, "pull-request") && value != "" {
				bad = append(bad, fmt.Sprintf("it could not tell, and set %s=%s", name, value))
			}
		}
		if !strings.Contains(o.log, "::error") && !strings.Contains(o.summary, "not proven") {
			bad = append(bad, "it could not tell, and does not say why")
		}
	default:
		bad = append(bad, fmt.Sprintf("it ended with %d, want 0 or 3", o.code))
	}
	return bad
}

// unsettled compares the world, and a run's outputs, with what is wanted.
func (b *bench) unsettled(o *outcome) string {
	var fresh []string
	for _, branch := range b.s.github.Branches() {
		if !slices.Contains(b.branches, branch) {
			fresh = append(fresh, branch)
		}
	}
	archived := 0
	for _, branch := range fresh {
		text, _ := b.s.github.File(branch, "kernel/tools/signers.archive.json")
		archived += strings.Count(text, `"boundary"`)
	}
	disabled := 0
	for _, key := range b.s.kms.Keys() {
		if b.s.kms.State(key) == kmstest.Disabled {
			disabled++
		}
	}
	is := map[string]string{
		"disabled": strconv.Itoa(disabled),
		"pulls":    strconv.Itoa(len(b.s.github.Pulls()) - b.pulls), "branches": strconv.Itoa(len(fresh)), "archived": strconv.Itoa(archived),
		"keys": strconv.Itoa(len(b.s.kms.Keys()) - b.keys), "aliases": strconv.Itoa(len(b.s.kms.Aliases()) - b.aliases),
	}
	for name, want := range b.want {
		if output, ok := strings.CutPrefix(name, "OUTPUT:"); ok {
			if o != nil && o.outputs[output] != want {
				return fmt.Sprintf("output %s is %q, want %q", output, o.outputs[output], want)
			}
		} else if is[name] != want {
			return fmt.Sprintf("%s: %s, want %s (branches %v)", name, is[name], want, fresh)
		}
	}
	// The signer that is proposed is the one key with the alias, and no other.
	for name, arn := range b.s.kms.Aliases() {
		if b.want["aliases"] == "1" && strings.HasPrefix(name, "alias/audit-signer-") && len(fresh) == 1 {
			if text, _ := b.s.github.File(fresh[0], "kernel/tools/signers.json"); !strings.Contains(text, arn) {
				return "the proposed registry does not name the key of " + name
			}
		}
	}
	return ""
}

// arm lets the n-th call from now on, at whichever service, meet a fault, and
// records them all.
func (s *stage) arm(n int, f *fault, process *exec.Cmd) (calls func() []string) {
	var mu sync.Mutex
	var seen []string
	strikes := func(call string) bool {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, call)
		hit := f != nil && (len(seen) == n || f.lasting && len(seen) > n)
		if hit && f.kill {
			process.Process.Kill()
		}
		return hit
	}
	s.github.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
		if strikes("GitHub " + r.Method + " " + r.URL.Path) {
			return &f.github
		}
		return nil
	})
	s.kms.SetFault(func(operation string, _ *http.Request) *kmstest.Fault {
		if strikes("AWS " + operation) {
			return &f.kms
		}
		return nil
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

// run runs the action once, with a fault at its n-th call.
func (b *bench) run(n int, f *fault) (outcome, []string) {
	cmd, finish := b.process()
	calls := b.s.arm(n, f, cmd)
	b.ts.Check(cmd.Start())
	o := finish()
	b.s.github.SetFault(nil)
	b.s.kms.SetFault(nil)
	return o, calls()
}

// matrix hits every call of a run with every fault, one at a time; then the
// action is run again, and the world must be as it would have been without.
// The calls are those that a run without faults makes. Reads that come late are
// tried on a second run too, which has more that it could see too late.
func matrix(ts *testscript.TestScript, neg bool, args []string) {
	b := newBench(ts, neg, args)
	o, calls := b.run(0, nil)
	if bad := b.judge(o); o.code != 0 || len(bad) > 0 {
		ts.Fatalf("without a fault: %d %v\n%s", o.code, bad, o.log)
	}
	again, second := b.run(0, nil)
	if again.code != 0 {
		ts.Fatalf("run again without a fault: %d\n%s", again.code, again.log)
	}
	var failed []string
	cases := 0
	try := func(n int, f fault, call string, before bool) {
		b.restore()
		if before {
			if o, _ := b.run(0, nil); o.code != 0 {
				ts.Fatalf("%d\n%s", o.code, o.log)
			}
		}
		cases++
		o, seen := b.run(n, &f)
		var bad []string
		if o.code != 2 || !f.misuse {
			bad = b.judge(o)
		}
		if len(seen) < n {
			bad = append(bad, fmt.Sprintf("it made %d calls only", len(seen)))
		}
		var rerun outcome
		switch o.code {
		case 0:
			counts.done.Add(1)
		case 3:
			counts.undecided.Add(1)
		}
		if o.code == 0 && !f.github.Apply {
			rerun = o // it got over it by itself, and was judged
		} else {
			rerun, _ = b.run(0, nil)
		}
		if rerun.code != 0 {
			bad = append(bad, fmt.Sprintf("run again, it ends with %d:\n%s", rerun.code, rerun.log))
		} else {
			for _, what := range b.judge(rerun) {
				bad = append(bad, "run again: "+what)
			}
		}
		if len(bad) > 0 {
			failed = append(failed, fmt.Sprintf("call %d, %s, meets %s: %s\n%s", n, call, f.name, strings.Join(bad, "; "), o.log))
		}
	}
	for n, call := range calls {
		for _, f := range faults {
			try(n+1, f, call, false)
		}
	}
	for n, call := range second {
		for _, f := range faults {
			if f.github.Stale {
				try(n+1, f, call, true)
			}
		}
	}
	counts.calls.Add(int64(len(calls)))
	counts.cases.Add(int64(cases))
	ts.Logf("%s: %d calls × %d faults, and %d reads of a second run too late: %d cases, %d failed", b.action, len(calls), len(faults), len(second), cases, len(failed))
	if len(failed) > 0 {
		ts.Fatalf("%d of %d cases failed; the first:\n%s", len(failed), cases, strings.Join(failed[:min(len(failed), 4)], "\n"))
	}
	b.restore()
}

// everySeed is how many seeds each script of parallel plays; its own number,
// which suits a run of all tests, if 0.
var everySeed = flag.Int("seeds", 0, "seeds of the parallel runs of TestFaults")

// parallel starts 2 and 10 runs at once, with every answer delayed at random:
// each ends with 0 or 3, and after one more run the world is as if there had
// been one. Keys that lost the race for the alias are left, and reported.
func parallel(ts *testscript.TestScript, neg bool, args []string) {
	b := newBench(ts, neg, args)
	b.env = append(b.env, "HURRY_PARTING=300ms")
	every := cmp.Or(*everySeed, number(ts, b.want["seeds"]))
	delete(b.want, "seeds")
	spare := b.want["keys"]
	for _, runs := range []int{2, 10} {
		done, undecided, orphans := 0, 0, 0
		for seed := range every {
			b.restore()
			random := rand.New(rand.NewPCG(uint64(seed), uint64(runs)))
			var mu sync.Mutex
			pause := func() {
				mu.Lock()
				d := time.Duration(random.Int64N(int64(4 * time.Millisecond)))
				mu.Unlock()
				time.Sleep(d)
			}
			b.s.github.SetFault(func(*http.Request, int) *githubtest.Fault { pause(); return nil })
			b.s.kms.SetFault(func(string, *http.Request) *kmstest.Fault { pause(); return nil })
			delete(b.want, "keys")
			var finish []func() outcome
			for range runs {
				cmd, wait := b.process()
				ts.Check(cmd.Start())
				finish = append(finish, wait)
			}
			for _, wait := range finish {
				o := wait()
				switch o.code {
				case 0:
					done++
				case 3:
					undecided++
					ts.Logf("seed %d: %s", seed, strings.TrimSpace(masks.ReplaceAllString(o.log, "")))
				}
				// A run may say that all is well before the others have ended; how
				// many pull requests there are is told below.
				if bad := b.judge(o); len(bad) > 0 {
					ts.Fatalf("%d runs, seed %d: %v\n%s", runs, seed, bad, o.log)
				}
			}
			b.s.github.SetFault(nil)
			b.s.kms.SetFault(nil)
			o, _ := b.run(0, nil)
			if bad := b.judge(o); o.code != 0 || len(bad) > 0 {
				ts.Fatalf("%d runs, seed %d, and one more: %d %v\n%s", runs, seed, o.code, bad, o.log)
			}
			if spare != "" {
				b.want["keys"] = spare
				orphans += len(b.s.kms.Keys()) - b.keys - number(ts, spare)
			}
		}
		ts.Logf("%s: %d runs at once × %d seeds: %d done, %d could not tell, %d spare keys", b.action, runs, every, done, undecided, orphans)
	}
	b.restore()
}
