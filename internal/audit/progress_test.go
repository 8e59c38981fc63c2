package audit_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
)

// reported runs twelve seconds of a verification, and gives what was printed.
func reported(t *testing.T, terminal bool, environ []string, of int64) string {
	t.Helper()
	const spec = `{name: n, description: d, runs: {using: composite, steps: [{id: run, shell: bash, run: x}]}}`
	clock := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var out strings.Builder
	code := gha.Exec(t.Context(), []byte(spec), gha.Process{
		Stdout: &out, Stderr: &out, Environ: environ, Terminal: terminal, Now: func() time.Time { return clock },
	}, func(_ context.Context, r *gha.Run, _ struct{}) error {
		tell := audit.Progress(r)
		for i := range 12 {
			clock = clock.Add(time.Second)
			tell(int64(1000*(i+1)), of)
		}
		r.Logf("done")
		return nil
	})
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	return out.String()
}

// A log gets a line every five seconds, a terminal a bar that makes room for
// what is printed next; a runner is no terminal, whatever it is connected to.
func TestProgress(t *testing.T) {
	const lines = "5000 events checked (25%), 1000 a second, about 15s left\n10000 events checked (50%), 1000 a second, about 10s left\ndone\n"
	for name, environ := range map[string][]string{"on a runner": {"GITHUB_ACTIONS=true"}, "in CI": {"CI=true"}, "on a dumb terminal": {"TERM=dumb"}} {
		if got := reported(t, true, environ, 20_000); got != lines {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := reported(t, false, nil, 0); got != "5000 events checked, 1000 a second\n10000 events checked, 1000 a second\ndone\n" {
		t.Errorf("of an unknown number: %q", got)
	}
	if got := reported(t, false, nil, 7_000); !strings.Contains(got, "\n10000 events checked, 1000 a second\n") {
		t.Errorf("beyond the estimate: %q", got)
	}
	states := strings.Split(reported(t, true, nil, 20_000), "\r\x1b[K")
	if len(states) != 14 || states[0] != "" || states[10] != "[██████████░░░░░░░░░░] 10000 events checked (50%), 1000 a second, about 10s left" || states[13] != "done\n" {
		t.Errorf("on a terminal: %q", states)
	}
}

// The end of an export is estimated from its size.
func TestProgressOfFile(t *testing.T) {
	files, s := signer(t)
	path := filepath.Join(t.TempDir(), "events.ndjson")
	const n = 3000
	if err := os.WriteFile(path, []byte(export(t, s, n)), 0o600); err != nil {
		t.Fatal(err)
	}
	var told []string
	src := source("")
	src.Open = func() (io.ReadCloser, error) { return os.Open(path) }
	_, _, err := audit.Verify(t.Context(), src, audit.Terms{Registry: files.Registry, Archive: files.Archive, Progress: func(events, of int64) {
		told = append(told, fmt.Sprint(events, " of ", of))
		if of > n || of < events {
			t.Errorf("%d events of %d", events, of)
		}
	}})
	if err != nil || len(told) == 0 || told[len(told)-1] != "3000 of 3000" {
		t.Errorf("%v %v", told, err)
	}
}
