package published_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/published"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest"
	"github.com/agent-manager/audit-signer-rotation/internal/pullrequest/githubtest"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
)

var (
	ctx   = context.Background()
	paths = signerfiles.PathsFor("kernel/tools/signers.json", "", "")
)

func public(seed byte) string {
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), 32))).Public().(ed25519.PublicKey)
	return base64.StdEncoding.EncodeToString(key)
}

func entry(id string, seed byte) string {
	return fmt.Sprintf(`{"signerId": %q, "algorithm": "ed25519", "publicKey": %q}`, id, public(seed))
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

// opened is the record of a signer that was published to replace another one, or
// nobody if that is "".
func opened(id, outgoing, incoming string) record.Record {
	open := &record.Open{
		By:     record.By{At: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Actor: "a", Reason: "r"},
		Signer: signer(incoming), Policy: record.Policy{Overlap: record.Duration(48 * time.Hour)},
	}
	if outgoing != "" {
		old := signer(outgoing)
		open.Replaces = &old
	}
	return record.Record{ID: id, Moves: []record.Move{open}}
}

// signer is one as a record names it, without its key.
func signer(id string) record.Signer { return record.Signer{ID: id, Algorithm: "ed25519"} }

// serve puts files into a repository.
func serve(t *testing.T, files map[string]string) (*githubtest.Server, *pullrequest.Repo) {
	t.Helper()
	return serveAt(t, files, nil)
}

// serveAt is serve by another clock than this machine's, unless that is nil.
func serveAt(t *testing.T, files map[string]string, now func() time.Time) (*githubtest.Server, *pullrequest.Repo) {
	t.Helper()
	g, err := githubtest.New(githubtest.Options{Files: files, Token: "t", Now: now})
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

func TestRead(t *testing.T) {
	open, over := opened("rotate-b", "a", "b"), opened("rotate-c", "", "c")
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
	if got := s.InFlight(); !slices.Equal(got, []string{"rotate-b"}) {
		t.Errorf("in flight: got %q, want rotate-b", got)
	}
	if got := s.Path("rotate-b"); got != paths.Record("rotate-b") || s.Blocked != "" {
		t.Errorf("got %q and %q, want %q and nothing", got, s.Blocked, paths.Record("rotate-b"))
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

// An archive without a registry is read all the same: its signers never come back.
func TestReadWithoutRegistryReadsTheArchive(t *testing.T) {
	s, err := read(t, true, map[string]string{"signers.archive.json": archiveOf(entry("z", 9))})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Archive.Retired) != 1 || s.Taken("z") == "" {
		t.Errorf("got %d archived signers, id z taken: %q; want one, and the id taken", len(s.Archive.Retired), s.Taken("z"))
	}
	if _, err := read(t, true, map[string]string{"signers.archive.json": "["}); err == nil || exit(err) != 2 {
		t.Errorf("an archive that is no JSON: got %v, want an error with exit code 2", err)
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
	good := opened("rotate-b", "a", "b")
	const secret = "-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIA==\\n-----END PRIVATE KEY-----"
	for name, tc := range map[string]struct {
		files map[string]string
		says  string
	}{
		"broken registry":    {map[string]string{"signers.json": "{"}, "kernel/tools/signers.json:1:2: not JSON"},
		"unsound registry":   {map[string]string{"signers.json": registryOf(entry("a", 1), entry("A", 2))}, "repair the file first"},
		"key in both":        {map[string]string{"signers.json": registryOf(entry("a", 1)), "signers.archive.json": archiveOf(entry("b", 1))}, "duplicate-key"},
		"broken archive":     {map[string]string{"signers.json": registryOf(entry("a", 1)), "signers.archive.json": "[]"}, "signers.archive.json:1:1"},
		"broken record":      {map[string]string{"signers.json": registryOf(entry("a", 1)), "rotations/x.json": "{}"}, "rotations/x.json: not a rotation record"},
		"record's name":      {map[string]string{"signers.json": registryOf(entry("a", 1)), "rotations/other.json": string(good.JSON())}, "a record is in the file of its id: rename it to kernel/tools/rotations/rotate-b.json"},
		"secret in a record": {map[string]string{"signers.json": registryOf(entry("a", 1)), "rotations/rotate-b.json": `{"note": "` + secret + `"}`}, "repair the file first"},
		"rotations no dir":   {map[string]string{"signers.json": registryOf(entry("a", 1)), "rotations": "a file"}, "rotations"},
		"registry a folder":  {map[string]string{"signers.json/x": "{}"}, "is a folder, not a plain file"},
		"huge registry":      {map[string]string{"signers.json": strings.Repeat(" ", 1<<20+1)}, "more than the 1048576 that are read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, true, tc.files)
			if err == nil || !strings.Contains(err.Error(), tc.says) || exit(err) != 2 || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q with exit code 2", err, tc.says)
			}
		})
	}
}

// Apply makes a move, returns the files to be written, and says before the pull request
// is opened what the gate would say of it.
func TestApply(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	inFlight := opened("rotate-b", "a", "b")
	inFlight.Moves[0].(*record.Open).Signer, inFlight.Moves[0].(*record.Open).Replaces = keyed("b", 2), pointer(keyed("a", 1))
	flying := map[string]string{
		"signers.json": registryOf(entry("a", 1), entry("b", 2)), "signers.archive.json": archiveOf(entry("z", 9)),
		"rotations/rotate-b.json": string(inFlight.JSON()),
	}
	quiet := map[string]string{"signers.json": registryOf(entry("a", 1), entry("b", 2))}
	by := func(at time.Time) record.By { return record.By{At: at, Actor: "a", Reason: "r"} }
	policy := record.Policy{Overlap: record.Duration(48 * time.Hour)}
	publish := func(id string, seed byte, at time.Time) *record.Open {
		return &record.Open{By: by(at), Signer: keyed(id, seed), Replaces: pointer(keyed("a", 1)), Policy: policy, Key: key(seed)}
	}
	promote := &record.Promote{By: by(now), Signer: keyed("b", 2), Replaces: keyed("a", 1), Policy: policy}
	boundary := record.Mark{Position: 7, Digest: chain.Digest{1}}
	for name, tc := range map[string]struct {
		files   map[string]string
		id      string
		move    record.Move
		changed []string // below kernel/tools
		refused string   // by package record
		unsound string   // by the gate
	}{
		"a signer is published":     {quiet, "rotate-c", publish("c", 3, now), []string{"rotations/rotate-c.json", "signers.json"}, "", ""},
		"one is to replace another": {quiet, "rotate-b", promote, []string{"rotations/rotate-b.json"}, "", ""},
		"a key is stolen": {quiet, "compromise-a", &record.Compromise{By: by(now), Signer: keyed("a", 1), Boundary: boundary},
			[]string{"rotations/compromise-a.json", "signers.archive.json", "signers.json"}, "", ""},
		"it goes back": {flying, "rotate-b", &record.RollBack{By: by(now), Signer: keyed("a", 1)}, []string{"rotations/rotate-b.json"}, "", ""},
		"it is withdrawn": {flying, "rotate-b", &record.Withdraw{By: by(now), Signer: keyed("b", 2)},
			[]string{"rotations/rotate-b.json", "signers.archive.json", "signers.json"}, "", ""},

		"its key is taken":          {quiet, "rotate-c", publish("c", 2, now), nil, "duplicate-key", ""},
		"its id is taken":           {quiet, "rotate-b", publish("b", 3, now), nil, `signer id "b" belongs to the published signer "b"`, ""},
		"one is under way":          {flying, "rotate-c", publish("c", 3, now), nil, "rotation rotate-b is in flight", ""},
		"it never was under way":    {quiet, "rotate-b", &record.RollBack{By: by(now), Signer: keyed("a", 1)}, nil, "cannot be made", ""},
		"nobody has the signer":     {quiet, "compromise-x", &record.Compromise{By: by(now), Signer: keyed("x", 7)}, nil, "signer x is not in", ""},
		"the signer's key differs":  {quiet, "compromise-a", &record.Compromise{By: by(now), Signer: keyed("a", 7)}, nil, "names another key", ""},
		"a record of another name":  {quiet, "x", publish("c", 3, now), nil, `begins with "rotate-"`, ""},
		"archived without evidence": {flying, "rotate-b", &record.Retire{By: by(now), Signer: keyed("a", 1), Boundary: boundary}, nil, "", "retired-without-proof"},
		"made tomorrow":             {quiet, "rotate-c", publish("c", 3, now.Add(24*time.Hour)), nil, "", "stale-evidence"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := read(t, false, tc.files)
			if err != nil {
				t.Fatal(err)
			}
			before := s.Registry.SHA256()
			after, files, err := s.Apply(tc.id, tc.move, now, rotation.EvidenceAge)
			if s.Registry.SHA256() != before || s.Record("rotate-c") != nil {
				t.Error("the state has changed")
			}
			refused, isRefused := errors.AsType[*record.Refused](err)
			unsound, isUnsound := errors.AsType[*published.NotSound](err)
			switch {
			case tc.refused != "":
				if !isRefused || !strings.Contains(err.Error(), tc.refused) || exit(err) != 2 || files != nil {
					t.Errorf("got %v and %d files, want a refusal: %s", refused, len(files), tc.refused)
				}
				return
			case tc.unsound != "":
				if !isUnsound || !unsound.Proposed || unsound.Finding.Rule != tc.unsound || exit(err) != 2 || files != nil ||
					!strings.Contains(err.Error(), "nothing was proposed") || strings.Contains(err.Error(), "repair the file") {
					t.Errorf("got %v and %d files, want %s", err, len(files), tc.unsound)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			texts := map[string]string{}
			for name, text := range tc.files {
				texts[name] = text
			}
			var changed []string
			for _, name := range slices.Sorted(maps.Keys(files)) {
				short := strings.TrimPrefix(name, "kernel/tools/")
				changed, texts[short] = append(changed, short), string(files[name])
			}
			if !slices.Equal(changed, tc.changed) {
				t.Errorf("changed: got %q, want %q", changed, tc.changed)
			}
			merged, err := read(t, false, texts)
			if err != nil {
				t.Fatalf("merged: got %v, want files that can be read", err)
			}
			if got, want := merged.Record(tc.id), after.Record(tc.id); got == nil || string(got.JSON()) != string(want.JSON()) {
				t.Errorf("merged: got the record %v, want %s", got, want.JSON())
			}
			if got, want := merged.Registry.SHA256(), after.Registry.SHA256(); got != want {
				t.Errorf("merged: got registry %s, want %s", got, want)
			}
			if got, want := merged.Archive.SHA256(), after.Archive.SHA256(); got != want {
				t.Errorf("merged: got archive %s, want %s", got, want)
			}
		})
	}
}

// A retirement must rest on every gate, and on evidence of these very files that is not
// too old.
func TestApplyRetirement(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	rec := opened("rotate-b", "a", "b")
	open := rec.Moves[0].(*record.Open)
	open.Signer, open.Replaces = keyed("b", 2), pointer(keyed("a", 1))
	s, err := read(t, false, map[string]string{
		"signers.json": registryOf(entry("a", 1), entry("b", 2)), "rotations/rotate-b.json": string(rec.JSON()),
	})
	if err != nil {
		t.Fatal(err)
	}
	early, late := open.At.Add(time.Hour), open.At.Add(2*time.Hour)
	report := &chain.Report{Verdict: chain.Verified, Events: 20, Length: 20, Head: strings.Repeat("ab", 32), TruncationExcluded: true,
		Signers: map[string]chain.SignerUse{
			"a": {Events: 9, FirstPosition: 1, LastPosition: 10, LastCreatedAt: &early, LastDigest: chain.Digest{1}, Entry: "a"},
			"b": {Events: 11, FirstPosition: 9, LastPosition: 20, FirstCreatedAt: &early, LastCreatedAt: &late, Entry: "b"},
		}}
	a := rotation.Evaluate(rotation.Facts{Record: rec, Files: s.Files, Report: report, CheckpointGiven: true,
		Trail: rotation.Trail{Off: "switched off by cloudtrail: off"}, Now: now})
	if a.Prove(report, false); a.Phase != rotation.Finalizable {
		t.Fatalf("got phase %s and gates %+v, want one that can be archived", a.Phase, a.Gates)
	}
	for name, tc := range map[string]struct {
		ago    time.Duration // when it was judged
		age    time.Duration
		change func(m *record.Retire)
		want   string // the rule that it breaks
	}{
		"judged now":                     {0, rotation.EvidenceAge, nil, ""},
		"judged a day ago":               {24 * time.Hour, rotation.EvidenceAge, nil, ""},
		"judged too long ago":            {24*time.Hour + time.Second, rotation.EvidenceAge, nil, "stale-evidence"},
		"judged long ago, however long":  {48 * time.Hour, 0, nil, ""},
		"judged with another registry":   {0, 0, func(m *record.Retire) { m.Evidence.RegistrySHA256 = strings.Repeat("0", 64) }, "stale-evidence"},
		"judged before the overlap":      {0, 0, func(m *record.Retire) { m.At = open.At.Add(47 * time.Hour) }, "retired-without-proof"},
		"a gate was not judged":          {0, 0, func(m *record.Retire) { m.Gates = m.Gates[1:] }, "retired-without-proof"},
		"a gate has evidence against it": {0, 0, func(m *record.Retire) { m.Gates[1].State = record.Against }, "retired-without-proof"},
	} {
		m := &record.Retire{
			By: record.By{At: now.Add(-tc.ago), Actor: "a", Reason: "r"}, Signer: keyed("a", 1), Boundary: a.Boundary, Cutover: a.Cutover,
			Gates: slices.Clone(a.Gates), Evidence: record.Evidence{Events: 20, Head: report.Head, RegistrySHA256: s.Registry.SHA256()},
		}
		if tc.change != nil {
			tc.change(m)
		}
		after, files, err := s.Apply("rotate-b", m, now, tc.age)
		rule := ""
		if unsound, is := errors.AsType[*published.NotSound](err); is {
			rule = unsound.Finding.Rule
		}
		if rule != tc.want || (err != nil) != (tc.want != "") {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
			continue
		}
		if tc.want == "" && (len(files) != 3 || len(after.Archive.Retired) != 1 || len(after.Registry.Signers) != 1) {
			t.Errorf("%s: got %d files, %d archived and %d registered signers; want 3, 1 and 1",
				name, len(files), len(after.Archive.Retired), len(after.Registry.Signers))
		}
	}
}

// keyed is a signer with the key of a seed, as a record names it.
func keyed(id string, seed byte) record.Signer {
	return record.Signer{ID: id, Algorithm: "ed25519", Fingerprint: key(seed).Fingerprint()}
}

func pointer(s record.Signer) *record.Signer { return &s }

func key(seed byte) pubkey.Key {
	k, err := pubkey.Parse(public(seed))
	if err != nil {
		panic(err)
	}
	return k
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
