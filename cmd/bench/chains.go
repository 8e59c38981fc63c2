//go:build unix

package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"math/big"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/sigverify"
)

// kind is a kind of key, with one of that kind.
type kind struct {
	name  string
	entry string // of a registry
	sign  func(digest [32]byte) []byte
	paths []path // the library first
}

// path is a way to check signatures.
type path struct {
	name  string
	paths sigverify.Paths
}

const secret = "a secret of the benchmark"

func (b *bench) kinds() (all []kind) {
	library := path{"library", sigverify.NoPaths}
	for _, bits := range []int{2048, 3072, 4096} {
		if !b.wants("rsa-" + strconv.Itoa(bits)) {
			continue
		}
		n, sign := manyPrimes(bits)
		paths := []path{library, {"modulus", sigverify.Modulus}}
		if sigverify.HasLanes() {
			paths = append(paths, path{"ifma", sigverify.AllPaths})
		}
		all = append(all, kind{"rsa-" + strconv.Itoa(bits), entry("rsa-sha256", &rsa.PublicKey{N: n, E: 65537}), sign, paths})
	}
	if b.wants("ed25519") {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		all = append(all, kind{"ed25519", entry("ed25519", public), func(d [32]byte) []byte { return ed25519.Sign(private, d[:]) }, []path{library, {"tables", sigverify.Tables}}})
	}
	if b.wants("hmac") {
		all = append(all, kind{"hmac", `{"id":"bench","alg":"hmac-sha256","kmsKeyId":"bench"}`, func(d [32]byte) []byte {
			m := hmac.New(sha256.New, []byte(secret))
			m.Write(d[:])
			return m.Sum(nil)
		}, []path{library, {"mac", sigverify.MAC}}})
	}
	return all
}

func (b *bench) wants(name string) bool { return len(b.only) == 0 || slices.Contains(b.only, name) }

func entry(algorithm string, public any) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"id":"bench","alg":%q,"key":%q}`, algorithm, base64.StdEncoding.EncodeToString(der))
}

// manyPrimes makes an RSA modulus of many small primes, with which signing is
// fast. Whoever verifies cannot tell, and nobody should sign anything real so.
func manyPrimes(bits int) (n *big.Int, sign func([32]byte) []byte) {
	const each = 256
	type factor struct{ p, d, c *big.Int }
	var factors []factor
	n = big.NewInt(1)
	one, e := big.NewInt(1), big.NewInt(65537)
	for len(factors) < bits/each {
		p, err := rand.Prime(rand.Reader, each)
		if err != nil {
			panic(err)
		}
		p.SetBit(p, each-3, 1).SetBit(p, each-4, 1).SetBit(p, each-5, 1) // so that the product is long enough
		d := new(big.Int).ModInverse(e, new(big.Int).Sub(p, one))
		if d == nil || !p.ProbablyPrime(20) {
			continue
		}
		factors = append(factors, factor{p: p, d: d})
		n.Mul(n, p)
	}
	for i := range factors {
		f := &factors[i]
		rest := new(big.Int).Quo(n, f.p)
		f.c = rest.Mul(rest, new(big.Int).ModInverse(new(big.Int).Mod(rest, f.p), f.p))
	}
	size := bits / 8
	info, _ := hex.DecodeString("3031300d060960864801650304020105000420")
	return n, func(digest [32]byte) []byte {
		em := slices.Concat([]byte{0, 1}, bytes.Repeat([]byte{0xff}, size-3-len(info)-32), []byte{0}, info, digest[:])
		m, s := new(big.Int).SetBytes(em), new(big.Int)
		for _, f := range factors {
			x := new(big.Int).Exp(new(big.Int).Mod(m, f.p), f.d, f.p)
			s.Add(s, x.Mul(x, f.c))
		}
		return s.Mod(s, n).FillBytes(em)
	}
}

// chained is a chain by one key.
type chained struct {
	kind
	files  *registry.Files
	ndjson []byte
	events []chain.Event
	raw    [][]byte // signatures
	sums   []chain.Digest
}

func (b *bench) chain(k kind) (*chained, error) {
	c := &chained{kind: k}
	var err error
	if c.files, err = registry.Load("bench.json", []byte("["+k.entry+"]"), "archive.json", nil); err != nil {
		return nil, err
	}
	if len(c.files.Findings) > 0 {
		return nil, fmt.Errorf("the key is no good: %v", c.files.Findings)
	}
	var out bytes.Buffer
	c.write(&out, b.events)
	c.ndjson = out.Bytes()
	for e, err := range chain.NDJSON("bench.ndjson", func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.ndjson)), nil }) {
		if err != nil {
			return nil, err
		}
		for _, field := range []*[]byte{&e.ID, &e.Payload, &e.Prev, &e.Signature, &e.Signer} {
			if *field != nil {
				*field = bytes.Clone(*field)
			}
		}
		c.events = append(c.events, e)
	}
	return c, nil
}

// payload is one of 447 bytes, the size of a usual event.
func payload(i int) []byte {
	text := fmt.Appendf(nil, `{"ok": true, "agent": "agent-%d", "action": "deploy", "amount": %d.5, "tenant": "acme-corporation", "details": {"branch": "main", "commit": "%040x", "labels": ["a", "b", "c"], "retries": 0, "message": "Rolled out to the cluster after all of the checks had passed", "environment": "production"}, "request": "req-%d", "comment": "`, i%100, i, i, i)
	for i := 0; len(text) < 445; i++ {
		text = append(text, "lorem ipsum dolor sit amet "[i%27])
	}
	return append(text, `"}`...)
}

// write writes a chain of n events as an export. A block at a time is signed by
// all CPUs.
func (c *chained) write(w io.Writer, n int) {
	const block = 1 << 13
	prev, first := chain.Digest{}, "null"
	digests, signatures := make([]chain.Digest, block), make([][]byte, block)
	for from := 0; from < n; from += block {
		count := min(block, n-from)
		var out []byte
		prevs := make([]string, count)
		for i := range count {
			prevs[i] = first
			text := canonicalOf(payload(from + i))
			if first != "null" {
				text = append(text, prev[:]...)
			}
			prev = sha256.Sum256(text)
			digests[i], first = prev, `"`+prev.String()+`"`
		}
		var wg sync.WaitGroup
		cpus := runtime.GOMAXPROCS(0)
		for cpu := range cpus {
			wg.Go(func() {
				for i := cpu; i < count; i += cpus {
					signatures[i] = c.sign(digests[i])
				}
			})
		}
		wg.Wait()
		for i := range count {
			at := from + i
			out = fmt.Appendf(out, `{"id":"%08x-0000-4000-8000-000000000000","actor_id":"bench","event_type":"deploy","payload":%s,"signature":"%s","signer_kid":"bench","prev_hash":%s,"created_at":"2026-01-01T%02d:%02d:%02d.%03dZ"}`+"\n",
				at, payload(at), base64.StdEncoding.EncodeToString(signatures[i]), prevs[i], at/3_600_000%24, at/60_000%60, at/1000%60, at%1000)
			if len(c.events) == 0 {
				c.raw, c.sums = append(c.raw, signatures[i]), append(c.sums, digests[i])
			}
		}
		w.Write(out)
	}
}

// source gives the first n events from memory.
func (c *chained) source(n int) iter.Seq2[chain.Event, error] {
	return func(yield func(chain.Event, error) bool) {
		for _, e := range c.events[:n] {
			if !yield(e, nil) {
				return
			}
		}
	}
}
