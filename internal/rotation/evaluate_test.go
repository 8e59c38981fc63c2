package rotation

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// entryOf writes an Ed25519 entry whose key is made from one byte.
func entryOf(id string, seed byte) string {
	public := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), 32))).Public().(ed25519.PublicKey)
	return fmt.Sprintf(`{"signerId":%q,"algorithm":"ed25519","publicKey":%q,"kmsKeyId":"arn:%s"}`, id, base64Std(public), id)
}

func files(t *testing.T, reg, arch string) *registry.Files {
	t.Helper()
	var archive []byte
	if arch != "" {
		archive = []byte(arch)
	}
	f, err := registry.Load("signers.json", []byte(reg), "signers.archive.json", archive)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Findings) > 0 {
		t.Fatal(f.Findings)
	}
	return f
}

func archived(entry, state string) string {
	return `{"version":1,"retired":[{"entry":` + entry + `,"retiredAt":"2026-01-01T00:00:00Z","reason":"r","rotation":"x","state":"` + state +
		`","boundary":{"position":3,"digest":"` + strings.Repeat("ab", 32) + `"}}]}`
}

// neverUsed archives an entry as one that has signed nothing.
func neverUsed(entry string) string {
	return strings.Replace(strings.Replace(archived(entry, "retired"), `"position":3`, `"position":0`, 1), strings.Repeat("ab", 32), strings.Repeat("00", 32), 1)
}

func record() Record {
	return Record{
		Version: 1, ID: "rotate-new-1", CreatedAt: start, Actor: "a", Reason: "r",
		Outgoing: &Signer{ID: "old", Algorithm: "ed25519"}, Incoming: Signer{ID: "new", Algorithm: "ed25519"},
		Policy: Policy{Overlap: Duration(48 * time.Hour)},
	}
}

// use is one signer's part of the chain; its last event happened at.
func use(entry string, events, first, last int64, at time.Time) chain.SignerUse {
	return chain.SignerUse{Events: events, FirstPosition: first, LastPosition: last, FirstCreatedAt: &at, LastCreatedAt: &at, Entry: entry, State: "active"}
}

// facts are those of a rotation that can be finalized.
func facts(t *testing.T) Facts {
	f := files(t, "["+entryOf("old", 1)+","+entryOf("new", 2)+"]", "")
	return Facts{
		Record: record(), Registry: f.Registry, Archive: f.Archive, CheckpointGiven: true,
		Report: &chain.Report{
			Verdict: chain.Verified, TruncationExcluded: true, Events: 20, Length: 20,
			Signers: map[string]chain.SignerUse{"old": use("old", 10, 1, 10, start.Add(time.Hour)), "arn:new": use("new", 10, 9, 20, start.Add(time.Hour))},
		},
		Trail: Trail{NewUses: 3, To: start.Add(59 * time.Hour)},
		Now:   start.Add(60 * time.Hour),
	}
}

func state(a Assessment, id string) GateState {
	for _, g := range a.Gates {
		if g.ID == id {
			return g.State
		}
	}
	return "no such gate"
}

// Each gate holds the rotation back for its own reason, and lets it pass
// without one.
func TestGates(t *testing.T) {
	if a := Evaluate(facts(t)); !a.Ready() || a.Boundary.Position != 10 || a.Cutover.Position != 9 || a.Phase != Retiring {
		t.Fatalf("the sound rotation is not ready: %+v", a)
	}
	for name, tc := range map[string]struct {
		change func(*Facts)
		gate   string
		want   GateState
		says   string
	}{
		"overlap runs":                 {func(f *Facts) { f.Now = start.Add(48 * time.Hour) }, "G1", Waiting, "until 2026-03-03 13:00:00"},
		"overlap over, not when read":  {func(f *Facts) { f.ReadAt = start.Add(48 * time.Hour) }, "G1", Waiting, "until 2026-03-03 13:00:00"},
		"overlap over when read":       {func(f *Facts) { f.ReadAt = start.Add(49 * time.Hour) }, "G1", Passed, "48h0m0s since"},
		"read in the future":           {func(f *Facts) { f.Now, f.ReadAt = start.Add(48*time.Hour), start.Add(50*time.Hour) }, "G1", Waiting, "until"},
		"ahead of when it was read":    {func(f *Facts) { f.ReadAt = start.Add(50 * time.Minute) }, "G1", Unproven, "this run's (2026-03-01 12:50:00 UTC)"},
		"overlap just over":            {func(f *Facts) { f.Now = start.Add(49 * time.Hour); f.Trail.To = start }, "G1", Passed, "48h0m0s since"},
		"chain's clock is ahead":       {func(f *Facts) { f.Now = start.Add(50 * time.Minute) }, "G1", Unproven, "ahead"},
		"chain's clock a little":       {func(f *Facts) { f.Now = start.Add(56 * time.Minute) }, "G1", Waiting, "until"},
		"a late old event restarts":    {func(f *Facts) { f.Report.Signers["old"] = use("old", 11, 1, 12, start.Add(50*time.Hour)) }, "G1", Waiting, "2026-03-05"},
		"the new signer is unused":     {func(f *Facts) { delete(f.Report.Signers, "arn:new") }, "G2", Waiting, "old (10)"},
		"the old signer signed last":   {func(f *Facts) { f.Report.Signers["old"] = use("old", 11, 1, 21, start.Add(time.Hour)) }, "G2", Waiting, "position 21"},
		"the chain does not verify":    {func(f *Facts) { f.Report.Verdict, f.Report.FindingsTotal = chain.Failed, 4 }, "G3", Against, "4 finding"},
		"no checkpoint":                {func(f *Facts) { f.CheckpointGiven = false }, "G4", Off, "no checkpoint"},
		"a lost checkpoint":            {func(f *Facts) { f.LostCheckpoint = "branch x" }, "G4", Unproven, "branch x holds no checkpoint"},
		"past the checkpoint":          {func(f *Facts) { f.Report.TruncationExcluded = false }, "G4", Against, "does not pass"},
		"trail switched off":           {func(f *Facts) { f.Trail = Trail{Off: "off by input"} }, "G5", Off, "off by input"},
		"trail unreadable":             {func(f *Facts) { f.Trail = Trail{Problem: "denied"} }, "G5", Unproven, "denied"},
		"the old key was used":         {func(f *Facts) { f.Trail.OldUses, f.Trail.LastOldEvent = 2, "e-7" }, "G5", Against, "e-7"},
		"the trail is too fresh":       {func(f *Facts) { f.Trail.To = f.Now.Add(-TrailDelay + time.Second) }, "G5", Unproven, "late"},
		"the trail is just old enough": {func(f *Facts) { f.Trail.To = f.Now.Add(-TrailDelay) }, "G5", Passed, "3 signature"},
		"the trail is empty":           {func(f *Facts) { f.Trail.NewUses = 0 }, "G5", Unproven, "proves nothing"},
		"merged late":                  {func(f *Facts) { f.MergedAt = start.Add(20 * time.Hour) }, "G1", Waiting, "until 2026-03-04 08:00:00"},
		"verifiers are not listed":     {func(*Facts) {}, "G6", Off, "verifier-urls is not given"},
		"verifiers are up to date":     {func(f *Facts) { f.Verifiers = []Verifier{{URL: "a", RegistrySHA256: f.Registry.SHA256()}} }, "G6", Passed, "1 verifier(s) serve"},
		"a verifier is stale":          {func(f *Facts) { f.Verifiers = []Verifier{{URL: "a", RegistrySHA256: "0"}} }, "G6", Waiting, "a (registry 0)"},
		"a verifier does not answer":   {func(f *Facts) { f.Verifiers = []Verifier{{URL: "a", Problem: "refused"}} }, "G6", Unproven, "a (refused)"},
		"another rotation":             {func(f *Facts) { f.InFlight = []string{"rotate-other"} }, "G7", Waiting, "rotate-other"},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(t)
			tc.change(&f)
			a := Evaluate(f)
			if state(a, tc.gate) != tc.want {
				t.Errorf("%s is %s, want %s: %+v", tc.gate, state(a, tc.gate), tc.want, a.Gates)
			}
			for _, g := range a.Gates {
				if g.ID == tc.gate && !strings.Contains(g.Detail, tc.says) {
					t.Errorf("says %q, want %q", g.Detail, tc.says)
				}
			}
			if holds := tc.want != Passed && tc.want != Off; holds && a.Ready() {
				t.Error("the rotation is ready all the same")
			}
		})
	}
}

func TestProveSettlesG3(t *testing.T) {
	a := Evaluate(facts(t))
	a.Prove(&chain.Report{Verdict: chain.Failed, FindingsTotal: 2})
	if state(a, "G3") != Against || a.Phase == Finalizable {
		t.Errorf("a failed proof: %+v", a)
	}
	a = Evaluate(facts(t))
	a.Prove(&chain.Report{Verdict: chain.Undetermined})
	if state(a, "G3") != Against {
		t.Errorf("no verdict counts as a proof: %+v", a)
	}
	a = Evaluate(facts(t))
	a.Prove(&chain.Report{Verdict: chain.Verified, Events: 20})
	if state(a, "G3") != Passed || a.Phase != Finalizable || a.Count(Passed) < 5 {
		t.Errorf("a proof: %+v", a)
	}
}

func TestPhases(t *testing.T) {
	old, fresh := entryOf("old", 1), entryOf("new", 2)
	rolledBack, compromised, first := record(), record(), record()
	rolledBack.Rollback = &Rollback{Mode: "rollback"}
	compromised.Rollback = &Rollback{Mode: "compromise"}
	first.Outgoing = nil
	for name, tc := range map[string]struct {
		record    Record
		reg, arch string
		want      Phase
	}{
		"both registered":       {record(), "[" + old + "," + fresh + "]", "", Published},
		"entry taken out again": {record(), "[" + old + "]", "", Withdrawn},
		"old one archived":      {record(), "[" + fresh + "]", archived(old, "retired"), Archived},
		"old one compromised":   {record(), "[" + fresh + "]", archived(old, "compromised"), Compromised},
		"new one archived too":  {record(), "[" + entryOf("next", 3) + "]", archived(fresh, "retired"), Archived},
		"rolled back":           {rolledBack, "[" + old + "," + fresh + "]", "", RolledBack},
		"compromise declared":   {compromised, "[" + fresh + "]", "", Compromised},
		"nothing replaced":      {first, "[" + fresh + "]", "", Archived},
	} {
		t.Run(name, func(t *testing.T) {
			f := files(t, tc.reg, tc.arch)
			if got := PhaseWithoutChain(tc.record, f.Registry, f.Archive); got != tc.want {
				t.Errorf("phase %s, want %s", got, tc.want)
			}
		})
	}
	for name, tc := range map[string]struct {
		change func(*Facts)
		want   Phase
	}{
		"unused": {func(f *Facts) { delete(f.Report.Signers, "arn:new") }, Ready},
		"unused, on its way": {func(f *Facts) {
			delete(f.Report.Signers, "arn:new")
			f.Record.Policy.Propagation, f.MergedAt = Duration(time.Hour), f.Now.Add(-time.Minute)
		}, Published},
		"old signed last": {func(f *Facts) { f.Report.Signers["old"] = use("old", 1, 1, 99, start) }, Draining},
		"overlap runs":    {func(f *Facts) { f.Now = start.Add(2 * time.Hour) }, Retiring},
		"old writers may deliver": {func(f *Facts) {
			f.Record.Policy.Drain, f.Now = Duration(3*time.Hour), start.Add(2*time.Hour)
		}, Active},
		"old writers had their time": {func(f *Facts) { f.Record.Policy.Drain = Duration(3 * time.Hour) }, Retiring},
		"overlap is over":            {func(*Facts) {}, Retiring},
		"record says over":           {func(f *Facts) { f.Record.Rollback = &Rollback{Mode: "compromise"} }, Compromised},
	} {
		f := facts(t)
		tc.change(&f)
		if a := Evaluate(f); a.Phase != tc.want || tc.want.Over() != (len(a.Gates) == 0) {
			t.Errorf("%s: phase %s with %d gates, want %s", name, a.Phase, len(a.Gates), tc.want)
		}
	}
}

func TestRetire(t *testing.T) {
	f := facts(t)
	a := Evaluate(f)
	ret := Retirement{EvaluatedAt: start, Boundary: a.Boundary, Gates: a.Gates, Evidence: Evidence{Events: 20, Head: "h", RegistrySHA256: strings.Repeat("0", 64)}}
	m, err := Retire(f, a, ret)
	if err != nil {
		t.Fatal(err)
	}
	rec := m.Record
	after := files(t, string(m.Registry), string(m.Archive))
	was, ok := after.Archive.Find("old")
	if _, still := after.Registry.Find("old"); still || !ok || was.Boundary.Position != 10 || was.Rotation != rec.ID || rec.Retirement == nil {
		t.Errorf("%s\n%s", m.Registry, m.Archive)
	}
	if fs := registry.Diff(f.Registry, f.Archive, after.Registry, after.Archive); len(fs) > 0 {
		t.Errorf("the gate refuses it: %v", fs)
	}
	if back, err := ParseRecord("r.json", rec.JSON()); err != nil || back.Retirement.Boundary != ret.Boundary {
		t.Errorf("the record reads back as %+v, %v", back, err)
	}
	alone := f
	alone.Registry = files(t, "["+entryOf("old", 1)+"]", "").Registry
	if _, err := Retire(alone, a, ret); err == nil {
		t.Error("the last signer was retired")
	}
	gone := f
	gone.Registry = files(t, "["+entryOf("new", 2)+"]", "").Registry
	if _, err := Retire(gone, a, ret); err == nil {
		t.Error("a signer that is gone was retired")
	}
}

func TestPhaseWithoutChain(t *testing.T) {
	old, fresh := entryOf("old", 1), entryOf("new", 2)
	undone, burnt, first := record(), record(), record()
	undone.Rollback, burnt.Rollback, first.Outgoing = &Rollback{Mode: "rollback"}, &Rollback{Mode: "compromise"}, nil
	aliased := strings.Replace(entryOf("other", 3), `"algorithm"`, `"aliases":["new"],"algorithm"`, 1)
	for name, tc := range map[string]struct {
		record    Record
		reg, arch string
		want      Phase
		over      bool
	}{
		"published":                        {record(), "[" + old + "," + fresh + "]", "", Published, false},
		"the incoming one was back before": {record(), "[" + old + "," + fresh + "]", archived(fresh, "retired"), Published, false},
		"archived":                         {record(), "[" + fresh + "]", archived(old, "retired"), Archived, true},
		"both are gone":                    {record(), "[" + entryOf("third", 3) + "]", archived(fresh, "retired"), Archived, true},
		"compromised":                      {record(), "[" + fresh + "]", archived(old, "compromised"), Compromised, true},
		"withdrawn":                        {record(), "[" + old + "]", "", Withdrawn, true},
		"another took the name":            {record(), "[" + old + "," + aliased + "]", "", Withdrawn, true},
		"nothing is replaced":              {first, "[" + old + "," + fresh + "]", "", Archived, true},
		"rolled back":                      {undone, "[" + old + "," + fresh + "]", "", RolledBack, true},
		"rolled back as compromised":       {burnt, "[" + old + "," + fresh + "]", "", Compromised, true},
		"rolled back, then archived":       {undone, "[" + old + "]", archived(fresh, "retired"), RolledBack, true},
		"rolled back, both are gone":       {undone, "[" + entryOf("third", 3) + "]", "", RolledBack, true},
		"withdrawn by a rollback":          {undone, "[" + old + "]", neverUsed(fresh), Withdrawn, true},
		"withdrawn, and published again":   {undone, "[" + old + "," + fresh + "]", neverUsed(fresh), RolledBack, true},
		"archived unused by another":       {record(), "[" + entryOf("third", 3) + "]", neverUsed(fresh), Archived, true},
	} {
		f := files(t, tc.reg, tc.arch)
		if got := PhaseWithoutChain(tc.record, f.Registry, f.Archive); got != tc.want || got.Over() != tc.over {
			t.Errorf("%s: %s (over: %v), want %s", name, got, got.Over(), tc.want)
		}
	}
	for _, p := range []Phase{Proposed, Active, Draining, Retiring, Finalizable} {
		if p.Over() {
			t.Errorf("%s is over", p)
		}
	}
	if (Assessment{}).Ready() {
		t.Error("what was not judged is ready")
	}
}

// What gate G2 says is what somebody goes by who looks for a writer.
func TestQuietSays(t *testing.T) {
	late := func(f *Facts) { f.Report.Signers["old"] = use("old", 11, 1, 21, start.Add(time.Hour)) }
	unused := func(f *Facts) { delete(f.Report.Signers, "arn:new") }
	for name, tc := range map[string]struct {
		change   func(*Facts)
		says     string
		saysNone string
	}{
		"unused, merged long ago":       {func(f *Facts) { unused(f); f.MergedAt = f.Now.Add(-unusedFor - time.Second) }, "It is published since 2026-02-24 23:59:59 UTC", ""},
		"unused, merged not long ago":   {func(f *Facts) { unused(f); f.MergedAt = f.Now.Add(-unusedFor) }, "no event by new yet", "It is published since"},
		"unused, nobody knows how long": {unused, "no event by new yet", "It is published since"},
		"late, no drain was planned":    {late, "some writer still uses it", "drain"},
		"late, the drain is over":       {func(f *Facts) { late(f); f.Record.Policy.Drain = Duration(time.Hour) }, "though its drain was to be over at 2026-03-01 14:00:00 UTC; find that writer", ""},
		"late, while it drains":         {func(f *Facts) { late(f); f.Record.Policy.Drain = Duration(59 * time.Hour) }, "some writer still uses it", "drain"},
		"late, nobody knows since when": {func(f *Facts) {
			late(f)
			f.Record.Policy.Drain = Duration(time.Hour)
			u := f.Report.Signers["arn:new"]
			u.FirstCreatedAt = nil
			f.Report.Signers["arn:new"] = u
		}, "some writer still uses it", "drain"},
		"late, after a rollback": {func(f *Facts) {
			f.Record.Policy.Drain, f.Record.Rollback = Duration(time.Hour), &Rollback{At: start, Mode: ModeRollback}
			f.Report.Signers["arn:new"] = use("new", 11, 1, 21, start.Add(time.Hour))
		}, "by the outgoing signer new", "drain"},
	} {
		f := facts(t)
		f.Now = start.Add(60 * time.Hour)
		tc.change(&f)
		for _, g := range Evaluate(f).Gates {
			if g.ID == "G2" && (g.State != Waiting || !strings.Contains(g.Detail, tc.says) || tc.saysNone != "" && strings.Contains(g.Detail, tc.saysNone)) {
				t.Errorf("%s: %s %q", name, g.State, g.Detail)
			}
		}
	}
}

// unusedFor is a week, after which somebody may have forgotten a signer.
const unusedFor = 7 * 24 * time.Hour
