// Command drill rehearses the whole runbook on one machine, with the real
// actions: a consumer repository with an RSA signer and a history of signed
// events, a new Ed25519 key in KMS, its pull request, the gate, the merge, the
// cut-over, the smoke test, the overlap, the archiving of the old signer, and
// a verification of everything afterwards. On the way it tries the wrong moves
// too, and wants each of them refused. Other scenarios rehearse what nobody
// plans: see the list in scenarios.go.
//
// GitHub and KMS are the fakes that the tests use, on loopback; git is real,
// and so is PostgreSQL where its programs are found (else the events are a
// file, and the drill says so). It ends with 0 only if every step did what it
// should, leaves everything to look at in drill-out/, and can be run again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/report"
)

// out is where everything is left to be looked at.
const out = "drill-out"

// history is how many events the old signer has signed before the rotation.
const history = 1200

// overlap is as short as a rehearsal can be; a real one takes 24 to 72 hours.
const overlap = 4 * time.Second

func main() {
	asFile := flag.Bool("events-in-file", false, "keep the events in a file, also where PostgreSQL is found")
	name := flag.String("scenario", "rotate", "what to rehearse: "+strings.Join(names(), ", "))
	flag.Parse()
	i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == *name })
	if i < 0 {
		fmt.Fprintf(os.Stderr, "there is no scenario %q; choose one of %s\n", *name, strings.Join(names(), ", "))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *asFile, scenarios[i]); err != nil {
		fmt.Fprintf(os.Stderr, "\n✖ the drill failed: %v\n  Look at %s/ for what each step wrote.\n", err, out)
		os.Exit(1)
	}
}

func run(ctx context.Context, asFile bool, play scenario) (err error) {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(out, "steps"), 0o755); err != nil {
		return err
	}
	t := &timeline{start: time.Now()}
	t.heading("Set the stage")
	w, err := build(ctx, t, asFile, play.keys)
	defer w.close()
	defer func() { err = errors.Join(err, w.index(t, err)) }()
	if err != nil {
		return err
	}
	for _, part := range play.parts {
		t.heading(part.name)
		if err := part.play(ctx, t, w); err != nil {
			return err
		}
	}
	if bad := w.github.Violations(); len(bad) > 0 {
		return fmt.Errorf("%d request(s) to GitHub break its published API description, the first: %s", len(bad), bad[0])
	}
	fmt.Printf("\n✔ %d steps in %s. Open %s/index.html: it shows the chain, and leads to pull request texts, reports, evidence pages and what each step printed.\n",
		t.steps, time.Since(t.start).Round(100*time.Millisecond), out)
	return nil
}

// timeline prints what happens when.
type timeline struct {
	start time.Time
	steps int
	parts []report.Part
}

func (t *timeline) heading(name string) {
	fmt.Printf("\n%s\n", name)
	t.parts = append(t.parts, report.Part{Heading: name})
}

// step is one line of the timeline.
type step struct {
	name string
	do   func() (detail string, err error)
}

// play does steps one after the other, up to the first surprise.
func (t *timeline) play(steps ...step) error {
	for _, s := range steps {
		detail, err := s.do()
		t.steps++
		mark := "✔"
		if err != nil {
			mark = "✖"
		}
		at := fmt.Sprintf("%.1fs", time.Since(t.start).Seconds())
		last := &t.parts[len(t.parts)-1]
		last.Steps = append(last.Steps, report.Step{Passed: err == nil, At: at, Name: s.name, Detail: detail})
		fmt.Printf("  %s %6s  %s", mark, at, s.name)
		if detail != "" {
			fmt.Printf(": %s", detail)
		}
		fmt.Println()
		if err != nil {
			return fmt.Errorf("step %q: %w", s.name, err)
		}
	}
	return nil
}
