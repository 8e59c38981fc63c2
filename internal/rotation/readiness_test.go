package rotation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// What verifiers serve decides; the clock decides where none is listed.
func TestReach(t *testing.T) {
	old, fresh := entryOf("old", 1), entryOf("new", 2)
	f := files(t, "["+old+","+fresh+"]", archived(entryOf("gone", 4), "retired"))
	rec := record()
	rec.Policy.Propagation = Duration(5 * time.Minute)
	unhurried, done := rec, rec
	unhurried.Policy.Propagation, done.Retirement = 0, &Retirement{}
	next, undone := rec, rec
	next.ID, next.Outgoing, next.Incoming = "rotate-next-1", &rec.Incoming, Signer{ID: "next", Algorithm: "ed25519"}
	undone.Rollback = &Rollback{Mode: ModeRollback}
	stolen := rec
	stolen.Rollback = &Rollback{Mode: ModeCompromise}
	good := Verifier{URL: "https://a/", RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: f.Archive.SHA256()}
	terse := Verifier{URL: "https://b/", RegistrySHA256: f.Registry.SHA256()}
	stale := Verifier{URL: "https://stale/", RegistrySHA256: strings.Repeat("ab", 32)}
	behind := Verifier{URL: "https://behind/", RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: strings.Repeat("cd", 32)}
	down := Verifier{URL: "https://down/", Problem: "connection refused"}
	mute := Verifier{URL: "https://mute/"}
	for name, tc := range map[string]struct {
		signer string
		record *Record
		merged time.Duration // ago; negative: in the future, 0: unknown
		list   []Verifier
		want   GateState
		says   string
	}{
		"older than any record":         {"new", nil, 0, nil, Passed, "before any rotation"},
		"its rotation is over":          {"new", &done, time.Second, nil, Passed, "before any rotation"},
		"no wait is planned":            {"new", &unhurried, 0, nil, Passed, "no propagation time"},
		"nobody knows since when":       {"new", &rec, 0, nil, Unproven, "no pull request of rotation rotate-new-1 is found that was merged"},
		"just merged":                   {"new", &rec, time.Second, nil, Waiting, "takes 5m0s to reach every verifier: wait until 2026-03-01 12:04:59 UTC"},
		"almost there":                  {"new", &rec, 5*time.Minute - 1, nil, Waiting, "until"},
		"there":                         {"new", &rec, 5 * time.Minute, nil, Passed, "longer than the propagation of 5m0s"},
		"merged in the future":          {"new", &rec, -time.Hour, nil, Waiting, "until 2026-03-01 13:05:00"},
		"served by all":                 {"new", &rec, time.Second, []Verifier{good, terse}, Passed, "2 verifier(s) serve registry " + f.Registry.SHA256()},
		"served by all, no record":      {"new", nil, 0, []Verifier{good}, Passed, "1 verifier(s)"},
		"one is stale, long since":      {"new", &rec, 90 * time.Hour, []Verifier{good, stale}, Waiting, "1 of 2 verifiers serve other files than those published (registry " + f.Registry.SHA256()[:12] + "): https://stale/ (registry abababababab)"},
		"one has an old archive":        {"new", &rec, time.Second, []Verifier{behind}, Waiting, "https://behind/ (archive cdcdcdcdcdcd)"},
		"one does not answer":           {"new", &rec, 90 * time.Hour, []Verifier{good, down}, Unproven, "1 of 2 verifiers could not be asked: https://down/ (connection refused)"},
		"one tells nothing":             {"new", nil, 0, []Verifier{mute}, Unproven, "https://mute/ (it told no digest)"},
		"going back while it runs":      {"old", &rec, time.Second, []Verifier{stale, down}, Passed, "before any rotation that is under way"},
		"going back after all":          {"old", &undone, time.Second, []Verifier{stale}, Passed, "before any rotation that is under way"},
		"taking over from a stolen key": {"new", &stolen, 5 * time.Minute, []Verifier{stale}, Passed, "longer than the propagation"},
		"taking over, served by all":    {"new", &stolen, time.Second, []Verifier{good}, Passed, "1 verifier(s)"},
		"taking over at once":           {"new", &stolen, time.Second, nil, Waiting, "wait until"},
		"going on after a rollback":     {"new", &undone, time.Second, []Verifier{stale}, Waiting, "https://stale/"},
		"going back to what is new":     {"new", &next, time.Second, []Verifier{stale}, Passed, "before any rotation that is under way"},
		"one is stale and one silent":   {"new", &rec, time.Second, []Verifier{down, stale}, Waiting, "https://stale/ (registry abababababab); 1 of 2 verifiers could not be asked"},
	} {
		p := Publication{SignerID: tc.signer, Files: Files{Registry: f.Registry, Archive: f.Archive}, Verifiers: tc.list}
		if tc.record != nil {
			p.Files.Records = []Record{*tc.record}
		}
		if tc.merged != 0 {
			p.MergedAt = start.Add(-tc.merged)
		}
		got := p.Reach(start)
		if got.State != tc.want || !strings.Contains(got.Detail, tc.says) {
			t.Errorf("%s: %s, %q; want %s, %q", name, got.State, got.Detail, tc.want, tc.says)
		}
		if byTime := tc.want == Waiting && len(tc.list) == 0; byTime == got.At.IsZero() || byTime && !got.At.Equal(p.MergedAt.Add(5*time.Minute)) {
			t.Errorf("%s: over at %s", name, got.At)
		}
	}
}

// A list as long as is read stays one that people read.
func TestManyVerifiersAreNamedInPart(t *testing.T) {
	f := files(t, "["+entryOf("new", 2)+"]", "")
	var all []Verifier
	for i := range 32 {
		all = append(all, Verifier{URL: fmt.Sprintf("https://v%d/", i), Problem: "down"})
	}
	if got := (Publication{Files: Files{Registry: f.Registry, Archive: f.Archive}, Verifiers: all}).Reach(start); !strings.HasSuffix(got.Detail, "https://v7/ (down) and 24 more") {
		t.Error(got.Detail)
	}
}

// A standby is not older than its own merge because somebody is in a hurry to
// replace it.
func TestReachOfAStandbyThatIsReplaced(t *testing.T) {
	f := files(t, "["+entryOf("old", 1)+","+entryOf("new", 2)+"]", "")
	standby, next := record(), record()
	standby.Outgoing, standby.Policy.Propagation = nil, Duration(5*time.Minute)
	next.ID, next.Outgoing, next.Incoming = "rotate-next-1", &standby.Incoming, Signer{ID: "next"}
	p := Publication{SignerID: "new", Files: Files{Registry: f.Registry, Archive: f.Archive, Records: []Record{standby, next}}, MergedAt: start}
	stale := []Verifier{{URL: "https://stale/", RegistrySHA256: "0"}}
	for _, tc := range []struct {
		now  time.Time
		list []Verifier
		want GateState
	}{{start, nil, Waiting}, {start, stale, Waiting}, {start.Add(5 * time.Minute), nil, Passed}, {start.Add(5 * time.Minute), stale, Passed}} {
		p.Verifiers = tc.list
		if got := p.Reach(tc.now); got.State != tc.want {
			t.Errorf("%+v: %+v", tc, got)
		}
	}
}

// declared is when the archive of these tests declares its compromise.
var declared = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Once a key is compromised, every verifier that may trust it is named.
func TestTrusting(t *testing.T) {
	f := folder(t, "["+entryOf("new", 2)+"]", archived(entryOf("stolen", 4), "compromised"))
	good := Verifier{URL: "https://a/", RegistrySHA256: f.Registry.SHA256()}
	stale := Verifier{URL: "https://stale/", RegistrySHA256: strings.Repeat("ab", 32)}
	behind := Verifier{URL: "https://behind/", RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: strings.Repeat("cd", 32)}
	down := Verifier{URL: "https://down/", Problem: "connection refused"}
	for name, tc := range map[string]struct {
		list []Verifier
		want []string
	}{
		"nobody is listed": {nil, nil},
		"all serve it":     {[]Verifier{good}, nil},
		"stale":            {[]Verifier{good, stale}, []string{"error verifier https://stale/ (registry abababababab) does not serve the published files (registry " + f.Registry.SHA256()[:12] + "), which bound the compromised signer stolen (up to position 3)"}},
		"an old archive":   {[]Verifier{behind}, []string{"error verifier https://behind/ (archive cdcdcdcdcdcd) does not serve"}},
		"silent":           {[]Verifier{down, stale}, []string{"error verifier https://stale/", "warning verifier https://down/ (connection refused) does not say what it serves"}},
	} {
		got := f.Trusting(tc.list, nil, declared)
		if len(got) != len(tc.want) {
			t.Fatalf("%s: %v", name, got)
		}
		for i := range got {
			if text := got[i].Severity.String() + " " + got[i].Message; got[i].Rule != RuleStaleVerifier || !strings.HasPrefix(text, tc.want[i]) {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
	for state, list := range map[string][]Verifier{"retired": {stale, down}, "": {stale}} {
		arch := ""
		if state != "" {
			arch = archived(entryOf("gone", 4), state)
		}
		if got := folder(t, "["+entryOf("new", 2)+"]", arch).Trusting(list, nil, declared); got != nil {
			t.Errorf("%q: nobody is compromised: %v", state, got)
		}
	}
}

// A verifier that is behind, and still serves what bounds the key, is no alarm:
// every later publication would raise one.
func TestTrustingOfEarlierPublications(t *testing.T) {
	stolen, next, third := entryOf("stolen", 4), entryOf("new", 2), entryOf("third", 3)
	bound := archived(stolen, "compromised")
	now := folder(t, "["+next+","+third+"]", bound)
	for name, tc := range map[string]struct {
		was   Files
		alarm bool
	}{
		"after the declaration":          {folder(t, "["+next+"]", bound), false},
		"before it":                      {folder(t, "["+stolen+","+next+"]", ""), true},
		"before the key was known":       {folder(t, "["+next+"]", ""), true},
		"back in the registry":           {folder(t, "["+stolen+","+next+"]", bound), true},
		"merely retired":                 {folder(t, "["+next+"]", archived(stolen, "retired")), true},
		"with a bound further down":      {folder(t, "["+next+"]", strings.Replace(bound, `"position":3`, `"position":4`, 1)), true},
		"another key is the compromised": {folder(t, "["+next+"]", archived(entryOf("other", 5), "compromised")), true},
	} {
		served := Verifier{URL: "https://v/", RegistrySHA256: tc.was.Registry.SHA256(), ArchiveSHA256: tc.was.Archive.SHA256()}
		if got := now.Trusting([]Verifier{served}, []Files{tc.was}, declared); (len(got) > 0) != tc.alarm {
			t.Errorf("%s: %v", name, got)
		}
		if got := now.Trusting([]Verifier{served}, nil, declared); len(got) != 1 || got[0].Severity != finding.Error {
			t.Errorf("%s, and not known to have been published: %v", name, got)
		}
		archive := served
		archive.RegistrySHA256 = tc.was.Archive.SHA256()
		if got := now.Trusting([]Verifier{archive}, []Files{tc.was}, declared); len(got) != 1 {
			t.Errorf("%s: an archive passes for a registry: %v", name, got)
		}
	}
}

func TestTrustingOfTheSilent(t *testing.T) {
	f := folder(t, "["+entryOf("new", 2)+"]", archived(entryOf("stolen", 4), "compromised"))
	down := []Verifier{{URL: "https://down/", Problem: "connection refused"}}
	for after, want := range map[time.Duration]finding.Severity{0: finding.Warning, alertness: finding.Warning, alertness + 1: finding.Note} {
		if got := f.Trusting(down, nil, declared.Add(after)); len(got) != 1 || got[0].Severity != want {
			t.Errorf("%s after the declaration: %v, want %s", after, got, want)
		}
	}
}

// A signer came with the first record that brings it, whatever others say.
func TestArrivalAndRetreat(t *testing.T) {
	first, later, other, out := record(), record(), record(), record()
	first.ID, later.ID, other.ID, out.ID = "first", "later", "other", "out"
	later.CreatedAt = first.CreatedAt.Add(time.Hour)
	other.Incoming, other.CreatedAt = Signer{ID: "else"}, first.CreatedAt.Add(-time.Hour)
	out.Outgoing, out.Incoming = &Signer{ID: "new"}, Signer{ID: "next"}
	alone := first
	alone.Outgoing = nil
	for name, list := range map[string][]Record{"in order": {other, first, later}, "in another order": {later, first, other}} {
		if r := (Files{Records: list}).Arrival("new"); r == nil || r.ID != "first" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := (Files{Records: []Record{other, out}}).Arrival("new"); r != nil {
		t.Errorf("nobody brought it: %+v", r)
	}
	stolen, undone := first, first
	stolen.Rollback, undone.Rollback = &Rollback{Mode: ModeCompromise}, &Rollback{Mode: ModeRollback}
	for name, tc := range map[string]struct {
		records []Record
		want    bool
	}{
		"it is replaced":                {[]Record{first, out}, true},
		"it comes":                      {[]Record{first}, false},
		"it comes, nobody leaves":       {[]Record{alone}, false},
		"it takes over":                 {[]Record{stolen}, true},
		"it was rolled back":            {[]Record{undone}, false},
		"another takes over":            {[]Record{func() Record { r := stolen; r.Incoming = Signer{ID: "else"}; return r }()}, false},
		"another signer of some record": {[]Record{other}, false},
		"no records":                    {nil, false},
	} {
		if got := (Files{Records: tc.records}).FallsBackTo("new"); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
