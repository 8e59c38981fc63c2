package jsondoc_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
)

func TestParseRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ src, at, why string }{
		"empty":            {"", "f:1:1", "empty"},
		"blank":            {" \n", "f:1:1", "empty"},
		"byte order mark":  {"\xef\xbb\xbf{}", "f:1:1", "byte order mark"},
		"not UTF-8":        {"{\n\"a\": \"\xff\"}", "f:2:7", "UTF-8"},
		"comment":          {"{\n// x\n}", "f:2:1", "comments"},
		"trailing comma":   {"[1,\n2,\n]", "f:2:2", "trailing commas"},
		"second document":  {"{} {}", "f:1:4", "not JSON"},
		"unclosed":         {"{\"a\":1\n", "f:2:1", "not JSON"},
		"duplicate name":   {"{\"a\":1,\n \"\\u0061\":2}", "f:2:2", "stands twice"},
		"deep":             {strings.Repeat("[", 33), "f:1:33", "deeper than 32"},
		"lone high":        {`["x\ud800"]`, "f:1:4", "surrogate"},
		"lone low":         {`["\udc00x"]`, "f:1:3", "surrogate"},
		"high, then other": {`["\ud800\u0041"]`, "f:1:3", "surrogate"},
		"high at the end":  {`["\ud800\\udc00"]`, "f:1:3", "surrogate"},
		"control in text":  {"[\"a\tb\"]", "f:1:2", "not JSON"},
		"too big":          {`"` + strings.Repeat("x", jsondoc.MaxSize) + `"`, "f: ", "limit of 1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := jsondoc.Parse("f", []byte(tc.src))
			var e *jsondoc.Error
			if !errors.As(err, &e) || e.ExitCode() != 2 {
				t.Fatalf("got %v, want an *Error with exit code 2", err)
			}
			if !strings.HasPrefix(err.Error(), tc.at) || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %q, want %q at %s", err, tc.why, tc.at)
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	d, err := jsondoc.Parse("f", []byte("{\"é\": [1, true, null, \"\\ud83d\\ude00\\\\ud800\"],\n  \"b\": {}}"))
	if err != nil {
		t.Fatal(err)
	}
	list := d.Root.Member("é")
	if list == nil || len(list.Elements) != 4 || list.Elements[3].Text != "😀\\ud800" || list.Elements[0].Text != "1" {
		t.Fatalf("read %+v", list)
	}
	if line, col := d.Position(list.Start); line != 1 || col != 7 {
		t.Errorf("list at %d:%d, want 1:7", line, col)
	}
	if line, col := d.Position(d.Root.Members[1].NameStart); line != 2 || col != 3 {
		t.Errorf("b at %d:%d, want 2:3", line, col)
	}
	if d.Root.Member("B") != nil {
		t.Error("names are case-sensitive")
	}
}

// containers are the places that entries are added to, as people format them.
func containers() map[string]string {
	out := map[string]string{
		"one line list":        `[{"id": "a"}, {"id": "b"}]`,
		"one line, tight":      `{"signers":[{"id":"a"}]}`,
		"hugging list":         "[{\n  \"id\": \"a\"\n}, {\n  \"id\": \"b\"\n}]\n",
		"entries on one line":  "[\n  {\"id\": \"a\"},\n  {\"id\": \"b\"}\n]\n",
		"no newline at end":    "[\n  {\n    \"id\": \"a\"\n  }\n]",
		"empty list in object": "{\n  \"signers\": [],\n  \"x\": 1\n}\n",
		"empty list":           "[]",
		"empty one line":       `{"signers":[]}`,
		"empty object":         "{}\n",
		"empty, broken":        "{\n  \"signers\": [\n  ]\n}\n",
	}
	for unitName, unit := range map[string]string{"2": "  ", "4": "    ", "tab": "\t"} {
		for shape, src := range map[string]string{
			"list":    "[\n~{\n~~\"id\": \"a\"\n~},\n~{\n~~\"id\": \"b\"\n~}\n]\n",
			"signers": "{\n~\"v\": 1,\n~\"signers\": [\n~~{\n~~~\"id\": \"a\"\n~~}\n~],\n~\"z\": 2\n}\n",
			"map":     "{\n~\"a\": {\n~~\"k\": 1\n~}\n}\n",
		} {
			src = strings.ReplaceAll(src, "~", unit)
			out[shape+" "+unitName] = src
			out[shape+" "+unitName+" CRLF"] = strings.ReplaceAll(src, "\n", "\r\n")
		}
	}
	return out
}

func container(t *testing.T, d *jsondoc.Document) *jsondoc.Value {
	t.Helper()
	if s := d.Root.Member("signers"); s != nil {
		return s
	}
	return d.Root
}

func TestAppendKeepsEveryOtherByteAndRemoveUndoesIt(t *testing.T) {
	for name, src := range containers() {
		t.Run(name, func(t *testing.T) {
			d, err := jsondoc.Parse("f", []byte(src))
			if err != nil {
				t.Fatal(err)
			}
			c := container(t, d)
			entry := d.LayoutOf(c).Render([]jsondoc.Field{{Name: "id", JSON: `"new"`}, {Name: "pem", JSON: jsondoc.Quote("a\nb<>&\"\\")}})
			out := d.Append(c, "new", entry)
			if !json.Valid(out) {
				t.Fatalf("not JSON:\n%s", out)
			}
			after, err := jsondoc.Parse("f", out)
			if err != nil {
				t.Fatal(err)
			}
			onlyAdds(t, src, string(out))
			if crlf := strings.Contains(src, "\r\n"); crlf != strings.Contains(string(out), "\r\n") || crlf && strings.Count(string(out), "\n") != strings.Count(string(out), "\r\n") {
				t.Errorf("line ends changed:\n%q", out)
			}
			ac := container(t, after)
			n := max(len(ac.Members), len(ac.Elements))
			if got := after.Verbatim(value(ac, n-1)); got != entry {
				t.Errorf("entry reads back as\n%s\nwant\n%s", got, entry)
			}
			back := after.Remove(ac, n-1)
			if empty := len(c.Members)+len(c.Elements) == 0; !empty && string(back) != src {
				t.Errorf("removing the entry again gives\n%s\nwant\n%s", back, src)
			}
		})
	}
}

func value(c *jsondoc.Value, i int) *jsondoc.Value {
	if c.Kind == jsondoc.Object {
		return c.Members[i].Value
	}
	return c.Elements[i]
}

// onlyAdds checks that old text is out with one run of bytes taken away.
func onlyAdds(t *testing.T, old, out string) {
	t.Helper()
	head := 0
	for head < len(old) && old[head] == out[head] {
		head++
	}
	tail := old[head:]
	if strings.TrimSpace(tail) != "" && !strings.HasSuffix(out, tail) && !strings.HasSuffix(out, strings.TrimLeft(tail, " \t\r\n")) {
		t.Errorf("other bytes changed:\n%q\n%q", old, out)
	}
}

// No error shows what stands in the file: it may be a secret.
func TestErrorsAreSilent(t *testing.T) {
	const secret = "AKIAIOSFODNN7EXAMPLE"
	for _, src := range []string{
		`[S]`, `{S: 1}`, `{"S" 1}`, `{"a" S}`, `{"a": S}`, `{"a": "\S"}`, `{"a": "\u12S"}`, "[\"S\n\"]", `[1 S]`, `{"a": 1 S}`, `{"S": 1, "S": 2}`, `[] S`, `["S`, `{"S": `, `[-S]`, `[1S]`, `[trueS]`, `["\ud800S"]`,
		`["S",]`, `["S" /* S */]`, "\xef\xbb\xbf\"S\"", "\"S\xff\"", strings.Repeat("[", 40) + `"S"`,
	} {
		_, err := jsondoc.Parse("f", []byte(strings.ReplaceAll(src, "S", secret)))
		if err == nil {
			t.Errorf("%s was accepted", src)
			continue
		}
		for i := 0; i+4 <= len(secret); i++ {
			if strings.Contains(err.Error(), secret[i:i+4]) {
				t.Errorf("%s: %v", src, err)
				break
			}
		}
	}
}

func TestRemoveFirstMiddleLast(t *testing.T) {
	src := "[\n  {\"id\": 1},\n  {\"id\": 2},\n  {\"id\": 3}\n]\n"
	for i, want := range []string{
		"[\n  {\"id\": 2},\n  {\"id\": 3}\n]\n",
		"[\n  {\"id\": 1},\n  {\"id\": 3}\n]\n",
		"[\n  {\"id\": 1},\n  {\"id\": 2}\n]\n",
	} {
		d, err := jsondoc.Parse("f", []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(d.Remove(d.Root, i)); got != want {
			t.Errorf("remove %d: got\n%s\nwant\n%s", i, got, want)
		}
	}
}

// FuzzParse holds the strict reader against encoding/json: what passes here
// passes there.
func FuzzParse(f *testing.F) {
	for _, src := range containers() {
		f.Add([]byte(src))
	}
	f.Add([]byte(`{"a":"\ud800"}`))
	f.Add([]byte("[1,2,//\n]"))
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := jsondoc.Parse("f", src)
		if err != nil {
			var e *jsondoc.Error
			if !errors.As(err, &e) {
				t.Fatalf("error of another type: %v", err)
			}
			return
		}
		if !json.Valid(src) {
			t.Fatalf("accepted what encoding/json refuses: %q", src)
		}
		if d.Root.Kind != jsondoc.Array {
			return
		}
		out := d.Append(d.Root, "", `{"n":1}`)
		if !json.Valid(out) {
			t.Fatalf("append broke %q: %q", src, out)
		}
	})
}
