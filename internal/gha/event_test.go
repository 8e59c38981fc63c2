package gha

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// eventOf is what a run takes the event for whose payload has this text.
func eventOf(t *testing.T, name, payload string) (e Event, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(path, []byte(payload), 0o600); err != nil {
		t.Fatal(err)
	}
	return eventAt(t, name, path)
}

// eventAt is eventOf for a payload at a path.
func eventAt(t *testing.T, name, path string) (e Event, err error) {
	t.Helper()
	r := &runner{env: []string{"GITHUB_EVENT_NAME=" + name, "GITHUB_EVENT_PATH=" + path}}
	r.run(t, func(_ context.Context, run *Run, _ inputs) error {
		e, err = run.Event()
		return nil
	})
	return e, err
}

func TestEvent(t *testing.T) {
	const (
		base    = "1111111111111111111111111111111111111111"
		head    = "2222222222222222222222222222222222222222"
		none    = "0000000000000000000000000000000000000000"
		base256 = "3333333333333333333333333333333333333333333333333333333333333333"
		head256 = "4444444444444444444444444444444444444444444444444444444444444444"
	)
	for _, tc := range []struct {
		name, event, payload string
		want                 Event
	}{
		{"pull request", "pull_request", `{
			"action": "opened", "number": 7,
			"pull_request": {
				"number": 7,
				"base": {"ref": "main", "sha": "` + base + `", "repo": {"default_branch": "other"}},
				"head": {"ref": "rotate", "sha": "` + head + `", "repo": {"default_branch": "theirs"}}
			},
			"repository": {"default_branch": "main"}}`,
			Event{Name: "pull_request", BaseSHA: base, HeadSHA: head, BaseRef: "main", DefaultBranch: "main"}},
		{"pull request to another branch", "pull_request",
			`{"pull_request":{"base":{"ref":"release/1.x","sha":"` + base + `"},"head":{"ref":"main","sha":"` + head + `"}},"repository":{"default_branch":"main"}}`,
			Event{Name: "pull_request", BaseSHA: base, HeadSHA: head, BaseRef: "release/1.x", DefaultBranch: "main"}},
		{"pull request without branches", "pull_request",
			`{"pull_request":{"base":{"sha":"` + base + `"},"head":{"sha":"` + head + `"}}}`,
			Event{Name: "pull_request", BaseSHA: base, HeadSHA: head}},
		{"pull request with long ids", "pull_request",
			`{"pull_request":{"base":{"sha":"` + base256 + `"},"head":{"sha":"` + head256 + `"}}}`,
			Event{Name: "pull_request", BaseSHA: base256, HeadSHA: head256}},
		{"pull request without commits", "pull_request", `{"repository":{"default_branch":"main"}}`,
			Event{Name: "pull_request", DefaultBranch: "main"}},
		{"pull request with the fields of a push and a merge group", "pull_request", `{
			"before": "` + head + `", "after": "` + base + `", "ref": "refs/heads/forged", "created": true, "forced": true,
			"merge_group": {"base_sha": "` + head + `", "head_sha": "` + base + `", "base_ref": "refs/heads/forged"},
			"pull_request": {"base": {"ref": "main", "sha": "` + base + `"}, "head": {"sha": "` + head + `"}}}`,
			Event{Name: "pull_request", BaseSHA: base, HeadSHA: head, BaseRef: "main"}},
		{"pull request with the fields of a push only", "pull_request",
			`{"before":"` + base + `","after":"` + head + `","ref":"refs/heads/main","created":true,"forced":true}`,
			Event{Name: "pull_request"}},
		{"pull request that comes from nothing", "pull_request",
			`{"pull_request":{"base":{"sha":"` + none + `"},"head":{"sha":"` + head + `"}}}`,
			Event{Name: "pull_request", BaseSHA: none, HeadSHA: head}},

		{"merge group", "merge_group", `{
			"action": "checks_requested",
			"merge_group": {
				"base_sha": "` + base + `", "base_ref": "refs/heads/main",
				"head_sha": "` + head + `", "head_ref": "refs/heads/gh-readonly-queue/main/pr-7"
			},
			"repository": {"default_branch": "main"}}`,
			Event{Name: "merge_group", BaseSHA: base, HeadSHA: head, BaseRef: "main", DefaultBranch: "main"}},
		{"merge group of another branch", "merge_group",
			`{"merge_group":{"base_sha":"` + base + `","head_sha":"` + head + `","base_ref":"refs/heads/a/b"}}`,
			Event{Name: "merge_group", BaseSHA: base, HeadSHA: head, BaseRef: "a/b"}},
		{"merge group with the fields of a pull request", "merge_group", `{
			"pull_request": {"base": {"ref": "forged", "sha": "` + head + `"}, "head": {"sha": "` + base + `"}},
			"merge_group": {"base_sha": "` + base + `", "head_sha": "` + head + `"}}`,
			Event{Name: "merge_group", BaseSHA: base, HeadSHA: head}},

		{"push", "push", `{
			"ref": "refs/heads/main", "before": "` + base + `", "after": "` + head + `", "created": false, "deleted": false, "forced": false,
			"repository": {"default_branch": "main", "master_branch": "old"}}`,
			Event{Name: "push", BaseSHA: base, HeadSHA: head, BaseRef: "main", DefaultBranch: "main"}},
		{"push to another branch", "push",
			`{"ref":"refs/heads/refs/heads/main","before":"` + base + `","after":"` + head + `"}`,
			Event{Name: "push", BaseSHA: base, HeadSHA: head, BaseRef: "refs/heads/main"}},
		{"push of a tag: no branch has its name", "push",
			`{"ref":"refs/tags/main","before":"` + base + `","after":"` + head + `"}`,
			Event{Name: "push", BaseSHA: base, HeadSHA: head, BaseRef: "refs/tags/main"}},
		{"push that creates its branch", "push",
			`{"ref":"refs/heads/new","before":"` + none + `","after":"` + head + `","created":true}`,
			Event{Name: "push", HeadSHA: head, BaseRef: "new", Created: true}},
		{"push that creates its branch, and does not say so", "push",
			`{"before":"` + none + `","after":"` + head + `","created":false}`,
			Event{Name: "push", HeadSHA: head, Created: true}},
		{"push that creates its branch, with long ids", "push",
			`{"before":"` + strings.Repeat("0", 64) + `","after":"` + head256 + `"}`,
			Event{Name: "push", HeadSHA: head256, Created: true}},
		{"push without before creates nothing", "push", `{"after":"` + head + `"}`, Event{Name: "push", HeadSHA: head}},
		{"forced push", "push", `{"before":"` + base + `","after":"` + head + `","forced":true}`,
			Event{Name: "push", BaseSHA: base, HeadSHA: head, Forced: true}},
		{"push that removes its branch", "push", `{"before":"` + base + `","after":"` + none + `","deleted":true}`,
			Event{Name: "push", BaseSHA: base, HeadSHA: none}},
		{"push with the fields of a pull request", "push", `{
			"before": "` + base + `", "after": "` + head + `",
			"pull_request": {"base": {"ref": "forged", "sha": "` + head + `"}, "head": {"sha": "` + base + `"}}}`,
			Event{Name: "push", BaseSHA: base, HeadSHA: head}},

		{"schedule", "schedule", `{"schedule":"0 6 * * *"}`, Event{Name: "schedule"}},
		{"schedule of a repository", "schedule",
			`{"repository":{"default_branch":"main"}}`, Event{Name: "schedule", DefaultBranch: "main"}},
		{"dispatch with inputs like a push", "workflow_dispatch",
			`{"before":"x","after":"y","ref":"refs/heads/main","created":true,"forced":true}`,
			Event{Name: "workflow_dispatch"}},
		{"dispatch with inputs like a pull request", "workflow_dispatch",
			`{"pull_request":{"base":{"ref":"main","sha":"` + base + `"},"head":{"sha":"` + head + `"}}}`, Event{Name: "workflow_dispatch"}},
		{"pull_request_target", "pull_request_target",
			`{"pull_request":{"base":{"ref":"main","sha":"` + base + `"},"head":{"sha":"` + head + `"}}}`,
			Event{Name: "pull_request_target"}},
		{"no name", "", `{"before":"` + base + `","after":"` + head + `"}`, Event{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := eventOf(t, tc.event, tc.payload); err != nil || got != tc.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func TestEventRefuses(t *testing.T) {
	const id = "2222222222222222222222222222222222222222"
	for _, tc := range []struct{ name, event, payload, want string }{
		{"commit that is a flag", "push",
			`{"before":"--upload-pack=x","after":"` + id + `"}`, `names the commit "--upload-pack=x", which is no SHA`},
		{"short commit", "push", `{"before":"` + id + `","after":"2222"}`, `names the commit "2222", which is no SHA`},
		{"commit in capitals", "pull_request",
			`{"pull_request":{"base":{"sha":"` + strings.Repeat("A", 40) + `"},"head":{"sha":"` + id + `"}}}`,
			`names the commit "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", which is no SHA`},
		{"commit of two lines", "merge_group",
			`{"merge_group":{"base_sha":"` + id + `","head_sha":"` + id + `\n"}}`, "which is no SHA"},
		{"branch in the place of a commit", "merge_group",
			`{"merge_group":{"base_sha":"main","head_sha":"` + id + `"}}`,
			`the event merge_group of "`},
		{"no JSON", "push", `{`, "not the JSON of an event"},
		{"empty", "push", ``, "not the JSON of an event"},
		{"an array", "push", `[]`, "not the JSON of an event"},
		{"a flag that is a text", "push", `{"forced":"true"}`, "not the JSON of an event"},
		{"a branch that is a number", "pull_request",
			`{"pull_request":{"base":{"ref":7}}}`, "not the JSON of an event"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := eventOf(t, tc.event, tc.payload)
			if err == nil || !strings.Contains(err.Error(), tc.want) || got != (Event{}) {
				t.Errorf("got %+v, %v, want the error %q", got, err, tc.want)
			}
		})
	}
}

// Without a payload, the event has its name only. One that cannot be read is an error.
func TestEventWithoutPayload(t *testing.T) {
	if got, err := eventAt(t, "push", ""); err != nil || got != (Event{Name: "push"}) {
		t.Errorf("no path: got %+v, %v, want the name", got, err)
	}
	got, err := eventAt(t, "push", "none.json")
	if err == nil || !strings.Contains(err.Error(), "GITHUB_EVENT_PATH") || got != (Event{}) {
		t.Errorf("missing payload: got %+v, %v, want an error", got, err)
	}
}

func TestEventCompares(t *testing.T) {
	for name, want := range map[string]bool{
		"pull_request": true, "merge_group": true, "push": true,
		"": false, "schedule": false, "workflow_dispatch": false, "release": false, "PUSH": false,
		"pull_request_target": false, "pull_request_review": false,
	} {
		if got := (Event{Name: name}).Compares(); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}
