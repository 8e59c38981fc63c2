package published_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
)

var (
	ctx   = context.Background()
	paths = published.PathsFor("kernel/tools/signers.json", "", "")
)

func entry(id string, seed byte) string {
	public := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), 32))).Public().(ed25519.PublicKey)
	return fmt.Sprintf(`{"signerId": %q, "algorithm": "ed25519", "publicKey": %q}`, id, base64.StdEncoding.EncodeToString(public))
}

func registryOf(entries ...string) string {
	return "{\"signers\": [\n  " + strings.Join(entries, ",\n  ") + "\n]}\n"
}

func archiveOf(entries ...string) string {
	var items []string
	for i, e := range entries {
		items = append(items, fmt.Sprintf(`{"entry": %s, "retiredAt": "2026-01-01T00:00:00Z", "reason": "r", "rotation": "x", "state": "retired", "boundary": {"position": %d, "digest": %q}}`, e, i+1, strings.Repeat("ab", 32)))
	}
	return `{"version": 1, "retired": [` + strings.Join(items, ", ") + "]}\n"
}

func record(id, outgoing, incoming string) rotation.Record {
	r := rotation.Record{
		Version: 1, ID: id, CreatedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Actor: "a", Reason: "r",
		Incoming: rotation.Signer{ID: incoming, Algorithm: "ed25519"}, Policy: rotation.Policy{Overlap: rotation.Duration(48 * time.Hour)},
	}
	if outgoing != "" {
		r.Outgoing = &rotation.Signer{ID: outgoing, Algorithm: "ed25519"}
	}
	return r
}

// serve puts files into a repository.
func serve(t *testing.T, files map[string]string) (*githubtest.Server, *pullrequest.Repo) {
	t.Helper()
	g, err := githubtest.New(githubtest.Options{Files: files, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	repo, err := pullrequest.Open(pullrequest.Options{APIURL: g.URL(), Token: "t", Repository: "acme/kernel"})
	if err != nil {
		t.Fatal(err)
	}
	return g, repo
}

// read puts files below kernel/tools into a repository and reads what it has
// published.
func read(t *testing.T, missing bool, files map[string]string) (*published.State, error) {
	t.Helper()
	all := map[string]string{"README.md": "# kernel\n"}
	for name, text := range files {
		all["kernel/tools/"+name] = text
	}
	g, repo := serve(t, all)
	s, err := published.Base(ctx, repo, "", paths, missing)
	if v := g.Violations(); len(v) > 0 {
		t.Error(v)
	}
	if err == nil && (s.Branch != "main" || s.Commit != g.Head("main").ID) {
		t.Errorf("read %s of %s", s.Commit, s.Branch)
	}
	return s, err
}

func TestPathsFor(t *testing.T) {
	if got := published.PathsFor("a/signers.json", "", ""); got != (published.Paths{Registry: "a/signers.json", Archive: "a/signers.archive.json", Rotations: "a/rotations"}) {
		t.Errorf("%+v", got)
	}
	if got := published.PathsFor("signers.json", "", ""); got.Archive != "signers.archive.json" || got.Record("r-1") != "rotations/r-1.json" {
		t.Errorf("%+v", got)
	}
	if got := published.PathsFor("a/s.json", "b/x.json", "c"); got.Archive != "b/x.json" || got.Record("r-1") != "c/r-1.json" {
		t.Errorf("%+v", got)
	}
}

func TestRead(t *testing.T) {
	open, over := record("rotate-b", "a", "b"), record("rotate-c", "", "c")
	s, err := read(t, false, map[string]string{
		"signers.json":            registryOf(entry("a", 1), entry("b", 2), entry("c", 3)),
		"signers.archive.json":    archiveOf(entry("z", 9)),
		"rotations/rotate-b.json": string(open.JSON()), "rotations/rotate-c.json": string(over.JSON()),
		"rotations/README.md": "# what these are\n", "rotations/deep/x.json": "{",
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Registry.Signers) != 3 || len(s.Archive.Retired) != 1 || len(s.Records) != 2 {
		t.Errorf("%d signers, %d retired, %d records", len(s.Registry.Signers), len(s.Archive.Retired), len(s.Records))
	}
	// One that replaces nobody is over as soon as it is published.
	if in := s.InFlight(""); len(in) != 1 || in[0] != "rotate-b" {
		t.Errorf("in flight: %+v", in)
	}
	if in := s.InFlight("rotate-b"); len(in) != 0 {
		t.Errorf("beside itself: %+v", in)
	}
}

func TestReadWithoutRegistry(t *testing.T) {
	if _, err := read(t, false, nil); err == nil || !strings.Contains(err.Error(), "the repository has no such file at commit") || exit(err) != 2 {
		t.Errorf("%v", err)
	}
	for name, files := range map[string]map[string]string{"none": nil, "an empty one": {"signers.json": `{"signers": []}`}} {
		s, err := read(t, true, files)
		if err != nil || len(s.Registry.Signers) != 0 || s.Archive == nil {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if _, err := read(t, false, map[string]string{"signers.json": `{"signers": []}`}); err == nil {
		t.Error("an empty registry was read where one is needed")
	}
}

func exit(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 3
}

// No step may build on a file that a verifier would not accept.
func TestReadRefuses(t *testing.T) {
	good := record("rotate-b", "a", "b")
	for name, tc := range map[string]struct {
		files map[string]string
		says  string
	}{
		"broken registry":   {map[string]string{"signers.json": "{"}, "kernel/tools/signers.json:1:2: not JSON"},
		"unsound registry":  {map[string]string{"signers.json": registryOf(entry("a", 1), entry("A", 2))}, "repair the file first"},
		"key in both":       {map[string]string{"signers.json": registryOf(entry("a", 1)), "signers.archive.json": archiveOf(entry("b", 1))}, "duplicate-key"},
		"broken archive":    {map[string]string{"signers.json": registryOf(entry("a", 1)), "signers.archive.json": "[]"}, "signers.archive.json:1:1"},
		"broken record":     {map[string]string{"signers.json": registryOf(entry("a", 1)), "rotations/x.json": "{}"}, "rotations/x.json: not a rotation record"},
		"record's name":     {map[string]string{"signers.json": registryOf(entry("a", 1)), "rotations/other.json": string(good.JSON())}, "a record stands in the file of its id, kernel/tools/rotations/rotate-b.json"},
		"rotations no dir":  {map[string]string{"signers.json": registryOf(entry("a", 1)), "rotations": "a file"}, "rotations"},
		"registry a folder": {map[string]string{"signers.json/x": "{}"}, "is a folder, not a plain file"},
		"huge registry":     {map[string]string{"signers.json": strings.Repeat(" ", 1<<20+1)}, "more than the 1048576 that are read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, true, tc.files)
			if err == nil || !strings.Contains(err.Error(), tc.says) || exit(err) != 2 || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q with exit code 2", err, tc.says)
			}
		})
	}
}

// Judge says before the pull request is opened what the gate would say of it.
func TestJudge(t *testing.T) {
	merged := record("merged", "", "b")
	s, err := read(t, false, map[string]string{
		"signers.json": registryOf(entry("a", 1), entry("b", 2)), "signers.archive.json": archiveOf(entry("z", 9)), "rotations/merged.json": string(merged.JSON()),
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	standby := record("r", "", "b")
	signer, _ := s.Registry.Find("b")
	standby.Incoming = rotation.SignerOf(signer)
	for name, tc := range map[string]struct {
		registry, archive, record string
		says                      string
	}{
		"one added":              {registry: registryOf(entry("a", 1), entry("b", 2), entry("c", 3))},
		"one archived":           {registryOf(entry("b", 2)), archiveOf(entry("z", 9), entry("a", 1)), "", "retired-without-proof"},
		"one back":               {registryOf(entry("a", 1), entry("b", 2), entry("z", 9)), "", "", "returned-without-rollback"},
		"two added":              {registryOf(entry("a", 1), entry("b", 2), entry("c", 3), entry("d", 4)), "", "", "one-operation"},
		"its key taken":          {registryOf(entry("a", 1), entry("b", 2), entry("c", 1)), "", "", "duplicate-key"},
		"one removed":            {registryOf(entry("b", 2)), "", "", "removed-signer"},
		"a key changed":          {registryOf(entry("a", 4), entry("b", 2)), "", "", "key-changed"},
		"archive rewritten":      {registryOf(entry("a", 1), entry("b", 2)), archiveOf(), "", "archive-rewrite"},
		"nobody left":            {"[]", archiveOf(entry("z", 9), entry("a", 1), entry("b", 2)), "", "no-signer"},
		"its record":             {record: string(standby.JSON())},
		"a record of nobody":     {record: string(record("r", "", "nobody").JSON()), says: "rotation-record"},
		"the merged record":      {record: string(merged.JSON())},
		"a merged one rewritten": {record: strings.Replace(string(merged.JSON()), `"actor": "a"`, `"actor": "b"`, 1), says: "record-rewrite"},
	} {
		files := map[string][]byte{}
		for path, text := range map[string]string{paths.Registry: tc.registry, paths.Archive: tc.archive, paths.Record("r"): tc.record} {
			if strings.Contains(text, `"merged"`) {
				path = paths.Record("merged")
			}
			if text != "" {
				files[path] = []byte(text)
			}
		}
		err := s.Judge(files, now, rotation.EvidenceAge)
		if tc.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var e *published.NotSound
		if !errors.As(err, &e) || !e.Proposed || e.ExitCode() != 2 || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "repair the file") {
			t.Errorf("%s: got %v, want %s", name, err, tc.says)
		}
	}
	for path := range map[string]bool{paths.Registry: true, paths.Record("r"): true} {
		if err := s.Judge(map[string][]byte{path: []byte("{")}, now, rotation.EvidenceAge); err == nil {
			t.Errorf("%s: what is no JSON was let pass", path)
		}
	}
}

// Every state of a pull request has its sentence, and only an open one asks for
// a merge.
func TestOutcome(t *testing.T) {
	seen := map[string]bool{}
	for _, state := range []pullrequest.State{pullrequest.Created, pullrequest.Updated, pullrequest.Unchanged, pullrequest.Closed, pullrequest.Merged, pullrequest.Foreign} {
		text := published.Outcome(pullrequest.Proposal{State: state, Number: 1})
		asks := state == pullrequest.Created || state == pullrequest.Updated || state == pullrequest.Unchanged
		if text == "" || seen[text] || strings.Contains(text, "merge it") != asks {
			t.Errorf("%s: %q", state, text)
		}
		seen[text] = true
	}
	if text := published.Outcome(pullrequest.Proposal{State: pullrequest.Unchanged}); strings.Contains(text, "pull request") {
		t.Errorf("without a pull request: %q", text)
	}
}
