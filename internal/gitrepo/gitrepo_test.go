package gitrepo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/gitrepo"
)

// git runs git in dir as some person and gives what it prints.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=p", "-c", "user.email=p@example.invalid", "-c", "protocol.file.allow=always"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// repository has two commits on main, and a branch that is merged onto it.
func repository(t *testing.T) (dir, first, second, head string) {
	t.Helper()
	dir = t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	write(t, dir, "tools/signers.json", "one")
	write(t, dir, ":(glob)*.json", "odd name")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "first")
	first = git(t, dir, "rev-parse", "HEAD")
	git(t, dir, "checkout", "-q", "-b", "change")
	write(t, dir, "tools/signers.json", "two")
	git(t, dir, "commit", "-q", "-a", "-m", "change")
	head = git(t, dir, "rev-parse", "HEAD")
	git(t, dir, "checkout", "-q", "main")
	write(t, dir, "other", "x")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "second")
	second = git(t, dir, "rev-parse", "HEAD")
	git(t, dir, "merge", "-q", "--no-ff", "-m", "merge", "change")
	return dir, first, second, head
}

func TestReadFile(t *testing.T) {
	dir, first, _, head := repository(t)
	for commit, want := range map[string]string{first: "one", head: "two"} {
		text, found, err := gitrepo.ReadFile(t.Context(), dir, commit, "tools/signers.json", 100)
		if err != nil || !found || string(text) != want {
			t.Errorf("%q, %v, %v", text, found, err)
		}
	}
	if _, found, err := gitrepo.ReadFile(t.Context(), dir, first, "tools/none.json", 100); found || err != nil {
		t.Errorf("a missing file: %v, %v", found, err)
	}
	if text, found, err := gitrepo.ReadFile(t.Context(), dir, first, ":(glob)*.json", 100); !found || err != nil || string(text) != "odd name" {
		t.Errorf("a name like a pattern: %q, %v, %v", text, found, err)
	}
	if _, _, err := gitrepo.ReadFile(t.Context(), dir, first, "tools/signers.json", 2); err == nil || !strings.Contains(err.Error(), "larger than 2") {
		t.Errorf("an oversize file: %v", err)
	}
	if _, _, err := gitrepo.ReadFile(t.Context(), dir, first, "tools", 100); err == nil {
		t.Error("a folder was read")
	}
	if err := os.Symlink("signers.json", filepath.Join(dir, "tools", "link.json")); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "link")
	if _, _, err := gitrepo.ReadFile(t.Context(), dir, git(t, dir, "rev-parse", "HEAD"), "tools/link.json", 100); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a link: %v", err)
	}
}

func TestCommit(t *testing.T) {
	dir, first, _, head := repository(t)
	for revision, want := range map[string]string{first: first, first[:12]: first, "change": head, "main~1": git(t, dir, "rev-parse", "main~1")} {
		if got, err := gitrepo.Commit(t.Context(), dir, revision); err != nil || got != want {
			t.Errorf("%s: %s, %v", revision, got, err)
		}
	}
	for _, revision := range []string{"", "-h", "--all", "main..change", "$(id)", "a b", "main@{1}", "x;y"} {
		if got, err := gitrepo.Commit(t.Context(), dir, revision); err == nil || !strings.Contains(err.Error(), "is no commit") {
			t.Errorf("%q: %s, %v", revision, got, err)
		}
	}
	shallow := t.TempDir()
	git(t, shallow, "clone", "-q", "--depth=1", "file://"+dir, "c")
	if _, err := gitrepo.Commit(t.Context(), filepath.Join(shallow, "c"), first); err == nil || !strings.Contains(err.Error(), "fetch-depth: 2") {
		t.Errorf("a shallow checkout: %v", err)
	}
	if _, err := gitrepo.Commit(t.Context(), t.TempDir(), "main"); err == nil {
		t.Error("a folder without a repository has a commit")
	}
}

// Only the merge commit that GitHub makes for this very pull request tells the
// base: one that the pull request brings along has a first parent of its
// author's choice.
func TestMergeBase(t *testing.T) {
	dir, first, second, head := repository(t)
	if got := gitrepo.MergeBase(t.Context(), dir, head); got != second {
		t.Errorf("got %s, want %s", got, second)
	}
	for name, other := range map[string]string{"another head": first, "no head": ""} {
		if got := gitrepo.MergeBase(t.Context(), dir, other); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	git(t, dir, "checkout", "-q", "change")
	if got := gitrepo.MergeBase(t.Context(), dir, head); got != "" {
		t.Errorf("a commit that is no merge: %s", got)
	}
}
