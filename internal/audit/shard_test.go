package audit_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/agent-manager/audit-signer-rotation/internal/audit"
	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
)

// shards reads all shards of a plan, and does something before each one.
func shards(t *testing.T, s audit.Source, terms audit.Terms, plan []string, before func(i int)) []*chain.Part {
	t.Helper()
	var parts []*chain.Part
	for i, name := range plan {
		if before != nil {
			before(i)
		}
		p, err := audit.Shard(t.Context(), s, terms, name)
		if err != nil {
			t.Fatalf("shard %s: %v", name, err)
		}
		text, err := json.Marshal(p)
		if err != nil || len(text) > 20_000 {
			t.Fatalf("shard %s leaves %d bytes, %v", name, len(text), err)
		}
		if p, err = audit.ParsePart(name, text); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	return parts
}

func plan(t *testing.T, s audit.Source, n int) []string {
	t.Helper()
	names, err := audit.Plan(t.Context(), s, n)
	if err != nil || len(names) != n {
		t.Fatalf("%v %v", names, err)
	}
	return names
}

var shardRows = flag.Int64("shard-rows", 1000, "rows of the table that is read in shards")

// A table in shards has the verdict, head and report of one reading; a row that
// is removed, added or moved at a boundary of shards is found, also while they
// are being read. With -shard-rows=300000 it takes some minutes.
func TestShardsOfATable(t *testing.T) {
	url, w := table(t)
	sql := func(text string, args ...any) int64 {
		t.Helper()
		n, err := auditdbtest.Exec(t.Context(), url, text, args...)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	files, key := signer(t)
	n := *shardRows
	write := func(n int64) {
		t.Helper()
		var events []auditdbtest.Event
		for i := range n {
			events = append(events, auditdbtest.Event{Type: "e", Payload: fmt.Sprintf(`{"n":%d,"text":%q}`, i, strings.Repeat("x", 200))})
		}
		for block := range slices.Chunk(events, 1000) {
			if _, err := w.Append(t.Context(), key, block...); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := audit.Source{DatabaseURL: url, Table: "audit_events"}
	terms := audit.Terms{Registry: files.Registry, Archive: files.Archive}

	if r, _, err := audit.Join(t.Context(), s, terms, shards(t, s, terms, plan(t, s, 3), nil)); err != nil || r.Verdict != chain.Failed || r.ByRule[chain.RuleEmptyChain] != 1 {
		t.Errorf("an empty table: %+v %v", r, err)
	}
	write(n)
	whole, table, err := audit.Verify(t.Context(), s, terms)
	if err != nil || whole.Verdict != chain.Verified {
		t.Fatalf("%+v %v", whole, err)
	}
	for _, count := range []int{1, 8, 64} { // more shards than blocks: some are empty
		parts := shards(t, s, terms, plan(t, s, count), nil)
		slices.Reverse(parts)
		r, joinedTable, err := audit.Join(t.Context(), s, terms, parts)
		if err != nil || joinedTable != table {
			t.Fatalf("%d shards: %v %v", count, joinedTable, err)
		}
		r.Source, r.Signatures = whole.Source, whole.Signatures // of another snapshot, by other samples
		if !reflect.DeepEqual(r, whole) {
			t.Fatalf("%d shards:\n%+v\nin one reading\n%+v", count, r, whole)
		}
	}

	// The first and the last row of each shard.
	names := plan(t, s, 8)
	verdict := func(before func(i int)) *chain.Report {
		t.Helper()
		r, _, err := audit.Join(t.Context(), s, terms, shards(t, s, terms, names, before))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	// While the shards are being read, the last row of one goes to the end of the
	// table. Before its own shard is read that is no harm; after that it is read
	// twice, if there was no room for it nearby.
	twice := int64(0)
	for i, name := range names[:7] {
		var number, of, from, to int
		if _, err := fmt.Sscanf(name, "%d/%d blocks %d-%d", &number, &of, &from, &to); err != nil {
			t.Fatal(err)
		}
		for _, k := range []int{i + 1, i} {
			r := verdict(func(before int) {
				if before == k && sql("UPDATE audit_events SET actor_id = 'moved' WHERE ctid = (SELECT max(ctid) FROM audit_events WHERE ctid < $1::text::tid)", fmt.Sprintf("(%d,0)", to)) != 1 {
					t.Fatal("no row was moved")
				}
			})
			again := r.Events - n
			if (r.Verdict == chain.Failed) != (again > 0) || k == i && again > 0 {
				t.Errorf("a row of shard %d moved before shard %d was read: %+v", i+1, k+1, r)
			}
			twice += again
		}
	}
	if twice == 0 {
		t.Error("no row was moved far enough")
	}
	sql("CREATE TABLE saved AS SELECT * FROM audit_events LIMIT 0")
	for _, name := range names[1:] {
		var number, of, from int
		if _, err := fmt.Sscanf(name, "%d/%d blocks %d", &number, &of, &from); err != nil {
			t.Fatal(err)
		}
		for _, which := range []string{
			fmt.Sprintf("ctid = '(%d,1)'", from),
			fmt.Sprintf("ctid = (SELECT max(ctid) FROM audit_events WHERE ctid < '(%d,0)')", from),
		} {
			take := func() {
				sql("TRUNCATE saved")
				if sql("INSERT INTO saved SELECT * FROM audit_events WHERE "+which) != 1 {
					t.Fatalf("no row %s", which)
				}
			}
			take()
			sql("DELETE FROM audit_events USING saved WHERE audit_events.id = saved.id")
			if r := verdict(nil); r.Verdict != chain.Failed || r.ByRule[chain.RuleMissingLink]+r.ByRule[chain.RuleTruncated] == 0 {
				t.Errorf("%s removed: %+v", which, r)
			}
			sql("INSERT INTO audit_events SELECT * FROM saved")
			sql("UPDATE saved SET id = '00000000-0000-4000-8000-000000000000'")
			sql("INSERT INTO audit_events SELECT * FROM saved")
			if r := verdict(nil); r.Verdict != chain.Failed {
				t.Errorf("%s repeated: %+v", which, r)
			}
			sql("DELETE FROM audit_events USING saved WHERE audit_events.id = saved.id")
			if r := verdict(nil); r.Verdict != chain.Verified || r.Head != whole.Head {
				t.Fatalf("%s restored, in another place: %+v", which, r)
			}
		}
	}

	// The table grows while it is read: what is there at the end is the last shard's.
	parts := shards(t, s, terms, names, func(i int) {
		if i == 2 {
			write(5)
		}
	})
	write(3)
	if r, _, err := audit.Join(t.Context(), s, terms, parts); err != nil || r.Verdict != chain.Verified || r.Events != n+5 {
		t.Errorf("a growing table: %+v %v", r, err)
	}
	// Rows that no shard has read and that do not follow the head.
	sql("TRUNCATE saved")
	sql("INSERT INTO saved SELECT * FROM audit_events WHERE prev_hash IS NULL")
	sql("UPDATE saved SET id = '00000000-0000-4000-8000-000000000000'")
	parts = shards(t, s, terms, names, nil)
	sql("INSERT INTO audit_events SELECT * FROM saved")
	if r, _, err := audit.Join(t.Context(), s, terms, parts); err != nil || r.ByRule[chain.RuleMissingLink] != 1 || r.Verdict != chain.Failed {
		t.Errorf("a row put in behind the shards' back: %+v %v", r, err)
	}
	sql("DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events ORDER BY created_at DESC, id LIMIT 2)")
	if r, _, err := audit.Join(t.Context(), s, terms, parts); err != nil || r.ByRule[chain.RuleTruncated] != 1 {
		t.Errorf("rows removed behind the shards' back: %+v %v", r, err)
	}

	// Parts of another system, and of a standby.
	parts = shards(t, s, terms, plan(t, s, 2), nil)
	parts[1].InRecovery = true
	if r, _, err := audit.Join(t.Context(), s, terms, parts); err != nil || !r.Source.(audit.Database).InRecovery {
		t.Errorf("a shard of a standby: %+v %v", r, err)
	}
	parts[1].SystemIdentifier += "0"
	if _, _, err := audit.Join(t.Context(), s, terms, parts); err == nil || !strings.Contains(err.Error(), "another database system") {
		t.Errorf("a shard of another system: %v", err)
	}

	sql("CREATE VIEW looks AS SELECT * FROM audit_events")
	if _, err := audit.Plan(t.Context(), audit.Source{DatabaseURL: url, Table: "looks"}, 2); err == nil || !strings.Contains(err.Error(), "is a view") {
		t.Errorf("a plan of a view: %v", err)
	}
}

// An empty chain may be allowed, and still a table that was planned with rows has
// lost them.
func TestJoinOfRowsThatWere(t *testing.T) {
	url, w := table(t)
	files, key := signer(t)
	s, terms := audit.Source{DatabaseURL: url, Table: "audit_events"}, audit.Terms{Registry: files.Registry, Archive: files.Archive, AllowEmpty: true}
	empty := plan(t, s, 2)
	if _, err := w.Append(t.Context(), key, auditdbtest.Event{Type: "e", Payload: "{}"}); err != nil {
		t.Fatal(err)
	}
	full := plan(t, s, 2)
	if _, err := auditdbtest.Exec(t.Context(), url, "DELETE FROM audit_events"); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		names []string
		want  chain.Verdict
	}{"planned with rows": {full, chain.Failed}, "planned without": {empty, chain.Undetermined}} {
		if r, _, err := audit.Join(t.Context(), s, terms, shards(t, s, terms, tc.names, nil)); err != nil || r.Verdict != tc.want {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
}

// Join takes the shards of one plan, each once, and nothing else.
func TestJoinWantsAllShards(t *testing.T) {
	files, _ := signer(t)
	terms := audit.Terms{Registry: files.Registry, Archive: files.Archive}
	s := folder(t, map[string][]byte{"a": nil, "b": nil})
	names := plan(t, s, 3)
	parts := shards(t, s, terms, names, nil)
	other := folder(t, map[string][]byte{"a": nil, "b": []byte("\n")})
	table := audit.Source{DatabaseURL: "postgres://localhost/x", Table: "t"}
	refuse := func(name string, err error, say string) {
		t.Helper()
		var coded interface{ ExitCode() int }
		if !errors.As(err, &coded) || coded.ExitCode() != 2 || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err := audit.Join(t.Context(), s, terms, nil)
	refuse("none", err, "not one report")
	_, _, err = audit.Join(t.Context(), s, terms, parts[:2])
	refuse("one is missing", err, "no report of shard 3 of 3")
	_, _, err = audit.Join(t.Context(), s, terms, append(parts[:2:2], parts[1]))
	refuse("one twice", err, "two reports of shard 2")
	_, _, err = audit.Join(t.Context(), s, terms, append(parts[:2:2], shards(t, other, terms, plan(t, other, 3), nil)[2]))
	refuse("two plans", err, "two plans")
	_, _, err = audit.Join(t.Context(), other, terms, parts)
	refuse("other files", err, "not those that the plan was made for")
	_, _, err = audit.Join(t.Context(), table, terms, parts)
	refuse("a table", err, "another kind of source")
	_, err = audit.Shard(t.Context(), other, terms, names[0])
	refuse("a shard of other files", err, "not those that the plan was made for")
	strict := terms
	strict.StrictNumbers = true
	_, _, err = audit.Join(t.Context(), s, strict, parts)
	refuse("other settings", err, "with other settings")
	for _, name := range []string{"", "1/2", "0/3" + names[0][3:], "4/3" + names[0][3:], "01/3" + names[0][3:], names[0] + " ", "1/2 blocks 0-1 rows 5 plan 0123456789abcdef\n"} {
		_, err = audit.Shard(t.Context(), s, terms, name)
		refuse(fmt.Sprintf("shard %q", name), err, "take it from the matrix")
	}
	for _, n := range []int{-1, 0, audit.MaxShards + 1} {
		_, err = audit.Plan(t.Context(), s, n)
		refuse("a plan", err, "from 1 to 256")
	}
	_, err = audit.Plan(t.Context(), audit.Source{Name: "x", Open: func() (io.ReadCloser, error) { return nil, io.EOF }}, 2)
	refuse("a plan of one file", err, "is one file")
}

// folder puts files into a folder and finds them there as an action does.
func folder(t *testing.T, files map[string][]byte) audit.Source {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return sourceAt(t, dir)
}

func sourceAt(t *testing.T, at string) (s audit.Source) {
	t.Helper()
	in := audit.Inputs{EventsPath: at}
	var log bytes.Buffer
	code := gha.Exec(t.Context(), []byte("{name: n, description: d, runs: {using: composite, steps: [{id: run, shell: bash, run: x}]}}"), gha.Process{Stdout: &log, Stderr: &log, Now: time.Now}, func(_ context.Context, r *gha.Run, _ struct{}) (err error) {
		s, _, _, err = in.Read(r)
		return err
	})
	if code != 0 {
		t.Fatalf("%s", log.Bytes())
	}
	return s
}

// An export in files, plain and packed, is read like one file, and shared out
// among shards.
func TestShardsOfFiles(t *testing.T) {
	const upstream = "../../testdata/upstream-chains/"
	text, err := os.ReadFile(upstream + "overlap.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.Collect(bytes.Lines(text))
	pack := map[string]func([]byte) []byte{
		"plain": func(b []byte) []byte { return b },
		"gz": func(b []byte) []byte {
			var out bytes.Buffer
			w := gzip.NewWriter(&out)
			w.Write(b)
			w.Close()
			return out.Bytes()
		},
		"zst": func(b []byte) []byte {
			w, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			return w.EncodeAll(b, nil)
		},
	}
	files := map[string][]byte{}
	for i, kind := range []string{"plain", "gz", "zst", "gz", "plain", "zst", "plain"} {
		files[fmt.Sprintf("%d.ndjson.%s", i, kind)] = pack[kind](bytes.Join(lines[i*36:min((i+1)*36, len(lines))], nil))
	}
	text, err = os.ReadFile(upstream + "overlap.signers-object.json")
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.Load("signers.json", text, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	terms := audit.Terms{Registry: reg.Registry, Archive: reg.Archive}
	s := folder(t, files)
	whole, _, err := audit.Verify(t.Context(), s, terms)
	if err != nil || whole.Verdict != chain.Verified || whole.Events != 250 || whole.Head != "811cc5081c14db2933e28919536b8fcb382ca0d96fae8c789f49908e76beb7aa" {
		t.Fatalf("%+v %v", whole, err)
	}
	for _, n := range []int{1, 2, 3, 7, 20} {
		r, _, err := audit.Join(t.Context(), s, terms, shards(t, s, terms, plan(t, s, n), nil))
		if err != nil {
			t.Fatal(err)
		}
		if r.Signatures = whole.Signatures; !reflect.DeepEqual(r, whole) {
			t.Errorf("%d shards:\n%+v\nin one reading\n%+v", n, r, whole)
		}
	}
	text = bytes.Join(lines, nil)
	for kind := range pack {
		one := filepath.Join(t.TempDir(), "one")
		if err := os.WriteFile(one, pack[kind](text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, _, err := audit.Verify(t.Context(), sourceAt(t, one), terms); err != nil || r.Head != whole.Head {
			t.Errorf("%s: %+v %v", kind, r, err)
		}
		broken := pack[kind](text)
		broken = broken[:len(broken)/2]
		if err := os.WriteFile(one, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, _, err := audit.Verify(t.Context(), sourceAt(t, one), terms); err == nil && r.Verdict != chain.Failed && kind != "plain" {
			t.Errorf("half of %s: %+v", kind, r)
		}
	}
	delete(files, "3.ndjson.gz")
	s = folder(t, files)
	if r, _, err := audit.Join(t.Context(), s, terms, shards(t, s, terms, plan(t, s, 3), nil)); err != nil || r.Verdict != chain.Failed || r.ByRule[chain.RuleMissingLink] != 1 {
		t.Errorf("a file is missing: %+v %v", r, err)
	}
}
