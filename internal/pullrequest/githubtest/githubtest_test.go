package githubtest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func start(t *testing.T, o Options) *Server {
	t.Helper()
	if o.Token == "" {
		o.Token = "secret"
	}
	if o.Now == nil {
		o.Now = func() time.Time { return noon }
	}
	if o.Files == nil {
		o.Files = map[string]string{"README.md": "hello\n", "kernel/tools/signers.json": "[]\n"}
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// ask sends one request and returns its status and JSON.
func ask(t *testing.T, s *Server, method, path, body string) (int, any) {
	t.Helper()
	status, _, text, err := send(s, method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	var value any
	if text != "" {
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatalf("%s %s: %v in %q", method, path, err, text)
		}
	}
	return status, value
}

func send(s *Server, method, path, body string) (int, http.Header, string, error) {
	req, _ := http.NewRequest(method, s.URL()+path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer secret")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Body = http.NoBody
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(text), err
}

// at walks into decoded JSON: at(v, "head", "sha"), at(v, 0, "name").
func at(v any, steps ...any) any {
	for _, step := range steps {
		switch step := step.(type) {
		case string:
			o, _ := v.(map[string]any)
			v = o[step]
		case int:
			l, _ := v.([]any)
			if step >= len(l) {
				return nil
			}
			v = l[step]
		}
	}
	return v
}

func TestEveryOperationKeepsTheContract(t *testing.T) {
	s := start(t, Options{})
	main := s.Head("main")
	const repo = "/repos/acme/kernel"
	seen := map[string]string{"main": main.ID, "maintree": main.Tree}
	for _, step := range []struct {
		method, path, body string
		status             int
		keep               string // remember the answer's sha under this name
		want               string // at path=value of the answer, "a.b=c"
	}{
		{"GET", "/rate_limit", "", 200, "", ""},
		{"GET", repo, "", 200, "", "default_branch=main"},
		{"GET", repo + "/branches/main", "", 200, "", "commit.sha={main}"},
		{"GET", repo + "/branches/none", "", 404, "", ""},
		{"GET", repo + "/contents/kernel/tools/signers.json", "", 200, "", "content=W10K"},
		{"GET", repo + "/contents/kernel?ref=main", "", 200, "", "0.type=dir"},
		{"GET", repo + "/contents/none", "", 404, "", ""},
		{"GET", repo + "/git/ref/heads/main", "", 200, "", "object.sha={main}"},
		{"GET", repo + "/git/ref/heads/none", "", 404, "", "message=Not Found"},
		{"GET", repo + "/git/matching-refs/heads/ma", "", 200, "", "0.ref=refs/heads/main"},
		{"GET", repo + "/git/commits/{main}", "", 200, "", "verification.verified=false"},
		{"GET", repo + "/git/trees/{main}?recursive=1", "", 200, "", "tree.2.path=kernel/tools"},
		{"POST", repo + "/git/blobs", `{"content":"WzFdCg==","encoding":"base64"}`, 201, "blob", ""},
		{"GET", repo + "/git/blobs/{blob}", "", 200, "", "size=4"},
		{"POST", repo + "/git/trees", `{"base_tree":"{main}","tree":[{"path":"kernel/tools/signers.json","mode":"100644","type":"blob","sha":"{blob}"}]}`, 201, "tree", ""},
		{"POST", repo + "/git/trees", `{"tree":[{"path":"a","mode":"100644","type":"blob","sha":"{main}"}]}`, 422, "", ""},
		{"POST", repo + "/git/trees", `{"tree":[{"path":"../a","mode":"100644","type":"blob","content":"x"}]}`, 422, "", ""},
		{"POST", repo + "/git/commits", `{"message":"bot","tree":"{tree}","parents":["{main}"]}`, 201, "bot", "verification.verified=true"},
		{"POST", repo + "/git/commits", `{"message":"named","tree":"{tree}","parents":["{main}"],"author":{"name":"a","email":"b"}}`, 201, "other", "verification.verified=false"},
		{"POST", repo + "/git/refs", `{"ref":"refs/heads/a/b","sha":"{bot}"}`, 201, "", ""},
		{"POST", repo + "/git/refs", `{"ref":"refs/heads/a/b","sha":"{bot}"}`, 422, "", "message=Reference already exists"},
		{"PATCH", repo + "/git/refs/heads/a/b", `{"sha":"{other}","force":false}`, 422, "", "message=Update is not a fast forward"},
		{"PATCH", repo + "/git/refs/heads/a/b", `{"sha":"{other}","force":true}`, 200, "", "object.sha={other}"},
		{"GET", repo + "/compare/main...a/b", "", 200, "", "status=ahead"},
		{"GET", repo + "/commits?sha=a/b&path=kernel", "", 200, "", "0.sha={other}"},
		{"POST", repo + "/pulls", `{"title":"t","head":"a/b","base":"main","body":"b","draft":true}`, 201, "", "draft=true"},
		{"POST", repo + "/pulls", `{"title":"t","head":"a/b","base":"main"}`, 422, "", "errors.0.message=A pull request already exists for acme:a/b."},
		{"POST", repo + "/pulls", `{"title":"t","head":"main","base":"main"}`, 422, "", "errors.0.message=No commits between main and main"},
		{"POST", repo + "/pulls", `{"title":"t","head":"none","base":"main"}`, 422, "", "errors.0.field=head"},
		{"GET", repo + "/pulls?head=acme:a/b&base=main&state=all", "", 200, "", "0.number=1"},
		{"GET", repo + "/pulls?head=acme:none", "", 200, "", "0=<nil>"},
		{"GET", repo + "/pulls/1/files", "", 200, "", "0.additions=1"},
		{"PUT", repo + "/pulls/1/merge", `{}`, 405, "", ""},
		{"POST", repo + "/git/refs", `{"ref":"refs/heads/c","sha":"{bot}"}`, 201, "", ""},
		{"POST", repo + "/pulls", `{"title":"t","head":"c","base":"main"}`, 201, "", "number=2"},
		{"PATCH", repo + "/pulls/1", `{"title":"T","body":"B","state":"closed"}`, 200, "", "state=closed"},
		{"POST", repo + "/issues/2/labels", `{"labels":["audit"]}`, 200, "", "0.name=audit"},
		{"POST", repo + "/issues/2/assignees", `{"assignees":["ann"]}`, 201, "", "assignees.0.login=ann"},
		{"POST", repo + "/pulls/2/requested_reviewers", `{"reviewers":["ann"],"team_reviewers":["sec"]}`, 201, "", "requested_teams.0.slug=sec"},
		{"POST", repo + "/pulls/2/requested_reviewers", `{"reviewers":["stranger"]}`, 422, "", ""},
		{"POST", repo + "/issues/2/comments", `{"body":"one"}`, 201, "", "user.type=Bot"},
		{"PATCH", repo + "/issues/comments/1", `{"body":"two"}`, 200, "", ""},
		{"GET", repo + "/issues/2/comments", "", 200, "", "0.body=two"},
		{"POST", repo + "/statuses/{bot}", `{"state":"success","context":"gate"}`, 201, "", "context=gate"},
		{"PUT", repo + "/pulls/2/merge", `{"sha":"{main}"}`, 409, "", ""},
		{"PUT", repo + "/pulls/2/merge", `{"sha":"{bot}"}`, 200, "merged", "merged=true"},
		{"GET", repo + "/pulls/2", "", 200, "", "merge_commit_sha={merged}"},
		{"GET", repo + "/environments/production/variables/KID", "", 404, "", ""},
		{"POST", repo + "/environments/production/variables", `{"name":"KID","value":"1"}`, 201, "", ""},
		{"POST", repo + "/environments/production/variables", `{"name":"KID","value":"1"}`, 409, "", ""},
		{"PATCH", repo + "/environments/production/variables/KID", `{"value":"2"}`, 204, "", ""},
		{"GET", repo + "/environments/production/variables/KID", "", 200, "", "value=2"},
		{"POST", repo + "/actions/variables", `{"name":"KID","value":"3"}`, 201, "", ""},
		{"PATCH", repo + "/actions/variables/KID", `{"value":"4"}`, 204, "", ""},
		{"GET", repo + "/actions/variables/KID", "", 200, "", "value=4"},
		{"GET", "/repos/other/kernel", "", 404, "", ""},
	} {
		expand := func(text string) string {
			for name, id := range seen {
				text = strings.ReplaceAll(text, "{"+name+"}", id)
			}
			return text
		}
		status, value := ask(t, s, step.method, expand(step.path), expand(step.body))
		if status != step.status {
			t.Fatalf("%s %s: status %d, want %d: %v", step.method, step.path, status, step.status, value)
		}
		if step.keep != "" {
			seen[step.keep] = at(value, "sha").(string)
		}
		if where, want, found := strings.Cut(expand(step.want), "="); found {
			var steps []any
			for _, word := range strings.Split(where, ".") {
				var i int
				if n, _ := fmt.Sscan(word, &i); n == 1 {
					steps = append(steps, i)
				} else {
					steps = append(steps, word)
				}
			}
			if got := fmt.Sprint(at(value, steps...)); got != want {
				t.Errorf("%s %s: %s is %s, want %s", step.method, step.path, where, got, want)
			}
		}
	}
	if v := s.Violations(); len(v) != 0 {
		t.Errorf("contract violations:\n%s", strings.Join(v, "\n"))
	}
	played := map[string]bool{}
	for _, r := range s.Requests() {
		played[r.Operation] = true
	}
	for id := range operations {
		if !played[id] {
			t.Errorf("no step plays %s", id)
		}
	}
	if got, _ := s.File("main", "kernel/tools/signers.json"); got != "[1]\n" {
		t.Errorf("main holds %q after the merge", got)
	}
	if head := s.Head("main"); len(head.Parents) != 2 || head.Parents[1] != seen["bot"] {
		t.Errorf("the merge commit's parents are %v", head.Parents)
	}
	if out, err := exec.Command("git", "--git-dir", s.RepoDir(), "fsck", "--strict").CombinedOutput(); err != nil {
		t.Errorf("git fsck: %v\n%s", err, out)
	}
}

func TestWrongRequestsAreCaught(t *testing.T) {
	const repo = "/repos/acme/kernel"
	for _, c := range []struct{ name, method, path, body, want string }{
		{"a member that is required is missing", "POST", repo + "/pulls", `{"title":"t","base":"main"}`, "head"},
		{"a member has the wrong type", "POST", repo + "/git/refs", `{"ref":"refs/heads/x","sha":1}`, "sha"},
		{"a member does not exist", "POST", repo + "/git/refs", `{"ref":"refs/heads/x","sha":"1","forse":true}`, "forse"},
		{"a query parameter does not exist", "GET", repo + "/pulls?states=all", "", "states"},
		{"a query value is not allowed", "GET", repo + "/pulls?state=merged", "", "state"},
		{"the operation does not exist", "POST", repo + "/git/blobbs", `{}`, "no such operation"},
		{"labels are a bare number", "POST", repo + "/issues/1/labels", `7`, "labels"},
		{"the operation is not played", "GET", "/user", "", "does not play"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, Options{})
			status, value := ask(t, s, c.method, c.path, c.body)
			if status != 500 || !strings.Contains(fmt.Sprint(value), "contract violation") {
				t.Errorf("answered %d %v", status, value)
			}
			if v := s.Violations(); len(v) != 1 || !strings.Contains(v[0], c.want) || strings.Contains(v[0], "\n") {
				t.Errorf("violations %q, want one that names %q", v, c.want)
			}
		})
	}
}

func TestWrongAnswersAreCaught(t *testing.T) {
	s := start(t, Options{})
	kept := operations["repos/get"]
	defer func() { operations["repos/get"] = kept }()
	operations["repos/get"] = func(*Server, *call) answer { return ok(object{"id": "not a number"}) }
	if status, _ := ask(t, s, "GET", "/repos/acme/kernel", ""); status != 500 {
		t.Errorf("status %d", status)
	}
	if v := s.Violations(); len(v) != 1 || !strings.Contains(v[0], "answer 200 of repos/get") {
		t.Errorf("violations %q", v)
	}
}

func TestAccess(t *testing.T) {
	s := start(t, Options{Permissions: map[string]string{"contents": "read", "issues": "write"}})
	req, _ := http.NewRequest("GET", s.URL()+"/repos/acme/kernel", nil)
	req.Header.Set("Authorization", "token wrong")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("a wrong token is answered with %d", res.StatusCode)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		accepted           string
	}{
		{"GET", "/repos/acme/kernel", "", 200, ""},
		{"GET", "/repos/acme/kernel/git/ref/heads/main", "", 200, ""},
		{"POST", "/repos/acme/kernel/git/blobs", `{"content":"x"}`, 403, "contents=write"},
		{"GET", "/repos/acme/kernel/pulls", "", 403, "pull_requests=read"},
		{"POST", "/repos/acme/kernel/issues/1/comments", `{"body":"x"}`, 404, ""},
	} {
		status, header, text, err := send(s, c.method, c.path, c.body)
		if err != nil || status != c.status || header.Get("X-Accepted-GitHub-Permissions") != c.accepted {
			t.Errorf("%s %s: %d, header %v, %v: %s", c.method, c.path, status, header, err, text)
		}
	}
	if v := s.Violations(); len(v) != 0 {
		t.Errorf("contract violations: %q", v)
	}
}

func TestFaults(t *testing.T) {
	const path, body = "/repos/acme/kernel/git/refs", `{"ref":"refs/heads/x","sha":"%s"}`
	for _, c := range []struct {
		name    string
		fault   Fault
		status  int // 0: no complete answer
		applied bool
	}{
		{"answered instead", Fault{Status: 429, Header: http.Header{"Retry-After": {"7"}}, Body: `{"message":"slow down"}`}, 429, false},
		{"answered after it was applied", Fault{Apply: true, Status: 502, Body: "bad gateway"}, 502, true},
		{"cut before", Fault{Close: true}, 0, false},
		{"cut after", Fault{Close: true, Apply: true}, 0, true},
		{"cut in the body", Fault{Truncate: true}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, Options{Fault: func(r *http.Request, n int) *Fault {
				if n == 1 && r.Method == "POST" {
					return &c.fault
				}
				return nil
			}})
			status, header, text, err := send(s, "POST", path, fmt.Sprintf(body, s.Head("main").ID))
			if c.status == 0 {
				if err == nil {
					t.Errorf("a complete answer came: %d %s", status, text)
				}
			} else if err != nil || status != c.status || text != c.fault.Body || header.Get("Retry-After") != c.fault.Header.Get("Retry-After") {
				t.Errorf("answered %d %v %q, %v", status, header, text, err)
			}
			if got := s.Head("x").ID != ""; got != c.applied {
				t.Errorf("applied: %v, want %v", got, c.applied)
			}
			s.SetFault(nil)
			if status, _ := ask(t, s, "GET", "/repos/acme/kernel", ""); status != 200 {
				t.Errorf("after the fault: %d", status)
			}
			if c.fault.Close && s.Requests()[0].Status != 0 {
				t.Errorf("a cut connection is logged with status %d", s.Requests()[0].Status)
			}
		})
	}
}

func TestPeople(t *testing.T) {
	s := start(t, Options{Dir: t.TempDir()})
	if _, err := s.CommitFile("side", "note.txt", "side\n", "ann"); err != nil {
		t.Fatal(err)
	}
	if s.Head("side").Parents != nil {
		t.Error("a new branch starts without history")
	}
	main := s.Head("main").ID
	ask(t, s, "POST", "/repos/acme/kernel/git/refs", `{"ref":"refs/heads/topic","sha":"`+main+`"}`)
	s.CommitFile("topic", "kernel/new.json", "{}\n", "Ann Other <ann@example.org>")
	s.CommitFile("main", "README.md", "changed\n", "ben")
	ask(t, s, "POST", "/repos/acme/kernel/pulls", `{"title":"t","head":"topic","base":"main","body":"b"}`)
	if err := s.Say(1, "ann", "looks good"); err != nil {
		t.Error(err)
	}
	if _, err := s.Merge(1); err != nil {
		t.Fatalf("merging branches that have diverged: %v", err)
	}
	readme, _ := s.File("main", "README.md")
	if _, found := s.File("main", "kernel/new.json"); !found || readme != "changed\n" {
		t.Errorf("the merge lost a side: %v %q", found, readme)
	}
	p := s.Pull(1)
	if p.State != "closed" || !p.MergedAt.Equal(noon) || p.MergeCommit != s.Head("main").ID || len(p.Comments) != 1 || p.Comments[0].Author != "ann" {
		t.Errorf("%+v", p)
	}
	for what, err := range map[string]error{
		"merging twice":        second(s.Merge(1)),
		"closing a merged one": s.ClosePull(1),
		"merging nothing":      second(s.Merge(9)),
		"closing nothing":      s.ClosePull(9),
		"talking to nothing":   s.Say(9, "ann", "x"),
	} {
		if err == nil {
			t.Errorf("%s is not refused", what)
		}
	}
	s.CommitLink("main", "link", "README.md", "ann")
	s.CommitSubmodule("main", "vendor", main, "ann")
	for path, kind := range map[string]string{"link": "symlink", "vendor": "submodule"} {
		if _, value := ask(t, s, "GET", "/repos/acme/kernel/contents/"+path, ""); at(value, "type") != kind {
			t.Errorf("%s is shown as %v", path, value)
		}
	}
	if got := s.Branches(); strings.Join(got, " ") != "main side topic" {
		t.Errorf("branches %v", got)
	}
	if v := s.Violations(); len(v) != 0 {
		t.Errorf("contract violations: %q", v)
	}
}

// TestRefsAreGits: however git keeps them, refs are those that git tells.
func TestRefsAreGits(t *testing.T) {
	s := start(t, Options{Dir: t.TempDir()})
	git := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"--git-dir", s.RepoDir()}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	check := func() {
		t.Helper()
		want := map[string]string{}
		for line := range strings.Lines(git("for-each-ref", "--format=%(refname) %(objectname)")) {
			ref, id, _ := strings.Cut(strings.TrimSpace(line), " ")
			want[ref] = id
		}
		if got := s.git.refs(); !maps.Equal(got, want) {
			t.Errorf("refs %v, git says %v", got, want)
		}
	}
	s.CommitFile("a/b", "x", "1", "ann")
	git("-c", "user.name=ann", "-c", "user.email=ann@example.org", "tag", "-a", "-m", "a tag with an object of its own", "v1", "main")
	check()
	git("pack-refs", "--all")
	check()
	s.CommitFile("a/b", "x", "2", "ann") // packed and, newer, loose
	s.CommitFile("c", "x", "3", "ann")
	check()
	git("update-ref", "-d", "refs/heads/a/b")
	check()
	if got := s.Branches(); strings.Join(got, " ") != "c main" {
		t.Errorf("branches %v", got)
	}
	if got := s.Files("c"); len(got) != 1 || got["x"] != "3" {
		t.Errorf("files %v", got)
	}
}

func second(_ string, err error) error { return err }

// get asks with the right token and wants an answer.
func get(t *testing.T, s *Server, method, path, body string) (int, http.Header, string) {
	t.Helper()
	status, header, text, err := send(s, method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return status, header, string(text)
}

func TestLimits(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := start(t, Options{PerHour: 4, WritesPerMinute: 1, Now: func() time.Time { return now }})
	const blob = `{"content":"x","encoding":"utf-8"}`
	for _, step := range []struct {
		after             time.Duration
		method            string
		status            int
		remaining, header string
		text              string
	}{
		{0, "GET", 200, "3", "", ""},
		{0, "POST", 201, "2", "", ""},
		{0, "POST", 403, "1", "61", "secondary rate limit"},
		{61 * time.Second, "POST", 201, "0", "", ""},
		{0, "GET", 403, "0", "", "API rate limit exceeded"},
		{time.Hour, "GET", 200, "3", "", ""},
	} {
		now = now.Add(step.after)
		path := "/repos/acme/kernel"
		if step.method == "POST" {
			path += "/git/blobs"
		}
		body := ""
		if step.method == "POST" {
			body = blob
		}
		status, h, text := get(t, s, step.method, path, body)
		if status != step.status || h.Get("X-RateLimit-Remaining") != step.remaining || h.Get("Retry-After") != step.header || !strings.Contains(text, step.text) {
			t.Errorf("%+v: %d, remaining %s, retry after %q, %s", step, status, h.Get("X-RateLimit-Remaining"), h.Get("Retry-After"), text)
		}
	}
}

func TestProtectedBranch(t *testing.T) {
	s := start(t, Options{Protected: []string{"main"}})
	was := s.Head("main").ID
	next, err := s.CommitFile("side", "a", "b", "octocat")
	if err != nil {
		t.Fatal(err)
	}
	status, _, text := get(t, s, "PATCH", "/repos/acme/kernel/git/refs/heads/main", `{"sha":"`+next+`","force":true}`)
	if status != 422 || !strings.Contains(text, "Changes must be made through a pull request") || s.Head("main").ID != was {
		t.Errorf("%d %s", status, text)
	}
	if _, _, text := get(t, s, "GET", "/repos/acme/kernel/branches/main", ""); !strings.Contains(text, `"protected":true`) {
		t.Error(text)
	}
}

func TestSnapshotAndStaleReads(t *testing.T) {
	s := start(t, Options{})
	restore := s.Snapshot()
	const list, ref = "/repos/acme/kernel/pulls", "/repos/acme/kernel/git/ref/heads/side"
	if status, _, text := get(t, s, "POST", "/repos/acme/kernel/git/refs", `{"ref":"refs/heads/side","sha":"`+s.Head("main").ID+`"}`); status != 201 {
		t.Fatal(status, text)
	}
	if _, err := s.CommitFile("side", "a", "b", "octocat"); err != nil {
		t.Fatal(err)
	}
	if status, _, text := get(t, s, "POST", list, `{"title":"t","head":"side","base":"main"}`); status != 201 {
		t.Fatal(status, text)
	}
	s.SetFault(func(*http.Request, int) *Fault { return &Fault{Stale: true} })
	if status, _, _ := get(t, s, "GET", ref, ""); status != 404 {
		t.Errorf("a stale read sees the new branch: %d", status)
	}
	if _, _, text := get(t, s, "GET", list, ""); text != "[]" {
		t.Errorf("a stale read sees the new pull request: %s", text)
	}
	if status, _, _ := get(t, s, "GET", "/repos/acme/kernel/git/ref/heads/main", ""); status != 200 {
		t.Errorf("a stale read misses what is old: %d", status)
	}
	s.SetFault(nil)
	if status, _, _ := get(t, s, "GET", ref, ""); status != 200 {
		t.Errorf("%d", status)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if b, p := s.Branches(), s.Pulls(); len(b) != 1 || len(p) != 0 {
		t.Errorf("after the restoration there are %v and %v", b, p)
	}
}
