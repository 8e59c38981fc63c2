package house_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// workflows are the lines of our own workflows and of those for consumers.
func workflows(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, name := range files(t, ".yml") {
		if !strings.HasPrefix(name, ".github/workflows/") && !strings.HasPrefix(name, "examples/") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = strings.Split(string(text), "\n")
	}
	if len(all) < 12 {
		t.Fatalf("%d workflows only: %v", len(all), all)
	}
	return all
}

var (
	job   = regexp.MustCompile(`^  [a-z][a-z-]*:$`)
	grant = regexp.MustCompile(`^      ([a-z-]+): (read|write)( # .+)?$`)
)

// TestPermissionsAreLeast: nothing by default, and for each job what it needs,
// with the reason.
func TestPermissionsAreLeast(t *testing.T) {
	for name, lines := range workflows(t) {
		text := strings.Join(lines, "\n")
		if !strings.Contains(text, "\npermissions: {}\n") {
			t.Errorf("%s: begin with permissions: {}", name)
		}
		_, jobs, _ := strings.Cut(text, "\njobs:\n")
		count, granted := 0, 0
		for n, line := range strings.Split(jobs, "\n") {
			if job.MatchString(line) {
				count++
			}
			if strings.HasPrefix(line, "    permissions:") {
				granted++
				if rest := strings.TrimPrefix(line, "    permissions:"); strings.TrimSpace(rest) != "" && !strings.Contains(rest, " # ") {
					t.Errorf("%s: say why: %s", name, line)
				}
			}
			if m := grant.FindStringSubmatch(line); m != nil && m[3] == "" {
				t.Errorf("%s, line %d of jobs: say why: %s", name, n+1, line)
			}
		}
		if count == 0 || granted != count {
			t.Errorf("%s: %d of %d jobs say what they may do", name, granted, count)
		}
	}
}

// TestStepsAreCareful: a checkout leaves no token behind, and nothing is taken
// from a cache, which other branches can write to.
func TestStepsAreCareful(t *testing.T) {
	careful := map[string]string{"uses: actions/checkout@": "persist-credentials: false", "uses: actions/setup-go@": "cache: false"}
	for name, lines := range workflows(t) {
		for n, line := range lines {
			if strings.Contains(line, "actions/cache") {
				t.Errorf("%s:%d: a cache", name, n+1)
			}
			for step, want := range careful {
				if strings.Contains(line, step) && !strings.Contains(strings.Join(lines[n:min(n+5, len(lines))], "\n"), want) {
					t.Errorf("%s:%d: %s", name, n+1, want)
				}
			}
			if m := uses.FindStringSubmatch(line); m != nil && !strings.HasPrefix(m[1], "./") &&
				!strings.HasPrefix(m[1], "actions/") && !strings.HasPrefix(m[1], "aws-actions/") && !strings.HasPrefix(m[1], repository+"/") {
				t.Errorf("%s:%d: %s is by nobody that we depend on", name, n+1, m[1])
			}
		}
	}
}

// TestReusableWorkflows: they use the actions of their own commit, do nothing in
// a fork, and say what each input and output is.
func TestReusableWorkflows(t *testing.T) {
	found := 0
	for name, lines := range workflows(t) {
		text := strings.Join(lines, "\n")
		if !strings.Contains(text, "\n  workflow_call:\n") {
			continue
		}
		found++
		for _, want := range []string{"ref: '${{ job.workflow_sha }}'", "repository: '${{ job.workflow_repository }}'", "[[ $COMMIT =~ ^[0-9a-f]{40}$ ]]", "uses: ./.audit-signer/actions/"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %s", name, want)
			}
		}
		_, jobs, _ := strings.Cut(text, "\njobs:\n")
		for _, part := range regexp.MustCompile(`(?m)^  [a-z][a-z-]*:$`).Split(jobs, -1)[1:] {
			if !strings.Contains(part, "!github.event.repository.fork") && !strings.Contains(part, "needs:") {
				t.Errorf("%s: a job runs in forks", name)
			}
		}
		for _, line := range lines {
			if strings.HasPrefix(line, "      ") && strings.Contains(line, ": { ") && !strings.Contains(line, "description: '") && strings.Contains(line, "type: ") {
				t.Errorf("%s: describe %s", name, strings.TrimSpace(line))
			}
		}
	}
	if found != 5 {
		t.Errorf("%d reusable workflows, want 5", found)
	}
}

// TestReleaseBuildsAsPinned: the Go that builds a release is named in one place.
func TestReleaseBuildsAsPinned(t *testing.T) {
	build, err := os.ReadFile("tools/build.sh")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`GOTOOLCHAIN=go([0-9.]+)`).FindSubmatch(build)
	release, err := os.ReadFile(".github/workflows/release.yml")
	if err != nil {
		t.Fatal(err)
	}
	if version == nil || strings.Count(string(release), "go-version: "+string(version[1])+",") != 2 {
		t.Errorf("release.yml sets up another Go than tools/build.sh builds with (%s)", version)
	}
}
