package pullrequest_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/patience"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

// passing is what may go wrong with any request and heals by itself.
var passing = map[string]githubtest.Fault{
	"500":                   {Status: 500, Body: `{"message":"oops"}`},
	"502 after it was done": {Status: 502, Body: "<html>", Apply: true},
	"503":                   {Status: 503},
	"cut before":            {Close: true},
	"cut after":             {Close: true, Apply: true},
	"half an answer":        {Truncate: true},
	"429 with Retry-After":  {Status: 429, Header: http.Header{"Retry-After": {"5"}}, Body: `{"message":"slow down"}`},
	"a secondary limit":     {Status: 403, Body: `{"message":"You have exceeded a secondary rate limit."}`},
	"408":                   {Status: 408},
	"409":                   {Status: 409, Body: `{"message":"conflict"}`},
	"409 after it was done": {Status: 409, Apply: true},
	"half a JSON document":  {Status: 200, Body: `{"ref":`, Apply: true},
	"an empty answer":       {Status: 201, Apply: true},
}

// Every request of a run is hit by every fault; the run gets over it by itself.
func TestEnsureGetsOverAnyPassingFault(t *testing.T) {
	for name, fault := range passing {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			change := func(n int) pullrequest.Change {
				c := w.change(fmt.Sprint("request ", n))
				c.Files = map[string][]byte{archive: []byte(c.Key)}
				c.Labels, c.Reviewers = []string{"audit"}, []string{"ben"}
				return c
			}
			w.ensure(change(0))
			total := len(w.Requests())
			var branches []string
			for n := 1; n <= total; n++ {
				c := change(n)
				repo, naps := w.open()
				w.SetFault(once(n, every, fault))
				p, err := repo.Ensure(context.Background(), c)
				w.SetFault(nil)
				if err != nil {
					t.Fatalf("request %d: %v", n, err)
				}
				if p.State != pullrequest.Created && p.State != pullrequest.Updated || w.Head(p.Branch).ID != p.Commit {
					t.Errorf("request %d: %+v", n, p)
				}
				// A cut connection is left out: net/http repeats a read at once.
				if (fault.Truncate || fault.Status > 299) && len(naps.all) != 1 {
					t.Errorf("request %d: slept %v, want one pause", n, naps.all)
				}
				if pull := w.Pull(p.Number); fmt.Sprint(pull.Labels, pull.Reviewers) != "[audit] [ben]" || pull.Body != c.Body {
					t.Errorf("request %d: %+v", n, pull)
				}
				branches = append(branches, c.Branch())
			}
			w.single(branches...)
		})
	}
}

func TestEnsureGetsOverALostUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for name, fault := range passing {
		c := w.change(name)
		c.Tip = w.ensure(c).Commit
		c.Files[registry], c.Body = []byte("[2]\n"), "new words"
		repo, _ := w.open()
		w.SetFault(once(1, is("PATCH", "/git/refs/"), fault))
		if p, err := repo.Ensure(context.Background(), c); err != nil || p.State != pullrequest.Updated {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		w.SetFault(nil)
		w.settled(c)
	}
}

func TestEnsureInParallel(t *testing.T) {
	w := newWorld(t, nil)
	for _, runs := range []int{2, 10} {
		for seed := range 20 {
			c := w.change(fmt.Sprintf("%d runs, seed %d", runs, seed))
			c.Files = map[string][]byte{archive: []byte(c.Key)}
			c.Labels = []string{"audit"}
			states := make([]pullrequest.State, runs)
			var all sync.WaitGroup
			for i := range runs {
				repo, _ := w.open()
				all.Go(func() {
					p, err := repo.Ensure(context.Background(), c)
					if err != nil {
						t.Errorf("%s: %v", c.Key, err)
					}
					states[i] = p.State
				})
			}
			all.Wait()
			created := 0
			for _, state := range states {
				if state == pullrequest.Created {
					created++
				}
			}
			if created != 1 {
				t.Errorf("%s: %v", c.Key, states)
			}
			w.settled(c)
		}
	}
}

func TestLimitsAreHonoured(t *testing.T) {
	at := func(seconds int) string { return fmt.Sprint(noon.Unix() + int64(seconds)) }
	w := newWorld(t, func(o *githubtest.Options) { o.Now = func() time.Time { return noon } })
	for name, c := range map[string]struct {
		fault githubtest.Fault
		pause time.Duration
	}{
		"Retry-After":                 {githubtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"17"}, "X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {at(500)}}}, 17 * time.Second},
		"Retry-After as a date":       {githubtest.Fault{Status: 429, Header: http.Header{"Retry-After": {noon.Add(40 * time.Second).Format(http.TimeFormat)}}}, 40 * time.Second},
		"Retry-After with 403":        {githubtest.Fault{Status: 403, Header: http.Header{"Retry-After": {"9"}}}, 9 * time.Second},
		"reset of the hourly limit":   {githubtest.Fault{Status: 403, Header: http.Header{"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {at(300)}}}, 301 * time.Second},
		"reset that has passed":       {githubtest.Fault{Status: 403, Header: http.Header{"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {at(-9)}}}, time.Second},
		"secondary limit, no hint":    {githubtest.Fault{Status: 403, Body: `{"message":"You have exceeded a secondary rate limit"}`}, time.Minute},
		"secondary limit by its page": {githubtest.Fault{Status: 403, Body: `{"message":"no","documentation_url":"https://docs.github.com/rest/overview/resources-in-the-rest-api#secondary-rate-limits"}`}, time.Minute},
		"429 without a hint":          {githubtest.Fault{Status: 429}, time.Minute},
		"a limit that is not used up": {githubtest.Fault{Status: 429, Header: http.Header{"X-Ratelimit-Remaining": {"7"}, "X-Ratelimit-Reset": {at(300)}}}, time.Minute},
	} {
		for _, method := range []string{"GET", "POST"} {
			t.Run(name+" "+method, func(t *testing.T) {
				repo, naps := w.open()
				w.SetFault(once(1, func(r *http.Request) bool { return r.Method == method }, c.fault))
				if _, err := repo.Ensure(context.Background(), w.change(name+method)); err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(naps.all) != fmt.Sprint([]time.Duration{c.pause}) {
					t.Errorf("slept %v, want %v", naps.all, c.pause)
				}
			})
		}
	}
}

func TestALimitThatIsUsedUpOnSuccessStopsNothing(t *testing.T) {
	w := newWorld(t, nil)
	repo, naps := w.open()
	header := http.Header{"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Limit": {"5000"}, "X-Ratelimit-Reset": {fmt.Sprint(time.Now().Add(time.Hour).Unix())}}
	w.SetFault(once(1, every, githubtest.Fault{Status: 200, Header: header, Body: `{"default_branch":"main"}`}))
	if _, err := repo.DefaultBranch(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Head(context.Background(), "main"); err != nil || len(naps.all) != 0 {
		t.Errorf("%v, slept %v", err, naps.all)
	}
}

func TestBudget(t *testing.T) {
	always := func(f githubtest.Fault, fits func(*http.Request) bool) func(*http.Request, int) *githubtest.Fault {
		return func(r *http.Request, _ int) *githubtest.Fault {
			if fits(r) {
				return &f
			}
			return nil
		}
	}
	ensure := func(w world, budget time.Duration) ([]time.Duration, error) {
		ctx := context.Background()
		if budget > 0 {
			ctx = patience.With(ctx, patience.New(budget))
		}
		repo, naps := w.open()
		_, err := repo.Ensure(ctx, w.change("k1"))
		return naps.all, err
	}
	t.Run("reads", func(t *testing.T) {
		w := newWorld(t, nil)
		w.SetFault(always(githubtest.Fault{Status: 502}, every))
		naps, err := ensure(w, 20*time.Second)
		refused(t, err, 3, "answers 502", "budget of 20s", "run again")
		if fmt.Sprint(naps) != "[1s 2s 4s 8s]" {
			t.Errorf("slept %v", naps)
		}
	})
	t.Run("pauses end at a minute", func(t *testing.T) {
		w := newWorld(t, nil)
		w.SetFault(always(githubtest.Fault{Close: true}, every))
		naps, err := ensure(w, 0)
		refused(t, err, 3, "cuts the connection", "budget of 10m0s")
		if len(naps) != 14 || naps[13] != time.Minute {
			t.Errorf("slept %v", naps)
		}
	})
	t.Run("writes, and what was done", func(t *testing.T) {
		w := newWorld(t, nil)
		w.SetFault(always(githubtest.Fault{Status: 503}, is("POST", "/pulls")))
		_, err := ensure(w, 20*time.Second)
		refused(t, err, 3, "cannot open the pull request", "answers 503", "done so far: branch audit-signer/add-signer/", "goes on from there")
		w.SetFault(nil)
		w.ensure(w.change("k1"))
		w.settled(w.change("k1"))
	})
	t.Run("a wait that is too long is not begun", func(t *testing.T) {
		w := newWorld(t, nil)
		w.SetFault(always(githubtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"3600"}}}, every))
		naps, err := ensure(w, 0)
		refused(t, err, 3, "limits the rate", "1h0m0s")
		if len(naps) != 0 {
			t.Errorf("slept %v", naps)
		}
		w.SetFault(always(githubtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"3600"}}}, is("POST", "/git/trees")))
		_, err = ensure(w, 0)
		refused(t, err, 3, "cannot store the tree", "limits the rate", "1h0m0s")
	})
}

func TestRefusalsAreNotRepeated(t *testing.T) {
	answer := func(status int, body string, header ...string) githubtest.Fault {
		f := githubtest.Fault{Status: status, Body: body, Header: http.Header{}}
		for i := 0; i+1 < len(header); i += 2 {
			f.Header.Set(header[i], header[i+1])
		}
		return f
	}
	w := newWorld(t, nil)
	for name, c := range map[string]struct {
		method, path string
		fault        githubtest.Fault
		words        []string
	}{
		"token":         {"GET", "/pulls", answer(401, `{"message":"Bad credentials"}`), []string{"401 Bad credentials", "token input"}},
		"permission":    {"POST", "/git/blobs", answer(403, `{"message":"Resource not accessible by integration"}`, "X-Accepted-GitHub-Permissions", "contents=write"), []string{"lacks a permission", "contents=write", "permissions block"}},
		"forbidden":     {"POST", "/git/refs", answer(403, `{"message":"Repository was archived so is read-only."}`), []string{"403 Repository was archived"}},
		"actions":       {"POST", "/pulls", answer(403, `{"message":"GitHub Actions is not permitted to create or approve pull requests."}`), []string{"Allow GitHub Actions to create and approve pull requests", "App token"}},
		"not found":     {"GET", "/pulls", answer(404, `{"message":"Not Found"}`), []string{"acme/kernel", "cannot see it"}},
		"gone":          {"GET", "/pulls", answer(410, `{"message":"Gone"}`), []string{"410 Gone"}},
		"moved":         {"GET", "/pulls", answer(301, `{"message":"Moved Permanently"}`, "Location", "https://evil.example/x"), []string{"renamed or moved"}},
		"invalid":       {"POST", "/pulls", answer(422, `{"message":"Validation Failed","errors":[{"resource":"PullRequest","field":"base","code":"invalid"},{"code":"custom","message":"no\r\nway"}]}`), []string{"422 Validation Failed; base is invalid; no way"}},
		"branch rules":  {"POST", "/git/refs", answer(422, `{"message":"Repository rule violations found"}`), []string{"cannot set branch", "rule violations"}},
		"echoed token":  {"GET", "/pulls", answer(400, `{"message":"what is `+token+`?"}`), []string{"what is ***?"}},
		"terminal code": {"GET", "/pulls", answer(400, `{"message":"a\u001b[31m\u202eb"}`), []string{"400 a [31m b"}},
	} {
		t.Run(name, func(t *testing.T) {
			hits := 0
			w.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
				if r.Method == c.method && strings.HasSuffix(r.URL.Path, c.path) {
					hits++
					return &c.fault
				}
				return nil
			})
			repo, naps := w.open()
			_, err := repo.Ensure(context.Background(), w.change(name))
			refused(t, err, 3, c.words...)
			// An invalid pull request may only mean that the branch is too new
			// to be known, so that one is tried three times.
			want := 1
			if name == "invalid" {
				want = 3
			}
			if hits != want || len(naps.all) != want-1 {
				t.Errorf("%d tries, slept %v", hits, naps.all)
			}
		})
	}
}

// A refusal at any request of any operation ends it with an error.
func TestRefusalsAreReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := context.Background()
	c := w.change("k1")
	c.Labels = []string{"audit"}
	w.ensure(c)
	w.CommitFile("audit-checkpoint", "a.json", "1", "ann")
	main, _ := w.CommitFile("main", registry, "[7]", "ann")
	for name, run := range map[string]func(*pullrequest.Repo) error{
		"update": func(r *pullrequest.Repo) error {
			c.BaseCommit, c.Body, c.Files[registry] = main, fmt.Sprint(w.Writes()), fmt.Append(nil, w.Writes())
			_, err := r.Ensure(ctx, c)
			return err
		},
		"create": func(r *pullrequest.Repo) error {
			other := w.change(fmt.Sprint("new ", w.Writes()))
			other.Labels = c.Labels
			_, err := r.Ensure(ctx, other)
			return err
		},
		"comment": func(r *pullrequest.Repo) error { _, err := r.Comment(ctx, 1, "x", fmt.Sprint(w.Writes())); return err },
		"variables": func(r *pullrequest.Repo) error {
			_, err := r.SetVariables(ctx, "production", map[string]string{"A": fmt.Sprint(w.Writes())})
			return err
		},
		"file":   func(r *pullrequest.Repo) error { _, _, err := r.ReadFile(ctx, main, registry, 100); return err },
		"folder": func(r *pullrequest.Repo) error { _, err := r.ReadDir(ctx, main, "kernel/tools"); return err },
		"checkpoint": func(r *pullrequest.Repo) error {
			_, at, _, err := r.ReadBranchFile(ctx, "audit-checkpoint", "a.json", 100)
			if err == nil {
				_, err = r.WriteBranchFile(ctx, "audit-checkpoint", "a.json", []byte("2"), at, "x")
			}
			return err
		},
		"no checkpoint": func(r *pullrequest.Repo) error { _, _, _, err := r.ReadBranchFile(ctx, "none", "x", 1); return err },
		"missing base":  func(r *pullrequest.Repo) error { _, err := r.Head(ctx, "none"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				repo, _ := w.open()
				before := len(w.Requests())
				w.SetFault(once(n, every, githubtest.Fault{Status: 401, Body: `{"message":"Bad credentials"}`}))
				err := run(repo)
				w.SetFault(nil)
				if len(w.Requests())-before < n {
					return // the run has fewer requests than n
				}
				refused(t, err, 3, "cannot ", "refuses the token")
			}
		})
	}
	w.ensure(c)
	w.settled(c)
}

func TestPermissions(t *testing.T) {
	grant := func(p map[string]string) func(*githubtest.Options) {
		return func(o *githubtest.Options) { o.Permissions = p }
	}
	for _, c := range []struct {
		have map[string]string
		want string
	}{
		{map[string]string{"contents": "read", "pull_requests": "write"}, "contents=write"},
		{map[string]string{"contents": "write", "pull_requests": "read"}, "pull_requests=write"},
		{map[string]string{"contents": "write"}, "pull_requests=read"},
		{map[string]string{"pull_requests": "write"}, "contents=read"},
	} {
		w := newWorld(t, grant(c.have))
		repo, _ := w.open()
		_, err := repo.Ensure(context.Background(), w.change("k1"))
		refused(t, err, 3, "lacks a permission", c.want)
	}
	w := newWorld(t, grant(map[string]string{"contents": "write", "pull_requests": "write"}))
	c := w.change("k1")
	c.Labels, c.Reviewers, c.Assignees = []string{"audit"}, []string{"ben"}, []string{"ann"}
	w.ensure(c)
	w.settled(c)
}
