package pullrequest_test

import (
	"context"
	"errors"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

const (
	registry = "kernel/tools/signers.json"
	archive  = "kernel/tools/signers.archive.json"
	token    = "ghs_canary0123456789secret"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a GitHub with one repository.
type world struct {
	*testing.T
	*githubtest.Server
}

// newWorld starts a GitHub whose clock moves a second at each look, so that no
// two commits are alike by accident. When the test ends, every request and
// every answer must have kept GitHub's description.
func newWorld(t *testing.T, with func(*githubtest.Options)) world {
	t.Helper()
	var ticks atomic.Int64
	o := githubtest.Options{
		Token: token,
		Files: map[string]string{registry: "[]\n", "README.md": "hello\n"},
		Now:   func() time.Time { return noon.Add(time.Duration(ticks.Add(1)) * time.Second) },
	}
	if with != nil {
		with(&o)
	}
	server, err := githubtest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if v := server.Violations(); len(v) != 0 {
			t.Errorf("GitHub's description is broken:\n%s", strings.Join(v, "\n"))
		}
		server.Close()
	})
	return world{t, server}
}

// naps records what the code under test slept.
type naps struct {
	mu   sync.Mutex
	all  []time.Duration
	then func() // run at each nap, when set
}

func (n *naps) sleep(ctx context.Context, d time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, d)
	if n.then != nil {
		n.then()
	}
	return ctx.Err()
}

// open opens the repository as a new process would.
func (w world) open(with ...func(*pullrequest.Options)) (*pullrequest.Repo, *naps) {
	w.Helper()
	n := &naps{}
	o := pullrequest.Options{APIURL: w.URL(), Token: token, Repository: "acme/kernel", Sleep: n.sleep}
	for _, f := range with {
		f(&o)
	}
	repo, err := pullrequest.Open(o)
	if err != nil {
		w.Fatal(err)
	}
	return repo, n
}

// change proposes a registry, on top of what main holds now.
func (w world) change(key string) pullrequest.Change {
	return pullrequest.Change{
		Operation: "add-signer", Key: key,
		Base: "main", BaseCommit: w.Head("main").ID,
		Files:   map[string][]byte{registry: []byte(`["` + key + `"]` + "\n"), archive: []byte("{}\n")},
		Message: "Add signer " + key, Title: "Add signer " + key, Body: "What changes:\n\n- a signer\n",
	}
}

// ensure runs Ensure in a new process, which has looked at the branch, and wants
// it to succeed.
func (w world) ensure(c pullrequest.Change) pullrequest.Proposal {
	w.Helper()
	repo, _ := w.open()
	if slices.Contains(w.Branches(), c.Branch()) {
		c.Tip = w.Head(c.Branch()).ID
	}
	p, err := repo.Ensure(context.Background(), c)
	if err != nil {
		w.Fatal(err)
	}
	return p
}

// ensureBlocked runs Ensure and wants a *Blocked that says words, and no write.
func (w world) ensureBlocked(c pullrequest.Change, words ...string) {
	w.Helper()
	repo, _ := w.open()
	n := w.writes(func() {
		p, err := repo.Ensure(context.Background(), c)
		refused(w.T, err, 3, append(words, "branch "+c.Branch()+" cannot be used")...)
		if b, is := errors.AsType[*pullrequest.Blocked](err); !is || b.Branch != c.Branch() || p.Number != 0 {
			w.Errorf("got %+v and %#v, want a *Blocked of %s", p, err, c.Branch())
		}
	})
	if n != 0 {
		w.Errorf("got %d writes, want none", n)
	}
}

// git runs git on GitHub's own copy of the repository.
func (w world) git(args ...string) string {
	w.Helper()
	who := []string{"--git-dir", w.RepoDir(), "-c", "user.name=ann", "-c", "user.email=a@b"}
	out, err := exec.Command("git", append(who, args...)...).CombinedOutput()
	if err != nil {
		w.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// push lets a person commit a file to a branch, which is made if it is missing.
func (w world) push(branch, path, text string) (commit string) {
	w.Helper()
	commit, err := w.CommitFile(branch, path, text, "ann")
	if err != nil {
		w.Fatal(err)
	}
	return commit
}

// deleteBranch lets a person delete a branch.
func (w world) deleteBranch(branch string) {
	w.Helper()
	w.git("update-ref", "-d", "refs/heads/"+branch)
}

// openPull lets a person open a pull request between two branches.
func (w world) openPull(head, base string) (number int) {
	w.Helper()
	w.send("POST", "pulls", map[string]any{"title": "by a person", "head": head, "base": base})
	return len(w.Pulls())
}

// closePullsInto lets a person close the open pull requests into a branch.
func (w world) closePullsInto(base string) {
	w.Helper()
	for _, p := range w.Pulls() {
		if p.State != "open" || p.Base != base {
			continue
		}
		if err := w.ClosePull(p.Number); err != nil {
			w.Fatal(err)
		}
	}
}

// writes counts the writes that f makes.
func (w world) writes(f func()) int {
	before := w.Writes()
	f()
	return w.Writes() - before
}

// ensureQuietly runs Ensure and wants no write.
func (w world) ensureQuietly(c pullrequest.Change, want pullrequest.State) pullrequest.Proposal {
	w.Helper()
	var p pullrequest.Proposal
	if n := w.writes(func() { p = w.ensure(c) }); n != 0 || p.State != want {
		w.Errorf("state %s after %d writes, want %s after none", p.State, n, want)
	}
	return p
}

// settled checks that a change has exactly one branch and one pull request
// that hold it, and that a further run writes nothing.
func (w world) settled(c pullrequest.Change) {
	w.Helper()
	w.single(c.Branch())
	repo, _ := w.open()
	found, _, err := repo.Find(context.Background(), c)
	if err != nil {
		w.Fatal(err)
	}
	if p := w.Pull(found.Number); p.Title != c.Title || strings.TrimSpace(p.Body) != strings.TrimSpace(c.Body) {
		w.Errorf("the pull request reads %q %q", p.Title, p.Body)
	}
	for path, want := range c.Files {
		if got, _ := w.File(c.Branch(), path); got != string(want) {
			w.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
	w.ensureQuietly(c, pullrequest.Unchanged)
}

// single checks that branches have exactly one pull request each.
func (w world) single(branches ...string) {
	w.Helper()
	pulls, existing := map[string]int{}, w.Branches()
	for _, p := range w.Pulls() {
		pulls[p.Branch]++
	}
	for _, b := range branches {
		if pulls[b] != 1 || !slices.Contains(existing, b) {
			w.Errorf("branch %s exists: %v, with %d pull requests; want one", b, slices.Contains(existing, b), pulls[b])
		}
	}
}

// refused wants an error with an exit code and with words in it, and never the
// token.
func refused(t *testing.T, err error, code int, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want exit code %d and %q", code, words)
	}
	text := err.Error()
	var coded interface{ ExitCode() int }
	if !errors.As(err, &coded) || coded.ExitCode() != code {
		t.Errorf("%q has not exit code %d", text, code)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q does not say %q", text, word)
		}
	}
	if strings.Contains(text, token) || strings.ContainsAny(text, "\r\n\x1b") {
		t.Errorf("%q holds the token or is not one line", text)
	}
}

// once is a fault for the n-th request that fits, counted from 1.
func once(n int, fits func(*http.Request) bool, f githubtest.Fault) func(*http.Request, int) *githubtest.Fault {
	var seen atomic.Int64
	return func(r *http.Request, _ int) *githubtest.Fault {
		if fits(r) && seen.Add(1) == int64(n) {
			return &f
		}
		return nil
	}
}

func every(*http.Request) bool { return true }

func is(method, end string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == method && strings.Contains(r.URL.Path, end) }
}
