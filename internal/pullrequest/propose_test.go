package pullrequest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

// under is a change under its first name (0), its second one (1), or its third (2).
func under(c pullrequest.Change, try int) pullrequest.Change {
	second := strings.ReplaceAll(c.Branch(), "/", "-")
	c.Name = []string{"", second, second + "-2"}[try]
	return c
}

// isBranch reports whether a name is the wanted one, or begins as that does.
func isBranch(got, want string) bool {
	start, open := strings.CutSuffix(want, "*")
	return got == want || open && strings.HasPrefix(got, start) && len(got) > len(start)
}

// proposes is a step that proposes c: it reads what an earlier run has put into the
// branch, and sets nothing but the tip.
func proposes(repo *pullrequest.Repo) func(pullrequest.Change) (pullrequest.Change, error) {
	return func(c pullrequest.Change) (_ pullrequest.Change, err error) {
		_, c.Tip, err = repo.Earlier(context.Background(), c, registry, 1<<20, slices.Collect(maps.Keys(c.Files))...)
		return c, err
	}
}

// propose runs Propose in a new process and wants it to succeed. told is what it
// reports meanwhile.
func (w world) propose(c pullrequest.Change) (p pullrequest.Proposal, told []string) {
	w.Helper()
	repo, _ := w.open(func(o *pullrequest.Options) { o.Tell = func(what string) { told = append(told, what) } })
	p, used, err := repo.Propose(context.Background(), c, proposes(repo))
	if err != nil {
		w.Fatal(err)
	}
	if used.Branch() != p.Branch {
		w.Errorf("got the change of %s, want that of %s", used.Branch(), p.Branch)
	}
	return p, told
}

// proposeAndWant runs Propose and wants a state and a branch.
func (w world) proposeAndWant(c pullrequest.Change, state pullrequest.State, branch string) pullrequest.Proposal {
	w.Helper()
	p, told := w.propose(c)
	if p.State != state || !isBranch(p.Branch, branch) {
		w.Errorf("got #%d %s from %s, want one %s from %s; told %q", p.Number, p.State, p.Branch, state, branch, told)
	}
	return p
}

// wantOneOpenFrom wants exactly one open pull request into main, and it from a branch.
func (w world) wantOneOpenFrom(branch string) {
	w.Helper()
	var got []string
	for _, p := range w.Pulls() {
		if p.State == "open" && p.Base == "main" {
			got = append(got, p.Branch)
		}
	}
	if len(got) != 1 || !isBranch(got[0], branch) {
		w.Errorf("got open pull requests into main from %q, want one from %s", got, branch)
	}
}

// branchCommits is the commit of every branch.
func (w world) branchCommits() map[string]string {
	at := map[string]string{}
	for _, b := range w.Branches() {
		at[b] = w.Head(b).ID
	}
	return at
}

// blocking is a way to block the branch of a change.
type blocking struct {
	name   string
	first  bool // it blocks the first name only
	block  func(w world, c pullrequest.Change)
	told   func(w world, c pullrequest.Change) string
	remove func(w world, c pullrequest.Change)
}

// deleteBranchOf lets a person delete the branch of a change.
func deleteBranchOf(w world, c pullrequest.Change) { w.deleteBranch(c.Branch()) }

// inTheWay says that a branch is in the way.
func inTheWay(branch string) func(world, pullrequest.Change) string {
	return func(world, pullrequest.Change) string { return "branch " + branch + " is in the way" }
}

// notOurs says where the branch of a change ends.
func notOurs(w world, c pullrequest.Change) string {
	return "it ends in a commit that is not ours (" + w.Head(c.Branch()).ID[:12] + ")"
}

// leadsToRelease says that the last pull request is into another base.
func leadsToRelease(w world, c pullrequest.Change) string {
	return fmt.Sprintf("pull request #%d leads from it to branch release, not to main", len(w.Pulls()))
}

// killedBeforeThePullRequest is a run that has made the branch and nothing more.
func killedBeforeThePullRequest(w world, c pullrequest.Change) {
	repo, _ := w.open()
	w.SetFault(once(1, is("POST", "/pulls"), githubtest.Fault{Status: 401, Body: `{"message":"Bad credentials"}`}))
	_, err := repo.Ensure(context.Background(), c)
	refused(w.T, err, 3, "refuses the token")
	w.SetFault(nil)
}

// refuseBranch lets GitHub refuse to make a branch by a rule of the repository.
func refuseBranch(w world, branches ...string) {
	w.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
		if !is("POST", "/git/refs")(r) {
			return nil
		}
		body, _ := io.ReadAll(r.Body)
		for _, b := range branches {
			if strings.Contains(string(body), `"refs/heads/`+b+`"`) {
				return &githubtest.Fault{Status: 422, Body: `{"message":"Repository rule violations found"}`}
			}
		}
		return nil
	})
}

// blockings is every way to block a name. A branch above it blocks the first name
// only, because the others have no slash.
var blockings = []blocking{
	{
		name: "a branch two levels above", first: true,
		block:  func(w world, _ pullrequest.Change) { w.push("audit-signer", "x", "y") },
		told:   inTheWay("audit-signer"),
		remove: func(w world, _ pullrequest.Change) { w.deleteBranch("audit-signer") },
	},
	{
		name: "a branch above", first: true,
		block:  func(w world, _ pullrequest.Change) { w.push("audit-signer/add-signer", "x", "y") },
		told:   inTheWay("audit-signer/add-signer"),
		remove: func(w world, _ pullrequest.Change) { w.deleteBranch("audit-signer/add-signer") },
	},
	{
		name:   "a branch below",
		block:  func(w world, c pullrequest.Change) { w.push(c.Branch()+"/x", "x", "y") },
		told:   func(w world, c pullrequest.Change) string { return inTheWay(c.Branch()+"/x")(w, c) },
		remove: func(w world, c pullrequest.Change) { w.deleteBranch(c.Branch() + "/x") },
	},
	{
		name:   "a branch two levels below",
		block:  func(w world, c pullrequest.Change) { w.push(c.Branch()+"/x/y", "x", "y") },
		told:   func(w world, c pullrequest.Change) string { return inTheWay(c.Branch()+"/x/y")(w, c) },
		remove: func(w world, c pullrequest.Change) { w.deleteBranch(c.Branch() + "/x/y") },
	},
	{
		name:   "a rule of the repository",
		block:  func(w world, c pullrequest.Change) { refuseBranch(w, c.Branch()) },
		told:   func(world, pullrequest.Change) string { return "a rule of the repository" },
		remove: func(w world, _ pullrequest.Change) { w.SetFault(nil) },
	},
	{
		name:  "a person's branch",
		block: func(w world, c pullrequest.Change) { w.push(c.Branch(), "note.txt", "mine\n") },
		told:  notOurs, remove: deleteBranchOf,
	},
	{
		name: "the commit of another change",
		block: func(w world, c pullrequest.Change) {
			other := under(w.change("another"), 1)
			killedBeforeThePullRequest(w, other)
			w.git("update-ref", "refs/heads/"+c.Branch(), "refs/heads/"+other.Branch())
			w.deleteBranch(other.Branch())
		},
		told: notOurs, remove: deleteBranchOf,
	},
	{
		name: "a person's commit on the branch of a killed run",
		block: func(w world, c pullrequest.Change) {
			killedBeforeThePullRequest(w, c)
			w.push(c.Branch(), "note.txt", "mine\n")
		},
		told: notOurs, remove: deleteBranchOf,
	},
	{
		name: "a person's commit on the branch of a killed run, taken back",
		block: func(w world, c pullrequest.Change) {
			killedBeforeThePullRequest(w, c)
			w.push(c.Branch(), "note.txt", "mine\n")
		},
		told:   notOurs,
		remove: func(w world, c pullrequest.Change) { w.git("update-ref", "refs/heads/"+c.Branch(), c.Branch()+"~") },
	},
	{
		name: "a person's pull request into another branch",
		block: func(w world, c pullrequest.Change) {
			w.git("update-ref", "refs/heads/release", "refs/heads/main")
			w.git("update-ref", "refs/heads/"+c.Branch(), "refs/heads/main")
			w.push(c.Branch(), "note.txt", "mine\n")
			w.openPull(c.Branch(), "release")
		},
		told: leadsToRelease,
		remove: func(w world, c pullrequest.Change) {
			w.closePullsInto("release")
			w.deleteBranch(c.Branch())
		},
	},
	{
		name: "our pull request into another branch",
		block: func(w world, c pullrequest.Change) {
			w.git("update-ref", "refs/heads/release", "refs/heads/main")
			c.Base = "release"
			w.ensure(c)
		},
		told: leadsToRelease,
		remove: func(w world, c pullrequest.Change) {
			w.closePullsInto("release")
			w.deleteBranch(c.Branch())
		},
	},
	{
		name: "our pull request into another branch, whose branch is kept",
		block: func(w world, c pullrequest.Change) {
			w.git("update-ref", "refs/heads/release", "refs/heads/main")
			c.Base = "release"
			w.ensure(c)
		},
		told:   leadsToRelease,
		remove: func(w world, c pullrequest.Change) { w.closePullsInto("release") },
	},
}

// Where the first name is blocked, the second is used, and what is in the way is
// told and left alone. A rerun finds the pull request and writes nothing, whether
// the blocker is still there or gone.
func TestProposeUnderTheSecondName(t *testing.T) {
	for _, b := range blockings {
		t.Run(b.name, func(t *testing.T) {
			w := newWorld(t, nil)
			c := w.change("k1")
			second := under(c, 1).Branch()
			b.block(w, c)
			want := b.told(w, c)
			before := w.branchCommits()

			p, told := w.propose(c)
			if p.State != pullrequest.Created || p.Branch != second || p.Base != "main" {
				t.Errorf("got %+v, want one created from %s", p, second)
			}
			if len(told) != 1 || !strings.HasPrefix(told[0], "branch "+c.Branch()+" cannot be used: ") ||
				!strings.Contains(told[0], want) {
				t.Errorf("got told %q, want %q", told, want)
			}
			after := w.branchCommits()
			if before[second] = after[second]; !maps.Equal(before, after) {
				t.Errorf("got branches %v, want %v", after, before)
			}
			for path, want := range c.Files {
				if got, _ := w.File(second, path); got != string(want) {
					t.Errorf("%s: got %q, want %q", path, got, want)
				}
			}

			for _, blocker := range []string{"still there", "gone"} {
				if blocker == "gone" {
					b.remove(w, c)
				}
				at := w.branchCommits()
				var again pullrequest.Proposal
				n := w.writes(func() { again = w.proposeAndWant(c, pullrequest.Unchanged, second) })
				if n != 0 || again.Number != p.Number || !maps.Equal(at, w.branchCommits()) {
					t.Errorf("the blocker is %s: got %d writes, #%d and branches %v, want none, #%d and %v",
						blocker, n, again.Number, w.branchCommits(), p.Number, at)
				}
				w.wantOneOpenFrom(second)
			}
		})
	}
}

// Where the second name is blocked, too, the third is used, whatever blocks it. A
// rerun finds the pull request.
func TestProposeUnderTheThirdName(t *testing.T) {
	for _, b := range blockings {
		if b.first {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			w := newWorld(t, nil)
			c := w.change("k1")
			second, third := under(c, 1), under(c, 2).Branch()
			w.push("audit-signer", "x", "y")
			b.block(w, second)
			want := b.told(w, second)

			p, told := w.propose(c)
			if p.State != pullrequest.Created || !isBranch(p.Branch, third) {
				t.Errorf("got %+v, want one created from %s", p, third)
			}
			if len(told) != 2 || !strings.Contains(told[0], "branch audit-signer is in the way") ||
				!strings.Contains(told[1], "branch "+second.Branch()+" cannot be used: ") || !strings.Contains(told[1], want) {
				t.Errorf("got told %q, want audit-signer and %q", told, want)
			}
			at := w.branchCommits()
			if again := w.proposeAndWant(c, pullrequest.Unchanged, third); again.Number != p.Number {
				t.Errorf("got #%d, want #%d", again.Number, p.Number)
			}
			if !maps.Equal(at, w.branchCommits()) {
				t.Errorf("got branches %v, want %v", w.branchCommits(), at)
			}
			w.wantOneOpenFrom(third)
		})
	}
}

// A change whose first or second name is free again keeps the pull request that it
// has under the third.
func TestProposeKeepsTheThirdName(t *testing.T) {
	for name, remove := range map[string]func(w world, c pullrequest.Change){
		"the first name is free":  func(w world, _ pullrequest.Change) { w.deleteBranch("audit-signer") },
		"the second name is free": func(w world, c pullrequest.Change) { deleteBranchOf(w, under(c, 1)) },
		"both names are free": func(w world, c pullrequest.Change) {
			w.deleteBranch("audit-signer")
			deleteBranchOf(w, under(c, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			c := w.change("k1")
			third := under(c, 2).Branch()
			w.push("audit-signer", "x", "y")
			w.push(under(c, 1).Branch(), "note.txt", "mine\n")
			w.proposeAndWant(c, pullrequest.Created, third)
			remove(w, c)
			w.proposeAndWant(c, pullrequest.Unchanged, third)
			w.wantOneOpenFrom(third)
		})
	}
}

// Five names are tried, the last of which nobody can foresee; where all of them are
// blocked, it is an error.
func TestProposeWithEveryNameBlocked(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	second := under(c, 1).Branch()
	names := []string{c.Branch(), second, second + "-2", second + "-3", second + "-*"}
	w.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
		if !is("POST", "/git/refs")(r) {
			return nil
		}
		return &githubtest.Fault{Status: 422, Body: `{"message":"Repository rule violations found"}`}
	})
	var told []string
	repo, _ := w.open(func(o *pullrequest.Options) { o.Tell = func(what string) { told = append(told, what) } })
	p, _, err := repo.Propose(context.Background(), c, proposes(repo))
	refused(t, err, 3, "cannot be used", "a rule of the repository", "rule violations found")
	if b, is := errors.AsType[*pullrequest.Blocked](err); !is || !isBranch(b.Branch, names[4]) || p.Number != 0 {
		t.Errorf("got %+v and %#v, want a *Blocked of %s", p, err, names[4])
	}
	for i, what := range told {
		if want := "branch " + names[i] + " cannot be used: "; !strings.HasPrefix(what, want) {
			t.Errorf("got told %q, want %q", what, want)
		}
	}
	if got := w.Branches(); len(told) != 4 || !slices.Equal(got, []string{"main"}) || len(w.Pulls()) != 0 {
		t.Errorf("got %d lines and branches %q, want four and main", len(told), got)
	}
}

// What is proposed under the second name is brought up to date there.
func TestProposeUpdatesUnderTheSecondName(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	second := under(c, 1).Branch()
	w.push("audit-signer", "x", "y")
	first := w.proposeAndWant(c, pullrequest.Created, second)
	c.Files[registry], c.Body = []byte("[2]\n"), "Other words\n"
	p := w.proposeAndWant(c, pullrequest.Updated, second)
	if got, _ := w.File(second, registry); got != "[2]\n" || p.Number != first.Number || w.Pull(p.Number).Body != c.Body {
		t.Errorf("got #%d with %q and %q, want #%d with the new file and text",
			p.Number, got, w.Pull(p.Number).Body, first.Number)
	}
	w.wantOneOpenFrom(second)
}

// A pull request under the second name that was merged or closed is found while the
// first is blocked, and no other is opened.
func TestProposeTakesAnAnswerUnderTheSecondName(t *testing.T) {
	for name, tc := range map[string]struct {
		decide func(w world, number int) error
		want   pullrequest.State
	}{
		"no":  {func(w world, number int) error { return w.ClosePull(number) }, pullrequest.Closed},
		"yes": {func(w world, number int) error { _, err := w.Merge(number); return err }, pullrequest.Merged},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			c := w.change("k1")
			second := under(c, 1).Branch()
			w.push(c.Branch(), "note.txt", "mine\n")
			made := w.proposeAndWant(c, pullrequest.Created, second)
			if err := tc.decide(w, made.Number); err != nil {
				t.Fatal(err)
			}
			c = w.change("k1")
			c.Body = "please"
			repo, _ := w.open()
			if p, found, err := repo.Find(context.Background(), c); err != nil || !found || p.State != tc.want {
				t.Errorf("found %+v, %v, %v; want it %s", p, found, err, tc.want)
			}
			n := w.writes(func() { w.propose(c) })
			if got := len(w.Pulls()); n != 0 || got != 1 {
				t.Errorf("got %d writes and %d pull requests, want none and one", n, got)
			}
		})
	}
}

// A person's commit on the branch of our open pull request makes it theirs: no other
// name is tried, under whichever name the pull request is.
func TestProposeLeavesAPersonsCommit(t *testing.T) {
	for _, try := range []int{0, 1} {
		t.Run(fmt.Sprint("try ", try), func(t *testing.T) {
			w := newWorld(t, nil)
			c := w.change("k1")
			if try == 1 {
				w.push("audit-signer", "x", "y")
			}
			branch := under(c, try).Branch()
			made := w.proposeAndWant(c, pullrequest.Created, branch)
			theirs := w.push(branch, "note.txt", "mine\n")
			c.Files[registry], c.Body = []byte("[2]\n"), "new words"
			at := w.branchCommits()
			for run := range 2 {
				var p pullrequest.Proposal
				n := w.writes(func() { p = w.proposeAndWant(c, pullrequest.Foreign, branch) })
				if p.Number != made.Number || p.Commit != theirs || n != 1-run {
					t.Errorf("run %d: got #%d at %s after %d writes, want #%d at %s after %d",
						run, p.Number, p.Commit, n, made.Number, theirs, 1-run)
				}
			}
			if got := w.branchCommits(); !maps.Equal(at, got) {
				t.Errorf("got branches %v, want %v", got, at)
			}
			if pull := w.Pull(made.Number); pull.Body == c.Body || len(pull.Comments) != 1 {
				t.Errorf("got text %q and comments %+v, want the old text and one comment", pull.Body, pull.Comments)
			}
			w.wantOneOpenFrom(branch)
		})
	}
}

// A step without files proposes nothing, and nothing is written, blocked or not.
func TestProposeWithoutFiles(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	for _, blocked := range []bool{false, true} {
		if blocked {
			w.push("audit-signer", "x", "y")
		}
		repo, _ := w.open(func(o *pullrequest.Options) { o.Tell = func(what string) { t.Errorf("told %q", what) } })
		turns := 0
		n := w.writes(func() {
			p, used, err := repo.Propose(context.Background(), c, func(c pullrequest.Change) (pullrequest.Change, error) {
				turns++
				_, tip, err := repo.Earlier(context.Background(), c, registry, 1<<20, registry, archive)
				c.Files, c.Tip = nil, tip
				return c, err
			})
			if err != nil || p.Number != 0 || p.State != "" || p.Branch != "" || used.Name != "" {
				t.Errorf("got %+v, branch %q, %v; want nothing", p, used.Name, err)
			}
		})
		if n != 0 || turns != 1 || len(w.Pulls()) != 0 {
			t.Errorf("blocked %v: got %d writes and %d turns, want none and one", blocked, n, turns)
		}
	}
}

// A blocker that comes during the run has the same effect as one before it.
func TestProposeIsBlockedMeanwhile(t *testing.T) {
	for name, c := range map[string]struct {
		before, branch string
	}{
		"a branch above":             {"/git/refs", "audit-signer"},
		"a branch below":             {"/git/refs", "{branch}/x"},
		"a person's branch":          {"/git/refs", "{branch}"},
		"a person's branch, earlier": {"/git/blobs", "{branch}"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			change := w.change("k1")
			second := under(change, 1).Branch()
			blocker := strings.ReplaceAll(c.branch, "{branch}", change.Branch())
			w.SetFault(during(is("POST", c.before), func() { w.push(blocker, "x", "y") }))
			w.proposeAndWant(change, pullrequest.Created, second)
			w.SetFault(nil)
			w.proposeAndWant(change, pullrequest.Unchanged, second)
			w.wantOneOpenFrom(second)
		})
	}
}

// Runs in parallel end with one branch and one pull request, blocked or not.
func TestProposeInParallel(t *testing.T) {
	for name, block := range map[string]func(w world, c pullrequest.Change){
		"nothing in the way": func(world, pullrequest.Change) {},
		"a branch below":     func(w world, c pullrequest.Change) { w.push(c.Branch()+"/x", "x", "y") },
		"a person's branch":  func(w world, c pullrequest.Change) { w.push(c.Branch(), "x", "y") },
		"two names": func(w world, c pullrequest.Change) {
			w.push(c.Branch(), "x", "y")
			w.push(under(c, 1).Branch(), "x", "y")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			for seed := range 5 {
				c := w.change(fmt.Sprint("seed ", seed))
				c.Files = map[string][]byte{archive: []byte(c.Key)}
				block(w, c)
				const runs = 6
				proposals := make(chan pullrequest.Proposal, runs)
				for range runs {
					repo, _ := w.open()
					go func() {
						p, _, err := repo.Propose(context.Background(), c, proposes(repo))
						if err != nil {
							t.Errorf("%s: %v", c.Key, err)
						}
						proposals <- p
					}()
				}
				created, numbers := 0, map[int]bool{}
				for range runs {
					p := <-proposals
					numbers[p.Number] = true
					if p.State == pullrequest.Created {
						created++
					}
				}
				if created != 1 || len(numbers) != 1 || len(w.Pulls()) != seed+1 {
					t.Errorf("%s: got %d created, numbers %v and %d pull requests, want one, one and %d",
						c.Key, created, numbers, len(w.Pulls()), seed+1)
				}
			}
		})
	}
}

// GitHub may answer a read from before the last write. A branch that it refuses to
// make because it exists is a parallel run's, and no reason for another name.
func TestProposeWithAStaleRead(t *testing.T) {
	w := newWorld(t, nil)
	c := w.change("k1")
	raced, lost, stale := false, false, false
	w.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
		switch {
		case !raced && is("POST", "/git/refs")(r):
			raced = true
			w.proposeAndWant(c, pullrequest.Created, c.Branch())
			lost = true
		case lost && !stale && is("GET", "/git/ref/heads/"+c.Branch())(r):
			stale = true
			return &githubtest.Fault{Stale: true}
		}
		return nil
	})
	repo, _ := w.open()
	p, _, err := repo.Propose(context.Background(), c, proposes(repo))
	if !stale || err != nil || p.State != pullrequest.Unchanged || p.Branch != c.Branch() {
		t.Errorf("stale read %v: got %+v, %v; want #1 unchanged", stale, p, err)
	}
	w.SetFault(nil)
	w.wantOneOpenFrom(c.Branch())
}
