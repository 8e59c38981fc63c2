package audit_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
)

// Of two runs that read the same checkpoint, or none, one writes the next; the
// other one is told, and nothing of what was written is lost.
func TestBranchRaces(t *testing.T) {
	server, err := githubtest.New(githubtest.Options{Token: "t", Files: map[string]string{"README.md": "x\n"}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	open := func() (*audit.Branch, *checkpoint.Checkpoint) {
		repo, err := pullrequest.Open(pullrequest.Options{APIURL: server.URL(), Token: "t", Repository: "acme/kernel"})
		if err != nil {
			t.Fatal(err)
		}
		b, c, err := audit.ReadBranch(t.Context(), repo, "audit/checkpoint", nil)
		if err != nil {
			t.Fatal(err)
		}
		return b, c
	}
	next := func(previous *checkpoint.Checkpoint, length int64) *checkpoint.Checkpoint {
		c, err := checkpoint.Next(previous, checkpoint.Table{}, &chain.Report{Verdict: chain.Verified, Length: length, Head: strings.Repeat("ab", 32)}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for round := range int64(3) {
		slow, seen := open()
		fast, _ := open()
		if (seen == nil) != (round == 0) || seen != nil && seen.Count != 10*round {
			t.Fatalf("round %d: %+v", round, seen)
		}
		if raced, err := fast.Write(t.Context(), next(seen, 10*round+10)); raced || err != nil {
			t.Fatal(raced, err)
		}
		if raced, err := slow.Write(t.Context(), next(seen, 10*round+9)); !raced || err != nil {
			t.Fatal(raced, err)
		}
	}
	if _, c := open(); c.Count != 30 {
		t.Errorf("%+v", c)
	}
}

// Nobody merges into the branch: a merge could put another history before the
// newest checkpoint.
func TestBranchRefusesMerges(t *testing.T) {
	server, err := githubtest.New(githubtest.Options{Token: "t", Files: map[string]string{"README.md": "x\n"}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	repo, err := pullrequest.Open(pullrequest.Options{APIURL: server.URL(), Token: "t", Repository: "acme/kernel"})
	if err != nil {
		t.Fatal(err)
	}
	const name, file = "audit-checkpoint", "checkpoint.json"
	text := `{"count": 1, "head": "` + strings.Repeat("ab", 32) + `"}`
	tip, err := server.CommitFile(name, file, text, "octocat")
	if err != nil {
		t.Fatal(err)
	}
	if _, c, err := audit.ReadBranch(t.Context(), repo, name, nil); err != nil || c.Count != 1 {
		t.Fatal(c, err)
	}
	send := func(method, path, body string) (id string) {
		req, _ := http.NewRequestWithContext(t.Context(), method, server.URL()+"/repos/acme/kernel/git/"+path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer t")
		req.Header.Set("User-Agent", "octocat")
		req.Header.Set("Accept", "application/vnd.github+json")
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode/100 != 2 {
			t.Fatal(res, err)
		}
		defer res.Body.Close()
		var made struct{ SHA string }
		if err := json.NewDecoder(res.Body).Decode(&made); err != nil {
			t.Fatal(err)
		}
		return made.SHA
	}
	tree := server.Head(name).Tree
	other := send("POST", "commits", `{"message": "another history", "tree": "`+tree+`", "parents": []}`)
	merge := send("POST", "commits", `{"message": "merge", "tree": "`+tree+`", "parents": ["`+other+`", "`+tip+`"]}`)
	send("PATCH", "refs/heads/"+name, `{"sha": "`+merge+`"}`)
	_, _, err = audit.ReadBranch(t.Context(), repo, name, nil)
	if broken, ok := errors.AsType[*audit.Broken](err); !ok || !strings.Contains(broken.Finding.Message, "merges something into it") {
		t.Error(err)
	}
}
