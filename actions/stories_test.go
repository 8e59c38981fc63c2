package actions_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
)

// The secrets that every story runs with. No text that an action writes may
// hold one of them, whatever happens.
const (
	canaryToken    = "ghs_canaryCANARYcanaryCANARYcanary01"
	canaryPassword = "canary/pass word?&01"
)

func TestMain(m *testing.M) {
	code := auditdbtest.Main(m)
	if made.dir != "" {
		os.RemoveAll(made.dir)
	}
	os.Exit(code)
}

// made is the folder of the six actions and verify-record, built once.
var made struct {
	sync.Once
	dir string
	err error
}

// binaries builds what is tested: with coverage where GOCOVERDIR says that
// somebody collects it.
func binaries(t *testing.T) string {
	t.Helper()
	made.Do(func() {
		if made.dir, made.err = os.MkdirTemp("", "actions-"); made.err != nil {
			return
		}
		args := []string{"build", "-tags", "shiftedclock", "-ldflags=-s -w", "-o", made.dir + string(filepath.Separator)}
		if os.Getenv("GOCOVERDIR") != "" {
			args = append(args, "-cover", "-coverpkg=./...")
		}
		// The go command reuses a test's result as long as nothing has changed
		// that it saw the test itself look at: so look at all the sources.
		for _, dir := range []string{"../actions", "../cmd/verify-record", "../docs", "../internal", "../schemas"} {
			if made.err = filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err }); made.err != nil {
				return
			}
		}
		build := exec.Command("go", append(args, "./actions/...", "./cmd/verify-record")...)
		build.Dir = ".."
		if text, err := build.CombinedOutput(); err != nil {
			made.err = fmt.Errorf("go build: %w\n%s", err, text)
		}
	})
	if made.err != nil {
		t.Fatal(made.err)
	}
	return made.dir
}

// TestStories plays every story of every action: a script of the testdata
// folder beside its main, run against a GitHub, a KMS and a PostgreSQL on this
// machine. See stage for what all stories must keep to.
func TestStories(t *testing.T) {
	t.Cleanup(func() { checkRoles(t) })
	for _, action := range []string{"add-signer", "finalize", "guard-deploy", "rollback", "validate-registry", "verify-chain"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			play(t, filepath.Join(action, "testdata"))
		})
	}
}

// play plays the stories of a folder.
func play(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir:                dir,
		Setup:              func(env *testscript.Env) error { return setUp(t, env) },
		Cmds:               commands,
		RequireUniqueNames: true,
	})
}

// setUp makes a script's surroundings those of a step on a runner.
func setUp(t *testing.T, env *testscript.Env) error {
	bin := binaries(t)
	keys, err := filepath.Abs("testdata/keys")
	if err != nil {
		return err
	}
	upstream, err := filepath.Abs("../testdata/upstream-chains")
	if err != nil {
		return err
	}
	s := newStage(t, env)
	env.Values[stageKey{}] = s
	for name, value := range map[string]string{
		"PATH":           bin + string(os.PathListSeparator) + env.Getenv("PATH"),
		"KEYS":           keys,
		"UPSTREAM":       upstream,
		"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": env.WorkDir, "GITHUB_ACTOR": "release-captain", "GITHUB_RUN_ID": "77",
		"GITHUB_REPOSITORY": "acme/kernel", "GITHUB_SERVER_URL": "https://github.com",
		"NEWLINE": "\n", "RLO": "\u202e", "LONG": strings.Repeat("x", 70_000), "ID256": strings.Repeat("a", 256),
		"GITHUB_OUTPUT": s.outputs, "GITHUB_STEP_SUMMARY": s.summary,
		"INPUT_TOKEN":       canaryToken,
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_NOSYSTEM": "1", // no settings of this machine
		"GIT_AUTHOR_NAME": "ci", "GIT_AUTHOR_EMAIL": "ci@example.invalid",
		"GIT_COMMITTER_NAME": "ci", "GIT_COMMITTER_EMAIL": "ci@example.invalid",
	} {
		env.Setenv(name, value)
	}
	env.Defer(func() {
		if bad := s.close(); bad != "" {
			env.T().Fatal(bad)
		}
	})
	return nil
}

// act runs an action and compares its exit code: exit CODE ACTION [ARG...].
func act(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE ACTION [ARG...]")
	}
	s := stageOf(ts)
	run(ts, s, args[0], args[1], func(unset []string) error {
		return ts.Exec("env", append(append(unset, args[1]), args[2:]...)...)
	})
}

// interrupt stops an action as a runner does when a person cancels the job,
// once it has printed a line: interrupt REGEXP CODE ACTION [ARG...].
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: interrupt REGEXP CODE ACTION [ARG...]")
	}
	const script = `pattern=$1; shift
"$@" >interrupted.log 2>&1 & pid=$!
until grep -Eq -- "$pattern" interrupted.log; do kill -0 $pid || break; sleep 0.05; done
kill -TERM $pid; wait $pid; code=$?
cat interrupted.log; rm interrupted.log; exit $code`
	run(ts, stageOf(ts), args[1], args[2], func(unset []string) error {
		return ts.Exec("env", append(append(unset, "sh", "-c", script, "sh", args[0], args[2]), args[3:]...)...)
	})
}

// run runs an action and holds it to what every run must keep.
func run(ts *testscript.TestScript, s *stage, want, action string, start func(unset []string) error) {
	for _, file := range []string{s.outputs, s.summary} {
		ts.Check(os.WriteFile(file, nil, 0o644))
	}
	off := s.watch(action)
	err := start(unset(ts, action))
	off()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s cannot be run: %v", action, err)
	}
	if fmt.Sprint(code) != want {
		ts.Fatalf("%s ended with %d, want %s", action, code, want)
	}
	log := ts.ReadFile("stdout") + ts.ReadFile("stderr")
	if strings.Contains(log, "goroutine ") || strings.Contains(log, "defect of the action") {
		ts.Fatalf("%s panicked", action)
	}
	outputs, summary := ts.ReadFile(s.outputs), ts.ReadFile(s.summary)
	if code == 2 || code == 3 {
		checkBroken(ts, code, log, outputs, summary)
	}
	masked := regexp.MustCompile(`(?m)^::add-mask::.*$`).ReplaceAllString(log, "") // the runner takes these lines away
	for what, text := range map[string]string{"log": masked, "outputs": outputs, "summary": summary} {
		if form := leak(text); form != "" {
			ts.Fatalf("the %s of %s holds the secret %q:\n%s", what, action, form, text)
		}
	}
	ts.Check(filepath.WalkDir(ts.Getenv("WORK"), func(path string, d fs.DirEntry, err error) error {
		if info, statErr := d.Info(); err != nil || statErr != nil || !d.Type().IsRegular() || info.Size() > 1<<20 {
			return err
		}
		text, err := os.ReadFile(path)
		if form := leak(string(text)); form != "" {
			return fmt.Errorf("the file %s holds the secret %q", path, form)
		}
		return err
	}))
}

// unset lists the variables that are in the way of an action: those of inputs
// that it does not have, which a runner would not set.
func unset(ts *testscript.TestScript, action string) []string {
	spec, err := os.ReadFile(filepath.Join(action, "action.yml"))
	ts.Check(err)
	var args []string
	for _, name := range []string{"INPUT_TOKEN", "INPUT_DATABASE_URL"} {
		if !strings.Contains(string(spec), name+":") {
			args = append(args, "-u", name)
		}
	}
	return args
}

// checkBroken holds a run that could not do its work to the rule for bad
// input: one clear error, no summary, and no output but that there is no
// verdict. One that found evidence missing has said so itself.
func checkBroken(ts *testscript.TestScript, code int, log, outputs, summary string) {
	lines := errorLine.FindAllStringSubmatch(log, -1)
	told := len(lines)
	if code == 3 && told == 0 && strings.Contains(summary, "not proven") {
		return
	}
	if told != 1 {
		ts.Fatalf("%d error lines, want one:\n%s", told, log)
	}
	message := lines[0][1]
	if why := illegible(strings.ReplaceAll(message, "%25", "%")); why != "" {
		ts.Fatalf("%s:\n%s", why, message)
	}
	if summary != "" {
		ts.Fatalf("a run without an outcome wrote a summary:\n%s", summary)
	}
	for name, value := range parseOutputs(outputs) {
		if name != "verdict" || value != "undetermined" {
			ts.Fatalf("a run without an outcome set the output %s=%s", name, value)
		}
	}
}

var (
	// errorLine is how a run says why it could not do its work; a finding has a title.
	errorLine = regexp.MustCompile(`(?m)^::error(?: col=[0-9]+,file=[^:,]*,line=[0-9]+)?::(.*)$`)
	// dumps are what a program shows that prints what it has instead of saying
	// what is wrong.
	dumps = regexp.MustCompile(`goroutine|\.go:[0-9]|panic|runtime error|0x[0-9a-f]{6,}|&\{|map\[|%!|<nil>|operation error|https response error|RequestID|ResultMetadata|SQLSTATE|\*[a-z]+\.[A-Z]|github\.com/|interface \{`)
	// nextSteps begin with a verb that tells the reader to do something.
	nextSteps = regexp.MustCompile(`(?i)(?:^|[:;.,(] |, (?:and|or|so) |or )(?:then |so )?(?:` +
		`add|allow|bring|change|check|choose|close|copy|correct|create|deploy|drop|enable|export|finish|give|grant|keep|leave|look|make|merge|name|register|remove|rename|repair|report|restore|retry|review|run|say|set|shorten|take|use|wait|write` +
		`)\b|\?$|--help lists|did you mean|inputs are written`)
)

// illegible says what a person misses in an error: each says what, where, why,
// and what to do next, in words.
func illegible(message string) string {
	text := strings.TrimPrefix(message, "could not tell: ")
	switch {
	case dumps.MatchString(text):
		return fmt.Sprintf("an error shows the inside of the program (%s)", dumps.FindString(text))
	case !nextSteps.MatchString(text):
		return "an error does not say what to do next"
	case len(text) > 1500:
		return "an error is too long to be read"
	case strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "…"):
		return "an error ends with a full stop: more may follow it in the same line"
	}
	return ""
}

// leak finds a secret in a text, in any of the forms in which one travels.
func leak(text string) string {
	for _, secret := range []string{canaryToken, canaryPassword} {
		for _, form := range []string{
			secret, url.QueryEscape(secret), url.PathEscape(secret),
			base64.RawStdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
			base64.RawStdEncoding.EncodeToString([]byte("postgres:" + secret)),
		} {
			if strings.Contains(text, form) {
				return form
			}
		}
	}
	return ""
}

// parseOutputs reads name<<delimiter blocks as a runner does; the last value of
// a name counts.
func parseOutputs(text string) map[string]string {
	outputs := map[string]string{}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		name, delimiter, ok := strings.Cut(lines[i], "<<")
		if !ok {
			continue
		}
		var value []string
		for i++; i < len(lines) && lines[i] != delimiter; i++ {
			value = append(value, lines[i])
		}
		outputs[name] = strings.Join(value, "\n")
	}
	return outputs
}
