package chain_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

func export(text string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

// read gives all events of an export, each in memory of its own.
func read(text string) ([]chain.Event, error) {
	var all []chain.Event
	for e, err := range chain.NDJSON("rows", export(text)) {
		if err != nil {
			return all, err
		}
		for _, field := range []*[]byte{&e.ID, &e.Payload, &e.Prev, &e.Signature, &e.Signer, &e.Hash} {
			*field = bytes.Clone(*field)
		}
		all = append(all, e)
	}
	return all, nil
}

const plain = `{"id":"a","payload":{"n": 1},"prev_hash":null}`

func TestNDJSONAccepts(t *testing.T) {
	at := time.Date(2025, 11, 9, 1, 2, 3, 450_000_000, time.UTC)
	whole := time.Date(2025, 11, 9, 1, 2, 3, 0, time.UTC)
	for name, tc := range map[string]struct {
		line string
		want chain.Event
	}{
		"least": {plain, chain.Event{ID: []byte("a"), Payload: []byte(`{"n": 1}`)}},
		"agent-manager's table": {`{"id":"a","actor_id":"x","event_type":"t","payload":1,"signature":"s","signer_kid":"k","prev_hash":"","created_at":"2025-11-09T01:02:03.45Z"}`,
			chain.Event{ID: []byte("a"), Payload: []byte("1"), Prev: []byte{}, Signature: []byte("s"), Signer: []byte("k"), CreatedAt: at}},
		"the kernel's table": {`{"ts":"2025-11-09 02:02:03.45+01","hash":"h","signer_id":"k","signature":null,"prev_hash":"p","payload":[1,"]"],"id":"a","metadata":{"a":[{}]}}`,
			chain.Event{ID: []byte("a"), Payload: []byte(`[1,"]"]`), Prev: []byte("p"), Signer: []byte("k"), Hash: []byte("h"), HasHash: true, CreatedAt: at}},
		"hash NULL":                {`{"id":"a","payload":null,"prev_hash":null,"hash":null}`, chain.Event{ID: []byte("a"), HasHash: true}},
		"both signer columns":      {`{"id":"a","payload":1,"prev_hash":null,"signer_kid":"k","signer_id":"k"}`, chain.Event{ID: []byte("a"), Payload: []byte("1"), Signer: []byte("k")}},
		"number as id":             {`{"id":42,"payload":1,"prev_hash":null}`, chain.Event{ID: []byte("42"), Payload: []byte("1")}},
		"white space":              {" \t{ \"id\" :\"a\" , \"payload\"\t: 1 ,\"prev_hash\": null } \r", chain.Event{ID: []byte("a"), Payload: []byte("1")}},
		"escaped name":             {`{"i\u0064":"a","payload":1,"prev_hash":null}`, chain.Event{ID: []byte("a"), Payload: []byte("1")}},
		"escaped values":           {`{"id":"a\"\\\u00e9\ud83d\ude00","payload":"\"}","prev_hash":null,"signer_kid":"\/"}`, chain.Event{ID: []byte("a\"\\é😀"), Payload: []byte(`"\"}"`), Signer: []byte("/")}},
		"characters beyond ASCII":  {`{"id":"é","payload":1,"prev_hash":null}`, chain.Event{ID: []byte("é"), Payload: []byte("1")}},
		"backslash before a quote": {`{"id":"a\\","payload":"\\\\","prev_hash":null}`, chain.Event{ID: []byte(`a\`), Payload: []byte(`"\\\\"`)}},
		"time without a zone":      {`{"id":"a","payload":1,"prev_hash":null,"created_at":"2025-11-09T01:02:03"}`, chain.Event{ID: []byte("a"), Payload: []byte("1"), CreatedAt: whole}},
		"time with minutes":        {`{"id":"a","payload":1,"prev_hash":null,"ts":"2025-11-08 19:32:03-05:30"}`, chain.Event{ID: []byte("a"), Payload: []byte("1"), CreatedAt: whole}},
		"time without an end":      {`{"id":"a","payload":1,"prev_hash":null,"created_at":"-infinity"}`, chain.Event{ID: []byte("a"), Payload: []byte("1")}},
		"time before year 1":       {`{"id":"a","payload":1,"prev_hash":null,"created_at":"0044-03-15T00:00:00 BC"}`, chain.Event{ID: []byte("a"), Payload: []byte("1")}},
		"time after year 9999":     {`{"id":"a","payload":1,"prev_hash":null,"created_at":"12026-01-01T00:00:00.5+00:00"}`, chain.Event{ID: []byte("a"), Payload: []byte("1")}},
		"time of local noon":       {`{"id":"a","payload":1,"prev_hash":null,"created_at":"1880-01-01 00:00:00+00:19:32"}`, chain.Event{ID: []byte("a"), Payload: []byte("1")}},
		"time NULL":                {`{"id":"a","payload":1,"prev_hash":null,"created_at":null}`, chain.Event{ID: []byte("a"), Payload: []byte("1")}},
		"payload that is no JSON":  {`{"id":"a","payload":{"a"},"prev_hash":null}`, chain.Event{ID: []byte("a"), Payload: []byte(`{"a"}`)}}, // the chain's to judge
	} {
		t.Run(name, func(t *testing.T) {
			for _, ending := range []string{"", "\n", "\r\n", "\n\n \n\t\r\n"} {
				got, err := read(tc.line + ending)
				if err != nil || len(got) != 1 {
					t.Fatalf("%d rows, %v", len(got), err)
				}
				want := tc.want
				want.Row = 1
				want.CreatedAt = got[0].CreatedAt
				if show(got[0]) != show(want) || !got[0].CreatedAt.Equal(tc.want.CreatedAt) {
					t.Errorf("%s\nwant %s, %v", show(got[0]), show(want), tc.want.CreatedAt)
				}
			}
		})
	}
}

// show tells nil from empty.
func show(e chain.Event) string { return fmt.Sprintf("%#v", e) }

func TestNDJSONRefuses(t *testing.T) {
	row := func(members string) string { return `{"id":"a","payload":1,"prev_hash":null,` + members + `}` }
	for name, tc := range map[string]struct{ line, why string }{
		"no object":                  {`[1]`, "a row is a JSON object"},
		"a byte order mark":          {"\xef\xbb\xbf" + plain, "a row is a JSON object"},
		"a no-break space":           {"\u00a0", "a row is a JSON object"},
		"two rows":                   {plain + plain, "one row a line"},
		"a comma behind":             {plain + ",", "one row a line"},
		"cut off":                    {`{"id":"a"`, "is needed"},
		"cut off in a string":        {plain[:7], "not closed"},
		"cut off in a value":         {`{"id":[`, "not closed"},
		"no value":                   {`{"id":}`, "a value is missing"},
		"no colon":                   {`{"id" 1}`, "':' is needed"},
		"no comma":                   {`{"id":1 "payload":1}`, "',' or '}' is needed"},
		"a comma too many":           {`{"id":1,}`, "a column name is needed"},
		"no id":                      {`{"payload":1,"prev_hash":null}`, `no column "id"`},
		"no payload":                 {`{"id":1,"prev_hash":null}`, `no column "payload"`},
		"no prev_hash":               {`{"id":1,"payload":1}`, `no column "prev_hash"`},
		"empty object":               {`{}`, `no column "id"`},
		"id NULL":                    {`{"id":null,"payload":1,"prev_hash":null}`, "column id must be"},
		"id an object":               {`{"id":{},"payload":1,"prev_hash":null}`, "column id must be"},
		"id no JSON":                 {`{"id":1x,"payload":1,"prev_hash":null}`, "column id must be"},
		"id of two values":           {`{"id":1"a","payload":1,"prev_hash":null}`, "column id must be"},
		"prev_hash a number":         {`{"id":1,"payload":1,"prev_hash":1}`, "prev_hash must be a string or null"},
		"signature an object":        {row(`"signature":{}`), "signature must be a string or null"},
		"signature of two strings":   {row(`"signature":"a""b"`), "',' or '}' is needed"},
		"kid a boolean":              {row(`"signer_kid":true`), "signer_kid must be a string or null"},
		"a column twice":             {row(`"id":"b"`), `column "id" stands twice`},
		"a column twice, escaped":    {row(`"pa\u0079load":2`), `column "payload" stands twice`},
		"an unread column twice":     {row(`"actor_id":1,"actor_id":2`), `column "actor_id" stands twice`},
		"another letter case":        {row(`"Payload":2`), `"Payload" is "payload" in another letter case`},
		"another letter case, S":     {row(`"\u017fignature":"x"`), "in another letter case"},
		"signer columns disagree":    {row(`"signer_kid":"a","signer_id":"b"`), "disagree"},
		"signer columns, one NULL":   {row(`"signer_kid":"a","signer_id":null`), "disagree"},
		"a raw control character":    {row("\"signer_kid\":\"a\tb\""), "signer_kid is not a well-formed string"},
		"ill-formed UTF-8":           {row("\"signer_kid\":\"\xff\""), "signer_kid is not a well-formed string"},
		"a lone surrogate":           {row(`"signer_kid":"\ud800"`), "lone surrogate"},
		"an unknown escape":          {row(`"signer_kid":"\x"`), "signer_kid is not a well-formed string"},
		"ill-formed name":            {row("\"\xff\":1"), "name of a column"},
		"a lone surrogate in a name": {row(`"\udc00":1`), "name of a column"},
		"another column, no JSON":    {row(`"metadata":{]}`), `column "metadata" holds no well-formed`},
		"another column, twice":      {row(`"metadata":{"a":1,"a":2}`), `column "metadata" holds no well-formed`},
		"another column, too deep":   {row(`"metadata":` + strings.Repeat("[", 600) + strings.Repeat("]", 600)), `column "metadata" holds no well-formed`},
		"no time":                    {row(`"created_at":"yesterday"`), "no RFC 3339 time"},
		"a day that is none":         {row(`"created_at":"2026-02-30T10:00:00Z"`), "no RFC 3339 time"},
		"a time with more behind":    {row(`"created_at":"infinity or so"`), "no RFC 3339 time"},
		"a number as time":           {row(`"ts":1`), "ts must be a string or null"},
		"NUL":                        {row("\"x\":\x00"), "no well-formed"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(plain + "\n\n" + tc.line + "\n" + plain)
			var unreadable *chain.SourceError
			if !errors.As(err, &unreadable) || unreadable.ExitCode() != 2 || !strings.HasPrefix(err.Error(), "rows:3: ") || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("%v, want %q", err, tc.why)
			}
			if len(got) != 1 || strings.ContainsAny(fmt.Sprint(err), "\n\t\x00") {
				t.Errorf("%d rows before %q", len(got), err)
			}
		})
	}
}

func TestNDJSONLineLength(t *testing.T) {
	line := func(n int) string { // of n bytes with its line end
		const frame = `{"id":"a","payload":"","prev_hash":null}` + "\n"
		return `{"id":"a","payload":"` + strings.Repeat("x", n-len(frame)) + `","prev_hash":null}` + "\n"
	}
	for _, n := range []int{1 << 18, 1<<18 + 1, 1 << 20, chain.MaxLine} {
		got, err := read(line(n) + plain)
		if err != nil || len(got) != 2 || len(got[0].Payload) < n-100 || string(got[1].Payload) != `{"n": 1}` {
			t.Errorf("%d bytes: %d rows, %v", n, len(got), err)
		}
	}
	got, err := read(plain + "\n" + line(chain.MaxLine+1))
	if err == nil || len(got) != 1 || !strings.HasPrefix(err.Error(), fmt.Sprintf("rows:2: the line is longer than %d bytes; check", chain.MaxLine)) {
		t.Errorf("%d rows, %v", len(got), err)
	}
	// A line without end is given up at the limit, not read to its end.
	endless := &endless{}
	for _, err := range chain.NDJSON("rows", func() (io.ReadCloser, error) { return io.NopCloser(endless), nil }) {
		if err == nil || endless.n > 2*chain.MaxLine {
			t.Errorf("%v after %d bytes", err, endless.n)
		}
	}
}

type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.n += len(p)
	return len(p), nil
}

func TestNDJSONPassesErrorsOn(t *testing.T) {
	failing := func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(plain+"\n"+plain[:9]), iotest.ErrReader(errBroken))), nil
	}
	n := 0
	for _, err := range chain.NDJSON("rows", failing) {
		if n++; n == 2 && (!errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "rows:2: ")) {
			t.Error(err)
		}
	}
	if n != 2 {
		t.Errorf("%d rows", n)
	}
	for _, err := range chain.NDJSON("rows", func() (io.ReadCloser, error) { return nil, errBroken }) {
		if !errors.Is(err, errBroken) {
			t.Error(err)
		}
	}
}

type closes struct {
	io.Reader
	closed *int
}

func (c closes) Close() error { *c.closed++; return nil }

func TestNDJSONCloses(t *testing.T) {
	closed := 0
	rows := chain.NDJSON("rows", func() (io.ReadCloser, error) {
		return closes{strings.NewReader(plain + "\n" + plain), &closed}, nil
	})
	for range rows {
		break
	}
	for range rows {
	}
	if closed != 2 {
		t.Errorf("closed %d times, want 2", closed)
	}
}

// FuzzNDJSON: whatever the bytes, a row is read or refused; what was read
// reads the same when it is written again, and any JSON reader that takes the
// line sees the same values in it.
func FuzzNDJSON(f *testing.F) {
	seeds, err := filepath.Glob("../../testdata/vectors/chains/*/*.ndjson")
	if err != nil || len(seeds) != 203 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
	for _, name := range seeds {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			f.Add(line)
			break
		}
	}
	f.Add([]byte(`{"id":-1.5e3,"payload":"\\\"","prev_hash":"","hash":null,"ts":"2025-11-09 02:02:03+01","signer_id":"\u0041"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		for e, err := range chain.NDJSON("rows", export(string(line))) {
			if err != nil {
				var unreadable *chain.SourceError
				if !errors.As(err, &unreadable) {
					t.Fatalf("%T %v", err, err)
				}
				return
			}
			again, err := read(write1(e))
			if err != nil || len(again) != 1 {
				t.Fatalf("%s is read once: %v", write1(e), err)
			}
			if again[0].Row, again[0].CreatedAt = e.Row, e.CreatedAt; show(again[0]) != show(e) {
				t.Fatalf("%s\n%s", show(e), show(again[0]))
			}
			if bytes.Count(bytes.TrimSpace(line), []byte("\n")) > 0 {
				continue
			}
			var reader map[string]any
			if json.Unmarshal(line, &reader) != nil {
				continue
			}
			for _, field := range []struct {
				names []string
				text  []byte
			}{{[]string{"prev_hash"}, e.Prev}, {[]string{"signature"}, e.Signature}, {[]string{"signer_kid", "signer_id"}, e.Signer}, {[]string{"hash"}, e.Hash}} {
				seen := any(nil)
				for _, name := range field.names {
					if v := reader[name]; v != nil {
						seen = v
					}
				}
				if s, _ := seen.(string); s != string(field.text) || (seen == nil) != (field.text == nil) {
					t.Fatalf("%s is %q here, %v elsewhere", field.names[0], field.text, seen)
				}
			}
		}
	})
}

// write1 writes an event as a line.
func write1(e chain.Event) string {
	quoted := func(b []byte) string {
		if b == nil {
			return "null"
		}
		var s bytes.Buffer
		enc := json.NewEncoder(&s)
		enc.SetEscapeHTML(false)
		enc.Encode(string(b))
		return strings.TrimSpace(s.String())
	}
	payload := "null"
	if e.Payload != nil {
		payload = string(e.Payload)
	}
	line := `{"id":` + quoted(e.ID) + `,"payload":` + payload + `,"prev_hash":` + quoted(e.Prev) + `,"signature":` + quoted(e.Signature) + `,"signer_id":` + quoted(e.Signer)
	if e.HasHash {
		line += `,"hash":` + quoted(e.Hash)
	}
	return line + "}"
}
