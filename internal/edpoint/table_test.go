package edpoint

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"math/rand/v2"
	"testing"

	"filippo.io/edwards25519"
)

func seeded(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
}

func tableFor(t testing.TB, k ed25519.PrivateKey) *Table {
	t.Helper()
	table, err := NewTable(k.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// A sum over the tables is what the library's scalar multiplication gives.
func TestTableMultiplies(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	table := tableFor(t, seeded(7))
	a, err := new(edwards25519.Point).SetBytes(table.encoded[:])
	if err != nil {
		t.Fatal(err)
	}
	a.Negate(a)
	scalars := []*edwards25519.Scalar{edwards25519.NewScalar(), minusOne}
	for _, digit := range []byte{1, 127, 128, 129, 255} { // where a signed digit carries
		for at := range 31 {
			s, err := edwards25519.NewScalar().SetCanonicalBytes(append(append(make([]byte, at), digit), make([]byte, 31-at)...))
			if err != nil {
				t.Fatal(err)
			}
			scalars = append(scalars, s)
		}
	}
	for range 50 {
		var wide [64]byte
		random.Read(wide[:])
		s, _ := edwards25519.NewScalar().SetUniformBytes(wide[:])
		scalars = append(scalars, s)
	}
	for i, s := range scalars {
		k := scalars[(i*31+5)%len(scalars)]
		want := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(k, a, s)
		var sum extended
		sum.y.One()
		sum.z.One()
		sum.addMultiple(base(), s.Bytes())
		sum.addMultiple(table, k.Bytes())
		got, err := new(edwards25519.Point).SetExtendedCoordinates(&sum.x, &sum.y, &sum.z, &sum.t)
		if err != nil || got.Equal(want) != 1 {
			t.Fatalf("%x and %x: %v", s.Bytes(), k.Bytes(), err)
		}
	}
}

// signatures are good and bad ones by two keys, mixed.
func signatures(t testing.TB, random *rand.ChaCha8, n int) (keys []ed25519.PrivateKey, messages, signed [][]byte) {
	t.Helper()
	both := []ed25519.PrivateKey{seeded(1), seeded(2)}
	for i := range n {
		k := both[random.Uint64()%2]
		message := make([]byte, 32)
		random.Read(message)
		signature := ed25519.Sign(k, message)
		switch random.Uint64() % 8 {
		case 0:
			signature[random.Uint64()%64] ^= 1 << (random.Uint64() % 8)
		case 1:
			message[random.Uint64()%32] ^= 1
		case 2:
			k = both[random.Uint64()%2]
		case 3: // S + L
			carry := 0
			for j, b := range order {
				sum := int(signature[32+j]) + int(b) + carry
				signature[32+j], carry = byte(sum), sum>>8
			}
		case 4:
			copy(signature[32:], order[:]) // S = L
		case 5: // R of small order, S = 0
			clear(signature)
			signature[0] = byte(i % 2)
		}
		keys, messages, signed = append(keys, k), append(messages, message), append(signed, signature)
	}
	return keys, messages, signed
}

// order is L, little-endian.
var order = func() (l [32]byte) {
	copy(l[:], minusOne.Bytes())
	l[0]++ // L-1 ends with an even byte
	return l
}()

func TestBatchIsTheLibrary(t *testing.T) {
	tables := map[string]*Table{}
	for _, k := range []ed25519.PrivateKey{seeded(1), seeded(2)} {
		tables[string(k)] = tableFor(t, k)
	}
	var b Batch
	accepted, refused := 0, 0
	random := rand.NewChaCha8([32]byte{2})
	for _, n := range []int{0, 1, 2, 63, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64} {
		keys, messages, signed := signatures(t, random, n)
		var taken []int
		for i := range keys {
			if b.Add(tables[string(keys[i])], messages[i], signed[i]) {
				taken = append(taken, i)
			} else if ed25519.Verify(keys[i].Public().(ed25519.PublicKey), messages[i], signed[i]) {
				t.Fatalf("a valid signature was not taken up: %x", signed[i])
			}
		}
		if n == BatchSize && len(taken) == n && !b.Full() {
			t.Error("the batch is not full")
		}
		valid := b.Check()
		if len(valid) != len(taken) {
			t.Fatalf("%d answers for %d signatures", len(valid), len(taken))
		}
		for j, i := range taken {
			want := ed25519.Verify(keys[i].Public().(ed25519.PublicKey), messages[i], signed[i])
			if valid[j] != want {
				t.Errorf("%x over %x: %v, the library says %v", signed[i], messages[i], valid[j], want)
			}
			if want {
				accepted++
			} else {
				refused++
			}
		}
	}
	if accepted < 200 || refused < 200 {
		t.Errorf("%d accepted, %d refused: one side was hardly tried", accepted, refused)
	}
}

func TestBatchBounds(t *testing.T) {
	k := seeded(3)
	table := tableFor(t, k)
	good := ed25519.Sign(k, []byte("m"))
	var b Batch
	for _, bad := range [][]byte{nil, good[:63], append(bytes.Clone(good), 0)} {
		if b.Add(table, []byte("m"), bad) {
			t.Errorf("%d bytes were taken up", len(bad))
		}
	}
	for range BatchSize {
		if !b.Add(table, []byte("m"), good) {
			t.Fatal("not taken up")
		}
	}
	if !b.Full() || b.Add(table, []byte("m"), good) {
		t.Error("more was taken up than there is space for")
	}
	if n := len(b.Check()); n != BatchSize || b.Full() || len(b.Check()) != 0 {
		t.Errorf("%d answers", n)
	}
	for _, bad := range [][]byte{nil, make([]byte, 31), append([]byte{1}, make([]byte, 31)...), bytes.Repeat([]byte{0xff}, 32)} {
		if _, err := NewTable(bad); err == nil {
			t.Errorf("there is a table of %x", bad)
		}
	}
}

// FuzzBatch holds the batch's verdict against the library's, and the hash and
// the scalar with it.
func FuzzBatch(f *testing.F) {
	k := seeded(4)
	table := tableFor(f, k)
	good := ed25519.Sign(k, []byte("message"))
	f.Add([]byte("message"), good)
	f.Add([]byte("massage"), good)
	f.Add([]byte{}, make([]byte, 64))
	f.Add([]byte("message"), append(bytes.Clone(good[:32]), order[:]...))
	f.Fuzz(func(t *testing.T, message, signature []byte) {
		var b Batch
		got := b.Add(table, message, signature) && b.Check()[0]
		want := len(signature) == 64 && ed25519.Verify(k.Public().(ed25519.PublicKey), message, signature)
		if got != want {
			t.Errorf("%x over %x: %v", signature, message, got)
		}
		// A signature that fits, whatever the message.
		signed := ed25519.Sign(k, message)
		if !b.Add(table, message, signed) || !b.Check()[0] {
			t.Errorf("the signature over %x is refused", message)
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	k := seeded(5)
	table := tableFor(b, k)
	digest := sha512.Sum512([]byte("m"))
	message := digest[:32]
	signature := ed25519.Sign(k, message)
	b.Run("tables", func(b *testing.B) {
		var batch Batch
		for b.Loop() {
			if batch.Full() {
				batch.Check()
			}
			batch.Add(table, message, signature)
		}
	})
	b.Run("library", func(b *testing.B) {
		for b.Loop() {
			ed25519.Verify(k.Public().(ed25519.PublicKey), message, signature)
		}
	})
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			NewTable(k.Public().(ed25519.PublicKey))
		}
	})
}
