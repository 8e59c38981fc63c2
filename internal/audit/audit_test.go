package audit_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms"
	"github.com/agent-manager/audit-signer-rotation/internal/awskms/kmstest"
	"github.com/agent-manager/audit-signer-rotation/internal/canonical"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/checkpoint"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/patience"
	"github.com/agent-manager/audit-signer-rotation/internal/pubkey"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/report"
	"github.com/agent-manager/audit-signer-rotation/schemas"
)

// export writes n signed events in NDJSON.
func export(t *testing.T, s auditdbtest.Signer, n int) string {
	t.Helper()
	var b strings.Builder
	var prev []byte
	for i := range n {
		payload := fmt.Sprintf(`{"n":%d}`, i)
		form, _, err := canonical.Append(nil, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256(append(form, prev...))
		signature, err := s.Sign(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		row := map[string]any{"id": fmt.Sprint(i), "actor_id": "a", "event_type": "t", "payload": json.RawMessage(payload), "prev_hash": nil,
			"signature": base64.StdEncoding.EncodeToString(signature), "signer_kid": s.KID, "created_at": "2026-03-01T00:00:00Z"}
		if prev != nil {
			row["prev_hash"] = hex.EncodeToString(prev)
		}
		line, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
		prev = digest[:]
	}
	return b.String()
}

func source(text string) audit.Source {
	return audit.Source{Name: "events.ndjson", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

// A checkpoint's own claims count beside the anchor, and a report that they
// make fail is a whole one.
func TestVerifyWithCheckpoint(t *testing.T) {
	files, s := signer(t)
	rows := export(t, s, 5)
	terms := audit.Terms{Registry: files.Registry, Archive: files.Archive}
	r, table, err := audit.Verify(t.Context(), source(rows), terms)
	if err != nil || r.Verdict != chain.Verified || r.TruncationExcluded || table != (checkpoint.Table{}) || r.RegistrySHA256 != files.Registry.SHA256() {
		t.Fatalf("%+v, %v, %v", r, table, err)
	}
	next, err := checkpoint.Next(nil, table, r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		old, new string
		verdict  chain.Verdict
		rule     string
	}{
		"its own":          {`"count": 5`, `"count": 5`, chain.Verified, ""},
		"another head":     {r.Head, strings.Repeat("0", 64), chain.Failed, chain.RuleCheckpointMismatch},
		"another place":    {`"count": 5`, `"count": 6`, chain.Failed, chain.RuleCheckpointMismatch},
		"more by a signer": {`"events": 5`, `"events": 6`, chain.Failed, chain.RuleCheckpointMismatch},
	} {
		text := strings.Replace(string(next.JSON()), tc.old, tc.new, 1)
		if terms.Checkpoint, err = checkpoint.Parse("c.json", []byte(text)); err != nil {
			t.Fatal(err)
		}
		r, _, err := audit.Verify(t.Context(), source(rows), terms)
		if err != nil || r.Verdict != tc.verdict || tc.rule != "" && r.ByRule[tc.rule] == 0 || r.Checkpoint.From == "" {
			t.Errorf("%s: %+v, %v", name, r, err)
			continue
		}
		if v, err := schemas.Violations(schemas.Report, report.JSON(r)); err != nil || len(v) > 0 {
			t.Errorf("%s: %v %v", name, v, err)
		}
		if r.FindingsTotal != int64(len(r.Findings)) {
			t.Errorf("%s: %d findings, counted %d", name, len(r.Findings), r.FindingsTotal)
		}
	}
}

// The report tells through which of the events that it was asked about the chain
// passes, and nothing else depends on them. A chain that was read in shards says the
// same.
func TestVerifyTellsWhatTheChainPassesThrough(t *testing.T) {
	files, s := signer(t)
	terms := audit.Terms{Registry: files.Registry, Archive: files.Archive}
	longer := export(t, s, 6)
	lines := strings.SplitAfter(longer, "\n")
	digests := map[int]string{} // by position
	for n := 1; n <= 6; n++ {
		r, _, err := audit.Verify(t.Context(), source(strings.Join(lines[:n], "")), terms)
		if err != nil || r.Verdict != chain.Verified {
			t.Fatal(r, err)
		}
		digests[n] = r.Head
	}
	at := func(position, digestOf int) string { return fmt.Sprintf("%d:%s", position, digests[digestOf]) }
	rows := strings.Join(lines[:5], "")
	without, _, err := audit.Verify(t.Context(), source(rows), terms)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ looked, passed []string }{
		"nothing is asked":                    {nil, nil},
		"the first event":                     {[]string{at(1, 1)}, []string{at(1, 1)}},
		"one in the middle":                   {[]string{at(3, 3)}, []string{at(3, 3)}},
		"the head":                            {[]string{at(5, 5)}, []string{at(5, 5)}},
		"one twice":                           {[]string{at(3, 3), at(3, 3)}, []string{at(3, 3), at(3, 3)}},
		"a digest that no event has":          {[]string{"3:" + strings.Repeat("0", 64)}, nil},
		"the digest of another position":      {[]string{at(4, 3)}, nil},
		"one beyond the head":                 {[]string{at(6, 6)}, nil},
		"the head, one position further":      {[]string{at(6, 5)}, nil},
		"one of three":                        {[]string{at(6, 6), at(2, 2), at(4, 3)}, []string{at(2, 2)}},
		"position 0":                          {[]string{at(0, 3)}, nil},
		"no digest":                           {[]string{"3", "3:", "", ":", "3:" + digests[3][1:]}, nil},
		"a digest in capitals is another one": {[]string{"3:" + strings.ToUpper(digests[3])}, nil},
	} {
		terms.Looked = tc.looked
		whole, _, err := audit.Verify(t.Context(), source(rows), terms)
		if err != nil {
			t.Fatal(err)
		}
		folder := folder(t, map[string][]byte{"a": []byte(strings.Join(lines[:2], "")), "b": []byte(strings.Join(lines[2:5], ""))})
		joined, _, err := audit.Join(t.Context(), folder, terms, shards(t, folder, terms, plan(t, folder, 2), nil))
		if err != nil {
			t.Fatal(err)
		}
		for way, r := range map[string]*chain.Report{"in one reading": whole, "in shards": joined} {
			var got []string
			for _, a := range r.Passed {
				got = append(got, a.String())
			}
			if !slices.Equal(got, tc.passed) {
				t.Errorf("%s, %s: got %q, want %q", name, way, got, tc.passed)
			}
			r.Passed, r.Source, r.Signatures = nil, without.Source, without.Signatures
			if !reflect.DeepEqual(r, without) {
				t.Errorf("%s, %s: got %+v, want the report without the question: %+v", name, way, r, without)
			}
		}
	}
}

// A run that reads what is new alone has not seen the events before the checkpoint,
// and tells of none.
func TestResumeTellsNothingOfEventsThatItHasNotRead(t *testing.T) {
	files, s := signer(t)
	terms := audit.Terms{Registry: files.Registry, Archive: files.Archive}
	rows := export(t, s, 5)
	r, table, err := audit.Verify(t.Context(), source(rows), terms)
	if err != nil {
		t.Fatal(err)
	}
	next, err := checkpoint.Next(nil, table, r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if terms.Checkpoint, err = checkpoint.Parse("c.json", next.JSON()); err != nil {
		t.Fatal(err)
	}
	terms.Resume, terms.Looked = true, []string{"1:" + r.Genesis}
	resumed, _, err := audit.Verify(t.Context(), source(rows), terms)
	if err != nil || resumed.Resumed == nil || len(resumed.Passed) != 0 {
		t.Errorf("got %v, resumed %v, error %v; want a resumed run that tells nothing", resumed.Passed, resumed.Resumed, err)
	}
}

// An unreadable source is no verdict.
func TestVerifyUnreadable(t *testing.T) {
	files, s := signer(t)
	terms := audit.Terms{Registry: files.Registry, Archive: files.Archive}
	broken := errors.New("the disk is gone")
	for name, src := range map[string]audit.Source{
		"no JSON":  source(export(t, s, 2) + "{"),
		"no disk":  {Name: "x", Open: func() (io.ReadCloser, error) { return nil, broken }},
		"no table": {DatabaseURL: "postgres://127.0.0.1:1/x?sslmode=disable", Table: "audit_events"},
	} {
		if r, _, err := audit.Verify(t.Context(), src, terms); err == nil || r != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if r, _, err := audit.Verify(stopped, source(export(t, s, 2)), terms); !errors.Is(err, context.Canceled) || r != nil {
		t.Errorf("stopped: %+v, %v", r, err)
	}
}

func TestVerifySaysWhatItHasRead(t *testing.T) {
	files, s := signer(t)
	url := auditdbtest.New(t)
	if err := auditdbtest.CreateTable(t.Context(), url, auditdbtest.AgentManager); err != nil {
		t.Fatal(err)
	}
	if _, err := auditdbtest.Load(t.Context(), url, "audit_events", strings.NewReader(uuids(export(t, s, 3)))); err != nil {
		t.Fatal(err)
	}
	r, table, err := audit.Verify(t.Context(), audit.Source{DatabaseURL: url, Table: "audit_events"}, audit.Terms{Registry: files.Registry, Archive: &registry.Archive{}})
	if err != nil || r.Verdict != chain.Verified || r.Events != 3 || table.Table != "public.audit_events" || table.SystemIdentifier == "" {
		t.Fatalf("%+v, %+v, %v", r, table, err)
	}
	var written struct {
		Source map[string]any `json:"source"`
	}
	if err := json.Unmarshal(report.JSON(r), &written); err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"table", "dialect", "columns", "estimatedRows", "systemIdentifier", "timeline", "inRecovery", "snapshotId", "serverVersion", "serverTime", "clockAheadMs"} {
		if _, ok := written.Source[member]; !ok {
			t.Errorf("the report's source has no %s: %v", member, written.Source)
		}
	}
	if len(written.Source) != 11 {
		t.Errorf("members nobody knows: %v", written.Source)
	}
}

// uuids makes row ids what the table wants.
func uuids(rows string) string {
	for i := range 3 {
		rows = strings.Replace(rows, fmt.Sprintf(`"id":"%d"`, i), fmt.Sprintf(`"id":"00000000-0000-4000-8000-00000000000%d"`, i), 1)
	}
	return rows
}

func TestFail(t *testing.T) {
	r := &chain.Report{Verdict: chain.Verified, Findings: []finding.Finding{{Rule: "a"}}, FindingsTotal: 1}
	audit.Fail(r, finding.Finding{Rule: "b", Severity: finding.Error})
	if r.Verdict != chain.Failed || r.FindingsTotal != 2 || r.ByRule["b"] != 1 || len(r.Findings) != 2 {
		t.Errorf("%+v", r)
	}
}

// A report that was read from a file speaks of its table as one that was made
// here does.
func TestDatabaseOf(t *testing.T) {
	table := audit.Database{Table: "audit_events", SnapshotID: "1:2:", InRecovery: true, ClockAheadMS: 400_000, SystemIdentifier: "7"}
	text, err := json.Marshal(chain.Report{Source: table})
	if err != nil {
		t.Fatal(err)
	}
	read := new(chain.Report)
	if err := json.Unmarshal(text, read); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*chain.Report{{Source: table}, read} {
		if got, ok := audit.DatabaseOf(r); !ok || got.SnapshotID != "1:2:" || !got.InRecovery || got.ClockAheadMS != 400_000 {
			t.Errorf("%+v, %v", got, ok)
		}
	}
	for _, source := range []any{nil, audit.File{File: "events.ndjson"}, map[string]any{"file": "x"}, map[string]any{"table": 7}, "table"} {
		if got, ok := audit.DatabaseOf(&chain.Report{Source: source}); ok {
			t.Errorf("%v: %+v", source, got)
		}
	}
}

// A long HMAC chain runs into the quota of KMS again and again. Each call that
// succeeds in the end is no trouble, and many are no more: the run's budget for
// retries is left for others.
func TestVerifyThrottledByKMS(t *testing.T) {
	var calls atomic.Int64
	s := kmstest.New(kmstest.Options{Fault: func(operation string, _ *http.Request) *kmstest.Fault {
		if operation == "VerifyMac" && calls.Add(1) <= 8 {
			return &kmstest.Fault{Code: "ThrottlingException"}
		}
		return nil
	}})
	t.Cleanup(s.Close)
	for name, value := range s.Env() {
		t.Setenv(name, value)
	}
	arn := s.Import(kmstest.Key{Material: []byte("0123456789abcdef0123456789abcdef")})
	client, err := awskms.New(t.Context(), awskms.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text := export(t, auditdbtest.Signer{KID: "mac", Sign: func(ctx context.Context, digest [32]byte) ([]byte, error) {
		return client.Sign(ctx, arn, pubkey.HMACSHA256, digest)
	}}, 12)
	files, err := registry.Load("signers.json", []byte(`[{"signerId": "mac", "algorithm": "hmac-sha256", "kmsKeyId": "`+arn+`"}]`), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := patience.With(t.Context(), patience.New(time.Nanosecond))
	r, _, err := audit.Verify(ctx, source(text), audit.Terms{Registry: files.Registry, Archive: files.Archive})
	if err != nil || r.Verdict != chain.Verified || r.Events != 12 || calls.Load() != 20 {
		t.Errorf("%+v, %v, %d calls", r, err, calls.Load())
	}
}
