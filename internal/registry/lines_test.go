package registry_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Every finding about the shared registries stands where the fault is. The
// golden file names line, column and rule of each; it was compared with the
// files by hand, and a change of it is to be.
func TestVectorLines(t *testing.T) {
	var manifest []struct{ File, Expect, Why string }
	if err := json.Unmarshal(file(t, "vectors/registries/manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, m := range manifest {
		src := file(t, "vectors/registries/"+m.File)
		_, fs, err := judge(src)
		fmt.Fprintf(&b, "%s (%s)\n", m.File, m.Why)
		var at *jsondoc.Error
		if errors.As(err, &at) {
			fmt.Fprintf(&b, "  %d:%d unreadable\n", at.Line, at.Col)
		}
		for _, f := range fs {
			fmt.Fprintf(&b, "  %d:%d %s %s\n", f.Line, f.Col, f.Severity, f.Rule)
		}
	}
	const golden = "testdata/vector-lines.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || b.String() != string(want) {
		t.Errorf("%v: the places have changed; look at the files, then make golden:\n%s", err, b.String())
	}
}

// The keys of the badkeys project, each as a registry's second entry: what must
// be refused is, at its line.
func TestBadkeysInARegistry(t *testing.T) {
	var manifest []struct{ File, Expect string }
	const folder = "../pubkey/testdata/"
	text, err := os.ReadFile(folder + "badkeys-spki/manifest.json")
	if err != nil || json.Unmarshal(text, &manifest) != nil {
		t.Fatal(err)
	}
	expect := map[string]bool{} // refused
	for _, m := range manifest {
		expect["badkeys-spki/"+m.File] = m.Expect == "reject" || m.Expect == "reject-if-checked" && m.File != "rsa-debianweak.pem" // which only a list of such keys tells
	}
	published, err := filepath.Glob(folder + "badkeys/*.key")
	if err != nil || len(published) != 10 || len(expect) != 7 {
		t.Fatalf("%d and %d keys, %v", len(published), len(expect), err)
	}
	for _, name := range published {
		expect["badkeys/"+filepath.Base(name)] = true // most for the text before the block
	}
	for name, refused := range expect {
		pem, err := os.ReadFile(folder + name)
		if err != nil {
			t.Fatal(err)
		}
		_, fs, err := judge([]byte(fmt.Sprintf("[\n%s,\n{\n\"id\": \"b\",\n\"alg\": \"rsa-sha256\",\n\"key\": %s\n}]", entry("a", "a"), jsondoc.Quote(string(pem)))))
		if err != nil || (len(fs) > 0) != refused {
			t.Errorf("%s: %v %v", name, err, fs)
		}
		for _, f := range fs {
			if f.Line != 6 || f.Col != 8 || f.Severity != finding.Error {
				t.Errorf("%s: %v", name, f)
			}
		}
	}
}

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		"audit-prod-2025-11-09": `"audit-prod-2025-11-09"`,
		"arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab": `"arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"`,
		"mrk-1234abcd12ab34cd56ef1234567890ab":                                        `"mrk-1234abcd12ab34cd56ef1234567890ab"`,
		"a\u202e\nb":                                                                  `"a\u202e\nb"`,
		strings.Repeat("x", 90):                                                       `"` + strings.Repeat("x", 80) + `…"`,
		"AKIAQZXVWKJ7NPLM4RT2":                                                        "(a secret)",
		"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":                                    "(40 characters that might be a secret)",
	} {
		if got := registry.Quote(text); got != strings.ReplaceAll(want, "…", `\u2026`) && got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
	}
}
