package pullrequest_test

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
)

// forge lets somebody push files to a branch, on top of a commit that says of
// itself what one of ours does: that it is the change, on top of a base.
func (w world) forge(c pullrequest.Change, base string, files map[string]string) (commit string) {
	w.Helper()
	for path, text := range files {
		if _, err := w.CommitFile(c.Branch(), path, text, "mallory"); err != nil {
			w.Fatal(err)
		}
	}
	digest := sha256.New()
	paths := append(slices.Collect(maps.Keys(c.Files)), c.Clear...)
	slices.Sort(paths)
	for _, path := range paths {
		blob := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(c.Files[path]), c.Files[path]))
		fmt.Fprintf(digest, "%s\x00%x\n", path, blob)
	}
	tip := w.Head(c.Branch())
	message := fmt.Sprintf("x\n\nAudit-Signer-Operation: %s\nAudit-Signer-Base: %s\n"+
		"Audit-Signer-Files: %s\nAudit-Signer-Tree: %s\n",
		c.Branch(), base, hex.EncodeToString(digest.Sum(nil)), tip.Tree)
	commit = w.send("POST", "git/commits", map[string]any{
		"message": message, "tree": tip.Tree, "parents": []string{tip.ID},
	})
	w.send("PATCH", "git/refs/heads/"+c.Branch(), map[string]any{"sha": commit})
	return commit
}

// send talks to the API as another client, and returns the id of a git object.
func (w world) send(method, path string, body any) (id string) {
	w.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.Fatal(err)
	}
	req, _ := http.NewRequest(method, w.URL()+"/repos/acme/kernel/"+path, strings.NewReader(string(text)))
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json",
		"Accept": "application/vnd.github+json", "User-Agent": "mallory",
	} {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	var made struct{ SHA string }
	if err := json.NewDecoder(res.Body).Decode(&made); err != nil || res.StatusCode/100 != 2 {
		w.Fatal(res.Status, err)
	}
	return made.SHA
}

// A branch is left as it is only if its tree agrees with what its commit says of
// itself: a commit of the base with the files and nothing else. Otherwise what it
// should hold is put on top.
func TestForgedTrailers(t *testing.T) {
	const evil = ".github/workflows/evil.yml"
	same := func(c pullrequest.Change) map[string]string {
		return map[string]string{registry: string(c.Files[registry]), archive: string(c.Files[archive])}
	}
	for name, tc := range map[string]struct {
		push func(w world, c pullrequest.Change)
		want pullrequest.State
	}{
		"other files": {func(w world, c pullrequest.Change) {
			w.forge(c, c.BaseCommit, map[string]string{registry: `["ATTACKER"]`, archive: "{}\n"})
		}, pullrequest.Updated},
		"a file more": {func(w world, c pullrequest.Change) {
			files := same(c)
			files[evil] = "on: push\n"
			w.forge(c, c.BaseCommit, files)
		}, pullrequest.Updated},
		"a base of its own": {func(w world, c pullrequest.Change) {
			base, err := w.CommitFile(c.Branch(), evil, "on: push\n", "mallory")
			if err != nil {
				t.Fatal(err)
			}
			w.forge(c, base, same(c))
		}, pullrequest.Updated},
		"a link in place of the folder": {func(w world, c pullrequest.Change) {
			if _, err := w.CommitLink(c.Branch(), "kernel/tools", "elsewhere", "mallory"); err != nil {
				t.Fatal(err)
			}
			w.forge(c, c.BaseCommit, nil)
		}, pullrequest.Updated},
		"a base that is none": {func(w world, c pullrequest.Change) { w.forge(c, strings.Repeat("0", 40), same(c)) }, pullrequest.Updated},
		// The branch then holds what we would put there; who has is no matter.
		"the very same": {func(w world, c pullrequest.Change) { w.forge(c, c.BaseCommit, same(c)) }, pullrequest.Unchanged},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			c := w.change("k1")
			c.BaseCommit = w.Head("main").ID
			w.ensure(c)
			tc.push(w, c)
			if p := w.ensure(c); p.State != tc.want {
				t.Errorf("state %s, want %s", p.State, tc.want)
			}
			w.settled(c)
			if _, found := w.File(c.Branch(), evil); found {
				t.Error("what somebody else has put there stayed")
			}
		})
	}
}

// What an earlier run has left is read at the tip of the branch only, and only if
// the tip changes nothing but the files that it may. The tip itself is always told.
func TestEarlier(t *testing.T) {
	w := newWorld(t, nil)
	repo, _ := w.open()
	c := w.change("k1")
	look := func(c pullrequest.Change, want string) {
		t.Helper()
		got, tip, err := repo.Earlier(context.Background(), c, registry, 100, registry, archive)
		if err != nil || string(got) != want || (got == nil) != (want == "") || tip != w.Head(c.Branch()).ID {
			t.Errorf("got %q at %q, %v; want %q at %q", got, tip, err, want, w.Head(c.Branch()).ID)
		}
	}
	look(c, "") // there is no branch
	w.ensure(c)
	look(c, string(c.Files[registry]))
	c.Files[registry] = []byte("[2]\n")
	w.ensure(c)
	look(c, "[2]\n")
	if _, err := w.CommitFile("main", "README.md", "moved\n", "octocat"); err != nil {
		t.Fatal(err)
	}
	c.BaseCommit = w.Head("main").ID
	look(c, "[2]\n")
	w.forge(c, c.BaseCommit, map[string]string{registry: "[3]\n"}) // README.md is not main's
	look(c, "")
	w.forge(c, c.BaseCommit, map[string]string{"README.md": "moved\n"})
	look(c, "[3]\n")
	if _, err := w.CommitFile(c.Branch(), registry, "[4]\n", "ann"); err != nil {
		t.Fatal(err)
	}
	look(c, "") // nothing is taken from below a person's commit

	orphan := w.change("orphan")
	if _, err := w.CommitFile(orphan.Branch(), registry, "[5]\n", "ann"); err != nil {
		t.Fatal(err)
	}
	look(orphan, "")

	without := w.change("without the file")
	without.Files = map[string][]byte{archive: []byte("{}\n")}
	w.ensure(without)
	look(without, "[]\n") // the base's

	second := under(w.change("k2"), 1)
	look(second, "")
	w.ensure(second)
	look(second, string(second.Files[registry]))
	second.Name = ""
	look(second, "") // each name has a branch of its own
}
