package registry_test

import (
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// What only one side of a condition sees: taking that side out of the source
// makes one of these fail.

func TestEdgesOfEntries(t *testing.T) {
	a := public("a")
	for name, tc := range map[string]struct{ src, want, says string }{
		"algorithm a number":         {`[{"id":"x","algorithm":5,"key":"` + a + `"}]`, registry.RuleMemberType, `the key calls for "ed25519"`},
		"no algorithm, with a hint":  {`[{"id":"x","key":"` + a + `"}]`, registry.RuleMissingMember, `the key calls for "ed25519"`},
		"no algorithm, and no key":   {`[{"id":"x","key":{}}]`, registry.RuleMemberType + " " + registry.RuleMissingMember, "the entry has no algorithm"},
		"an id in two types":         {`[{"id":"5","signerId":5,"alg":"ed25519","key":"` + a + `"}]`, registry.RuleMemberConflict, "disagree"},
		"a member in another case":   {list(entry("x", "a", `"DeployedAt":"x"`)), registry.RuleUnknownMember, `did you mean "deployedAt"?`},
		"a member that is none":      {list(entry("x", "a", `"colour":"x"`)), registry.RuleUnknownMember, "names that start with x- are free"},
		"a signer beside the list":   {`{"signers":` + list(entry("x", "a")) + `,"y":{}}`, registry.RuleUnknownMember, "move it into the array"},
		"a bare key beside the list": {`{"signers":` + list(entry("x", "a")) + `,"y":"z"}`, registry.RuleUnknownMember, "move it into the array"},
		"a number beside the list":   {`{"signers":` + list(entry("x", "a")) + `,"y":1}`, registry.RuleUnknownMember, "is not known"},
	} {
		_, fs, err := registry.Parse("signers.json", []byte(tc.src))
		if err != nil || rules(fs) != tc.want || !strings.Contains(fs[len(fs)-1].Message+fs[0].Message, tc.says) {
			t.Errorf("%s: %v %v, want %q that says %q", name, err, fs, tc.want, tc.says)
		}
	}
	for id, why := range map[string]string{"": "it is empty", strings.Repeat("x", 257): "it has 257 characters", strings.Repeat("x", 256): "", "a b": "must start with a letter"} {
		if got := registry.CheckID(id); (why == "") != (got == "") || !strings.Contains(got, why) {
			t.Errorf("%.9q: %q, want %q", id, got, why)
		}
	}
	for _, shown := range []string{strings.Repeat("A1", 20), strings.Repeat("a1", 20), strings.Repeat("aA", 20), strings.Repeat("aA1", 10)} {
		if registry.Quote(shown) != `"`+shown+`"` {
			t.Errorf("%s is hidden", shown)
		}
	}
	if _, err := registry.Secrets("r.json", []byte("{")); err == nil {
		t.Error("what is no JSON holds no secrets")
	}
	if text := string(parse(t, `{}`).Add(registry.Entry{ID: "x", Algorithm: "hmac-sha256", KMSKeyID: "k"})); strings.Contains(text, "signerId") {
		t.Errorf("a map names its ids itself: %s", text)
	}
}

func TestEdgesOfArchives(t *testing.T) {
	x := entry("x", "a")
	for name, tc := range map[string]struct{ src, want string }{
		"reason a number":           {archive(item(x, `"reason":"age"`, `"reason":5`)), registry.RuleArchiveItem},
		"rotation a list":           {archive(item(x, `"rotation":"r1"`, `"rotation":["r1"]`)), registry.RuleArchiveItem},
		"a boundary with no digest": {archive(item(x, `"digest"`, `"at"`)), registry.RuleArchiveItem},
		"a boundary with no place":  {archive(item(x, `"position"`, `"at"`)), registry.RuleArchiveItem},
		"a digest that is a number": {archive(item(x, `"`+strings.Repeat("a", 64)+`"`, strings.Repeat("1", 64))), registry.RuleArchiveItem},
	} {
		_, fs, err := registry.ParseArchive("archive", []byte(tc.src))
		if err != nil || rules(fs) != tc.want {
			t.Errorf("%s: %v %v, want %q", name, err, fs, tc.want)
		}
	}
	// An item with a fault still takes its id.
	if a := parseArchive(t, archive(item(x, `"2026-01-02T03:04:05Z"`, `"soon"`))); len(a.Retired) != 1 || a.Retired[0].ID != "x" {
		t.Errorf("%+v", a.Retired)
	}
	compromised := item(x, `"retired"`, `"compromised"`)
	mapped := `{"alg":"ed25519","key":"` + public("a") + `"}`
	for name, tc := range map[string]struct{ archive, want string }{
		"two signers":                     {archive(item(x), item(entry("y", "b"))), ""},
		"again, another key, later":       {archive(item(x), item(entry("x", "c"), ":7,", ":8,")), registry.RuleArchiveItem + " " + registry.RuleDuplicateID},
		"again, the same, later":          {archive(item(x), item(x, ":7,", ":8,")), ""},
		"again, at the same place":        {archive(item(x), item(x)), ""},
		"again, there, another digest":    {archive(item(x), item(x, strings.Repeat("a", 64), strings.Repeat("b", 64))), registry.RuleArchiveItem},
		"compromised, before it retired":  {archive(item(x), item(x, ":7,", ":6,", `"retired"`, `"compromised"`)), ""},
		"again after a compromise, later": {archive(compromised, item(x, ":7,", ":8,")), registry.RuleArchiveItem},
		"one key under two ids of a map":  {archive(item(mapped, `{"entry"`, `{"id":"x","entry"`), item(mapped, `{"entry"`, `{"id":"y","entry"`)), registry.RuleDuplicateKey},
	} {
		fs := registry.Validate(parse(t, list(entry("z", "d"))), parseArchive(t, tc.archive), now)
		if rules(fs) != tc.want {
			t.Errorf("%s: %v, want %q", name, fs, tc.want)
		}
	}
}
