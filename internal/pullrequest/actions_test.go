package pullrequest_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

func TestComment(t *testing.T) {
	w := newWorld(t, nil)
	w.ensure(w.change("k1"))
	ctx := context.Background()
	say := func(marker, body string) (changed bool) {
		t.Helper()
		repo, _ := w.open()
		changed, err := repo.Comment(ctx, 1, marker, body)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	w.Say(1, "ann", "<!-- audit-signer:status -->\nI quote the tool")
	for i := range 120 {
		w.Say(1, "ann", fmt.Sprint("talk ", i))
	}
	if !say("status", "phase: published\n") || !say("gates", "one missing") || w.writes(func() { say("status", "phase: published") }) != 0 {
		t.Error("the first time must write, the second must not")
	}
	if n := w.writes(func() { say("status", "phase: ready") }); n != 1 {
		t.Errorf("an edit takes %d writes", n)
	}
	comments := w.Pull(1).Comments
	if len(comments) != 123 || comments[0].Body != "<!-- audit-signer:status -->\nI quote the tool" ||
		comments[121].Body != "<!-- audit-signer:status -->\nphase: ready" || comments[122].Body != "<!-- audit-signer:gates -->\none missing" {
		t.Errorf("%d comments, %+v … %+v", len(comments), comments[0], comments[len(comments)-2:])
	}
	repo, _ := w.open()
	_, err := repo.Comment(ctx, 1, "a --> b", "x")
	refused(t, err, 2, "marker")
	_, err = repo.Comment(ctx, 1, "status", strings.Repeat("x", 70_000))
	refused(t, err, 2, "shorten")
	_, err = repo.Comment(ctx, 99, "status", "x")
	refused(t, err, 3, "pull request 99", "404")
}

func TestCommentGetsOverLostAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.ensure(w.change("k1"))
	comments := 0
	for name, fault := range passing {
		marker := fmt.Sprint("m", comments)
		comments++
		for i, body := range []string{"first", "second"} {
			repo, _ := w.open()
			w.SetFault(once(1, is([]string{"POST", "PATCH"}[i], "/comments"), fault))
			if changed, err := repo.Comment(context.Background(), 1, marker, body); err != nil || !changed {
				t.Errorf("%s, %s: %v %v", name, body, changed, err)
			}
			if all := w.Pull(1).Comments; len(all) != comments || !strings.HasSuffix(all[comments-1].Body, body) {
				t.Errorf("%s, %s: %+v", name, body, all)
			}
		}
	}
}

func TestSetVariables(t *testing.T) {
	w := newWorld(t, nil)
	repo, _ := w.open()
	set := func(values map[string]string) string {
		changed, err := repo.SetVariables(context.Background(), "production", values)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(changed)
	}
	if got := set(map[string]string{"KID": "a", "ALG": "ed25519"}); got != "[ALG KID]" {
		t.Errorf("new: %s", got)
	}
	if got := set(map[string]string{"KID": "b", "ALG": "ed25519"}); got != "[KID]" {
		t.Errorf("changed: %s", got)
	}
	if n := w.writes(func() { set(map[string]string{"KID": "b"}) }); n != 0 {
		t.Errorf("%d writes for nothing new", n)
	}
	if got := fmt.Sprint(w.Variables("production")); got != "map[ALG:ed25519 KID:b]" {
		t.Error(got)
	}
	_, err := repo.SetVariables(context.Background(), "production", map[string]string{"A/../B": "x"})
	refused(t, err, 2, "letters, digits")
	for name, fault := range passing {
		for _, value := range []string{"new", "changed"} {
			w.SetFault(once(1, func(r *http.Request) bool { return r.Method != "GET" }, fault))
			variable := "V" + fmt.Sprint(len(name)) + strings.ToUpper(name[:1])
			set(map[string]string{variable: name + value})
			if got := w.Variables("production")[variable]; got != name+value {
				t.Errorf("%s, %s: %q", name, value, got)
			}
		}
	}
	w = newWorld(t, func(o *githubtest.Options) { o.Permissions = map[string]string{"contents": "write"} })
	repo, _ = w.open()
	_, err = repo.SetVariables(context.Background(), "production", map[string]string{"KID": "a"})
	refused(t, err, 3, "cannot set variable KID", "environments=read")
}

func TestCanceledMidway(t *testing.T) {
	w := newWorld(t, nil)
	ctx, stop := context.WithCancel(context.Background())
	repo, naps := w.open()
	naps.then = stop
	w.SetFault(once(1, is("GET", "/git/ref/"), githubtest.Fault{Status: 503}))
	_, err := repo.Ensure(ctx, w.change("k1"))
	refused(t, err, 3, "stopped", "run again")
	if len(naps.all) != 1 {
		t.Errorf("slept %v", naps.all)
	}
}
