package actions_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
)

var rehearseRelease = flag.Bool("release", false, "rehearse release.yml (TestRelease), which builds each action eight times")

// releasing is a copy of this checkout, with an origin to push to, on which
// release.yml runs.
type releasing struct {
	*testing.T
	source, origin, out string
}

func (r releasing) git(args ...string) string {
	r.Helper()
	out, err := exec.Command("git", append([]string{"-c", "user.name=ann", "-c", "user.email=a@b"}, args...)...).CombinedOutput()
	if err != nil {
		r.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// gh stands in for GitHub's command line: it wants the tag to be there, as
// --verify-tag does, and keeps the assets.
const gh = `#!/usr/bin/env bash
set -euo pipefail
[[ $1 == release && $2 == create && $4 == --verify-tag && -n $GH_TOKEN ]]
git ls-remote --exit-code --tags origin "$3" >/dev/null
mkdir -p "$RELEASED"
for file; do [[ $file != dist/* ]] || cp -- "$file" "$RELEASED/"; done
`

// play runs the workflow under act, after edit, and gives the results of its
// jobs.
func (r releasing) play(version string, edit func(string) string) actRun {
	r.Helper()
	name := filepath.Join(r.source, ".github/workflows/release.yml")
	text, err := os.ReadFile(name)
	if err != nil {
		r.Fatal(err)
	}
	defer os.WriteFile(name, text, 0o644)
	event := filepath.Join(r.out, "event.json")
	payload, _ := json.Marshal(map[string]any{"inputs": map[string]string{"version": version}, "repository": map[string]any{"default_branch": "main"}})
	for path, content := range map[string]string{name: edit(string(text)), event: string(payload), filepath.Join(r.out, "bin/gh"): gh} {
		write(r.T, path, content)
	}
	os.RemoveAll(filepath.Join(r.out, "artifacts"))
	args := []string{
		"workflow_dispatch", "--json", "--rm", "--no-cache-server", "--use-gitignore=false", "-P", "ubuntu-24.04=-self-hosted", "-P", "ubuntu-24.04-arm=-self-hosted",
		"-W", ".github/workflows/release.yml", "-e", event, "--action-cache-path", filepath.Join(r.out, "cache"), "-s", "GITHUB_TOKEN=" + canaryToken,
		"--env-file", os.DevNull, "--secret-file", os.DevNull, "--var-file", os.DevNull, "--input-file", os.DevNull,
		"--env", "ARTIFACTS=" + filepath.Join(r.out, "artifacts"), "--env", "RELEASED=" + filepath.Join(r.out, "released"), "--env", "GIT_CONFIG_GLOBAL=/dev/null",
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		args = append(args, "--env", name+"="+goEnv(r.T, name))
	}
	stubs, err := filepath.Abs("testdata/runner/stubs")
	if err != nil {
		r.Fatal(err)
	}
	for _, m := range usesLine.FindAllStringSubmatch(string(text), -1) {
		if stub := filepath.Join(stubs, filepath.Base(m[1])); m[1] != "actions/checkout" {
			args = append(args, "--local-repository", m[1]+"@"+m[2]+"="+stub)
		}
	}
	cmd := exec.Command(runner.act, args...)
	cmd.Dir = r.source
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(r.out, "bin")+":"+os.Getenv("PATH"))
	out, _ := cmd.CombinedOutput() // it ends with an error where a job does
	return readRun(out)
}

// TestRelease plays release.yml under act in host mode: two builders, one digest,
// a bill of materials, the commit that lists the checksums, and the release; and
// how it stops where the builders differ, or the source has another version. Not
// played: what takes GitHub's own identity (the attestation) or its release page.
func TestRelease(t *testing.T) {
	if !*rehearseRelease {
		t.Skip("SKIPPED here: make release-rehearsal plays release.yml, as a job of CI does")
	}
	runner.Do(func() { runner.err = buildRunner(t) })
	if runner.err != nil {
		t.Fatal(runner.err)
	}
	dir := t.TempDir()
	r := releasing{t, filepath.Join(dir, "source"), filepath.Join(dir, "origin.git"), filepath.Join(dir, "out")}
	names := strings.Split(strings.TrimSuffix(r.git("-C", "..", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00"), "\x00")
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(r.source, name), string(text)) // all executable: scripts are
	}
	r.git("init", "--quiet", "--bare", "-b", "main", r.origin)
	r.git("-C", r.source, "init", "--quiet", "-b", "main")
	r.git("-C", r.source, "remote", "add", "origin", r.origin)
	r.git("-C", r.source, "add", "--all")
	r.git("-C", r.source, "commit", "--quiet", "-m", "what is released")
	r.git("-C", r.source, "push", "--quiet", "origin", "main")
	refs := r.git("-C", r.origin, "show-ref")
	untouched := func(why string) {
		t.Helper()
		if now := r.git("-C", r.origin, "show-ref"); now != refs {
			t.Errorf("%s, and yet something was pushed:\n%s", why, now)
		}
		if _, err := os.Stat(filepath.Join(r.out, "released")); err == nil {
			t.Errorf("%s, and yet something was released", why)
		}
	}
	same := func(text string) string { return text }

	run := r.play("9.9.9", same)
	if want := map[string]string{"build-1": "failure", "build-2": "failure"}; !maps.Equal(run.jobs, want) {
		t.Fatalf("another version: %v, want %v\n%s", run.jobs, want, run.log)
	}
	untouched("the source has another version")

	run = r.play(gha.Version, func(text string) string {
		return strings.Replace(text, "- run: tools/build.sh dist\n", "- run: tools/build.sh dist linux/amd64 && [[ ${{ matrix.builder }} == ubuntu-24.04 ]] || { echo >>dist/finalize_linux_amd64 && cd dist && sha256sum -- *_*_* >SHA256SUMS; }\n", 1)
	})
	if want := map[string]string{"build-1": "success", "build-2": "success", "attest": "failure"}; !maps.Equal(run.jobs, want) {
		t.Fatalf("builders that differ: %v, want %v\n%s", run.jobs, want, run.log)
	}
	untouched("the builders differ")

	run = r.play(gha.Version, same)
	if want := map[string]string{"build-1": "success", "build-2": "success", "attest": "success", "publish": "success"}; !maps.Equal(run.jobs, want) {
		t.Fatalf("%v, want %v\n%s", run.jobs, want, run.log)
	}
	if form := leak(run.log); form != "" {
		t.Errorf("the log holds the secret %q", form)
	}
	r.published()
	t.Logf("release.yml: %v", run.jobs)
}

// published looks at what the release has left.
func (r releasing) published() {
	branch, tag := "release/v"+gha.Version, "v"+gha.Version
	if a, b := r.git("-C", r.origin, "rev-parse", branch), r.git("-C", r.origin, "rev-parse", tag); a != b {
		r.Errorf("the branch is at %s, the tag at %s", a, b)
	}
	if a, b := r.git("-C", r.origin, "rev-parse", branch+"^"), r.git("-C", r.origin, "rev-parse", "main"); a != b {
		r.Errorf("the release stands on %s, main is at %s", a, b)
	}
	if changed := r.git("-C", r.origin, "diff", "--name-only", "main", branch); changed != "actions/checksums.txt" {
		r.Errorf("the release changes %q", changed)
	}
	// Each binary is listed with its digest and its address.
	listed := r.git("-C", r.origin, "show", branch+":actions/checksums.txt")
	digests := map[string]string{}
	for _, action := range []string{"add-signer", "finalize", "guard-deploy", "rollback", "validate-registry", "verify-chain"} {
		for _, platform := range []string{"linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64"} {
			name := action + "_" + platform
			binary, err := os.ReadFile(filepath.Join(r.out, "released", name))
			if err != nil {
				r.Fatal(err)
			}
			sum := sha256.Sum256(binary)
			digests[name] = hex.EncodeToString(sum[:])
			line := fmt.Sprintf("%s  %s  https://github.com/agent-manager/audit-signer-rotation/releases/download/%s/%s\n", digests[name], name, tag, name)
			if !strings.Contains(listed+"\n", line) {
				r.Errorf("checksums.txt lacks %s", line)
			}
		}
	}
	if n := strings.Count(listed, "https://"); n != len(digests) {
		r.Errorf("checksums.txt lists %d binaries, want %d", n, len(digests))
	}
	r.materials(digests)
	// The release commit builds what it lists.
	again := filepath.Join(r.out, "again")
	r.git("-C", r.origin, "worktree", "add", "--quiet", again, branch)
	build := exec.Command("tools/build.sh", filepath.Join(r.out, "rebuilt"), "linux/amd64")
	build.Dir = again
	if text, err := build.CombinedOutput(); err != nil {
		r.Fatalf("%v\n%s", err, text)
	}
	sums, err := os.ReadFile(filepath.Join(r.out, "rebuilt/SHA256SUMS"))
	if err != nil {
		r.Fatal(err)
	}
	for line := range bytes.Lines(sums) {
		if sum, name, _ := strings.Cut(strings.TrimSpace(string(line)), "  "); digests[name] != sum {
			r.Errorf("built from the release commit, %s has %s, listed is %s", name, sum, digests[name])
		}
	}
}

// materials holds the bill of materials against the binaries.
func (r releasing) materials(digests map[string]string) {
	text, err := os.ReadFile(filepath.Join(r.out, "released/sbom.spdx.json"))
	if err != nil {
		r.Fatal(err)
	}
	var bill struct {
		SPDXVersion, DataLicense, SPDXID, Name, DocumentNamespace string
		CreationInfo                                              struct {
			Created  string
			Creators []string
		}
		Packages []struct {
			SPDXID, Name, VersionInfo, DownloadLocation string
			Checksums                                   []struct{ Algorithm, ChecksumValue string }
		}
		Relationships []struct{ SPDXElementID, RelationshipType, RelatedSPDXElement string }
	}
	if err := json.Unmarshal(text, &bill); err != nil {
		r.Fatal(err)
	}
	if bill.SPDXVersion != "SPDX-2.3" || bill.DataLicense != "CC0-1.0" || bill.CreationInfo.Created == "" || len(bill.CreationInfo.Creators) == 0 || !strings.HasPrefix(bill.DocumentNamespace, "https://") {
		r.Errorf("%.300s", text)
	}
	ids, found := []string{bill.SPDXID}, map[string]string{}
	for _, p := range bill.Packages {
		if p.Name == "" || p.DownloadLocation == "" || slices.Contains(ids, p.SPDXID) {
			r.Errorf("package %+v", p)
		}
		ids = append(ids, p.SPDXID)
		for _, c := range p.Checksums {
			found[p.Name] = c.ChecksumValue
		}
	}
	if !maps.Equal(found, digests) {
		r.Errorf("the bill has the digests %v, the binaries %v", found, digests)
	}
	linked := 0
	for _, rel := range bill.Relationships {
		if !slices.Contains(ids, rel.SPDXElementID) || !slices.Contains(ids, rel.RelatedSPDXElement) {
			r.Errorf("relationship %+v speaks of what is not there", rel)
		}
		if rel.RelationshipType == "STATIC_LINK" {
			linked++
		}
	}
	if linked < len(digests) {
		r.Errorf("%d libraries are linked into %d binaries", linked, len(digests))
	}
}
