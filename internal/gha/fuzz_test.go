package gha

import (
	"context"
	"strings"
	"testing"
)

// FuzzInputs gives one text to an input of each kind: it is taken or refused,
// and what is printed stays one harmless line.
func FuzzInputs(f *testing.F) {
	for _, seed := range append(hostile, "", "true", "48h", "7", "a,b", "-flag", "--shards=2") {
		f.Add(seed)
	}
	names := []string{"REASON", "OVERLAP", "ALLOW_EMPTY", "SHARDS", "LABELS", "TOKEN"}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range names {
			r := (&runner{env: []string{"INPUT_" + name + "=" + text}}).run(t, func(context.Context, *Run, inputs) error { return nil })
			if r.code != 0 && r.code != 2 || r.stdout != "" || strings.Count(r.stderr, "\n") > 1 {
				t.Errorf("%s: exit code %d, printed %q and %q", name, r.code, r.stdout, r.stderr)
			}
			if err := harmless(r.stderr); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzLine prints one text down every channel of a runner: it stays on its
// line and becomes no command.
func FuzzLine(f *testing.F) {
	for _, seed := range hostile {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := newRun(Process{Stdout: new(strings.Builder)})
		line := r.clean(text)
		if err := harmless(line); err != nil {
			t.Error(err)
		}
		if strings.ContainsAny(line, "\r\n") || commands.MatchString(line) {
			t.Errorf("%q became %q", text, line)
		}
		if again := r.clean(line); len(line) < maxLine && again != line {
			t.Errorf("clean is not stable: %q, then %q", line, again)
		}
	})
}
