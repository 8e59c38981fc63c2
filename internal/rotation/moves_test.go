package rotation

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
)

// What the chain shows decides whether a rollback withdraws the new signer; a
// chain that was not read to its end and found sound shows nothing.
func TestUndoWithTheChain(t *testing.T) {
	base := opens(t).head
	by := Rollback{At: judged, Actor: "a", Reason: "r", Mode: ModeRollback}
	signed := func(n int64) *chain.Report {
		r := &chain.Report{Verdict: chain.Verified, Signers: map[string]chain.SignerUse{"old": use("old", 5, 1, 5, start)}}
		if n > 0 {
			r.Signers["new"] = use("new", n, 6, 5+n, start)
		}
		return r
	}
	failed, resumed := signed(0), signed(0)
	failed.Verdict = chain.Failed
	resumed.Resumed = &chain.Resumption{}
	for name, tc := range map[string]struct {
		report    *chain.Report
		withdrawn bool
		says      string
	}{
		"no chain":          {nil, false, "stays registered, so that its events keep verifying"},
		"a failed one":      {failed, false, "stays registered, so that its events keep verifying"},
		"part of one":       {resumed, false, "stays registered, so that its events keep verifying"},
		"nothing signed":    {signed(0), true, "has signed 0 events and is withdrawn"},
		"four events":       {signed(4), false, "it has signed 4 event(s), at positions 6 to 9"},
		"one event, no gap": {signed(1), false, "it has signed 1 event(s), at positions 6 to 6"},
	} {
		m, err := Undo(base.Records[0], base.Registry, base.Archive, by, tc.report)
		if err != nil || (m.Archive != nil) != tc.withdrawn || (m.Registry != nil) != tc.withdrawn || !strings.Contains(m.Verdict, tc.says) || m.Deploy.ID != "old" {
			t.Errorf("%s: %+v %v", name, m, err)
		}
		if known := m.Record.Rollback.Window != nil; known != (strings.Contains(tc.says, "has signed")) {
			t.Errorf("%s: window %+v", name, m.Record.Rollback.Window)
		}
		if tc.withdrawn {
			after := folder(t, string(m.Registry), string(m.Archive), m.Record)
			if p := PhaseWithoutChain(m.Record, after.Registry, after.Archive); p != Withdrawn {
				t.Errorf("%s: phase %s", name, p)
			}
		}
	}
	// With the old signer archived, there is nothing to withdraw: one step at a time.
	back := retirement(t).head
	m, err := Undo(back.Records[0], back.Registry, back.Archive, by, signed(0))
	if err != nil || m.Registry == nil || m.Archive != nil || !strings.Contains(m.Verdict, "it has signed 0 event(s)") {
		t.Errorf("%+v %v", m, err)
	}
	if p := PhaseWithoutChain(m.Record, back.Registry, back.Archive); p != RolledBack {
		t.Errorf("phase %s", p)
	}
}

// A stolen key leaves under the newest record that names it, and another signer
// takes over.
func TestCompromise(t *testing.T) {
	old, fresh, third := entryOf("old", 1), entryOf("new", 2), entryOf("third", 3)
	first, second := named(t, "rotate-new-1", "old", 1, "new", 2), named(t, "rotate-third-1", "new", 2, "third", 3)
	second.CreatedAt = first.CreatedAt.Add(time.Hour)
	undone := second
	undone.Rollback = &Rollback{Mode: ModeRollback}
	alone := first
	alone.Outgoing = nil
	all := "[" + old + "," + fresh + "," + third + "]"
	mark := Mark{Position: 7}
	for name, tc := range map[string]struct {
		files   Files
		signer  string
		record  string // "" for a refusal
		deploy  string
		refusal string
	}{
		"the outgoing signer":           {folder(t, all, "", first), "old", "rotate-new-1", "new", ""},
		"the incoming signer":           {folder(t, all, "", first), "new", "rotate-new-1", "old", ""},
		"by its alias":                  {folder(t, strings.Replace(all, `"signerId":"old"`, `"signerId":"old","aliases":["arn:x"]`, 1), "", first), "arn:x", "rotate-new-1", "new", ""},
		"of two rotations":              {folder(t, all, "", first, second), "new", "rotate-third-1", "third", ""},
		"of two, in another order":      {folder(t, all, "", second, first), "new", "rotate-third-1", "third", ""},
		"of two, one undone":            {folder(t, all, "", first, undone), "new", "rotate-new-1", "old", ""},
		"of no rotation":                {folder(t, all, ""), "old", "compromise-old-", "third", ""},
		"of others' rotations":          {folder(t, all, "", second), "old", "compromise-old-", "third", ""},
		"a standby":                     {folder(t, all, "", alone), "new", "rotate-new-1", "third", ""},
		"beside a standby":              {folder(t, all, "", func() Record { r := alone; r.Incoming = second.Incoming; return r }()), "old", "compromise-old-", "third", ""},
		"the successor is gone":         {folder(t, "["+old+","+third+"]", "", first), "old", "rotate-new-1", "third", ""},
		"the only one":                  {folder(t, "["+old+"]", ""), "old", "", "", "is the only one in signers.json"},
		"nobody":                        {folder(t, all, ""), "x", "", "", "has no signer x"},
		"one that is archived":          {folder(t, "["+fresh+"]", archived(old, "retired")), "old", "", "", "is archived (retired) and counts up to position 3 only"},
		"one that was archived, stolen": {folder(t, "["+fresh+"]", archived(old, "compromised")), "old", "", "", "is archived (compromised)"},
	} {
		m, err := Compromise(tc.signer, mark, Rollback{At: judged, Actor: "a", Reason: "leaked"}, tc.files)
		if tc.refusal != "" {
			if err == nil || !strings.Contains(err.Error(), tc.refusal) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || !strings.HasPrefix(m.Record.ID, tc.record) || m.Deploy.ID != tc.deploy {
			t.Errorf("%s: record %s, %v takes over, %v", name, m.Record.ID, m.Deploy, err)
			continue
		}
		back := m.Record.Rollback
		after := folder(t, string(m.Registry), string(m.Archive), m.Record)
		was, ok := after.Archive.Find(back.Compromised.ID)
		if _, still := after.Registry.Find(back.Compromised.ID); still || !ok || was.State != "compromised" || was.Boundary.Position != 7 || was.Rotation != m.Record.ID || back.Mode != ModeCompromise || *back.Boundary != mark {
			t.Errorf("%s: %+v, %+v", name, was, back)
		}
		if p := PhaseWithoutChain(m.Record, after.Registry, after.Archive); p != Compromised {
			t.Errorf("%s: phase %s", name, p)
		}
	}
}

// After a rollback the signer that was left behind is judged like one that
// leaves: by when it was last seen, not by when the other one began.
func TestEvaluateLeftBehind(t *testing.T) {
	left := func(change func(*Facts)) Assessment {
		f := facts(t)
		f.Record.Outgoing.ID, f.Record.Incoming.ID = "old", "new"
		f.Record.Rollback = &Rollback{At: start.Add(2 * time.Hour), Mode: ModeRollback}
		f.Report.Signers = map[string]chain.SignerUse{"old": use("old", 12, 1, 20, start.Add(90*time.Hour)), "arn:new": use("new", 4, 9, 12, start.Add(time.Hour))}
		f.Now = start.Add(100 * time.Hour)
		change(&f)
		return Evaluate(f)
	}
	a := left(func(*Facts) {})
	if a.Phase != RolledBack || !a.Ready() || a.Boundary.Position != 12 || a.DueAt != start.Add(50*time.Hour) {
		t.Errorf("%+v", a)
	}
	if a := left(func(f *Facts) { f.Now = start.Add(49 * time.Hour) }); a.Ready() || a.Gates[0].State != Waiting {
		t.Errorf("too early: %+v", a.Gates[0])
	}
	if a := left(func(f *Facts) { f.Report.Signers["arn:new"] = use("new", 5, 9, 21, start.Add(time.Hour)) }); a.Ready() || a.Gates[1].State != Waiting || !strings.Contains(a.Gates[1].Detail, "new") {
		t.Errorf("it still signs: %+v", a.Gates[1])
	}
	if a := left(func(f *Facts) { f.Record.Rollback.Mode = ModeCompromise }); a.Phase != Compromised || len(a.Gates) != 0 {
		t.Errorf("compromised: %+v", a)
	}
	if a := left(func(f *Facts) { f.Record.Incoming.ID = "gone" }); len(a.Gates) != 0 {
		t.Errorf("it is gone: %+v", a)
	}
	none := record()
	none.Outgoing, none.Rollback = nil, &Rollback{Mode: ModeRollback}
	if none.LeftBehind(facts(t).Registry) {
		t.Error("a rotation that replaced nobody leaves nobody behind")
	}
}

// proofOf lets the key that is made from one byte sign a challenge.
func proofOf(t *testing.T, rotation string, seed byte) *pubkey.Possession {
	t.Helper()
	private := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), 32)))
	key, err := pubkey.Parse(keyText(t, seed))
	if err != nil {
		t.Fatal(err)
	}
	text := pubkey.Challenge(rotation, key.Fingerprint(), [32]byte{1})
	digest := sha256.Sum256([]byte(text))
	return &pubkey.Possession{Challenge: text, Digest: hex.EncodeToString(digest[:]), Signature: base64.StdEncoding.EncodeToString(ed25519.Sign(private, digest[:]))}
}

// The proof in a new record is one by the incoming key; that of an HMAC key only
// KMS can check.
func TestJudgePossession(t *testing.T) {
	judged := func(p *pubkey.Possession) []string {
		c := opens(t)
		c.head.Records = []Record{clone(t, c.head.Records[0])}
		c.head.Records[0].Possession = p
		var said []string
		for _, f := range Judge(c.base, c.head, start, EvidenceAge) {
			said = append(said, f.Rule+" "+f.Message)
		}
		return said
	}
	if said := judged(proofOf(t, "rotate-new-1", 2)); len(said) > 0 {
		t.Errorf("a genuine proof: %q", said)
	}
	for name, p := range map[string]*pubkey.Possession{
		"by the outgoing key": proofOf(t, "rotate-new-1", 1), "for another rotation": proofOf(t, "rotate-x", 2), "none": {},
	} {
		if said := judged(p); len(said) != 1 || !strings.HasPrefix(said[0], RuleRecord+" in the record of rotation rotate-new-1, possession of the key is not proven") {
			t.Errorf("%s: %q", name, said)
		}
	}
	mac := `{"signerId":"mac","algorithm":"hmac-sha256","kmsKeyId":"arn:mac"}`
	base := folder(t, "["+entryOf("old", 1)+"]", "")
	head := folder(t, "["+entryOf("old", 1)+","+mac+"]", "")
	s, _ := head.Registry.Find("mac")
	old, _ := head.Registry.Find("old")
	out := SignerOf(old)
	head.Records = []Record{{Version: 1, ID: "rotate-mac", CreatedAt: start, Outgoing: &out, Incoming: SignerOf(s), Possession: &pubkey.Possession{Challenge: "x"}, Policy: Policy{Overlap: Duration(48 * time.Hour)}}}
	if fs := Judge(base, head, start, EvidenceAge); len(fs) > 0 {
		t.Errorf("an HMAC key: %v", fs)
	}
}

// The new signer may be gone by other ways, whatever the chain says of it.
func TestUndoWithoutTheNewSigner(t *testing.T) {
	rec := named(t, "rotate-new-1", "old", 1, "new", 2)
	by := Rollback{At: judged, Actor: "a", Reason: "r", Mode: ModeRollback}
	none := &chain.Report{Verdict: chain.Verified, Signers: map[string]chain.SignerUse{}}
	some := &chain.Report{Verdict: chain.Verified, Signers: map[string]chain.SignerUse{"new": use("new", 4, 6, 9, start)}}
	for name, tc := range map[string]struct {
		arch   string
		report *chain.Report
		says   string
	}{
		"taken out, unused":     {"", none, "signer new is not registered: if it has signed events, bring its entry back"},
		"taken out, used":       {"", some, "signer new is not registered: if it has signed events, bring its entry back"},
		"archived since, used":  {archived(entryOf("new", 2), "retired"), some, "signer new has been archived since (retired, rotation x)"},
		"archived since unused": {neverUsed(entryOf("new", 2)), none, "signer new has been archived since (retired, rotation x)"},
	} {
		f := folder(t, "["+entryOf("old", 1)+","+entryOf("third", 3)+"]", tc.arch, rec)
		m, err := Undo(rec, f.Registry, f.Archive, by, tc.report)
		if err != nil || m.Registry != nil || m.Archive != nil || !strings.Contains(m.Verdict, tc.says) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
