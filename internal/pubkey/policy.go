package pubkey

import (
	"fmt"
	"math/big"
	"sync"
)

// exponent is the one public exponent of every RSA key that AWS KMS makes.
const exponent = 65537

const (
	smallPrimeLimit = 1 << 16 // factors below it are looked for
	fermatRounds    = 100     // how far from the square root of n the factors are looked for
	rocaPrimeLimit  = 167     // the largest prime of the smallest ROCA primorial
	equalBitsLimit  = 128     // no random modulus holds that many equal bits in a row
)

// checkRSASize is the part of the RSA policy that costs nothing. It comes before
// every computation with the numbers.
func checkRSASize(n, e *big.Int) error {
	switch bits := n.BitLen(); {
	case n.Sign() <= 0:
		return refuse(RuleMalformed, "the RSA modulus is not a positive number: export the key again")
	case bits < 2048:
		return refuse(RuleWeak, fmt.Sprintf("the RSA modulus has %d bits: use a key of 2048, 3072 or 4096 bits", bits))
	case bits != 2048 && bits != 3072 && bits != 4096:
		return refuse(RuleUnsupported, fmt.Sprintf("the RSA modulus has %d bits: use a key of 2048, 3072 or 4096 bits", bits))
	case !e.IsInt64() || e.Int64() != exponent:
		return refuse(RuleWeak, "the RSA public exponent is not 65537, the one that AWS KMS and every current tool uses: make a new key")
	}
	return nil
}

// checkModulus refuses a modulus of allowed size whose factors anyone can find.
// What it cannot see is named in the package's tests: keys of a weak random
// generator need a list of them, and two moduli with a common prime need
// SharedPrimes.
func checkModulus(n *big.Int) error {
	weak := ""
	switch {
	case n.Bit(0) == 0:
		weak = "is even"
	case hasEqualBits(n):
		weak = "is made of primes that follow a pattern instead of chance"
	case hasSmallFactor(n):
		weak = "has a prime factor below 65,536"
	// A prime passes every primality test, so one strong and one Lucas test
	// suffice to recognise it; more rounds would only make sure of composites.
	case n.ProbablyPrime(0):
		weak = "is itself a prime number"
	case hasCloseFactors(n):
		weak = "is the product of two close numbers (Fermat factorisation)"
	case isROCA(n):
		weak = "has the fingerprint of a broken key generator (ROCA, CVE-2017-15361)"
	default:
		return nil
	}
	return refuse(RuleWeak, "the RSA modulus "+weak+", so the private key can be computed: make a new key, and treat every signature of this one as forgeable")
}

// smallPrimes returns the primes below smallPrimeLimit in ascending order.
var smallPrimes = sync.OnceValue(func() []int {
	composite := make([]bool, smallPrimeLimit)
	var primes []int
	for p := 2; p < smallPrimeLimit; p++ {
		if composite[p] {
			continue
		}
		primes = append(primes, p)
		for m := p * p; m < smallPrimeLimit; m += p {
			composite[m] = true
		}
	}
	return primes
})

// smallPrimeProduct returns the product of the primes below smallPrimeLimit, a
// number of some 94,000 bits.
var smallPrimeProduct = sync.OnceValue(func() *big.Int { return product(smallPrimes()) })

// product multiplies factors below 2^16 in halves of equal length, which costs
// far less than one after the other: every run that meets an RSA key waits for
// it.
func product(factors []int) *big.Int {
	if len(factors) <= 4 {
		word := uint64(1)
		for _, f := range factors {
			word *= uint64(f)
		}
		return new(big.Int).SetUint64(word)
	}
	half := len(factors) / 2
	left := product(factors[:half])
	return left.Mul(left, product(factors[half:]))
}

// hasEqualBits tells whether n holds equalBitsLimit zeros or ones in a row, as the
// product of primes searched from a patterned start does. In a random modulus of
// 4096 bits that has a probability below 2^-115.
func hasEqualBits(n *big.Int) bool {
	run := 1
	for i := 1; i < n.BitLen(); i++ {
		if n.Bit(i) != n.Bit(i-1) {
			run = 0
		}
		if run++; run == equalBitsLimit {
			return true
		}
	}
	return false
}

func hasSmallFactor(n *big.Int) bool { return shareFactor(n, smallPrimeProduct()) }

// hasCloseFactors tells whether n = a²-b² with a among the first fermatRounds
// integers from the square root of n upwards: Fermat's factorisation, which
// breaks keys whose generator picks the second prime next to the first
// (CVE-2022-26320). It catches n = p² too.
func hasCloseFactors(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	square := new(big.Int).Mul(a, a)
	if square.Cmp(n) < 0 {
		a.Add(a, big.NewInt(1))
		square.Mul(a, a)
	}
	difference, root := square.Sub(square, n), new(big.Int)
	for range fermatRounds {
		root.Sqrt(difference)
		if root.Mul(root, root).Cmp(difference) == 0 {
			return true
		}
		// (a+1)² - n = (a² - n) + 2a + 1
		difference.Add(difference, root.Lsh(a, 1))
		difference.Add(difference, big.NewInt(1))
		a.Add(a, big.NewInt(1))
	}
	return false
}

// isROCA tells whether n carries the fingerprint of the Infineon key generator
// (Nemec, Sys, Svenda, Klinec, Matyas: The Return of Coppersmith's Attack, CCS
// 2017, section 3.1). Its primes have the form k·M + (65537^a mod M), where M is
// the product of the first primes, at least up to 167; so modulo each of these
// primes n is a power of 65537. A modulus of another source passes all of these
// tests with a probability of about 2^-28.
func isROCA(n *big.Int) bool {
	for _, p := range smallPrimes()[1:] {
		if p > rocaPrimeLimit {
			break
		}
		residue := int(new(big.Int).Mod(n, big.NewInt(int64(p))).Int64())
		if !isPowerOf(exponent%p, residue, p) {
			return false
		}
	}
	return true
}

// isPowerOf tells whether residue is a power of base modulo the prime p.
func isPowerOf(base, residue, p int) bool {
	for power := base; ; power = power * base % p {
		if power == residue {
			return true
		}
		if power == 1 {
			return false
		}
	}
}
