package rotation

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// full has every member set.
func full(t *testing.T) Record {
	t.Helper()
	digest, ok := chain.ParseDigest([]byte(strings.Repeat("ab", 32)))
	if !ok {
		t.Fatal("no digest")
	}
	r := record()
	r.RunURL = "https://github.com/acme/kernel/actions/runs/1"
	r.Outgoing.Fingerprint, r.Outgoing.KMSKeyARN = strings.Repeat("cd", 32), "arn:aws:kms:eu-west-1:111122223333:key/1"
	r.Possession = &pubkey.Possession{Challenge: "a challenge\nof lines", Digest: strings.Repeat("ef", 32), Signature: "c2ln"}
	r.Policy = Policy{Duration(4 * time.Second), Duration(5 * time.Minute), Duration(time.Hour), true}
	r.PullRequest = 7
	r.Retirement = &Retirement{
		EvaluatedAt: start.Add(time.Hour), RunURL: r.RunURL, Cutover: Cutover{9}, Boundary: Mark{10, digest},
		Gates:    []Gate{{"G1", "the overlap has passed", Passed, "48h0m0s since <then> & \"now\""}},
		Evidence: Evidence{20, strings.Repeat("01", 32), strings.Repeat("23", 32), strings.Repeat("45", 32), "10:x", "1:2:", strings.Repeat("67", 32)},
	}
	r.Rollback = &Rollback{
		At: start.Add(2 * time.Hour), Actor: "b", Reason: "it fails", RunURL: r.RunURL, Mode: ModeRollback, Window: &Window{3, 10, 12},
		Compromised: &r.Incoming, Boundary: &Mark{10, digest}, Retirement: r.Retirement,
	}
	return r
}

// A record that is written again without a change is the same file: a rerun
// must find nothing to do.
func TestRecordRoundTrip(t *testing.T) {
	for name, r := range map[string]Record{"full": full(t), "fresh": record()} {
		text := r.JSON()
		if v, err := schemas.Violations(schemas.Rotation, text); err != nil || len(v) > 0 {
			t.Errorf("%s breaks its schema: %v %v", name, v, err)
		}
		back, err := ParseRecord("r.json", text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(back, r) || !bytes.Equal(back.JSON(), text) {
			t.Errorf("%s comes back as\n%s\nwant\n%s", name, back.JSON(), text)
		}
	}
}

// Members in another letter case, which some readers take and others do not,
// and members that a rewrite would lose, are refused wherever they stand.
func TestRecordMembersAreExact(t *testing.T) {
	good := string(full(t).JSON())
	for _, member := range []string{
		"id", "createdAt", "actor", "reason", "incoming", "policy", "overlap", "challenge", "signature", "evaluatedAt", "boundary", "position", "gates", "state", "evidence", "head", "rollback", "mode",
	} {
		name := `"` + member + `": `
		if !strings.Contains(good, name) {
			t.Fatalf("no %s in the record", member)
		}
		upper := `"` + strings.ToUpper(member[:1]) + member[1:] + `": `
		for what, text := range map[string]string{
			"renamed": strings.Replace(good, name, upper, 1),
			"twinned": strings.Replace(good, name, upper+`"x", `+name, 1),
		} {
			if _, err := ParseRecord("r.json", []byte(text)); err == nil {
				t.Errorf("%s, %s: it was read", member, what)
			}
		}
	}
}

// A record edited by hand cannot ask for less than add-signer would have
// allowed.
func TestRecordPolicyIsChecked(t *testing.T) {
	for overlap, short := range map[string]bool{"1h": false, "0s": true, "-48h": true, "3000h": false} {
		r := record()
		text := strings.Replace(string(r.JSON()), "48h0m0s", overlap, 1)
		if short {
			text = strings.Replace(text, `"overlap"`, `"shortOverlapAllowed": true, "overlap"`, 1)
		}
		if _, err := ParseRecord("r.json", []byte(text)); err == nil || !strings.Contains(err.Error(), "overlap") {
			t.Errorf("overlap %s: %v", overlap, err)
		}
	}
}

// What has been waited for long enough will not come by itself.
func TestDue(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Facts)
		want   bool
	}{
		"ready":                    {func(*Facts) {}, true},
		"the overlap runs":         {func(f *Facts) { f.Now = start.Add(2 * time.Hour) }, false},
		"too early for the trail":  {func(f *Facts) { f.Trail = Trail{Early: "ask later"} }, false},
		"the trail proves nothing": {func(f *Facts) { f.Trail = Trail{Problem: "denied"} }, true},
	} {
		f := facts(t)
		tc.change(&f)
		if a := Evaluate(f); a.Due() != tc.want {
			t.Errorf("%s: %+v", name, a.Gates)
		}
	}
}

// A record that two readers read differently is none.
func TestRecordMembersStandOnce(t *testing.T) {
	twice := strings.Replace(string(record().JSON()), `"actor": "a"`, `"actor": "a", "actor": "b"`, 1)
	if _, err := ParseRecord("r.json", []byte(twice)); err == nil || !strings.Contains(err.Error(), "stands twice") {
		t.Error(err)
	}
}

// What the schema takes and no program can hold is refused, too.
func TestRecordNumbers(t *testing.T) {
	huge := strings.Replace(string(record().JSON()), `"actor": "a"`, `"actor": "a", "pullRequest": 1e30`, 1)
	if _, err := ParseRecord("r.json", []byte(huge)); err == nil || !strings.Contains(err.Error(), "not a rotation record") {
		t.Error(err)
	}
}
