package edpoint

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"testing"

	"filippo.io/edwards25519"
)

// torsion returns the eight points of small order: the multiples of a point of
// order 8, which is [L]P for almost any P.
func torsion(t *testing.T) []*edwards25519.Point {
	t.Helper()
	identity := edwards25519.NewIdentityPoint()
	for y := byte(2); y < 50; y++ {
		encoded := make([]byte, 32)
		encoded[0] = y
		p, err := new(edwards25519.Point).SetBytes(encoded)
		if err != nil {
			continue
		}
		generator := new(edwards25519.Point).ScalarMult(minusOne, p)
		generator.Add(generator, p)
		points := []*edwards25519.Point{identity}
		for next := generator; next.Equal(identity) != 1; {
			points = append(points, next)
			next = new(edwards25519.Point).Add(next, generator)
		}
		if len(points) == 8 {
			return points
		}
	}
	t.Fatal("no point of order 8 found")
	return nil
}

func TestCheckRefusesTorsion(t *testing.T) {
	base := edwards25519.NewGeneratorPoint()
	for i, small := range torsion(t) {
		if err := Check(small.Bytes()); !errors.Is(err, ErrSmallOrder) {
			t.Errorf("torsion point %d: %v, want ErrSmallOrder", i, err)
		}
		sum := new(edwards25519.Point).Add(base, small)
		want := ErrMixedOrder
		if i == 0 {
			want = nil // base plus the identity
		}
		if err := Check(sum.Bytes()); !errors.Is(err, want) {
			t.Errorf("base point plus torsion point %d: %v, want %v", i, err, want)
		}
	}
}

// TestCheckRefusesSecondEncodings goes through all encodings of a y that is not
// below p, and through those of x = 0 with the sign bit set.
func TestCheckRefusesSecondEncodings(t *testing.T) {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	encode := func(y *big.Int, sign byte) []byte {
		b := y.FillBytes(make([]byte, 32))
		slices.Reverse(b)
		b[31] |= sign
		return b
	}
	points := 0
	for k := range int64(19) {
		for _, sign := range []byte{0, 0x80} {
			err := Check(encode(new(big.Int).Add(p, big.NewInt(k)), sign))
			switch {
			case errors.Is(err, ErrNotCanonical):
				points++
			case !errors.Is(err, ErrNotOnCurve):
				t.Errorf("y = p + %d, sign %#x: %v", k, sign, err)
			}
		}
	}
	// A decoder without the range check finds 24 points among the 38.
	if points != 24 {
		t.Errorf("%d of the encodings with y >= p are points, want 24", points)
	}
	for _, y := range []*big.Int{big.NewInt(1), new(big.Int).Sub(p, big.NewInt(1))} {
		if err := Check(encode(y, 0x80)); !errors.Is(err, ErrNotCanonical) {
			t.Errorf("x = 0 with sign bit, y = %v: %v", y, err)
		}
	}
}

func TestCheckRefusesOtherBytes(t *testing.T) {
	for _, n := range []int{0, 31, 33, 64} {
		if err := Check(make([]byte, n)); !errors.Is(err, ErrLength) {
			t.Errorf("%d bytes: %v, want ErrLength", n, err)
		}
	}
	two := make([]byte, 32)
	two[0] = 2
	if err := Check(two); !errors.Is(err, ErrNotOnCurve) {
		t.Errorf("y = 2: %v, want ErrNotOnCurve", err)
	}
}

func TestCheckAcceptsKeys(t *testing.T) {
	// RFC 8032 section 7.1, TEST 1 to 3, and section 5.1, the base point.
	for _, key := range []string{
		"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
		"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
		"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
		"5866666666666666666666666666666666666666666666666666666666666666",
	} {
		point, err := hex.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(point); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	for i := range 32 {
		seed := make([]byte, ed25519.SeedSize)
		seed[0] = byte(i)
		public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		if err := Check(public); err != nil {
			t.Errorf("key of seed %d: %v", i, err)
		}
	}
}

// FuzzCheck holds Check to a second definition: the points it accepts are exactly
// those of the form [8]([1/8 mod L]A), encoded canonically, without the identity.
func FuzzCheck(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Add(edwards25519.NewGeneratorPoint().Bytes())
	eight := make([]byte, 32)
	eight[0] = 8
	inverse, err := edwards25519.NewScalar().SetCanonicalBytes(eight)
	if err != nil {
		f.Fatal(err)
	}
	inverse.Invert(inverse)
	f.Fuzz(func(t *testing.T, point []byte) {
		want := false
		if a, err := new(edwards25519.Point).SetBytes(point); err == nil {
			again := new(edwards25519.Point).ScalarMult(inverse, a)
			again.MultByCofactor(again)
			want = string(again.Bytes()) == string(point) && again.Equal(edwards25519.NewIdentityPoint()) == 0
		}
		if err := Check(point); (err == nil) != want {
			t.Errorf("Check(%x) = %v, want acceptance %v", point, err, want)
		}
	})
}
