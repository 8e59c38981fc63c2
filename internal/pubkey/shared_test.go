package pubkey

import (
	"crypto/rsa"
	"math/big"
	"math/rand/v2"
	"reflect"
	"testing"
)

// ofModulus makes a Key that no policy has seen.
func ofModulus(n *big.Int) Key {
	return Key{spki: rsaSPKI(n, publicE), rsa: &rsa.PublicKey{N: n, E: exponent}}
}

func TestSharedPrimes(t *testing.T) {
	p, q, r, s := prime(t, 1024), prime(t, 1024), prime(t, 1024), prime(t, 1024)
	pq, pr, qr, rs := new(big.Int).Mul(p, q), new(big.Int).Mul(p, r), new(big.Int).Mul(q, r), new(big.Int).Mul(r, s)
	alone := ofModulus(rsa2048().N)
	ed, err := ParseSPKI(marshal(t, edPrivate.Public()))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		keys []Key
		want [][2]int
	}{
		"no key":               {nil, nil},
		"one key":              {[]Key{ofModulus(pq)}, nil},
		"no RSA key":           {[]Key{ed, {}, ed}, nil},
		"two sound keys":       {[]Key{alone, ofModulus(pq)}, nil},
		"a shared prime":       {[]Key{ofModulus(pq), ofModulus(pr)}, [][2]int{{0, 1}}},
		"others between":       {[]Key{{}, ofModulus(pq), ed, alone, {}, ofModulus(qr)}, [][2]int{{1, 5}}},
		"a triangle":           {[]Key{ofModulus(pq), ofModulus(pr), ofModulus(qr)}, [][2]int{{0, 1}, {0, 2}}},
		"a chain":              {[]Key{ofModulus(pq), ofModulus(rs), ofModulus(pr)}, [][2]int{{0, 2}, {1, 2}}},
		"the same key":         {[]Key{ofModulus(pq), ofModulus(pq)}, nil},
		"the same key, shared": {[]Key{ofModulus(pq), ofModulus(pq), ofModulus(pr)}, [][2]int{{0, 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := SharedPrimes(test.keys); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// TestSharedPrimesAgainstAllPairs compares many small cases with the plain gcd of
// all pairs: each pair must share a factor, and no key that shares one may be left
// out.
func TestSharedPrimesAgainstAllPairs(t *testing.T) {
	pool := smallPrimes()[100:160]
	source := rand.New(rand.NewPCG(1, 2))
	pick := func() *big.Int { return big.NewInt(int64(pool[source.IntN(len(pool))])) }
	one := big.NewInt(1)
	for round := range 500 {
		keys := make([]Key, source.IntN(25))
		for i := range keys {
			keys[i] = ofModulus(new(big.Int).Mul(pick(), pick()))
		}
		named := make(map[int]bool)
		for _, pair := range SharedPrimes(keys) {
			a, b := keys[pair[0]].rsa.N, keys[pair[1]].rsa.N
			if pair[0] >= pair[1] || a.Cmp(b) == 0 || new(big.Int).GCD(nil, nil, a, b).Cmp(one) == 0 {
				t.Fatalf("round %d: pair %v of %v and %v", round, pair, a, b)
			}
			named[pair[0]], named[pair[1]] = true, true
		}
		seen := make(map[string]bool)
		for i, key := range keys {
			if seen[key.rsa.N.String()] {
				continue // a duplicate
			}
			seen[key.rsa.N.String()] = true
			for j, other := range keys {
				shares := new(big.Int).GCD(nil, nil, key.rsa.N, other.rsa.N).Cmp(one) != 0
				if shares && key.rsa.N.Cmp(other.rsa.N) != 0 && !named[i] {
					t.Fatalf("round %d: key %d shares a factor with key %d and is not named", round, i, j)
				}
			}
		}
	}
}

func BenchmarkSharedPrimes(b *testing.B) {
	keys := make([]Key, 1000)
	for i := range keys {
		n := new(big.Int).Lsh(big.NewInt(1), 2047)
		for bit := range 2047 {
			n.SetBit(n, bit, uint(rand.IntN(2)))
		}
		keys[i] = ofModulus(n.SetBit(n, 0, 1)) // most share a small factor: the worst case
	}
	for b.Loop() {
		SharedPrimes(keys)
	}
}
