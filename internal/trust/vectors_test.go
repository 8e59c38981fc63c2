package trust_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/sigverify"
	"github.com/agent-manager/audit-signer-rotation/internal/trust"
)

const (
	upstream = "../../testdata/upstream-chains/"
	vectors  = "../../testdata/vectors/chains/"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parse reads a registry and fails on errors in it; warnings are returned.
func parse(t testing.TB, path string) (*registry.Registry, []finding.Finding) {
	t.Helper()
	r, fs, err := registry.Parse(path, read(t, path))
	if err != nil || finding.Count(fs, finding.Error) > 0 {
		t.Fatalf("%s: %v %v", path, err, fs)
	}
	return r, fs
}

func export(rows []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(rows)), nil }
}

func verify(t testing.TB, rows []byte, set *trust.Set, o chain.Options) (*chain.Report, error) {
	t.Helper()
	o.Verifier, o.Workers = set, 2
	return chain.Verify(t.Context(), chain.NDJSON("rows.ndjson", export(rows)), o)
}

func shuffled(rows []byte, seed uint64) []byte {
	lines := bytes.Split(bytes.TrimSpace(rows), []byte("\n"))
	rand.New(rand.NewPCG(seed, 1)).Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return bytes.Join(lines, []byte("\n"))
}

// What the audited service's own signer wrote, in file order and shuffled.
func TestUpstreamChains(t *testing.T) {
	const overlapHead = "811cc5081c14db2933e28919536b8fcb382ca0d96fae8c789f49908e76beb7aa"
	for _, tc := range []struct {
		rows, registry, secrets string
		events                  int64
		head                    string
		warnings                int
		nonObject               int64
	}{
		{"overlap", "overlap.signers-object", "", 250, overlapHead, 0, 0},
		{"overlap", "overlap.signers-array", "", 250, overlapHead, 0, 0},
		{"overlap", "overlap.signers-map", "", 250, overlapHead, 0, 0},
		{"overlap", "overlap.signers-field-aliases", "", 250, overlapHead, 0, 0},
		{"overlap", "overlap.signers-id-aliases", "", 250, overlapHead, 0, 0},
		{"overlap", "overlap.signers-algorithm-case", "", 250, overlapHead, 2, 0},
		{"rsa3072", "rsa3072.signers-object", "", 100, "5e78fdc8e7a8ec9bae58fe64012663ad8c4699f574d74d24431bd1cc63b4fc4c", 0, 3},
		{"rsa3072", "rsa3072.signers-array", "", 100, "5e78fdc8e7a8ec9bae58fe64012663ad8c4699f574d74d24431bd1cc63b4fc4c", 0, 3},
		{"rsa3072", "rsa3072.signers-map", "", 100, "5e78fdc8e7a8ec9bae58fe64012663ad8c4699f574d74d24431bd1cc63b4fc4c", 0, 3},
		{"hmac", "hmac.signers", "hmac-secrets", 300, "bec042f804b212a2569b84afc20bce47d0cbc17646f2f80b02db0bb2aeee5864", 0, 10},
	} {
		t.Run(tc.registry, func(t *testing.T) {
			r, warnings := parse(t, upstream+tc.registry+".json")
			if len(warnings) != tc.warnings {
				t.Errorf("%d warnings, want %d: %v", len(warnings), tc.warnings, warnings)
			}
			var o trust.Options
			if tc.secrets != "" {
				var err error
				if o.Secrets, err = trust.ParseSecrets(tc.secrets, read(t, upstream+tc.secrets+".json")); err != nil {
					t.Fatal(err)
				}
			}
			rows := read(t, upstream+tc.rows+".ndjson")
			for seed := uint64(0); seed < 5; seed++ {
				if seed > 0 {
					rows = shuffled(rows, seed)
				}
				o.Without = []sigverify.Paths{sigverify.NoPaths, sigverify.Lanes, sigverify.AllPaths}[seed%3]
				rep, err := verify(t, rows, trust.New(r, &registry.Archive{}, o), chain.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if rep.Verdict != chain.Verified || rep.Events != tc.events || rep.Length != tc.events || rep.Head != tc.head ||
					rep.FindingsTotal != 0 || rep.NonObjectPayloads != tc.nonObject || rep.TruncationExcluded {
					t.Fatalf("seed %d: %+v", seed, rep)
				}
			}
		})
	}
}

func TestUpstreamFork(t *testing.T) {
	r, _ := parse(t, upstream+"overlap.signers-object.json")
	rows := read(t, upstream+"fork.ndjson")
	var first string
	for seed := uint64(0); seed < 20; seed++ {
		if seed > 0 {
			rows = shuffled(rows, seed)
		}
		rep, err := verify(t, rows, trust.New(r, &registry.Archive{}, trust.Options{}), chain.Options{})
		if err != nil {
			t.Fatal(err)
		}
		siblings := 0
		for _, f := range rep.Findings {
			if f.Rule == chain.RuleFork {
				var n int
				fmt.Sscanf(f.Message, "%d events", &n)
				siblings += n
			}
		}
		if rep.Verdict != chain.Failed || rep.ByRule[chain.RuleFork] != 5 || siblings != 17 || len(rep.Tips) != 13 || rep.ByRule[chain.RuleBadSignature] != 0 {
			t.Fatalf("seed %d: %d siblings, %d tips, %v", seed, siblings, len(rep.Tips), rep.ByRule)
		}
		if !slices.Contains(rep.Tips, "18a37e30bb192614cbb8f0ab9587473e0596a864e4ad474b8d2f2e9c9a6d2346") {
			t.Errorf("the last row is no tip: %v", rep.Tips)
		}
		// Whatever order the rows come in, the report says the same.
		var text strings.Builder
		json.NewEncoder(&text).Encode(rep)
		if first == "" {
			first = text.String()
		} else if text.String() != first {
			t.Fatalf("seed %d: the report differs\n%s\n%s", seed, text.String(), first)
		}
	}
}

func TestUpstreamWithoutTheOldSigner(t *testing.T) {
	r, _ := parse(t, upstream+"overlap.signers-new-only.json")
	rep, err := verify(t, read(t, upstream+"overlap.ndjson"), trust.New(r, &registry.Archive{}, trust.Options{}), chain.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Verdict != chain.Failed || rep.ByRule[chain.RuleUnknownSigner] != 125 || rep.FindingsTotal != 125 || rep.Length != 250 {
		t.Errorf("%+v", rep)
	}
}

// The RSA signer archived at its last event passes; at an earlier one, each of
// its later events is named.
func TestUpstreamArchived(t *testing.T) {
	r, _ := parse(t, upstream+"overlap.signers-object.json")
	rows := read(t, upstream+"overlap.ndjson")
	digests := expected(t, "overlap")
	for _, tc := range []struct {
		row, findings int
	}{{149, 0}, {99, 25}} {
		signer, _ := r.Find("audit-rsa-v1")
		a := archive(t, registry.Retired{Signer: signer, RetiredAt: time.Unix(0, 0), Reason: "test", Rotation: "r", State: registry.StateRetired,
			Boundary: registry.Boundary{Position: int64(tc.row + 1), Digest: digests[tc.row]}})
		rest := *r
		rest.Signers = r.Signers[1:]
		for seed := uint64(0); seed < 6; seed++ {
			if seed > 0 {
				rows = shuffled(rows, seed)
			}
			rep, err := verify(t, rows, trust.New(&rest, a, trust.Options{}), chain.Options{Anchors: trust.Anchors(a)})
			if err != nil {
				t.Fatal(err)
			}
			if int(rep.FindingsTotal) != tc.findings || int(rep.ByRule[chain.RuleRetiredSignerUsed]) != tc.findings {
				t.Fatalf("frozen at row %d, seed %d: %v", tc.row, seed, rep.ByRule)
			}
			for i, f := range rep.Findings {
				if want := int64(102 + 2*i); f.Position != want {
					t.Errorf("finding %d at position %d, want %d", i, f.Position, want)
				}
			}
		}
	}
}

func expected(t *testing.T, name string) []chain.Digest {
	var out []chain.Digest
	for line := range bytes.Lines(read(t, upstream+name+".expected.ndjson")) {
		var row struct{ Digest chain.Digest }
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		out = append(out, row.Digest)
	}
	return out
}

func archive(t *testing.T, items ...registry.Retired) *registry.Archive {
	t.Helper()
	a := &registry.Archive{Name: "archive"}
	for _, item := range items {
		var fs []finding.Finding
		var err error
		if a, fs, err = registry.ParseArchive("archive", a.Append(item)); err != nil || len(fs) > 0 {
			t.Fatalf("%v %v", err, fs)
		}
	}
	return a
}

// Each tampered chain is refused, with and without the checkpoint; each sound
// one passes.
func TestChainVectors(t *testing.T) {
	var manifest []struct{ File, Expect, Finding, Why string }
	if err := json.Unmarshal(read(t, vectors+"manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(vectors + "*/*.ndjson")
	if len(files) != 203 || len(manifest) != 203 {
		t.Fatalf("%d files, %d manifest entries, want 203 of both", len(files), len(manifest))
	}
	r, _ := parse(t, vectors+"rsa2048-to-rsa3072/signers.json")
	// The verdicts are the same on every path of signature verification.
	sets := []*trust.Set{
		trust.New(r, &registry.Archive{}, trust.Options{}),
		trust.New(r, &registry.Archive{}, trust.Options{Without: sigverify.Lanes}),
		trust.New(r, &registry.Archive{}, trust.Options{Without: sigverify.AllPaths}),
	}
	var anchor struct {
		Count int64
		Head  chain.Digest
	}
	if err := json.Unmarshal(read(t, vectors+"rsa2048-to-rsa3072/checkpoint.json"), &anchor); err != nil {
		t.Fatal(err)
	}
	refused, passed := 0, 0
	for _, m := range manifest {
		t.Run(m.File, func(t *testing.T) {
			for _, anchors := range [][]chain.Anchor{nil, {{Name: "checkpoint", Position: anchor.Count, Digest: anchor.Head, Checkpoint: true}}} {
				rep, err := verify(t, read(t, vectors+m.File), sets[0], chain.Options{Anchors: anchors})
				ok := err == nil && rep.Verdict == chain.Verified
				for _, other := range sets[1:] {
					if again, otherErr := verify(t, read(t, vectors+m.File), other, chain.Options{Anchors: anchors}); !reflect.DeepEqual(again, rep) || fmt.Sprint(otherErr) != fmt.Sprint(err) {
						t.Errorf("another path gives another report: %v %+v, not %v %+v", otherErr, again, err, rep)
					}
				}
				switch m.Expect {
				case "reject":
					if ok {
						t.Errorf("accepted: %s", m.Why)
					}
				case "reject-with-checkpoint":
					if ok && anchors != nil {
						t.Errorf("accepted with the checkpoint: %s", m.Why)
					}
					if ok && rep.Events == 0 {
						t.Error("an empty chain was called verified")
					}
				default:
					if !ok {
						t.Errorf("refused: %s: %v %+v", m.Why, err, rep)
					} else if rep.TruncationExcluded != (anchors != nil) || len(rep.UnauthenticatedColumns) != 5 {
						t.Errorf("disclosure: %+v", rep)
					}
				}
				if m.Finding != "" && (err != nil || rep.ByRule[m.Finding] == 0) {
					t.Errorf("no finding %s: %v", m.Finding, rep)
				}
				if ok {
					passed++
				} else {
					refused++
				}
			}
		})
	}
	t.Logf("%d runs refused, %d passed", refused, passed)
	if all, none := sets[0].Signatures(), sets[2].Signatures(); all.Fast == 0 || all.Rechecked == 0 || none.Fast > 0 || none.Library != all.Fast+all.Library {
		t.Errorf("who decided: %+v, without fast paths %+v", all, none)
	}
}
