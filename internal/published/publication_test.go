package published_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

// When a signer was published is when its pull request was merged into the very
// branch; one that is open, closed or merged elsewhere has published nothing.
func TestAdditionMergedAt(t *testing.T) {
	signer := record.Signer{ID: "v2", Fingerprint: strings.Repeat("ab", 32), KMSKeyARN: "arn:v2"}
	for name, tc := range map[string]struct {
		base  string
		do    func(g *githubtest.Server, n int) error
		known bool
	}{
		"merged":           {"main", func(g *githubtest.Server, n int) error { _, err := g.Merge(n); return err }, true},
		"open":             {"main", func(*githubtest.Server, int) error { return nil }, false},
		"closed":           {"main", (*githubtest.Server).ClosePull, false},
		"merged elsewhere": {"other", func(g *githubtest.Server, n int) error { _, err := g.Merge(n); return err }, false},
	} {
		t.Run(name, func(t *testing.T) {
			at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
			g, err := githubtest.New(githubtest.Options{Files: map[string]string{"README.md": "x", "kernel/tools/signers.json": registryOf(entry("v1", 1))}, Token: "t", Now: func() time.Time { return at }})
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			if _, err := g.CommitFile("other", "README.md", "y", "octocat"); err != nil {
				t.Fatal(err)
			}
			repo, err := pullrequest.Open(pullrequest.Options{APIURL: g.URL(), Token: "t", Repository: "acme/kernel"})
			if err != nil {
				t.Fatal(err)
			}
			c := published.Addition(paths, signer)
			c.Base, c.BaseCommit, c.Title, c.Message, c.Body = tc.base, g.Head(tc.base).ID, "t", "m", "b"
			c.Files = map[string][]byte{"kernel/tools/x": []byte("x")}
			p, err := repo.Ensure(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			if err := tc.do(g, p.Number); err != nil {
				t.Fatal(err)
			}
			s, err := published.Base(ctx, repo, "", paths, false)
			if err != nil {
				t.Fatal(err)
			}
			found, got, err := s.FindAddition(ctx, repo, signer)
			if err != nil || tc.known != got.Equal(at) || !tc.known && !got.IsZero() {
				t.Errorf("got %s, %v; want %s: %v", got, err, at, tc.known)
			}
			if want := map[bool]int{true: p.Number}[tc.base == "main"]; found.Number != want {
				t.Errorf("got pull request %d, want %d", found.Number, want)
			}
			// Another key, another id: another pull request.
			for _, other := range []record.Signer{{ID: "v3", Fingerprint: signer.Fingerprint, KMSKeyARN: "arn:v2"}, {ID: "v2", Fingerprint: strings.Repeat("cd", 32), KMSKeyARN: "arn:v2"}, {ID: "v2", Fingerprint: signer.Fingerprint}} {
				if _, got, err := s.FindAddition(ctx, repo, other); err != nil || !got.IsZero() {
					t.Errorf("%+v: %s, %v", other, got, err)
				}
			}
		})
	}
}

func TestVerifiers(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	v := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(digest))
	}))
	defer v.Close()
	got, err := published.Verifiers(ctx, []string{v.URL, v.URL + "/gone"})
	if err != nil || len(got) != 2 || got[0] != (rotation.Verifier{URL: v.URL, RegistrySHA256: digest}) || got[1].RegistrySHA256 != "" || !strings.Contains(got[1].Problem, "404") {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := published.Verifiers(ctx, nil); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := published.Verifiers(ctx, []string{"http://v.example/"}); err == nil || exit(err) != 2 {
		t.Error(err)
	}
}

// What was published since a declaration is read where a verifier is behind, past
// a commit that leaves nothing sound; GitHub's silence is an error.
func TestTrusting(t *testing.T) {
	bound := strings.NewReplacer(`"retired", "boundary"`, `"compromised", "boundary"`, "2026-", "2001-").Replace(archiveOf(entry("stolen", 3)))
	g, repo := serve(t, map[string]string{"kernel/tools/signers.json": registryOf(entry("a", 1), entry("b", 2)), "kernel/tools/signers.archive.json": bound})
	now := time.Now()
	look := func(digest string) (*published.State, rotation.Verifier) {
		t.Helper()
		s, err := published.Base(ctx, repo, "", paths, false)
		if err != nil {
			t.Fatal(err)
		}
		return s, rotation.Verifier{URL: "https://v/", RegistrySHA256: digest}
	}
	first, _ := look("")
	for _, text := range []string{"{", registryOf(entry("a", 1))} {
		if _, err := g.CommitFile("main", "kernel/tools/signers.json", text, "octocat"); err != nil {
			t.Fatal(err)
		}
	}
	for digest, alarms := range map[string]int{first.Registry.SHA256(): 0, strings.Repeat("ab", 32): 1} {
		s, v := look(digest)
		if fs, err := s.Trusting(ctx, repo, []rotation.Verifier{v}, now); err != nil || len(fs) != alarms {
			t.Errorf("%s: %v, %v", digest, fs, err)
		}
	}
	s, v := look(first.Registry.SHA256())
	asked := len(g.Requests())
	if fs, err := s.Trusting(ctx, repo, []rotation.Verifier{{URL: "https://v/", RegistrySHA256: s.Registry.SHA256()}}, now); err != nil || len(fs) != 0 || len(g.Requests()) != asked {
		t.Errorf("a verifier that serves what is published: %v, %v, %d requests", fs, err, len(g.Requests())-asked)
	}
	for _, path := range []string{"/commits", "/git/blobs/"} {
		s, _ := look("")
		g.SetFault(func(r *http.Request, _ int) *githubtest.Fault {
			if !strings.Contains(r.URL.Path, path) {
				return nil
			}
			return &githubtest.Fault{Status: http.StatusForbidden, Body: `{"message": "Resource not accessible by integration"}`}
		})
		if fs, err := s.Trusting(ctx, repo, []rotation.Verifier{v}, now); err == nil || exit(err) != 3 || len(fs) != 1 {
			t.Errorf("%s fails: %v, %v", path, fs, err)
		}
		g.SetFault(nil)
	}
}
