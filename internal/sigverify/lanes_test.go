package sigverify

import (
	"bytes"
	"crypto/rsa"
	"math/big"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// portable is the definition of a multiplier, for machines that have none and
// as the measure of the one that is there.
func portable(dst, a, b, n, t, inv *vector, digits int) {
	columns := func(v *vector) []vector { return rows(v, digits) }
	var products [8]*big.Int
	for at := range products {
		x, y, m := join(columns(a), at), join(columns(b), at), join(columns(n), at)
		x.Mul(x, y)
		// x + q·m is a multiple of R for q = -x/m mod R, digit by digit.
		for i := range digits {
			digit := new(big.Int).Rsh(x, uint(digitBits*i)).Uint64() & digitMask
			q := new(big.Int).SetUint64(digit * inv[at] & digitMask)
			x.Add(x, q.Mul(q, m).Lsh(q, uint(digitBits*i)))
		}
		products[at] = x.Rsh(x, uint(digitBits*digits))
	}
	for at, x := range products {
		put(columns(dst), at, x)
	}
}

// rows gives the digits that start at v.
func rows(v *vector, digits int) []vector { return unsafe.Slice(v, digits) }

func join(number []vector, at int) *big.Int {
	x := new(big.Int)
	for i := len(number) - 1; i >= 0; i-- {
		x.Lsh(x, digitBits).Or(x, new(big.Int).SetUint64(number[i][at]))
	}
	return x
}

func put(number []vector, at int, x *big.Int) {
	for i := range number {
		number[i][at] = new(big.Int).Rsh(x, uint(digitBits*i)).Uint64() & digitMask
	}
}

// hardest are moduli for which carries run far: all limbs full, all but the
// lowest empty, and primes next to those, of which anybody has the private key.
func hardest(bits int) (moduli []*big.Int) {
	one := big.NewInt(1)
	top := new(big.Int).Lsh(one, uint(bits))
	half := new(big.Int).Lsh(one, uint(bits-1))
	return append(moduli, new(big.Int).Sub(top, one), new(big.Int).Add(half, one), prime(bits, false), prime(bits, true))
}

// prime is the greatest prime of so many bits, or the least.
func prime(bits int, least bool) *big.Int {
	offset := map[int][2]int64{2048: {-1557, 1919}, 3072: {-47, 2291}, 4096: {-2549, 579}}[bits]
	p := new(big.Int).Lsh(big.NewInt(1), uint(bits))
	if !least {
		return p.Add(p, big.NewInt(offset[0]))
	}
	return p.Rsh(p, 1).Add(p, big.NewInt(offset[1]))
}

// The assembly multiplies as the definition does, digit for digit, also the
// operands that lie between n and 2n and those whose limbs are all full.
func TestMultiplier(t *testing.T) {
	if assembly() == nil {
		t.Log("NOT TESTED HERE: this machine has no AVX-512 IFMA, so the assembly never runs on it; the portable multiplier takes its place in every other test")
		return
	}
	random := rand.New(rand.NewPCG(1, 2))
	for bits, digits := range map[int]int{2048: 40, 3072: 60, 4096: 80} {
		size := digits + spare
		space := aligned(5*size + 2)
		number := func(i int) []vector { return space[i*size : (i+1)*size] }
		a, b, n, dst, tmp := number(0), number(1), number(2), number(3), number(4)
		inv, word := &space[5*size], new(big.Int).Lsh(big.NewInt(1), digitBits)
		moduli := hardest(bits)
		for round := range 40 {
			for at := range 8 {
				m := moduli[(round+at)%len(moduli)]
				if (round+at)%3 == 0 {
					m = randomBelow(random, new(big.Int).Lsh(big.NewInt(1), uint(bits)))
					m.SetBit(m, 0, 1).SetBit(m, bits-1, 1)
				}
				double := new(big.Int).Lsh(m, 1)
				operand := func() *big.Int {
					switch random.IntN(8) {
					case 0:
						return new(big.Int)
					case 1:
						return big.NewInt(1)
					case 2:
						return new(big.Int).Sub(m, big.NewInt(1))
					case 3:
						return new(big.Int).Set(m)
					case 4:
						return new(big.Int).Sub(double, big.NewInt(1))
					}
					return randomBelow(random, double)
				}
				put(a[:digits], at, operand())
				put(b[:digits], at, operand())
				put(n[:digits], at, m)
				inv[at] = new(big.Int).Sub(word, new(big.Int).ModInverse(m, word)).Uint64()
			}
			want := aligned(size)
			portable(&want[0], &a[0], &b[0], &n[0], nil, inv, digits)
			for i := range tmp {
				tmp[i] = vector{^uint64(0), 1, 2, 3, 4, 5, 6, ^uint64(0)} // whatever stood there
			}
			assembly()(&dst[0], &a[0], &b[0], &n[0], &tmp[0], inv, digits)
			for i := range digits {
				if dst[i] != want[i] {
					t.Fatalf("%d bits, round %d, digit %d: %x, want %x", bits, round, i, dst[i], want[i])
				}
			}
			for at := range 8 {
				if m := join(n[:digits], at); join(dst[:digits], at).Cmp(m.Lsh(m, 1)) >= 0 {
					t.Fatalf("%d bits, round %d, lane %d: the result is not below 2n", bits, round, at)
				}
			}
			// In place.
			assembly()(&a[0], &a[0], &a[0], &n[0], &tmp[0], inv, digits)
			for i := range spare {
				if a[digits+i] != (vector{}) || dst[digits+i] != (vector{}) {
					t.Fatal("a spare digit was written to")
				}
			}
		}
	}
}

func randomBelow(r *rand.Rand, most *big.Int) *big.Int {
	text := make([]byte, len(most.Bytes())+8)
	for i := range text {
		text[i] = byte(r.Uint32())
	}
	if r.IntN(4) == 0 { // runs of full limbs
		copy(text[r.IntN(len(text)):], bytes.Repeat([]byte{0xff}, 64))
	}
	x := new(big.Int).SetBytes(text)
	return x.Mod(x, most)
}

// What the lanes hold of a key is what the definition says.
func TestLane(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		for _, n := range hardest(bits) {
			l := newLane(&rsa.PublicKey{N: n, E: exponent})
			digits := len(l.n)
			if new(big.Int).Lsh(n, 2).BitLen() > digitBits*digits {
				t.Errorf("%d digits do not hold 4N", digits)
			}
			number := make([]vector, digits)
			for i := range number {
				number[i][0], number[i][1] = l.n[i], l.c[i]
			}
			r := new(big.Int).Lsh(big.NewInt(1), uint(digitBits*digits))
			if join(number, 0).Cmp(n) != 0 || join(number, 1).Cmp(r.Exp(r, big.NewInt(exponent), n)) != 0 {
				t.Errorf("%d bits: wrong digits", bits)
			}
			if (l.n[0]*l.inv+1)&digitMask != 0 {
				t.Errorf("%d bits: N·inv is not -1", bits)
			}
		}
	}
	for name, k := range map[string]*rsa.PublicKey{
		"exponent 3":   {N: prime(2048, true), E: 3},
		"exponent + 1": {N: prime(2048, true), E: exponent + 1},
		"even modulus": {N: new(big.Int).Lsh(big.NewInt(1), 2047), E: exponent},
		"2047 bits":    {N: prime(2048, true).Rsh(prime(2048, true), 1), E: exponent},
		"1024 bits":    {N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 1024), big.NewInt(1)), E: exponent},
		"8192 bits":    {N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 8192), big.NewInt(1)), E: exponent},
	} {
		if newLane(k) != nil || newModulus(k) != nil {
			t.Errorf("%s: a fast path takes the key", name)
		}
	}
}
