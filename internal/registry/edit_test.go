package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// layouts writes one registry in many ways: container, indentation, line ends,
// final line end, entries over several lines or on one, the file on one line.
func layouts(t *testing.T, signers int) map[string][]byte {
	t.Helper()
	type member struct{ name, value string }
	object := func(unit string, members []member) string {
		var b strings.Builder
		for i, m := range members {
			if i > 0 {
				b.WriteString(",")
			}
			b.WriteString("\n" + unit + fmt.Sprintf("%q: ", m.name) + strings.ReplaceAll(m.value, "\n", "\n"+unit))
		}
		return "{" + b.String() + "\n}"
	}
	all := map[string][]byte{}
	for _, container := range []string{"list", "wrapped", "map"} {
		for unitName, unit := range map[string]string{"2": "  ", "4": "    ", "tab": "\t"} {
			for _, style := range []string{"lines", "entry a line", "one line", "compact"} {
				var entries []string
				for i := range signers {
					id := fmt.Sprintf("s%d", i)
					members := []member{{"signer_kid", `"` + id + `"`}, {"alg", `"ed25519"`}, {"key", `"` + public(id) + `"`}, {"x-tags", `["a", {"b": 1}]`}}
					if container == "map" {
						members = members[1:]
					}
					text := object(unit, members)
					if style == "entry a line" {
						text = strings.NewReplacer("\n"+unit, "", "\n", "").Replace(strings.ReplaceAll(text, ",\n"+unit, ", "))
					}
					if container == "map" {
						text = `"` + id + `": ` + text
					}
					entries = append(entries, strings.ReplaceAll(text, "\n", "\n"+unit))
				}
				open, end := "[", "]"
				if container == "map" {
					open, end = "{", "}"
				}
				text := open + "\n" + unit + strings.Join(entries, ",\n"+unit) + "\n" + end
				if signers == 0 {
					text = open + end
				}
				if container == "wrapped" {
					text = object(unit, []member{{"version", "1"}, {"signers", text}, {"x-end", "true"}})
				}
				switch style {
				case "one line":
					text = strings.NewReplacer(",\n", ", ", "\n", "", unit, "").Replace(text)
				case "compact":
					var b bytes.Buffer
					if err := json.Compact(&b, []byte(text)); err != nil {
						t.Fatal(err)
					}
					text = b.String()
				}
				for ending, final := range map[string]string{"with a final line end": "\n", "without": ""} {
					name := fmt.Sprintf("%d signers, %s, %s, %s, %s", signers, container, unitName, style, ending)
					all[name+", LF"] = []byte(text + final)
					all[name+", CRLF"] = []byte(strings.ReplaceAll(text+final, "\n", "\r\n"))
				}
			}
		}
	}
	return all
}

func newEntry(t testing.TB) registry.Entry {
	return registry.Entry{
		ID: "arn:aws:kms:eu-west-1:111122223333:key/new", Aliases: []string{"new", "alias/new"}, Algorithm: pubkey.Ed25519, Key: key(t, "new"),
		KMSKeyID: "arn:aws:kms:eu-west-1:111122223333:key/new", DeployedAt: now, Description: "a \"new\" key\nfor <you> & \\ me", Rotation: "rotate-new",
	}
}

// inserted splits after into what stood before and one insertion; it fails
// unless before is after with that one stretch taken out.
func inserted(t *testing.T, before, after []byte) string {
	t.Helper()
	i := 0
	for i < len(before) && before[i] == after[i] {
		i++
	}
	k := 0
	for k < len(before)-i && before[len(before)-1-k] == after[len(after)-1-k] {
		k++
	}
	if i+k != len(before) {
		t.Fatalf("more than an insertion: %q became %q\n%s\n%s", before[i:len(before)-k], after[i:len(after)-k], before, after)
	}
	return string(after[i : len(after)-k])
}

// Adding a signer adds its lines and, where one is needed, a comma; every
// other byte stays, in every layout.
func TestAddKeepsEveryByte(t *testing.T) {
	n := 0
	for signers := range 4 {
		for name, before := range layouts(t, signers) {
			n++
			r, fs, err := registry.Parse("signers.json", before)
			if err != nil || signers > 0 && len(fs) > 0 {
				t.Fatalf("%s: %v %v\n%s", name, err, fs, before)
			}
			after := r.Add(newEntry(t))
			text := inserted(t, before, after)
			if strings.Count(text, "{") != 1 || strings.HasPrefix(text, ",") != (signers > 0) {
				t.Errorf("%s: inserted %q", name, text)
			}
			added, fs, err := judge(after)
			if err != nil || len(fs) > 0 || len(added.Signers) != signers+1 || added.Container != r.Container {
				t.Fatalf("%s: %v %v\n%s", name, err, fs, after)
			}
			if fs := registry.Mismatches(r, &registry.Archive{}, added, &registry.Archive{}, 0); rules(fs) != registry.RuleMoveMismatch {
				t.Errorf("%s: %v", name, fs)
			}
			s := added.Signers[signers]
			if want := newEntry(t); s.ID != want.ID || strings.Join(s.Aliases, " ") != "new alias/new" || s.Key.Fingerprint() != want.Key.Fingerprint() ||
				s.KMSKeyID != want.KMSKeyID || s.DeployedAt != "2026-11-23T00:00:00Z" || s.Rotation != want.Rotation {
				t.Errorf("%s: %+v", name, s)
			}
			looksTheSame(t, name, before, after, signers)
		}
	}
	if n != 4*3*3*4*2*2 {
		t.Errorf("%d layouts", n)
	}
}

// looksTheSame wants the new entry in the file's own style: line ends, member
// names, a line a member where the others have that.
func looksTheSame(t *testing.T, name string, before, after []byte, signers int) {
	t.Helper()
	if bytes.Contains(before, []byte("\r\n")) && bytes.Count(after, []byte("\n")) != bytes.Count(after, []byte("\r\n")) {
		t.Errorf("%s: mixed line ends\n%s", name, after)
	}
	if signers == 0 {
		return
	}
	if strings.Count(string(after), `"alg"`) != signers+1 || strings.Count(string(after), `"key"`) != signers+1 {
		t.Errorf("%s: other member names\n%s", name, after)
	}
	lines := bytes.Count(after, []byte("\n")) - bytes.Count(before, []byte("\n"))
	want := map[string]int{"lines": 10, "entry a line": 1, "one line": 0, "compact": 0}
	for style, n := range want {
		if strings.HasPrefix(name[strings.Index(name, ", ")+2:], "map") {
			n = map[string]int{"lines": 9, "entry a line": 1}[style] // the map holds the id
		}
		if strings.Contains(name, ", "+style+",") && lines != n {
			t.Errorf("%s: %d more lines, want %d\n%s", name, lines, n, after)
		}
	}
}

// Retiring the last entry and bringing it back gives the file that was there;
// of another entry, the same entries in another order.
func TestRetireAndRestore(t *testing.T) {
	for signers := 2; signers < 5; signers++ {
		for name, before := range layouts(t, signers) {
			r, _, err := registry.Parse("signers.json", before)
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range r.Signers {
				without, err := r.Retire(s.ID)
				if err != nil {
					t.Fatal(err)
				}
				left, fs, err := registry.Parse("signers.json", without)
				if _, still := left.Find(s.ID); err != nil || len(fs) > 0 || len(left.Signers) != signers-1 || still {
					t.Fatalf("%s: %v %v\n%s", name, err, fs, without)
				}
				inserted(t, without, before)
				archive, fs, err := registry.ParseArchive("archive", (&registry.Archive{}).Append(registry.Retired{
					Signer: s, RetiredAt: now, Reason: "age", Rotation: "r", State: registry.StateRetired, Boundary: registry.Boundary{Position: 3, Digest: chain.Digest{1}}}))
				if err != nil || len(fs) > 0 {
					t.Fatalf("%s: %v %v", name, err, fs)
				}
				if fs := registry.Validate(left, archive, now); len(fs) > 0 {
					t.Fatalf("%s: %v", name, fs)
				}
				was, _ := archive.Find(s.ID)
				restored := left.Restore(was)
				back, fs, err := registry.Parse("signers.json", restored)
				if err != nil || len(fs) > 0 {
					t.Fatalf("%s: %v %v\n%s", name, err, fs, restored)
				}
				if i == signers-1 && !bytes.Equal(restored, before) {
					t.Errorf("%s: the entry did not come back as it was\n%s\n%s", name, before, restored)
				}
				if fs := registry.Validate(back, archive, now); len(fs) > 0 {
					t.Errorf("%s: %v", name, fs)
				}
				if fs := registry.Edits(r, &registry.Archive{}, back, &registry.Archive{}); len(fs) > 0 {
					t.Errorf("%s: %v", name, fs)
				}
			}
		}
	}
	r, _, _ := registry.Parse("signers.json", []byte(list(entry("x", "a"), entry("y", "b", `"aliases":["z"]`))))
	for _, id := range []string{"", "nobody", "z"} {
		if _, err := r.Retire(id); err == nil || !strings.Contains(err.Error(), "signers.json has no signer") {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// What goes into an archive comes out of it, whatever the layout of both
// files; each item is added to the bytes that stand there.
func TestArchiveRoundTrip(t *testing.T) {
	archives := map[string]string{
		"none":     "",
		"new":      registry.NewArchive,
		"tabs":     "{\n\t\"version\": 1,\n\t\"retired\": [\n\t\t" + item(entry("w", "w")) + "\n\t]\n}\n",
		"lines":    strings.ReplaceAll("{\n    \"version\": 1,\n    \"retired\": [\n        {\n            \"entry\": "+entry("w", "w")+",\n            \"retiredAt\": \"2026-01-02T03:04:05Z\",\n            \"reason\": \"a\", \"rotation\": \"b\", \"state\": \"retired\",\n            \"boundary\": {\"position\": 1, \"digest\": \""+strings.Repeat("b", 64)+"\"}\n        }\n    ]\n}\n", "\n", "\r\n"),
		"compact":  archive(item(entry("w", "w"))),
		"one line": strings.ReplaceAll(archive(), ":", ": "),
	}
	for signers := 1; signers < 3; signers++ {
		for name, src := range layouts(t, signers) {
			r, _, err := registry.Parse("signers.json", src)
			if err != nil {
				t.Fatal(err)
			}
			for kind, text := range archives {
				a := parseArchive(t, text)
				kept := len(a.Retired)
				for i, s := range r.Signers {
					in := registry.Retired{Signer: s, RetiredAt: now, Reason: "it is \"old\"", Rotation: "r1", State: registry.StateCompromised, Boundary: registry.Boundary{Position: int64(i), Digest: chain.Digest{byte(i), 2}}}
					before := a.Bytes()
					after := a.Append(in)
					if before != nil {
						inserted(t, before, after)
					}
					next, fs, err := registry.ParseArchive("archive", after)
					if err != nil || len(fs) > 0 || len(next.Retired) != kept+i+1 {
						t.Fatalf("%s into %s: %v %v\n%s", name, kind, err, fs, after)
					}
					out := next.Retired[kept+i]
					if out.ID != s.ID || out.Source != s.Source || out.Key.Fingerprint() != s.Key.Fingerprint() || !out.RetiredAt.Equal(now) ||
						out.Reason != in.Reason || out.Rotation != "r1" || out.State != in.State || out.Boundary != in.Boundary {
						t.Fatalf("%s into %s: %+v\n%s", name, kind, out, after)
					}
					a = next
				}
				if style := "lines, with a final line end, LF"; strings.HasSuffix(name, style) {
					files, err := registry.Load("s", []byte(list(entry("q", "q"))), "archive", a.Bytes())
					if err != nil || len(files.Findings) > 0 {
						t.Fatalf("%s into %s: %v %v", name, kind, err, files)
					}
				}
			}
		}
	}
}

func TestNewFiles(t *testing.T) {
	r := parse(t, registry.New)
	after := r.Add(registry.Entry{ID: "x", Algorithm: pubkey.HMACSHA256, KMSKeyID: arn(1), DeployedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))})
	const want = `{
  "signers": [
    {
      "signerId": "x",
      "algorithm": "hmac-sha256",
      "deployedAt": "2026-01-02T02:04:05Z",
      "kmsKeyId": "arn:aws:kms:eu-west-1:111122223333:key/00000001-1111-4111-8111-111111111111"
    }
  ]
}
`
	if string(after) != want {
		t.Errorf("%s", after)
	}
	if fs := registry.Edits(r, &registry.Archive{}, parse(t, want), &registry.Archive{}); len(fs) > 0 {
		t.Error(fs)
	}
	// The names of the last entry that has such a member.
	r = parse(t, list(`{"id":"x","alg":"ed25519","public_key_pem":"`+public("a")+`"}`, `{"id":"m","alg":"hmac-sha256","kmsKeyId":"`+arn(1)+`"}`))
	e := newEntry(t)
	after = r.Add(e)
	for _, name := range []string{`"id":"arn`, `"alg":"ed25519"`, `"public_key_pem":"-----BEGIN`} {
		if !bytes.Contains(after, []byte(name)) {
			t.Errorf("no %s in\n%s", name, after)
		}
	}
	if _, fs, err := judge(after); err != nil || len(fs) > 0 {
		t.Errorf("%v %v", err, fs)
	}
}

// FuzzRegistry: whatever the bytes, they are refused or read; what is read is
// read alike by encoding/json, and editing it adds or removes one signer.
func FuzzRegistry(f *testing.F) {
	for _, src := range []string{registry.New, list(entry("x", "a"), macEntry("m", "k")), `{"x":` + entry("x", "a") + "}", "{\"signers\":[\r\n\t" + entry("x", "a", `"aliases":["y"]`) + "\r\n]}"} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		r, fs, err := judge(src)
		registry.ParseArchive("archive", src)
		if err != nil || len(rules(fs)) > 0 {
			return
		}
		var ids []string
		for _, s := range r.Signers {
			ids = append(ids, s.ID)
		}
		if got := plainIDs(t, src); strings.Join(got, "\n") != strings.Join(slices.Sorted(slices.Values(ids)), "\n") {
			t.Fatalf("encoding/json sees %q, this reader %q", got, ids)
		}
		e := newEntry(t)
		if _, taken := r.Find(e.ID); taken || strings.Contains(string(src), "new") {
			return
		}
		added, fs, err := judge(r.Add(e))
		if err != nil || len(rules(fs)) > 0 && !strings.Contains(rules(fs), registry.RuleDuplicateKey) || len(added.Signers) != len(r.Signers)+1 {
			t.Fatalf("%v %v", err, fs)
		}
		without, err := added.Retire(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(without, src) {
			t.Fatalf("%q\n%q", src, without)
		}
	})
}

// plainIDs reads the signer ids as a plain reader does.
func plainIDs(t *testing.T, src []byte) []string {
	t.Helper()
	var root any
	if err := json.Unmarshal(src, &root); err != nil {
		t.Fatalf("encoding/json refuses it: %v", err)
	}
	var ids []string
	entries, _ := root.([]any)
	if object, ok := root.(map[string]any); ok {
		if entries, ok = object["signers"].([]any); !ok {
			for id := range object {
				ids = append(ids, id)
			}
		}
	}
	for _, e := range entries {
		for _, name := range []string{"signerId", "signer_kid", "signer_id", "id"} {
			if id, ok := e.(map[string]any)[name].(string); ok {
				ids = append(ids, id)
				break
			}
		}
	}
	slices.Sort(ids)
	return ids
}
