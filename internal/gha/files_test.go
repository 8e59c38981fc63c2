package gha

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// checkout is a working directory such as a pull request may bring along, and
// a directory outside it.
func checkout(t *testing.T) (dir, outside string) {
	t.Helper()
	dir, outside = t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		dir + "/kernel/tools/signers.json": "12345678",
		dir + "/.git/config":               "credential",
		dir + "/kernel/.GitHub/x.yml":      "workflow",
		dir + "/.gitignore":                "x",
		outside + "/secret":                "canary",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		dir + "/link.json":     "kernel/tools/signers.json",
		dir + "/out.json":      outside + "/secret",
		dir + "/tools":         "kernel/tools",
		dir + "/dangling":      "nowhere",
		outside + "/link":      "secret",
		outside + "/directory": dir + "/kernel",
	} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	return dir, outside
}

func testRun(hosted bool) *Run {
	env := []string{}
	if hosted {
		env = append(env, "GITHUB_ACTIONS=true")
	}
	return newRun(Process{Environ: env})
}

func TestReadFile(t *testing.T) {
	dir, outside := checkout(t)
	for _, path := range []string{
		"kernel/tools/signers.json", "./kernel/../kernel/tools/signers.json",
		dir + "/kernel/tools/signers.json", outside + "/directory/tools/signers.json",
	} {
		for _, hosted := range []bool{false, true} {
			got, err := testRun(hosted).ReadFile("registry-path", path, 8)
			if err != nil || string(got) != "12345678" {
				t.Errorf("%s (hosted %v): %q, %v", path, hosted, got, err)
			}
		}
	}
	if got, err := testRun(true).ReadFile("x", outside+"/link", 100); err != nil || string(got) != "canary" {
		t.Errorf("a link outside the checkout: %q, %v", got, err)
	}
	if got, err := testRun(true).ReadFile("x", ".gitignore", 100); err != nil || string(got) != "x" {
		t.Errorf(".gitignore: %q, %v", got, err)
	}
	rel := "../" + filepath.Base(outside) // t.TempDir puts both side by side
	if got, err := testRun(false).ReadFile("x", rel+"/secret", 100); err != nil || string(got) != "canary" {
		t.Errorf("a path that leaves the directory, at a prompt: %q, %v", got, err)
	}
}

func TestReadFileRefuses(t *testing.T) {
	dir, _ := checkout(t)
	tests := []struct {
		name, path string
		limit      int64
		want       string
	}{
		{"missing", "none.json", 100, "there is no such file: check the path and the checkout"},
		{"missing directory", "none/none.json", 100, "there is no such file"},
		{"nothing named", "", 100, "no file is named"},
		{"directory", "kernel", 100, "it is a directory: name a regular file"},
		{"the working directory", ".", 100, "it is a directory"},
		{"pipe", "pipe", 100, "it is a pipe"},
		{"device", "/dev/zero", 100, "it is a device or socket"},
		{"too large", "kernel/tools/signers.json", 7, "larger than the 7 bytes"},
		{"too large, whatever its size says", "/proc/self/status", 7, "larger than the 7 bytes"},
		{"link in the checkout", "link.json", 100, `"link.json" is a symbolic link`},
		{"link by its absolute path", dir + "/link.json", 100, `"link.json" is a symbolic link`},
		{"link out of the checkout", "out.json", 100, `"out.json" is a symbolic link`},
		{"linked directory", "tools/signers.json", 100, `"tools" is a symbolic link`},
		{"dangling link", "dangling", 100, `"dangling" is a symbolic link`},
		{"git's own files", ".git/config", 100, "files of .git are not for this"},
		{"by a detour", "kernel/../.git/config", 100, "files of .git are not for this"},
		{"by the absolute path", dir + "/.git/config", 100, "files of .git are not for this"},
		{"workflows, in other case", "kernel/.GitHub/x.yml", 100, "files of .GitHub are not for this"},
		{"out of the directory", "../x", 100, "the path leaves the working directory"},
		{"out by a detour", "kernel/../../x", 100, "the path leaves the working directory"},
		{"control character", "a\nb", 100, "the path holds a control character"},
		{"NUL", "a\x00b", 100, "the path holds a control character"},
		{"a file as directory", "kernel/tools/signers.json/x", 100, "not a directory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := testRun(true).ReadFile("registry-path", test.path, test.limit)
			if err == nil {
				t.Fatalf("read %q", got)
			}
			if !strings.HasPrefix(err.Error(), "registry-path ") || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want %q", err, test.want)
			}
			if exitCode(err) != 2 {
				t.Errorf("exit code %d, want 2", exitCode(err))
			}
		})
	}
	_, err := testRun(false).ReadFile("archive-path", "none.json", 1)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not tell that the file is missing", err)
	}
}

func TestWriteFile(t *testing.T) {
	dir, outside := checkout(t)
	for _, path := range []string{"report.json", "kernel/tools/signers.json", dir + "/kernel/new", outside + "/report.json", outside + "/link"} {
		if err := testRun(true).WriteFile("report-path", path, []byte("new")); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got := content(t, path); got != "new" {
			t.Errorf("%s holds %q", path, got)
		}
	}
	if content(t, outside+"/secret") != "new" {
		t.Error("a link outside was replaced instead of followed")
	}
	if info, err := os.Stat("report.json"); err != nil || info.Mode().Perm()&0o600 != 0o600 {
		t.Errorf("report.json: %v, %v", info, err)
	}
	for _, d := range []string{dir, outside, dir + "/kernel/tools"} {
		left, err := filepath.Glob(d + "/.*.????????????????????????????????")
		if err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestWriteFileRefuses(t *testing.T) {
	_, outside := checkout(t)
	tests := []struct{ name, path, want string }{
		{"no directory", "none/report.json", "its directory does not exist: create that first"},
		{"no directory outside", outside + "/none/report.json", "no such file"},
		{"directory", "kernel", "it is a directory"},
		{"pipe", "pipe", "it is a pipe"},
		{"link", "out.json", "is a symbolic link"},
		{"linked directory", "tools/new.json", "is a symbolic link"},
		{"workflow", ".github/workflows/x.yml", "files of .github"},
		{"out of the directory", "../x", "leaves the working directory"},
		{"nothing named", "", "no file is named"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := testRun(true).WriteFile("report-path", test.path, []byte("new"))
			if err == nil || !strings.HasPrefix(err.Error(), "report-path ") || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			if exitCode(err) != 2 {
				t.Errorf("exit code %d, want 2", exitCode(err))
			}
		})
	}
	if content(t, outside+"/secret") != "canary" {
		t.Error("a file outside was overwritten through a link")
	}
}

func TestReadDir(t *testing.T) {
	dir, outside := checkout(t)
	for _, path := range []string{"kernel/tools", "./kernel/tools/", dir + "/kernel/tools", outside + "/directory/tools"} {
		got, err := testRun(true).ReadDir("rotations-path", path)
		if err != nil || len(got) != 1 || got[0] != "signers.json" {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if err := os.Mkdir("empty", 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := testRun(true).ReadDir("rotations-path", "empty"); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
	for path, says := range map[string]string{
		"nowhere": "there is no such file", "tools": "is a symbolic link", ".git": "files of .git", "kernel/tools/signers.json": "is no directory", "..": "leaves the working directory", "": "no file is named",
	} {
		_, err := testRun(true).ReadDir("rotations-path", path)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "rotations-path") || (path == "nowhere") != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	for i := range 2001 {
		if err := os.WriteFile(fmt.Sprint("empty/", i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := testRun(true).ReadDir("rotations-path", "empty"); err == nil || !strings.Contains(err.Error(), "more than 2000 files") {
		t.Error(err)
	}
}
