package record_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	. "github.com/agent-manager/audit-signer-rotation/internal/record/recordtest"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// bare is a move that publishes a signer whose key is kept outside of KMS.
func bare(after time.Duration, id, replaces string) *record.Open {
	m := Open(after, id, replaces)
	m.Signer.KMSKeyARN = ""
	return m
}

// What an entry has for an alias is the id that the service writes.
func TestAliasOfANewSigner(t *testing.T) {
	byARN := Open(0, "b", "")
	byARN.Signer.ID = ARN("b")
	mac := Open(0, "mac1", "")
	mac.Possession = &pubkey.Possession{Challenge: "x"} // of no public key: KMS has checked it
	for name, tc := range map[string]struct {
		move *record.Open
		want string
	}{
		"of its KMS key":         {Open(0, "b", ""), ARN("b")},
		"none without a KMS key": {bare(0, "b", ""), ""},
		"none for the ARN":       {byARN, ""},
		"of an HMAC key":         {mac, ARN("mac1")},
	} {
		after, err := First("a").Apply(record.IDFor(tc.move.Signer.ID), tc.move)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s, _ := after.Registered(tc.move.Signer.ID); strings.Join(s.Aliases, " ") != tc.want {
			t.Errorf("%s: aliases %q, want %q", name, s.Aliases, tc.want)
		}
	}
}

// Where a rotation has come to by the moves of other records, too, and since when it
// is over.
func TestPhases(t *testing.T) {
	c := record.IDFor("c")
	leaked := func(f record.Files, id string, after time.Duration) record.Files {
		return Apply(f, In(record.CompromiseID(id), Compromise(after, id, 7)))
	}
	left := Apply(returned(), In(rec, Retire(120*hour, returned(), "b", 8)))
	withdrawn := Apply(opened(), In(rec, Withdraw(2*hour, "b")))
	next := Apply(standby(), In(c, Open(hour, "c", "b")))
	f := Apply(retired(), In(c, Open(60*hour, "c", "b")))
	succeeded := Apply(f, In(c, Retire(120*hour, f, "b", 8)))
	gone := Apply(next, In(c, Retire(60*hour, next, "b", 7))) // the standby was replaced
	after := func(d time.Duration) time.Time { return Start.Add(d) }
	for name, tc := range map[string]struct {
		f     record.Files
		id    string
		phase record.Phase
		ended time.Time
		over  bool
	}{
		"a standby":                         {standby(), rec, record.Standby, time.Time{}, true},
		"a standby that was replaced":       {gone, rec, record.Archived, time.Time{}, true},
		"a standby that leaked":             {leaked(standby(), "b", hour), rec, record.CompromisedPhase, time.Time{}, true},
		"under way":                         {opened(), rec, record.Published, time.Time{}, false},
		"the old one leaked":                {leaked(opened(), "a", 3*hour), rec, record.CompromisedPhase, after(3 * hour), true},
		"the new one leaked":                {leaked(opened(), "b", 4*hour), rec, record.CompromisedPhase, after(4 * hour), true},
		"its compromise":                    {leaked(opened(), "a", 3*hour), record.CompromiseID("a"), record.CompromisedPhase, after(3 * hour), true},
		"another one leaked":                {leaked(Apply(opened(), In(c, Open(0, "c", ""))), "c", 3*hour), rec, record.Published, time.Time{}, false},
		"the old one leaked, then another":  {leaked(Apply(leaked(opened(), "a", 3*hour), In(c, Open(4*hour, "c", ""))), "c", 9*hour), rec, record.CompromisedPhase, after(3 * hour), true},
		"retired, and so was the next one":  {succeeded, rec, record.Archived, after(50 * hour), true},
		"retired":                           {retired(), rec, record.Archived, after(50 * hour), true},
		"withdrawn":                         {withdrawn, rec, record.WithdrawnPhase, after(2 * hour), true},
		"rolled back, one is still to go":   {returned(), rec, record.RolledBackPhase, time.Time{}, true},
		"rolled back to the end":            {left, rec, record.RolledBackPhase, after(120 * hour), true},
		"rolled back, the one to go leaked": {leaked(returned(), "b", 90*hour), rec, record.RolledBackPhase, after(90 * hour), true},
	} {
		r := *tc.f.Record(tc.id)
		if got := tc.f.Phase(r); got != tc.phase || got.Over() != tc.over {
			t.Errorf("%s: phase %s, over %t; want %s and %t", name, got, got.Over(), tc.phase, tc.over)
		}
		if got := tc.f.EndedAt(r); !got.Equal(tc.ended) {
			t.Errorf("%s: ended at %s, want %s", name, got, tc.ended)
		}
	}
	// A compromise names no signer that was published.
	if f := leaked(First("a", "b"), "a", hour); f.Naming("a") == nil || f.Naming("b") != nil {
		t.Error("a compromise names its signer and no other")
	}
}

// A signer that is archived and registered is where it is registered.
func TestLocated(t *testing.T) {
	f := returned() // a is in both
	text := strings.ReplaceAll(string(f.Registry.Bytes()), ARN("a"), ARN("other"))
	moved := Load(text, string(f.Archive.Bytes()), f.Records...)
	if got := moved.Located(Signer("a")).KMSKeyARN; got != ARN("other") {
		t.Errorf("got %s, want the registry's %s", got, ARN("other"))
	}
	unnamed := Apply(First("x"), In(record.IDFor("b"), bare(0, "b", "")))
	if got := unnamed.Located(Signer("b")).KMSKeyARN; got != ARN("b") {
		t.Errorf("got %q, want the record's own", got)
	}
	if _, ok := f.Registered("nobody"); ok {
		t.Error("nobody is registered")
	}
	if got := f.Located(record.Signer{ID: ARN("a"), KMSKeyARN: "its own"}).KMSKeyARN; got != "its own" {
		t.Errorf("an alias is taken for the signer: %q", got)
	}
}

// A retirement that rests on marks before its boundary names none.
func TestMarks(t *testing.T) {
	h := strings.Repeat("ab", 32)
	for name, tc := range map[string]struct {
		checkpoint string
		boundary   int64
		want       string
	}{
		"the head":                        {"", 7, "9:" + h},
		"the head is the boundary":        {"", 9, "9:" + h},
		"the head is before it":           {"", 10, ""},
		"a checkpoint":                    {"8:" + h, 7, "9:" + h + " 8:" + h},
		"a checkpoint before it":          {"6:" + h, 7, ""},
		"a checkpoint that is no number":  {"x:" + h, 0, ""},
		"a checkpoint without a number":   {h, 0, ""},
		"a checkpoint of too much digits": {"99999999999999999999:" + h, 7, ""},
	} {
		if got := strings.Join((record.Evidence{Events: 9, Head: h, Checkpoint: tc.checkpoint}).Marks(tc.boundary), " "); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// Every part of a signer tells it from another.
func TestSameKey(t *testing.T) {
	ed, mac := Signer("a"), Signer("mac1")
	for name, tc := range map[string]struct {
		a    record.Signer
		edit func(s *record.Signer)
		want bool
	}{
		"itself":                     {ed, func(*record.Signer) {}, true},
		"another id":                 {ed, func(s *record.Signer) { s.ID = "b" }, false},
		"another algorithm":          {ed, func(s *record.Signer) { s.Algorithm = pubkey.RSASHA256 }, false},
		"another fingerprint":        {ed, func(s *record.Signer) { s.Fingerprint = strings.Repeat("0", 64) }, false},
		"a KMS key named later":      {ed, func(s *record.Signer) { s.KMSKeyARN = "" }, true},
		"an HMAC signer itself":      {mac, func(*record.Signer) {}, true},
		"the KMS key of an HMAC one": {mac, func(s *record.Signer) { s.KMSKeyARN = ARN("mac2") }, false},
	} {
		b := tc.a
		tc.edit(&b)
		if tc.a.SameKey(b) != tc.want || b.SameKey(tc.a) != tc.want {
			t.Errorf("%s: want %t", name, tc.want)
		}
	}
}

// The newest move of a kind, and the one that chose the signers.
func TestMoves(t *testing.T) {
	r := record.Record{ID: rec, Moves: []record.Move{Open(0, "b", ""), Promote(hour, "b", "a"), Retire(50*hour, First("a"), "a", 7), RollBack(60*hour, "a"), Retire(120*hour, First("a"), "b", 8)}}
	if got := record.Find[*record.Retire](r); got != r.Moves[4] {
		t.Errorf("got the retirement %+v", got)
	}
	if got := record.Find[*record.Withdraw](r); got != nil {
		t.Errorf("got a withdrawal %+v", got)
	}
	for n, want := range []int{0, 1, 1, 1, 1} {
		if got := (record.Record{Moves: r.Moves[:n+1]}).Opening(); got != r.Moves[want] {
			t.Errorf("after %d moves the opening is %q", n+1, got.Kind())
		}
	}
	if got := (record.Record{Moves: []record.Move{Compromise(0, "a", 7)}}).Opening(); got == nil || got.Kind() != record.Compromised {
		t.Errorf("a compromise opens with %v", got)
	}
}

// Whoever reads a record without its schema is told, too.
func TestUnmarshal(t *testing.T) {
	for _, text := range []string{`{"moves": 1}`, `{"moves": [1]}`, `{"moves": [{"move": "close"}]}`, `{"moves": [{"move": "open", "at": 1}]}`, `{"moves": [{}]}`, `[]`} {
		var r record.Record
		if err := json.Unmarshal([]byte(text), &r); err == nil {
			t.Errorf("%s: got %+v", text, r)
		}
	}
}

// Times that a record could not say are refused before they are written.
func TestApplyRefusesTimes(t *testing.T) {
	for name, at := range map[string]time.Time{
		"a fraction of a second": Start.Add(time.Millisecond),
		"another time zone":      Start.In(time.FixedZone("", 3600)),
	} {
		m := Open(0, "b", "a")
		m.At = at
		if _, err := First("a").Apply(rec, m); err == nil || !strings.Contains(err.Error(), "whole seconds of UTC") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An archive that has lost the old signer, or keeps it as an alias of another one,
// brings nobody back.
func TestRollBackOfALostSigner(t *testing.T) {
	f := retired()
	lost := Load(string(f.Registry.Bytes()), "", f.Records...)
	taken := Load(strings.Replace(string(First("z", "b").Registry.Bytes()), `["`+ARN("z")+`"]`, `["a"]`, 1), "")
	if s, ok := taken.Registry.Find("a"); !ok || s.ID != "z" {
		t.Fatalf("a is no alias: %s", taken.Registry.Bytes())
	}
	var z registry.Signer
	z, _ = taken.Registered("z")
	archive := (&registry.Archive{}).Append(registry.Retired{Signer: z, RetiredAt: Start, Reason: "r", Rotation: "rotate-z", State: registry.StateRetired, Boundary: registry.Boundary(Mark(3))})
	other := Load(string(First("b").Registry.Bytes()), string(archive), f.Records...)
	for name, f := range map[string]record.Files{"nowhere": lost, "an alias": other} {
		if _, err := f.Apply(rec, RollBack(60*hour, "a")); err == nil || !strings.Contains(err.Error(), "neither in tools/signers.json nor in the archive") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
