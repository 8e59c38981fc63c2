package githubtest

import (
	"fmt"
	"strings"
	"testing"
)

// An entry of a new tree has an id or a content, and no id takes a path away.
func TestTreeEntries(t *testing.T) {
	const one = "Must supply either tree.sha or tree.content. Request will be rejected if both are present."
	const missing = "GitRPC::BadObjectState"
	s := start(t, Options{Files: map[string]string{"a/b/c.txt": "c\n", "a/d.txt": "d\n", "e.txt": "e\n"}})
	if _, err := s.CommitLink("main", "a/link", "b", "ann"); err != nil {
		t.Fatal(err)
	}
	const blob = `"mode":"100644","type":"blob"`
	for _, c := range []struct {
		name, entries string
		status        int
		want          string // the new tree's paths, or the refusal
	}{
		{"a file is taken away", `{"path":"e.txt",` + blob + `,"sha":null}`, 201, "a a/b a/b/c.txt a/d.txt a/link"},
		{"a folder's last file is taken away", `{"path":"a/b/c.txt",` + blob + `,"sha":null}`, 201, "a a/d.txt a/link e.txt"},
		{"a folder is taken away", `{"path":"a",` + blob + `,"sha":null}`, 201, "e.txt"},
		{"a link is taken away", `{"path":"a/link",` + blob + `,"sha":null}`, 201, "a a/b a/b/c.txt a/d.txt e.txt"},
		{"a link becomes a folder",
			`{"path":"a/link",` + blob + `,"sha":null},{"path":"a/link/f",` + blob + `,"content":"f"}`, 201,
			"a a/b a/b/c.txt a/d.txt a/link a/link/f e.txt"},
		{"nothing is there to be taken away", `{"path":"none",` + blob + `,"sha":null}`, 422, missing},
		{"nothing is there below a file", `{"path":"e.txt/x",` + blob + `,"sha":null}`, 422, missing},
		{"nothing is there any more", strings.Repeat(`{"path":"e.txt",`+blob+`,"sha":null},`, 2), 422, missing},
		{"neither", `{"path":"x",` + blob + `}`, 422, one},
		{"both", `{"path":"x",` + blob + `,"sha":null,"content":"x"}`, 422, one},
		{"an id that is none", `{"path":"x",` + blob + `,"sha":"x"}`, 422, "tree.sha x is not a valid blob"},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := fmt.Sprintf(`{"base_tree":%q,"tree":[%s]}`, s.Head("main").Tree, strings.TrimSuffix(c.entries, ","))
			status, value := ask(t, s, "POST", "/repos/acme/kernel/git/trees", body)
			got := at(value, "message")
			if status == 201 {
				var paths []string
				_, value = ask(t, s, "GET", "/repos/acme/kernel/git/trees/"+at(value, "sha").(string)+"?recursive=1", "")
				for _, entry := range at(value, "tree").([]any) {
					paths = append(paths, at(entry, "path").(string))
				}
				got = strings.Join(paths, " ")
			}
			if status != c.status || got != c.want {
				t.Errorf("got %d %v, want %d %s", status, got, c.status, c.want)
			}
		})
	}
	noViolations(t, s)
}

// The id of an entry is a text or null: the description says so, and the server
// keeps to it.
func TestTreeEntryWithANumberForItsID(t *testing.T) {
	s := start(t, Options{})
	body := `{"tree":[{"path":"x","mode":"100644","type":"blob","sha":1}]}`
	status, _ := ask(t, s, "POST", "/repos/acme/kernel/git/trees", body)
	if v := s.Violations(); status != 500 || len(v) != 1 || !strings.Contains(v[0], "git/create-tree") {
		t.Errorf("got %d and violations %q, want 500 and one", status, v)
	}
}

// git has room for one of a/b and a/b/c: a new branch is refused above and below
// one that there is, and its name is free again when that is gone.
func TestBranchesAboveAndBelow(t *testing.T) {
	const refs = "/repos/acme/kernel/git/refs"
	const failed = "Reference update failed"
	s := start(t, Options{})
	main := s.Head("main").ID
	for _, c := range []struct {
		branch string
		status int
		want   string
	}{
		{"a/b", 201, "refs/heads/a/b"},
		{"a", 422, failed},
		{"a/b/c", 422, failed},
		{"a/b/c/d", 422, failed},
		{"a/b", 422, "Reference already exists"},
		{"a/c", 201, "refs/heads/a/c"},
		{"a-b", 201, "refs/heads/a-b"},
		{"main/x", 422, failed},
	} {
		status, value := ask(t, s, "POST", refs, `{"ref":"refs/heads/`+c.branch+`","sha":"`+main+`"}`)
		got := at(value, "message")
		if status == 201 {
			got = at(value, "ref")
		}
		if status != c.status || got != c.want {
			t.Errorf("branch %s: got %d %v, want %d %s", c.branch, status, got, c.status, c.want)
		}
	}
	if got, want := strings.Join(s.Branches(), " "), "a-b a/b a/c main"; got != want {
		t.Errorf("got branches %s, want %s", got, want)
	}
	for ref, want := range map[string]string{
		"heads/a":       "refs/heads/a-b refs/heads/a/b refs/heads/a/c",
		"heads/a/":      "refs/heads/a/b refs/heads/a/c",
		"heads/a/b":     "refs/heads/a/b",
		"heads/a/b/":    "",
		"heads/a/b/c/d": "",
		"tags/":         "",
	} {
		status, value := ask(t, s, "GET", "/repos/acme/kernel/git/matching-refs/"+ref, "")
		var got []string
		for _, one := range value.([]any) {
			got = append(got, at(one, "ref").(string))
		}
		if status != 200 || strings.Join(got, " ") != want {
			t.Errorf("matching %s: got %d %q, want 200 %q", ref, status, got, want)
		}
	}

	if err := s.git.setRef("refs/heads/a/b", zeroID, main); err != nil {
		t.Fatal(err)
	}
	if status, value := ask(t, s, "POST", refs, `{"ref":"refs/heads/a/b/c","sha":"`+main+`"}`); status != 201 {
		t.Errorf("after the branch above is gone: got %d %v, want 201", status, value)
	}
	noViolations(t, s)
}

func noViolations(t *testing.T, s *Server) {
	t.Helper()
	if v := s.Violations(); len(v) != 0 {
		t.Errorf("got contract violations, want none:\n%s", strings.Join(v, "\n"))
	}
}
