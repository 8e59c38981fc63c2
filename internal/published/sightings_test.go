package published_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

// unknowns is the report of a chain whose rows are by signers that nobody knows.
func unknowns(t *testing.T, ids ...string) *chain.Report {
	t.Helper()
	r, _ := rowsOf(t, ids, func(int, chain.Digest) []byte { return []byte("AAAA") })
	return r
}

// rowsOf is that report, with the rows beside it: one for each time that an id is
// named, the ith with a signature by sign.
func rowsOf(t *testing.T, ids []string, sign func(i int, digest chain.Digest) []byte) (*chain.Report, *trust.Claims) {
	t.Helper()
	r := &chain.Report{Verdict: chain.Failed, Signers: map[string]chain.SignerUse{"a": {Events: 1, Entry: "a", State: "active"}}, ByRule: map[string]int64{}}
	files, err := registry.Load("signers.json", []byte(registryOf(entry("a", 1))), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := new(trust.Claims)
	set := trust.New(files.Registry, files.Archive, trust.Options{Unknown: rows})
	for i, id := range ids {
		out := make([]chain.Judgement, 1)
		digest := chain.Digest{byte(i)}
		if err := set.Judge(ctx, []chain.Claim{{Signer: []byte(id), Signature: sign(i, digest), Digest: digest}}, out); err != nil || out[0].Rule != chain.RuleUnknownSigner {
			t.Fatal(out, err)
		}
		r.Signers[id] = chain.SignerUse{Events: r.Signers[id].Events + 1, State: "unknown"}
		r.ByRule[out[0].Rule]++
		r.Findings = append(r.Findings, finding.Finding{Rule: out[0].Rule, Severity: finding.Error, EventID: id, Message: out[0].Message})
	}
	return r, rows
}

func said(r *chain.Report, id string) string {
	for _, f := range r.Findings {
		if f.EventID == id {
			return f.Message
		}
	}
	return ""
}

func TestExplain(t *testing.T) {
	g, err := githubtest.New(githubtest.Options{Token: "t", Files: map[string]string{
		"kernel/tools/signers.json":         registryOf(entry("a", 1), entry("published", 2)),
		"kernel/tools/signers.archive.json": archiveOf(entry("retired", 3)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	repo, err := pullrequest.Open(pullrequest.Options{APIURL: g.URL(), Token: "t", Repository: "acme/kernel"})
	if err != nil {
		t.Fatal(err)
	}
	propose := func(operation, key, base string, entries ...string) {
		t.Helper()
		c := pullrequest.Change{Operation: operation, Key: key, Base: base, BaseCommit: g.Head(base).ID, Title: key, Message: key, Body: key,
			Files: map[string][]byte{"kernel/tools/signers.json": []byte(registryOf(entries...))}}
		if _, err := repo.Ensure(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.CommitFile("next", "x", "x", "octocat"); err != nil {
		t.Fatal(err)
	}
	propose("add-signer", "good", "main", entry("a", 1), entry("published", 2), entry("proposed", 4))
	propose("add-signer", "broken", "main", entry("a", 1), entry("a", 2), entry("unsound", 5))
	propose("add-signer", "elsewhere", "next", entry("a", 1), entry("other-base", 6))
	propose("rollback", "other", "main", entry("a", 1), entry("other-operation", 7))

	none := record.Files{}
	recorded := record.Files{Records: []record.Record{opened("rotate-b", "gone", "b")}}
	ids := []string{"published", "retired", "proposed", "unsound", "other-base", "other-operation", "gone", strings.Repeat("x", 300)}
	r := unknowns(t, ids...)
	before := *r
	err = published.Explain(ctx, repo, paths, "", recorded, r, nil)
	if err == nil || !strings.Contains(err.Error(), "duplicate-id") {
		t.Errorf("the unsound proposal: %v", err)
	}
	for id, words := range map[string]string{
		"published": "branch main has it", "retired": "branch main has it", "proposed": "pull request #1 (https://github.example/acme/kernel/pull/1) would publish a signer of this id, and whether its key has signed this row is not known here",
		"unsound": "publish its entry before it signs", "other-base": "publish its entry before it signs", "other-operation": "publish its entry before it signs",
		"gone": "the record of rotation rotate-b names it", ids[7]: "publish its entry before it signs",
	} {
		if got := said(r, id); !strings.HasPrefix(got, "neither registry nor archive has a signer") || !strings.Contains(got, words) {
			t.Errorf("%s: %q, want %q", id, got, words)
		}
	}
	if r.Verdict != before.Verdict || r.FindingsTotal != before.FindingsTotal || len(r.Findings) != len(ids) {
		t.Errorf("more than the words has changed: %+v", r)
	}

	// Nothing is asked where every signer is known, or no repository is at hand.
	asked := len(g.Requests())
	if err := published.Explain(ctx, repo, paths, "", none, unknowns(t), nil); err != nil {
		t.Error(err)
	}
	r = unknowns(t, "published")
	if err := published.Explain(ctx, nil, paths, "", none, r, nil); err != nil || !strings.Contains(said(r, "published"), "publish its entry") {
		t.Errorf("%v: %s", err, said(r, "published"))
	}
	if n := len(g.Requests()) - asked; n != 0 {
		t.Errorf("%d requests", n)
	}
	for _, v := range g.Violations() {
		t.Error(v)
	}
}

// A signature that is one of a known signer says more than where the id stands.
func TestExplainLeavesBetterAdvice(t *testing.T) {
	fs := []finding.Finding{
		{Rule: chain.RuleUnknownSigner, Message: `neither registry nor archive has a signer "x"; the signature is one of signer "a"`},
		{Rule: chain.RuleBadSignature, Message: said(unknowns(t, "x"), "x")},
	}
	was := fs[1].Message
	trust.Explain(fs, map[string]string{"x": "go there"})
	if !strings.HasSuffix(fs[0].Message, `signer "a"`) || fs[1].Message != was {
		t.Error(fs)
	}
}

// An id is anybody's to write: that a pull request would publish it excuses the
// rows that its key has signed, and no others.
func TestExplainWhoseKeySigned(t *testing.T) {
	long, longer := strings.Repeat("l", 256), strings.Repeat("l", 255)+"x"
	g, repo := serve(t, map[string]string{"kernel/tools/signers.json": registryOf(entry("a", 1), entry(longer, 9))})
	mac := `{"signerId": "mac", "algorithm": "hmac-sha256", "kmsKeyId": "arn:aws:kms:eu-west-1:111122223333:key/1"}`
	for key, entries := range map[string][]string{
		"1": {entry("early", 7)},
		"2": {entry("early", 4), entry("forged", 5), entry("mixed", 6), mac, entry(long, 8)},
		"3": {entry("early", 8)},
	} {
		c := pullrequest.Change{Operation: "add-signer", Key: key, Base: "main", BaseCommit: g.Head("main").ID, Title: key, Message: key, Body: key,
			Files: map[string][]byte{"kernel/tools/signers.json": []byte(registryOf(append([]string{entry("a", 1)}, entries...)...))}}
		if _, err := repo.Ensure(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	// Rows by seed of the key that signed; 2 is nobody's, 0 makes a MAC.
	rows := []struct {
		id   string
		seed byte
	}{{"early", 4}, {"early", 4}, {"forged", 2}, {"mixed", 6}, {"mixed", 2}, {"mac", 0}, {long, 8}, {longer, 9}}
	var ids []string
	for _, row := range rows {
		ids = append(ids, row.id)
	}
	r, kept := rowsOf(t, ids, func(i int, digest chain.Digest) []byte {
		if rows[i].seed == 0 {
			return []byte(base64.StdEncoding.EncodeToString(make([]byte, 32)))
		}
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{rows[i].seed}, 32))
		return []byte(base64.StdEncoding.EncodeToString(ed25519.Sign(key, digest[:])))
	})
	if err := published.Explain(ctx, repo, paths, "", record.Files{}, r, kept); err != nil {
		t.Fatal(err)
	}
	for id, words := range map[string]string{
		"early":  "would publish it, is not merged, and its key has signed this row: it was deployed too early. Review that pull request and merge it before anything else",
		"forged": "would publish a signer of this id, but its key has not signed this row: treat the row as forged until somebody shows otherwise, and merge nothing for its sake",
		"mixed":  "would publish a signer of this id, and its key has signed 1 of the 2 rows under it: before anybody merges it, verify the chain with the files of that pull request",
		"mac":    "would publish a signer of this id, and whether its key has signed this row is not known here: before anybody merges it",
		long:     "would publish it, is not merged, and its key has signed this row",
		longer:   "branch main has it",
	} {
		if got := said(r, id); !strings.Contains(got, words) || !strings.Contains(got, `"`+id+`"`) {
			t.Errorf("%s: %s", id, got)
		}
	}
}

// A rotation is proposed by the record that an open pull request adds; nothing
// else in its branch is one, and a branch that is full of files neither holds
// anybody up nor hides the record of another.
func TestProposed(t *testing.T) {
	known, fresh := opened("rotate-a", "", "a"), opened("rotate-b", "a", "b")
	g, err := githubtest.New(githubtest.Options{Token: "t", Files: map[string]string{
		"kernel/tools/signers.json": registryOf(entry("a", 1)), "kernel/tools/rotations/rotate-a.json": string(known.JSON()),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	repo, err := pullrequest.Open(pullrequest.Options{APIURL: g.URL(), Token: "t", Repository: "acme/kernel"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.CommitFile("next", "x", "x", "octocat"); err != nil {
		t.Fatal(err)
	}
	propose := func(operation, key, base string, files map[string][]byte) {
		t.Helper()
		c := pullrequest.Change{Operation: operation, Key: key, Base: base, BaseCommit: g.Head(base).ID, Title: key, Message: key, Body: key, Files: files}
		if _, err := repo.Ensure(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	one := map[string][]byte{"kernel/tools/rotations/rotate-b.json": fresh.JSON(), "kernel/tools/rotations/README.md": []byte("#"), "kernel/tools/rotations/other.json": []byte("{}")}
	propose("add-signer", "one", "main", one)
	propose("add-signer", "elsewhere", "next", one)
	propose("rollback", "other", "main", one)
	s, err := published.Base(ctx, repo, "", paths, false)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Proposed(ctx, repo, nil)
	if err != nil || len(list) != 1 || list[0].Record.ID != "rotate-b" || list[0].PullRequest.Number != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	// What a branch has in place of the folder, or calls by another id, is no harm.
	propose("add-signer", "linked", "main", map[string][]byte{"x": []byte("x")})
	if _, err := g.CommitLink(g.Pull(4).Branch, "kernel/tools/rotations", "elsewhere", "octocat"); err != nil {
		t.Fatal(err)
	}
	propose("add-signer", "misnamed", "main", map[string][]byte{"kernel/tools/rotations/rotate-c.json": fresh.JSON()})
	if list, err := s.Proposed(ctx, repo, nil); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := s.Proposed(ctx, repo, func(id string) bool { return id != "rotate-b" }); err != nil || len(list) != 0 {
		t.Errorf("unwanted: %+v, %v", list, err)
	}
	many := map[string][]byte{}
	for i := range 100 {
		many[fmt.Sprintf("kernel/tools/rotations/a-%d.json", i)] = []byte("{}")
	}
	propose("add-signer", "many", "main", many)
	asked := len(g.Requests())
	if list, err := s.Proposed(ctx, repo, nil); err != nil || len(list) != 1 || len(g.Requests())-asked > 50 {
		t.Errorf("%d proposed, %v, %d requests", len(list), err, len(g.Requests())-asked)
	}
	for _, v := range g.Violations() {
		t.Error(v)
	}
}
