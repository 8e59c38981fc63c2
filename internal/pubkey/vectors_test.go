package pubkey

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// knownGaps names the weak keys that the policy lets pass. Keys of Debian's
// broken generator (CVE-2008-0166) look sound; only a list of all of them tells.
var knownGaps = []string{"rsa-debianweak.pem"}

// TestBadkeysSPKI runs the keys of the badkeys project in canonical form.
func TestBadkeysSPKI(t *testing.T) {
	const folder = "testdata/badkeys-spki"
	manifest, err := os.ReadFile(filepath.Join(folder, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		File, Expect, Why string
		Bits              int
	}
	if err := json.Unmarshal(manifest, &entries); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.pem"))
	if err != nil || len(files) != len(entries) || len(files) != 7 {
		t.Fatalf("%d files, %d entries, %v: want 7 of each", len(files), len(entries), err)
	}
	for _, entry := range entries {
		t.Run(entry.File, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(folder, entry.File))
			if err != nil {
				t.Fatal(err)
			}
			key, err := Parse(string(text))
			switch gap := slices.Contains(knownGaps, entry.File); {
			case entry.Expect == "accept" || entry.Expect == "reject-if-checked" && gap:
				if err != nil || key.Bits() != entry.Bits {
					t.Errorf("%d bits, %v (%s)", key.Bits(), err, entry.Why)
				}
			case entry.Expect == "reject" || entry.Expect == "reject-if-checked":
				refusal, ok := err.(*Error)
				if !ok || refusal.Rule != RuleWeak && refusal.Rule != RuleMalformed {
					t.Errorf("%v (%s)", err, entry.Why)
				}
			default:
				t.Errorf("unknown expectation %q", entry.Expect)
			}
		})
	}
}

// TestBadkeys runs the keys in the form in which they were published. All are
// refused, most of them for the text before the block.
func TestBadkeys(t *testing.T) {
	files, err := filepath.Glob("testdata/badkeys/*.key")
	if err != nil || len(files) != 10 {
		t.Fatalf("%d files, %v: want 10", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if key, err := Parse(string(text)); err == nil || !key.IsZero() {
				t.Errorf("accepted as %s", key.Fingerprint())
			}
		})
	}
}
