package pullrequest_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/patience"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		o     pullrequest.Options
		words string
	}{
		"no repository":    {pullrequest.Options{}, "owner/name"},
		"no owner":         {pullrequest.Options{Repository: "kernel"}, "owner/name"},
		"three parts":      {pullrequest.Options{Repository: "acme/kernel/x"}, "owner/name"},
		"traversal":        {pullrequest.Options{Repository: "acme/.."}, "owner/name"},
		"query":            {pullrequest.Options{Repository: "acme/kernel?x=y"}, "owner/name"},
		"escape":           {pullrequest.Options{Repository: "acme/ker%2fnel"}, "owner/name"},
		"line break":       {pullrequest.Options{Repository: "acme/kernel\n"}, "owner/name"},
		"no TLS":           {pullrequest.Options{Repository: "a/b", APIURL: "http://github.example"}, "https"},
		"no URL":           {pullrequest.Options{Repository: "a/b", APIURL: "github.example"}, "plain URL"},
		"password in URL":  {pullrequest.Options{Repository: "a/b", APIURL: "https://u:" + token + "@github.example"}, "plain URL"},
		"query in URL":     {pullrequest.Options{Repository: "a/b", APIURL: "https://github.example?token=" + token}, "plain URL"},
		"line in token":    {pullrequest.Options{Repository: "a/b", Token: token + "\n"}, "token"},
		"other characters": {pullrequest.Options{Repository: "a/b", Token: token + "é"}, "token"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pullrequest.Open(c.o)
			refused(t, err, 2, c.words)
		})
	}
	for _, u := range []string{"", "https://api.github.com/", "https://ghe.example/api/v3", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"} {
		if _, err := pullrequest.Open(pullrequest.Options{Repository: "acme_emu/kernel.x-y", APIURL: u}); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestHeadAndDefaultBranch(t *testing.T) {
	w := newWorld(t, nil)
	repo, _ := w.open()
	ctx := context.Background()
	if !repo.Now().IsZero() {
		t.Error("there is a time before the first answer")
	}
	if name, err := repo.DefaultBranch(ctx); err != nil || name != "main" {
		t.Errorf("%q %v", name, err)
	}
	if now := repo.Now(); now.Before(noon) || now.After(noon.Add(time.Hour)) {
		t.Errorf("GitHub's clock says %v", now)
	}
	if id, err := repo.Head(ctx, "main"); err != nil || id != w.Head("main").ID {
		t.Errorf("%q %v", id, err)
	}
	_, err := repo.Head(ctx, "none")
	refused(t, err, 2, "branch none does not exist", "base-branch")
	for _, name := range []string{"", "-x", "a..b", "a b", "a/", "/a", "a//b", "a.lock", ".a", "a/.b", "@", "a@{1}", "a~1", "a^", "a:b", "a?", "a*", "a[", `a\b`, "a\n", "a."} {
		_, err := repo.Head(ctx, name)
		refused(t, err, 2, "branch name")
	}

	elsewhere, _ := w.open(func(o *pullrequest.Options) { o.Repository = "acme/other" })
	_, err = elsewhere.Head(ctx, "main")
	refused(t, err, 3, "acme/other", "cannot see it")
	_, err = elsewhere.DefaultBranch(ctx)
	refused(t, err, 3, "acme/other")
	_, _, _, err = elsewhere.ReadBranchFile(ctx, "checkpoint", "x", 10)
	refused(t, err, 3, "acme/other")

	stranger, _ := w.open(func(o *pullrequest.Options) { o.Token = token + "x" })
	_, err = stranger.Head(ctx, "main")
	refused(t, err, 3, "refuses the token", "expired")
}

func TestReadFile(t *testing.T) {
	w := newWorld(t, nil)
	big := strings.Repeat("0123456789", 200_000) // beyond what the contents API shows
	w.CommitFile("main", "big.json", big, "ann")
	w.CommitFile("main", "kernel/tools/rotations/b.json", "{}", "ann")
	w.CommitFile("main", "kernel/tools/rotations/a.json", "\x00\xff", "ann")
	w.CommitFile("main", "kernel/tools/rotations/old/c.json", "{}", "ann")
	w.CommitLink("main", "link.json", "kernel/tools/signers.json", "ann")
	w.CommitLink("main", "linked", "kernel", "ann")
	w.CommitSubmodule("main", "vendor", w.Head("main").ID, "ann")
	commit := w.Head("main").ID
	repo, _ := w.open()
	ctx := context.Background()

	for path, want := range map[string]string{registry: "[]\n", "big.json": big, "kernel/tools/rotations/a.json": "\x00\xff"} {
		if got, found, err := repo.ReadFile(ctx, commit, path, 2_000_000); string(got) != want || !found || err != nil {
			t.Errorf("%s: %d bytes, %v, %v", path, len(got), found, err)
		}
	}
	for _, path := range []string{"none", "kernel/none/x", registry + "/x"} {
		if got, found, err := repo.ReadFile(ctx, commit, path, 10); got != nil || found || err != nil {
			t.Errorf("%s: %q, %v, %v", path, got, found, err)
		}
	}
	for path, words := range map[string]string{
		"link.json":                 "symbolic link",
		"linked/tools/signers.json": "symbolic link",
		"vendor":                    "submodule",
		"vendor/x":                  "submodule",
		"kernel":                    "a folder",
		"../x":                      "relative",
		"/x":                        "relative",
		"":                          "relative",
		".git/config":               ".git",
		".github/x":                 ".github",
	} {
		_, _, err := repo.ReadFile(ctx, commit, path, 1<<20)
		refused(t, err, 2, words)
	}
	before := len(w.Requests())
	_, _, err := repo.ReadFile(ctx, commit, "big.json", 1<<20)
	refused(t, err, 2, "2000000 bytes", "1048576")
	for _, r := range w.Requests()[before:] {
		if r.Operation == "git/get-blob" {
			t.Error("a file that is too large was fetched")
		}
	}
	_, _, err = repo.ReadFile(ctx, "main", registry, 10)
	refused(t, err, 2, "commit id")
	_, _, err = repo.ReadFile(ctx, strings.Repeat("0", 40), registry, 10)
	refused(t, err, 3, "does not exist")

	if names, err := repo.ReadDir(ctx, commit, "kernel/tools/rotations"); err != nil || strings.Join(names, " ") != "a.json b.json" {
		t.Errorf("%v %v", names, err)
	}
	if names, err := repo.ReadDir(ctx, commit, "none"); err != nil || names != nil {
		t.Errorf("%v %v", names, err)
	}
	_, err = repo.ReadDir(ctx, commit, registry)
	refused(t, err, 2, "not a folder")
	_, err = repo.ReadDir(ctx, commit, "linked")
	refused(t, err, 2, "not a folder")
}

// A server that lies about content, or leaves something out, is not believed.
func TestReadFileIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		path, body, words string
	}{
		"other content":    {"/git/blobs/", `{"sha":"x","encoding":"base64","content":"WzFdCg=="}`, "not the file"},
		"other encoding":   {"/git/blobs/", `{"sha":"x","encoding":"utf-8","content":"[]\n"}`, "not the file"},
		"no content":       {"/git/blobs/", `{}`, "not the file"},
		"a truncated tree": {"/git/trees/", `{"sha":"x","tree":[],"truncated":true}`, "more entries"},
		"a made-up mode":   {"/git/trees/", `{"sha":"x","tree":[{"path":"kernel","mode":"100600","type":"blob","sha":"x"}],"truncated":false}`, "of mode 100600"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			repo, _ := w.open()
			w.SetFault(once(1, is("GET", c.path), githubtest.Fault{Status: 200, Body: c.body}))
			_, found, err := repo.ReadFile(context.Background(), w.Head("main").ID, registry, 100)
			if found || err == nil || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v, %v", found, err)
			}
		})
	}
}

func TestAnswersThatSayTooLittle(t *testing.T) {
	w := newWorld(t, nil)
	repo, _ := w.open()
	w.SetFault(func(*http.Request, int) *githubtest.Fault { return &githubtest.Fault{Status: 200, Body: `{}`} })
	_, err := repo.DefaultBranch(context.Background())
	refused(t, err, 3, "names no default branch")
	_, err = repo.Head(context.Background(), "main")
	refused(t, err, 3, "something else")
	w.SetFault(once(1, every, githubtest.Fault{Status: 400, Body: `{"message":"` + strings.Repeat("long ", 200) + `"}`}))
	_, err = repo.Head(context.Background(), "main")
	if refused(t, err, 3, "…"); len(err.Error()) > 500 {
		t.Errorf("%d bytes", len(err.Error()))
	}
}

func TestTheTokenGoesToGitHubOnly(t *testing.T) {
	var got []string
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
	}))
	defer thief.Close()
	w := newWorld(t, nil)
	repo, _ := w.open()
	for _, status := range []int{301, 302, 307, 308} {
		w.SetFault(once(1, every, githubtest.Fault{Status: status, Header: http.Header{"Location": {thief.URL}}, Body: `{}`}))
		_, err := repo.Head(context.Background(), "main")
		refused(t, err, 3, "renamed or moved")
	}
	if got != nil {
		t.Errorf("a redirect was followed, with %q", got)
	}
}

func TestNobodyAnswers(t *testing.T) {
	w := newWorld(t, nil)
	gone := httptest.NewServer(nil)
	gone.Close()
	repo, naps := w.open(func(o *pullrequest.Options) { o.APIURL = gone.URL })
	_, err := repo.Head(patience.With(context.Background(), patience.New(5*time.Second)), "main")
	refused(t, err, 3, "cannot read branch main", "run again")
	if len(naps.all) != 2 {
		t.Errorf("slept %v", naps.all)
	}
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	repo, naps = w.open(func(o *pullrequest.Options) { o.APIURL = untrusted.URL })
	_, err = repo.Head(context.Background(), "main")
	refused(t, err, 3, "certificate")
	if len(naps.all) != 0 {
		t.Errorf("a certificate that is not trusted was tried again: %v", naps.all)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	repo, _ = w.open()
	_, err = repo.Head(ctx, "main")
	refused(t, err, 3, "stopped")
}

func TestASlowAnswerIsGivenUp(t *testing.T) {
	w := newWorld(t, nil)
	release := make(chan struct{})
	w.SetFault(func(*http.Request, int) *githubtest.Fault { <-release; return nil })
	repo, naps := w.open(func(o *pullrequest.Options) {
		o.HTTP = &http.Client{Timeout: 300 * time.Millisecond}
	})
	_, err := repo.Head(patience.With(context.Background(), patience.New(1200*time.Millisecond)), "main")
	close(release)
	refused(t, err, 3, "in time")
	if len(naps.all) != 0 { // a second's pause would fit, had the attempt itself cost nothing
		t.Errorf("slept %v", naps.all)
	}
}

func TestWritesAreSpaced(t *testing.T) {
	w := newWorld(t, nil)
	repo, naps := w.open(func(o *pullrequest.Options) { o.WriteInterval = time.Hour })
	if _, err := repo.Ensure(context.Background(), w.change("k1")); err != nil {
		t.Fatal(err)
	}
	if len(naps.all) != w.Writes()-1 {
		t.Errorf("%d pauses between %d writes", len(naps.all), w.Writes())
	}
	for _, d := range naps.all {
		if d < 59*time.Minute || d > time.Hour {
			t.Errorf("a pause of %v, want an hour less the time that passed", d)
		}
	}
}

func TestSleepIsReal(t *testing.T) {
	w := newWorld(t, nil)
	open := func(interval time.Duration) *pullrequest.Repo {
		repo, _ := w.open(func(o *pullrequest.Options) { o.Sleep, o.WriteInterval = nil, interval })
		return repo
	}
	if _, err := open(time.Millisecond).Ensure(context.Background(), w.change("k1")); err != nil {
		t.Fatal(err)
	}
	w.SetFault(func(*http.Request, int) *githubtest.Fault { return &githubtest.Fault{Status: 503} })
	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	_, err := open(0).Head(ctx, "main")
	refused(t, err, 3, "stopped")
	w.SetFault(nil)
	ctx, stop = context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	_, err = open(time.Hour).Ensure(ctx, w.change("k2"))
	refused(t, err, 3, "stopped")
}

func TestHistory(t *testing.T) {
	w := newWorld(t, nil)
	repo, _ := w.open()
	ctx := context.Background()
	var ids []string
	for _, file := range []string{"a/x.json", "README.md", "a/x.json"} {
		id, err := w.CommitFile("main", file, file+string(rune('1'+len(ids))), "octocat")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	got, err := repo.History(ctx, ids[2], "a/x.json", noon.Add(-time.Hour), 2)
	if err != nil || len(got) != 2 || got[0] != ids[2] || got[1] != ids[0] {
		t.Errorf("%v, %v; want %v without the second", got, err, ids)
	}
	if got, err := repo.History(ctx, ids[1], "a/x.json", noon.Add(-time.Hour), 1); err != nil || len(got) != 1 || got[0] != ids[0] {
		t.Errorf("up to an earlier commit: %v, %v", got, err)
	}
	if got, err := repo.History(ctx, ids[2], "a/x.json", noon.Add(24*time.Hour), 9); err != nil || len(got) != 0 {
		t.Errorf("since later: %v, %v", got, err)
	}
	_, err = repo.History(ctx, ids[2], "../x", noon, 9)
	refused(t, err, 2, "is refused")
	_, err = repo.History(ctx, strings.Repeat("0", 40), "README.md", noon, 9)
	refused(t, err, 3, "cannot read the history of README.md")
}

// First parents are followed down to a time, through merges, as far as a limit. More
// than that is none at all.
func TestFirstParents(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 2 { // a commit, and a merge of a branch of two
		w.push("main", "README.md", fmt.Sprint(i))
		c := w.change(fmt.Sprint("k", i))
		p := w.ensure(c)
		c.Files[registry] = []byte("[]\n\n")
		w.ensure(c)
		if _, err := w.Merge(p.Number); err != nil {
			t.Fatal(err)
		}
	}
	type ancestor = pullrequest.Ancestor
	var all []ancestor
	for line := range strings.Lines(w.git("log", "--first-parent", "--format=%H %cI", "main")) {
		id, moment, _ := strings.Cut(strings.TrimSpace(line), " ")
		at, err := time.Parse(time.RFC3339, moment)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ancestor{ID: id, At: at.UTC()})
	}
	if len(all) != 5 {
		t.Fatalf("got %d commits on main, want 5", len(all))
	}
	long := noon.Add(-time.Hour)
	for name, tc := range map[string]struct {
		from  int
		until time.Time
		limit int
		want  []ancestor
	}{
		"to the root":                  {0, long, 50, all},
		"from a commit on the way":     {1, long, 50, all[1:]},
		"from the root":                {4, long, 50, all[4:]},
		"until the time of a merge":    {0, all[2].At, 50, all[:3]},
		"until just after a merge":     {0, all[2].At.Add(time.Nanosecond), 50, all[:3]},
		"until just before a merge":    {0, all[2].At.Add(-time.Nanosecond), 50, all[:4]},
		"until the time of the commit": {0, all[0].At, 50, all[:1]},
		"until later than the commit":  {0, all[0].At.Add(time.Hour), 50, all[:1]},
		"as many as the limit":         {0, long, 5, all},
		"one more than the limit":      {0, long, 4, nil},
		"within the limit by the time": {0, all[1].At, 2, all[:2]},
		"beyond the limit":             {0, all[1].At, 1, nil},
		"no limit at all":              {0, all[0].At, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			repo, _ := w.open()
			got, err := repo.FirstParents(context.Background(), all[tc.from].ID, tc.until, tc.limit)
			if err != nil || !slices.EqualFunc(got, tc.want, sameAncestor) {
				t.Errorf("got %v, %v; want %v", got, err, tc.want)
			}
		})
	}
	repo, _ := w.open()
	_, err := repo.FirstParents(context.Background(), strings.Repeat("0", 40), long, 50)
	refused(t, err, 3, "cannot read the history of 000000000000")
}

func sameAncestor(a, b pullrequest.Ancestor) bool { return a.ID == b.ID && a.At.Equal(b.At) }

// A merged branch counts on GitHub's page of a hundred commits: what is not on the
// first page is not looked for.
func TestFirstParentsBeyondThePage(t *testing.T) {
	w := newWorld(t, nil)
	root := w.Head("main").ID
	w.git("update-ref", "refs/heads/side", root)
	var sides []string
	for i := range 99 {
		sides = append(sides, w.push("side", "side.txt", fmt.Sprint(i)))
	}
	for _, tc := range []struct {
		commits int // of the side branch that is merged
		want    int // first parents that are found
	}{{98, 2}, {99, 0}} {
		side := sides[tc.commits-1]
		merge := w.send("POST", "git/commits", map[string]any{
			"message": "Merge", "tree": w.git("rev-parse", side+"^{tree}"), "parents": []string{root, side},
		})
		repo, _ := w.open()
		line, err := repo.FirstParents(context.Background(), merge, noon.Add(-time.Hour), 50)
		if err != nil || len(line) != tc.want || tc.want == 2 && (line[0].ID != merge || line[1].ID != root) {
			t.Errorf("%d commits: got %v, %v; want %d", tc.commits, line, err, tc.want)
		}
	}
	requests := w.Requests()
	if last := requests[len(requests)-1]; !strings.Contains(last.Query, "per_page=100") {
		t.Errorf("got query %q, want a hundred commits", last.Query)
	}
}
