package gitrepo_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/gitrepo"
)

// repo is a real repository with a working tree.
type repo struct {
	t   *testing.T
	dir string
}

func newRepo(t *testing.T) repo {
	t.Helper()
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.invalid",
		"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.invalid",
	} {
		t.Setenv(name, value)
	}
	r := repo{t, t.TempDir()}
	r.git("init", "--quiet", "--initial-branch=main")
	return r
}

func (r repo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes a file and commits everything.
func (r repo) commit(path, text string) string {
	r.t.Helper()
	full := filepath.Join(r.dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	r.git("add", "-A")
	r.git("commit", "--quiet", "-m", "change "+path)
	return r.git("rev-parse", "HEAD")
}

// refused wants an error with exit code 2 that says this.
func refused(t *testing.T, err error, says string) {
	t.Helper()
	var e *gitrepo.Error
	if !errors.As(err, &e) || e.ExitCode() != 2 || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %q", err, says)
	}
}

func TestCommit(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("a.json", "1")
	second := r.commit("a.json", "2")
	r.git("tag", "-a", "v1", "-m", "v1", first)
	r.git("branch", "release/1.x", first)
	for revision, want := range map[string]string{second: second, "main": second, "HEAD": second, "HEAD^1": first, "HEAD~1": first, "v1": first, "release/1.x": first, first[:12]: first} {
		if got, err := gitrepo.Commit(ctx, r.dir, revision); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", revision, got, err, want)
		}
	}
	for _, revision := range []string{"", "-x", "--upload-pack=touch pwned", "a b", "main..v1", "HEAD@{1}", ":a.json", "main:a.json", "é", strings.Repeat("a", 300), "a\nb"} {
		_, err := gitrepo.Commit(ctx, r.dir, revision)
		refused(t, err, "is no commit")
	}
	_, err := gitrepo.Commit(ctx, r.dir, "nowhere")
	refused(t, err, "check out with fetch-depth: 2")
	_, err = gitrepo.Commit(ctx, r.dir, strings.Repeat("0", 40))
	refused(t, err, "check out with fetch-depth: 2")
	_, err = gitrepo.Commit(ctx, r.dir, r.git("rev-parse", "HEAD^{tree}"))
	refused(t, err, "") // a tree is no commit
	_, err = gitrepo.Commit(ctx, t.TempDir(), "main")
	refused(t, err, "not a git repository")
}

func TestShallow(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("a.json", "1")
	second := r.commit("a.json", "2")
	dir := filepath.Join(t.TempDir(), "shallow")
	r.git("clone", "--quiet", "--depth=1", "file://"+r.dir, dir)
	if got, err := gitrepo.Commit(ctx, dir, second); err != nil || got != second {
		t.Errorf("%s, %v", got, err)
	}
	_, err := gitrepo.Commit(ctx, dir, first)
	refused(t, err, "does not hold commit "+first+": check out with fetch-depth: 2 (or 0)")
}

// Only the merge commit that GitHub makes for a pull request names its base.
func TestMergeBase(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	base := r.commit("a.json", "1")
	r.git("checkout", "--quiet", "-b", "change")
	head := r.commit("a.json", "2")
	if got := gitrepo.MergeBase(ctx, r.dir, head); got != "" {
		t.Errorf("a plain commit has base %s", got)
	}
	r.git("checkout", "--quiet", "--detach", base)
	r.git("merge", "--quiet", "--no-ff", "-m", "merge", head)
	if got := gitrepo.MergeBase(ctx, r.dir, head); got != base {
		t.Errorf("base %q, want %s", got, base)
	}
	for name, other := range map[string]string{"another head": base, "no head": "", "the merge itself": r.git("rev-parse", "HEAD"), "an option": "--all"} {
		if got := gitrepo.MergeBase(ctx, r.dir, other); got != "" {
			t.Errorf("%s: base %s", name, got)
		}
	}
	side := r.git("commit-tree", "-p", base, "-m", "side", "HEAD^{tree}")
	r.git("checkout", "--quiet", "--detach", r.git("commit-tree", "-p", base, "-p", head, "-p", side, "-m", "octopus", "HEAD^{tree}"))
	if got := gitrepo.MergeBase(ctx, r.dir, head); got != "" {
		t.Errorf("an octopus has base %s", got)
	}
	if got := gitrepo.MergeBase(ctx, t.TempDir(), head); got != "" {
		t.Errorf("without a repository: base %s", got)
	}
}

func TestReadFile(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("kernel/tools/signers.json", "one\r\n")
	r.commit("kernel/tools/*.json", "star")
	r.commit("big.json", strings.Repeat("x", 101))
	if err := os.Symlink("signers.json", filepath.Join(r.dir, "kernel/tools/link.json")); err != nil {
		t.Fatal(err)
	}
	r.commit("kernel/tools/signers.json", "two")
	r.git("update-index", "--add", "--cacheinfo", "160000,"+first+",module")
	r.git("commit", "--quiet", "-m", "a submodule")
	last := r.git("rev-parse", "HEAD")
	for _, tc := range []struct{ commit, path, want string }{
		{first, "kernel/tools/signers.json", "one\r\n"},
		{last, "kernel/tools/signers.json", "two"},
		{last, "./kernel/tools/signers.json", "two"},
		{last, "kernel/tools/*.json", "star"}, // a name, no pattern
	} {
		content, found, err := gitrepo.ReadFile(ctx, r.dir, tc.commit, tc.path, 100)
		if err != nil || !found || string(content) != tc.want {
			t.Errorf("%s: %q, %v, %v", tc.path, content, found, err)
		}
	}
	// What changes in the working tree changes nothing.
	if err := os.WriteFile(filepath.Join(r.dir, "kernel/tools/signers.json"), []byte("three"), 0o644); err != nil {
		t.Fatal(err)
	}
	if content, _, err := gitrepo.ReadFile(ctx, r.dir, last, "kernel/tools/signers.json", 100); string(content) != "two" {
		t.Errorf("%q, %v", content, err)
	}
	for _, path := range []string{"nothing.json", "kernel/tools/nothing/deep.json", "kernel/tools/s*.json", "-x", "kernel/tools/link.json/x"} {
		if content, found, err := gitrepo.ReadFile(ctx, r.dir, last, path, 100); found || err != nil || content != nil {
			t.Errorf("%s: %q, %v, %v", path, content, found, err)
		}
	}
	for path, says := range map[string]string{
		"kernel/tools":           "is no regular file",
		"kernel/tools/link.json": "is no regular file",
		"module":                 "is no regular file",
		"big.json":               "is larger than 100 bytes",
		"../outside.json":        "cannot list",
	} {
		_, _, err := gitrepo.ReadFile(ctx, r.dir, last, path, 100)
		refused(t, err, says)
	}
	_, _, err := gitrepo.ReadFile(ctx, r.dir, strings.Repeat("0", 40), "big.json", 100)
	refused(t, err, "cannot list")
}

// Configuration that a checkout brings along runs nothing, and a replaced
// object deceives nobody.
func TestHostileRepository(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("a.json", "genuine")
	second := r.commit("a.json", "forged")
	for name, value := range map[string]string{
		"core.pager": "touch pwned", "core.fsmonitor": "touch pwned", "core.sshCommand": "touch pwned", "filter.x.smudge": "touch pwned", "diff.external": "touch pwned", "alias.ls-tree": "!touch pwned", "alias.cat-file": "!touch pwned",
	} {
		r.git("config", name, value)
	}
	if err := os.WriteFile(filepath.Join(r.dir, ".gitattributes"), []byte("* filter=x diff=x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.git("replace", first, second)
	content, found, err := gitrepo.ReadFile(ctx, r.dir, first, "a.json", 100)
	if err != nil || !found || string(content) != "genuine" {
		t.Errorf("%q, %v, %v", content, found, err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "pwned")); err == nil {
		t.Error("a program was run")
	}
}

// Variables of the environment, which another step may have set, lead nowhere
// else and run nothing.
func TestHostileEnvironment(t *testing.T) {
	other := newRepo(t)
	other.commit("a.json", "forged")
	r, ctx := newRepo(t), context.Background()
	first := r.commit("a.json", "genuine")
	for name, value := range map[string]string{
		"GIT_DIR": filepath.Join(other.dir, ".git"), "GIT_WORK_TREE": other.dir, "GIT_OBJECT_DIRECTORY": filepath.Join(other.dir, ".git/objects"), "GIT_INDEX_FILE": "x", "GIT_NAMESPACE": "x",
		"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": "touch pwned", "GIT_CONFIG_PARAMETERS": "'core.pager=touch pwned'",
		"GIT_EXTERNAL_DIFF": "touch pwned", "GIT_PAGER": "touch pwned", "GIT_SSH_COMMAND": "touch pwned", "GIT_TRACE": filepath.Join(r.dir, "pwned"), "GIT_LITERAL_PATHSPECS": "1", "GIT_ICASE_PATHSPECS": "1",
	} {
		t.Setenv(name, value)
	}
	content, found, err := gitrepo.ReadFile(ctx, r.dir, first, "a.json", 100)
	if err != nil || !found || string(content) != "genuine" {
		t.Errorf("%q, %v, %v", content, found, err)
	}
	if head, err := gitrepo.Commit(ctx, r.dir, "HEAD"); err != nil || head != first {
		t.Errorf("HEAD is %s, %v", head, err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "pwned")); err == nil {
		t.Error("a program was run, or a trace written")
	}
}

// A folder of the checkout that looks like a bare repository, with settings
// that run a program, is none.
func TestBareRepositoryInside(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	r.commit("kernel/README.md", "x")
	bare := filepath.Join(r.dir, "kernel")
	r.git("init", "--quiet", "--bare", bare)
	evil := "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tfsmonitor = touch pwned\n"
	if err := os.WriteFile(filepath.Join(bare, "config"), []byte(evil), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := gitrepo.Commit(ctx, bare, "HEAD")
	refused(t, err, "cannot use bare repository")
}

func TestReadDir(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	r.commit("rotations/a.json", "one")
	r.commit("rotations/b.json", "")
	r.commit("rotations/c.json", "three\nlines\n\n")
	r.commit("rotations/README.md", strings.Repeat("x", 999))
	r.commit("rotations/deep/d.json", "no")
	r.commit("rotation/e.json", "no")
	commit := r.commit("rotations2/f.json", "no")
	files, err := gitrepo.ReadDir(ctx, r.dir, commit, "./rotations", ".json", 100)
	if err != nil || len(files) != 3 || string(files["a.json"]) != "one" || string(files["b.json"]) != "" || string(files["c.json"]) != "three\nlines\n\n" {
		t.Errorf("%q, %v", files, err)
	}
	for _, folder := range []string{"nothing", "rotations/a.json", "-x", "rotations*"} {
		if files, err := gitrepo.ReadDir(ctx, r.dir, commit, folder, ".json", 100); err != nil || len(files) > 0 {
			t.Errorf("%s: %q, %v", folder, files, err)
		}
	}
	_, err = gitrepo.ReadDir(ctx, r.dir, commit, "rotations", ".json", 10)
	refused(t, err, "larger than 10 bytes")
	_, err = gitrepo.ReadDir(ctx, r.dir, strings.Repeat("0", 40), "rotations", ".json", 10)
	refused(t, err, "cannot list")
	if err := os.Symlink("/etc/passwd", filepath.Join(r.dir, "rotations/l.json")); err != nil {
		t.Fatal(err)
	}
	_, err = gitrepo.ReadDir(ctx, r.dir, r.commit("x", "x"), "rotations", ".json", 100)
	refused(t, err, "is no regular file")
}

func TestChanged(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	r.commit("gone.json", "1")
	first := r.commit("a.json", "1")
	r.git("rm", "--quiet", "gone.json")
	r.commit("b c/\u00e9\u202e.json", "1")
	r.commit("a.json", "2")
	if err := os.Chmod(filepath.Join(r.dir, "a.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.git("add", "a.json")
	r.git("commit", "--quiet", "-m", "mode")
	head := r.git("rev-parse", "HEAD")
	want := []gitrepo.Change{{Path: "a.json", Executable: true}, {Path: "b c/\u00e9\u202e.json"}, {Path: "gone.json", Removed: true}}
	if got, err := gitrepo.Changed(ctx, r.dir, first, head); err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	// What the base has gained since is not the change's.
	r.git("checkout", "--quiet", "-b", "base", first)
	base := r.commit("other.json", "1")
	if got, err := gitrepo.Changed(ctx, r.dir, base, head); err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	// Of a history that ends before the common commit, the trees are compared.
	dir := filepath.Join(t.TempDir(), "shallow")
	r.git("clone", "--quiet", "--depth=1", "--no-single-branch", "file://"+r.dir, dir)
	if got, err := gitrepo.Changed(ctx, dir, base, head); err != nil || !slices.Equal(got, append(slices.Clone(want), gitrepo.Change{Path: "other.json", Removed: true})) {
		t.Errorf("%+v, %v", got, err)
	}
	_, err := gitrepo.Changed(ctx, r.dir, strings.Repeat("0", 40), head)
	refused(t, err, "cannot compare")
}

func TestFirstParents(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("a", "1")
	r.git("checkout", "--quiet", "-b", "side")
	r.commit("b", "1")
	r.git("checkout", "--quiet", "main")
	r.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
	merge := r.git("rev-parse", "HEAD")
	last := r.commit("a", "2")
	if got := gitrepo.FirstParents(ctx, r.dir, first, last, 2); !slices.Equal(got, []string{merge, last}) {
		t.Errorf("%q", got)
	}
	for _, got := range [][]string{
		gitrepo.FirstParents(ctx, r.dir, first, last, 1), gitrepo.FirstParents(ctx, r.dir, r.git("rev-parse", "side"), last, 9), gitrepo.FirstParents(ctx, r.dir, first, strings.Repeat("0", 40), 9),
	} {
		if len(got) > 0 {
			t.Errorf("%q", got)
		}
	}
}

func TestPrefix(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	r.commit("a b/c/x", "1")
	for dir, want := range map[string]string{r.dir: "", filepath.Join(r.dir, "a b/c"): "a b/c/", t.TempDir(): ""} {
		if got := gitrepo.Prefix(ctx, dir); got != want {
			t.Errorf("%s: %q", dir, got)
		}
	}
}

func TestWithoutGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := gitrepo.Commit(context.Background(), ".", "main")
	refused(t, err, "git is not installed")
}
