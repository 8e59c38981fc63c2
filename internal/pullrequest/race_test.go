package pullrequest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

// during runs act once, just before the first request that fits is answered.
func during(fits func(*http.Request) bool, act func()) func(*http.Request, int) *githubtest.Fault {
	done := false
	return func(r *http.Request, _ int) *githubtest.Fault {
		if !done && fits(r) {
			done = true
			act()
		}
		return nil
	}
}

func TestAPersonIsFasterThanEnsure(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	w.ensure(c)
	c.Files[registry] = []byte("[2]\n")
	w.SetFault(during(is("POST", "/git/commits"), func() { w.CommitFile(c.Branch(), "note.txt", "mine\n", "ann") }))
	if p := w.ensure(c); p.State != pullrequest.Foreign {
		t.Errorf("%+v", p)
	}
	if _, found := w.File(c.Branch(), "note.txt"); !found {
		t.Error("the person's commit is lost")
	}
}

func TestAnotherRunIsFasterThanEnsure(t *testing.T) {
	for name, c := range map[string]struct {
		step func(*http.Request) bool
		want pullrequest.State
	}{
		"with the branch":           {is("POST", "/git/refs"), pullrequest.Unchanged},
		"with the pull request":     {is("POST", "/pulls"), pullrequest.Updated}, // the branch was this run's
		"before the second look":    {is("POST", "/git/blobs"), pullrequest.Unchanged},
		"right after the first one": {is("GET", "/git/ref/heads/main"), pullrequest.Unchanged},
	} {
		w := newWorld(t, nil)
		change := w.change("k1")
		w.SetFault(during(c.step, func() { w.ensure(change) }))
		if p := w.ensure(change); p.State != c.want || p.Number != 1 {
			t.Errorf("%s: %+v", name, p)
		}
		w.settled(change)
	}
}

func TestSomebodyClosesItMeanwhile(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	closed := false
	w.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
		if closed || !is("POST", "/pulls")(r) {
			return nil
		}
		closed = true
		w.ensure(c)
		w.ClosePull(1)
		return &githubtest.Fault{Status: 422, Body: `{"message":"A pull request already exists for acme:topic."}`}
	})
	if p := w.ensure(c); p.State != pullrequest.Closed || p.Number != 1 || len(w.Pulls()) != 1 {
		t.Errorf("%+v", p)
	}
}

func TestABranchThatIsTooNewToBeKnown(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	w.SetFault(once(1, is("POST", "/pulls"), githubtest.Fault{Status: 422, Body: `{"message":"Validation Failed","errors":[{"message":"Head sha can't be blank"}]}`}))
	repo, naps := w.open()
	if p, err := repo.Ensure(context.Background(), c); err != nil || p.State != pullrequest.Created || len(naps.all) != 1 {
		t.Errorf("%+v %v, slept %v", p, err, naps.all)
	}
	w.SetFault(nil)
	w.settled(c)
}

func TestABranchThatNeverSettles(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	reads := 0
	w.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
		switch {
		case is("POST", "/git/refs")(r):
			return &githubtest.Fault{Status: 422, Body: `{"message":"Reference already exists"}`}
		case is("GET", "/git/ref/heads/"+c.Branch())(r):
			if reads++; reads%2 == 0 { // there right after the refusal, gone at the next look
				return &githubtest.Fault{Status: 200, Body: `{"ref":"refs/heads/` + c.Branch() + `","object":{"sha":"` + strings.Repeat("a", 40) + `"}}`}
			}
		}
		return nil
	})
	repo, naps := w.open()
	_, err := repo.Ensure(context.Background(), c)
	refused(t, err, 3, "other runs kept changing it", "run again later")
	if reads != 10 || len(naps.all) != 4 {
		t.Errorf("%d reads, slept %v; want five turns", reads, naps.all)
	}
}

func TestFindPicksTheRightOne(t *testing.T) {
	const ours, fork = `"repo":{"full_name":"Acme/Kernel"}`, `"repo":{"full_name":"mallory/kernel"}`
	w := newWorld(t, nil)
	change := w.change("k1")
	topic := change.Branch()
	pull := func(number int, state, merged, repo string) string {
		return fmt.Sprintf(`{"number":%d,"state":%q,"merged_at":%s,"head":{"ref":%q,%s},"base":{"ref":"main"}}`,
			number, state, merged, topic, repo)
	}
	other := func(pull string) string { return strings.Replace(pull, topic, "other", 1) }
	toRelease := func(pull string) string { return strings.Replace(pull, `"main"`, `"release"`, 1) }
	const never, then = "null", `"2026-03-01T12:00:00Z"`
	for name, c := range map[string]struct {
		pages []string
		want  int
		state pullrequest.State
	}{
		"a fork's branch of the same name": {[]string{pull(1, "open", never, fork)}, 0, ""},
		"a fork that is deleted":           {[]string{pull(1, "open", never, `"repo":null`)}, 0, ""},
		"another branch":                   {[]string{other(pull(1, "open", never, ours))}, 0, ""},
		"an open one into another base":    {[]string{toRelease(pull(1, "open", never, ours))}, 0, ""},
		"a merged one into another base":   {[]string{toRelease(pull(1, "closed", then, ours))}, 0, ""},
		"one into each base": {[]string{
			toRelease(pull(2, "open", never, ours)) + "," + pull(1, "closed", never, ours),
		}, 1, pullrequest.Closed},
		"an open one first":    {[]string{pull(3, "closed", then, ours) + "," + pull(2, "open", never, ours) + "," + pull(4, "closed", never, ours)}, 2, pullrequest.Proposed},
		"a merged one next":    {[]string{pull(3, "closed", never, ours) + "," + pull(2, "closed", then, ours)}, 2, pullrequest.Merged},
		"the latest of equals": {[]string{pull(2, "closed", never, ours) + "," + pull(3, "closed", never, ours)}, 3, pullrequest.Closed},
		"on the second page":   {[]string{pull(2, "closed", never, ours), pull(1, "open", never, ours)}, 1, pullrequest.Proposed},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			w.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
				if n == len(c.pages) {
					return nil // the other names have none
				}
				n++
				f := &githubtest.Fault{Status: 200, Body: "[" + c.pages[n-1] + "]", Header: http.Header{}}
				if n < len(c.pages) {
					f.Header.Set("Link", fmt.Sprintf(`<%s%s?page=%d>; rel="next"`, w.URL(), r.URL.Path, n+1))
				}
				return f
			})
			repo, _ := w.open()
			p, found, err := repo.Find(context.Background(), change)
			if err != nil || found != (c.want != 0) || p.Number != c.want || p.State != c.state {
				t.Errorf("got #%d %q, found %v, %v; want #%d %q", p.Number, p.State, found, err, c.want, c.state)
			}
		})
	}
}

func TestEnsureInParallelUnderFaults(t *testing.T) {
	w := newWorld(t, nil)
	kinds := []githubtest.Fault{{Close: true}, {Close: true, Apply: true}, {Status: 502, Apply: true}, {Status: 503}, {Truncate: true}}
	w.SetFault(func(_ *http.Request, n int) *githubtest.Fault {
		if n%7 == 3 {
			return &kinds[n/7%len(kinds)]
		}
		return nil
	})
	var branches []string
	for seed := range 10 {
		c := w.change(fmt.Sprint("seed ", seed))
		c.Labels = []string{"audit"}
		done := make(chan error)
		for range 4 {
			repo, _ := w.open()
			go func() {
				_, err := repo.Ensure(context.Background(), c)
				done <- err
			}()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Errorf("%s: %v", c.Key, err)
			}
		}
		branches = append(branches, c.Branch())
	}
	w.SetFault(nil)
	w.single(branches...)
}

// A run whose files another run of the same step has overtaken does not put its
// own in their place, but proposes the same as that one.
func TestProposeAfterAFasterRun(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, nil)
	c := w.change("k1")
	theirs := []byte("[\"theirs\"]\n")
	w.SetFault(during(is("POST", "/git/refs"), func() {
		faster := c
		faster.Files = map[string][]byte{registry: theirs, archive: c.Files[archive]}
		w.ensure(faster)
	}))
	repo, naps := w.open()
	turns := 0
	p, used, err := repo.Propose(ctx, c, func(c pullrequest.Change) (pullrequest.Change, error) {
		turns++
		text, tip, err := repo.Earlier(ctx, c, registry, 1<<20, registry, archive)
		if c.Tip = tip; text != nil {
			c.Files = map[string][]byte{registry: text, archive: c.Files[archive]}
		}
		return c, err
	})
	if err != nil || turns != 2 || p.State != pullrequest.Unchanged || p.Number != 1 || used.Name != "" {
		t.Errorf("got %d turns, slept %v: %+v, name %q, %v; want two turns and #1 unchanged",
			turns, naps.all, p, used.Name, err)
	}
	if text, _ := w.File(c.Branch(), registry); text != string(theirs) || len(w.Head(c.Branch()).Parents) != 1 {
		t.Errorf("the branch holds %q, want %q", text, theirs)
	}
	c.Files[registry] = theirs
	w.settled(c)
}

// A step is taken again for a lost race on the branch of the change, five times in
// all. Any other error ends it at once.
func TestProposeEndsWithTheErrorOfItsStep(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	for name, step := range map[string]struct {
		err   error
		turns int
		words string
	}{
		"a race for the branch": {&pullrequest.Conflict{Branch: c.Branch()}, 5, "someone else was faster"},
		"a race for the base":   {&pullrequest.Conflict{Branch: "main"}, 1, "branch main"},
		"another error":         {io.ErrUnexpectedEOF, 1, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			repo, naps := w.open()
			turns := 0
			p, _, err := repo.Propose(context.Background(), c, func(c pullrequest.Change) (pullrequest.Change, error) {
				turns++
				return c, step.err
			})
			if !errors.Is(err, step.err) || !strings.Contains(err.Error(), step.words) || p.Number != 0 {
				t.Errorf("got %+v, %v; want %v", p, err, step.err)
			}
			if turns != step.turns || len(naps.all) != step.turns-1 {
				t.Errorf("got %d turns and pauses %v, want %d turns", turns, naps.all, step.turns)
			}
		})
	}
	if n := w.Writes(); n != 0 {
		t.Errorf("got %d writes, want none", n)
	}
}
