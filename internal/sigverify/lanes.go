package sigverify

import (
	"crypto/rsa"
	"encoding/binary"
	"math/big"
	"unsafe"
)

// vector is one digit of eight numbers.
type vector [8]uint64

const (
	digitBits = 52
	digitMask = 1<<digitBits - 1
	// spare digits, all zero, follow each number.
	spare = 4
	// fewest signatures repay a run of all eight lanes.
	fewest = 2
)

// multiplier sets dst = a·b/R mod n in each of eight lanes, not fully reduced:
// for a, b < 2n the result is below 2n. The numbers have digits digits and the
// spare ones; t is space for as many; inv is -1/n mod 2^52. dst may be a and b.
type multiplier func(dst, a, b, n, t, inv *vector, digits int)

// lane is what the lanes know of a key: N, -1/N mod 2^52 and R^65537 mod N,
// where R = 2^(52·digits).
type lane struct {
	modulus []byte
	n, c    []uint64 // by digit
	inv     uint64
}

// newLane gives nil for a key that the lanes do not take.
func newLane(public *rsa.PublicKey) *lane {
	count := digitsOf(public)
	if count == 0 {
		return nil
	}
	l := &lane{modulus: public.N.FillBytes(make([]byte, public.Size())), n: make([]uint64, count), c: make([]uint64, count)}
	r := new(big.Int).Lsh(big.NewInt(1), uint(digitBits*count))
	r.Exp(r, big.NewInt(exponent), public.N)
	split(l.n, l.modulus)
	split(l.c, r.FillBytes(make([]byte, public.Size())))
	word := new(big.Int).Lsh(big.NewInt(1), digitBits)
	inverse := new(big.Int).ModInverse(public.N, word) // N is odd
	l.inv = word.Sub(word, inverse).Uint64()
	return l
}

// pad is room for a number of up to 80 digits, big-endian, zeros in front.
type pad [8 + 80/2*13]byte

// pair gives the digits 2i and 2i+1 of a number, which are 13 bytes; it needs
// eight bytes more in front.
func pair(number []byte, i int) (low, high uint64) {
	end := len(number) - 13*i
	return binary.BigEndian.Uint64(number[end-8:]) & digitMask, binary.BigEndian.Uint64(number[end-14:]) >> 4 & digitMask
}

// split writes the digits of a big-endian number.
func split(digits []uint64, number []byte) {
	var p pad
	copy(p[len(p)-len(number):], number)
	for i := range len(digits) / 2 {
		digits[2*i], digits[2*i+1] = pair(p[:], i)
	}
}

// lanes is the engine of the Lanes path for keys of one length: eight
// signatures side by side, each lane with its own key. The signature s goes in
// as it is, without being brought into Montgomery's domain: 16 squarings and a
// multiplication give s^65537/R^65536, and one by R^65537 takes R out again.
// The result is below 2N and equal to s^65537 mod N; only the encoded message
// itself is accepted, not that plus N.
type lanes struct {
	digits        int
	multiply      multiplier
	s, x, c, n, t []vector
	inv           *vector
	holds         [8]*Key  // whose n, c and inv stand in a lane
	template      []uint64 // digits of the encoded message of the digest 0
	pad           pad      // its front stays zero: signatures here have one length
	waiting       [8]*Check
}

func newLanes(digits int, multiply multiplier) *lanes {
	size := digits + spare
	space := aligned(5*size + 1)
	l := &lanes{digits: digits, multiply: multiply, template: make([]uint64, digits)}
	for i, v := range []*[]vector{&l.s, &l.x, &l.c, &l.n, &l.t} {
		*v = space[i*size : (i+1)*size]
	}
	l.inv = &space[5*size]
	em := make([]byte, map[int]int{40: 256, 60: 384, 80: 512}[digits])
	encode(em, new([32]byte))
	split(l.template, em)
	return l
}

// aligned gives n vectors that start at a multiple of their size: one that
// crosses a cache line costs two accesses.
func aligned(n int) []vector {
	space := make([]vector, n+1)
	words := unsafe.Slice(&space[0][0], (n+1)*len(vector{}))
	skip := -uintptr(unsafe.Pointer(&words[0])) % unsafe.Sizeof(vector{}) / unsafe.Sizeof(words[0])
	return unsafe.Slice((*vector)(unsafe.Pointer(&words[skip])), n)
}

func (l *lanes) accept(checks []Check) {
	n := 0
	for i := range checks {
		c := &checks[i]
		if c.Valid || c.Key == nil || c.Key.rsa == nil {
			continue
		}
		key := c.Key.lane()
		if key == nil || len(key.n) != l.digits || !below(c.Signature, key.modulus) {
			continue
		}
		l.load(n, c, key)
		if n++; n == len(l.waiting) {
			l.run(n)
			n = 0
		}
	}
	if n >= fewest {
		l.run(n)
	}
	clear(l.waiting[:])
}

// load puts a check into a lane.
func (l *lanes) load(at int, c *Check, key *lane) {
	l.waiting[at] = c
	copy(l.pad[len(l.pad)-len(c.Signature):], c.Signature)
	for i := range l.digits / 2 {
		low, high := pair(l.pad[:], i)
		l.s[2*i][at], l.s[2*i+1][at] = low, high
	}
	if l.holds[at] == c.Key {
		return
	}
	l.holds[at] = c.Key
	l.inv[at] = key.inv
	for i := range key.n {
		l.n[i][at], l.c[i][at] = key.n[i], key.c[i]
	}
}

// run decides about the checks in the first count lanes; what stands in the
// others from before is computed with them and not looked at.
func (l *lanes) run(count int) {
	s, x, c, n, t := &l.s[0], &l.x[0], &l.c[0], &l.n[0], &l.t[0]
	l.multiply(x, s, s, n, t, l.inv, l.digits)
	for range 15 {
		l.multiply(x, x, x, n, t, l.inv, l.digits)
	}
	l.multiply(x, x, s, n, t, l.inv, l.digits)
	l.multiply(x, x, c, n, t, l.inv, l.digits)
	for at := range count {
		l.waiting[at].Valid = l.isMessage(at, &l.waiting[at].Digest)
	}
}

// isMessage compares a lane's result with the encoded message of digest, which
// differs from the template in the five lowest digits only.
func (l *lanes) isMessage(at int, digest *[32]byte) bool {
	var low [8 + 3*13]byte
	copy(low[len(low)-len(digest):], digest[:])
	difference := uint64(0)
	for i := 0; i < 6; i += 2 {
		even, odd := pair(low[:], i/2)
		difference |= l.x[i][at] ^ (l.template[i] | even)
		difference |= l.x[i+1][at] ^ (l.template[i+1] | odd)
	}
	for i := 6; i < l.digits; i++ {
		difference |= l.x[i][at] ^ l.template[i]
	}
	return difference == 0
}
