package gitrepo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/gitrepo"
)

func TestShallowMerge(t *testing.T) {
	r := newRepo(t)
	made := r.commits(history)
	_, err := gitrepo.Relate(context.Background(), r.shallowCheckout(made["merge"], "1").dir, made.event(pullRequest("base", "head", "merge")))
	refused(t, err, "fetch-depth")
}

// head and base are both fetched, each with depth 1.
func TestShallowHeadAndBase(t *testing.T) {
	r := newRepo(t)
	made := r.commits(history)
	c := r.shallowCheckout(made["head"], "1")
	r.git("update-ref", "refs/heads/main", made["base"])
	c.git("fetch", "--quiet", "--depth=1", "file://"+r.dir, "refs/heads/main")
	_, err := gitrepo.Relate(context.Background(), c.dir, made.event(pullRequest("base", "head", "merge")))
	refused(t, err, "fetch-depth")
}

// What a checkout says in .gitmodules hides nothing.
func TestChangedShowsSubmodules(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("a", "1")
	r.write(".gitmodules", "[submodule \"module\"]\n\tpath = module\n\turl = ./x\n\tignore = all\n")
	r.git("add", "-A")
	r.submodule("module", first)
	last := r.commitTree(r.git("write-tree"), "add a submodule", first)
	want := []gitrepo.Change{{Path: ".gitmodules", Mode: "100644"}, {Path: "module", Mode: "160000"}}
	if got, err := gitrepo.Changed(ctx, r.dir, first, last); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestHasABrokenRef(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	r.commit("a", "1")
	if got, err := gitrepo.Has(ctx, r.dir, ""); err != nil || got {
		t.Errorf("got %v, %v, want false", got, err)
	}
	r.git("update-ref", mainHere, "HEAD")
	r.write(".git/"+mainHere, "spoilt")
	got, err := gitrepo.Has(ctx, r.dir, mainHere)
	if err == nil && !got {
		t.Errorf("broken ref: got %v, %v, want an error", got, err)
	}
}

func TestCommitWhenGitCannotRun(t *testing.T) {
	r := newRepo(t)
	r.commit("a", "1")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := gitrepo.Commit(ctx, r.dir, "HEAD")
	refused(t, err, "context canceled")
	_, err = gitrepo.Commit(context.Background(), filepath.Join(r.dir, "none"), "HEAD")
	refused(t, err, "no such file or directory")
}

// A path that is not clean is read, or it is an error; it is never "there is none".
func TestPathsThatAreNotClean(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	r.commit("a", "first in the tree")
	r.commit("kernel/README.md", "x")
	commit := r.commit("kernel/tools/signers.json", "{}")
	for _, path := range []string{
		"kernel//tools/signers.json", "kernel/./tools/signers.json", "kernel/../kernel/tools/signers.json",
		filepath.Join(r.dir, "kernel/tools/signers.json"), "/elsewhere/signers.json",
	} {
		content, found, err := gitrepo.ReadFile(ctx, r.dir, commit, path, 100)
		if err == nil && !found {
			t.Errorf("%s: got %q, found %v, want the file or an error", path, content, found)
		}
	}
	content, found, err := gitrepo.ReadFile(ctx, filepath.Join(r.dir, "kernel/tools"), commit, "../README.md", 100)
	if err == nil && !found {
		t.Errorf("../README.md: got %q, found %v, want the file or an error", content, found)
	}
	for _, folder := range []string{".", "./"} {
		files, err := gitrepo.ReadDir(ctx, r.dir, commit, folder, "a", 100)
		if err != nil || len(files) != 1 {
			t.Errorf("%q: got %q, %v, want a", folder, files, err)
		}
	}
}

func TestARefIsNoTagOfItsName(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	first := r.commit("a", "1")
	long := strings.Repeat("a", 64)
	for _, revision := range []string{"refs/remotes/origin/none", long} {
		r.git("update-ref", "refs/tags/"+revision, first)
		got, err := gitrepo.Commit(ctx, r.dir, revision)
		if gitrepo.FullRevision(revision) && err == nil {
			t.Errorf("%s: got %s, the commit of refs/tags/%s, want an error", revision, got, revision)
		}
	}
}

func TestPartialCloneWithoutItsRemote(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	last := r.commit("rotations/a.json", "2")
	r.git("config", "uploadpack.allowFilter", "true")
	dir := t.TempDir()
	r.git("clone", "--quiet", "--no-checkout", "--filter=blob:none", "file://"+r.dir, dir)
	repo{t, dir}.git("remote", "remove", "origin")
	_, _, err := gitrepo.ReadFile(ctx, dir, last, "rotations/a.json", 100)
	refused(t, err, "partial clone")
}

func TestACommitGraphChangesNoParents(t *testing.T) {
	r, ctx := newRepo(t), context.Background()
	made := r.commits(history)
	for n, id := range made {
		r.git("update-ref", "refs/keep/"+n, id)
	}
	r.git("commit-graph", "write", "--reachable")
	p := filepath.Join(r.dir, ".git/objects/info/commit-graph")
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	chunks := map[string]int{}
	for i := 0; i < int(b[6]); i++ {
		at := 8 + 12*i
		chunks[string(b[at:at+4])] = int(binary.BigEndian.Uint64(b[at+4:]))
	}
	pos := func(id string) int {
		raw, _ := hex.DecodeString(id)
		return (bytes.Index(b[chunks["OIDL"]:], raw)) / 20
	}
	binary.BigEndian.PutUint32(b[chunks["CDAT"]+36*pos(made["merge"])+20:], uint32(pos(made["tip"])))
	os.Chmod(p, 0o644)
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
	r.wantParents(made["merge"], made.of("tip", "head")...)
	r.git("checkout", "--quiet", "--detach", made["merge"])
	got, err := gitrepo.Relate(ctx, r.dir, made.event(pullRequest("base", "head", "merge")))
	made.check(t, got, gitrepo.Pair{Base: "base", Head: "merge"}, err, "")
}
