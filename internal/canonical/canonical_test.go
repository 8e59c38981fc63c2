package canonical_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/canonical"
)

const vectors = "../../testdata/vectors/"

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decode(t testing.TB, path string, into any) {
	t.Helper()
	if err := json.Unmarshal(read(t, path), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// The audited service's own canonical forms of 210 stored payloads.
func TestUpstreamVectors(t *testing.T) {
	var file struct {
		Vectors []struct {
			Name, Canonical, SHA256 string
			JSONBText               string `json:"jsonb_text"`
		}
	}
	decode(t, "../../testdata/upstream-chains/canonical_vectors_js.json", &file)
	if len(file.Vectors) != 210 {
		t.Fatalf("%d vectors, want 210", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		got, notes, err := canonical.Append(nil, []byte(v.JSONBText))
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if sum := sha256.Sum256(got); string(got) != v.Canonical || hex.EncodeToString(sum[:]) != v.SHA256 {
			t.Errorf("%s: got %.200q, want %.200q", v.Name, got, v.Canonical)
		}
		if notes&(canonical.Lossy|canonical.OutOfRange) != 0 {
			t.Errorf("%s: noted as lossy", v.Name)
		}
	}
}

// Every stored row's canonical form, as the service's canonicaliser gave it.
func TestUpstreamRows(t *testing.T) {
	rows := 0
	for _, chain := range []string{"overlap", "rsa3072", "hmac", "fork"} {
		stored := bytes.Split(bytes.TrimSpace(read(t, "../../testdata/upstream-chains/"+chain+".ndjson")), []byte("\n"))
		expected := bytes.Split(bytes.TrimSpace(read(t, "../../testdata/upstream-chains/"+chain+".expected.ndjson")), []byte("\n"))
		for i := range stored {
			var row struct{ Payload json.RawMessage }
			var want struct{ Canonical string }
			if err := errors.Join(json.Unmarshal(stored[i], &row), json.Unmarshal(expected[i], &want)); err != nil {
				t.Fatal(err)
			}
			got, _, err := canonical.Append(nil, row.Payload)
			if err != nil || string(got) != want.Canonical {
				t.Errorf("%s row %d: %v, got %.200q", chain, i, err, got)
			}
			rows++
		}
	}
	if rows != 720 {
		t.Errorf("%d rows compared, want 720", rows)
	}
}

// RFC 8785's reference files.
func TestJCS(t *testing.T) {
	inputs, _ := filepath.Glob(vectors + "jcs/testdata/input/*.json")
	if len(inputs) != 6 {
		t.Fatalf("%d files, want 6", len(inputs))
	}
	for _, in := range inputs {
		want := read(t, filepath.Join(filepath.Dir(in), "..", "output", filepath.Base(in)))
		got, _, err := canonical.Append(nil, read(t, in))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", in, err, got, want)
		}
	}
}

// 5,000 doubles and how ECMAScript prints them.
func TestES6Numbers(t *testing.T) {
	lines := strings.Fields(string(read(t, vectors+"jcs/es6numbers-00001-05000.txt")))
	if len(lines) != 5000 {
		t.Fatalf("%d lines, want 5000", len(lines))
	}
	for _, line := range lines {
		bits, want, _ := strings.Cut(line, ",")
		n, err := strconv.ParseUint(bits, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		f := math.Float64frombits(n)
		for _, text := range []string{strconv.FormatFloat(f, 'e', -1, 64), strconv.FormatFloat(f, 'f', -1, 64)} {
			got, notes, err := canonical.Append(nil, []byte(text))
			if err != nil || string(got) != want || notes != canonical.NotObject {
				t.Errorf("%s: got %s, notes %d, %v, want %s", text, got, notes, err, want)
			}
		}
	}
}

// What Node 20 makes of JSONTestSuite. The five files with a lone surrogate
// are refused by policy; Node prints an escape.
func TestNode(t *testing.T) {
	var node struct {
		Files map[string]struct{ Hex, Error *string }
	}
	decode(t, vectors+"node-canonical.json", &node)
	if len(node.Files) != 155 {
		t.Fatalf("%d files, want 155", len(node.Files))
	}
	lone := 0
	for file, want := range node.Files {
		got, notes, err := canonical.Append(nil, read(t, vectors+file))
		switch {
		case want.Error != nil:
			if err == nil {
				t.Errorf("%s: accepted, Node refuses (%s)", file, *want.Error)
			}
		case err != nil:
			if !strings.Contains(file, "surrogate") || !strings.Contains(err.Error(), "lone surrogate") {
				t.Errorf("%s: %v, Node accepts", file, err)
			}
			lone++
		case hex.EncodeToString(got) != *want.Hex:
			t.Errorf("%s: got %s", file, got)
		case strings.Contains(file, "huge_exp") && notes&canonical.OutOfRange == 0:
			t.Errorf("%s: not noted as out of range", file)
		}
	}
	if lone != 5 {
		t.Errorf("%d files refused for a lone surrogate, want 5", lone)
	}
}

func TestNotes(t *testing.T) {
	var pairs []struct {
		A, B      string
		Canonical string `json:"canonical_a"`
	}
	decode(t, vectors+"node-canonical-collisions.json", &pairs)
	// In pair 2 it is b, 0.1000000000000000055511151231257827, that is lossy:
	// 0.1 prints as itself.
	pairs[1].A, pairs[1].B = pairs[1].B, pairs[1].A
	lossy := map[int]bool{1: true, 2: true, 3: true, 5: true, 8: true}
	refused := map[int]bool{6: true, 9: true}
	for i, p := range pairs {
		got, notes, err := canonical.Append(nil, []byte(p.A))
		if refused[i+1] != (err != nil) {
			t.Errorf("pair %d: error %v", i+1, err)
			continue
		}
		if err == nil && (string(got) != p.Canonical || lossy[i+1] != (notes&(canonical.Lossy|canonical.OutOfRange) != 0)) {
			t.Errorf("pair %d: got %s, notes %d", i+1, got, notes)
		}
	}
	for text, want := range map[string]canonical.Notes{
		`{"n":1.0}`:                     0,
		`{"n":-0}`:                      0,
		`{"n":-0.0e5}`:                  0,
		`{"n":0e999999999999999999999}`: 0,
		`{"n":100e-2}`:                  0,
		`{"n":1` + strings.Repeat("0", 308) + `}`:   0,
		`{"n":0.` + strings.Repeat("0", 323) + `5}`: 0,
		`{"n":9007199254740993}`:                    canonical.Lossy,
		`{"n":1e-400}`:                              canonical.Lossy,
		`{"n":0.10000000000000000555}`:              canonical.Lossy,
		`{"n":1e400}`:                               canonical.OutOfRange,
		`{"n":-1e99999999999999999999}`:             canonical.OutOfRange,
		`{"n":1e-99999999999999999999}`:             canonical.Lossy,
		`[1e400,9007199254740993]`:                  canonical.OutOfRange | canonical.Lossy | canonical.NotObject,
		` null `:                                    canonical.NotObject,
		` {} `:                                      0,
	} {
		if _, got, err := canonical.Append(nil, []byte(text)); err != nil || got != want {
			t.Errorf("%.40s: notes %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestNumbersThatNeedNoWork(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "-1": "-1", "123456789012345": "123456789012345", "0.000001": "0.000001", "0.0000001": "1e-7",
		"-0.0000009": "-9e-7", "0.00000123": "0.00000123", "1.5": "1.5", "1.50": "1.5", "-0": "0", "-0.5": "-0.5", "10.0000001": "10.0000001",
		"1e21": "1e+21", "1e20": "100000000000000000000", "123e-20": "1.23e-18", "999999999999999999999": "1e+21",
		"-1.5E+3": "-1500", "0.1e1": "1", "4.35": "4.35", "5e-324": "5e-324", "-0.0000012": "-0.0000012",
	} {
		if got, _, err := canonical.Append(nil, []byte(text)); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
}

// Exponents may stand against any number of zeros; Node prints 1 for these.
func TestLongExponents(t *testing.T) {
	zeros := strings.Repeat("0", 100_000)
	for _, text := range []string{"0." + zeros + "1e100001", "1" + zeros + "e-100000", "-1" + zeros + ".0e-100000", "0." + zeros + "e100000",
		"0." + zeros[:9980] + "1e100000", "1" + zeros[:9980] + "e-100000"} {
		want := map[byte]string{'-': "-1", '1': "1", '0': "1"}[text[0]]
		if strings.HasSuffix(text, "0e100000") {
			want = "0"
		}
		beyond := len(text) < 10_000
		if beyond { // 10 to the power of 90019, and of -90020
			want = map[byte]string{'1': "0", '0': "null"}[text[0]]
		}
		if got, notes, err := canonical.Append(nil, []byte(text)); err != nil || string(got) != want || (notes&(canonical.Lossy|canonical.OutOfRange) != 0) != beyond {
			t.Errorf("%.8q… is %.20q, notes %b, %v", text, got, notes, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	for text, why := range map[string]string{
		"":                       "ends where a value",
		" ":                      "ends where a value",
		"{":                      "member name",
		`{"a"}`:                  "':'",
		`{"a":1`:                 "','",
		`{"a":1,}`:               "member name",
		"[1,]":                   "no JSON value",
		"[1 2]":                  "','",
		"01":                     "no JSON number",
		"-":                      "no JSON number",
		"1.":                     "decimal point",
		"1e":                     "exponent",
		"+1":                     "no JSON value",
		"NaN":                    "no JSON value",
		"nul":                    "no JSON value",
		"null x":                 "after the value",
		`"a`:                     "not closed",
		`"a\`:                    "not closed",
		`"\x"`:                   "no such escape",
		`"\u12g4"`:               "four hex",
		`"\u12`:                  "four hex",
		"\"\n\"":                 "control character",
		`"\ud800"`:               "lone surrogate",
		`"\ud800\u0041"`:         "lone surrogate",
		`"\udc00\ud800"`:         "lone surrogate",
		"\"\xff\"":               "not UTF-8",
		"\"\xed\xa0\x80\"":       "not UTF-8",
		"\xef\xbb\xbf{}":         "no JSON value",
		`{"a":1,"a":1}`:          "same name",
		`{"b":1,"a":2,"b":3}`:    "same name",
		`{"a":1,"\u0061":2}`:     "same name",
		`{"\n":1,"\u000a":2}`:    "same name",
		strings.Repeat("[", 513): "deeper than 512",
	} {
		dst := []byte("kept")
		got, _, err := canonical.Append(dst, []byte(text))
		if err == nil || !strings.Contains(err.Error(), why) || string(got) != "kept" {
			t.Errorf("%.40q: got %q, %v, want %q", text, got, err, why)
		}
	}
	if _, _, err := canonical.Append(nil, []byte(strings.Repeat("[", 512)+strings.Repeat("]", 512))); err != nil {
		t.Errorf("512 levels: %v", err)
	}
}

func TestMemberOrder(t *testing.T) {
	for text, want := range map[string]string{
		`{"\ue000":1,"😀":2}`:                      `{"😀":2,"` + "\ue000" + `":1}`,
		`{"\ud83d\ude00":1,"\uffff":2}`:           `{"😀":1,"` + "\uffff" + `":2}`,
		`{"10":1,"9":2,"":3,"1":4}`:               `{"":3,"1":4,"10":1,"9":2}`,
		`{"a\\":1,"a[":2,"a]":3}`:                 `{"a[":2,"a\\":1,"a]":3}`,
		`{"a\u0001":1,"a\t":2,"a\u000b":3}`:       `{"a\u0001":1,"a\t":2,"a\u000b":3}`,
		`{"a\"":1,"a!":2,"a#":3}`:                 `{"a!":2,"a\"":1,"a#":3}`,
		`{"a\n":1,"a":2}`:                         `{"a":2,"a\n":1}`,
		`{"z":{"b":1,"a":[{"d":1,"c":2}]},"y":1}`: `{"y":1,"z":{"a":[{"c":2,"d":1}],"b":1}}`,
	} {
		if got, _, err := canonical.Append(nil, []byte(text)); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	payload := []byte(`{"z": 1.50, "a": {"y": [1, 2, {"k": "v\u00e9"}], "x": "text \n more"}, "n": 123456789012345680000, "m": -1e-9}`)
	var e canonical.Encoder
	var dst []byte
	if n := testing.AllocsPerRun(100, func() {
		var err error
		if dst, _, err = e.Append(dst[:0], payload); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a payload, want 0", n)
	}
}

// FuzzAppend: the form is JSON of the same value, a fixed point, and refused
// exactly when encoding/json refuses, but for the named policies.
func FuzzAppend(f *testing.F) {
	for _, s := range []string{`{"b":[1.50,-0,1e400],"a":"\u00e9\ud83d\ude00"}`, `{"a":1,"\u0061":2}`, `"\ud800"`, "[0.000001,1e-7,1e21,123456789012345678]", "\"\x7f\u2028\"", `{"😀":1,"":2}`} {
		f.Add([]byte(s))
	}
	files, _ := filepath.Glob(vectors + "jsontestsuite/test_parsing/*.json")
	for _, file := range files {
		if b := read(f, file); len(b) < 4096 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		got, notes, err := canonical.Append(nil, src)
		if err != nil {
			policy := strings.Contains(err.Error(), "same name") || strings.Contains(err.Error(), "surrogate") ||
				strings.Contains(err.Error(), "UTF-8") || strings.Contains(err.Error(), "deeper")
			if json.Valid(src) && !policy {
				t.Fatalf("refused JSON %q: %v", src, err)
			}
			return
		}
		if !json.Valid(src) {
			t.Fatalf("accepted what is not JSON: %q", src)
		}
		again, more, err := canonical.Append(nil, got)
		if err != nil || !bytes.Equal(again, got) || more&^canonical.NotObject != 0 {
			t.Fatalf("%q: not a fixed point: %q, then %q (notes %d, %v)", src, got, again, more, err)
		}
		if notes&canonical.OutOfRange == 0 {
			var a, b any
			if json.Unmarshal(src, &a) != nil || json.Unmarshal(got, &b) != nil || !same(a, b) {
				t.Fatalf("%q and %q are different values", src, got)
			}
		}
	})
}

func same(a, b any) bool {
	return reflect.DeepEqual(withoutNegativeZero(a), withoutNegativeZero(b))
}

func withoutNegativeZero(v any) any {
	switch v := v.(type) {
	case float64:
		return v + 0
	case []any:
		for i := range v {
			v[i] = withoutNegativeZero(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = withoutNegativeZero(v[k])
		}
	}
	return v
}
