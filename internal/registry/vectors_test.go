package registry_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

const testdata = "../../testdata/"

var now = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testdata + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// judge is what validate-registry does with one file.
func judge(src []byte) (*registry.Registry, []finding.Finding, error) {
	files, err := registry.Load("signers.json", src, "signers.archive.json", nil)
	if err != nil {
		return nil, nil, err
	}
	return files.Registry, append(files.Findings, registry.Validate(files.Registry, files.Archive, now)...), nil
}

func TestRegistryVectors(t *testing.T) {
	var manifest []struct{ File, Expect, Why string }
	if err := json.Unmarshal(file(t, "vectors/registries/manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(testdata + "vectors/registries/*.json")
	if len(names) != 75 || len(manifest) != 74 {
		t.Fatalf("%d files, %d manifest entries, want 74 and the manifest itself", len(names), len(manifest))
	}
	for _, m := range manifest {
		t.Run(m.File, func(t *testing.T) {
			src := file(t, "vectors/registries/"+m.File)
			_, fs, err := judge(src)
			errors, warnings := finding.Count(fs, finding.Error), finding.Count(fs, finding.Warning)
			switch m.Expect {
			case "accept":
				if err != nil || len(fs) != 0 {
					t.Errorf("refused (%s): %v %v", m.Why, err, fs)
				}
			case "reject-or-warn":
				if err != nil || errors+warnings == 0 {
					t.Errorf("not a word (%s): %v %v", m.Why, err, fs)
				}
			case "reject", "reject-private":
				refusal, unreadable := err.(*jsondoc.Error)
				if !unreadable && errors == 0 {
					t.Fatalf("accepted (%s): %v %v", m.Why, err, fs)
				}
				if unreadable && (refusal.Line < 1 || refusal.Col < 1 || refusal.Message == "") {
					t.Errorf("it does not say where: %v", err)
				}
				for _, f := range fs {
					if f.File != "signers.json" || f.Line < 1 || f.Col < 1 || f.Message == "" || strings.ContainsAny(f.Message, "\n\x00") {
						t.Errorf("%q", f)
					}
				}
				if m.Expect == "reject-private" {
					private(t, src, fs)
				}
			default:
				t.Errorf("expectation %q", m.Expect)
			}
		})
	}
}

// private wants the secret found, and no run of it in any message.
func private(t *testing.T, src []byte, fs []finding.Finding) {
	t.Helper()
	var r struct{ Signers []struct{ PublicKey string } }
	if err := json.Unmarshal(src, &r); err != nil {
		t.Fatal(err)
	}
	unspoken(t, r.Signers[len(r.Signers)-1].PublicKey, fs)
}

func unspoken(t *testing.T, secret string, fs []finding.Finding) {
	t.Helper()
	found := false
	for _, f := range fs {
		found = found || f.Rule == pubkey.RuleSecret
		for i := 0; i+8 <= len(secret); i++ {
			if strings.Contains(f.Message, secret[i:i+8]) {
				t.Fatalf("the finding %s shows %d bytes of the secret", f.Rule, 8)
			}
		}
	}
	if !found {
		t.Errorf("no finding %s: %v", pubkey.RuleSecret, fs)
	}
}

// Not JSON is no registry; JSON never crashes the reader.
func TestJSONTestSuite(t *testing.T) {
	names, _ := filepath.Glob(testdata + "vectors/jsontestsuite/test_parsing/*.json")
	refused := 0
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, fs, err := judge(src)
		_, archived, archiveErr := registry.ParseArchive("archive", src)
		if base := filepath.Base(name); strings.HasPrefix(base, "n_") {
			refused++
			if _, ok := err.(*jsondoc.Error); !ok {
				t.Errorf("%s: %v", base, err)
			}
			if _, ok := archiveErr.(*jsondoc.Error); !ok {
				t.Errorf("%s as an archive: %v", base, archiveErr)
			}
		} else if err == nil && finding.Count(fs, finding.Error) == 0 || archiveErr == nil && finding.Count(archived, finding.Error) == 0 {
			t.Errorf("%s is taken for signers: %v", base, fs)
		}
	}
	if len(names) != 149 || refused != 92 {
		t.Errorf("%d files, %d of them no JSON", len(names), refused)
	}
}

func TestUpstreamRegistries(t *testing.T) {
	for name, tc := range map[string]struct {
		container registry.Container
		ids       string
		warnings  int
	}{
		"overlap.signers-object":         {registry.Wrapped, "audit-rsa-v1 audit-rotation-2025-11-09", 0},
		"overlap.signers-array":          {registry.List, "audit-rsa-v1 audit-rotation-2025-11-09", 0},
		"overlap.signers-map":            {registry.Map, "audit-rsa-v1 audit-rotation-2025-11-09", 0},
		"overlap.signers-field-aliases":  {registry.List, "audit-rsa-v1 audit-rotation-2025-11-09", 0},
		"overlap.signers-algorithm-case": {registry.Wrapped, "audit-rsa-v1 audit-rotation-2025-11-09", 2},
		"overlap.signers-new-only":       {registry.Wrapped, "audit-rotation-2025-11-09", 0},
		"rsa3072.signers-object":         {registry.Wrapped, "audit-rsa-3072", 0},
		"rsa3072.signers-array":          {registry.List, "audit-rsa-3072", 0},
		"rsa3072.signers-map":            {registry.Map, "audit-rsa-3072", 0},
		"hmac.signers":                   {registry.Wrapped, "audit-hmac-v1", 0},
	} {
		r, fs, err := judge(file(t, "upstream-chains/"+name+".json"))
		if err != nil || len(fs) != tc.warnings || finding.Count(fs, finding.Warning) != tc.warnings || r.Container != tc.container {
			t.Errorf("%s: %v %v, container %v", name, err, fs, r.Container)
			continue
		}
		var ids []string
		for _, s := range r.Signers {
			ids = append(ids, s.ID)
			if s.Key.IsZero() != (s.Algorithm == pubkey.HMACSHA256) || s.Line < 1 {
				t.Errorf("%s: %+v", name, s)
			}
			if found, ok := r.Find(s.ID); !ok || found.ID != s.ID {
				t.Errorf("%s: %s is not found", name, s.ID)
			}
		}
		if strings.Join(ids, " ") != tc.ids {
			t.Errorf("%s: %q", name, ids)
		}
	}
	r, _, _ := judge(file(t, "upstream-chains/overlap.signers-id-aliases.json"))
	if s, ok := r.Find("audit-rsa-v1"); !ok || !strings.HasPrefix(s.ID, "arn:aws:kms:") {
		t.Errorf("the alias leads to %+v", s)
	}
	_, fs, err := judge(file(t, "upstream-chains/overlap.signers-map-string.json"))
	if err != nil || len(fs) != 2 || fs[0].Rule != registry.RuleMapOfStrings || !strings.Contains(fs[0].Message, `"publicKey"`) {
		t.Errorf("a map of bare keys: %v %v", err, fs)
	}
}
