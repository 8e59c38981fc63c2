package gha

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const spec = `name: Sample
description: An action for tests.
inputs:
  registry-path: {description: The registry., default: kernel/tools/signers.json}
  overlap: {description: How long both keys are trusted., default: 48h}
  allow-empty: {description: Accept no events., default: 'false'}
  shards: {description: Number of jobs., default: '1'}
  labels: {description: Labels of the pull request.}
  reason: {description: Why.}
  token: {description: Token., default: '${{ github.token }}'}
  database-url: {description: Where the events are.}
  build-from-source: {description: Build instead of downloading., default: 'false'}
outputs:
  verdict: {description: The verdict., value: '${{ steps.run.outputs.verdict }}'}
  head: {description: The head., value: '${{ steps.run.outputs.head }}'}
runs:
  using: composite
  steps:
    - id: run
      shell: bash
      run: '"$GITHUB_ACTION_PATH/../run.sh"'
      env:
        INPUT_REGISTRY_PATH: ${{ inputs.registry-path }}
        INPUT_OVERLAP: ${{ inputs.overlap }}
        INPUT_ALLOW_EMPTY: ${{ inputs.allow-empty }}
        INPUT_SHARDS: ${{ inputs.shards }}
        INPUT_LABELS: ${{ inputs.labels }}
        INPUT_REASON: ${{ inputs.reason }}
        INPUT_TOKEN: ${{ inputs.token }}
        INPUT_DATABASE_URL: ${{ inputs.database-url }}
        AUDIT_SIGNER_BUILD_FROM_SOURCE: ${{ inputs.build-from-source }}
`

type inputs struct {
	RegistryPath string        `input:"registry-path"`
	Overlap      time.Duration `input:"overlap"`
	AllowEmpty   bool          `input:"allow-empty"`
	Shards       int           `input:"shards"`
	Labels       []string      `input:"labels"`
	Reason       string        `input:"reason"`
	Token        Secret        `input:"token"`
	DatabaseURL  Secret        `input:"database-url"`
}

// runner is one run with its surroundings, and afterwards what it left.
type runner struct {
	args   []string
	env    []string
	hosted bool // GitHub Actions, with files for outputs and summary

	code             int
	stdout, stderr   string
	outputs, summary string
}

func (r *runner) run(t *testing.T, f func(context.Context, *Run, inputs) error) *runner {
	t.Helper()
	return r.runIn(t, context.Background(), f)
}

func (r *runner) runIn(t *testing.T, ctx context.Context, f func(context.Context, *Run, inputs) error) *runner {
	t.Helper()
	dir := t.TempDir()
	env := r.env
	if r.hosted {
		env = append([]string{
			"GITHUB_ACTIONS=true",
			"GITHUB_OUTPUT=" + filepath.Join(dir, "output"),
			"GITHUB_STEP_SUMMARY=" + filepath.Join(dir, "summary"),
		}, env...)
	}
	var stdout, stderr bytes.Buffer
	r.code = Exec(ctx, []byte(spec), Process{
		Args: r.args, Environ: env,
		Stdin: strings.NewReader("from stdin"), Stdout: &stdout, Stderr: &stderr,
		Now: func() time.Time { return time.Unix(1700000000, 0) },
	}, f)
	r.stdout, r.stderr = stdout.String(), stderr.String()
	r.outputs, r.summary = content(t, filepath.Join(dir, "output")), content(t, filepath.Join(dir, "summary"))
	return r
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// everything is all that a run shows anywhere.
func (r *runner) everything() string {
	return r.stdout + r.stderr + r.outputs + r.summary
}

type coded int

func (c coded) Error() string { return fmt.Sprintf("coded %d", int(c)) }
func (c coded) ExitCode() int { return int(c) }

func TestExitCode(t *testing.T) {
	child := exec.Command("sh", "-c", "exit 2").Run()
	tests := []struct {
		name string
		err  error
		code int
		line string // the whole of what is printed
	}{
		{"clean", nil, 0, ""},
		{"findings", Failed, 1, ""},
		{"findings, wrapped", fmt.Errorf("checking: %w", Failed), 1, ""},
		{"undecided, as reported", Undecided, 3, ""},
		{"misuse", Misuse("base-ref %q is no commit", "x"), 2, `error: base-ref "x" is no commit`},
		{"misuse, wrapped", fmt.Errorf("reading: %w", Misuse("no such table")), 2, "error: reading: no such table"},
		{"coded 2", coded(2), 2, "error: coded 2"},
		{"coded 3", coded(3), 3, "error: could not tell: coded 3"},
		{"no code but 2 and 3 is taken from an error", coded(1), 3, "error: could not tell: coded 1"},
		{"nor 0", coded(0), 3, "error: could not tell: coded 0"},
		{"a child's status is not ours", fmt.Errorf("git: %w", child), 3, "error: could not tell: git: exit status 2"},
		{"anything else", errors.New("connection refused"), 3, "error: could not tell: connection refused"},
		{"joined errors are one line", errors.Join(errors.New("a"), errors.New("b")), 3, "error: could not tell: a; b"},
		{"a hostile error is one harmless line", errors.New("a\r\n::set-output name=x::\x1b[31m\u202e"), 3,
			`error: could not tell: a\r; ::set-output name=x::\x1b[31m\u202e`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run := func(context.Context, *Run, inputs) error { return test.err }
			local := (&runner{}).run(t, run)
			if local.code != test.code {
				t.Errorf("exit code %d, want %d", local.code, test.code)
			}
			if got := strings.TrimSuffix(local.stderr, "\n"); got != test.line || local.stdout != "" {
				t.Errorf("printed %q and %q, want %q", got, local.stdout, test.line)
			}
			hosted := (&runner{hosted: true}).run(t, run)
			want := ""
			if test.line != "" {
				want = "::error::" + strings.TrimPrefix(test.line, "error: ") + "\n"
			}
			if hosted.stdout != want || hosted.stderr != "" || hosted.code != test.code {
				t.Errorf("hosted: exit code %d, printed %q and %q, want %q", hosted.code, hosted.stdout, hosted.stderr, want)
			}
		})
	}
}

func TestPanicIsADefectNotAVerdict(t *testing.T) {
	run := func(_ context.Context, r *Run, _ inputs) error {
		r.Output("verdict", "verified")
		r.Summary("All verified.")
		panic("index\n::error::out of range")
	}
	r := (&runner{hosted: true}).run(t, run)
	want := `::error::could not tell: this is a defect of the action, please report it: index; ::error::out of range` + "\n"
	if r.code != 3 || r.stdout != want {
		t.Errorf("exit code %d, printed %q, want %q", r.code, r.stdout, want)
	}
	if strings.Contains(r.everything(), "goroutine") {
		t.Errorf("a stack was printed: %s", r.stdout)
	}
	if strings.Contains(r.everything(), "verified") {
		t.Errorf("a success was left behind: %s", r.everything())
	}
	debug := (&runner{hosted: true, env: []string{"RUNNER_DEBUG=1"}}).run(t, run)
	if !strings.Contains(debug.stdout, "goroutine") {
		t.Errorf("a debug run shows no stack: %s", debug.stdout)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	r := (&runner{}).runIn(t, ctx, func(ctx context.Context, _ *Run, _ inputs) error {
		cancel(errors.New("terminated"))
		return fmt.Errorf("reading rows: %w", ctx.Err())
	})
	want := "error: could not tell: reading rows: context canceled (the run was interrupted: terminated; run it again, it goes on from what is there)\n"
	if r.code != 3 || r.stderr != want {
		t.Errorf("exit code %d, printed %q, want %q", r.code, r.stderr, want)
	}
	// Whoever has finished all the same has finished.
	done := (&runner{}).runIn(t, ctx, func(context.Context, *Run, inputs) error { return nil })
	if done.code != 0 {
		t.Errorf("a run that ended without error: exit code %d", done.code)
	}
}

func TestSurroundings(t *testing.T) {
	(&runner{env: []string{"GITHUB_REPOSITORY=o/r", "EQUALS=a=b"}}).run(t, func(_ context.Context, r *Run, _ inputs) error {
		if got := r.Getenv("GITHUB_REPOSITORY") + " " + r.Getenv("EQUALS") + " " + r.Getenv("HOME"); got != "o/r a=b " {
			t.Errorf("Getenv gives %q", got)
		}
		if r.Now().Unix() != 1700000000 {
			t.Errorf("Now is %v", r.Now())
		}
		var in bytes.Buffer
		if _, err := in.ReadFrom(r.Stdin); err != nil || in.String() != "from stdin" {
			t.Errorf("Stdin gives %q, %v", in.String(), err)
		}
		return nil
	})
}

func TestHelp(t *testing.T) {
	never := func(context.Context, *Run, inputs) error { panic("run") }
	for _, args := range [][]string{{"--help"}, {"-h"}, {"--overlap=1h", "--help"}} {
		r := (&runner{args: args}).run(t, never)
		if r.code != 0 || r.stderr != "" {
			t.Errorf("%v: exit code %d, printed %q", args, r.code, r.stderr)
		}
		for _, want := range []string{
			"Sample (audit-signer-rotation " + Version + ")\n\nAn action for tests.\n",
			"  --registry-path  INPUT_REGISTRY_PATH  The registry. (default kernel/tools/signers.json)\n",
			"  --labels         INPUT_LABELS         Labels of the pull request.\n",
			"  (variable only)  INPUT_TOKEN          Token. (default ${{ github.token }})\n",
			"  3  could not tell",
		} {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("%v: help lacks %q:\n%s", args, want, r.stdout)
			}
		}
		if strings.Contains(r.stdout, "build-from-source") {
			t.Errorf("help lists an input of run.sh:\n%s", r.stdout)
		}
	}
}

// TestMainIsExec runs Main in this very process, which has no input of ours.
func TestMainIsExec(t *testing.T) {
	args := os.Args
	t.Cleanup(func() { os.Args = args })
	os.Args = []string{"sample", "--reason=because"}
	t.Setenv("GITHUB_ACTIONS", "")
	t.Setenv("GITHUB_OUTPUT", filepath.Join(t.TempDir(), "output"))
	now := func() time.Time { return time.Unix(1, 0) }
	code := Main([]byte(spec), now, func(ctx context.Context, r *Run, in inputs) error {
		if in.Reason != "because" || r.Now().Unix() != 1 || ctx.Err() != nil {
			return fmt.Errorf("run got %+v, %v, %v", in, r.Now(), ctx.Err())
		}
		return Failed
	})
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

func TestDefectiveSpec(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := Exec(context.Background(), []byte("name: x"), Process{Stdout: &stdout, Stderr: &stderr},
		func(context.Context, *Run, inputs) error { return nil })
	if code != 3 || !strings.Contains(stderr.String(), "action.yml") {
		t.Errorf("exit code %d, printed %q", code, stderr.String())
	}
}

// TestSignal sends a real SIGTERM to a process that runs Main.
func TestSignal(t *testing.T) {
	if os.Getenv("GHA_TEST_CHILD") == "1" {
		os.Args = []string{"sample"}
		os.Exit(Main([]byte(spec), time.Now, func(ctx context.Context, _ *Run, _ inputs) error {
			fmt.Println("ready")
			<-ctx.Done()
			return ctx.Err()
		}))
	}
	child := exec.Command(os.Args[0], "-test.run=^TestSignal$")
	child.Env = append(os.Environ(), "GHA_TEST_CHILD=1", "GITHUB_ACTIONS=", "GITHUB_OUTPUT=")
	var stderr bytes.Buffer
	child.Stderr = &stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, len("ready"))
	if _, err := stdout.Read(ready); err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if code := child.ProcessState.ExitCode(); code != 3 || !strings.Contains(stderr.String(), "the run was interrupted") {
		t.Errorf("exit code %d, printed %q", code, stderr.String())
	}
}
