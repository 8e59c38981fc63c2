package checkpoint_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
)

var (
	head = strings.Repeat("ab", 32)
	at   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func TestParse(t *testing.T) {
	good := fmt.Sprintf(`{"count":14,"head":"%s"}`, head)
	c, err := checkpoint.Parse("c.json", []byte(good))
	if err != nil || c.Anchor().Position != 14 || c.Anchor().Digest.String() != head || !c.Anchor().Checkpoint {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, text := range map[string]string{
		"no JSON":        "{",
		"a list":         "[]",
		"no count":       fmt.Sprintf(`{"head":"%s"}`, head),
		"no head":        `{"count":14}`,
		"no event":       fmt.Sprintf(`{"count":0,"head":"%s"}`, head),
		"half an event":  fmt.Sprintf(`{"count":1.5,"head":"%s"}`, head),
		"a text count":   fmt.Sprintf(`{"count":"14","head":"%s"}`, head),
		"upper case":     fmt.Sprintf(`{"count":14,"head":"%s"}`, strings.ToUpper(head)),
		"a short head":   `{"count":14,"head":"abcd"}`,
		"count twice":    fmt.Sprintf(`{"count":14,"count":15,"head":"%s"}`, head),
		"a second Count": fmt.Sprintf(`{"count":14,"Count":15,"head":"%s"}`, head),
		"version 2":      fmt.Sprintf(`{"version":2,"count":14,"head":"%s"}`, head),
	} {
		_, err := checkpoint.Parse("c.json", []byte(text))
		if coded, ok := err.(interface{ ExitCode() int }); !ok || coded.ExitCode() != 2 || !strings.Contains(err.Error(), "c.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// report is a verified chain of so many events by two signers.
func report(n int64) *chain.Report {
	return &chain.Report{Verdict: chain.Verified, Events: n, Length: n, Head: head, RegistrySHA256: strings.Repeat("0", 64), ToolVersion: "test",
		Signers: map[string]chain.SignerUse{"a": {Events: n - 2, LastPosition: n - 2}, "b": {Events: 2, LastPosition: n}}}
}

func TestNextReadsBackAndChecks(t *testing.T) {
	table := checkpoint.Table{SystemIdentifier: "700", Table: "public.audit_events"}
	first, err := checkpoint.Next(nil, table, report(10), at)
	if err != nil {
		t.Fatal(err)
	}
	read, err := checkpoint.Parse("c.json", first.JSON())
	if err != nil || read.String() != "10:"+head || read.PreviousSHA256 != "" || read.Signers["a"].Events != 8 {
		t.Fatalf("%+v, %v\n%s", read, err, first.JSON())
	}
	if fs := read.Check(table, report(10)); len(fs) > 0 {
		t.Errorf("the same chain: %v", fs)
	}
	second, err := checkpoint.Next(read, table, report(11), at)
	if err != nil || len(second.PreviousSHA256) != 64 {
		t.Errorf("%+v, %v", second, err)
	}
	for name, tc := range map[string]struct {
		table checkpoint.Table
		says  string
	}{
		"another cluster": {checkpoint.Table{SystemIdentifier: "701", Table: table.Table}, "database cluster"},
		"another table":   {checkpoint.Table{SystemIdentifier: "700", Table: "public.other"}, "table"},
	} {
		fs := read.Check(tc.table, report(10))
		if len(fs) != 1 || fs[0].Rule != chain.RuleCheckpointMismatch || !strings.Contains(fs[0].Message, tc.says) {
			t.Errorf("%s: %v", name, fs)
		}
	}
	if fs := read.Check(checkpoint.Table{}, report(10)); len(fs) > 0 {
		t.Errorf("an export does not know its table: %v", fs)
	}
	fewer := report(10)
	fewer.Signers["a"] = chain.SignerUse{Events: 7}
	if fs := read.Check(table, fewer); len(fs) != 1 || !strings.Contains(fs[0].Message, `8 events by signer "a", now there are 7`) {
		t.Errorf("fewer events of a signer: %v", fs)
	}
}

func TestNextRefuses(t *testing.T) {
	ten, err := checkpoint.Next(nil, checkpoint.Table{}, report(10), at)
	if err != nil {
		t.Fatal(err)
	}
	failed, empty, unknown := report(11), report(11), report(11)
	failed.Verdict, empty.Length, unknown.Verdict = chain.Failed, 0, chain.Undetermined
	for name, r := range map[string]*chain.Report{"shorter": report(9), "failed": failed, "empty": empty, "undetermined": unknown} {
		if next, err := checkpoint.Next(ten, checkpoint.Table{}, r, at); err == nil {
			t.Errorf("%s: %+v", name, next)
		}
	}
	if _, err := checkpoint.Next(ten, checkpoint.Table{}, report(10), at); err != nil {
		t.Errorf("the same length: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(`{"count":14,"head":"%s"}`, head)))
	c, _ := checkpoint.Next(nil, checkpoint.Table{Table: "t"}, report(10), at)
	f.Add(c.JSON())
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := checkpoint.Parse("c", src)
		if err != nil {
			return
		}
		if c.Count < 1 {
			t.Fatalf("%q: count %d", src, c.Count)
		}
		again, err := checkpoint.Parse("c", c.JSON())
		if err != nil || again.Anchor() != c.Anchor() {
			t.Fatalf("%q does not read back: %v", src, err)
		}
	})
}
