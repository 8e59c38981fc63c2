package pullrequest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
)

const (
	rotations = "kernel/tools/rotations"
	newRecord = rotations + "/2026.json"
	oldRecord = rotations + "/2025.json"
)

// cleared is a change that writes into the folder of records, whatever is in the
// folder's place.
func (w world) cleared(key string) pullrequest.Change {
	c := w.change(key)
	c.Files = map[string][]byte{registry: c.Files[registry], newRecord: []byte("{}\n")}
	c.Clear = []string{rotations}
	return c
}

// link makes the folder of records a symbolic link on main.
func (w world) link(target string) (commit string) {
	w.Helper()
	commit, err := w.CommitLink("main", rotations, target, "mallory")
	if err != nil {
		w.Fatal(err)
	}
	return commit
}

// listing is every path of a branch with its mode.
func (w world) listing(branch string) []string {
	w.Helper()
	return strings.Split(w.git("ls-tree", "-r", "--format=%(objectmode) %(path)", branch), "\n")
}

// Whatever is in the place of a folder is taken away, and our file is written below
// it. A folder is kept with what it holds. A rerun writes nothing.
func TestClear(t *testing.T) {
	for name, tc := range map[string]struct {
		put   func(w world)
		taken bool
		also  []string
	}{
		"nothing":         {func(world) {}, false, nil},
		"a folder":        {func(w world) { w.push("main", oldRecord, "{}\n") }, false, []string{"100644 " + oldRecord}},
		"a symbolic link": {func(w world) { w.link("../../README.md") }, true, nil},
		"a link to a folder": {func(w world) {
			w.push("main", "elsewhere/2025.json", "{}\n")
			w.link("../../elsewhere")
		}, true, []string{"100644 elsewhere/2025.json"}},
		"a submodule": {func(w world) {
			w.CommitSubmodule("main", rotations, w.Head("main").ID, "mallory")
		}, true, nil},
		"a file": {func(w world) { w.push("main", rotations, "{}\n") }, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			tc.put(w)
			c := w.cleared("k1")
			p := w.ensure(c)
			if p.State != pullrequest.Created || !slices.Equal(w.Head(p.Branch).Parents, []string{c.BaseCommit}) {
				t.Errorf("got %s on %v, want one created on %s", p.State, w.Head(p.Branch).Parents, c.BaseCommit)
			}
			want := append([]string{"100644 README.md", "100644 " + registry, "100644 " + newRecord}, tc.also...)
			slices.Sort(want)
			got := w.listing(p.Branch)
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			for _, r := range w.Requests() {
				if r.Operation != "git/create-tree" {
					continue
				}
				if taken := strings.Contains(r.Body, `"sha":null`); taken != tc.taken || r.Status != 201 {
					t.Errorf("got %s, answered %d; want the path taken away: %v", r.Body, r.Status, tc.taken)
				}
			}
			w.settled(c)

			repo, _ := w.open()
			text, tip, err := repo.Earlier(context.Background(), c, newRecord, 100, newRecord, registry)
			if err != nil || string(text) != "{}\n" || tip != p.Commit {
				t.Errorf("got %q at %s, %v; want what was written at %s", text, tip, err, p.Commit)
			}
			if _, err := w.Merge(p.Number); err != nil {
				t.Fatal(err)
			}
			got = w.listing("main")
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("got %q on main, want %q", got, want)
			}
			w.ensureQuietly(c, pullrequest.Merged)
			again := w.cleared("k1") // under another key: main has it all
			again.Key = "another"
			if p := w.ensureQuietly(again, pullrequest.Unchanged); p.Number != 0 {
				t.Errorf("got #%d, want none", p.Number)
			}
		})
	}
}

// A path is taken away only where the change says so.
func TestClearIsAskedFor(t *testing.T) {
	w := newWorld(t, nil)
	w.link("../../README.md")
	c := w.cleared("k1")
	c.Clear = nil
	repo, _ := w.open()
	n := w.writes(func() {
		_, err := repo.Ensure(context.Background(), c)
		refused(t, err, 2, newRecord, "leads through", "a symbolic link")
	})
	if n != 0 {
		t.Errorf("got %d writes, want none", n)
	}
}

// What is taken away is part of what was read: when it has changed on the base, the
// change is computed anew, and merges then.
func TestClearWhenTheBaseMoves(t *testing.T) {
	w := newWorld(t, nil)
	w.link("../../README.md")
	c := w.cleared("k1")
	first := w.ensure(c)

	w.push("main", "README.md", "other\n")
	w.ensureQuietly(c, pullrequest.Unchanged)

	moved := w.link("elsewhere")
	repo, _ := w.open()
	_, err := repo.Ensure(context.Background(), c)
	refused(t, err, 3, "branch main")
	if conflict, is := errors.AsType[*pullrequest.Conflict](err); !is || conflict.Have != moved {
		t.Errorf("got %#v, want a *Conflict at %s", err, moved)
	}
	c.BaseCommit = moved
	if p := w.ensure(c); p.State != pullrequest.Updated {
		t.Errorf("another link: got %s, want %s", p.State, pullrequest.Updated)
	}
	w.settled(c)

	// Somebody has put the folder back.
	w.git("update-ref", "refs/heads/main", w.git("commit-tree", first.Commit+"^{tree}", "-p", moved, "-m", "Repair"))
	w.push("main", registry, "[]\n")
	w.push("main", oldRecord, "{}\n")
	c.BaseCommit = w.Head("main").ID
	p := w.ensure(c)
	if p.State != pullrequest.Updated || p.Number != first.Number {
		t.Errorf("a folder: got #%d %s, want #%d %s", p.Number, p.State, first.Number, pullrequest.Updated)
	}
	w.settled(c)
	if _, err := w.Merge(p.Number); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{oldRecord, newRecord} {
		if _, found := w.File("main", path); !found {
			t.Errorf("%s is missing on main", path)
		}
	}
}

// A branch whose last commit says that it is ours, but which does not hold what our
// commit would, is brought back to that.
func TestClearWithForgedTrailers(t *testing.T) {
	for name, push := range map[string]func(w world, c pullrequest.Change){
		"another file in the folder": func(w world, c pullrequest.Change) {
			w.forge(c, c.BaseCommit, map[string]string{oldRecord: "{}\n"})
		},
		"other content": func(w world, c pullrequest.Change) {
			w.forge(c, c.BaseCommit, map[string]string{newRecord: "[]\n"})
		},
		"the link again": func(w world, c pullrequest.Change) {
			w.CommitLink(c.Branch(), rotations, "../../README.md", "mallory")
			w.forge(c, c.BaseCommit, nil)
		},
		"a file in place of the folder": func(w world, c pullrequest.Change) {
			w.git("update-ref", "refs/heads/"+c.Branch(), c.BaseCommit)
			w.push(c.Branch(), rotations, "{}\n")
			w.forge(c, c.BaseCommit, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.link("../../README.md")
			c := w.cleared("k1")
			made := w.ensure(c)
			want := w.listing(c.Branch())
			push(w, c)
			repo, _ := w.open()
			c.Tip = w.Head(c.Branch()).ID
			p, err := repo.Ensure(context.Background(), c)
			if err != nil || p.State != pullrequest.Updated || p.Number != made.Number {
				t.Errorf("got #%d %s, %v; want #%d %s", p.Number, p.State, err, made.Number, pullrequest.Updated)
			}
			if got := w.listing(c.Branch()); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// What is not a folder is reported; a folder, nothing, and what cannot be looked up
// are not.
func TestLink(t *testing.T) {
	w := newWorld(t, nil)
	w.link("../../README.md")
	if _, err := w.CommitSubmodule("main", "vendor", w.Head("main").ID, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CommitLink("main", "linked", "kernel", "ann"); err != nil {
		t.Fatal(err)
	}
	commit := w.Head("main").ID
	repo, _ := w.open()
	for _, tc := range []struct {
		name, commit, path string
		fails              bool
		is                 bool
	}{
		{"a symbolic link", commit, rotations, false, true},
		{"a link to a folder", commit, "linked", false, true},
		{"a submodule", commit, "vendor", false, true},
		{"a file", commit, registry, false, true},
		{"a folder", commit, "kernel/tools", false, false},
		{"nothing", commit, "none", false, false},
		{"nothing in a folder that is missing", commit, "none/x", false, false},
		{"below a file", commit, registry + "/x", false, false},
		{"through a link", commit, "linked/tools", true, false},
		{"through a submodule", commit, "vendor/x", true, false},
		{"a path that is refused", commit, "../x", true, false},
		{"a branch for a commit", "main", rotations, true, false},
		{"a commit that is missing", strings.Repeat("0", 40), rotations, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			is, err := repo.Link(context.Background(), tc.commit, tc.path)
			if is != tc.is || (err != nil) != tc.fails {
				t.Errorf("got %v, %v; want %v, an error: %v", is, err, tc.is, tc.fails)
			}
		})
	}
}
