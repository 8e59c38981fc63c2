package signerfiles_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
)

var (
	now   = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	paths = signerfiles.PathsFor("tools/signers.json", "", "")
)

func TestPathsFor(t *testing.T) {
	for name, tc := range map[string]struct {
		registry, archive, rotations string
		want                         signerfiles.Paths
		record                       string // the path of the record rotate-1
	}{
		"in a folder": {"a/signers.json", "", "",
			signerfiles.Paths{Registry: "a/signers.json", Archive: "a/signers.archive.json", Rotations: "a/rotations"}, "a/rotations/rotate-1.json"},
		"at the top": {"signers.json", "", "",
			signerfiles.Paths{Registry: "signers.json", Archive: "signers.archive.json", Rotations: "rotations"}, "rotations/rotate-1.json"},
		"named": {"a/s.json", "b/x.json", "c",
			signerfiles.Paths{Registry: "a/s.json", Archive: "b/x.json", Rotations: "c"}, "c/rotate-1.json"},
	} {
		got := signerfiles.PathsFor(tc.registry, tc.archive, tc.rotations)
		if got != tc.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tc.want)
		}
		if got := got.Record("rotate-1"); got != tc.record {
			t.Errorf("%s: got the record at %s, want %s", name, got, tc.record)
		}
	}
}

// tree is a commit in memory: files by path.
type tree map[string]string

// broken is the text of a file that cannot be read.
const broken = "\x00broken"

var errBroken = errors.New("the disk is gone")

func (t tree) File(_ context.Context, name string) ([]byte, error) {
	text, found := t[name]
	switch {
	case text == broken:
		return nil, errBroken
	case !found:
		return nil, nil
	}
	return []byte(text), nil
}

func (t tree) Folder(ctx context.Context, folder string) (map[string][]byte, error) {
	if t[folder] == broken {
		return nil, errBroken
	}
	files := map[string][]byte{}
	for name := range t {
		if path.Dir(name) != folder || path.Ext(name) != ".json" {
			continue
		}
		text, err := t.File(ctx, name)
		if err != nil {
			return nil, err
		}
		files[path.Base(name)] = text
	}
	return files, nil
}

// with is the tree with another text of one file; "" takes the file away.
func (t tree) with(name, text string) tree {
	t = maps.Clone(t)
	if t[name] = text; text == "" {
		delete(t, name)
	}
	return t
}

func entry(id string, seed byte) string {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)).Public().(ed25519.PublicKey)
	return fmt.Sprintf(`{"signerId": %q, "algorithm": "ed25519", "publicKey": %q}`, id, base64.StdEncoding.EncodeToString(key))
}

// recordOf is the text of a record that publishes a signer.
func recordOf(id, signerID string) string {
	return string(record.Record{ID: id, Moves: []record.Move{&record.Open{
		By:     record.By{At: now.Add(-time.Hour), Actor: "ann", Reason: "the yearly rotation"},
		Signer: record.Signer{ID: signerID, Algorithm: "ed25519"}, Policy: record.Policy{Overlap: record.Duration(48 * time.Hour)},
	}}}.JSON())
}

const secret = `-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----`

// sound is a tree with everything in it.
func sound() tree {
	return tree{
		paths.Registry: `{"signers": [` + entry("a", 1) + ", " + entry("b", 2) + "]}\n",
		paths.Archive: `{"version": 1, "retired": [{"entry": ` + entry("z", 9) + `, "retiredAt": "2026-01-01T00:00:00Z", "reason": "r",
			"rotation": "rotate-a", "state": "retired", "boundary": {"position": 7, "digest": "` + strings.Repeat("ab", 32) + `"}}]}` + "\n",
		paths.Record("rotate-a"):       recordOf("rotate-a", "a"),
		paths.Record("rotate-b"):       recordOf("rotate-b", "b"),
		"tools/rotations/README.md":    "# what these are\n",
		"tools/rotations/deep/x.json":  "{",
		"tools/rotations.json":         "{",
		"tools/rotations/rotate-c.txt": "{",
	}
}

// Load reads registry, archive and records. What is absent is told from what cannot be
// read; what is wrong with a file that can be read is a finding.
func TestLoad(t *testing.T) {
	a, b, c := paths.Record("rotate-a"), paths.Record("rotate-b"), paths.Record("rotate-c")
	both := []string{"rotate-a", "rotate-b"}
	registryOf := func(entries ...string) string { return `{"signers": [` + strings.Join(entries, ", ") + "]}" }
	withSecret := strings.Replace(recordOf("rotate-a", "a"), "the yearly rotation", secret, 1)
	for name, tc := range map[string]struct {
		tree    tree
		records []string
		retired int
		found   []string // "<file>: <rule>"
	}{
		"everything":             {sound(), both, 1, nil},
		"no archive":             {sound().with(paths.Archive, ""), both, 0, nil},
		"no records":             {sound().with(a, "").with(b, ""), nil, 1, nil},
		"no archive, no records": {sound().with(paths.Archive, "").with(a, "").with(b, ""), nil, 0, nil},
		"CRLF in a record":       {sound().with(a, strings.ReplaceAll(recordOf("rotate-a", "a"), "\n", "\r\n")), both, 1, nil},
		"a secret in a record":   {sound().with(a, withSecret), both[1:], 1, []string{a + ": secret-found"}},
		"a secret in no record":  {sound().with(c, `{"note": "`+secret+`"}`), both, 1, []string{c + ": secret-found"}},
		"a key twice": {sound().with(paths.Registry, registryOf(entry("a", 1), entry("b", 1))), both, 1,
			[]string{paths.Registry + ": duplicate-key"}},
		"a key in the archive": {sound().with(paths.Registry, registryOf(entry("a", 9))), both, 1,
			[]string{paths.Registry + ": duplicate-key"}},
		"an unknown member": {sound().with(paths.Archive, `{"version": 1, "retired": [], "more": 1}`), both, 0,
			[]string{paths.Archive + ": unknown-member"}},
		"findings of each": {sound().with(paths.Registry, registryOf(entry("a", 1), entry("A", 2))).with(a, withSecret), both[1:], 1,
			[]string{paths.Registry + ": duplicate-id", a + ": secret-found"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, found, err := signerfiles.Load(t.Context(), tc.tree, paths, now)
			if err != nil || f == nil {
				t.Fatalf("got %v, %v; want files", f, err)
			}
			var records, rules []string
			for _, r := range f.Records {
				records = append(records, r.ID)
			}
			for _, x := range found {
				rules = append(rules, x.File+": "+x.Rule)
				if strings.Contains(x.Message, "MC4CAQAwBQYDK2VwBCIEIA") {
					t.Errorf("the finding shows the secret: %s", x)
				}
			}
			if !slices.Equal(records, tc.records) {
				t.Errorf("records: got %q, want %q", records, tc.records)
			}
			if !slices.Equal(rules, tc.found) {
				t.Errorf("findings: got %q, want %q", rules, tc.found)
			}
			if got := len(f.Archive.Retired); got != tc.retired || f.Archive.Name != paths.Archive {
				t.Errorf("archive: got %d items in %s, want %d in %s", got, f.Archive.Name, tc.retired, paths.Archive)
			}
			if (f.Archive.SHA256() == "") != (tc.tree[paths.Archive] == "") {
				t.Errorf("archive: got digest %q for the text %q", f.Archive.SHA256(), tc.tree[paths.Archive])
			}
			if f.Dir != paths.Rotations || f.Registry.Name != paths.Registry {
				t.Errorf("got %s and %s, want %s and %s", f.Dir, f.Registry.Name, paths.Rotations, paths.Registry)
			}
		})
	}
}

// A tree without a registry has no signers, whatever else is there.
func TestLoadWithoutARegistry(t *testing.T) {
	for name, tree := range map[string]tree{
		"nothing":                     {},
		"an archive and records":      sound().with(paths.Registry, ""),
		"an archive that is broken":   tree{paths.Archive: "{"},
		"records that cannot be read": tree{paths.Rotations: broken},
		"a record that is no JSON":    tree{paths.Record("rotate-a"): "{"},
	} {
		f, found, err := signerfiles.Load(t.Context(), tree, paths, now)
		if f != nil || len(found) != 0 || err != nil {
			t.Errorf("%s: got %v, %v, %v; want nothing", name, f, found, err)
		}
	}
}

// What cannot be read is an error that names the file. Nobody takes it for absent.
func TestLoadRefuses(t *testing.T) {
	a := paths.Record("rotate-a")
	good := recordOf("rotate-a", "a")
	for name, tc := range map[string]struct {
		tree tree
		says string
	}{
		"a registry that is no JSON": {sound().with(paths.Registry, "{"), paths.Registry + ":1:2"},
		"a registry of white space":  {sound().with(paths.Registry, "\n"), paths.Registry},
		"an archive that is no JSON": {sound().with(paths.Archive, "["), paths.Archive + ":1:2"},
		"an archive of white space":  {sound().with(paths.Archive, "\n"), paths.Archive},
		"a record that is no JSON":   {sound().with(a, "{"), a + ":1:2"},
		"a record of white space":    {sound().with(a, " "), a},
		"a record with a name twice": {sound().with(a, strings.Replace(good, `"version": 1,`, `"version": 1, "version": 1,`, 1)), a + ":2"},
		"a record that is none":      {sound().with(a, "{}"), a + ": not a rotation record"},
		"a move that nobody knows":   {sound().with(a, strings.Replace(good, `"open"`, `"close"`, 1)), a + ": not a rotation record: /moves/0/move"},
		"a record without a move":    {sound().with(a, `{"version": 1, "id": "rotate-a", "moves": []}`), a + ": not a rotation record: /moves"},
		"a move out of order":        {sound().with(a, strings.Replace(good, `"move": "open"`, `"move": "withdraw"`, 1)), a + ": not a rotation record"},
		"a record in another layout": {sound().with(a, strings.ReplaceAll(good, "  ", " ")), a + ": not a rotation record: its text is not as this tool writes it"},
		"a record in another file": {sound().with(a, recordOf("rotate-c", "c")), a +
			`: this record's id is "rotate-c"; a record is in the file of its id: rename it to tools/rotations/rotate-c.json`},
		"a copy of a record":              {sound().with(paths.Record("rotate-z"), good), `rotate-z.json: this record's id is "rotate-a"`},
		"a record in a file in capitals":  {sound().with(paths.Record("Rotate-a"), good), `Rotate-a.json: this record's id is "rotate-a"`},
		"a file of others between them":   {sound().with(paths.Rotations+"/package.json", `{"name": "x"}`), "package.json: not a rotation record"},
		"a secret, and a record no JSON":  {sound().with(paths.Record("rotate-0"), `{"note": "`+secret+`"}`).with(a, "{"), a + ":1:2"},
		"a registry that cannot be read":  {sound().with(paths.Registry, broken), "the disk is gone"},
		"an archive that cannot be read":  {sound().with(paths.Archive, broken), "the disk is gone"},
		"a record that cannot be read":    {sound().with(a, broken), "the disk is gone"},
		"a folder that cannot be read":    {sound().with(paths.Rotations, broken), "the disk is gone"},
		"a registry of more than is read": {sound().with(paths.Registry, strings.Repeat(" ", jsondoc.MaxSize+1)), paths.Registry},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := signerfiles.Load(t.Context(), tc.tree, paths, now)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %q", err, tc.says)
			}
			_, isDocument := errors.AsType[*jsondoc.Error](err)
			if want := !errors.Is(err, errBroken); isDocument != want || gha.IsMisuse(err) != want {
				t.Errorf("got %#v, want an error of a file: %v", err, want)
			}
		})
	}
}

// onDisk puts a tree into a new working directory, and calls a function in a run there.
func onDisk(t *testing.T, files tree, do func(r *gha.Run) error) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const spec = "{name: n, description: d, runs: {using: composite, steps: [{id: run, shell: bash, run: x}]}}"
	var log bytes.Buffer
	process := gha.Process{Stdout: &log, Stderr: &log, Now: func() time.Time { return now }}
	code := gha.Exec(t.Context(), []byte(spec), process, func(_ context.Context, r *gha.Run, _ struct{}) error { return do(r) })
	if code != 0 {
		t.Fatalf("got exit code %d, %s", code, log.String())
	}
}

// The working directory is a tree like any other one.
func TestDisk(t *testing.T) {
	all := sound()
	for name, tc := range map[string]struct {
		tree    tree
		signers int // 0: there is no registry
		retired int
		records int
	}{
		"everything":         {all, 2, 1, 2},
		"no archive":         {all.with(paths.Archive, ""), 2, 0, 2},
		"no folder":          {tree{paths.Registry: all[paths.Registry]}, 2, 0, 0},
		"no registry":        {all.with(paths.Registry, ""), 0, 0, 0},
		"nothing, no folder": {tree{}, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			onDisk(t, tc.tree, func(r *gha.Run) error {
				f, found, err := signerfiles.Load(t.Context(), signerfiles.Disk{Run: r, Paths: paths}, paths, now)
				if err != nil || len(found) != 0 {
					t.Fatalf("got %v, %v; want neither error nor finding", err, found)
				}
				if f == nil || tc.signers == 0 {
					if f != nil || tc.signers != 0 {
						t.Errorf("got %+v, want %d signers", f, tc.signers)
					}
					return nil
				}
				got := [3]int{len(f.Registry.Signers), len(f.Archive.Retired), len(f.Records)}
				if want := [3]int{tc.signers, tc.retired, tc.records}; got != want {
					t.Errorf("signers, archived signers and records: got %d, want %d", got, want)
				}
				return nil
			})
		})
	}
}

// An error of the disk names the input that led to the file: that of the registry, of
// the archive or of the records, of the head or of the base.
func TestDiskNamesTheInput(t *testing.T) {
	link := func(name, target string) func() error {
		return func() error {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
			return os.Symlink(target, name)
		}
	}
	folder := func(name string) func() error {
		return func() error {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
			return os.MkdirAll(name, 0o755)
		}
	}
	file := func(name, text string) func() error {
		return func() error {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
			return os.WriteFile(name, []byte(text), 0o600)
		}
	}
	large := strings.Repeat(" ", jsondoc.MaxSize+1)
	record := paths.Record("rotate-a")
	for name, tc := range map[string]struct {
		do    func() error
		input string
		path  string
		says  string
	}{
		"the registry is a link":        {link(paths.Registry, "x.json"), "registry-path", paths.Registry, "is a symbolic link"},
		"the registry is a folder":      {folder(paths.Registry), "registry-path", paths.Registry, "it is a directory"},
		"the registry is too large":     {file(paths.Registry, large), "registry-path", paths.Registry, "larger than the"},
		"the archive is a link":         {link(paths.Archive, "x.json"), "archive-path", paths.Archive, "is a symbolic link"},
		"the archive is a folder":       {folder(paths.Archive), "archive-path", paths.Archive, "it is a directory"},
		"the archive is too large":      {file(paths.Archive, large), "archive-path", paths.Archive, "larger than the"},
		"the folder is a link":          {link(paths.Rotations, "x"), "rotations-path", paths.Rotations, "is a symbolic link"},
		"the folder is a file":          {file(paths.Rotations, "x"), "rotations-path", paths.Rotations, "it is no directory"},
		"a record is a link":            {link(record, "rotate-b.json"), "rotations-path", record, "is a symbolic link"},
		"a record is a link to nowhere": {link(record, "nowhere"), "rotations-path", record, "is a symbolic link"},
		"a record is a folder":          {folder(record), "rotations-path", record, "it is a directory"},
		"a record is too large":         {file(record, large), "rotations-path", record, "larger than the"},
		"the way there is a link":       {link("tools", "elsewhere"), "registry-path", paths.Registry, "is a symbolic link"},
	} {
		for _, base := range []string{"", "base-"} {
			t.Run(base+name, func(t *testing.T) {
				onDisk(t, sound(), func(r *gha.Run) error {
					if err := tc.do(); err != nil {
						return err
					}
					_, _, err := signerfiles.Load(t.Context(), signerfiles.Disk{Run: r, Paths: paths, Base: base}, paths, now)
					want := fmt.Sprintf("%s%s %q: ", base, tc.input, tc.path)
					if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), tc.says) || !gha.IsMisuse(err) {
						t.Errorf("got %v, want %s… %s", err, want, tc.says)
					}
					return nil
				})
			})
		}
	}
}
