package chain_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

// Memory is that of a fixed number of batches: ten times the events take hardly
// one allocation more, from memory or from an export.
func TestEventsTakeNoMemory(t *testing.T) {
	const n = 20_000
	rows := make([]row, n)
	var export bytes.Buffer
	var r row
	for i := range rows {
		r = unsigned([]byte(`{"action":"deploy","agent":"agent-7","nested":{"n":12,"z":null}}`), r)
		r.Signature, r.Signer = []byte("sig"), []byte("anyone")
		rows[i] = r
		prev := "null"
		if i > 0 {
			prev = fmt.Sprintf("%q", r.Prev)
		}
		fmt.Fprintf(&export, `{"id":"%d","payload":%s,"prev_hash":%s,"signature":"sig","signer_kid":"anyone","created_at":"2026-01-02T03:04:05.%06dZ"}`+"\n", i, r.Payload, prev, i)
	}
	whole := export.Bytes()
	rest := whole
	for range n / 10 {
		rest = rest[bytes.IndexByte(rest, '\n')+1:]
	}
	tenth := whole[:len(whole)-len(rest)]
	ndjson := func(text []byte) func() {
		return func() {
			rep, err := chain.Verify(t.Context(), chain.NDJSON("x", func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }), chain.Options{Verifier: &anyone{}, Workers: 2})
			if err != nil || rep.Verdict != chain.Verified {
				t.Fatalf("%v %+v", err, rep)
			}
		}
	}
	memory := func(rows []row) func() {
		return func() {
			if rep, err := chain.Verify(t.Context(), source(rows), chain.Options{Verifier: &anyone{}, Workers: 2}); err != nil || rep.Verdict != chain.Verified {
				t.Fatalf("%v %+v", err, rep)
			}
		}
	}
	for name, run := range map[string][2]func(){
		"memory": {memory(rows[:n/10]), memory(rows)},
		"NDJSON": {ndjson(tenth), ndjson(whole)},
	} {
		few, many := testing.AllocsPerRun(3, run[0]), testing.AllocsPerRun(3, run[1])
		if many-few > n/100 {
			t.Errorf("%s: %v allocations for %d events, %v for a tenth of them", name, many, n, few)
		}
	}
}
