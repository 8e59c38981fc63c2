package gitrepo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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

// link adds a symbolic link to the working tree.
func (r repo) link(target, path string) {
	r.t.Helper()
	if err := os.Symlink(target, filepath.Join(r.dir, path)); err != nil {
		r.t.Fatal(err)
	}
}

// submodule adds a submodule to the index, at a commit.
func (r repo) submodule(path, commit string) {
	r.t.Helper()
	r.git("update-index", "--add", "--cacheinfo", "160000,"+commit+","+path)
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
	refused(t, err, "check out with fetch-depth: 0, or give base-ref")
	_, err = gitrepo.Commit(ctx, r.dir, strings.Repeat("0", 40))
	refused(t, err, "check out with fetch-depth: 0, or give base-ref")
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
	refused(t, err, "does not hold commit "+first+": check out with fetch-depth: 0")
}

func TestReadFile(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("kernel/tools/signers.json", "one\r\n")
	r.commit("kernel/tools/*.json", "star")
	r.commit("big.json", strings.Repeat("x", 101))
	r.link("signers.json", "kernel/tools/link.json")
	r.commit("kernel/tools/signers.json", "two")
	r.submodule("module", first)
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
	for _, path := range []string{"nothing.json", "kernel/tools/nothing/deep.json", "kernel/tools/s*.json", "-x", "big.json/x"} {
		if content, found, err := gitrepo.ReadFile(ctx, r.dir, last, path, 100); found || err != nil || content != nil {
			t.Errorf("%s: %q, %v, %v", path, content, found, err)
		}
	}
	for path, says := range map[string]string{
		"kernel/tools":           `"kernel/tools" is a folder, no regular file`,
		"kernel/tools/link.json": `"kernel/tools/link.json" is a symbolic link, no regular file`,
		"module":                 `"module" is a submodule, no regular file`,
		"big.json":               "is larger than 100 bytes",
		"../outside.json":        "leads out of the checkout",
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
	for _, folder := range []string{"nothing", "nothing/deep", "rotations/a.json/deep", "-x", "rotations*"} {
		if files, err := gitrepo.ReadDir(ctx, r.dir, commit, folder, ".json", 100); err != nil || len(files) > 0 {
			t.Errorf("%s: %q, %v", folder, files, err)
		}
	}
	_, err = gitrepo.ReadDir(ctx, r.dir, commit, "rotations/a.json", ".json", 100)
	refused(t, err, `"rotations/a.json" is of mode 100644, no folder`)
	_, err = gitrepo.ReadDir(ctx, r.dir, commit, "rotations", ".json", 10)
	refused(t, err, "larger than 10 bytes")
	_, err = gitrepo.ReadDir(ctx, r.dir, strings.Repeat("0", 40), "rotations", ".json", 10)
	refused(t, err, "cannot list")
	r.link("/etc/passwd", "rotations/l.json")
	_, err = gitrepo.ReadDir(ctx, r.dir, r.commit("x", "x"), "rotations", ".json", 100)
	refused(t, err, `"rotations/l.json" is a symbolic link, no regular file`)
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
	r.link("a.json", "link")
	r.git("add", "a.json", "link")
	r.submodule("module", first)
	r.git("commit", "--quiet", "-m", "mode")
	head := r.git("rev-parse", "HEAD")
	want := []gitrepo.Change{
		{Path: "a.json", Mode: "100755"}, {Path: "b c/\u00e9\u202e.json", Mode: "100644"}, {Path: "gone.json"},
		{Path: "link", Mode: "120000"}, {Path: "module", Mode: "160000"},
	}
	if got, err := gitrepo.Changed(ctx, r.dir, first, head); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	// Seen from a folder, the paths are those of the whole repository.
	if got, err := gitrepo.Changed(ctx, filepath.Join(r.dir, "b c"), first, head); err != nil || !slices.Equal(got, want) {
		t.Errorf("in a folder: got %+v, %v, want %+v", got, err, want)
	}
	if got, err := gitrepo.Changed(ctx, r.dir, head, head); err != nil || len(got) > 0 {
		t.Errorf("a commit and itself: got %+v, %v, want no change", got, err)
	}
	// Two commits are compared as they are. What only the older one has is removed,
	// even where neither is in the history of the other.
	want = append(want, gitrepo.Change{Path: "other.json"})
	r.git("checkout", "--quiet", "-f", "-b", "base", first)
	base := r.commit("other.json", "1")
	if got, err := gitrepo.Changed(ctx, r.dir, base, head); err != nil || !slices.Equal(got, want) {
		t.Errorf("two branches: got %+v, %v, want %+v", got, err, want)
	}
	// It needs no history.
	dir := filepath.Join(t.TempDir(), "shallow")
	r.git("clone", "--quiet", "--depth=1", "--no-single-branch", "file://"+r.dir, dir)
	if got, err := gitrepo.Changed(ctx, dir, base, head); err != nil || !slices.Equal(got, want) {
		t.Errorf("a shallow checkout: got %+v, %v, want %+v", got, err, want)
	}
	_, err := gitrepo.Changed(ctx, r.dir, strings.Repeat("0", 40), head)
	refused(t, err, "git cannot compare the commits 000000000000 and "+head[:12])
}

func TestFirstParents(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("a", "1")
	r.git("checkout", "--quiet", "-b", "side")
	side := r.commit("b", "1")
	r.git("checkout", "--quiet", "main")
	r.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
	merge := r.git("rev-parse", "HEAD")
	last := r.commit("a", "2")
	for _, tc := range []struct {
		name, from, to string
		limit          int
		want           []string
	}{
		{"the oldest first, without the branch that was merged", first, last, 2, []string{merge, last}},
		{"more than the limit", first, last, 1, nil},
		{"a commit of the branch that was merged", side, last, 9, nil},
		{"a commit that is newer", last, first, 9, nil},
		{"the commit itself", last, last, 9, nil},
	} {
		if got, err := gitrepo.FirstParents(ctx, r.dir, tc.from, tc.to, tc.limit); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, %v, want %q", tc.name, got, err, tc.want)
		}
	}
	_, err := gitrepo.FirstParents(ctx, r.dir, first, strings.Repeat("0", 40), 9)
	refused(t, err, "git cannot list the history of commit 000000000000")
}

func TestHolds(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	r.commit("kernel/tools/signers.json", "1")
	commit := r.commit("first", "1")
	for name, want := range map[string]bool{
		"signers.json": true, "first": true, "igners.json": false, "signers": false, "tools": false, "*": false, "other.json": false,
	} {
		for _, dir := range []string{r.dir, filepath.Join(r.dir, "kernel/tools")} {
			if got, err := gitrepo.Holds(ctx, dir, commit, name); err != nil || got != want {
				t.Errorf("%s, in %s: got %v, %v, want %v", name, dir, got, err, want)
			}
		}
	}
	_, err := gitrepo.Holds(ctx, r.dir, strings.Repeat("0", 40), "first")
	refused(t, err, "git cannot list commit 000000000000")
}

func TestPrefix(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	r.commit("a b/c/x", "1")
	for dir, want := range map[string]string{r.dir: "", filepath.Join(r.dir, "a b/c"): "a b/c/"} {
		if got, err := gitrepo.Prefix(ctx, dir); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", dir, got, err, want)
		}
	}
	_, err := gitrepo.Prefix(ctx, t.TempDir())
	refused(t, err, "not a git repository")
}

// A link or a submodule on the way to a path is an error: what is behind it is not
// looked at, and "there is none" would be wrong.
func TestLinksOnTheWay(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("kernel/tools/rotations/a.json", "{}")
	r.commit("kernel/tools/signers.json", "{}")
	r.link("kernel", "link")
	r.link("nowhere", "dangling")
	r.link("/etc", "kernel/absolute")
	r.link("rotations", "kernel/tools/records")
	r.link("a.json", "kernel/tools/rotations/b.json")
	r.git("add", "-A")
	r.submodule("module", first)
	r.submodule("kernel/module", first)
	r.git("commit", "--quiet", "-m", "links and submodules")
	commit := r.git("rev-parse", "HEAD")
	const (
		link      = `(a symbolic link) in commit %s; links and submodules are refused: make it a plain folder`
		submodule = `(a submodule) in commit %s; links and submodules are refused: make it a plain folder`
	)
	through := func(path, leads, what string) string {
		return strconv.Quote(path) + " leads through " + leads + " " + strings.Replace(what, "%s", commit[:12], 1)
	}
	for _, tc := range []struct{ path, file, folder string }{
		{"link/tools/x", through("link/tools/x", "link", link), ""},
		{"link/tools", through("link/tools", "link", link), ""},
		{"link/none/x", through("link/none/x", "link", link), ""},
		{"dangling/x", through("dangling/x", "dangling", link), ""},
		{"kernel/absolute/passwd", through("kernel/absolute/passwd", "kernel/absolute", link), ""},
		{"kernel/tools/records/a.json", through("kernel/tools/records/a.json", "kernel/tools/records", link), ""},
		{"module/x", through("module/x", "module", submodule), ""},
		{"kernel/module/deep/x", through("kernel/module/deep/x", "kernel/module", submodule), ""},

		// The end of the path.
		{"link", `"link" is a symbolic link, no regular file`, `"link" is a symbolic link, no folder`},
		{"dangling", `"dangling" is a symbolic link, no regular file`, `"dangling" is a symbolic link, no folder`},
		{"kernel/tools/records", `"kernel/tools/records" is a symbolic link, no regular file`,
			`"kernel/tools/records" is a symbolic link, no folder`},
		{"module", `"module" is a submodule, no regular file`, `"module" is a submodule, no folder`},
		{"kernel/module", `"kernel/module" is a submodule, no regular file`, `"kernel/module" is a submodule, no folder`},
		{"kernel/tools/rotations", `"kernel/tools/rotations" is a folder, no regular file`,
			`"kernel/tools/rotations/b.json" is a symbolic link, no regular file`},
	} {
		content, found, err := gitrepo.ReadFile(ctx, r.dir, commit, tc.path, 100)
		if refused(t, err, tc.file); found || content != nil {
			t.Errorf("file %s: got %q, found %v, want none", tc.path, content, found)
		}
		if tc.folder == "" {
			tc.folder = tc.file
		}
		for _, path := range []string{tc.path, "./" + tc.path + "/"} {
			files, err := gitrepo.ReadDir(ctx, r.dir, commit, path, ".json", 100)
			if refused(t, err, tc.folder); files != nil {
				t.Errorf("folder %s: got %q, want none", path, files)
			}
		}
	}
	// From a folder, the way begins there.
	_, _, err := gitrepo.ReadFile(ctx, filepath.Join(r.dir, "kernel"), commit, "absolute/passwd", 100)
	refused(t, err, `"absolute/passwd" leads through absolute (a symbolic link)`)
	_, err = gitrepo.ReadDir(ctx, filepath.Join(r.dir, "kernel"), commit, "tools/records", ".json", 100)
	refused(t, err, `"tools/records" is a symbolic link, no folder`)
	content, found, err := gitrepo.ReadFile(ctx, filepath.Join(r.dir, "kernel/tools"), commit, "signers.json", 100)
	if err != nil || !found || string(content) != "{}" {
		t.Errorf("in a folder: got %q, %v, %v, want {}", content, found, err)
	}
	// A commit in which the same places are plain is read.
	for _, path := range []string{"kernel/tools/rotations/a.json", "./kernel/tools/rotations/a.json"} {
		content, found, err := gitrepo.ReadFile(ctx, r.dir, first, path, 100)
		if err != nil || !found || string(content) != "{}" {
			t.Errorf("%s: got %q, %v, %v, want {}", path, content, found, err)
		}
	}
	files, err := gitrepo.ReadDir(ctx, r.dir, first, "kernel/tools/rotations", ".json", 100)
	if err != nil || len(files) != 1 || string(files["a.json"]) != "{}" {
		t.Errorf("got %q, %v, want a.json", files, err)
	}
}

// clock sets the time of the next commits.
func (r repo) clock(time string) {
	r.t.Helper()
	r.t.Setenv("GIT_COMMITTER_DATE", time)
	r.t.Setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z") // it does not count
}

// mergeAt merges a branch into the one that is checked out.
func (r repo) mergeAt(time, branch string, options ...string) string {
	r.t.Helper()
	r.clock(time)
	r.git(slices.Concat([]string{"merge", "--quiet", "--no-ff", "-m", "merge " + branch}, options, []string{branch})...)
	return r.git("rev-parse", "HEAD")
}

func (r repo) commitAt(time, path, text string) string {
	r.t.Helper()
	r.clock(time)
	return r.commit(path, text)
}

func TestArrived(t *testing.T) {
	const record = "rotations/a.json"
	r, ctx := newRepo(t), context.Background()
	r.commitAt("2026-01-01T00:00:00Z", "README.md", "1")

	// A pull request adds the record on 2 January; it is merged on 5 January.
	r.git("checkout", "--quiet", "-b", "add")
	add := r.commitAt("2026-01-02T00:00:00Z", record, "1")
	r.git("checkout", "--quiet", "main")
	other := r.commitAt("2026-01-04T00:00:00Z", "README.md", "2")
	merged := r.mergeAt("2026-01-05T00:00:00Z", "add")
	later := r.commitAt("2026-01-06T00:00:00Z", "README.md", "3")

	// Another one changes it; main is merged into its branch, then the branch into main.
	r.git("checkout", "--quiet", "-b", "change")
	r.commitAt("2026-01-07T00:00:00Z", record, "2")
	r.git("checkout", "--quiet", "main")
	r.commitAt("2026-01-08T00:00:00Z", "README.md", "4")
	r.git("checkout", "--quiet", "change")
	branch := r.mergeAt("2026-01-09T00:00:00Z", "main")
	r.git("checkout", "--quiet", "main")
	changed := r.mergeAt("2026-01-10T00:00:00Z", "change")

	// A merge that takes nothing of its branch changes nothing.
	r.git("checkout", "--quiet", "-b", "dropped")
	r.commitAt("2026-01-11T00:00:00Z", record, "3")
	r.git("checkout", "--quiet", "main")
	ours := r.mergeAt("2026-01-12T00:00:00Z", "dropped", "--strategy=ours")

	// The time of a commit in a branch is its author's to choose.
	r.git("checkout", "--quiet", "-b", "future")
	r.commitAt("2030-01-01T00:00:00Z", "future.json", "1")
	r.git("checkout", "--quiet", "main")
	future := r.mergeAt("2026-01-13T00:00:00Z", "future")

	// Somebody pushes to main with a time that has passed long ago.
	backDated := r.commitAt("2020-01-01T00:00:00Z", record, "4")
	afterwards := r.commitAt("2020-02-01T00:00:00Z", "README.md", "5")
	// So it is after an honest commit, and with a name that looks like a pattern.
	honest := r.commitAt("2026-01-20T00:00:00Z", "README.md", "6")
	pattern := r.commitAt("2019-01-01T00:00:00Z", "rotations/*.json", "1")
	r.git("rm", "--quiet", record)
	r.commitAt("2026-01-21T00:00:00Z", "README.md", "7")
	again := r.commitAt("2026-01-22T00:00:00Z", record, "1")

	for _, tc := range []struct{ name, commit, path, want string }{
		{"in the branch, before the merge", add, record, "2026-01-02"},
		{"merged: the time of the merge counts", merged, record, "2026-01-05"},
		{"other files have changed since", later, record, "2026-01-05"},
		{"another file", later, "README.md", "2026-01-06"},
		{"a merge does not change what main has already", merged, "README.md", "2026-01-04"},
		{"in the branch, with main merged into it", branch, record, "2026-01-07"},
		{"in the branch, a file that came with main", branch, "README.md", "2026-01-09"},
		{"changed by a merge", changed, record, "2026-01-10"},
		{"a merge that takes nothing of its branch", ours, record, "2026-01-10"},
		{"post-dated in the branch: the time of the merge counts", future, "future.json", "2026-01-13"},
		{"back-dated: the time of the commit before it counts", backDated, record, "2026-01-13"},
		{"back-dated, other files have changed since", afterwards, record, "2026-01-13"},
		{"back-dated twice in a row", afterwards, "README.md", "2026-01-13"},
		{"an honest commit after a back-dated one", honest, "README.md", "2026-01-20"},
		{"back-dated, and an honest commit since", honest, record, "2026-01-13"},
		{"a name that looks like a pattern", pattern, "rotations/*.json", "2026-01-20"},
		{"added again as it was", again, record, "2026-01-22"},
		{"a folder", again, "rotations", "2026-01-22"},
	} {
		want, err := time.Parse(time.DateOnly, tc.want)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{r.dir, filepath.Join(r.dir, "rotations")} {
			got, err := gitrepo.Arrived(ctx, dir, tc.commit, tc.path, time.Now())
			if err != nil || !got.Equal(want) || got.Location() != time.UTC {
				t.Errorf("%s, in %s: got %v, %v, want %v", tc.name, filepath.Base(dir), got, err, want)
			}
		}
	}

	unknown := strings.Repeat("1", 40)
	shallow := func(depth string) string {
		dir := t.TempDir()
		r.git("clone", "--quiet", "--depth="+depth, "file://"+r.dir, dir)
		return dir
	}
	broken := repo{t, t.TempDir()}
	r.git("clone", "--quiet", "--no-hardlinks", r.dir, broken.dir) // its objects are files, as here
	broken.remove(other)
	const tooShallow = "this checkout is shallow, so its history is not here: check out with fetch-depth: 0"
	const neverThere = "no commit of its history has it; check out with fetch-depth: 0"
	for _, tc := range []struct{ name, dir, commit, path, says string }{
		{"a file that no commit has", r.dir, again, "rotations/none.json", neverThere},
		{"a file that only a later commit has", r.dir, other, record, neverThere},
		{"a file by the pattern of its name", r.dir, again, "rotations/?.json", neverThere},
		{"an unknown commit", r.dir, unknown, record, "bad object " + unknown},
		{"a shallow checkout", shallow("1"), again, record, tooShallow},
		{"a shallow checkout, the change is in it", shallow("3"), again, record, tooShallow},
		{"a shallow checkout, a file that no commit has", shallow("1"), again, "rotations/none.json", neverThere},
		{"a commit before it is missing", broken.dir, merged, record, "Could not read " + other},
		{"no repository", t.TempDir(), again, record, "not a git repository"},
	} {
		got, err := gitrepo.Arrived(ctx, tc.dir, tc.commit, tc.path, time.Now())
		if !got.IsZero() {
			t.Errorf("%s: got %v, want no time", tc.name, got)
		}
		refused(t, err, "git cannot tell since when "+strconv.Quote(tc.path)+" is as it is in commit "+tc.commit[:12]+": ")
		refused(t, err, tc.says)
	}
}

// A partial clone lacks files. The error names that, and nothing is asked of the
// remote, be it there or not.
func TestPartialClone(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("rotations/a.json", "1")
	last := r.commit("rotations/a.json", "2")
	r.git("config", "uploadpack.allowFilter", "true")
	clone := func(filter string) string {
		dir := t.TempDir()
		r.git("clone", "--quiet", "--no-checkout", "--filter="+filter, "file://"+r.dir, dir)
		return dir
	}
	blobless, treeless := clone("blob:none"), clone("tree:0")
	const partial = "This is a partial clone, which lacks objects: take filter and sparse-checkout out of the checkout step"
	check := func(state string) {
		t.Helper()
		for _, dir := range []string{blobless, treeless} {
			_, found, err := gitrepo.ReadFile(ctx, dir, last, "rotations/a.json", 100)
			if refused(t, err, partial); found {
				t.Errorf("%s: ReadFile: found, want an error", state)
			}
			_, err = gitrepo.ReadDir(ctx, dir, last, "rotations", ".json", 100)
			refused(t, err, partial)
		}
		_, err := gitrepo.Changed(ctx, treeless, first, last)
		refused(t, err, partial)
		_, err = gitrepo.Arrived(ctx, treeless, last, "rotations/a.json", time.Now())
		refused(t, err, partial)
		_, err = gitrepo.Holds(ctx, treeless, last, "a.json")
		refused(t, err, partial)
		// What needs no files passes.
		want := []gitrepo.Change{{Path: "rotations/a.json", Mode: "100644"}}
		if got, err := gitrepo.Changed(ctx, blobless, first, last); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: Changed: got %+v, %v, want %+v", state, got, err, want)
		}
		event := gitrepo.Event{Name: "push", Base: first, Head: last, SHA: last}
		for _, dir := range []string{blobless, treeless} {
			if got, err := gitrepo.Relate(ctx, dir, event); err != nil || got != (gitrepo.Pair{Base: first, Head: last}) {
				t.Errorf("%s: Relate: got %+v, %v, want %s and %s", state, got, err, first, last)
			}
		}
	}
	check("with the remote")
	if err := os.RemoveAll(r.dir); err != nil {
		t.Fatal(err)
	}
	check("without the remote")
}

// Where git cannot read an object, that is an error, and never "there is none".
func TestBrokenRepository(t *testing.T) {
	const root, folder, file = "HEAD^{tree}", "HEAD:rotations", "HEAD:rotations/a.json"
	for _, object := range []string{root, folder, file} {
		for how, change := range map[string]func(repo, string){"missing": repo.remove, "spoilt": repo.spoil} {
			t.Run(object+" is "+how, func(t *testing.T) {
				r, ctx := newRepo(t), context.Background()
				first := r.commit("a.json", "1")
				commit := r.commit("rotations/a.json", "2")
				change(r, r.git("rev-parse", object))
				for _, tc := range []struct {
					name, says string
					// want is the answer where nothing but the file cannot be read, "" if
					// that is an error too.
					want string
					ask  func() (any, error)
				}{
					{"ReadFile", "of commit " + commit[:12], "", func() (any, error) {
						content, found, err := gitrepo.ReadFile(ctx, r.dir, commit, "rotations/a.json", 100)
						return fmt.Sprintf("%q, %v", content, found), err
					}},
					{"ReadFile of a file that is not there", "of commit " + commit[:12], `"", false`, func() (any, error) {
						content, found, err := gitrepo.ReadFile(ctx, r.dir, commit, "rotations/none.json", 100)
						return fmt.Sprintf("%q, %v", content, found), err
					}},
					{"ReadDir", "commit " + commit[:12], "", func() (any, error) {
						return gitrepo.ReadDir(ctx, r.dir, commit, "rotations", ".json", 100)
					}},
					{"Changed", "git cannot compare the commits " + first[:12] + " and " + commit[:12], "[{rotations/a.json 100644}]",
						func() (any, error) { return gitrepo.Changed(ctx, r.dir, first, commit) }},
					{"Holds", "git cannot list commit " + commit[:12], "false", func() (any, error) {
						return gitrepo.Holds(ctx, r.dir, commit, "none.json")
					}},
				} {
					got, err := tc.ask()
					switch {
					case object != file || tc.want == "":
						refused(t, err, tc.says)
					case err != nil || fmt.Sprint(got) != tc.want:
						t.Errorf("%s: got %v, %v, want %s", tc.name, got, err, tc.want)
					}
				}
			})
		}
	}
}

// The same holds for commits.
func TestBrokenHistory(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("a.json", "1")
	second := r.commit("a.json", "2")
	last := r.commit("a.json", "3")
	r.spoil(second)
	_, err := gitrepo.Commit(ctx, r.dir, second)
	refused(t, err, "git cannot look up commit "+second+": error: inflate")
	_, err = gitrepo.Commit(ctx, r.dir, "HEAD~1")
	refused(t, err, "git cannot look up commit HEAD~1: error: inflate")
	steps, err := gitrepo.FirstParents(ctx, r.dir, first, last, 9)
	if refused(t, err, "git cannot list the history of commit "+last[:12]); steps != nil {
		t.Errorf("got %q, want none", steps)
	}
	_, err = gitrepo.Arrived(ctx, r.dir, last, "a.json", time.Now())
	refused(t, err, `git cannot tell since when "a.json" is as it is in commit `+last[:12])
	_, _, err = gitrepo.ReadFile(ctx, r.dir, second, "a.json", 100)
	refused(t, err, `git cannot list "a.json" of commit `+second[:12])
}

func TestWithoutGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := gitrepo.Commit(context.Background(), ".", "main")
	refused(t, err, "git is not installed")
}
