package rotation

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

func base64Std(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// Whatever point a rotation has reached, there is a way back, and what the new
// signer signed keeps verifying.
func TestUndo(t *testing.T) {
	old, fresh, next := entryOf("old", 1), entryOf("new", 2), entryOf("next", 3)
	for name, tc := range map[string]struct {
		reg, arch string
		back      bool // the registry changes
		verdict   string
		refused   string
	}{
		"published or active":  {"[" + old + "," + fresh + "]", "", false, "never left", ""},
		"archived":             {"[" + fresh + "]", archived(old, "retired"), true, "returns to the registry as it was; signer new stays registered", ""},
		"the new one retired":  {"[" + old + "," + next + "]", archived(fresh, "retired"), false, "keeps verifying up to its boundary", ""},
		"the new one is gone":  {"[" + old + "]", "", false, "not registered", ""},
		"the old one is gone":  {"[" + fresh + "]", "", false, "", "history"},
		"the old one is burnt": {"[" + fresh + "]", archived(old, "compromised"), false, "", "never comes back"},
	} {
		t.Run(name, func(t *testing.T) {
			f := files(t, tc.reg, tc.arch)
			m, err := Undo(record(), f.Registry, f.Archive, Rollback{At: start, Actor: "a", Reason: "r", Mode: "rollback"}, nil)
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("got %v, want %q", err, tc.refused)
				}
				return
			}
			if err != nil || !strings.Contains(m.Verdict, tc.verdict) || (m.Registry != nil) != tc.back || m.Record.Rollback == nil {
				t.Fatalf("%+v, %v", m, err)
			}
			if !tc.back {
				return
			}
			after := files(t, string(m.Registry), tc.arch)
			is, _ := after.Registry.Find("old")
			was, _ := f.Archive.Find("old")
			fs := append(registry.Validate(after.Registry, after.Archive, start), registry.Diff(f.Registry, f.Archive, after.Registry, after.Archive)...)
			if is.Source != was.Source || len(fs) > 0 {
				t.Errorf("%s\n%v", m.Registry, fs)
			}
		})
	}
	first := record()
	first.Outgoing = nil
	f := files(t, "["+fresh+"]", "")
	if _, err := Undo(first, f.Registry, f.Archive, Rollback{}, nil); err == nil {
		t.Error("a rotation that replaced nothing was undone")
	}
}

func keyText(t *testing.T, seed byte) string {
	t.Helper()
	_, after, _ := strings.Cut(entryOf("x", seed), `"publicKey":"`)
	text, _, _ := strings.Cut(after, `"`)
	return text
}

func TestPolicy(t *testing.T) {
	const h = time.Hour
	for _, tc := range []struct {
		overlap, propagation, drain time.Duration
		wrong                       string
	}{
		{0, 0, 0, "overlap 0s is out of range"}, {-h, 0, 0, "out of range"}, {MaxOverlap, 0, 0, ""}, {MaxOverlap + 1, 0, 0, "out of range"},
		{23 * h, 0, 0, "overlap 23h0m0s is shorter than 24h0m0s"}, {24 * h, 0, 0, ""}, {48 * h, 0, 0, ""},
		{48 * h, -1, 0, "propagation -1ns is out of range"}, {48 * h, MaxOverlap + 1, 0, "propagation 2160h0m0.000000001s is out of range"},
		{48 * h, 0, -1, "drain -1ns is out of range"}, {48 * h, 0, MaxOverlap + 1, "drain 2160h0m0.000000001s is out of range"},
		{24 * h, 20 * h, 3 * h, ""}, {24 * h, 20 * h, 3*h + 1, "Use an overlap of at least 24h0m0.000000001s"},
	} {
		p := Policy{Overlap: Duration(tc.overlap), Propagation: Duration(tc.propagation), Drain: Duration(tc.drain)}
		err := p.Check()
		if tc.wrong == "" && err != nil || tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)) {
			t.Errorf("%+v: %v, want %q", tc, err, tc.wrong)
		}
	}
	if err := (Policy{Duration(time.Second), Duration(h), Duration(h), true}).Check(); err != nil {
		t.Errorf("a rehearsal: %v", err)
	}
}

// An id is the same on every run, fit for a file and an alias, and different
// for different signers.
func TestIDFor(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"audit-v2", "audit_v2", "audit.v2", "audit/v2", "arn:aws:kms:eu-west-1:1:key/" + strings.Repeat("a", 200), "A", "a", "x-", "-"} {
		got := IDFor(id)
		if got != IDFor(id) || len(got) > 80 || unsafeInID.MatchString(got) {
			t.Errorf("%s: %s", id, got)
		}
		if other, taken := seen[got]; taken {
			t.Errorf("%s and %s share %s", id, other, got)
		}
		seen[got] = id
	}
}

func TestParseRecordRefuses(t *testing.T) {
	good := string(record().JSON())
	if _, err := ParseRecord("r.json", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no JSON":        "{",
		"another shape":  "[]",
		"no incoming":    strings.Replace(good, `"incoming"`, `"incomming"`, 1),
		"version 2":      strings.Replace(good, `"version": 1`, `"version": 2`, 1),
		"a stray member": strings.Replace(good, `"version": 1`, `"version": 1, "gates": "passed"`, 1),
		"twice the same": strings.Replace(good, `"version": 1`, `"version": 1, "version": 1`, 1),
		"a bad overlap":  strings.Replace(good, "48h0m0s", "two days", 1),
		"a path as id":   strings.Replace(good, `"rotate-new-1"`, `"../x"`, 1),
	} {
		if _, err := ParseRecord("r.json", []byte(text)); err == nil || text == good {
			t.Errorf("%s was read", name)
		}
	}
}

func TestSignersSeenInOrderOfTheirLastEvent(t *testing.T) {
	r := &chain.Report{Signers: map[string]chain.SignerUse{"c": {Events: 1, LastPosition: 9}, "a": {Events: 5, LastPosition: 7}, "b": {Events: 2, LastPosition: 7}}}
	for range 20 {
		if got := SignersSeen(r); got != "a (5), b (2), c (1)" {
			t.Fatalf("got %q", got)
		}
	}
	if got := SignersSeen(&chain.Report{}); got != "none" {
		t.Errorf("got %q", got)
	}
}

func TestDeploySettings(t *testing.T) {
	kms := DeploySettings(Signer{ID: "new", Algorithm: pubkey.Ed25519, KMSKeyARN: "arn:new"})
	if kms[0][1] != "kms" || kms[1][1] != "arn:new" || kms[2][1] != "ed25519" || kms[3] != [2]string{"AUDIT_SIGNER_KID", "new"} {
		t.Errorf("%v", kms)
	}
	if back := SettingsBack(Signer{ID: "old", Algorithm: pubkey.Ed25519}); len(back) != 2 || back[1][1] != "old" {
		t.Errorf("the settings of a signer whose key is unknown: %v", back)
	}
	if local := DeploySettings(Signer{ID: "new", Algorithm: pubkey.Ed25519}); local[0][1] != "file" || local[1][1] != "" {
		t.Errorf("%v", local)
	}
}

// Who is gone cannot be retired.
func TestRetireNobody(t *testing.T) {
	f := files(t, "["+entryOf("new", 2)+","+entryOf("third", 3)+"]", "")
	if _, err := Retire(Facts{Record: record(), Registry: f.Registry, Archive: f.Archive}, Assessment{}, Retirement{}); err == nil || !strings.Contains(err.Error(), "old is not in signers.json any more") {
		t.Error(err)
	}
}
