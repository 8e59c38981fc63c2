package checkpoint_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

var (
	head  = strings.Repeat("ab", 32)
	at    = time.Date(2026, 3, 1, 12, 0, 0, 999, time.FixedZone("", 3600))
	table = checkpoint.Table{SystemIdentifier: "7", Table: "public.audit_events"}
)

func verified(length int64) *chain.Report {
	return &chain.Report{
		Verdict: chain.Verified, Head: head, Length: length, RegistrySHA256: strings.Repeat("cd", 32), ArchiveSHA256: strings.Repeat("ef", 32),
		Signers: map[string]chain.SignerUse{"v1": {Events: length - 1, LastPosition: length - 1}, "v2": {Events: 1, LastPosition: length}},
	}
}

func parse(t *testing.T, text string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Parse("c.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What one run writes the next one reads, and names by its digest.
func TestNext(t *testing.T) {
	first, err := checkpoint.Next(nil, table, verified(10), at)
	if err != nil {
		t.Fatal(err)
	}
	text := first.JSON()
	if v, err := schemas.Violations(schemas.Checkpoint, text); err != nil || len(v) > 0 {
		t.Errorf("%v %v", v, err)
	}
	read := parse(t, string(text))
	if !bytes.Equal(read.JSON(), text) || read.String() != "10:"+head || read.Chain != table || read.Signers["v2"].LastPosition != 10 || !read.CreatedAt.Equal(at.Truncate(time.Second)) {
		t.Errorf("%s\ncomes back as\n%s", text, read.JSON())
	}
	if a := read.Anchor(); a.Position != 10 || a.Digest.String() != head || !a.Checkpoint {
		t.Errorf("anchor %+v", a)
	}
	next, err := checkpoint.Next(read, table, verified(12), at)
	sum := sha256.Sum256(text)
	if err != nil || next.PreviousSHA256 != hex.EncodeToString(sum[:]) || next.Count != 12 {
		t.Errorf("%+v, %v", next, err)
	}
	if _, err := checkpoint.Next(read, table, verified(10), at); err != nil {
		t.Errorf("a chain that has not grown: %v", err)
	}
	if _, err := checkpoint.Next(read, table, verified(9), at); err == nil || !strings.Contains(err.Error(), "never shrinks") {
		t.Errorf("a shorter chain: %v", err)
	}
	for _, verdict := range []chain.Verdict{chain.Failed, chain.Undetermined} {
		r := verified(12)
		r.Verdict = verdict
		if _, err := checkpoint.Next(read, table, r, at); err == nil {
			t.Errorf("a checkpoint of a chain that is %s", verdict)
		}
	}
	if _, err := checkpoint.Next(nil, table, &chain.Report{Verdict: chain.Verified}, at); err == nil {
		t.Error("a checkpoint of an empty chain")
	}
}

func TestParse(t *testing.T) {
	good := `{"count": 3, "head": "` + head + `"}`
	if c := parse(t, good); c.Count != 3 || c.Chain != (checkpoint.Table{}) {
		t.Errorf("%+v", c)
	}
	parse(t, strings.Replace(good, "{", `{"x-kept-by": "ops", `, 1))
	for name, text := range map[string]string{
		"no JSON":            `{`,
		"a list":             `[]`,
		"a number":           `3`,
		"no count":           `{"head": "` + head + `"}`,
		"no head":            `{"count": 3}`,
		"count 0":            strings.Replace(good, "3", "0", 1),
		"count -1":           strings.Replace(good, "3", "-1", 1),
		"half an event":      strings.Replace(good, "3", "3.5", 1),
		"beyond 64 bits":     strings.Replace(good, "3", "1e30", 1),
		"count as text":      strings.Replace(good, "3", `"3"`, 1),
		"upper-case head":    strings.Replace(good, head, strings.ToUpper(head), 1),
		"short head":         strings.Replace(good, head, head[2:], 1),
		"count twice":        strings.Replace(good, "{", `{"count": 9, `, 1),
		"count in two cases": strings.Replace(good, "{", `{"COUNT": 9, `, 1),
		"head in two cases":  strings.Replace(good, "}", `, "Head": "`+strings.Repeat("0", 64)+`"}`, 1),
		"no time":            strings.Replace(good, "{", `{"createdAt": "yesterday", `, 1),
		"version 2":          strings.Replace(good, "{", `{"version": 2, `, 1),
		"signers as list":    strings.Replace(good, "{", `{"signers": [], `, 1),
		"too large":          strings.Replace(good, "{", `{"x": "`+strings.Repeat("x", jsondoc.MaxSize)+`", `, 1),
	} {
		_, err := checkpoint.Parse("c.json", []byte(text))
		var e *jsondoc.Error
		if !errors.As(err, &e) || e.ExitCode() != 2 || !strings.HasPrefix(err.Error(), "c.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheck(t *testing.T) {
	c := parse(t, `{"count": 10, "head": "`+head+`", "chain": {"systemIdentifier": "7", "table": "public.audit_events"}, "signers": {"v1": {"events": 9}, "v2": {"events": 1}}}`)
	for name, tc := range map[string]struct {
		table checkpoint.Table
		rep   *chain.Report
		want  []string
	}{
		"the same":         {table, verified(10), nil},
		"more":             {table, verified(12), nil},
		"an export":        {checkpoint.Table{}, verified(10), nil},
		"a role of little": {checkpoint.Table{Table: "public.audit_events"}, verified(10), nil},
		"another cluster":  {checkpoint.Table{SystemIdentifier: "8", Table: table.Table}, verified(10), []string{`about database cluster "7", this is "8"`}},
		"another table":    {checkpoint.Table{SystemIdentifier: "7", Table: "public.other"}, verified(10), []string{`about table "public.audit_events", this is "public.other"`}},
		"fewer by v1":      {table, verified(9), []string{`counts 9 events by signer "v1", now there are 8`}},
		"nobody":           {table, &chain.Report{}, []string{"signer", "signer"}},
	} {
		fs := c.Check(tc.table, tc.rep)
		if len(fs) != len(tc.want) {
			t.Errorf("%s: %v", name, fs)
			continue
		}
		for i, f := range fs {
			if f.Rule != chain.RuleCheckpointMismatch || f.Severity.String() != "error" || f.File != "c.json" || !strings.Contains(f.Message, tc.want[i]) {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// A verification that resumed counts on from the checkpoint, and says when the
// whole chain was last read.
func TestContinue(t *testing.T) {
	first, err := checkpoint.Next(nil, table, verified(10), at)
	if err != nil {
		t.Fatal(err)
	}
	before := parse(t, string(first.JSON()))
	written := at.Add(time.Hour)
	r := verified(12)
	r.Signers = map[string]chain.SignerUse{"v3": {Events: 2, FirstPosition: 11, LastPosition: 12, LastCreatedAt: &written, Entry: "v3", State: "active"}}
	r.Resumed = &chain.Resumption{From: before.String(), New: 2}
	before.Continue(r, func(id string) (string, string) { return "entry of " + id, "retired" })
	for id, want := range map[string]chain.SignerUse{
		"v1": {Events: 9, LastPosition: 9, Entry: "entry of v1", State: "retired"},
		"v2": {Events: 1, LastPosition: 10, Entry: "entry of v2", State: "retired"},
		"v3": {Events: 2, FirstPosition: 11, LastPosition: 12, LastCreatedAt: &written, Entry: "v3", State: "active"},
	} {
		if r.Signers[id] != want {
			t.Errorf("%s: %+v, want %+v", id, r.Signers[id], want)
		}
	}
	full := at.Truncate(time.Second).UTC()
	if r.Resumed.FullAt != full.Format(time.RFC3339) {
		t.Errorf("%+v", r.Resumed)
	}
	second, err := checkpoint.Next(before, table, r, at.Add(2*time.Hour))
	if err != nil || !second.FullAt.Equal(full) || !second.HeadCreatedAt.Equal(written) || second.Signers["v1"].Events != 9 {
		t.Errorf("%s %v", second.JSON(), err)
	}
	read := parse(t, string(second.JSON()))
	if why := read.Continues(before); why != "" {
		t.Error(why)
	}
	// Nothing new: the time of the head stays known.
	r = verified(12)
	r.Signers, r.Resumed = map[string]chain.SignerUse{}, &chain.Resumption{}
	read.Continue(r, func(string) (string, string) { return "", "" })
	third, err := checkpoint.Next(read, table, r, at.Add(3*time.Hour))
	if err != nil || !third.HeadCreatedAt.Equal(written) || !third.FullAt.Equal(full) || !third.Says(read) {
		t.Errorf("%s %v", third.JSON(), err)
	}
	// The whole chain read again.
	fourth, err := checkpoint.Next(read, table, verified(12), at.Add(4*time.Hour))
	if err != nil || !fourth.FullAt.Equal(fourth.CreatedAt) {
		t.Errorf("%s %v", fourth.JSON(), err)
	}
}

func TestResumable(t *testing.T) {
	r := verified(10)
	cd, ef, ab := strings.Repeat("cd", 32), strings.Repeat("ef", 32), strings.Repeat("ab", 32)
	r.TermsSHA256 = ab
	c, err := checkpoint.Next(nil, table, r, at)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ registry, archive, terms, why string }{
		{cd, ef, ab, ""}, {ef, ef, ab, "registry"}, {cd, cd, ab, "archive"}, {cd, "", ab, "archive"}, {cd, ef, cd, "exceptions"},
	} {
		if got := c.Resumable(tc.registry, tc.archive, tc.terms); (got == "") != (tc.why == "") || !strings.Contains(got, tc.why) {
			t.Errorf("%+v: %q", tc, got)
		}
	}
	if parse(t, `{"count": 10, "head": "`+head+`"}`).Resumable("", "", "") == "" {
		t.Error("a checkpoint that names no registry was made under any")
	}
	r.Tips = []string{r.Head, ef}
	if c, err = checkpoint.Next(nil, table, r, at); err != nil || len(c.Tips) != 1 || !strings.Contains(c.Resumable(cd, ef, ab), "branches") {
		t.Errorf("%+v, %v", c, err)
	}
	if back := parse(t, string(c.JSON())); len(back.Anchors()) != 2 || back.Anchors()[1].Digest.String() != ef || !back.Anchors()[1].Checkpoint {
		t.Errorf("%+v", back.Anchors())
	}
}

// A successor names its predecessor and does not fall behind it.
func TestContinues(t *testing.T) {
	write := func(previous *checkpoint.Checkpoint, where checkpoint.Table, length int64) *checkpoint.Checkpoint {
		c, err := checkpoint.Next(previous, where, verified(length), at)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, string(c.JSON()))
	}
	first := write(nil, table, 10)
	for name, tc := range map[string]struct {
		next *checkpoint.Checkpoint
		why  string
	}{
		"itself":           {first, ""},
		"grown":            {write(first, table, 11), ""},
		"not grown":        {write(first, table, 10), ""},
		"of none":          {write(nil, table, 11), "another predecessor"},
		"of another":       {write(write(nil, table, 9), table, 11), "another predecessor"},
		"of another table": {write(first, checkpoint.Table{Table: "public.other"}, 11), "another table"},
		"shorter":          {parse(t, strings.Replace(string(write(first, table, 11).JSON()), `"count": 11`, `"count": 9`, 1)), "9 events, its predecessor 10"},
		"another head":     {parse(t, strings.Replace(string(write(first, table, 10).JSON()), head, strings.Repeat("0", 64), 1)), "another head"},
	} {
		if got := tc.next.Continues(first); (got == "") != (tc.why == "") || !strings.Contains(got, tc.why) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Whatever the bytes are, what is read as a checkpoint comes back as itself.
func FuzzParse(f *testing.F) {
	first, err := checkpoint.Next(nil, table, verified(10), at)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(first.JSON())
	for _, seed := range []string{`{"count": 1, "head": "` + head + `"}`, `{"count": 1e0, "head": "` + head + `"}`, `{"Count": 1, "count": 1, "head": "` + head + `"}`, `{"count": 9223372036854775808, "head": ""}`, `[]`, `{`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := checkpoint.Parse("c.json", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "c.json") {
				t.Errorf("%v does not name the file", err)
			}
			return
		}
		if c.Count < 1 || c.Anchor().Position != c.Count {
			t.Errorf("count %d was read from %q", c.Count, text)
		}
		again, err := checkpoint.Parse("c.json", c.JSON())
		if err != nil || !again.Says(c) || !again.HeadCreatedAt.Equal(c.HeadCreatedAt) {
			t.Errorf("%q comes back as %q: %v", text, c.JSON(), err)
		}
	})
}
