package sigverify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// engines are all ways to check signatures: each fast path alone, all, none.
// Where the machine has no multiplier, of which TestMultiplier tells, the lanes
// run with the portable one.
func engines() map[string]*Engine {
	multiply := assembly()
	if multiply == nil {
		multiply = portable
	}
	return map[string]*Engine{
		"library":  NewEngine(Options{Without: AllPaths}),
		"lanes":    NewEngine(Options{Without: AllPaths &^ Lanes, multiply: multiply}),
		"modulus":  NewEngine(Options{Without: AllPaths &^ Modulus}),
		"tables":   NewEngine(Options{Without: AllPaths &^ Tables}),
		"mac":      NewEngine(Options{Without: AllPaths &^ MAC}),
		"all":      NewEngine(Options{}),
		"no lanes": NewEngine(Options{Without: Lanes, Recheck: 2}),
	}
}

// signer makes keys and signatures that a test can have as many of as it likes.
type signer struct {
	name string
	key  *Key
	sign func(digest [32]byte) []byte
	n    *big.Int // of an RSA key
}

// primeRSA is an RSA key whose modulus is a prime, so that the private exponent
// is known; PKCS#1 v1.5 verification does not care.
func primeRSA(name string, n *big.Int) signer {
	d := new(big.Int).Sub(n, big.NewInt(1))
	d.ModInverse(big.NewInt(exponent), d)
	key := newRSA(&rsa.PublicKey{N: n, E: exponent})
	return signer{name, key, func(digest [32]byte) []byte {
		em := make([]byte, key.size)
		encode(em, &digest)
		m := new(big.Int).SetBytes(em)
		return m.Exp(m, d, n).FillBytes(em)
	}, n}
}

var allSigners = sync.OnceValue(func() []signer {
	k := keys()
	all := []signer{
		{"rsa", newRSA(&k.rsa.PublicKey), func(digest [32]byte) []byte {
			em := make([]byte, 256)
			encode(em, &digest)
			m := new(big.Int).SetBytes(em)
			return m.Exp(m, k.rsa.D, k.rsa.N).FillBytes(em)
		}, k.rsa.N},
	}
	for _, bits := range []int{2048, 3072, 4096} {
		all = append(all, primeRSA("full limbs", prime(bits, false)), primeRSA("empty limbs", prime(bits, true)))
	}
	for _, seed := range []byte{1, 2} {
		k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
		all = append(all, signer{"ed25519", edKey(k), func(digest [32]byte) []byte { return ed25519.Sign(k, digest[:]) }, nil})
	}
	for _, secret := range []string{"secret", ""} {
		all = append(all, signer{"hmac", NewHMAC([]byte(secret)), func(digest [32]byte) []byte {
			m := hmac.New(sha256.New, []byte(secret))
			m.Write(digest[:])
			return m.Sum(nil)
		}, nil})
	}
	return all
})

// edKey is a key whose table is built at once.
func edKey(k ed25519.PrivateKey) *Key {
	key := &Key{ed: k.Public().(ed25519.PublicKey), size: ed25519.SignatureSize}
	key.seen.Store(tableWorth)
	return key
}

// spoiled are signatures near a good one, none of which verifies.
func spoiled(s signer, digest [32]byte) map[string][]byte {
	good := s.sign(digest)
	last := len(good) - 1
	out := map[string][]byte{
		"empty": nil, "a byte less": good[1:], "a byte more": append([]byte{0}, good...), "a byte behind": append(bytes.Clone(good), 0),
		"zero": make([]byte, len(good)), "full": bytes.Repeat([]byte{0xff}, len(good)),
		"one": append(make([]byte, last), 1), "of another digest": s.sign([32]byte{0: 0xaa, 31: digest[31] + 1}),
	}
	for _, at := range []int{0, 6, 7, 12, 13, 31, last} {
		changed := bytes.Clone(good)
		changed[at] ^= 1
		out["bit 0 of byte "+string(rune('a'+at%26))] = changed
	}
	switch {
	case s.n != nil:
		value := new(big.Int).SetBytes(good)
		plus := func(x int64) []byte {
			return new(big.Int).Add(s.n, big.NewInt(x)).FillBytes(make([]byte, len(good)+1))[1:]
		}
		out["N - 1"], out["N"], out["N + 1"] = plus(-1), plus(0), plus(1)
		out["N - s"] = new(big.Int).Sub(s.n, value).FillBytes(make([]byte, len(good)))
		// Where it fits into the length of a signature, and where it does not.
		long := new(big.Int).Add(value, s.n).FillBytes(make([]byte, len(good)+1))
		if out["s + N, long"] = long; long[0] == 0 {
			out["s + N"] = long[1:]
		}
		em := make([]byte, len(good))
		encode(em, &digest)
		out["the message itself"] = em
	case len(good) == 64:
		out["S + L"] = malleable(good)
	}
	return out
}

// Batches of all kinds of keys, of every size around the lanes' number, with
// good and spoiled signatures side by side: on every path each verdict is the
// library's own, and what is good does take the fast path.
func TestEnginesAgreeWithTheLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var pool []Check
	var want []bool
	for i, s := range allSigners() {
		digest := sha256.Sum256([]byte{byte(i)})
		for name, signature := range spoiled(s, digest) {
			if s.key.Verify(digest, signature) {
				t.Fatalf("%s, %s: the library accepts it", s.name, name)
			}
			pool, want = append(pool, Check{Key: s.key, Digest: digest, Signature: signature}), append(want, false)
		}
		for j := range 12 {
			digest := sha256.Sum256([]byte{byte(i), byte(j)})
			signature := s.sign(digest)
			if !s.key.Verify(digest, signature) {
				t.Fatalf("%s: the library refuses a good signature", s.name)
			}
			pool, want = append(pool, Check{Key: s.key, Digest: digest, Signature: signature}), append(want, true)
		}
	}
	for _, none := range []*Key{nil, {}} {
		pool, want = append(pool, Check{Key: none, Digest: pool[0].Digest, Signature: pool[0].Signature}), append(want, false)
	}
	for name, e := range engines() {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{0, 1, 2, 7, 8, 9, 16, 64, 65, 300, len(pool)} {
				order := random.Perm(len(pool))[:min(size, len(pool))]
				batch := make([]Check, len(order))
				for i, at := range order {
					batch[i] = pool[at]
					batch[i].Valid = i%2 == 0 // whatever stood there
				}
				if err := e.Verify(batch); err != nil {
					t.Fatal(err)
				}
				for i, at := range order {
					if batch[i].Valid != want[at] {
						t.Errorf("batch of %d: %x over %x: %v", size, batch[i].Signature, batch[i].Digest, batch[i].Valid)
					}
				}
			}
			if c := e.Counts(); (c.Fast == 0) != (name == "library") || c.Library == 0 || c.Rechecked > c.Fast {
				t.Errorf("%+v", c)
			}
		})
	}
}

// A lane's verdict stands for that lane alone: of eight signatures each in
// turn, and each pair, is spoiled, under one key and under several.
func TestTamperedLanes(t *testing.T) {
	signers := allSigners()
	multipliers := map[string]multiplier{"portable": portable, "assembly": assembly()}
	for name, multiply := range multipliers {
		if multiply == nil {
			continue // TestMultiplier says so
		}
		e := NewEngine(Options{Without: AllPaths &^ Lanes, multiply: multiply})
		for _, mixed := range []bool{false, true} {
			for first := range 8 {
				for second := first; second < 8; second++ {
					if name == "portable" && second != first {
						continue // it is slow
					}
					batch := make([]Check, 8)
					for i := range batch {
						s := signers[0]
						if mixed {
							s = signers[i%3] // of 2048 bits
						}
						digest := sha256.Sum256([]byte{byte(i)})
						batch[i] = Check{Key: s.key, Digest: digest, Signature: s.sign(digest)}
					}
					batch[first].Signature[255] ^= 1
					batch[second].Digest[31] ^= 1
					before := e.Counts()
					if err := e.Verify(batch); err != nil {
						t.Fatal(err)
					}
					bad := 1
					if second != first {
						bad = 2
					}
					if c := e.Counts(); c.Fast-before.Fast != int64(8-bad) {
						t.Errorf("%s: %d of %d good lanes were accepted", name, c.Fast-before.Fast, 8-bad)
					}
					for i := range batch {
						if batch[i].Valid != (i != first && i != second) {
							t.Errorf("%s: lanes %d and %d are spoiled: lane %d: %v", name, first, second, i, batch[i].Valid)
						}
					}
				}
			}
		}
	}
}

// A busy Ed25519 key gets a table, one that is hardly used does not, and the
// tables stay few.
func TestTablesAreForBusyKeys(t *testing.T) {
	tables := newTables(2)
	e := NewEngine(Options{Without: AllPaths &^ Tables})
	e.tables = tables
	known := map[byte]*Key{}
	verify := func(seed byte, n int) {
		k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
		if known[seed] == nil {
			known[seed] = New(parsed(t, k.Public()))
		}
		batch := make([]Check, n)
		for i := range batch {
			digest := [32]byte{byte(i), byte(i >> 8)}
			batch[i] = Check{Key: known[seed], Digest: digest, Signature: ed25519.Sign(k, digest[:])}
		}
		if err := e.Verify(batch); err != nil {
			t.Fatal(err)
		}
		for i := range batch {
			if !batch[i].Valid {
				t.Fatalf("key %d, signature %d is refused", seed, i)
			}
		}
	}
	fast := func() int64 { return e.Counts().Fast }
	if verify(1, tableWorth-1); fast() != 0 || len(tables.made) != 0 {
		t.Error("a table was built too early")
	}
	if verify(1, 1); fast() != 1 {
		t.Error("no table was built")
	}
	verify(2, tableWorth)
	verify(1, 1) // used last
	verify(3, tableWorth)
	if len(tables.made) != 2 || tables.made[known[1]] == nil || tables.made[known[2]] != nil {
		t.Errorf("%d tables, or the wrong one was dropped", len(tables.made))
	}
	before := fast()
	if verify(2, 1); fast() != before || len(tables.made) != 2 {
		t.Error("a dropped table was built anew for one signature")
	}
}

// liar is a fast path that is broken.
type liar struct{}

func (liar) accept(checks []Check) {
	for i := range checks {
		checks[i].Valid = true
	}
}

// A fast path that accepts what the library refuses ends everything with
// exit code 3, at the latest when the sample meets it.
func TestRecheck(t *testing.T) {
	s := allSigners()[0]
	digest := sha256.Sum256([]byte("event"))
	good, bad := s.sign(digest), s.sign(sha256.Sum256([]byte("another")))
	engine := func(recheck int) *Engine {
		e := NewEngine(Options{Recheck: recheck})
		e.free <- bench{liar{}}
		return e
	}
	fresh := func() *Key { return newRSA(&keys().rsa.PublicKey) }
	var coded interface{ ExitCode() int }
	// The first of a key is always checked.
	err := engine(-1).Verify([]Check{{Key: fresh(), Digest: digest, Signature: bad}})
	if !errors.As(err, &coded) || coded.ExitCode() != 3 || !strings.Contains(err.Error(), "AUDIT_SIGNER_FAST_PATHS=none") {
		t.Errorf("%v", err)
	}
	// Once it was confirmed, the sample finds it.
	k := fresh()
	e := engine(4)
	if err := e.Verify([]Check{{Key: k, Digest: digest, Signature: good}}); err != nil {
		t.Fatal(err)
	}
	caught := 0
	for range 400 {
		if e.Verify([]Check{{Key: k, Digest: digest, Signature: bad}}) != nil {
			caught++
		}
	}
	if caught < 40 || caught > 200 {
		t.Errorf("%d of 400 false acceptances were caught, about 100 are due", caught)
	}
	if c := e.Counts(); c.Library != 0 || c.Fast != 401-int64(caught) {
		t.Errorf("%+v, %d caught", c, caught)
	}
	// One in one is all.
	for range 100 {
		if engine(1).Verify([]Check{{Key: k, Digest: digest, Signature: bad}}) == nil {
			t.Fatal("a false acceptance was not caught")
		}
	}
}

func TestParsePaths(t *testing.T) {
	for text, want := range map[string]Paths{
		"": AllPaths, "all": AllPaths, "none": NoPaths, "ifma": Lanes, "modulus,tables": Modulus | Tables, "mac": MAC, "ifma,modulus,tables,mac": AllPaths,
	} {
		if got, err := ParsePaths(text); err != nil || got != want {
			t.Errorf("%q: %b %v", text, got, err)
		}
	}
	for _, text := range []string{"off", "IFMA", "ifma,", ",", "none,mac", "ifma mac"} {
		if _, err := ParsePaths(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// In steady state the engines of our own take no memory.
func TestEngineAllocates(t *testing.T) {
	for _, s := range allSigners() {
		for name, e := range map[string]*Engine{"all": NewEngine(Options{Recheck: -1}), "no lanes": NewEngine(Options{Without: Lanes, Recheck: -1})} {
			if s.n != nil && (name == "no lanes" || assembly() == nil) {
				continue // bigmod and math/big take some
			}
			batch := make([]Check, 64)
			digest := sha256.Sum256([]byte("event"))
			batch[0] = Check{Key: s.key, Digest: digest, Signature: s.sign(digest)}
			for i := range batch {
				batch[i] = batch[0]
			}
			if n := testing.AllocsPerRun(20, func() { e.Verify(batch) }); n > 0 {
				t.Errorf("%s, %s: %v allocations for 64 signatures", s.name, name, n)
			}
		}
	}
}

// Several goroutines share an engine.
func TestEngineIsShared(t *testing.T) {
	e := NewEngine(Options{Recheck: 16})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for round := range 4 {
				var batch []Check
				for i, s := range allSigners() {
					digest := sha256.Sum256([]byte{byte(g), byte(round), byte(i)})
					batch = append(batch, Check{Key: s.key, Digest: digest, Signature: s.sign(digest)})
				}
				bad := (g + round) % len(batch)
				batch[bad].Digest[0] ^= 1
				if err := e.Verify(batch); err != nil {
					t.Error(err)
				}
				for i := range batch {
					if batch[i].Valid != (i != bad) {
						t.Errorf("goroutine %d, round %d, %d: %v", g, round, i, batch[i].Valid)
					}
				}
			}
		})
	}
	wg.Wait()
}

// FuzzEngines holds every path against the library, for a signature as it
// comes and for one that is changed a little, beside good ones.
func FuzzEngines(f *testing.F) {
	all := engines()
	for i, s := range allSigners() {
		digest := sha256.Sum256([]byte{byte(i)})
		f.Add(uint8(i), digest[:], s.sign(digest), uint16(0), uint8(0))
		for _, signature := range spoiled(s, digest) {
			f.Add(uint8(i), digest[:], signature, uint16(3), uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, text, signature []byte, at uint16, flip uint8) {
		signers := allSigners()
		s := signers[int(which)%len(signers)]
		digest := sha256.Sum256(text)
		if len(text) == 32 {
			digest = [32]byte(text)
		}
		good := s.sign(digest)
		changed := bytes.Clone(good)
		changed[int(at)%len(changed)] ^= flip
		for name, e := range all {
			batch := []Check{
				{Key: s.key, Digest: digest, Signature: good},
				{Key: s.key, Digest: digest, Signature: signature},
				{Key: s.key, Digest: digest, Signature: changed},
				{Key: signers[0].key, Digest: digest, Signature: signature},
				{Key: s.key, Digest: digest, Signature: good},
			}
			if err := e.Verify(batch); err != nil {
				t.Fatal(err)
			}
			for i, c := range batch {
				if want := c.Key.Verify(digest, c.Signature); c.Valid != want {
					t.Errorf("%s: %d: %x over %x: %v, want %v", name, i, c.Signature, digest, c.Valid, want)
				}
			}
		}
	})
}
