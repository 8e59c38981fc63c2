package pullrequest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

const (
	branch = "audit-checkpoint"
	point  = "checkpoint.json"
)

func TestBranchFile(t *testing.T) {
	w := newWorld(t, nil)
	repo, _ := w.open()
	ctx := context.Background()
	if content, commit, found, err := repo.ReadBranchFile(ctx, branch, point, 100); content != nil || commit != "" || found || err != nil {
		t.Errorf("before: %q %q %v %v", content, commit, found, err)
	}
	first, err := repo.WriteBranchFile(ctx, branch, point, []byte("1"), "", "Checkpoint at 1")
	if err != nil {
		t.Fatal(err)
	}
	if head := w.Head(branch); head.ID != first || head.Parents != nil || !head.Verified {
		t.Errorf("%+v", head)
	}
	if _, found := w.File(branch, "README.md"); found {
		t.Error("the branch starts from the default branch's files")
	}
	second, err := repo.WriteBranchFile(ctx, branch, "notes/other.json", []byte("x"), first, "More")
	if err != nil {
		t.Fatal(err)
	}
	third, err := repo.WriteBranchFile(ctx, branch, point, []byte("2"), second, "Checkpoint at 2")
	if err != nil {
		t.Fatal(err)
	}
	if content, commit, found, err := repo.ReadBranchFile(ctx, branch, point, 100); string(content) != "2" || commit != third || !found || err != nil {
		t.Errorf("%q %q %v %v", content, commit, found, err)
	}
	if other, _ := w.File(branch, "notes/other.json"); other != "x" {
		t.Errorf("the other file of the branch holds %q", other)
	}

	for name, onto := range map[string]string{"stale": second, "unborn": "", "another's": w.Head("main").ID} {
		n := w.writes(func() {
			_, err := repo.WriteBranchFile(ctx, branch, point, []byte("3"), onto, "Checkpoint at 3")
			refused(t, err, 3, branch, "nothing was overwritten", "run again")
			if c, ok := errors.AsType[*pullrequest.Conflict](err); !ok || c.Want != onto || c.Have != third {
				t.Errorf("%s: %#v", name, err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %d writes", name, n)
		}
	}
	_, err = repo.WriteBranchFile(ctx, "gone", point, nil, first, "x")
	refused(t, err, 3, "is now missing")

	for name, write := range map[string]func() error{
		"default branch": func() error {
			_, err := repo.WriteBranchFile(ctx, "main", point, nil, w.Head("main").ID, "x")
			return err
		},
		"path":   func() error { _, err := repo.WriteBranchFile(ctx, branch, "../x", nil, third, "x"); return err },
		"branch": func() error { _, err := repo.WriteBranchFile(ctx, "a b", point, nil, third, "x"); return err },
		"onto":   func() error { _, err := repo.WriteBranchFile(ctx, branch, point, nil, "main", "x"); return err },
		"read":   func() error { _, _, _, err := repo.ReadBranchFile(ctx, "-x", point, 1); return err },
		"size":   func() error { _, _, _, err := repo.ReadBranchFile(ctx, branch, point, 0); return err },
	} {
		t.Run(name, func(t *testing.T) { refused(t, write(), 2) })
	}
}

// The race is lost after the tip was read: the swap itself must notice.
func TestBranchFileLosesARace(t *testing.T) {
	for _, exists := range []bool{false, true} {
		w := newWorld(t, nil)
		repo, _ := w.open()
		ctx, onto := context.Background(), ""
		if exists {
			onto, _ = w.CommitFile(branch, point, "1", "ann")
		}
		w.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
			if r.Method == "POST" && strings.HasSuffix(r.URL.Path, "/git/commits") {
				w.CommitFile(branch, point, "faster", "ben")
			}
			return nil
		})
		_, err := repo.WriteBranchFile(ctx, branch, point, []byte("slower"), onto, "x")
		refused(t, err, 3, "someone else was faster")
		if _, ok := errors.AsType[*pullrequest.Conflict](err); !ok {
			t.Errorf("%#v", err)
		}
		if got, _ := w.File(branch, point); got != "faster" {
			t.Errorf("the branch holds %q", got)
		}
	}
}

func TestBranchFileInParallel(t *testing.T) {
	w := newWorld(t, nil)
	onto := ""
	for round := range 5 {
		won := make([]string, 10)
		var all sync.WaitGroup
		for i := range won {
			repo, _ := w.open()
			all.Go(func() {
				commit, err := repo.WriteBranchFile(context.Background(), branch, point, fmt.Append(nil, round, i), onto, "x")
				if _, lost := errors.AsType[*pullrequest.Conflict](err); err != nil && !lost {
					t.Error(err)
				}
				won[i] = commit
			})
		}
		all.Wait()
		winners := 0
		for i, commit := range won {
			if commit != "" {
				winners++
				onto = commit
				if got, _ := w.File(branch, point); got != fmt.Sprint(round, i) {
					t.Errorf("the branch holds %q, run %d won", got, i)
				}
			}
		}
		if winners != 1 || w.Head(branch).ID != onto {
			t.Errorf("round %d: %d winners", round, winners)
		}
	}
}

func TestBranchFileGetsOverLostAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for name, fault := range passing {
		ctx, branch := context.Background(), "checkpoint/"+strings.ReplaceAll(name, " ", "-")
		repo, _ := w.open()
		w.SetFault(once(1, is("POST", "/git/refs"), fault))
		first, err := repo.WriteBranchFile(ctx, branch, point, []byte("1"), "", "x")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.SetFault(once(1, is("PATCH", "/git/refs/"), fault))
		second, err := repo.WriteBranchFile(ctx, branch, point, []byte("2"), first, "x")
		if err != nil || w.Head(branch).ID != second {
			t.Errorf("%s: %q is at %q, %v", name, branch, w.Head(branch).ID, err)
		}
	}
}

// The whole line of a branch is read, over more pages than one, and a list with a
// hole in it is none.
func TestLine(t *testing.T) {
	w := newWorld(t, nil)
	var ids []string
	for i := range 120 {
		id, err := w.CommitFile(branch, point, fmt.Sprint(i), "octocat")
		if err != nil {
			t.Fatal(err)
		}
		ids = append([]string{id}, ids...)
	}
	repo, _ := w.open()
	line, err := repo.Line(context.Background(), ids[0])
	if err != nil || len(line) != len(ids) {
		t.Fatal(len(line), err)
	}
	for i, step := range line {
		if step.ID != ids[i] || step.Merge || step.Message != "Update "+point {
			t.Errorf("%d: %+v", i, step)
		}
	}
	w.SetFault(once(2, is("GET", "/commits"), githubtest.Fault{Status: 200, Body: "[]"}))
	_, err = repo.Line(context.Background(), ids[0])
	refused(t, err, 3, "ends before", "run again")
	_, err = repo.Line(context.Background(), strings.Repeat("0", 40))
	refused(t, err, 3, "cannot list the commits")
}
