package published_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// runAction runs a function as an action does, and returns its exit code and its log.
func runAction(env []string, do func(ctx context.Context, r *gha.Run) error) (code int, log string) {
	const spec = "{name: n, description: d, runs: {using: composite, steps: [{id: run, shell: bash, run: x}]}}"
	var out bytes.Buffer
	code = gha.Exec(ctx, []byte(spec), gha.Process{Environ: env, Stdout: &out, Stderr: &out, Now: time.Now},
		func(ctx context.Context, r *gha.Run, _ struct{}) error { return do(ctx, r) })
	return code, out.String()
}

// onGitHub are the inputs and the environment of an action in a repository.
func onGitHub(g *githubtest.Server) (published.Inputs, []string) {
	in := published.Inputs{RegistryPath: "kernel/tools/signers.json", Token: "t"}
	return in, []string{"GITHUB_REPOSITORY=acme/kernel", "GITHUB_API_URL=" + g.URL()}
}

// underWay are the files of a repository in which signer b is to replace a.
func underWay() (files map[string]string, rec record.Record) {
	rec = opened("rotate-b", "a", "b")
	open := rec.Moves[0].(*record.Open)
	open.Signer, open.Replaces = keyed("b", 2), pointer(keyed("a", 1))
	return map[string]string{
		"README.md":                   "#",
		"kernel/tools/signers.json":   registryOf(entry("a", 1), entry("b", 2)),
		paths.Record("rotate-b"):      string(rec.JSON()),
		"kernel/tools/rotations/x.md": "# what these are",
	}, rec
}

// blockings are what somebody may have put in the place of the folder of records.
var blockings = map[string]func(g *githubtest.Server) (string, error){
	"a symbolic link": func(g *githubtest.Server) (string, error) {
		return g.CommitLink("main", "kernel/tools/rotations", "../../elsewhere", "mallory")
	},
	"a link to nowhere": func(g *githubtest.Server) (string, error) {
		return g.CommitLink("main", "kernel/tools/rotations", "rotations", "mallory")
	},
	"a submodule": func(g *githubtest.Server) (string, error) {
		return g.CommitSubmodule("main", "kernel/tools/rotations", g.Head("main").ID, "mallory")
	},
	"a file": func(g *githubtest.Server) (string, error) {
		return g.CommitFile("main", "kernel/tools/rotations", "x", "mallory")
	},
}

// An emergency is not held up by what is in the place of the folder of records: the
// signers are read, the record is found in the history, and the move can be made.
// Everybody else is refused.
func TestOpenAnyway(t *testing.T) {
	for name, block := range blockings {
		t.Run(name, func(t *testing.T) {
			files, rec := underWay()
			g, _ := serve(t, files)
			tip, err := block(g)
			if err != nil {
				t.Fatal(err)
			}
			in, env := onGitHub(g)
			code, log := runAction(env, func(ctx context.Context, r *gha.Run) error { _, _, err := in.Open(ctx, r, false); return err })
			if code != 2 || !strings.Contains(log, "kernel/tools/rotations") {
				t.Errorf("opened as ever: got exit code %d, %s", code, log)
			}

			var repo *pullrequest.Repo
			var s *published.State
			code, log = runAction(env, func(ctx context.Context, r *gha.Run) (err error) { repo, s, err = in.OpenAnyway(ctx, r); return err })
			if code != 0 || !strings.Contains(log, "The pull request of this run puts a folder in its place") {
				t.Fatalf("got exit code %d, %s; want a note", code, log)
			}
			if s.Blocked == "" || !strings.Contains(s.Blocked, "kernel/tools/rotations") || s.Branch != "main" || s.Commit != tip {
				t.Errorf("got %q at %s of %s, want a reason at %s of main", s.Blocked, s.Commit, s.Branch, tip)
			}
			if len(s.Registry.Signers) != 2 || len(s.Records) != 0 || s.Path("rotate-b") != paths.Record("rotate-b") {
				t.Errorf("got %d signers, %d records and %s; want 2, 0 and %s",
					len(s.Registry.Signers), len(s.Records), s.Path("rotate-b"), paths.Record("rotate-b"))
			}

			if err := s.Recover(ctx, repo, "rotate-b"); err != nil {
				t.Fatal(err)
			}
			if got := s.Record("rotate-b"); got == nil || !bytes.Equal(got.JSON(), rec.JSON()) || len(s.Records) != 1 {
				t.Errorf("recovered: got %+v, want %s", s.Records, rec.JSON())
			}
			back := &record.RollBack{By: record.By{At: rec.Moves[0].Made().At, Actor: "a", Reason: "r"}, Signer: keyed("a", 1)}
			_, changed, err := s.Apply("rotate-b", back, time.Now(), rotation.EvidenceAge)
			if err != nil || len(changed) != 1 || changed[paths.Record("rotate-b")] == nil {
				t.Errorf("rolled back: got %d files, %v; want the record", len(changed), err)
			}
			for _, v := range g.Violations() {
				t.Error(v)
			}
		})
	}
}

// Of a record that has gained moves the newest text counts, past texts that cannot be
// read or are of another record. It is not made up where there is none.
func TestRecover(t *testing.T) {
	path := paths.Record("rotate-b")
	_, opening := underWay()
	gone := opening
	gone.Moves = append(slices.Clone(opening.Moves), &record.RollBack{
		By: record.By{At: opening.Moves[0].Made().At.Add(time.Hour), Actor: "a", Reason: "r"}, Signer: keyed("a", 1)})
	other := opening
	other.ID = "rotate-c"
	first, second, foreign := string(opening.JSON()), string(gone.JSON()), string(other.JSON())
	for name, tc := range map[string]struct {
		texts []string // of the record's file, the oldest first
		want  string
	}{
		"one text":               {[]string{first}, first},
		"a later move":           {[]string{first, second}, second},
		"a text that is no JSON": {[]string{first, "{"}, first},
		"a text of no record":    {[]string{first, second, "{}"}, second},
		"the text of another":    {[]string{first, foreign}, first},
		"another layout":         {[]string{first, strings.ReplaceAll(second, "\n", "")}, first},
		"more than is read":      {[]string{first, strings.Repeat(" ", 1<<20+1)}, first},
		"never a record":         {[]string{"{}", "{"}, ""},
		"no text":                {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g, _ := serve(t, map[string]string{paths.Registry: registryOf(entry("a", 1), entry("b", 2))})
			for _, text := range tc.texts {
				if _, err := g.CommitFile("main", path, text, "octocat"); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := blockings["a symbolic link"](g); err != nil {
				t.Fatal(err)
			}
			repo, s := openAnyway(t, g)
			err := s.Recover(ctx, repo, "rotate-b")
			if tc.want == "" {
				if err == nil || exit(err) != 2 || !strings.Contains(err.Error(), s.Blocked) ||
					!strings.Contains(err.Error(), "put the folder of records back") || len(s.Records) != 0 {
					t.Errorf("got %v and %d records, want a refusal", err, len(s.Records))
				}
				return
			}
			if err != nil || len(s.Records) != 1 || string(s.Records[0].JSON()) != tc.want {
				t.Errorf("got %+v, %v; want %s", s.Records, err, tc.want)
			}
		})
	}
}

func openAnyway(t *testing.T, g *githubtest.Server) (repo *pullrequest.Repo, s *published.State) {
	t.Helper()
	in, env := onGitHub(g)
	code, log := runAction(env, func(ctx context.Context, r *gha.Run) (err error) { repo, s, err = in.OpenAnyway(ctx, r); return err })
	if code != 0 {
		t.Fatalf("got exit code %d, %s", code, log)
	}
	return repo, s
}

// GitHub's silence is no answer: nobody takes an older record for the newest one.
func TestRecoverWithoutGitHub(t *testing.T) {
	for _, path := range []string{"/commits", "/git/blobs/"} {
		t.Run(path, func(t *testing.T) {
			files, _ := underWay()
			g, _ := serve(t, files)
			if _, err := blockings["a symbolic link"](g); err != nil {
				t.Fatal(err)
			}
			repo, s := openAnyway(t, g)
			g.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
				if !strings.Contains(r.URL.Path, path) {
					return nil
				}
				return &githubtest.Fault{Status: http.StatusForbidden, Body: `{"message": "Resource not accessible by integration"}`}
			})
			if err := s.Recover(ctx, repo, "rotate-b"); err == nil || exit(err) != 3 || len(s.Records) != 0 {
				t.Errorf("got %v and %d records, want an error with exit code 3", err, len(s.Records))
			}
		})
	}
}

// Where nothing blocks the records, OpenAnyway is Open: it reads them, and refuses what
// Open refuses.
func TestOpenAnywayIsOpenOtherwise(t *testing.T) {
	link := func(g *githubtest.Server) error { _, err := blockings["a symbolic link"](g); return err }
	push := func(path, text string) func(g *githubtest.Server) error {
		return func(g *githubtest.Server) error { _, err := g.CommitFile("main", path, text, "octocat"); return err }
	}
	forbidden := func(g *githubtest.Server) error {
		g.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
			return &githubtest.Fault{Status: http.StatusForbidden, Body: `{"message": "Resource not accessible by integration"}`}
		})
		return nil
	}
	for name, tc := range map[string]struct {
		do   []func(g *githubtest.Server) error
		env  []string // more than usual
		code int
		says string
	}{
		"nothing in the way":             {nil, nil, 0, ""},
		"a record that cannot be read":   {[]func(*githubtest.Server) error{push(paths.Record("rotate-c"), "{")}, nil, 2, "rotate-c.json:1:2"},
		"a registry that is not sound":   {[]func(*githubtest.Server) error{push(paths.Registry, registryOf(entry("a", 1), entry("A", 2)))}, nil, 2, "duplicate-id"},
		"an unsound registry and a link": {[]func(*githubtest.Server) error{link, push(paths.Registry, registryOf(entry("a", 1), entry("A", 2)))}, nil, 2, "duplicate-id"},
		"a link, and no registry":        {[]func(*githubtest.Server) error{link, push(paths.Registry+"/x", "x")}, nil, 2, "is a folder"},
		"a link, and GitHub is silent":   {[]func(*githubtest.Server) error{link, forbidden}, nil, 3, "GitHub forbids it"},
		"no repository":                  {nil, []string{"GITHUB_REPOSITORY="}, 2, "GITHUB_REPOSITORY is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			files, rec := underWay()
			g, _ := serve(t, files)
			for _, do := range tc.do {
				if err := do(g); err != nil {
					t.Fatal(err)
				}
			}
			in, env := onGitHub(g)
			in.BaseBranch = "main"
			var s *published.State
			code, log := runAction(append(env, tc.env...), func(ctx context.Context, r *gha.Run) (err error) {
				_, s, err = in.OpenAnyway(ctx, r)
				return err
			})
			if code != tc.code || !strings.Contains(log, tc.says) {
				t.Errorf("got exit code %d, %s; want %d, %q", code, log, tc.code, tc.says)
			}
			if tc.code != 0 {
				return
			}
			if s.Blocked != "" || len(s.Records) != 1 || !bytes.Equal(s.Records[0].JSON(), rec.JSON()) {
				t.Errorf("got %q and %+v, want nothing in the way and %s", s.Blocked, s.Records, rec.JSON())
			}
		})
	}
}

// Folder reads the files of the working directory, and Write writes what a move changes
// there, without GitHub.
func TestFolder(t *testing.T) {
	files, _ := underWay()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := published.Inputs{RegistryPath: "kernel/tools/signers.json"}
	folder := func(missing bool) (s *published.State, code int, log string) {
		code, log = runAction(nil, func(ctx context.Context, r *gha.Run) error {
			repo, got, err := in.Folder(ctx, r, missing)
			if s = got; repo != nil {
				t.Error("got a repository, want none")
			}
			return err
		})
		return s, code, log
	}
	s, code, log := folder(false)
	if code != 0 || s.Branch != "this checkout" || s.Commit != "" || len(s.Registry.Signers) != 2 || len(s.Records) != 1 {
		t.Fatalf("got exit code %d, %s, %+v", code, log, s)
	}
	withdraw := &record.Withdraw{By: record.By{At: s.Records[0].Moves[0].Made().At, Actor: "a", Reason: "r"}, Signer: keyed("b", 2)}
	after, changed, err := s.Apply("rotate-b", withdraw, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if code, log := runAction(nil, func(_ context.Context, r *gha.Run) error { return s.Write(r, changed) }); code != 0 {
		t.Fatalf("got exit code %d, %s", code, log)
	}
	again, code, log := folder(false)
	if code != 0 {
		t.Fatalf("got exit code %d, %s", code, log)
	}
	if got, want := again.Registry.SHA256(), after.Registry.SHA256(); got != want {
		t.Errorf("registry: got %s, want %s", got, want)
	}
	if got, want := again.Archive.SHA256(), after.Archive.SHA256(); got != want || want == "" {
		t.Errorf("archive: got %s, want %s", got, want)
	}
	if got, want := string(again.Record("rotate-b").JSON()), string(after.Record("rotate-b").JSON()); got != want {
		t.Errorf("record: got %s, want %s", got, want)
	}

	// What is wrong names the input, or the folder.
	for name, tc := range map[string]struct {
		file, text string
		says       string
	}{
		"a broken record":    {"kernel/tools/rotations/rotate-c.json", "{", "kernel/tools/rotations/rotate-c.json:1:2"},
		"an unsound archive": {"kernel/tools/signers.archive.json", archiveOf(entry("a", 1), entry("x", 1)), "duplicate-key"},
		"a broken registry":  {"kernel/tools/signers.json", "{", "kernel/tools/signers.json:1:2"},
		"no registry":        {"kernel/tools/signers.json", "", "this folder has no such file; check registry-path"},
	} {
		was, _ := os.ReadFile(tc.file)
		var err error
		if tc.text == "" {
			err = os.Remove(tc.file)
		} else {
			err = os.WriteFile(tc.file, []byte(tc.text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, code, log := folder(false); code != 2 || !strings.Contains(log, tc.says) {
			t.Errorf("%s: got exit code %d, %s; want 2, %q", name, code, log, tc.says)
		}
		if tc.text == "" {
			if s, code, log := folder(true); code != 0 || len(s.Registry.Signers) != 0 {
				t.Errorf("%s, and none is needed: got exit code %d, %s, %+v", name, code, log, s)
			}
		}
		if was == nil {
			err = os.Remove(tc.file)
		} else {
			err = os.WriteFile(tc.file, was, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
