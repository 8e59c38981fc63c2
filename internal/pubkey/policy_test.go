package pubkey

import (
	"math/big"
	"math/rand/v2"
	"testing"
)

func TestRSASizeAndExponent(t *testing.T) {
	n := rsa2048().N
	for name, test := range map[string]struct {
		n, e        *big.Int
		rule, words string
	}{
		"512 bits":             {new(big.Int).Rsh(n, 2048-512), publicE, RuleWeak, "has 512 bits"},
		"1024 bits":            {new(big.Int).Rsh(n, 1024), publicE, RuleWeak, "has 1024 bits"},
		"2047 bits":            {new(big.Int).Rsh(n, 1), publicE, RuleWeak, "has 2047 bits"},
		"2049 bits":            {new(big.Int).Lsh(n, 1), publicE, RuleUnsupported, "has 2049 bits"},
		"8192 bits":            {new(big.Int).Lsh(n, 8192-2048), publicE, RuleUnsupported, "has 8192 bits"},
		"exponent 0":           {n, new(big.Int), RuleWeak, "exponent is not 65537"},
		"exponent 1":           {n, big.NewInt(1), RuleWeak, "exponent is not 65537"},
		"exponent 3":           {n, big.NewInt(3), RuleWeak, "exponent is not 65537"},
		"exponent 65536":       {n, big.NewInt(65536), RuleWeak, "exponent is not 65537"},
		"exponent 65539":       {n, big.NewInt(65539), RuleWeak, "exponent is not 65537"},
		"exponent 2^32+65537":  {n, new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 32), publicE), RuleWeak, "exponent is not 65537"},
		"exponent 2^64+65537":  {n, new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 64), publicE), RuleWeak, "exponent is not 65537"},
		"exponent of 2048 bit": {n, n, RuleWeak, "exponent is not 65537"},
		// Both have a small factor too. That the message names the size shows that
		// the size was looked at first.
		"65,536 bits, even":    {new(big.Int).Lsh(n, 65536-2048), publicE, RuleUnsupported, "has 65536 bits"},
		"2048 bits, e 3, even": {new(big.Int).Lsh(new(big.Int).Rsh(n, 1), 1), big.NewInt(3), RuleWeak, "exponent is not 65537"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(b64(rsaSPKI(test.n, test.e)))
			wantRefusal(t, err, test.rule, test.words)
		})
	}
}

func TestWeakModulus(t *testing.T) {
	close1024 := prime(t, 1024)
	next := new(big.Int).Add(close1024, big.NewInt(2))
	for !next.ProbablyPrime(20) {
		next.Add(next, big.NewInt(2))
	}
	half := new(big.Int).Lsh(big.NewInt(1), 2047)
	byThree := new(big.Int).Add(half, new(big.Int).Rsh(rsa2048().N, 1))
	for byThree.SetBit(byThree, 0, 1); new(big.Int).Mod(byThree, big.NewInt(3)).Sign() != 0; {
		byThree.Add(byThree, big.NewInt(2))
	}
	for name, test := range map[string]struct {
		n     *big.Int
		words string
	}{
		"even":           {new(big.Int).Add(rsa2048().N, big.NewInt(1)), "is even"},
		"divisible by 3": {byThree, "prime factor below 65,536"},
		"prime":          {number(t, prime2048), "itself a prime"},
		"close primes":   {new(big.Int).Mul(close1024, next), "close numbers"},
		"square":         {new(big.Int).Mul(close1024, close1024), "close numbers"},
		"ROCA":           {new(big.Int).Mul(rocaPrime(), rocaPrime()), "ROCA"},
		"pattern":        {patternModulus(), "pattern"},
	} {
		t.Run(name, func(t *testing.T) {
			if bits := test.n.BitLen(); bits != 2048 {
				t.Fatalf("the modulus has %d bits", bits)
			}
			key, err := ParseSPKI(rsaSPKI(test.n, publicE))
			wantRefusal(t, err, RuleWeak, test.words)
			if !key.IsZero() {
				t.Error("a key beside the error")
			}
		})
	}
}

// rocaPrime makes a prime of 1024 bits as the broken generator does: k·M +
// (65537^a mod M), where M is the product of the first 126 primes.
func rocaPrime() *big.Int {
	m := big.NewInt(1)
	for _, p := range smallPrimes()[:126] {
		m.Mul(m, big.NewInt(int64(p)))
	}
	top := new(big.Int).Lsh(big.NewInt(3), 1022) // so that two of them make 2048 bits
	for {
		power := new(big.Int).Exp(publicE, new(big.Int).SetUint64(rand.Uint64()), m)
		k := new(big.Int).Div(top, m)
		k.Add(k, new(big.Int).SetUint64(1+rand.Uint64N(1<<40)))
		if p := power.Add(power, k.Mul(k, m)); p.BitLen() == 1024 && p.ProbablyPrime(20) {
			return p
		}
	}
}

// patternModulus multiplies the first primes above C0 00 … and E0 00 ….
func patternModulus() *big.Int {
	n := big.NewInt(1)
	for _, top := range []int64{0xC0, 0xE0} {
		p := new(big.Int).Lsh(big.NewInt(top), 1016)
		for p.SetBit(p, 0, 1); !p.ProbablyPrime(20); {
			p.Add(p, big.NewInt(2))
		}
		n.Mul(n, p)
	}
	return n
}

func TestSmallFactorLimit(t *testing.T) {
	sound := number(t, prime2048)
	for factor, want := range map[int64]bool{3: true, 65521: true, 65537: false} { // the primes around 2^16
		if got := hasSmallFactor(new(big.Int).Mul(sound, big.NewInt(factor))); got != want {
			t.Errorf("factor %d found: %v", factor, got)
		}
	}
}

// TestFermatRounds builds a²-b² whose a is a given number of steps above the
// rounded-up square root, and looks where the search ends.
func TestFermatRounds(t *testing.T) {
	a := number(t, prime2048)
	for steps, want := range map[int64]bool{0: true, 1: true, 50: true, 99: true, 100: false, 5000: false} {
		// b² = 2a·steps + a puts the root halfway between two integers.
		b := new(big.Int).Mul(a, big.NewInt(2*steps+1))
		b.Sqrt(b)
		n := new(big.Int).Mul(new(big.Int).Sub(a, b), new(big.Int).Add(a, b))
		if got := hasCloseFactors(n); got != want {
			t.Errorf("%d steps from the root: found %v, want %v", steps, got, want)
		}
	}
}

func TestEqualBits(t *testing.T) {
	random := rsa4096().N
	for _, test := range []struct {
		bits uint
		want bool
	}{{0, false}, {100, false}, {127, false}, {128, true}, {129, true}, {1000, true}} {
		ones := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), test.bits), big.NewInt(1))
		for _, at := range []uint{0, 1, 1000, 4096 - 1001} {
			// Cleared stretches between set bits, and set stretches between cleared ones.
			zeros := new(big.Int).AndNot(random, new(big.Int).Lsh(ones, at))
			filled := new(big.Int).Or(random, new(big.Int).Lsh(ones, at))
			if at > 0 {
				zeros.SetBit(zeros, int(at)-1, 1)
				filled.SetBit(filled, int(at)-1, 0)
			}
			zeros.SetBit(zeros, int(at+test.bits), 1)
			filled.SetBit(filled, int(at+test.bits), 0)
			if hasEqualBits(zeros) != test.want || hasEqualBits(filled) != test.want {
				t.Errorf("%d equal bits at %d: zeros %v, ones %v, want %v", test.bits, at, hasEqualBits(zeros), hasEqualBits(filled), test.want)
			}
		}
	}
}

// TestROCAFalsePositives holds the fingerprint to what the paper says of it: it
// passes products of two powers of 65537 and, in practice, nothing else.
func TestROCAFalsePositives(t *testing.T) {
	for i := range 2000 {
		n := new(big.Int).SetUint64(rand.Uint64())
		n.Mul(n, rsa2048().N).SetBit(n, 0, 1)
		if isROCA(n) {
			t.Errorf("number %d, %x, has the fingerprint", i, n)
		}
	}
	for _, power := range []int64{0, 1, 2, 12345} {
		if n := new(big.Int).Exp(publicE, big.NewInt(power), nil); !isROCA(n) {
			t.Errorf("65537^%d has no fingerprint", power)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, key := range []Key{{rsa: &rsa2048().PublicKey}, {rsa: &rsa4096().PublicKey}, {ed: []byte(edPrivate[32:])}} {
		text := ""
		if key.ed != nil {
			text = b64(marshal(b, key.ed))
		} else {
			text = b64(marshal(b, key.rsa))
		}
		b.Run(key.Spec(), func(b *testing.B) {
			for b.Loop() {
				if _, err := Parse(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
