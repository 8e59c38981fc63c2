package actions_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestRaces plays a story for every race in which a rotation can be lost. Its
// first comment says which it is, and what makes it impossible or detects it.
func TestRaces(t *testing.T) {
	t.Parallel()
	play(t, "races")
}

// TestDefects plays a story for every defect of the process that this one
// replaces.
func TestDefects(t *testing.T) {
	t.Parallel()
	play(t, "defects")
}

// TestForksRunNothing: race "a fork runs our workflows". A fork copies them,
// schedules and all; each job that holds a secret or may write is for the
// repository itself.
func TestForksRunNothing(t *testing.T) {
	guard := regexp.MustCompile(`(?m)^    if: \$\{\{ (.* && )?!github\.event\.repository\.fork \}\}`)
	for _, pattern := range []string{"../examples/*.yml", "../.github/workflows/*.yml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			_, jobs, _ := bytes.Cut(text, []byte("\njobs:\n"))
			if strings.Contains(pattern, ".github") && !bytes.Contains(text, []byte("workflow_call:")) {
				continue // the project's own
			}
			for _, job := range regexp.MustCompile(`(?m)^  [a-z-]+:\n(?:    .*\n|\n)*`).FindAllString(string(jobs), -1) {
				if powerful.MatchString(job) && !guard.MatchString(job) {
					t.Errorf("%s: a job holds a secret or may write, and has no line \"if: ${{ !github.event.repository.fork }}\":\n%s", name, job)
				}
			}
		}
	}
}

// powerful is what a job says that can do something outside of itself.
var powerful = regexp.MustCompile(`secrets\.|: write|-role`)

// TestStoriesAreListed: docs/gates.md names the stories of every gate, race and
// defect, and nothing that is not there.
func TestStoriesAreListed(t *testing.T) {
	text, err := os.ReadFile("../docs/gates.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`\(\.\./actions/([a-z-]+/(?:testdata/)?[a-z0-9-]+\.txtar)\)`).FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(m[1]); err != nil {
			t.Errorf("docs/gates.md: %v", err)
		}
		listed = append(listed, m[1])
	}
	for _, dir := range []string{"races", "defects"} {
		names, err := filepath.Glob(dir + "/*.txtar")
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d stories, %v", dir, len(names), err)
		}
		for _, name := range names {
			if !slices.Contains(listed, name) {
				t.Errorf("docs/gates.md does not list %s", name)
			}
		}
	}
}
