// Package gha runs the main of an action: it reads the inputs that action.yml
// declares, hands them over as one struct, and speaks to the runner in
// outputs, annotations, a job summary and an exit code.
//
// What it refuses: inputs that action.yml does not declare, values that are
// not plain text, secrets on the command line, output values that could end a
// line. Why it is safe: secrets are masked before anything else is written and
// taken out of every line; every other byte that is printed is made harmless,
// so that no row of a database can issue a workflow command; outputs and the
// summary are held back until the run has ended, so that a run which could not
// tell leaves nothing behind that reads as a success.
//
// Outside GitHub Actions (GITHUB_ACTIONS is not "true") the same main is a
// command-line program: findings and outputs go to standard output, the log
// and the error to standard error.
package gha

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sethvargo/go-githubactions"

	"github.com/agent-manager/audit-signer-rotation/internal/actionspec"
	"github.com/agent-manager/audit-signer-rotation/internal/patience"
)

// Exit codes. A runner shows only that a step failed, so an action also tells
// its verdict in an output.
const (
	exitClean     = 0
	exitFindings  = 1
	exitMisuse    = 2
	exitUndecided = 3
)

const exitHelp = `Exit codes:
  0  clean, done, or nothing due yet
  1  findings, failed verification, evidence against a gate
  2  used wrongly, unreadable or oversized input
  3  could not tell: remote or transient failure, incomplete evidence
`

// Ends that the action itself has told already, in findings, outputs and
// summary: nothing more is printed, and what it held ready is published.
const (
	// Failed says that findings were reported: exit 1.
	Failed = told("findings were reported")
	// Undecided says that evidence is missing, and that the outputs and the
	// summary say so: exit 3.
	Undecided = told("could not tell, as reported")
)

type told string

func (t told) Error() string { return string(t) }

// Misuse is an error that the user can mend: exit 2. The arguments are those
// of fmt.Errorf.
func Misuse(format string, args ...any) error {
	return misuse{fmt.Errorf(format, args...)}
}

type misuse struct{ error }

func (e misuse) Unwrap() error { return e.error }
func (misuse) ExitCode() int   { return exitMisuse }

// Within gives everything that is done under the context a budget for retries, as
// the input retry-budget of an action names it.
func Within(ctx context.Context, budget time.Duration) (context.Context, error) {
	if budget <= 0 || budget > patience.Longest {
		return ctx, Misuse("retry-budget %s: give the time that retries may take together, of more than nothing and at most %s, such as %s", budget, patience.Longest, patience.Default)
	}
	return patience.With(ctx, patience.New(budget)), nil
}

// Process is what a main is given by the operating system.
type Process struct {
	// Args are the arguments without the program's name.
	Args []string
	// Environ is a list of NAME=value, as from os.Environ.
	Environ        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal says that a person looks at Stderr.
	Terminal bool
	Now      func() time.Time
}

// Main is what the main function of an action calls:
//
//	//go:embed action.yml
//	var spec []byte
//
//	func main() { os.Exit(gha.Main(spec, now, run)) }
//
// SIGINT and SIGTERM cancel the context; a second one kills. See Exec.
func Main[Inputs any](spec []byte, now func() time.Time, run func(context.Context, *Run, Inputs) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Exec(ctx, spec, Process{
		Args: os.Args[1:], Environ: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Terminal: isTerminal(os.Stderr), Now: clock(now, os.Environ()),
	}, run)
}

// Exec runs an action and gives its exit code. Inputs is a struct with one
// field for each input that spec, the text of action.yml, hands to the binary:
//
//	RegistryPath string        `input:"registry-path"`
//	Overlap      time.Duration `input:"overlap"`       // 48h
//	DryRun       bool          `input:"dry-run"`       // true or false, nothing else
//	Shards       int           `input:"shards"`
//	Labels       []string      `input:"labels"`        // by comma or by line
//	Token        gha.Secret    `input:"token"`         // never on the command line
//
// Structs may be embedded, also from another package.
//
// A value is taken from the flag --registry-path=value, else from the variable
// that the env block of action.yml maps, else from the default; an empty value
// counts as none. All bad inputs are reported together, with exit code 2,
// before run is called. An input whose variable does not start with INPUT_ is
// meant for run.sh and is none of the binary's.
//
// The exit code follows from the error: none 0; Failed 1; Undecided 3; one
// with a method ExitCode that gives 2, 2; every other error, a cancelled
// context and a panic 3. Such an error is printed once, in one line.
func Exec[Inputs any](ctx context.Context, spec []byte, p Process, run func(context.Context, *Run, Inputs) error) int {
	r := newRun(p)
	return r.finish(r.guard(func() error {
		parsed, err := actionspec.Parse(spec)
		if err != nil {
			return err
		}
		r.spec = parsed
		if slices.Contains(p.Args, "--help") || slices.Contains(p.Args, "-h") {
			_, err := io.WriteString(p.Stdout, help[Inputs](parsed))
			return err
		}
		var in Inputs
		if err := r.bind(p, &in); err != nil {
			return err
		}
		err = run(ctx, r, in)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w (the run was interrupted: %v; run it again, it goes on from what is there)", err, context.Cause(ctx))
		}
		return err
	}))
}

// Run is one run of an action.
type Run struct {
	// Stdin is the standard input.
	Stdin io.Reader
	// Now gives the time.
	Now func() time.Time

	spec    actionspec.Spec
	given   []Argument
	env     map[string]string
	hosted  bool // on a GitHub Actions runner
	actions *githubactions.Action
	stdout  io.Writer
	log     io.Writer // for what is no workflow command
	secrets []string  // forms of the secrets, longest first
	hide    *strings.Replacer

	terminal bool           // a status line may be drawn
	drawn    bool           // and stands there
	shown    map[string]int // annotations so far, by level
	outputs  []output
	summary  strings.Builder
	ticket   [][2]string
	fault    error // the first output that was refused
}

func newRun(p Process) *Run {
	env := map[string]string{}
	for _, v := range p.Environ {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	r := &Run{
		Stdin: p.Stdin, Now: p.Now,
		env:    env,
		hosted: env["GITHUB_ACTIONS"] == "true",
		stdout: p.Stdout, log: p.Stderr,
		hide:  strings.NewReplacer(),
		shown: map[string]int{},
	}
	if r.hosted {
		r.log = p.Stdout // one stream, so that the log keeps its order
	}
	r.terminal = p.Terminal && !r.hosted && env["CI"] == "" && env["TERM"] != "dumb"
	r.actions = githubactions.New(githubactions.WithWriter(p.Stdout), githubactions.WithGetenv(r.Getenv))
	return r
}

// Getenv gives a fact about the runner, such as GITHUB_REPOSITORY, or "".
// Inputs are fields, not variables.
func (r *Run) Getenv(name string) string { return r.env[name] }

// Origin says who runs this where: what a report names. What the runner has not
// told is empty.
type Origin struct{ Actor, Repository, Commit, RunURL string }

// Origin is read from the runner's variables.
func (r *Run) Origin() Origin {
	o := Origin{Actor: r.Getenv("GITHUB_ACTOR"), Repository: r.Getenv("GITHUB_REPOSITORY"), Commit: r.Getenv("GITHUB_SHA")}
	if id := r.Getenv("GITHUB_RUN_ID"); id != "" {
		o.RunURL = cmp.Or(r.Runs(), "https://github.com/"+o.Repository+"/actions/runs/") + id
	}
	return o
}

// Runs is what links to runs of this repository begin with, "" where the runner does
// not say.
func (r *Run) Runs() string {
	server, repo := r.Getenv("GITHUB_SERVER_URL"), r.Getenv("GITHUB_REPOSITORY")
	if server == "" || repo == "" {
		return ""
	}
	return server + "/" + repo + "/actions/runs/"
}

// Argument is an input as it was given. A secret has its variable and no value.
// It has no type of its own, so that a report can take it as it is.
type Argument = struct{ Name, Value, Secret string }

// Given lists the inputs that were given and differ from their defaults, in
// the order of action.yml: enough to run the same again.
func (r *Run) Given() []Argument { return r.given }

// guard turns a panic into an error. A stack is printed only in debug runs,
// because it may show arguments.
func (r *Run) guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			if r.env["RUNNER_DEBUG"] == "1" {
				for line := range strings.Lines(string(debug.Stack())) {
					r.Logf("%s", strings.TrimRight(line, "\n"))
				}
			}
			err = fmt.Errorf("this is a defect of the action, please report it: %v", v)
		}
	}()
	return f()
}

// finish publishes what the run held ready, prints the error, and gives the
// exit code.
func (r *Run) finish(err error) int {
	if r.fault != nil && err != nil {
		r.Logf("besides, %v", r.fault)
	} else if r.fault != nil {
		err = r.fault
	}
	whole := err == nil || errors.Is(err, Failed) || errors.Is(err, Undecided)
	if failure := r.publish(whole); failure != nil && err == nil {
		// The last value of an output counts: take a success back.
		_ = r.publish(false)
		err, whole = failure, false
	} else if failure != nil {
		r.Logf("besides, %v", failure)
	}
	code := exitCode(err)
	if whole {
		r.printTicket(code)
		return code
	}
	message := strings.ReplaceAll(err.Error(), "\n", "; ")
	if code == exitUndecided {
		message = "could not tell: " + message
	}
	r.annotate("error", r.placeOf(err), message)
	return code
}

// IsMisuse tells whether an error is about what was given, an input or a file, and
// not about whether it could be read.
func IsMisuse(err error) bool { return exitCode(err) == exitMisuse }

func exitCode(err error) int {
	var coded interface {
		error
		ExitCode() int
	}
	switch {
	case err == nil:
		return exitClean
	case errors.Is(err, Failed):
		return exitFindings
	case errors.Is(err, Undecided):
		return exitUndecided
	case errors.As(err, &coded) && coded.ExitCode() == exitMisuse:
		// A child process that ended with 2 says nothing about our inputs,
		// but its error has the same method.
		if _, child := coded.(interface{ Exited() bool }); !child {
			return exitMisuse
		}
	}
	return exitUndecided
}
