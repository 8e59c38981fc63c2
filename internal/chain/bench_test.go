package chain_test

import (
	"testing"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
)

// What a verification costs beside the signatures, for rows in order and in
// none.
func BenchmarkVerify(b *testing.B) {
	const n = 20_000
	rows := make([]row, n)
	r := row{}
	for i := range rows {
		r = unsigned([]byte(`{"action":"deploy","agent":"agent-7","labels":["a","b"],"nested":{"n":12,"z":null}}`), r)
		rows[i] = r
	}
	for name, rows := range map[string][]row{"in-order": rows, "shuffled": shuffled(rows, 1)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := chain.Verify(b.Context(), source(rows), chain.Options{Verifier: &anyone{}, Workers: 2}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/event")
		})
	}
}
