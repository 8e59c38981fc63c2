package rotation

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// fit is a report of a sound chain of 20 events.
func fit(f record.Files) *chain.Report {
	signers := map[string]chain.SignerUse{"old": use("old", 10, 1, 10, start), "arn:new": use("new", 10, 11, 20, start)}
	for id, u := range signers {
		u.LastDigest = chain.Digest{1}
		signers[id] = u
	}
	return &chain.Report{
		Version: 1, Verdict: chain.Verified, Events: 20, Length: 20, Head: strings.Repeat("cd", 32), Signers: signers, Findings: []finding.Finding{}, UnauthenticatedColumns: []string{},
		RegistrySHA256: f.Registry.SHA256(), ArchiveSHA256: f.Archive.SHA256(), ToolVersion: "v1", StartedAt: start,
	}
}

// local is what the chain says of unsigned rows under an id of no entry.
func local(events int64) chain.SignerUse {
	return chain.SignerUse{Events: events, FirstPosition: 3, LastPosition: 4, LastDigest: chain.Digest{2}, State: "unknown"}
}

func less(u chain.SignerUse, events int64) chain.SignerUse {
	u.Events -= events
	return u
}

// A report that was made elsewhere stands for a verification only if nothing
// about it is doubtful.
func TestUnfit(t *testing.T) {
	f := files(t, "["+entryOf("old", 1)+","+entryOf("new", 2)+"]", archived(entryOf("gone", 4), "retired"))
	for name, tc := range map[string]struct {
		change func(*chain.Report)
		why    string // "" if it is fit
	}{
		"as it should be":          {func(*chain.Report) {}, ""},
		"just young enough":        {func(r *chain.Report) { r.StartedAt = start.Add(-23 * time.Hour) }, ""},
		"clocks that differ a bit": {func(r *chain.Report) { r.StartedAt = start.Add(time.Hour + MaxSkew) }, ""},
		"a chain that fails":       {func(r *chain.Report) { r.Verdict, r.Events = chain.Failed, 7 }, ""},
		"reviewed exceptions":      {func(r *chain.Report) { r.ExceptionsUsed, r.Events, r.Tips = 1, 21, []string{"a", "b"} }, ""},
		"a fork's other branch": {func(r *chain.Report) {
			r.ExceptionsUsed, r.Events, r.Signers["side"] = 1, 21, chain.SignerUse{Events: 1, Entry: "old"}
		}, ""},
		"notes and warnings":       {func(r *chain.Report) { r.Findings = []finding.Finding{{Severity: finding.Warning}} }, ""},
		"too old":                  {func(r *chain.Report) { r.StartedAt = start.Add(-23*time.Hour - time.Second) }, "it was begun at 2026-02-28 12:59:59 UTC, more than 24h0m0s ago: run verify-chain again"},
		"of the future":            {func(r *chain.Report) { r.StartedAt = start.Add(time.Hour + MaxSkew + 1) }, "which is not yet"},
		"of no time":               {func(r *chain.Report) { r.StartedAt = time.Time{} }, "does not say when it was begun"},
		"by another version":       {func(r *chain.Report) { r.ToolVersion = "v0" }, `made by version "v0", and this is "v1"`},
		"undetermined":             {func(r *chain.Report) { r.Verdict = chain.Undetermined }, "undetermined"},
		"of what is new":           {func(r *chain.Report) { r.Resumed = &chain.Resumption{} }, "run verify-chain in mode"},
		"with another registry":    {func(r *chain.Report) { r.RegistrySHA256 = strings.Repeat("0", 64) }, "other files than those published now (registry 000000000000, not"},
		"with another archive":     {func(r *chain.Report) { r.ArchiveSHA256 = "" }, "other files than those published now"},
		"verified, with errors":    {func(r *chain.Report) { r.Findings = []finding.Finding{{Severity: finding.Error}} }, "it is verified and lists errors"},
		"errors beside exceptions": {func(r *chain.Report) { r.ExceptionsUsed, r.Findings = 1, []finding.Finding{{Severity: finding.Error}} }, "lists errors"},
		"without a head":           {func(r *chain.Report) { r.Head = "" }, "has no head"},
		"with two heads":           {func(r *chain.Report) { r.Tips = []string{"a", "b"} }, "do not end in one head"},
		"events beside the chain":  {func(r *chain.Report) { r.Events = 21 }, "21 events do not end in one head at position 20"},
		"events of nobody":         {func(r *chain.Report) { r.Events, r.Length = 21, 21 }, "its signers have 20 events, and there are 21"},
		"an unsigned row, reviewed": {func(r *chain.Report) {
			r.Signers["old"] = less(r.Signers["old"], 1)
			r.ExceptionsUsed, r.ByRule = 1, map[string]int64{chain.RuleUnsigned: 1}
		}, ""},
		"and one of a stranger": {func(r *chain.Report) {
			r.Signers["local"], r.Signers["old"] = local(1), less(r.Signers["old"], 2)
			r.ExceptionsUsed, r.ByRule = 1, map[string]int64{chain.RuleUnsigned: 2}
		}, `nobody knows signer "local"`},
		"signers whom nobody knows": {func(r *chain.Report) { r.Signers["old"] = chain.SignerUse{Events: 10} }, `nobody knows signer "old"`},
		"a last event that is none": {func(r *chain.Report) { u := r.Signers["old"]; u.LastDigest = chain.Digest{}; r.Signers["old"] = u }, `the last event of signer "old" is none`},
		"a last event beyond":       {func(r *chain.Report) { u := r.Signers["old"]; u.LastPosition = 21; r.Signers["old"] = u }, `the last event of signer "old" is none`},
	} {
		r := fit(f)
		tc.change(r)
		if got := Unfit(r, f, "v1", start.Add(time.Hour), 24*time.Hour); (got == "") != (tc.why == "") || !strings.Contains(got, tc.why) {
			t.Errorf("%s: %q, want %q", name, got, tc.why)
		}
	}
}

func TestParseReport(t *testing.T) {
	f := files(t, "["+entryOf("old", 1)+"]", "")
	text, err := json.Marshal(fit(f))
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseReport("report.json", text)
	if err != nil || r.Use("old").LastPosition != 10 || r.Use("old").LastDigest == (chain.Digest{}) || !r.StartedAt.Equal(start) {
		t.Errorf("%+v, %v", r, err)
	}
	for name, src := range map[string]string{
		"no JSON":          "verified",
		"something else":   `{"version": 1}`,
		"a later form":     strings.Replace(string(text), `"version":1`, `"version":2`, 1),
		"another member":   strings.Replace(string(text), `"version":1`, `"version":1,"Verdict":"verified"`, 1),
		"a member twice":   strings.Replace(string(text), `"version":1`, `"version":1,"verdict":"failed"`, 1),
		"no such verdict":  strings.Replace(string(text), `"verified"`, `"VERIFIED"`, 1),
		"too many events":  strings.Replace(string(text), `"events":20`, `"events":99999999999999999999`, 1),
		"a broken time":    strings.Replace(string(text), `"startedAt":"2026`, `"startedAt":"x2026`, 1),
		"more than report": string(text) + "{}",
	} {
		if _, err := ParseReport("report.json", []byte(src)); err == nil || !strings.Contains(err.Error(), "report.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
