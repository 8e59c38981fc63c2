package pullrequest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

func TestEnsureOpensOnePullRequest(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	c.Labels, c.Assignees = []string{"audit"}, []string{"ann"}
	c.Reviewers, c.TeamReviewers = []string{"ben", "cho"}, []string{"security"}
	p := w.ensure(c)

	if !regexp.MustCompile(`^audit-signer/add-signer/[0-9a-f]{16}$`).MatchString(p.Branch) || p.Branch != c.Branch() {
		t.Errorf("branch %q", p.Branch)
	}
	if p.State != pullrequest.Created || p.Number != 1 || p.Base != "main" || p.Notes != nil {
		t.Errorf("%+v", p)
	}
	pull := w.Pull(1)
	if got := fmt.Sprint(pull.Labels, pull.Assignees, pull.Reviewers, pull.TeamReviewers); got != "[audit] [ann] [ben cho] [security]" {
		t.Errorf("labels, assignees, reviewers, teams: %s", got)
	}
	head := w.Head(p.Branch)
	if head.ID != p.Commit || len(head.Parents) != 1 || head.Parents[0] != c.BaseCommit || !head.Verified {
		t.Errorf("head %+v, proposal %+v", head, p)
	}
	if !strings.HasPrefix(head.Message, "Add signer k1\n\nAudit-Signer-Operation: "+p.Branch+"\nAudit-Signer-Base: "+c.BaseCommit+"\n") {
		t.Errorf("message %q", head.Message)
	}
	if readme, _ := w.File(p.Branch, "README.md"); readme != "hello\n" {
		t.Errorf("a file outside the change became %q", readme)
	}
	for _, r := range w.Requests() {
		if r.Operation == "git/create-commit" && (strings.Contains(r.Body, `"author"`) || strings.Contains(r.Body, `"committer"`)) {
			t.Errorf("the commit names somebody, so GitHub will not sign it: %s", r.Body)
		}
		if strings.Contains(r.Body, `"force":true`) {
			t.Errorf("%s %s forces", r.Method, r.Path)
		}
	}
	w.settled(c)
	if again := w.ensureQuietly(c, pullrequest.Unchanged); again.Commit != p.Commit || again.Number != 1 || again.URL != p.URL {
		t.Errorf("%+v", again)
	}
}

func TestEnsureUpdates(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	first := w.ensure(c)

	c.Body = "Other words\n"
	var p pullrequest.Proposal
	if n := w.writes(func() { p = w.ensure(c) }); n != 1 || p.State != pullrequest.Updated || p.Commit != first.Commit {
		t.Errorf("new text: %d writes, %+v", n, p)
	}
	w.settled(c)

	c.Title = "Other title"
	if n := w.writes(func() { p = w.ensure(c) }); n != 1 || p.State != pullrequest.Updated {
		t.Errorf("new title: %d writes, %+v", n, p)
	}

	c.Files[registry] = []byte("[1]\n")
	if p = w.ensure(c); p.State != pullrequest.Updated || !slices.Equal(w.Head(p.Branch).Parents, []string{first.Commit}) {
		t.Errorf("new content: %+v on %v", p, w.Head(p.Branch).Parents)
	}
	w.settled(c)

	delete(c.Files, archive) // a file that is no longer wanted goes away
	w.ensure(c)
	if _, found := w.File(c.Branch(), archive); found {
		t.Error("a file that the change has dropped is still on the branch")
	}
	w.settled(c)
}

func TestEnsureWhenTheBaseMoves(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	first := w.ensure(c)

	// Elsewhere: the pull request merges as it is, and a commit would cost its
	// approvals.
	if _, err := w.CommitFile("main", "README.md", "other\n", "ann"); err != nil {
		t.Fatal(err)
	}
	w.ensureQuietly(c, pullrequest.Unchanged)
	c.BaseCommit = w.Head("main").ID
	w.ensureQuietly(c, pullrequest.Unchanged)

	// In our file: what was computed from the old commit is not proposed.
	w.CommitFile("main", registry, "[\"ann\"]\n", "ann")
	moved := w.Head("main").ID
	repo, _ := w.open()
	n := w.writes(func() {
		_, err := repo.Ensure(context.Background(), c)
		refused(t, err, 3, "branch main", "run again")
		if conflict, ok := errors.AsType[*pullrequest.Conflict](err); !ok || conflict.Branch != "main" || conflict.Have != moved {
			t.Errorf("%#v", err)
		}
	})
	if n != 0 {
		t.Errorf("%d writes", n)
	}

	// Computed anew, the branch takes the base in and merges without conflict.
	c.BaseCommit, c.Files[registry] = moved, []byte("[\"ann\",\"k1\"]\n")
	p := w.ensure(c)
	if p.State != pullrequest.Updated || !slices.Equal(w.Head(p.Branch).Parents, []string{first.Commit, moved}) {
		t.Errorf("%+v on %v", p, w.Head(p.Branch).Parents)
	}
	w.settled(c)

	// The same content is wanted, but main has changed the file once more.
	w.CommitFile("main", registry, "[]\n", "ann")
	c.BaseCommit = w.Head("main").ID
	if p = w.ensure(c); p.State != pullrequest.Updated || w.Head(p.Branch).Parents[1] != c.BaseCommit {
		t.Errorf("%+v on %v", p, w.Head(p.Branch).Parents)
	}
	w.settled(c)
	if _, err := w.Merge(p.Number); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.File("main", registry); got != "[\"ann\",\"k1\"]\n" {
		t.Errorf("main holds %q", got)
	}
	if readme, _ := w.File("main", "README.md"); readme != "other\n" {
		t.Errorf("main lost a commit: %q", readme)
	}
}

// What is written becomes a plain file, and a file that keeps its content is left
// alone.
func TestEnsureWritesPlainFiles(t *testing.T) {
	w := newWorld(t, nil)
	dir := t.TempDir()
	for _, args := range [][]string{
		{"clone", "--quiet", w.RepoDir(), dir},
		{"-C", dir, "update-index", "--chmod=+x", registry, "README.md"},
		{"-C", dir, "-c", "user.name=ann", "-c", "user.email=a@b", "commit", "--quiet", "-m", "mode"},
		{"-C", dir, "push", "--quiet", "origin", "HEAD:main"},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	c := w.change("k1")
	c.Files["README.md"] = []byte("hello\n")
	w.ensure(c)
	got := w.git("ls-tree", "-r", "--format=%(objectmode) %(path)", c.Branch())
	if want := "100755 README.md\n100644 " + archive + "\n100644 " + registry; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEnsureTakesNoForAnAnswer(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	p := w.ensure(c)
	if err := w.ClosePull(p.Number); err != nil {
		t.Fatal(err)
	}
	c.Body = "please"
	w.ensureQuietly(c, pullrequest.Closed)
	other := w.change("k2")
	if got := w.ensure(other); got.State != pullrequest.Created || got.Number == p.Number {
		t.Errorf("other inputs are another question: %+v", got)
	}
}

func TestEnsureAfterTheMerge(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	p := w.ensure(c)
	if _, err := w.Merge(p.Number); err != nil {
		t.Fatal(err)
	}
	got := w.ensureQuietly(c, pullrequest.Merged)
	if got.MergedAt.IsZero() || got.Commit != p.Commit {
		t.Errorf("%+v", got)
	}
	same := w.change("k1") // its content is on main already, under another key
	same.Key = "another"
	if got := w.ensureQuietly(same, pullrequest.Unchanged); got.Number != 0 {
		t.Errorf("%+v", got)
	}
}

func TestEnsureLeavesAPersonsCommit(t *testing.T) {
	amend := func(w world, branch string) {
		head := w.Head(branch) // same message, other content
		id := w.git("commit-tree", w.Head("main").Tree, "-p", head.Parents[0], "-m", head.Message)
		w.git("update-ref", "refs/heads/"+branch, id)
	}
	for name, interfere := range map[string]func(world, string){
		"on top":  func(w world, branch string) { w.CommitFile(branch, "note.txt", "mine\n", "ann") },
		"amended": amend,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			c := w.change("k1")
			p := w.ensure(c)
			interfere(w, p.Branch)
			theirs := w.Head(p.Branch).ID
			c.Files[registry], c.Body = []byte("[2]\n"), "new words"

			var got pullrequest.Proposal
			if n := w.writes(func() { got = w.ensure(c) }); n != 1 || got.State != pullrequest.Foreign || got.Commit != theirs || got.Number != 1 {
				t.Errorf("%d writes, %+v; want one comment", n, got)
			}
			pull := w.Pull(1)
			if w.Head(p.Branch).ID != theirs || pull.Body == "new words" || len(pull.Comments) != 1 || !strings.Contains(pull.Comments[0].Body, "not made by audit-signer") {
				t.Errorf("%+v", pull)
			}
			w.ensureQuietly(c, pullrequest.Foreign)
		})
	}
	t.Run("another change's commit", func(t *testing.T) {
		w := newWorld(t, nil)
		other, c := w.change("k1"), w.change("k2")
		id := w.ensure(other).Commit
		w.git("update-ref", "refs/heads/"+c.Branch(), id)
		w.ensureBlocked(c, "a commit that is not ours", id[:12])
	})
	t.Run("without a pull request", func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.change("k1")
		id, err := w.CommitFile(c.Branch(), "note.txt", "mine\n", "ann")
		if err != nil {
			t.Fatal(err)
		}
		w.ensureBlocked(c, "a commit that is not ours", id[:12])
	})
}

// An open pull request into another branch blocks the name, unless there is one into
// our base as well.
func TestEnsureWithAnotherBase(t *testing.T) {
	w := newWorld(t, nil)
	w.git("update-ref", "refs/heads/release", "refs/heads/main")
	c := w.change("k1")
	c.Base = "release"
	w.ensure(c)
	c.Base = "main"
	w.ensureBlocked(c, "pull request #1 leads from it to branch release, not to main")

	both := w.change("k2")
	made := w.ensure(both)
	w.openPull(both.Branch(), "release")
	if got := w.ensureQuietly(both, pullrequest.Unchanged); got.Number != made.Number || got.Base != "main" {
		t.Errorf("got pull request %d into %s, want %d into main", got.Number, got.Base, made.Number)
	}
}

func TestEnsureFinishesWhatAKilledRunBegan(t *testing.T) {
	w := newWorld(t, nil)
	complete := func(key string) pullrequest.Change {
		c := w.change(key)
		c.Labels, c.Assignees, c.Reviewers = []string{"audit"}, []string{"ann"}, []string{"ben"}
		return c
	}
	total := w.writes(func() { w.ensure(complete("whole")) })
	if total != 10 {
		t.Errorf("%d writes for a new pull request, want 10: two blobs, tree, commit, branch, pull request, reviewers, assignees, labels, text", total)
	}
	for killed := 1; killed <= total; killed++ {
		c := complete(fmt.Sprint("killed at ", killed))
		ctx, kill := context.WithCancel(context.Background())
		repo, n := w.open()
		n.then = kill
		w.SetFault(once(killed, func(r *http.Request) bool { return r.Method != "GET" }, githubtest.Fault{Close: true, Apply: killed%2 == 0}))
		_, err := repo.Ensure(ctx, c)
		refused(t, err, 3, "stopped")
		kill()
		w.SetFault(nil)
		w.ensure(c)
		w.settled(c)
		pulls := w.Pulls()
		if p := pulls[len(pulls)-1]; fmt.Sprint(p.Labels, p.Assignees, p.Reviewers) != "[audit] [ann] [ben]" {
			t.Errorf("killed at write %d: %+v", killed, p)
		}
		asked := 0
		for _, r := range w.Requests() {
			if r.Operation == "pulls/request-reviewers" && strings.Contains(r.Path, fmt.Sprintf("/%d/", len(pulls))) {
				asked++
			}
		}
		if killed > 7 && asked != 1 { // the seventh write asks
			t.Errorf("killed at write %d: the reviewers were asked %d times", killed, asked)
		}
	}
}

func TestEnsureSaysWhatItLeftOut(t *testing.T) {
	w := newWorld(t, func(o *githubtest.Options) { o.Login = "github-actions[bot]" })
	c := w.change("k1")
	c.Reviewers, c.Labels = []string{"stranger"}, []string{"audit"}
	p := w.ensure(c)
	if p.State != pullrequest.Created || len(p.Notes) != 2 || !strings.Contains(p.Notes[0], "stranger") || !strings.Contains(p.Notes[0], "collaborator") || !strings.Contains(p.Notes[1], "GITHUB_TOKEN") {
		t.Errorf("%+v", p)
	}
	if len(w.Pull(1).Labels) != 1 {
		t.Errorf("%+v", w.Pull(1))
	}
	w.settled(c)
}

func TestEnsureRefuses(t *testing.T) {
	w := newWorld(t, nil)
	w.CommitLink("main", "kernel/link.json", "tools/signers.json", "ann")
	w.CommitSubmodule("main", "vendor", w.Head("main").ID, "ann")
	file := func(path string) func(*pullrequest.Change) {
		return func(c *pullrequest.Change) { c.Files[path] = []byte("x") }
	}
	for name, c := range map[string]struct {
		spoil func(*pullrequest.Change)
		words string
	}{
		"parent path":         {file("../signers.json"), "relative"},
		"hidden parent path":  {file("kernel/../../x"), "relative"},
		"absolute path":       {file("/etc/passwd"), "relative"},
		"unclean path":        {file("kernel//x"), "relative"},
		"backslash":           {file(`kernel\x`), "relative"},
		"line break":          {file("kernel/x\ny"), "relative"},
		"git's own folder":    {file(".git/config"), ".git"},
		"nested git folder":   {file("kernel/.GIT/config"), ".git"},
		"workflows":           {file(".github/workflows/x.yml"), ".github"},
		"symbolic link":       {file("kernel/link.json"), "symbolic link"},
		"through a link":      {file("kernel/link.json/x"), "symbolic link"},
		"submodule":           {file("vendor"), "submodule"},
		"through a submodule": {file("vendor/x"), "submodule"},
		"folder":              {file("kernel"), "folder"},
		"no files":            {func(c *pullrequest.Change) { c.Files = nil }, "no files"},
		"operation":           {func(c *pullrequest.Change) { c.Operation = "../x" }, "operation"},
		"key":                 {func(c *pullrequest.Change) { c.Key = " " }, "key"},
		"title":               {func(c *pullrequest.Change) { c.Title = "a\nb" }, "line break"},
		"message":             {func(c *pullrequest.Change) { c.Message = "" }, "commit message"},
		"long body":           {func(c *pullrequest.Change) { c.Body = strings.Repeat("x", 70_000) }, "shorten"},
		"base commit":         {func(c *pullrequest.Change) { c.BaseCommit = "main" }, "full commit id"},
		"base branch":         {func(c *pullrequest.Change) { c.Base = "no such" }, "branch name"},
		"missing base branch": {func(c *pullrequest.Change) { c.Base = "none" }, "base-branch"},
		"path to clear":       {func(c *pullrequest.Change) { c.Clear = []string{"kernel/.."} }, "relative"},
		"workflows to clear":  {func(c *pullrequest.Change) { c.Clear = []string{".github"} }, ".github"},
		"clear through a link": {func(c *pullrequest.Change) {
			c.Clear = []string{"kernel/link.json/x"}
		}, "symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			change := w.change("k1")
			c.spoil(&change)
			repo, _ := w.open()
			n := w.writes(func() {
				_, err := repo.Ensure(context.Background(), change)
				refused(t, err, 2, c.words)
			})
			if n != 0 {
				t.Errorf("%d writes", n)
			}
		})
	}
}
