package pullrequest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
)

func TestFind(t *testing.T) {
	w := newWorld(t, nil)
	repo, _ := w.open()
	ctx := context.Background()
	c := w.change("k1")
	if p, found, err := repo.Find(ctx, c); found || err != nil || p.Number != 0 {
		t.Errorf("before: got %+v, %v, %v; want none", p, found, err)
	}
	made := w.ensure(c)
	p, found, err := repo.Find(ctx, c)
	if !found || err != nil || p.State != pullrequest.Proposed || p.Number != made.Number || p.Commit != made.Commit {
		t.Errorf("got %+v, %v, %v; want #%d open at %s", p, found, err, made.Number, made.Commit)
	}
	if _, err := w.Merge(1); err != nil {
		t.Fatal(err)
	}
	if p, _, err := repo.Find(ctx, c); err != nil || p.State != pullrequest.Merged || !p.MergedAt.After(noon) {
		t.Errorf("got %+v, %v; want it merged after %s", p, err, noon)
	}
}

// A pull request is found under whatever name its branch has, whether what was in
// the way is still there, and whatever has become of it. Nothing is written.
func TestFindUnderEveryName(t *testing.T) {
	above := func(w world, _ pullrequest.Change) { w.push("audit-signer", "x", "y") }
	persons := func(try int) func(world, pullrequest.Change) {
		return func(w world, c pullrequest.Change) { w.push(under(c, try).Branch(), "x", "y") }
	}
	below := func(try int) func(world, pullrequest.Change) {
		return func(w world, c pullrequest.Change) { w.push(under(c, try).Branch()+"/x", "x", "y") }
	}
	free := func(try int) func(world, pullrequest.Change) {
		return func(w world, c pullrequest.Change) { w.deleteBranch(under(c, try).Branch()) }
	}
	answer := func(yes bool) func(world, pullrequest.Change) {
		return func(w world, c pullrequest.Change) {
			number := len(w.Pulls())
			if !yes {
				w.ClosePull(number)
			} else if _, err := w.Merge(number); err != nil {
				w.Fatal(err)
			}
		}
	}
	propose := func(w world, c pullrequest.Change) { w.propose(c) }
	type steps []func(world, pullrequest.Change)
	for name, tc := range map[string]struct {
		steps steps
		state pullrequest.State // "" for none
		try   int
	}{
		"none":                              {nil, "", 0},
		"none, and the name is blocked":     {steps{above}, "", 0},
		"none, and two names are blocked":   {steps{above, persons(1)}, "", 0},
		"the first name":                    {steps{propose}, pullrequest.Proposed, 0},
		"the second name":                   {steps{above, propose}, pullrequest.Proposed, 1},
		"the second name, the first free":   {steps{persons(0), propose, free(0)}, pullrequest.Proposed, 1},
		"the second name, closed":           {steps{above, propose, answer(false)}, pullrequest.Closed, 1},
		"the second name, merged":           {steps{above, propose, answer(true)}, pullrequest.Merged, 1},
		"the second name, merged and gone":  {steps{above, propose, answer(true), free(1)}, pullrequest.Merged, 1},
		"the third name":                    {steps{above, persons(1), propose}, pullrequest.Proposed, 2},
		"the third name, the second free":   {steps{above, persons(1), propose, free(1)}, pullrequest.Proposed, 2},
		"the third name, a branch below":    {steps{above, below(1), propose}, pullrequest.Proposed, 2},
		"the first name, and a blocked one": {steps{propose, persons(1)}, pullrequest.Proposed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			c := w.change("k1")
			for _, step := range tc.steps {
				step(w, c)
			}
			want := ""
			if tc.state != "" {
				want = fmt.Sprintf("#1 %s from %s", tc.state, under(c, tc.try).Branch())
			}
			repo, _ := w.open()
			n := w.writes(func() {
				p, found, err := repo.Find(context.Background(), c)
				got := ""
				if found {
					got = fmt.Sprintf("#%d %s from %s", p.Number, p.State, p.Branch)
				}
				if err != nil || !isBranch(got, want) {
					t.Errorf("got %q, %v; want %q", got, err, want)
				}
			})
			if n != 0 {
				t.Errorf("got %d writes, want none", n)
			}
		})
	}
}

// One into another base is none of the change.
func TestFindWithAnotherBase(t *testing.T) {
	w := newWorld(t, nil)
	w.git("update-ref", "refs/heads/release", "refs/heads/main")
	c := w.change("k1")
	c.Base = "release"
	w.ensure(c)
	repo, _ := w.open()
	for base, want := range map[string]bool{"main": false, "release": true} {
		c.Base = base
		if p, found, err := repo.Find(context.Background(), c); err != nil || found != want || found && p.Base != base {
			t.Errorf("into %s: got %+v, %v, %v; want found %v", base, p, found, err, want)
		}
	}
}

// The open pull requests of an operation are listed under every name.
func TestOpenProposalsUnderEveryName(t *testing.T) {
	w := newWorld(t, nil)
	first := w.proposeAndWant(w.change("k1"), pullrequest.Created, w.change("k1").Branch())
	second := w.change("k2")
	w.push(second.Branch()+"/x", "x", "y")
	w.proposeAndWant(second, pullrequest.Created, under(second, 1).Branch())
	third := w.change("k3")
	w.push(third.Branch(), "x", "y")
	w.push(under(third, 1).Branch(), "x", "y")
	w.proposeAndWant(third, pullrequest.Created, under(third, 2).Branch())
	other := w.change("k4")
	other.Operation = "finalize"
	w.propose(other)
	w.proposeAndWant(w.change("k5"), pullrequest.Created, w.change("k5").Branch())
	w.ClosePull(len(w.Pulls()))

	repo, _ := w.open()
	list, err := repo.OpenProposals(context.Background(), "add-signer")
	var got []string
	for _, p := range list {
		got = append(got, p.Branch)
	}
	want := []string{under(third, 2).Branch(), under(second, 1).Branch(), first.Branch}
	if err != nil || !slices.EqualFunc(got, want, isBranch) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
