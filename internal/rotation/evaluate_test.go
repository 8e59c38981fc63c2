package rotation

import (
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// facts are those of a rotation that can be finalized.
func facts(t *testing.T) Facts {
	f := files(t, "["+entryOf("old", 1)+","+entryOf("new", 2)+"]", "")
	return Facts{
		Record: opened(), Files: f, CheckpointGiven: true,
		Report: &chain.Report{
			Verdict: chain.Verified, TruncationExcluded: true, Events: 20, Length: 20,
			Signers: map[string]chain.SignerUse{"old": use("old", 10, 1, 10, start.Add(time.Hour)), "arn:new": use("new", 10, 9, 20, start.Add(time.Hour))},
		},
		Trail: Trail{NewUses: 3, From: start, To: start.Add(59 * time.Hour)},
		Now:   start.Add(60 * time.Hour),
	}
}

func state(a Assessment, id string) record.GateState {
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
		want   record.GateState
		says   string
	}{
		"overlap runs":                 {func(f *Facts) { f.Now = start.Add(48 * time.Hour) }, "G1", record.Waiting, "until 2026-03-03 13:00:00"},
		"overlap over, not when read":  {func(f *Facts) { f.ReadAt = start.Add(48 * time.Hour) }, "G1", record.Waiting, "until 2026-03-03 13:00:00"},
		"overlap over when read":       {func(f *Facts) { f.ReadAt = start.Add(49 * time.Hour) }, "G1", record.Passed, "48h0m0s since"},
		"read in the future":           {func(f *Facts) { f.Now, f.ReadAt = start.Add(48*time.Hour), start.Add(50*time.Hour) }, "G1", record.Waiting, "until"},
		"ahead of when it was read":    {func(f *Facts) { f.ReadAt = start.Add(50 * time.Minute) }, "G1", record.Unproven, "this run's (2026-03-01 12:50:00 UTC)"},
		"overlap just over":            {func(f *Facts) { f.Now = start.Add(49 * time.Hour); f.Trail.To = start }, "G1", record.Passed, "48h0m0s since"},
		"chain's clock is ahead":       {func(f *Facts) { f.Now = start.Add(50 * time.Minute) }, "G1", record.Unproven, "ahead"},
		"chain's clock a little":       {func(f *Facts) { f.Now = start.Add(56 * time.Minute) }, "G1", record.Waiting, "until"},
		"a late old event restarts":    {func(f *Facts) { f.Report.Signers["old"] = use("old", 11, 1, 12, start.Add(50*time.Hour)) }, "G1", record.Waiting, "2026-03-05"},
		"the new signer is unused":     {func(f *Facts) { delete(f.Report.Signers, "arn:new") }, "G2", record.Waiting, "old (10)"},
		"the old signer signed last":   {func(f *Facts) { f.Report.Signers["old"] = use("old", 11, 1, 21, start.Add(time.Hour)) }, "G2", record.Waiting, "position 21"},
		"the chain does not verify":    {func(f *Facts) { f.Report.Verdict, f.Report.FindingsTotal = chain.Failed, 4 }, "G3", record.Against, "4 finding"},
		"no checkpoint":                {func(f *Facts) { f.CheckpointGiven = false }, "G4", record.Off, "no checkpoint"},
		"a lost checkpoint":            {func(f *Facts) { f.LostCheckpoint = "branch x" }, "G4", record.Unproven, "branch x holds no checkpoint"},
		"past the checkpoint":          {func(f *Facts) { f.Report.TruncationExcluded = false }, "G4", record.Against, "does not pass"},
		"trail switched off":           {func(f *Facts) { f.Trail = Trail{Off: "off by input"} }, "G5", record.Off, "off by input"},
		"trail unreadable":             {func(f *Facts) { f.Trail = Trail{Problem: "denied"} }, "G5", record.Unproven, "denied"},
		"the old key was used":         {func(f *Facts) { f.Trail.OldUses, f.Trail.LastOldEvent = 2, "e-7" }, "G5", record.Against, "e-7"},
		"the trail is too fresh":       {func(f *Facts) { f.Trail.To = f.Now.Add(-TrailDelay + time.Second) }, "G5", record.Unproven, "late"},
		"the trail is just old enough": {func(f *Facts) { f.Trail.To = f.Now.Add(-TrailDelay) }, "G5", record.Passed, "none with the old one since 2026-03-01 12:00:00"},
		"the trail is empty":           {func(f *Facts) { f.Trail.NewUses = 0 }, "G5", record.Unproven, "proves nothing"},
		"merged late":                  {func(f *Facts) { f.MergedAt = start.Add(20 * time.Hour) }, "G1", record.Waiting, "until 2026-03-04 08:00:00"},
		"verifiers are not listed":     {func(*Facts) {}, "G6", record.Off, "verifier-urls is not given"},
		"verifiers are up to date":     {func(f *Facts) { f.Verifiers = []Verifier{{URL: "a", RegistrySHA256: f.Files.Registry.SHA256()}} }, "G6", record.Passed, "1 verifier(s) serve"},
		"a verifier is stale":          {func(f *Facts) { f.Verifiers = []Verifier{{URL: "a", RegistrySHA256: "0"}} }, "G6", record.Waiting, "a (registry 0)"},
		"a verifier does not answer":   {func(f *Facts) { f.Verifiers = []Verifier{{URL: "a", Problem: "refused"}} }, "G6", record.Unproven, "a (refused)"},
		"another rotation":             {func(f *Facts) { f.Files.Records = []record.Record{other()} }, "G7", record.Waiting, "rotate-other"},
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
			if holds := tc.want != record.Passed && tc.want != record.Off; holds && a.Ready() {
				t.Error("the rotation is ready all the same")
			}
		})
	}
}

// other is a rotation beside that of facts: signer old replaces signer new.
func other() record.Record {
	r := record.Record{ID: "rotate-other", Moves: []record.Move{&record.Promote{
		By: by(start), Signer: record.Signer{ID: "old"}, Replaces: record.Signer{ID: "new"}, Policy: record.Policy{Overlap: record.Duration(48 * time.Hour)},
	}}}
	return r
}

func TestProve(t *testing.T) {
	for name, tc := range map[string]struct {
		report   chain.Report
		inferred bool
		want     record.GateState
		says     string
	}{
		"a failed proof":    {chain.Report{Verdict: chain.Failed, FindingsTotal: 2}, false, record.Against, "2 finding(s) with the files as they would be"},
		"no verdict":        {chain.Report{Verdict: chain.Undetermined}, false, record.Against, "0 finding(s)"},
		"a proof":           {chain.Report{Verdict: chain.Verified, Events: 20}, false, record.Passed, "with the files after the merge"},
		"from a report":     {chain.Report{Verdict: chain.Verified, Events: 20}, true, record.Passed, "follows from the report"},
		"from a failed one": {chain.Report{Verdict: chain.Failed}, true, record.Against, "0 finding(s)"},
	} {
		a := Evaluate(facts(t))
		a.Prove(&tc.report, tc.inferred)
		if got := state(a, "G3"); got != tc.want || (a.Phase == Finalizable) != (tc.want == record.Passed) || !strings.Contains(a.Gates[2].Detail, tc.says) {
			t.Errorf("%s: %s, phase %s, %q; want %s, %q", name, got, a.Phase, a.Gates[2].Detail, tc.want, tc.says)
		}
	}
}

// The person's gate waits for the merge, before and after; nothing else does.
func TestThePersonsGate(t *testing.T) {
	a := Evaluate(facts(t))
	if got := state(a, "G8"); got != record.Waiting || !a.Ready() || !a.Due() {
		t.Errorf("G8 is %s, ready %t, due %t; want waiting, and both", got, a.Ready(), a.Due())
	}
	if (Assessment{}).Ready() {
		t.Error("what was not judged is ready")
	}
}

// Each state of each gate has advice of its own, the worst state first.
func TestAdvise(t *testing.T) {
	list := Evaluate(facts(t)).Gates
	if got := Advise(list); got != "" {
		t.Errorf("all is passed, and the advice is %q", got)
	}
	for i := range list {
		for _, tc := range []struct {
			state record.GateState
			says  string
		}{{record.Unproven, "is not proven: "}, {record.Waiting, "waits: "}, {record.Against, "speaks against it: "}} {
			g := append([]record.Gate{}, list...)
			g[i].State = tc.state
			want := "Gate " + g[i].ID + " " + tc.says
			if tc.state == record.Waiting && !waits(g[i]) {
				want = ""
			}
			if got := Advise(g); !strings.HasPrefix(got, want) || want == "" && got != "" {
				t.Errorf("%s %s: %q, want %q", g[i].ID, tc.state, got, want)
			}
		}
	}
	if got := Advise([]record.Gate{{ID: "G99", State: record.Against}}); !strings.Contains(got, "Read the evidence") {
		t.Errorf("a gate of another release: %q", got)
	}
}

func TestPhases(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Facts)
		want   record.Phase
	}{
		"unused": {func(f *Facts) { delete(f.Report.Signers, "arn:new"); f.MergedAt = start }, Ready},
		"unused, on its way": {func(f *Facts) {
			delete(f.Report.Signers, "arn:new")
			plan(&f.Record, func(p *record.Policy) { p.Propagation = record.Duration(time.Hour) })
			f.Files.Records, f.MergedAt = []record.Record{f.Record}, f.Now.Add(-time.Minute)
		}, record.Published},
		"old signed last": {func(f *Facts) { f.Report.Signers["old"] = use("old", 1, 1, 99, start) }, Draining},
		"overlap runs":    {func(f *Facts) { f.Now = start.Add(2 * time.Hour) }, Retiring},
		"old writers may deliver": {func(f *Facts) {
			f.Now = start.Add(2 * time.Hour)
			plan(&f.Record, func(p *record.Policy) { p.Drain = record.Duration(3 * time.Hour) })
		}, Active},
		"old writers had their time": {func(f *Facts) { plan(&f.Record, func(p *record.Policy) { p.Drain = record.Duration(3 * time.Hour) }) }, Retiring},
		"overlap is over":            {func(*Facts) {}, Retiring},
		"record says over":           {func(f *Facts) { f.Record = then(f.Record, &record.Withdraw{By: by(start)}) }, record.WithdrawnPhase},
	} {
		f := facts(t)
		tc.change(&f)
		if a := Evaluate(f); a.Phase != tc.want || (tc.want == record.WithdrawnPhase) != (len(a.Gates) == 0) {
			t.Errorf("%s: phase %s with %d gates, want %s", name, a.Phase, len(a.Gates), tc.want)
		}
	}
}

// After a rollback the signer that is left behind is judged like one that leaves:
// by when it was last seen, not by when the other one began.
func TestEvaluateLeftBehind(t *testing.T) {
	left := func(change func(*Facts)) Assessment {
		f := facts(t)
		f.Record = wentBack(f.Record, start.Add(2*time.Hour))
		f.Report.Signers = map[string]chain.SignerUse{"old": use("old", 12, 1, 20, start.Add(90*time.Hour)), "arn:new": use("new", 4, 9, 12, start.Add(time.Hour))}
		f.Now = start.Add(100 * time.Hour)
		f.Trail.To = start.Add(99 * time.Hour)
		change(&f)
		return Evaluate(f)
	}
	a := left(func(*Facts) {})
	if a.Phase != record.RolledBackPhase || !a.Ready() || a.Boundary.Position != 12 || !a.DueAt.Equal(start.Add(50*time.Hour)) {
		t.Errorf("got %+v, want one that is ready, at position 12", a)
	}
	if a := left(func(f *Facts) { f.Now = start.Add(49 * time.Hour) }); a.Ready() || state(a, "G1") != record.Waiting {
		t.Errorf("too early: %+v", a.Gates[0])
	}
	if a := left(func(f *Facts) { f.Report.Signers["arn:new"] = use("new", 5, 9, 21, start.Add(time.Hour)) }); a.Ready() || state(a, "G2") != record.Waiting || !strings.Contains(a.Gates[1].Detail, "new") {
		t.Errorf("it still signs: %+v", a.Gates[1])
	}
	if a := left(func(f *Facts) { f.Files = files(t, "["+entryOf("old", 1)+"]", "") }); len(a.Gates) != 0 {
		t.Errorf("it is gone, and is judged: %+v", a)
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
		"late, the drain is over": {func(f *Facts) {
			late(f)
			plan(&f.Record, func(p *record.Policy) { p.Drain = record.Duration(time.Hour) })
		}, "though its drain was to be over at 2026-03-01 14:00:00 UTC; find that writer", ""},
		"late, while it drains": {func(f *Facts) {
			late(f)
			plan(&f.Record, func(p *record.Policy) { p.Drain = record.Duration(59 * time.Hour) })
		}, "some writer still uses it", "drain"},
		"late, nobody knows since when": {func(f *Facts) {
			late(f)
			plan(&f.Record, func(p *record.Policy) { p.Drain = record.Duration(time.Hour) })
			u := f.Report.Signers["arn:new"]
			u.FirstCreatedAt = nil
			f.Report.Signers["arn:new"] = u
		}, "some writer still uses it", "drain"},
		"late, after a rollback": {func(f *Facts) {
			plan(&f.Record, func(p *record.Policy) { p.Drain = record.Duration(time.Hour) })
			f.Record = wentBack(f.Record, start)
			f.Report.Signers["arn:new"] = use("new", 11, 1, 21, start.Add(time.Hour))
		}, "by the outgoing signer new", "drain"},
	} {
		f := facts(t)
		f.Now = start.Add(60 * time.Hour)
		tc.change(&f)
		for _, g := range Evaluate(f).Gates {
			if g.ID == "G2" && (g.State != record.Waiting || !strings.Contains(g.Detail, tc.says) || tc.saysNone != "" && strings.Contains(g.Detail, tc.saysNone)) {
				t.Errorf("%s: %s %q", name, g.State, g.Detail)
			}
		}
	}
}

// unusedFor is a week, after which somebody may have forgotten a signer.
const unusedFor = 7 * 24 * time.Hour

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
			t.Errorf("%s: due %t, want %t: %+v", name, a.Due(), tc.want, a.Gates)
		}
	}
}
