package checkpoint_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

func place(t *testing.T, count int64, head string) checkpoint.Place {
	t.Helper()
	d, ok := chain.ParseDigest([]byte(head))
	if !ok {
		t.Fatal(head)
	}
	return checkpoint.Place{Count: count, Head: d}
}

// A reset gives up the very checkpoint that it names, and no other.
func TestUnder(t *testing.T) {
	last, err := checkpoint.Next(nil, table, verified(10), at)
	if err != nil {
		t.Fatal(err)
	}
	old := parse(t, string(last.JSON()))
	restart := strings.Repeat("cd", 32)
	reset := checkpoint.Reset{Checkpoint: place(t, 10, head), Restart: place(t, 7, restart), Reason: "restored", ApprovedBy: "lead", ApprovedAt: at}
	for name, other := range map[string]checkpoint.Reset{
		"none":          {},
		"another count": {Checkpoint: place(t, 9, head), Restart: reset.Restart},
		"another head":  {Checkpoint: place(t, 10, restart), Restart: reset.Restart},
	} {
		if got := old.Under([]checkpoint.Reset{other}); got != old {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, told := old.Finding(); told {
		t.Error("a checkpoint that stands tells of a reset")
	}

	now := old.Under([]checkpoint.Reset{{}, reset})
	if a := now.Anchor(); a.Position != 7 || a.Digest.String() != restart || !a.Checkpoint {
		t.Errorf("%+v", a)
	}
	if f, told := now.Finding(); !told || f.Rule != checkpoint.RuleReset || !strings.Contains(f.Message, "10:"+head) || !strings.Contains(f.Message, "7:"+restart+": so decided lead on 2026-03-01 (restored)") {
		t.Errorf("%+v", f)
	}
	if now.Resumable(old.RegistrySHA256, old.ArchiveSHA256) == "" {
		t.Error("a verification resumes from an event that nobody has verified")
	}
	// A cluster that was restored has another identity, and signers fewer events.
	if fs := now.Check(checkpoint.Table{SystemIdentifier: "8", Table: "public.audit_events"}, verified(8)); len(fs) != 0 {
		t.Error(fs)
	}

	if _, err := checkpoint.Next(now, table, verified(6), at); err == nil {
		t.Error("the new lineage begins before the event that was reviewed")
	}
	next, err := checkpoint.Next(now, table, verified(8), at)
	if err != nil {
		t.Fatal(err)
	}
	text := next.JSON()
	if v, err := schemas.Violations(schemas.Checkpoint, text); err != nil || len(v) > 0 {
		t.Errorf("%v %v", v, err)
	}
	read := parse(t, string(text))
	if read.Reset == nil || *read.Reset != reset && read.Reset.Reason != "restored" || read.Continues(now) != "" || read.Continues(old) == "" {
		t.Errorf("%s: %q, %q", text, read.Continues(now), read.Continues(old))
	}
	// That it tells of a reset itself is nobody's review.
	if _, told := read.Finding(); told || read.Under(nil) != read {
		t.Error("a checkpoint reviews itself")
	}
	after, err := checkpoint.Next(read, table, verified(9), at)
	if err != nil || after.Reset != nil {
		t.Errorf("%+v, %v", after, err)
	}
}

func TestRecorded(t *testing.T) {
	if c := checkpoint.Recorded("r.json", "10:"+head); c == nil || c.String() != "10:"+head || c.Anchor().Position != 10 {
		t.Errorf("%+v", c)
	}
	for _, text := range []string{"", "10", "10:", ":" + head, "0:" + head, "-1:" + head, "10:x", "x:" + head, "10:" + head + ":"} {
		if c := checkpoint.Recorded("r.json", text); c != nil {
			t.Errorf("%q: %+v", text, c)
		}
	}
}

// The member has one spelling, like the others.
func TestResetIsReadStrictly(t *testing.T) {
	good := `{"count": 1, "head": "` + head + `", "reset": {"checkpoint": {"count": 2, "head": "` + head + `"}, "restart": {"count": 1, "head": "` + head + `"}, "reason": "r", "approvedBy": "a", "approvedAt": "2026-03-01T00:00:00Z"}}`
	parse(t, good)
	for _, bad := range []string{strings.Replace(good, `"reset"`, `"Reset"`, 1), strings.Replace(good, `"reason": "r", `, "", 1), strings.Replace(good, `"count": 2`, `"count": 0`, 1)} {
		if !json.Valid([]byte(bad)) {
			t.Fatal(bad)
		}
		if _, err := checkpoint.Parse("c.json", []byte(bad)); err == nil {
			t.Error(bad)
		}
	}
}
