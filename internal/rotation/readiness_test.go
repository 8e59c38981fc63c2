package rotation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// What verifiers serve decides; the clock decides where none is listed.
func TestReach(t *testing.T) {
	old, fresh := entryOf("old", 1), entryOf("new", 2)
	f := files(t, "["+old+","+fresh+"]", archived(entryOf("gone", 4), "retired"))
	rec := opened()
	plan(&rec, func(p *record.Policy) { p.Propagation = record.Duration(5 * time.Minute) })
	unhurried := opened()
	done := then(rec, &record.Retire{By: by(start.Add(50 * time.Hour)), Signer: record.Signer{ID: "old"}})
	undone := wentBack(rec, start)
	promoted := record.Record{ID: "rotate-new-1", Moves: []record.Move{&record.Promote{By: by(start), Signer: record.Signer{ID: "new"}, Replaces: record.Signer{ID: "old"}}}}
	next := record.Record{ID: "rotate-next-1", Moves: []record.Move{&record.Open{By: by(start), Signer: record.Signer{ID: "next"}, Replaces: &record.Signer{ID: "new"}}}}
	good := Verifier{URL: "https://a/", RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: f.Archive.SHA256()}
	terse := Verifier{URL: "https://b/", RegistrySHA256: f.Registry.SHA256()}
	stale := Verifier{URL: "https://stale/", RegistrySHA256: strings.Repeat("ab", 32)}
	behind := Verifier{URL: "https://behind/", RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: strings.Repeat("cd", 32)}
	down := Verifier{URL: "https://down/", Problem: "connection refused"}
	mute := Verifier{URL: "https://mute/"}
	for name, tc := range map[string]struct {
		signer    string
		record    *record.Record
		published time.Duration // ago; negative: in the future, 0: unknown
		list      []Verifier
		want      record.GateState
		says      string
	}{
		"no wait is planned":          {"new", &unhurried, 0, nil, record.Passed, "no propagation time"},
		"nobody knows since when":     {"new", &rec, 0, nil, record.Unproven, "since when signer new is published, the branch does not tell"},
		"just merged":                 {"new", &rec, time.Second, nil, record.Waiting, "takes 5m0s to reach every verifier: wait until 2026-03-01 12:04:59 UTC"},
		"almost there":                {"new", &rec, 5*time.Minute - 1, nil, record.Waiting, "until"},
		"there":                       {"new", &rec, 5 * time.Minute, nil, record.Passed, "longer than the propagation of 5m0s"},
		"merged in the future":        {"new", &rec, -time.Hour, nil, record.Waiting, "until 2026-03-01 13:05:00"},
		"without a record, unknown":   {"new", nil, 0, nil, record.Unproven, "the branch does not tell"},
		"without a record, just now":  {"new", nil, time.Second, nil, record.Waiting, "wait until"},
		"without a record, there":     {"new", nil, 5 * time.Minute, nil, record.Passed, "longer than the propagation of 5m0s"},
		"promoted, as old as none":    {"new", &promoted, time.Second, nil, record.Waiting, "wait until"},
		"a record that says finished": {"new", &done, time.Second, nil, record.Waiting, "wait until"},
		"served by all":               {"new", &rec, time.Second, []Verifier{good, terse}, record.Passed, "2 verifier(s) serve registry " + f.Registry.SHA256()},
		"served by all, no record":    {"new", nil, 0, []Verifier{good}, record.Passed, "1 verifier(s)"},
		"one is stale, long since":    {"new", &rec, 90 * time.Hour, []Verifier{good, stale}, record.Waiting, "1 of 2 verifiers serve other files than those published (registry " + f.Registry.SHA256()[:12] + "): https://stale/ (registry abababababab)"},
		"one has an old archive":      {"new", &rec, time.Second, []Verifier{behind}, record.Waiting, "https://behind/ (archive cdcdcdcdcdcd)"},
		"one does not answer":         {"new", &rec, 90 * time.Hour, []Verifier{good, down}, record.Unproven, "1 of 2 verifiers could not be asked: https://down/ (connection refused)"},
		"one tells nothing":           {"new", nil, 0, []Verifier{mute}, record.Unproven, "https://mute/ (it told no digest)"},
		"one is stale, one silent":    {"new", &rec, time.Second, []Verifier{down, stale}, record.Waiting, "https://stale/ (registry abababababab); 1 of 2 verifiers could not be asked"},
		"going back while it runs":    {"old", &rec, time.Hour, []Verifier{stale, down}, record.Passed, "waits for nothing"},
		"going back after all":        {"old", &undone, time.Hour, []Verifier{stale}, record.Passed, "waits for nothing"},
		"going back at once":          {"old", &rec, 0, []Verifier{stale}, record.Passed, "waits for nothing"},
		"going on after a rollback":   {"new", &undone, time.Hour, []Verifier{stale}, record.Waiting, "https://stale/"},
		"going back to what is new":   {"new", &next, time.Second, []Verifier{stale}, record.Passed, "waits for nothing"},
	} {
		p := Publication{SignerID: tc.signer, Files: f, Verifiers: tc.list}
		if tc.record != nil {
			p.Files.Records = []record.Record{*tc.record}
		}
		if tc.published != 0 {
			p.PublishedAt = start.Add(-tc.published)
		}
		got := p.Reach(start)
		if got.State != tc.want || !strings.Contains(got.Detail, tc.says) {
			t.Errorf("%s: %s, %q; want %s, %q", name, got.State, got.Detail, tc.want, tc.says)
		}
		byTime := tc.want == record.Waiting && len(tc.list) == 0
		if byTime == got.At.IsZero() || byTime && !got.At.Equal(p.PublishedAt.Add(5*time.Minute)) {
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
	if got := (Publication{Files: f, Verifiers: all}).Reach(start); !strings.HasSuffix(got.Detail, "https://v7/ (down) and 24 more") {
		t.Error(got.Detail)
	}
}

// declared is when the archive of these tests declares its compromise.
var declared = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Once a key is compromised, every verifier that may trust it is named.
func TestTrusting(t *testing.T) {
	f := files(t, "["+entryOf("new", 2)+"]", archived(entryOf("stolen", 4), "compromised"))
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
		got := Trusting(f, tc.list, nil, declared)
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
		if got := Trusting(files(t, "["+entryOf("new", 2)+"]", arch), list, nil, declared); got != nil {
			t.Errorf("%q: nobody is compromised: %v", state, got)
		}
	}
}

// A verifier that is behind, and still serves what bounds the key, is no alarm:
// every later publication would raise one.
func TestTrustingOfEarlierPublications(t *testing.T) {
	stolen, next, third := entryOf("stolen", 4), entryOf("new", 2), entryOf("third", 3)
	bound := archived(stolen, "compromised")
	now := files(t, "["+next+","+third+"]", bound)
	for name, tc := range map[string]struct {
		was   record.Files
		alarm bool
	}{
		"after the declaration":          {files(t, "["+next+"]", bound), false},
		"before it":                      {files(t, "["+stolen+","+next+"]", ""), true},
		"before the key was known":       {files(t, "["+next+"]", ""), true},
		"back in the registry":           {files(t, "["+stolen+","+next+"]", bound), true},
		"merely retired":                 {files(t, "["+next+"]", archived(stolen, "retired")), true},
		"with a bound further down":      {files(t, "["+next+"]", strings.Replace(bound, `"position":3`, `"position":4`, 1)), true},
		"another key is the compromised": {files(t, "["+next+"]", archived(entryOf("other", 5), "compromised")), true},
	} {
		served := Verifier{URL: "https://v/", RegistrySHA256: tc.was.Registry.SHA256(), ArchiveSHA256: tc.was.Archive.SHA256()}
		if got := Trusting(now, []Verifier{served}, []record.Files{tc.was}, declared); (len(got) > 0) != tc.alarm {
			t.Errorf("%s: %v", name, got)
		}
		if got := Trusting(now, []Verifier{served}, nil, declared); len(got) != 1 || got[0].Severity != finding.Error {
			t.Errorf("%s, and not known to have been published: %v", name, got)
		}
		archive := served
		archive.RegistrySHA256 = tc.was.Archive.SHA256()
		if got := Trusting(now, []Verifier{archive}, []record.Files{tc.was}, declared); len(got) != 1 {
			t.Errorf("%s: an archive passes for a registry: %v", name, got)
		}
	}
}

func TestTrustingOfTheSilent(t *testing.T) {
	f := files(t, "["+entryOf("new", 2)+"]", archived(entryOf("stolen", 4), "compromised"))
	down := []Verifier{{URL: "https://down/", Problem: "connection refused"}}
	for after, want := range map[time.Duration]finding.Severity{0: finding.Warning, alertness: finding.Warning, alertness + 1: finding.Note} {
		if got := Trusting(f, down, nil, declared.Add(after)); len(got) != 1 || got[0].Severity != want {
			t.Errorf("%s after the declaration: %v, want %s", after, got, want)
		}
	}
}

// Deploying a signer is a retreat where a rotation replaces it, or where it takes
// over from a compromised one.
func TestFallsBackTo(t *testing.T) {
	both := "[" + entryOf("old", 1) + "," + entryOf("new", 2) + "]"
	standby := record.Record{ID: "x", Moves: []record.Move{&record.Open{By: by(start), Signer: record.Signer{ID: "new"}}}}
	lost := archived(entryOf("lost", 3), "compromised")
	for name, tc := range map[string]struct {
		f    record.Files
		want string // the signers that are
	}{
		"no records":             {files(t, both, ""), ""},
		"a rotation":             {files(t, both, "", opened()), "old"},
		"a standby":              {files(t, both, "", standby), ""},
		"rolled back":            {files(t, both, "", wentBack(opened(), start)), "old"},
		"one was compromised":    {files(t, both, lost), "new"},
		"one was merely retired": {files(t, both, archived(entryOf("lost", 3), "retired")), ""},
		"the old one leaked":     {files(t, "["+entryOf("third", 4)+","+entryOf("new", 2)+"]", archived(entryOf("old", 1), "compromised"), opened()), "old new"},
	} {
		for _, id := range []string{"old", "new", "third"} {
			want := strings.Contains(" "+tc.want+" ", " "+id+" ")
			if got := FallsBackTo(tc.f, id); got != want {
				t.Errorf("%s: deploying %s is a retreat: %t, want %t", name, id, got, want)
			}
		}
	}
}
