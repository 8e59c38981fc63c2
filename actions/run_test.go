// Package actions_test runs run.sh as a runner does, against a server on this
// machine and a repository with one tiny action.
package actions_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const (
	built = `package main

import (
	"fmt"
	"os"
)

func main() {
	dir, _ := os.Getwd()
	fmt.Println("built", len(os.Args)-1, os.Getenv("INPUT_X"), dir)
	os.Exit(5)
}
`
	downloaded = "#!/bin/sh\necho downloaded $# \"$INPUT_X\" \"$PWD\"\nexit 7\n"
	hostileX   = "$(touch pwned) `touch pwned`; touch pwned\n* \"'"
)

// world is a repository, a server and the surroundings of one run.
type world struct {
	repo, workspace, temp string
	server                *httptest.Server
	env                   map[string]string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{repo: dir + "/a repo", workspace: dir + "/workspace", temp: dir + "/temp"}
	w.server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hello":
			_, _ = rw.Write([]byte(downloaded))
		case "/moved":
			http.Redirect(rw, r, "/hello", http.StatusFound)
		default:
			http.NotFound(rw, r)
		}
	}))
	t.Cleanup(w.server.Close)
	script, err := os.ReadFile("run.sh")
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.repo+"/actions/run.sh", string(script))
	write(t, w.repo+"/actions/checksums.txt", "# none\n")
	write(t, w.repo+"/actions/hello/main.go", built)
	write(t, w.repo+"/go.mod", "module example.test/hello\n\ngo 1.26\n")
	write(t, w.temp+"/ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.server.Certificate().Raw})))
	write(t, w.workspace+"/file", "")
	w.env = map[string]string{
		"PATH":               os.Getenv("PATH"),
		"HOME":               os.Getenv("HOME"),
		"GOCACHE":            goEnv(t, "GOCACHE"),
		"GITHUB_ACTION_PATH": w.repo + "/actions/hello",
		"RUNNER_TEMP":        w.temp,
		"CURL_CA_BUNDLE":     w.temp + "/ca.pem",
		"INPUT_X":            hostileX,
	}
	return w
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// write replaces a file; a link is replaced too and never written through, as
// it may be a link to a program of this machine.
func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

// list puts a line for this platform into checksums.txt.
func (w *world) list(t *testing.T, sum, url string) {
	t.Helper()
	write(t, w.repo+"/actions/checksums.txt",
		"# a comment\n"+
			strings.Repeat("0", 64)+"  hello_plan9_"+runtime.GOARCH+"  "+w.server.URL+"/other\n"+
			strings.Repeat("1", 64)+"  hello-world_"+runtime.GOOS+"_"+runtime.GOARCH+"  "+w.server.URL+"/other\n"+
			sum+"  hello_"+runtime.GOOS+"_"+runtime.GOARCH+"  "+url+"\n")
}

// tools gives PATH only the named programs.
func (w *world) tools(t *testing.T, names ...string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	w.env["PATH"] = dir
}

// run runs the step as action.yml writes it.
func (w *world) run(t *testing.T) (code int, output string) {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	step := exec.Command(bash, "--noprofile", "--norc", "-eo", "pipefail", "-c", `"$GITHUB_ACTION_PATH/../run.sh"`)
	step.Dir = w.workspace
	for name, value := range w.env {
		step.Env = append(step.Env, name+"="+value)
	}
	var out bytes.Buffer
	step.Stdout, step.Stderr = &out, &out
	var exit *exec.ExitError
	if err := step.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return step.ProcessState.ExitCode(), out.String()
}

func TestRun(t *testing.T) {
	const (
		ranDownload = "downloaded 0 "
		ranBuild    = "built 0 "
	)
	// All but sha256sum and go.
	tools := []string{"bash", "env", "dirname", "basename", "uname", "mktemp", "rm", "cut", "chmod", "curl"}
	tests := []struct {
		name  string
		given func(*testing.T, *world)
		code  int
		want  []string
	}{
		{"the listed binary runs", func(t *testing.T, w *world) {
			w.list(t, sum(downloaded), w.server.URL+"/hello")
		}, 7, []string{ranDownload}},
		{"also behind a redirect", func(t *testing.T, w *world) {
			w.list(t, sum(downloaded), w.server.URL+"/moved")
		}, 7, []string{ranDownload}},
		{"it needs no Go, and shasum will do", func(t *testing.T, w *world) {
			w.list(t, sum(downloaded), w.server.URL+"/hello")
			sha256sum, err := exec.LookPath("sha256sum")
			if err != nil {
				t.Fatal(err)
			}
			w.tools(t, tools...)
			write(t, w.env["PATH"]+"/shasum", "#!/bin/sh\n[ \"$*\" = '-a 256' ] && exec "+sha256sum+"\n")
		}, 7, []string{ranDownload}},
		{"another binary than the listed one is not run", func(t *testing.T, w *world) {
			w.list(t, sum("another"), w.server.URL+"/hello")
		}, 3, []string{"::error title=hello::could not tell: ", sum(downloaded), "lists " + sum("another"), "Nothing was executed"}},
		{"nor without any tool to check it", func(t *testing.T, w *world) {
			w.list(t, sum(downloaded), w.server.URL+"/hello")
			w.tools(t, append(slices.Clone(tools), "go")...)
		}, 3, []string{"Nothing was executed"}},
		{"none listed: built", func(*testing.T, *world) {}, 5, []string{ranBuild, "::notice title=hello::no binary is listed"}},
		{"commented out: built", func(t *testing.T, w *world) {
			w.list(t, "#"+sum(downloaded), w.server.URL+"/hello")
		}, 5, []string{ranBuild, "no binary is listed"}},
		{"not there: built", func(t *testing.T, w *world) {
			w.list(t, sum(downloaded), w.server.URL+"/gone")
		}, 5, []string{ranBuild, "::notice title=hello::the binary cannot be downloaded"}},
		{"server down: built", func(t *testing.T, w *world) {
			w.list(t, sum(downloaded), w.server.URL+"/hello")
			w.server.Close()
		}, 5, []string{ranBuild, "the binary cannot be downloaded"}},
		{"not over TLS: built", func(t *testing.T, w *world) {
			w.list(t, sum(downloaded), strings.Replace(w.server.URL, "https:", "http:", 1)+"/hello")
		}, 5, []string{ranBuild, "the binary cannot be downloaded"}},
		{"as asked: built", func(t *testing.T, w *world) {
			w.list(t, sum(downloaded), w.server.URL+"/hello")
			w.env["AUDIT_SIGNER_BUILD_FROM_SOURCE"] = "true"
		}, 5, []string{ranBuild, "::notice title=hello::building this commit from source, as asked"}},
		{"the build is ours, whatever the job sets", func(_ *testing.T, w *world) {
			w.env["GOOS"], w.env["GOARCH"], w.env["GOFLAGS"], w.env["GOWORK"] = "plan9", "386", "-nonsense", "/nowhere/go.work"
		}, 5, []string{ranBuild}},
		{"an empty build-from-source is false", func(t *testing.T, w *world) {
			w.list(t, sum(downloaded), w.server.URL+"/hello")
			w.env["AUDIT_SIGNER_BUILD_FROM_SOURCE"] = ""
		}, 7, []string{ranDownload}},
		{"another build-from-source is refused", func(_ *testing.T, w *world) {
			w.env["AUDIT_SIGNER_BUILD_FROM_SOURCE"] = "yes"
		}, 2, []string{"::error title=hello::build-from-source is neither true nor false"}},
		{"no Go to build with", func(t *testing.T, w *world) {
			w.tools(t, append(slices.Clone(tools), "sha256sum")...)
		}, 3, []string{"could not tell: there is no Go on PATH", "actions/setup-go"}},
		{"source that does not build", func(t *testing.T, w *world) {
			write(t, w.repo+"/actions/hello/main.go", "package main\nfunc main() { x }\n")
		}, 3, []string{"could not tell: this action cannot be built"}},
		{"a directory that is no action", func(t *testing.T, w *world) {
			w.env["GITHUB_ACTION_PATH"] = w.repo + "/actions/Hello"
			write(t, w.repo+"/actions/Hello/README.md", "")
		}, 2, []string{"the directory of the action has no action's name"}},
		{"a hostile name", func(t *testing.T, w *world) {
			w.env["GITHUB_ACTION_PATH"] = w.repo + "/actions/a$(touch pwned)"
			write(t, w.env["GITHUB_ACTION_PATH"]+"/main.go", built)
		}, 2, []string{"the directory of the action has no action's name"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.given(t, w)
			code, output := w.run(t)
			for _, want := range test.want {
				if !strings.Contains(output, want) {
					t.Errorf("the output lacks %q", want)
				}
			}
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			ran := strings.Contains(output, ranDownload) || strings.Contains(output, ranBuild)
			if ran && !strings.Contains(output, hostileX+" "+w.workspace+"\n") {
				t.Error("the input or the working directory did not reach the binary unchanged")
			}
			if ran != (test.code == 5 || test.code == 7) {
				t.Error("something else was executed")
			}
			if !ran {
				if left, err := filepath.Glob(w.temp + "/audit-signer.*"); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
			}
			if files, err := os.ReadDir(w.workspace); err != nil || len(files) != 1 {
				t.Errorf("the workspace holds %v, %v", files, err)
			}
			if t.Failed() {
				t.Logf("output:\n%s", output)
			}
		})
	}
}

func TestChecksumsAreWellFormed(t *testing.T) {
	text, err := os.ReadFile("checksums.txt")
	if err != nil {
		t.Fatal(err)
	}
	entry := regexp.MustCompile(`^[0-9a-f]{64}  [a-z-]+_(linux|darwin)_(amd64|arm64)  https://[!-~]+$`)
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !entry.MatchString(line) {
			t.Errorf("%q is not: <sha256>  <action>_<os>_<arch>  <url>", line)
			continue
		}
		if name := strings.Fields(line)[1]; seen[name] {
			t.Errorf("%s is listed twice: run.sh would take the first", name)
		} else {
			seen[name] = true
		}
	}
}
