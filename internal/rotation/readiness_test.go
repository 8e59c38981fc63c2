package rotation

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What verifiers serve decides; the clock decides where none is listed.
func TestReach(t *testing.T) {
	old, fresh := entryOf("old", 1), entryOf("new", 2)
	f := files(t, "["+old+","+fresh+"]", archived(entryOf("gone", 4), "retired"))
	rec := record()
	rec.Policy.Propagation = Duration(5 * time.Minute)
	unhurried, done := rec, rec
	unhurried.Policy.Propagation, done.Retirement = 0, &Retirement{}
	good := Verifier{URL: "https://a/", RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: f.Archive.SHA256()}
	terse := Verifier{URL: "https://b/", RegistrySHA256: f.Registry.SHA256()}
	stale := Verifier{URL: "https://stale/", RegistrySHA256: strings.Repeat("ab", 32)}
	behind := Verifier{URL: "https://behind/", RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: strings.Repeat("cd", 32)}
	down := Verifier{URL: "https://down/", Problem: "connection refused"}
	mute := Verifier{URL: "https://mute/"}
	for name, tc := range map[string]struct {
		record *Record
		merged time.Duration // ago; negative: in the future, 0: unknown
		list   []Verifier
		want   GateState
		says   string
	}{
		"older than any record":       {nil, 0, nil, Passed, "before any rotation"},
		"its rotation is over":        {&done, time.Second, nil, Passed, "before any rotation"},
		"no wait is planned":          {&unhurried, 0, nil, Passed, "no propagation time"},
		"nobody knows since when":     {&rec, 0, nil, Unproven, "no merged pull request of rotation rotate-new-1"},
		"just merged":                 {&rec, time.Second, nil, Waiting, "verifiers have it by 2026-03-01 12:04:59 UTC (propagation 5m0s)"},
		"almost there":                {&rec, 5*time.Minute - 1, nil, Waiting, "by"},
		"there":                       {&rec, 5 * time.Minute, nil, Passed, "longer than its propagation of 5m0s"},
		"merged in the future":        {&rec, -time.Hour, nil, Waiting, "by 2026-03-01 13:05:00"},
		"served by all":               {&rec, time.Second, []Verifier{good, terse}, Passed, "2 verifier(s) serve registry " + f.Registry.SHA256()},
		"served by all, no record":    {nil, 0, []Verifier{good}, Passed, "1 verifier(s)"},
		"one is stale, long since":    {&rec, 90 * time.Hour, []Verifier{good, stale}, Waiting, "1 of 2 verifiers serve other files than those published (registry " + f.Registry.SHA256()[:12] + "): https://stale/ (registry abababababab)"},
		"one has an old archive":      {&rec, time.Second, []Verifier{behind}, Waiting, "https://behind/ (archive cdcdcdcdcdcd)"},
		"one does not answer":         {&rec, 90 * time.Hour, []Verifier{good, down}, Unproven, "1 of 2 verifiers could not be asked: https://down/ (connection refused)"},
		"one tells nothing":           {nil, 0, []Verifier{mute}, Unproven, "https://mute/ (it told no digest)"},
		"one is stale and one silent": {&rec, time.Second, []Verifier{down, stale}, Waiting, "https://stale/ (registry abababababab); 1 of 2 verifiers could not be asked"},
	} {
		p := Publication{f.Registry, f.Archive, tc.record, time.Time{}, tc.list}
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
	if got := (Publication{Registry: f.Registry, Archive: f.Archive, Verifiers: all}).Reach(start); !strings.HasSuffix(got.Detail, "https://v7/ (down) and 24 more") {
		t.Error(got.Detail)
	}
}
