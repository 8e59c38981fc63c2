package pullrequest_test

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
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
	for _, path := range []string{archive, registry} { // sorted
		blob := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(c.Files[path]), c.Files[path]))
		fmt.Fprintf(digest, "%s\x00%x\n", path, blob)
	}
	tip := w.Head(c.Branch())
	message := fmt.Sprintf("x\n\nAudit-Signer-Operation: %s\nAudit-Signer-Base: %s\nAudit-Signer-Files: %s\nAudit-Signer-Tree: %s\n",
		c.Branch(), base, hex.EncodeToString(digest.Sum(nil)), tip.Tree)
	commit = w.send("POST", "commits", map[string]any{"message": message, "tree": tip.Tree, "parents": []string{tip.ID}})
	w.send("PATCH", "refs/heads/"+c.Branch(), map[string]any{"sha": commit})
	return commit
}

// send talks to the Git Data API as another client, and gives the object's id.
func (w world) send(method, path string, body any) (id string) {
	w.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.Fatal(err)
	}
	req, _ := http.NewRequest(method, w.URL()+"/repos/acme/kernel/git/"+path, strings.NewReader(string(text)))
	for name, value := range map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/vnd.github+json", "User-Agent": "mallory"} {
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

// What stands in a branch is taken over only from commits that touch nothing but
// the files they may, the newest first, and from none below a stranger's.
func TestEarlier(t *testing.T) {
	w := newWorld(t, nil)
	repo, _ := w.open()
	c := w.change("k1")
	look := func(want ...string) {
		t.Helper()
		versions, tip, err := repo.Earlier(context.Background(), c, registry, 100, registry, archive)
		var got []string
		for _, v := range versions {
			got = append(got, strings.TrimSpace(string(v)))
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || tip != w.Head(c.Branch()).ID {
			t.Errorf("%q %v %v, want %q", got, tip, err, want)
		}
	}
	look()
	w.ensure(c)
	look(`["k1"]`)
	c.Files[registry] = []byte("[2]\n")
	w.ensure(c)
	look("[2]", `["k1"]`)
	if _, err := w.CommitFile("main", "README.md", "moved\n", "octocat"); err != nil {
		t.Fatal(err)
	}
	c.BaseCommit = w.Head("main").ID
	look("[2]", `["k1"]`)
	w.forge(c, c.BaseCommit, map[string]string{registry: "[3]\n"}) // README.md is not main's
	look()
	w.forge(c, c.BaseCommit, map[string]string{"README.md": "moved\n"})
	look("[3]", "[2]", `["k1"]`)
	if _, err := w.CommitFile(c.Branch(), registry, "[4]\n", "ann"); err != nil {
		t.Fatal(err)
	}
	look()
	c.Key = "orphan"
	if _, err := w.CommitFile(c.Branch(), registry, "[5]\n", "ann"); err != nil {
		t.Fatal(err)
	}
	look()
}
