package published_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// step is something that was merged some time ago: a registry, or, without one, some
// other file.
type step struct {
	ago      time.Duration
	registry string
	pull     bool // by a pull request, whose branch was written two days before
}

// history makes a repository in which steps were merged, and reads what it has
// published by now.
func history(
	t *testing.T, now time.Time, records map[string]string, steps ...step,
) (*githubtest.Server, *pullrequest.Repo, *published.State) {
	t.Helper()
	at := now.Add(-steps[0].ago)
	files := map[string]string{"README.md": "#", paths.Registry: steps[0].registry}
	for path, text := range records {
		files[path] = text
	}
	g, repo := serveAt(t, files, func() time.Time { return at })
	for i, s := range steps[1:] {
		path, text := paths.Registry, s.registry
		if text == "" {
			path, text = "README.md", fmt.Sprint(i)
		}
		at = now.Add(-s.ago)
		if !s.pull {
			if _, err := g.CommitFile("main", path, text, "octocat"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		at = at.Add(-48 * time.Hour)
		c := pullrequest.Change{Operation: "add-signer", Key: fmt.Sprint(i), Base: "main", BaseCommit: g.Head("main").ID,
			Title: "t", Message: "m", Body: "b", Files: map[string][]byte{path: []byte(text)}}
		p, err := repo.Ensure(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		at = now.Add(-s.ago)
		if _, err := g.Merge(p.Number); err != nil {
			t.Fatal(err)
		}
	}
	at = now
	s, err := published.Base(ctx, repo, "", paths, false)
	if err != nil {
		t.Fatal(err)
	}
	return g, repo, s
}

// A signer without a record waits since the branch has its entry with this very key, by
// the times of the merges, and not by those of the commits that were merged.
func TestReachOfASignerWithoutARecord(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	mac := func(key string) string {
		return `{"signerId": "new", "algorithm": "hmac-sha256", "kmsKeyId": "arn:aws:kms:eu-west-1:111122223333:key/` + key + `"}`
	}
	kms := func(key string) string {
		return strings.Replace(entry("new", 2), "}", fmt.Sprintf(`, "kmsKeyId": "arn:aws:kms:eu-west-1:111122223333:key/%s"}`, key), 1)
	}
	without, with := registryOf(entry("old", 1)), registryOf(entry("old", 1), entry("new", 2))
	otherKey := registryOf(entry("old", 1), entry("new", 3))
	edited := registryOf(entry("old", 1), strings.Replace(entry("new", 2), "}", `, "description": "edited"}`, 1))
	macOf := func(key string) string { return registryOf(entry("old", 1), mac(key)) }
	kmsOf := func(key string) string { return registryOf(entry("old", 1), kms(key)) }
	pushed := func(ago time.Duration, registry string) step { return step{ago, registry, false} }
	merged := func(ago time.Duration, registry string) step { return step{ago, registry, true} }
	var busy []step
	for range 60 {
		busy = append(busy, step{time.Minute, "", false})
	}
	for name, tc := range map[string]struct {
		steps []step
		since time.Duration // ago; 0: not known
	}{
		"merged a moment ago":                  {[]step{pushed(10*day, without), merged(time.Second, with)}, time.Second},
		"merged less than five minutes ago":    {[]step{pushed(10*day, without), merged(5*time.Minute-time.Second, with)}, 5*time.Minute - time.Second},
		"merged five minutes ago":              {[]step{pushed(10*day, without), merged(5*time.Minute, with)}, 5 * time.Minute},
		"merged an hour ago":                   {[]step{pushed(10*day, without), merged(time.Hour, with)}, time.Hour},
		"pushed a moment ago":                  {[]step{pushed(10*day, without), pushed(time.Second, with)}, time.Second},
		"in the first commit, a moment ago":    {[]step{pushed(time.Second, with)}, time.Second},
		"in the first commit, long ago":        {[]step{pushed(10*day, with)}, 10 * day},
		"something else was merged since":      {[]step{pushed(10*day, with), merged(time.Minute, "")}, 10 * day},
		"its description was edited since":     {[]step{pushed(10*day, with), merged(time.Minute, edited)}, 10 * day},
		"its key was swapped a moment ago":     {[]step{pushed(10*day, otherKey), merged(time.Second, with)}, time.Second},
		"its key was swapped and swapped back": {[]step{pushed(10*day, with), merged(time.Hour, otherKey), merged(time.Minute, with)}, time.Minute},
		"its key was swapped back long ago":    {[]step{pushed(10*day, with), merged(2*day, otherKey), merged(day, with)}, day},
		"it was taken out and put back":        {[]step{pushed(10*day, with), merged(3*time.Minute, without), merged(time.Minute, with)}, time.Minute},
		"the registry could not be read":       {[]step{pushed(10*day, with), merged(3*time.Minute, "{"), merged(time.Minute, with)}, time.Minute},
		"the registry was gone":                {[]step{pushed(10*day, with), merged(3*time.Minute, `{"signers": []}`), merged(time.Minute, with)}, time.Minute},
		"its MAC key was swapped":              {[]step{pushed(10*day, macOf("a")), merged(time.Minute, macOf("b"))}, time.Minute},
		"its entry names another KMS key":      {[]step{pushed(10*day, kmsOf("a")), merged(time.Minute, kmsOf("b"))}, 10 * day},
		"sixty commits in the last minutes":    {append([]step{pushed(10*day, with)}, busy...), 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, repo, s := history(t, now, nil, tc.steps...)
			entry, _ := s.Registered("new")
			got, err := s.Reach(ctx, repo, record.SignerOf(entry), nil, now)
			if err != nil {
				t.Fatal(err)
			}
			want := rotation.Publication{SignerID: "new", Files: s.Files}
			if tc.since != 0 {
				want.PublishedAt = now.Add(-tc.since)
			}
			state := record.Passed
			switch {
			case tc.since == 0:
				state = record.Unproven
			case tc.since < 5*time.Minute:
				state = record.Waiting
			}
			if got.State != state {
				t.Errorf("got %s (%s), want %s", got.State, got.Detail, state)
			}
			if want := want.Reach(now); got.State == record.Waiting && (!got.At.Equal(want.At) || got.Detail != want.Detail) {
				t.Errorf("got %q at %s, want %q at %s", got.Detail, got.At, want.Detail, want.At)
			}
		})
	}
}

// A record says how long its signer waits, and not since when.
func TestReachOfASignerWithARecord(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		propagation, ago time.Duration
		want             record.GateState
		asks             bool
	}{
		"no wait is planned":          {0, time.Second, record.Passed, false},
		"a moment ago":                {time.Hour, time.Second, record.Waiting, true},
		"longer ago than the default": {time.Hour, 10 * time.Minute, record.Waiting, true},
		"an hour ago":                 {time.Hour, time.Hour, record.Passed, true},
	} {
		t.Run(name, func(t *testing.T) {
			rec := opened("rotate-new", "old", "new") // of 1 March, it says
			rec.Moves[0].(*record.Open).Policy.Propagation = record.Duration(tc.propagation)
			g, repo, s := history(t, now, map[string]string{paths.Record("rotate-new"): string(rec.JSON())},
				step{tc.ago, registryOf(entry("old", 1), entry("new", 2)), false})
			asked := len(g.Requests())
			got, err := s.Reach(ctx, repo, keyed("new", 2), nil, now)
			if err != nil || got.State != tc.want {
				t.Errorf("got %s (%s), %v; want %s", got.State, got.Detail, err, tc.want)
			}
			if asks := len(g.Requests()) > asked; asks != tc.asks {
				t.Errorf("asked GitHub: got %v, want %v", asks, tc.asks)
			}
		})
	}
}

// Listed verifiers decide alone, and then nobody asks GitHub since when a signer is
// published; and a signer that is gone back to waits for neither.
func TestReachAsksWhatTheAnswerRestsOn(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	rec := opened("rotate-new", "old", "new")
	rec.Moves[0].(*record.Open).Policy.Propagation = record.Duration(5 * time.Minute)
	files := map[string]string{paths.Record("rotate-new"): string(rec.JSON())}
	for name, tc := range map[string]struct {
		signer                     record.Signer
		ago                        time.Duration
		good                       bool // the verifier serves what is published
		want                       record.GateState
		asksGitHub, asksTheService bool
	}{
		"a new signer, served":             {keyed("new", 2), time.Second, true, record.Passed, false, true},
		"a new signer, not served":         {keyed("new", 2), time.Hour, false, record.Waiting, false, true},
		"going back, published long since": {keyed("old", 1), time.Hour, false, record.Passed, false, false},
		"going back, published just now":   {keyed("old", 1), time.Second, false, record.Passed, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			g, repo, s := history(t, now, files, step{tc.ago, registryOf(entry("old", 1), entry("new", 2)), false})
			served := 0
			v := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				served++
				digest := strings.Repeat("ab", 32)
				if tc.good {
					digest = s.Registry.SHA256()
				}
				w.Write([]byte(digest))
			}))
			defer v.Close()
			asked := len(g.Requests())
			got, err := s.Reach(ctx, repo, tc.signer, []string{v.URL}, now)
			if err != nil || got.State != tc.want {
				t.Errorf("got %s (%s), %v; want %s", got.State, got.Detail, err, tc.want)
			}
			if asks := len(g.Requests()) > asked; asks != tc.asksGitHub || served > 0 != tc.asksTheService {
				t.Errorf("asked GitHub %v and the verifier %v, want %v and %v", asks, served > 0, tc.asksGitHub, tc.asksTheService)
			}
		})
	}
}

// What GitHub does not tell is an error, and no answer.
func TestReachWithoutGitHub(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for _, path := range []string{"/commits", "/git/trees/", "/git/blobs/"} {
		t.Run(path, func(t *testing.T) {
			g, repo, s := history(t, now, nil, step{time.Hour, registryOf(entry("old", 1)), false},
				step{time.Minute, registryOf(entry("old", 1), entry("new", 2)), false},
				step{time.Second, registryOf(entry("old", 1), entry("new", 2), entry("newer", 3)), false})
			g.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
				if !strings.Contains(r.URL.Path, path) {
					return nil
				}
				return &githubtest.Fault{Status: http.StatusForbidden, Body: `{"message": "Resource not accessible by integration"}`}
			})
			got, err := s.Reach(ctx, repo, keyed("new", 2), nil, now)
			if err == nil || exit(err) != 3 || got.State == record.Passed {
				t.Errorf("got %s (%s), %v; want an error with exit code 3", got.State, got.Detail, err)
			}
		})
	}
}
